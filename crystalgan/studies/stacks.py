"""Stacks of runs that are trained to be compared: one run a seed, in processes of their own, and
what each was measured to be.

A job is one such stack in a folder of its own. Its result is written beside its runs, and a job
that has one is not done again; one that was stopped half-way goes on from its checkpoints.
"""

from __future__ import annotations

import hashlib
import json
import math
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from crystalgan.errors import InputError, TrainingError
from crystalgan.jobs import at_least_one, end_children, one_thread, spawning
from crystalgan.runs.listing import find_runs
from crystalgan.storage import read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from crystalgan.config import Config
    from crystalgan.data.classes import BinaryClass
    from crystalgan.runs.folder import Run

    Values = dict[str, float]

RESULT = "result.json"
ENDED = (
    "A process that trained was ended from outside, perhaps for lack of memory; the same again goes"
    " on from what is done."
)


@dataclass(frozen=True)
class Job:
    """A stack of runs to train and to measure. `measure` is a function of a module, since it is
    sent to another process."""

    folder: Path
    a: BinaryClass
    b: BinaryClass
    config: Config
    seeds: tuple[int, ...]
    measure: Callable[[Run], Values]
    # folder of a finished stack with these seeds, whose step 1 is the same
    step1: Path | None = None


def load_pair(
    pair: str, a: Path | None = None, b: Path | None = None, shared: str = "H"
) -> tuple[BinaryClass, BinaryClass]:
    """Both classes of a pair named like "Pd-Ni": the built-in ones, or those in one's own files."""
    from crystalgan.data.classes import load_class

    metals = pair.split("-")
    if len(metals) != 2 or not all(metals):
        raise InputError(f"{pair!r} is no pair of metals; write it as Pd-Ni.")
    if metals[0] == metals[1]:
        raise InputError(
            f"{pair}: both classes are of {metals[0]}; a ternary needs two different metals."
        )
    return (
        load_class(a or metals[0], metals[0], shared),
        load_class(b or metals[1], metals[1], shared),
    )


def seeds_of(count: int) -> tuple[int, ...]:
    """The first `count` seeds."""
    at_least_one(count, "seeds")
    return tuple(range(count))


def check_minutes(minutes: float) -> None:
    """InputError for a time that is none, or that never ends."""
    if not 0 < minutes < math.inf:
        raise InputError(
            f"{minutes:g} minutes were asked for; ask for more than none, and for an end."
        )


def study_folder(
    root: Path, a: BinaryClass, b: BinaryClass, config: Config, what: dict[str, Any]
) -> Path:
    """The folder below `root` of a study of these cells with these settings: others go elsewhere,
    the same are found again."""
    settings = [asdict(config), what, a.provenance().sha256, b.provenance().sha256]
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:10]
    return root / f"{a.metal}-{b.metal}-{config.shared}_{digest}"


def carry_out(
    jobs: Sequence[Job], processes: int = 1
) -> Iterator[tuple[Job, list[Values] | TrainingError]]:
    """Each job with what its runs were measured to be, in the order of its seeds, or why it failed;
    as soon as it is done."""
    at_least_one(processes, "processes")
    left = [job for job in jobs if not (job.folder / RESULT).exists()]
    if processes == 1 or len(left) < 2:
        for job in jobs:
            yield job, _outcome(partial(perform, job))
        return
    with ProcessPoolExecutor(processes, spawning(), one_thread) as pool:
        pending = {pool.submit(perform, job): job for job in jobs}
        try:
            for future in as_completed(pending):
                yield pending[future], _outcome(future.result)
        except BaseException:
            # Interrupted: the pool would wait for what is under way, which goes on from its
            # checkpoint later.
            pool.shutdown(wait=False, cancel_futures=True)
            end_children()
            raise


def _outcome(get: Callable[[], list[Values]]) -> list[Values] | TrainingError:
    try:
        return get()
    except TrainingError as error:
        return error
    except BrokenProcessPool:
        raise TrainingError(ENDED) from None


def perform(job: Job) -> list[Values]:
    """Train the runs of a job and measure each, or read what was found before."""
    path = job.folder / RESULT
    if path.exists():
        found: list[Values] = read_json(path)["runs"]
        return found
    values = [job.measure(run) for run in trained(job)]
    write_json(path, {"seeds": list(job.seeds), "runs": values})
    return values


def trained(job: Job) -> list[Run]:
    """The finished runs of a job, one for each seed."""
    from crystalgan.runs.training import new_run, new_step2, resume_stack

    there = _by_seed(job.folder)
    sources = _by_seed(job.step1) if job.step1 else {}
    runs = []
    for seed in job.seeds:
        config = replace(job.config, seed=seed)
        if seed in there:
            runs.append(there[seed])
        elif seed in sources:
            runs.append(new_step2(sources[seed], config, job.folder))
        else:
            runs.append(new_run(job.a, job.b, config, job.folder))
    try:
        resume_stack(runs)
    except TrainingError as error:
        raise TrainingError(f"{job.folder}: {error}") from None
    return runs


def _by_seed(folder: Path) -> dict[int, Run]:
    """The runs of a folder by their seed; InputError where one is damaged, for a new one would hide
    it."""
    found = find_runs(folder)
    for broken in found.broken:
        raise InputError(broken.sentence)
    return {run.config.seed: run for run in found.runs}


def mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation; one value has no spread."""
    import statistics

    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0
