"""The loop of a discovery: propose, screen by one energy each, relax the most promising further."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from crystalgan.crystal.matching import StructureIndex
from crystalgan.discovery.descent import Descent, advance
from crystalgan.discovery.lower_hull import LowerHull

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ase import Atoms
    from ase.calculators.calculator import Calculator
    from pymatgen.core import Structure

    from crystalgan.discovery.sources import Source
    from crystalgan.discovery.system import Counts, System

PROPOSALS, ADVANCED = 40, 8  # of one round
RUNGS = (0, 8, 16, 32, 64, 150)  # steps after which a relaxation stops and is looked at again
# eV/atom that a relaxation is expected to gain from each rung to its end, before any was seen
GAINS = (0.15, 0.06, 0.02, 0.008, 0.003)
VISIT = 0.03  # eV/atom by which a composition is put back for each relaxation
WAITING = 400  # proposals that are kept
SAME_ENERGY, SAME_VOLUME = 2e-4, 1e-3  # eV/atom and share: proposals that agree so far are the same
GREEDY = 0.6  # share of the proposals that go to the compositions that promise most
WARMTH = 0.06  # eV/atom, of the draw among them


@dataclass(frozen=True)
class Proposal:
    """A crystal on its way: proposed, screened, and relaxed through some rungs."""

    id: int
    source: str
    counts: Counts
    descent: Descent
    rung: int = 0
    start_energy: float = math.nan  # eV/atom

    @property
    def formula(self) -> Counts:
        """The counts of one formula unit."""
        return reduced(self.counts)


@dataclass(frozen=True)
class Found:
    """A relaxed crystal: `energy` in eV/atom."""

    id: int
    source: str
    counts: Counts
    structure: Structure
    energy: float
    steps: int
    converged: bool
    round: int
    clock: float = 0.0


def reduced(counts: Counts) -> Counts:
    """The counts of one formula unit.

    >>> reduced((4, 2, 2))
    (2, 1, 1)
    """
    divisor = math.gcd(*counts)
    h, a, b = (n // divisor for n in counts)
    return h, a, b


@dataclass
class Search:
    """A search under way; `step` makes one round of it."""

    system: System
    sources: Sequence[Source]
    calculator: Calculator
    compositions: dict[Counts, tuple[Counts, ...]]  # cells of each formula
    seed: int = 0
    rounds: int = 0
    made: int = 0
    waiting: list[Proposal] = field(default_factory=list)
    found: list[Found] = field(default_factory=list)
    visits: Counter[Counts] = field(default_factory=Counter)
    gains: list[list[float]] = field(default_factory=lambda: [[g] * 3 for g in GAINS])
    stats: Counter[str] = field(default_factory=Counter)
    hook: Callable[[Found], None] | None = None

    def __post_init__(self) -> None:
        self.seen = StructureIndex[int]()
        self.prints: dict[Counts, list[tuple[float, float]]] = defaultdict(list)
        self.best: dict[Counts, float] = {}
        self.update_hull()

    def update_hull(self) -> None:
        """Take what was found into the hull."""
        phases = [*self.system.phases, *((f.counts, f.energy) for f in self.found if f.converged)]
        self.hull = LowerHull.of([c for c, _ in phases], [e for _, e in phases])

    def step(self) -> None:
        """Propose and screen crystals, then relax those that promise most by one rung."""
        rng = np.random.default_rng([self.seed, self.rounds])
        for counts, source in self.targets(rng):
            atoms = source.propose(self.system, counts, rng)
            self.stats["tried " + source.name] += 1
            if atoms is not None:
                self.screen(atoms, counts, source.name)
        self.waiting = sorted(self.waiting, key=self.score)[:WAITING]
        for proposal in self.waiting[:ADVANCED]:
            self.waiting.remove(proposal)
            self.advance(proposal)
        self.update_hull()
        self.rounds += 1

    def targets(self, rng: np.random.Generator) -> list[tuple[Counts, Source]]:
        """Compositions to propose crystals of, and by which source."""
        formulas = list(self.compositions)
        weights = np.array([1 / sum(f) for f in formulas])
        weights /= weights.sum()
        if len(formulas) > 1 and self.best:
            score = np.array([self.best.get(f, math.inf) + VISIT * self.visits[f] for f in formulas])
            greedy = np.exp(-(score - score.min()) / WARMTH)
            weights = GREEDY * greedy / greedy.sum() + (1 - GREEDY) * weights
        out = []
        for k in range(PROPOSALS):
            formula = formulas[rng.choice(len(formulas), p=weights)]
            cells = self.compositions[formula]
            sizes = np.array([1 / sum(c) for c in cells])
            counts = cells[rng.choice(len(cells), p=sizes / sizes.sum())]
            out.append((counts, self.sources[k % len(self.sources)]))
        return out

    def screen(self, atoms: Atoms, counts: Counts, source: str) -> None:
        """Give a proposal its energy; it waits unless it was there before."""
        atoms.calc = self.calculator
        energy = float(atoms.get_potential_energy()) / len(atoms)
        atoms.calc = None
        self.stats["screened " + source] += 1
        self.made += 1
        if not math.isfinite(energy):
            return
        formula, volume = reduced(counts), atoms.get_volume() / len(atoms)
        for e, v in self.prints[formula]:
            if abs(e - energy) < SAME_ENERGY and abs(v / volume - 1) < SAME_VOLUME:
                self.stats["repeated"] += 1
                return
        self.prints[formula].append((energy, volume))
        self.waiting.append(
            Proposal(self.made, source, counts, Descent.of(atoms, energy), 0, energy)
        )
        promise = float(self.hull.above([counts], [energy])[0]) - self.gain(0)
        self.best[formula] = min(promise, self.best.get(formula, math.inf))

    def gain(self, rung: int) -> float:
        """What relaxations gain from a rung to their end, eV/atom: the median of those seen."""
        return float(np.median(self.gains[rung]))

    def score(self, proposal: Proposal) -> tuple[float, int]:
        """By what proposals are ranked: the energy above the hull that is expected of them."""
        above = float(self.hull.above([proposal.counts], [proposal.descent.energy])[0])
        return above - self.gain(proposal.rung) + self.penalty(proposal), proposal.id

    def penalty(self, proposal: Proposal) -> float:
        """What a composition pays for each time that it was looked at, eV/atom."""
        return VISIT * self.visits[proposal.formula] if len(self.compositions) > 1 else 0.0

    def advance(self, proposal: Proposal) -> None:
        """Relax a proposal by one rung; it waits again, or is found."""
        if not proposal.rung:
            self.visits[proposal.formula] += 1
        before = proposal.descent
        rung = proposal.rung + 1
        descent = advance(before, self.calculator, RUNGS[rung] - RUNGS[rung - 1])
        self.stats["steps"] += descent.steps - before.steps
        if descent.lost:
            self.stats["lost"] += 1
            return
        promise = float(self.hull.above([proposal.counts], [descent.energy])[0])
        self.best[proposal.formula] = min(promise, self.best.get(proposal.formula, math.inf))
        if not descent.converged and rung + 1 < len(RUNGS):
            if rung >= 2 and self.repeats(proposal, descent):
                self.stats["repeats"] += 1
                return
            self.waiting.append(replace(proposal, descent=descent, rung=rung))
            return
        if self.repeats(proposal, descent):
            self.stats["repeats at end"] += 1
            return
        structure = structure_of(descent.atoms)
        self.seen.add(structure, proposal.id)
        self.gains[0].append(proposal.start_energy - descent.energy)
        one = Found(
            proposal.id,
            proposal.source,
            proposal.counts,
            structure,
            descent.energy,
            descent.steps,
            descent.converged,
            self.rounds,
        )
        self.found.append(one)
        if self.hook:
            self.hook(one)

    def repeats(self, proposal: Proposal, descent: Descent) -> bool:
        """Whether a relaxation comes to a crystal that was found before."""
        close = any(
            f.energy > descent.energy - 0.02 and f.energy < descent.energy + 0.005
            for f in self.found
            if reduced(f.counts) == proposal.formula
        )
        return close and self.seen.find(structure_of(descent.atoms)) is not None


def structure_of(atoms: Atoms) -> Structure:
    """ASE's atoms as a pymatgen structure."""
    from pymatgen.core import Structure

    return Structure(atoms.cell.array, atoms.get_chemical_symbols(), atoms.get_scaled_positions())
