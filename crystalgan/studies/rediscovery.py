"""Rediscovery: known ternaries that no training has seen are looked for among relaxed cells.

For each known structure both its classes are trained on. Every source of candidates makes and
relaxes cells of its composition in the same CPU time, and pymatgen's StructureMatcher says which
are the known one.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crystalgan.data.classes import builtin_classes, load_class
from crystalgan.data.known import read_known
from crystalgan.stability.tasks import about_potential
from crystalgan.storage import read_json, saying, write_json
from crystalgan.studies.baselines import LARGEST, SOURCES, origins_of
from crystalgan.studies.results import StudyResult
from crystalgan.studies.stacks import check_minutes, study_folder, train_one
from crystalgan.studies.trials import POTENTIAL, TrialTask, run_trial, task_of, trial_pool

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    from pymatgen.core import Structure

    from crystalgan.config import Config
    from crystalgan.jobs import Pool
    from crystalgan.studies.baselines import BaselineTask
    from crystalgan.studies.trials import Trial

STUDY, FILE = "rediscovery", "rediscovery.json"
OWN = "crystalgan"  # the source whose result is that of the run


@dataclass(frozen=True)
class Match:
    """Whether one source found a known structure.

    `rank` counts different cells by their energy (1: none has a lower one); `rmsd` is pymatgen's,
    in units of the cube root of the volume per atom; `reason` says why nothing was made.
    """

    relaxed: int = 0
    found: bool = False
    rank: int | None = None
    rmsd: float | None = None
    cpu_minutes: float = 0.0
    reason: str = ""

    def as_dict(self) -> dict[str, Any]:
        """What JSON holds of it."""
        found = asdict(self)
        if not self.reason:
            del found["reason"]
        return found


@dataclass(frozen=True)
class Rediscovery:
    """What became of one known structure: a match of each source, or why it was not looked for."""

    name: str
    formula: str
    spacegroup: str = ""
    methods: dict[str, Match] | None = None
    reason: str = ""

    @property
    def own(self) -> Match:
        """What the run found."""
        return self.methods[OWN] if self.methods else Match()

    def as_dict(self) -> dict[str, Any]:
        """What JSON holds of it."""
        about: dict[str, Any] = {"name": self.name, "formula": self.formula}
        if self.methods is None:
            return about | {"found": False, "reason": self.reason}
        methods = {method: match.as_dict() for method, match in self.methods.items()}
        own = {name: getattr(self.own, name) for name in ("found", "rank", "rmsd")}
        return about | {"spacegroup": self.spacegroup, "methods": methods} | own


@dataclass(frozen=True, repr=False)
class RediscoveryResult(StudyResult):
    """Known structures with what became of each."""

    minutes: float  # of each source for each structure
    structures: tuple[Rediscovery, ...]

    @property
    def asked(self) -> int:
        """How many could be looked for."""
        return sum(one.methods is not None for one in self.structures)

    @property
    def found(self) -> int:
        """How many the run found."""
        return sum(one.own.found for one in self.structures)

    @property
    def title(self) -> str:
        """What the result is of, in a few words."""
        return f"{self.found} of {self.asked} found, {self.minutes:g} CPU minutes for each method"

    def rows(self) -> list[dict[str, Any]]:
        """A row for each structure, with the rank that each method gives it."""
        return [
            {"structure": one.name, "space group": one.spacegroup, "remark": one.reason}
            | {method: match.rank for method, match in (one.methods or {}).items()}
            for one in self.structures
        ]

    def as_dict(self) -> dict[str, Any]:
        """What JSON holds of it."""
        return {
            "asked": self.asked,
            "found": self.found,
            "minutes": self.minutes,
            "rows": [one.as_dict() for one in self.structures],
        }

    def lines(self) -> list[str]:
        """The result in lines."""
        out = [self.title]
        for one in self.structures:
            if one.methods is None:
                out.append(f"{one.name:20} not asked for: {one.reason}")
                continue
            ranks = ", ".join(
                f"{method} {f'rank {match.rank}' if match.found else '-'}"
                for method, match in one.methods.items()
            )
            out.append(f"{one.name:20} {one.spacegroup:10} {ranks}")
        return out


@dataclass(frozen=True)
class KnownTernary:
    """A known ternary structure: its name, primitive cell and metals.

    `reason` says why it cannot be looked for, where it cannot.
    """

    name: str
    structure: Structure
    metals: tuple[str, ...]
    reason: str = ""


def known_ternaries(
    path: Path, shared: str, left: Callable[[str], None] | None = None
) -> list[KnownTernary]:
    """The structures of a file, each with its two metals.

    A structure that no two built-in classes are of says so. `left` is told, in a sentence each,
    what of the file was left out. Raises InputError where nothing can be read.
    """
    file = read_known(path, lambda _: True)
    file.check("structure that can be read", "one")
    if left:
        for words in file.not_used("could not be used"):
            left(words)
    out = []
    for number, entry in enumerate(file.cells, 1):
        cell = entry.structure.get_primitive_structure()
        metals = tuple(sorted({site.specie.symbol for site in cell} - {shared}))
        reason = ""
        if len(metals) != 2 or shared not in cell.composition:
            reason = f"not of {shared} and two metals"
        elif strange := sorted(set(metals) - set(builtin_classes())):
            reason = f"no built-in class of {', '.join(strange)}"
        out.append(
            KnownTernary(f"{number} {cell.composition.reduced_formula}", cell, metals, reason)
        )
    return out


def rediscover(
    known: Sequence[KnownTernary],
    config: Config,
    root: Path = Path("runs"),
    minutes: float = 2.0,
    processes: int = 1,
    progress: Callable[[str], None] | None = None,
) -> RediscoveryResult:
    """Look for each known structure among cells of its composition, in the same CPU minutes.

    The built-in known ternaries of its system are left out of everything. What was done before in
    this `root` is kept. `progress` hears of each structure that was looked for.
    """
    check_minutes(minutes)
    base = replace(config, method="crystalgan", seed=0, known_ternaries=False)
    found = []
    with trial_pool(processes) as pool:
        for one in known:
            formula = one.structure.composition.reduced_formula
            if one.reason:
                found.append(Rediscovery(one.name, formula, reason=one.reason))
                continue
            group = one.structure.get_space_group_info(0.1)[0]
            methods = _searched(pool, one, base, root, minutes)
            found.append(Rediscovery(one.name, formula, group, methods))
            if progress:
                progress(f"{one.name}: {'found' if methods[OWN].found else 'not found'}")
    result = RediscoveryResult(minutes, tuple(found))
    with saying(root / STUDY, "choose another `root`", writing=True):
        (root / STUDY).mkdir(parents=True, exist_ok=True)
    write_json(root / STUDY / FILE, result.as_dict())
    return result


def _searched(
    pool: Pool, known: KnownTernary, config: Config, root: Path, minutes: float
) -> dict[str, Match]:
    """What every source found of one known structure."""
    a, b = (load_class(metal, metal, config.shared) for metal in known.metals)
    folder = study_folder(root / STUDY, a, b, config, {})
    run = train_one(folder / "run", a, b, config)
    counts = known.structure.composition.get_el_amt_dict()
    h, n_a, n_b = (int(counts[symbol]) for symbol in run.species)
    task = replace(task_of(run, a, b, (), 0), compositions=((h, n_a, n_b),), only=True)
    atoms = [c.cells().mask.sum(-1).tolist() for c in (a, b)]
    found = {}
    pending: dict[Future[Trial], tuple[str, Path]] = {}
    for source in SOURCES:
        file = folder / f"{known.name.replace(' ', '-')}-{source}-{minutes:g}.json"
        if file.exists():
            found[source] = Match(**read_json(file))
        elif (problem := impossible(source, task, *atoms)) is not None:
            found[source] = Match(reason=problem)
        else:
            if not pending:
                pool.submit(about_potential, POTENTIAL, run.species).result()  # may refuse
            future = pool.submit(run_trial, TrialTask(source, task, minutes))
            pending[future] = (source, file)
    for future, trial in pool.completed(pending):
        source, file = pending[future]
        found[source] = matched(known.structure, trial)
        write_json(file, found[source].as_dict())
    return {source: found[source] for source in SOURCES}


def impossible(
    source: str, task: BaselineTask, a: Sequence[Sequence[int]], b: Sequence[Sequence[int]]
) -> str | None:
    """Why a source cannot make the composition of its task; None where it can.

    `a` and `b` are the numbers of atoms of both elements in each parent, shape `[n_parents, 2]`.
    """
    ((h, n_a, n_b),) = task.compositions
    atoms = h + n_a + n_b
    if source == "crystalgan":
        fits = any(origins_of((h, n_a, n_b), a, b).values())
        return None if fits else "no two cells of the classes have these numbers of atoms"
    if source == "substitution":
        cells = [(own, own + metals) for own, metals in (*a, *b)]
        fits = any(
            not atoms % n and atoms // n <= LARGEST and own * (atoms // n) == h for own, n in cells
        )
        return None if fits else "no cell of the classes has these numbers of sites"
    return None


def matched(target: Structure, trial: Trial) -> Match:
    """Whether a relaxed cell is the target, its rank by energy, and how far it is off."""
    from pymatgen.analysis.structure_matcher import StructureMatcher

    from crystalgan.crystal.matching import StructureIndex

    done = [
        (cell.energy, cell.relaxed)
        for cell in trial.cells
        if cell.state != "failed" and cell.energy is not None
    ]
    matcher, seen, rank = StructureMatcher(), StructureIndex[int](), 0
    for _, cell in sorted(done, key=lambda pair: pair[0]):
        if seen.find_or_add(cell, 0) is not None:
            continue
        rank += 1
        if matcher.fit(target, cell):
            rmsd = float(matcher.get_rms_dist(target, cell)[0])
            return Match(len(done), True, rank, rmsd, trial.cpu_minutes)
    return Match(len(done), cpu_minutes=trial.cpu_minutes)
