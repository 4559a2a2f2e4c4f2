"""`discover`: a search for ternary phases of two metals in a run folder, under a CPU budget."""

from __future__ import annotations

import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crystalgan.config import Config
from crystalgan.data.known import known_structures
from crystalgan.data.prototypes import compounds_of
from crystalgan.discovery.checkpoint import FILE, packed, restore
from crystalgan.discovery.compositions import one_composition, small_compositions
from crystalgan.discovery.evaluation import Evaluation
from crystalgan.discovery.hosts import HostSource
from crystalgan.discovery.learned import LearnedSource
from crystalgan.discovery.mutation import MutationSource
from crystalgan.discovery.phases import Phases, phases_of_run
from crystalgan.discovery.record import BEGIN_AFRESH, Record, Step, Wanted, is_search, read_record
from crystalgan.discovery.rows import Writer
from crystalgan.discovery.search import Search
from crystalgan.discovery.sources import Learner, RandomSource
from crystalgan.discovery.system import System
from crystalgan.discovery.transfers import TransferSource
from crystalgan.errors import InputError
from crystalgan.jobs import Pool, at_least_one
from crystalgan.runs.listing import list_runs
from crystalgan.runs.schema import OF_DAMAGE, reason
from crystalgan.runs.training import new_run
from crystalgan.stability.hull import short
from crystalgan.stability.references import builtin_references, reference_structures
from crystalgan.stability.relaxations import relaxed_rows, write_relaxed
from crystalgan.stability.tasks import Settings, Task, about_potential

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ase import Atoms

    from crystalgan.data.classes import BinaryClass
    from crystalgan.discovery.sources import Source
    from crystalgan.discovery.system import Counts
    from crystalgan.runs.folder import Run
    from crystalgan.stability.hull import Phase

MINUTES = 10.0


def discover(
    a: BinaryClass,
    b: BinaryClass,
    minutes: float = MINUTES,
    wanted: Wanted | None = None,
    root: Path | str = "runs",
    jobs: int = 1,
    new: bool = False,
    progress: Callable[[Step], None] | None = None,
    begun: Callable[[Run], None] | None = None,
) -> Phases:
    """Search for ternary phases of two classes until so many CPU minutes are spent.

    A search of these classes with the same wishes that is in `root` already goes on, unless `new`:
    `minutes` are those of all sittings together. The seed and the wishes alone say what is found
    one after the other; `jobs` processes find it sooner. `begun` is called with the run folder,
    `progress` after each round. Raises InputError for what cannot be used.

    >>> from crystalgan import load_class
    >>> discover(load_class("Pd"), load_class("Ni"), minutes=5)  # doctest: +SKIP
    """
    wanted = wanted or Wanted()
    _check(minutes, jobs)
    species = (a.shared, a.metal, b.metal)
    if wanted.formula:
        one_composition(wanted.formula, species, wanted.max_atoms)
    run = None if new else find_search(a, b, wanted, root)
    run = run or _begun(a, b, wanted, Path(root))
    return go_on(run, minutes, jobs, progress, begun)


def go_on(
    run: Run,
    minutes: float = MINUTES,
    jobs: int = 1,
    progress: Callable[[Step], None] | None = None,
    begun: Callable[[Run], None] | None = None,
) -> Phases:
    """Go on with the search of a run folder until so many CPU minutes are spent, those before
    included.

    The arguments are those of `discover`. Another process may stop it after a round with
    `runs.process.stop`. Raises InputError where the run is none of a search.

    >>> go_on(open_run("runs/Pd-Ni-H_discovery_seed0_001"), minutes=20)  # doctest: +SKIP
    """
    _check(minutes, jobs)
    record = read_record(run)
    with ExitStack() as stack:
        stack.enter_context(run.hold("generate"))
        stack.enter_context(run.hold("relax"))
        if begun:
            begun(run)
        pool = stack.enter_context(Pool(jobs)) if jobs > 1 else None
        evaluation = Evaluation(record.wanted.potential, pool, jobs)
        ended = _search(run, minutes, evaluation, progress)
        if ended and record.wanted.formula:  # a search of one composition begins without them
            relax_competing(run, record.wanted.potential, evaluation, metals=True)
    return phases_of_run(run)


def _check(minutes: float, jobs: int) -> None:
    if not minutes > 0:
        raise InputError(f"{minutes:g} CPU minutes were asked for; ask for more than none.")
    at_least_one(jobs, "processes")


def find_search(
    a: BinaryClass, b: BinaryClass, wanted: Wanted, root: Path | str = "runs"
) -> Run | None:
    """The latest run in `root` that searches these classes with these wishes, or None."""
    settings = Record(wanted, _provenance(a, b)).settings
    for run in sorted(list_runs(Path(root)), key=lambda r: str(r.folder), reverse=True):
        with suppress(InputError):  # a damaged one keeps no other from going on
            if is_search(run) and read_record(run).settings == settings:
                return run
    return None


def _provenance(a: BinaryClass, b: BinaryClass) -> tuple[dict[str, Any], ...]:
    return a.provenance().as_dict(), b.provenance().as_dict()


def _begun(a: BinaryClass, b: BinaryClass, wanted: Wanted, root: Path) -> Run:
    """A new folder for a search."""
    about_potential(wanted.potential, (a.shared, a.metal, b.metal))
    config = Config.of(
        {"shared": a.shared, "seed": wanted.seed, "known_ternaries": wanted.known_ternaries}
    )
    record = Record(wanted, _provenance(a, b))
    return new_run(a, b, config, root, record.write, "discovery")


def relax_competing(run: Run, potential: str, evaluation: Evaluation, metals: bool = False) -> None:
    """Relax what competes where it has no energy of the potential yet.

    These are the built-in elements, binaries and known ternaries, whose CHGNet energies came with
    them, and with `metals` the compounds of the two metals.
    """
    name, version = about_potential(potential, run.species)
    done = {row.phase for row in relaxed_rows(run, name, 0) if row.version == version}
    wanted = reference_structures(run.species, name, version, run.config.known_ternaries)
    left_out = done if metals else done | compounds_of(*run.species[1:]).keys()
    tasks = [Task(0, phase, cell) for phase, cell in wanted.items() if phase not in left_out]
    about = {"potential": name, "version": version, "settings": str(Settings())}
    for task, outcome in zip(tasks, evaluation.relaxed(tasks), strict=False):
        columns = outcome.columns | about
        write_relaxed(run, task, replace(outcome, columns=columns))


def competing(run: Run, potential: str) -> list[Phase]:
    """The elements, binaries and known ternaries that compete, with energies of a potential."""
    name, version = about_potential(potential, run.species)
    builtin = builtin_references(run.species, run.config.known_ternaries)
    energies = {
        row.phase: row.energy_per_atom
        for row in relaxed_rows(run, name, 0)
        if row.version == version and row.state == "converged"
    }
    phases = []
    for one in builtin:
        if (one.potential, one.version) == (name, version):
            phases.append(one.phase)
        elif one.name in energies:
            energy = energies[one.name] * len(one.structure)
            phases.append(replace(one.phase, energy=energy))
    elements = {one.name for one in builtin[: len(run.species)]}
    if missing := sorted(elements - {phase.name for phase in phases}):
        raise InputError(
            f"{', '.join(missing)} did not relax with {name}: no energy above the hull can be said."
        )
    return phases


@dataclass(frozen=True)
class Sources:
    """The sources of a search, and the compounds of the metals that it begins with."""

    every: list[Source]
    starts: list[tuple[Counts, Atoms]]


def sources_of(system: System, names: Sequence[str], most_atoms: int) -> Sources:
    """The sources of these names, for cells of at most so many atoms."""
    hosts = HostSource(system, most_atoms)
    makers: dict[str, Callable[[], Source]] = {
        "random": RandomSource,
        "transfer": lambda: TransferSource(system, most_atoms),
        "hosts": lambda: hosts,
        "heredity": MutationSource,
        "learned": lambda: LearnedSource(system, most_atoms),
    }
    return Sources([makers[name]() for name in names], hosts.starts())


def search_of(run: Run, wanted: Wanted, evaluation: Evaluation) -> Search:
    """The search of a run folder as it was left, or one that begins."""
    system = System.of(run.species, *run.classes(), competing(run, wanted.potential))
    sources = sources_of(system, wanted.sources, wanted.max_atoms)
    compositions = (
        one_composition(wanted.formula, run.species, wanted.max_atoms)
        if wanted.formula
        else small_compositions(wanted.max_atoms)
    )
    # compounds of the metals compete; of one composition they say nothing
    starts = () if wanted.formula else sources.starts
    search = Search(system, sources.every, evaluation, compositions, starts, wanted.seed)
    if (run.folder / FILE).exists():
        tensors, header = run.load(FILE)
        try:
            restore(search, tensors, header)
        except (IndexError, *OF_DAMAGE) as error:
            path = run.folder / FILE
            raise InputError(f"{path}: damaged ({reason(error)}); {BEGIN_AFRESH}.") from None
    return search


def _search(
    run: Run,
    minutes: float,
    evaluation: Evaluation,
    progress: Callable[[Step], None] | None,
) -> bool:
    """Whether the search came to its end; it stops after the round in which `runs.process.stop`
    asks for it."""
    record = read_record(run)
    wanted, spent = record.wanted, record.cpu_seconds
    if spent >= 60 * minutes:
        return True
    asked_to_stop = run.folder / "stop"
    asked_to_stop.unlink(missing_ok=True)
    record = replace(record, asked=minutes)
    record.write(run)
    name, version = about_potential(wanted.potential, run.species)  # loads it, which is not counted
    # 1 thread a process, since CPU time is counted
    started = time.process_time()

    def clock() -> float:
        return spent + time.process_time() - started + evaluation.seconds

    relax_competing(run, wanted.potential, evaluation)
    search = search_of(run, wanted, evaluation)
    known = known_structures(run.species, known_ternaries=wanted.known_ternaries)
    writer = Writer(run, name, version, known, wanted.seed)
    while clock() < 60 * minutes:
        new = search.step()
        writer.write(search, new)
        run.save(FILE, *packed(search))
        step = _step(search, clock() / 60, wanted)
        replace(record, cpu_seconds=clock(), step=step).write(run)
        if progress:
            progress(step)
        if asked_to_stop.exists():
            asked_to_stop.unlink()
            return False
    return True


def _step(search: Search, minutes: float, wanted: Wanted) -> Step:
    ternary = [f for f in search.found if all(f.counts) and f.converged]
    above = search.hull.above([f.counts for f in ternary], [f.energy for f in ternary])
    best = ""
    if len(above):
        k = int(above.argmin())
        formula = short(ternary[k].structure.formula)
        best = f"{formula} {1000 * max(above[k], 0.0):.0f} meV/atom above the hull"
    by = {name: sum(f.source == name for f in ternary) for name in wanted.sources}
    ends = sum(search.tally[name] for name in ("found", "lost", "repeats when relaxed"))
    spent = {name: search.spent[name] / 1000 for name in wanted.sources}
    learned = [a for s in search.sources if isinstance(s, Learner) for a in s.accuracies]
    return Step(
        minutes, search.rounds, search.proposed, len(ternary), best, by, ends, spent, learned
    )
