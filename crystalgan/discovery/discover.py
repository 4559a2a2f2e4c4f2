"""`discover`: a search for ternary phases of two metals in a run folder, under a CPU budget."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crystalgan.config import Config
from crystalgan.data.known import known_structures
from crystalgan.discovery.checkpoint import FILE, packed, restore
from crystalgan.discovery.compositions import check_size, one_composition, small_compositions
from crystalgan.discovery.evaluation import Evaluation
from crystalgan.discovery.hosts import HostSource
from crystalgan.discovery.mutation import MutationSource
from crystalgan.discovery.phases import Phases, phases_of_run
from crystalgan.discovery.rows import Writer
from crystalgan.discovery.search import Search
from crystalgan.discovery.sources import RandomSource
from crystalgan.discovery.system import System
from crystalgan.discovery.transfers import TransferSource
from crystalgan.errors import InputError
from crystalgan.jobs import Pool, at_least_one
from crystalgan.runs.listing import list_runs
from crystalgan.runs.schema import OF_DAMAGE, reason
from crystalgan.runs.training import new_run
from crystalgan.stability.references import builtin_references
from crystalgan.stability.relaxations import relaxed_rows, write_relaxed
from crystalgan.stability.tasks import Settings, Task, about_potential
from crystalgan.storage import read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ase import Atoms

    from crystalgan.data.classes import BinaryClass
    from crystalgan.discovery.sources import Source
    from crystalgan.discovery.system import Counts
    from crystalgan.runs.folder import Run
    from crystalgan.stability.hull import Phase

SETTINGS = "discovery.json"
MINUTES, MOST_ATOMS = 10.0, 24
SOURCES = ("random", "transfer", "hosts", "heredity")


@dataclass(frozen=True)
class Wanted:
    """What a search is asked for; a folder is one search's, with these."""

    formula: str = ""  # empty: all compositions
    max_atoms: int = MOST_ATOMS
    potential: str = "chgnet"
    seed: int = 0
    sources: tuple[str, ...] = SOURCES
    known_ternaries: bool = True  # whether the built-in ones compete, and count as known

    def __post_init__(self) -> None:
        check_size(self.max_atoms)
        if unknown := sorted(set(self.sources) - set(SOURCES)):
            raise InputError(
                f"`sources` names {', '.join(unknown)}; there are {', '.join(SOURCES)}."
            )
        if not self.sources:
            raise InputError(f"`sources` names none; there are {', '.join(SOURCES)}.")


@dataclass(frozen=True)
class Step:
    """How far a search is after a round."""

    minutes: float  # of CPU time, all sittings together
    rounds: int
    screened: int
    found: int
    best: str  # the lowest ternary phase, in words
    sources: dict[str, int] = field(default_factory=dict)  # found by each


def discover(
    a: BinaryClass,
    b: BinaryClass,
    minutes: float = MINUTES,
    wanted: Wanted | None = None,
    root: Path | str = "runs",
    jobs: int = 1,
    new: bool = False,
    progress: Callable[[Step], None] | None = None,
) -> Phases:
    """Search for ternary phases of two classes until so many CPU minutes are spent.

    A search of these classes with the same wishes that is in `root` already goes on, unless `new`:
    `minutes` are those of all sittings together. The seed and the wishes alone say what is found
    one after the other; `jobs` processes find it sooner. `progress` is called after each round.
    Raises InputError for what cannot be used.

    >>> from crystalgan import load_class
    >>> discover(load_class("Pd"), load_class("Ni"), minutes=5)  # doctest: +SKIP
    """
    wanted = wanted or Wanted()
    if not minutes > 0:
        raise InputError(f"{minutes:g} CPU minutes were asked for; ask for more than none.")
    at_least_one(jobs, "processes")
    species = (a.shared, a.metal, b.metal)
    if wanted.formula:
        one_composition(wanted.formula, species, wanted.max_atoms)
    run = None if new else find_search(a, b, wanted, root)
    run = run or _begun(a, b, wanted, Path(root))
    with ExitStack() as stack:
        stack.enter_context(run.hold("generate"))
        stack.enter_context(run.hold("relax"))
        pool = stack.enter_context(Pool(jobs)) if jobs > 1 else None
        _search(run, wanted, minutes, Evaluation(wanted.potential, pool, jobs), progress)
    return phases_of_run(run)


def find_search(
    a: BinaryClass, b: BinaryClass, wanted: Wanted, root: Path | str = "runs"
) -> Run | None:
    """The latest run in `root` that searches these classes with these wishes, or None."""
    settings = _settings(a, b, wanted)
    for run in sorted(list_runs(Path(root)), key=lambda r: str(r.folder), reverse=True):
        path = run.folder / SETTINGS
        if path.exists() and read_json(path).get("settings") == settings:
            return run
    return None


def _settings(a: BinaryClass, b: BinaryClass, wanted: Wanted) -> dict[str, Any]:
    classes = [c.provenance().as_dict() for c in (a, b)]
    return {"classes": classes} | asdict(wanted) | {"sources": list(wanted.sources)}


def _begun(a: BinaryClass, b: BinaryClass, wanted: Wanted, root: Path) -> Run:
    """A new folder for a search."""
    about_potential(wanted.potential, (a.shared, a.metal, b.metal))
    config = Config.of(
        {"shared": a.shared, "seed": wanted.seed, "known_ternaries": wanted.known_ternaries}
    )
    run = new_run(a, b, config, root)
    write_json(run.folder / SETTINGS, {"settings": _settings(a, b, wanted), "cpu_seconds": 0.0})
    return run


def relax_references(run: Run, potential: str, evaluation: Evaluation) -> None:
    """Relax what competes from the start where it has no energy of the potential yet.

    These are the built-in elements, binaries and known ternaries; CHGNet's energies came with them.
    """
    name, version = about_potential(potential, run.species)
    done = {row.phase for row in relaxed_rows(run, name, 0) if row.version == version}
    wanted = [
        Task(0, one.name, one.structure)
        for one in builtin_references(run.species, run.config.known_ternaries)
        if (one.potential, one.version) != (name, version) and one.name not in done
    ]
    about = {"potential": name, "version": version, "settings": str(Settings())}
    for task, outcome in zip(wanted, evaluation.relaxed(wanted), strict=False):
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
    if (path := run.folder / FILE).exists():
        try:
            restore(search, *run.load(FILE))
        except OF_DAMAGE as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"{path}: damaged ({reason(error)}); begin afresh with `new`."
            ) from None
    return search


def _search(
    run: Run,
    wanted: Wanted,
    minutes: float,
    evaluation: Evaluation,
    progress: Callable[[Step], None] | None,
) -> None:
    settings = read_json(run.folder / SETTINGS)
    spent = float(settings["cpu_seconds"])
    if spent >= 60 * minutes:
        return
    # 1 thread a process, since CPU time is counted
    started = time.process_time()

    def clock() -> float:
        return spent + time.process_time() - started + evaluation.seconds

    relax_references(run, wanted.potential, evaluation)
    search = search_of(run, wanted, evaluation)
    name, version = about_potential(wanted.potential, run.species)
    known = known_structures(run.species, known_ternaries=wanted.known_ternaries)
    writer = Writer(run, name, version, known, wanted.seed)
    while clock() < 60 * minutes:
        new = search.step()
        writer.write(search, new)
        run.save(FILE, *packed(search))
        write_json(run.folder / SETTINGS, settings | {"cpu_seconds": clock()})
        if progress:
            progress(_step(search, clock() / 60, wanted))


def _step(search: Search, minutes: float, wanted: Wanted) -> Step:
    ternary = [f for f in search.found if all(f.counts) and f.converged]
    above = search.hull.above([f.counts for f in ternary], [f.energy for f in ternary])
    best = ""
    if len(above):
        k = int(above.argmin())
        formula = ternary[k].structure.composition.reduced_formula
        best = f"{formula} {1000 * above[k]:.0f} meV/atom above the hull"
    by = {name: sum(f.source == name for f in ternary) for name in wanted.sources}
    return Step(minutes, search.rounds, search.proposed, len(ternary), best, by)
