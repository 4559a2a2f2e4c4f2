"""Trials: a source of candidates makes and relaxes cells until its CPU minutes are over.

A trial runs in a process of its own. `count_trial` counts what it found, by the same rules for all.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crystalgan.jobs import Pool
from crystalgan.stability.hull import diagram_of
from crystalgan.stability.tasks import Settings, Task, relax_task
from crystalgan.studies.baselines import SOURCES, BaselineTask, compositions_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymatgen.core import Structure

    from crystalgan.data.classes import BinaryClass
    from crystalgan.runs.folder import Run
    from crystalgan.stability.hull import Phase

POTENTIAL = "chgnet"  # the one that the built-in elements and binaries have energies from
HITS = (0.1, 0.05)  # eV/atom above the hull
COMPOSITIONS = 1000  # of the run's, which the baselines go through
COUNTED = ("relaxed", "converged", "valid", "unique", "new")


@dataclass(frozen=True)
class TrialTask:
    """What one process is to do: a source, what it is given, and its CPU minutes."""

    source: str
    given: BaselineTask
    minutes: float


@dataclass(frozen=True)
class RelaxedCell:
    """A cell as it was made and as it was relaxed.

    `state` is "converged", "unfinished" or "failed"; `energy` in eV/atom, None where it failed.
    """

    made: Structure
    relaxed: Structure
    state: str
    energy: float | None


@dataclass(frozen=True)
class Trial:
    """All cells that a source made and relaxed, and the CPU minutes that this took."""

    cells: tuple[RelaxedCell, ...]
    cpu_minutes: float


@dataclass(frozen=True)
class TrialCounts:
    """What was found in a trial, or in several.

    `valid` cells keep the learned rule as they were made; `unique` and `new` are of the converged
    ones, after relaxation; `hits` are unique, new ternaries within so many eV/atom of the hull;
    `best` is the lowest energy above the hull (eV/atom) of each reduced formula.
    """

    relaxed: int
    converged: int
    valid: int
    unique: int
    new: int
    hits: dict[float, int]
    cpu_minutes: float
    best: dict[str, float]

    @classmethod
    def of(cls, found: dict[str, Any]) -> TrialCounts:
        """The counts that JSON holds."""
        hits = {limit: int(found[f"hits_{limit}"]) for limit in HITS}
        counts = {name: int(found[name]) for name in COUNTED}
        minutes = float(found["cpu_minutes"])
        return cls(**counts, hits=hits, cpu_minutes=minutes, best=dict(found.get("best", {})))

    @classmethod
    def total(cls, counts: Sequence[TrialCounts]) -> TrialCounts:
        """The sums over several trials, and the lowest energy of each formula."""
        best: dict[str, float] = {}
        for one in counts:
            for formula, energy in one.best.items():
                best[formula] = min(energy, best.get(formula, energy))
        sums = {name: sum(getattr(one, name) for one in counts) for name in COUNTED}
        hits = {limit: sum(one.hits[limit] for one in counts) for limit in HITS}
        minutes = sum(one.cpu_minutes for one in counts)
        return cls(**sums, hits=hits, cpu_minutes=minutes, best=best)

    def rate(self, limit: float = HITS[0]) -> float:
        """Hits within so many eV/atom of the hull, a CPU minute."""
        return self.hits[limit] / self.cpu_minutes

    def as_dict(self) -> dict[str, Any]:
        """What JSON holds of it; hits are `hits_0.1` and `hits_0.05`."""
        counts = {name: getattr(self, name) for name in COUNTED}
        hits = {f"hits_{limit}": count for limit, count in self.hits.items()}
        return counts | hits | {"cpu_minutes": self.cpu_minutes, "best": self.best}


def trial_pool(processes: int) -> Pool:
    """Processes for trials: one thread each, and no GPU, since CPU minutes are counted."""
    return Pool(processes, _without_gpu)


def _without_gpu() -> None:
    os.environ["CUDA_VISIBLE_DEVICES"] = ""


def task_of(
    run: Run, a: BinaryClass, b: BinaryClass, types: Sequence[Structure], seed: int
) -> BaselineTask:
    """What the sources are given for one seed.

    `types` are known ternary structures, whose metals are swapped as well as those of the classes.
    """
    from crystalgan.model.transfer import atomic_volumes

    (shared_a, metal_a), (shared_b, metal_b) = (atomic_volumes(c.cells()).tolist() for c in (a, b))
    volumes = (shared_a + shared_b) / 2, metal_a, metal_b
    hosts = (*a.structures, *b.structures, *types)
    compositions = compositions_of(run, COMPOSITIONS, seed)
    return BaselineTask(run.folder, run.species, compositions, volumes, hosts, seed)


def run_trial(task: TrialTask) -> Trial:
    """Make and relax cells until the CPU minutes are over; what is under way then is finished."""
    cells = []
    started = time.process_time()
    for number, structure in enumerate(SOURCES[task.source](task.given)):
        if structure is not None:
            cells.append(relaxed_cell(structure, number))
        if time.process_time() - started >= 60 * task.minutes:
            break
    return Trial(tuple(cells), (time.process_time() - started) / 60)


def relaxed_cell(structure: Structure, number: int = 0) -> RelaxedCell:
    """A cell with what becomes of it when it is relaxed."""
    outcome = relax_task(POTENTIAL, Settings(), Task(number, "", structure))
    columns = outcome.columns
    return RelaxedCell(
        structure, outcome.structure, columns["state"], columns.get("energy_per_atom")
    )


def count_trial(trial: Trial, run: Run, phases: Sequence[Phase]) -> TrialCounts:
    """Count what a trial found, against the hull of these phases."""
    from crystalgan.crystal.cells import encode
    from crystalgan.crystal.matching import StructureIndex
    from crystalgan.crystal.repair import check
    from crystalgan.data.known import known_structures
    from crystalgan.runs.checking import rules_of

    rule = rules_of(run.rule, *run.classes())["learned"]
    made = [cell.made for cell in trial.cells]
    valid = sum(check(encode([cell], run.species), rule)[0].passed for cell in made)
    converged = [cell for cell in trial.cells if cell.state == "converged"]
    seen = StructureIndex[int]()
    known = known_structures(run.species, (), run.config.known_ternaries)
    unique = [c for k, c in enumerate(converged) if seen.find_or_add(c.relaxed, k) is None]
    new = [
        cell
        for cell in unique
        if {site.specie.symbol for site in cell.relaxed} == set(run.species)
        and known.find(cell.relaxed) is None
    ]
    above = _above_hull(new, phases)
    best: dict[str, float] = {}
    for cell, energy in zip(new, above, strict=True):
        formula = cell.relaxed.composition.reduced_formula
        best[formula] = min(energy, best.get(formula, energy))
    return TrialCounts(
        relaxed=sum(cell.state != "failed" for cell in trial.cells),
        converged=len(converged),
        valid=valid,
        unique=len(unique),
        new=len(new),
        hits={limit: sum(energy <= limit for energy in above) for limit in HITS},
        cpu_minutes=trial.cpu_minutes,
        best=best,
    )


def _above_hull(cells: Sequence[RelaxedCell], phases: Sequence[Phase]) -> list[float]:
    """The energy of each relaxed cell above the hull of these phases, eV/atom."""
    from pymatgen.analysis.phase_diagram import PDEntry

    diagram = diagram_of(phases)
    out = []
    for cell in cells:
        assert cell.energy is not None, "what converged has an energy"
        entry = PDEntry(cell.relaxed.composition, cell.energy * len(cell.relaxed))
        out.append(float(diagram.get_e_above_hull(entry, allow_negative=True)))
    return out
