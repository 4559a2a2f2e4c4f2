"""Stacks of runs that are trained to be compared: one run a seed, measured when it is finished.

A stack has a folder of its own. Its result is written beside its runs, and a stack that has one is
not trained again; one that was stopped half-way goes on from its checkpoints.
"""

from __future__ import annotations

import hashlib
import json
import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from crystalgan.errors import InputError, TrainingError
from crystalgan.jobs import Pool, at_least_one
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


@dataclass(frozen=True)
class Stack:
    """Runs to train together, one a seed, and how each is measured.

    `measure` is a function of a module, since it is sent to another process. `step1` is the folder
    of a finished stack with these seeds, whose step 1 is taken over.
    """

    folder: Path
    a: BinaryClass
    b: BinaryClass
    config: Config
    seeds: tuple[int, ...]
    measure: Callable[[Run], Values]
    step1: Path | None = None


def load_pair(
    pair: str, a: Path | None = None, b: Path | None = None, shared: str = "H"
) -> tuple[BinaryClass, BinaryClass]:
    """Both classes of a pair named like "Pd-Ni": the built-in ones, or those in one's own files.

    Raises InputError for a name that is no pair of two different metals.

    >>> [cells.metal for cells in load_pair("Pd-Ni")]
    ['Pd', 'Ni']
    """
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
    """The first `count` seeds.

    >>> seeds_of(3)
    (0, 1, 2)
    """
    at_least_one(count, "seeds")
    return tuple(range(count))


def check_minutes(minutes: float) -> None:
    """Raise InputError for a time that is none, or that never ends."""
    if not 0 < minutes < math.inf:
        raise InputError(
            f"{minutes:g} minutes were asked for; ask for more than none, and for an end."
        )


def study_folder(
    root: Path, a: BinaryClass, b: BinaryClass, config: Config, what: dict[str, Any]
) -> Path:
    """The folder below `root` of a study of these cells with these settings.

    Other cells or settings have other folders, the same ones are found again. `what` holds the
    settings of the study itself.
    """
    settings = [asdict(config), what, a.provenance().sha256, b.provenance().sha256]
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:10]
    return root / f"{a.metal}-{b.metal}-{config.shared}_{digest}"


def stack_pool(processes: int) -> AbstractContextManager[Pool | None]:
    """The processes that `measure_stacks` uses; none where one is asked for, which this one is."""
    at_least_one(processes, "processes")
    return nullcontext() if processes == 1 else Pool(processes)


def measure_stacks(
    stacks: Sequence[Stack], pool: Pool | None = None
) -> Iterator[tuple[Stack, list[Values] | TrainingError]]:
    """Train and measure stacks; yield each as soon as it is done, with its values or why it failed.

    The values of a stack are those of its runs, in the order of its seeds.
    """
    left = [stack for stack in stacks if not (stack.folder / RESULT).exists()]
    if pool is None or len(left) < 2:
        for stack in stacks:
            yield stack, _measured(stack)
        return
    pending = {pool.submit(_measured, stack): stack for stack in stacks}
    for future, values in pool.completed(pending):
        yield pending[future], values


def _measured(stack: Stack) -> list[Values] | TrainingError:
    """What `measure_stack` returns, or why the training could not go on."""
    try:
        return measure_stack(stack)
    except TrainingError as error:
        return error


def measure_stack(stack: Stack) -> list[Values]:
    """Train the runs of a stack and measure each, or read what was measured before."""
    path = stack.folder / RESULT
    if path.exists():
        found: list[Values] = read_json(path)["runs"]
        return found
    values = [stack.measure(run) for run in train_stack(stack)]
    write_json(path, {"seeds": list(stack.seeds), "runs": values})
    return values


def train_one(folder: Path, a: BinaryClass, b: BinaryClass, config: Config) -> Run:
    """The finished run of these settings in this folder; trained, unless it is there already."""
    (run,) = train_stack(Stack(folder, a, b, config, (config.seed,), lambda _: {}))
    return run


def train_stack(stack: Stack) -> list[Run]:
    """The finished runs of a stack, one for each seed."""
    from crystalgan.runs.training import new_run, new_step2, resume_stack

    there = _by_seed(stack.folder)
    sources = _by_seed(stack.step1) if stack.step1 else {}
    runs = []
    for seed in stack.seeds:
        config = replace(stack.config, seed=seed)
        if seed in there:
            runs.append(there[seed])
        elif seed in sources:
            runs.append(new_step2(sources[seed], config, stack.folder))
        else:
            runs.append(new_run(stack.a, stack.b, config, stack.folder))
    try:
        resume_stack(runs)
    except TrainingError as error:
        raise TrainingError(f"{stack.folder}: {error}") from None
    return runs


def _by_seed(folder: Path) -> dict[int, Run]:
    """The runs of a folder by their seed.

    Raises InputError where one is damaged, for a new one would hide it.
    """
    found = find_runs(folder)
    for broken in found.broken:
        raise InputError(broken.sentence)
    return {run.config.seed: run for run in found.runs}


def mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation; one value has no spread.

    >>> mean_and_spread([4, 6, 8])
    (6.0, 2.0)
    """
    import statistics

    return statistics.fmean(values), float(statistics.stdev(values)) if len(values) > 1 else 0.0
