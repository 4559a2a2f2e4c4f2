"""The loop of a discovery: propose, screen by one energy each, relax the most promising further.

A round depends on the seed, its number and the rounds before it, on no clock; so a search that was
ended goes on to the same relaxations, with any number of processes.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from crystalgan.crystal.lattice import reduced as reduced_cell
from crystalgan.crystal.matching import StructureIndex
from crystalgan.discovery.compositions import SMALLNESS, balanced, prior
from crystalgan.discovery.descent import Descent
from crystalgan.discovery.found import Found, reduced, structure_of
from crystalgan.discovery.lower_hull import LowerHull
from crystalgan.discovery.sources import Learner, Request, atoms_of, cell_of, finished
from crystalgan.discovery.surrogate import Surrogate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms

    from crystalgan.discovery.sources import Source
    from crystalgan.discovery.surrogate import Label
    from crystalgan.discovery.system import Counts, System

PROPOSALS, SCREENED, ADVANCED = 240, 32, 6  # of one round
UNRANKED = 0.2  # share of the screened ones that are drawn, not those that the surrogate prefers
RUNGS = (0, 8, 16, 32, 64, 150)  # steps after which a relaxation stops and is looked at again
# eV/atom that relaxations are expected to gain on each rung, before any was seen
GAINS = (0.06, 0.02, 0.01, 0.005, 0.003)
RECENT = 60  # relaxations whose gains on a rung count
# eV/atom by which a cell is put back for each atom, for what it costs; and by which the surrogate
# may be too hopeful of a composition
SIZE, DOUBT = 0.002, 0.03
ONWARD = 3  # of those that are relaxed in a round, the ones that were begun before
VISIT = 0.01  # eV/atom by which a composition is put back for each relaxation
# eV/atom above the hull, below which a compound of the metals may be a host; and by which a
# composition is put back whose charges do not balance and whose metals make no host
HOST, UNREASONED = 0.05, 0.03
WAITING = 300  # proposals that are kept
FIRST_PROPOSALS = 64  # of a round before there is a surrogate
SAME_GUESS = 1e-6  # eV/atom, of the surrogate
SAME_ENERGY, SAME_VOLUME = 2e-4, 1e-3  # eV/atom and share: proposals that agree so far are the same
GREEDY = 0.6  # share of the proposals that go to the compositions that promise most
WARMTH = 0.03  # eV/atom, of the draw among them
FIRST_WORK, LEAST_SHARE = 5000.0, 0.1  # ms that each source has at first; and of the proposals
WORTH = 0.05  # eV/atom above the hull or the best, where what is found counts for 1/e
PROPOSING = 7.0  # ms of one usual core
# eV/atom below and above an energy, where a crystal that was found is looked for among the found
NEAR = (0.05, 0.005)
BEST_VOLUMES = 3  # of a composition, whose volumes count
LEAST_SWELLING, MOST_SWELLING = 0.6, 1.5


@dataclass(frozen=True, eq=False)
class Proposal:
    """A crystal on its way: proposed as `made`, screened, and relaxed through some rungs."""

    id: int
    source: str
    counts: Counts
    made: Atoms
    descent: Descent
    rung: int = 0
    start_energy: float = math.nan  # eV/atom
    energies: tuple[float, ...] = ()  # at the end of each rung, eV/atom

    @property
    def formula(self) -> Counts:
        """The counts of one formula unit."""
        return reduced(self.counts)


class Evaluator(Protocol):
    """What computes energies and relaxes, in this process or in several."""

    def labels(self, crystals: Sequence[Atoms], derivatives: bool = False) -> list[Label]:
        """What the potential says of each crystal; where it says nothing, an energy is NaN."""
        ...

    def advance(self, descents: Sequence[tuple[Descent, int]]) -> list[Descent]:
        """Each relaxation with so many steps more."""
        ...


def screening_work(atoms: int) -> float:
    """What an energy costs, ms of one usual core."""
    return 8.0 + 0.8 * atoms


def step_work(atoms: int) -> float:
    """What energy, forces and stress cost, ms of one usual core."""
    return 7.5 + 2.6 * atoms


@dataclass
class Search:
    """A search under way; `step` makes one round of it.

    `compositions` are the cells that each formula may have, `starts` crystals that are relaxed like
    all others, such as compounds of the metals.
    """

    system: System
    sources: Sequence[Source]
    evaluator: Evaluator
    compositions: dict[Counts, tuple[Counts, ...]]
    starts: Sequence[tuple[Counts, Atoms]] = ()
    seed: int = 0
    rounds: int = 0
    proposed: int = 0
    waiting: list[Proposal] = field(default_factory=list)
    found: list[Found] = field(default_factory=list)
    visits: Counter[Counts] = field(default_factory=Counter)
    gains: list[list[float]] = field(default_factory=lambda: [[gain] for gain in GAINS])
    # energies (eV/atom) and volumes (Å³/atom) of what was screened, by formula
    prints: dict[Counts, list[tuple[float, float]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    # energies that the surrogate gave of what was proposed, eV/atom, by formula
    guesses: dict[Counts, list[float]] = field(default_factory=lambda: defaultdict(list))
    # energies that the surrogate expects of the last proposals, the lowest by formula, eV/atom
    hopes: dict[Counts, float] = field(default_factory=dict)
    tally: Counter[str] = field(default_factory=Counter)
    # by source: ms of one usual core, and what was found, by its worth
    spent: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    paid: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    index: StructureIndex[int] = field(default_factory=StructureIndex)

    def __post_init__(self) -> None:
        self.surrogate = Surrogate(self.system.species, self.system.limits.lower)
        self.ionic = {f for f in self.compositions if balanced(f, self.system.species)}
        self.update_hull()

    def update_hull(self) -> None:
        """Take what was found into the hull, and what is expected of each composition from it and
        what waits."""
        phases = [*self.system.phases, *((f.counts, f.energy) for f in self.found if f.converged)]
        self.hull = LowerHull.of([c for c, _ in phases], [e for _, e in phases])
        left = [self.gain(rung) for rung in range(len(RUNGS))]
        expected = [(p.formula, p.descent.energy - left[p.rung]) for p in self.waiting]
        self.best: dict[Counts, float] = {}  # eV/atom
        for formula, energy in expected + [(f.formula, f.energy) for f in self.found]:
            self.best[formula] = min(energy, self.best.get(formula, math.inf))
        hosts = self.hosts()
        self.hosted = {f for f in self.compositions if reduced((0, *f[1:])) in hosts}

    def step(self) -> list[tuple[Found, Proposal]]:
        """Propose and screen crystals, then relax those that promise most by one rung.

        Returns what was found in this round, with the proposal that it was.
        """
        rng = np.random.default_rng([self.seed, self.rounds])
        self.screen(self.propose(rng))
        ranks = self.scores()
        order = sorted(self.waiting, key=lambda p: (ranks[p.id], p.id))
        begun = [p for p in order if p.rung][:ONWARD]
        chosen: list[Proposal] = []
        rest: list[Proposal] = []
        for p in begun + [p for p in order if p not in begun]:
            if len(chosen) == ADVANCED:
                rest.append(p)
            elif p.rung or not self.repeats(p, p.descent):
                chosen.append(p)
            else:
                self.tally["repeats when chosen"] += 1
        self.waiting = rest[:WAITING]
        steps = [RUNGS[p.rung + 1] - RUNGS[p.rung] for p in chosen]
        descents = [p.descent for p in chosen]
        ends = self.evaluator.advance(list(zip(descents, steps, strict=True)))
        self.learn([label for end in ends for label in end.path])
        new = [pair for p, end in zip(chosen, ends, strict=True) if (pair := self.take(p, end))]
        self.update_hull()
        self.teach(new, rng)
        self.rounds += 1
        return new

    def teach(self, new: list[tuple[Found, Proposal]], rng: np.random.Generator) -> None:
        """Have sources learn from the ternaries that were found."""
        ternary = [(f, p) for f, p in new if all(f.counts)]
        for source in self.sources:
            if isinstance(source, Learner):
                pairs = [(p.made, p.descent.atoms) for _, p in ternary]
                energies = [f.energy for f, _ in ternary]
                self.spend(source.name, source.learn(pairs, energies, self.hull, rng))

    def propose(self, rng: np.random.Generator) -> list[tuple[str, Counts, Atoms]]:
        """Crystals of this round, each with its source and its atoms."""
        potential = self.surrogate.potential
        starts = [] if self.rounds else [("compounds", c, atoms) for c, atoms in self.starts]
        factors: dict[Counts, float] = {}
        made: list[tuple[str, Counts, Atoms]] = []
        expected: list[float] = []
        for counts, source in self.targets(rng, PROPOSALS if potential else FIRST_PROPOSALS):
            formula = reduced(counts)
            if formula not in factors:
                factors[formula] = self.swelling(formula)
            h, a, b = (factors[formula] * v for v in self.system.volumes)
            self.spend(source.name, PROPOSING)
            system = self.system.with_volumes((h, a, b))
            cells = source.propose(Request(system, counts, self.found), rng)
            if cells is None:
                continue
            one = finished(cells, system, self.surrogate)
            if one is None:
                continue
            cell, energy = one
            if potential is not None:
                if any(abs(e - energy) < SAME_GUESS for e in self.guesses[formula]):
                    self.tally["repeats when proposed"] += 1
                    continue
                self.guesses[formula].append(energy)
            made.append((source.name, counts, atoms_of(cell)))
            expected.append(energy)
        if potential is not None:
            made = self.chosen(made, expected, rng)
        return starts + made

    def chosen(
        self,
        made: list[tuple[str, Counts, Atoms]],
        expected: list[float],
        rng: np.random.Generator,
    ) -> list[tuple[str, Counts, Atoms]]:
        """Those proposals that get an energy: of each source, by its share, the ones that the
        surrogate expects lowest above the hull, and some others.

        The surrogate prefers what resembles cells that it knows, so that one source would soon
        crowd out the others.
        """
        if not made:
            return made
        above = self.hull.above([c for _, c, _ in made], expected)
        hopes: dict[Counts, float] = {}
        for (_, counts, _), energy in zip(made, expected, strict=True):
            formula = reduced(counts)
            hopes[formula] = min(energy, hopes.get(formula, math.inf))
        self.hopes |= hopes
        above += np.array([self.penalty(reduced(c)) + SIZE * sum(c) for _, c, _ in made])
        kept: list[int] = []
        for source, share in zip(self.sources, self.shares(), strict=True):
            own = np.array([k for k, (name, *_) in enumerate(made) if name == source.name], int)
            order = own[above[own].argsort(kind="stable")]
            quota = max(1, round(SCREENED * share))
            best = order[: max(1, round(quota * (1 - UNRANKED)))]
            others = rng.permutation(order[len(best) :])[: quota - len(best)]
            kept += [*best.tolist(), *others.tolist()]
        return [made[k] for k in sorted(kept)]

    def penalty(self, formula: Counts) -> float:
        """What a composition pays for each time that it was looked at, and where no reason speaks
        for it, eV/atom."""
        if len(self.compositions) == 1:
            return 0.0
        reason = not formula[0] or formula in self.ionic or formula in self.hosted
        return VISIT * self.visits[formula] + (0.0 if reason else UNREASONED)

    def learn(self, labels: Sequence[Label]) -> None:
        """Have the surrogate learn from what the potential said."""
        cells = [cell_of(label.atoms, self.system.species) for label in labels]
        self.surrogate.learn(labels, cells)

    def swelling(self, formula: Counts) -> float:
        """The volume of the best cells found by that of their atoms in the classes: of the
        composition, or of all ternaries."""
        own = [f for f in self.found if f.formula == formula]
        some = sorted(own, key=lambda f: f.energy)[:BEST_VOLUMES]
        some = some or [f for f in self.found if all(f.counts)]
        ratios = [f.structure.volume / self.system.volume(f.counts) for f in some]
        return float(np.clip(np.median(ratios or [1.0]), LEAST_SWELLING, MOST_SWELLING))

    def targets(self, rng: np.random.Generator, count: int) -> list[tuple[Counts, Source]]:
        """Compositions to propose crystals of, and by which source."""
        formulas = list(self.compositions)
        weights = prior(
            formulas, [f in self.ionic for f in formulas], [f in self.hosted for f in formulas]
        )
        if len(formulas) > 1 and self.best:
            score = self.promises(formulas)
            if np.isfinite(score).any():
                greedy = np.exp(-(score - score.min()) / WARMTH)
                weights = GREEDY * greedy / greedy.sum() + (1 - GREEDY) * weights
        shares = self.shares()
        out = []
        for _ in range(count):
            cells = self.compositions[formulas[rng.choice(len(formulas), p=weights)]]
            sizes = np.array([sum(c) ** -SMALLNESS for c in cells])
            counts = cells[rng.choice(len(cells), p=sizes / sizes.sum())]
            out.append((counts, self.sources[rng.choice(len(shares), p=shares)]))
        return out

    def hosts(self) -> set[Counts]:
        """The compounds of the metals that may be on the hull or near it, as far as is known."""
        known = [formula for formula in self.best if not formula[0]]
        if not known:
            return set()
        above = self.hull.above(known, [self.best[formula] for formula in known])
        return {formula for formula, e in zip(known, above, strict=True) if e < HOST}

    def promises(self, formulas: Sequence[Counts]) -> np.ndarray:
        """How far above the hull the best of each composition may come to lie, eV/atom.

        The real potential says so of what was screened, the surrogate of what was proposed last.
        Compositions pay for what was looked at, and for their size.
        """
        energies = np.array(
            [min(self.best.get(f, math.inf), self.hopes.get(f, math.inf) + DOUBT) for f in formulas]
        )
        paid = np.array([self.penalty(f) + SIZE * sum(f) for f in formulas])
        return self.hull.above(formulas, energies) + paid

    def shares(self) -> np.ndarray:
        """The share of the proposals that each source makes: by what it found for its work."""
        rates = np.array(
            [(1 + self.paid[s.name]) / (FIRST_WORK + self.spent[s.name]) for s in self.sources]
        )
        rates = np.maximum(rates / rates.sum(), LEAST_SHARE)
        shares: np.ndarray = rates / rates.sum()
        return shares

    def spend(self, source: str, work: float) -> None:
        """Count work of a source, in milliseconds of one usual core."""
        self.spent[source] += work

    def screen(self, proposals: Sequence[tuple[str, Counts, Atoms]]) -> None:
        """Give proposals their energies; those wait that were not there before."""
        first = self.surrogate.potential is None
        crystals = [atoms for _, _, atoms in proposals]
        labels = self.evaluator.labels(crystals, derivatives=first)
        self.learn(labels)
        for (source, counts, atoms), label in zip(proposals, labels, strict=True):
            self.spend(source, (step_work if first else screening_work)(len(atoms)))
            self.tally[f"screened {source}"] += 1
            self.proposed += 1
            energy, volume = label.energy / len(atoms), atoms.get_volume() / len(atoms)
            if not math.isfinite(energy):
                continue
            formula = reduced(counts)
            if any(
                abs(e - energy) < SAME_ENERGY and abs(v / volume - 1) < SAME_VOLUME
                for e, v in self.prints[formula]
            ):
                self.tally["repeats when screened"] += 1
                continue
            self.prints[formula].append((energy, volume))
            self.waiting.append(
                Proposal(
                    self.proposed,
                    source,
                    counts,
                    atoms,
                    Descent.of(atoms, energy),
                    start_energy=energy,
                )
            )

    def gain(self, rung: int) -> float:
        """What relaxations gain from a rung to their end, eV/atom: the sum of the medians seen."""
        return float(sum(np.median(seen[-RECENT:]) for seen in self.gains[rung:]))

    def scores(self) -> dict[int, float]:
        """By what each proposal that waits is ranked: the energy above the hull that is expected
        (eV/atom), and what its composition pays for each time that it was looked at."""
        if not self.waiting:
            return {}
        above = self.hull.above(
            [p.counts for p in self.waiting], [p.descent.energy for p in self.waiting]
        )
        left = [self.gain(rung) for rung in range(len(RUNGS))]
        return {
            p.id: float(e) - left[p.rung] + self.penalty(p.formula) + SIZE * sum(p.counts)
            for p, e in zip(self.waiting, above, strict=True)
        }

    def take(self, proposal: Proposal, end: Descent) -> tuple[Found, Proposal] | None:
        """Take a proposal back that was relaxed by one rung: it waits again, is found, or is let
        go."""
        self.visits[proposal.formula] += not proposal.rung
        steps = end.steps - proposal.descent.steps
        self.spend(proposal.source, (1 + steps) * step_work(len(end.atoms)))
        self.tally["steps"] += steps
        if end.lost:
            self.tally["lost"] += 1
            return None
        self.gains[proposal.rung].append(proposal.descent.energy - end.energy)
        rung = proposal.rung + 1
        now = replace(proposal, descent=end, rung=rung, energies=(*proposal.energies, end.energy))
        if self.repeats(now, end):
            self.tally["repeats when relaxed"] += 1
            return None
        if not end.converged and rung + 1 < len(RUNGS):
            self.waiting.append(now)
            return None
        return self._found(now), now

    def _found(self, proposal: Proposal) -> Found:
        structure = reduced_cell(structure_of(proposal.descent.atoms))
        one = Found(
            proposal.id,
            proposal.source,
            proposal.counts,
            structure,
            proposal.descent.energy,
            proposal.descent.converged,
        )
        self.index.add(structure, proposal.id)
        self.found.append(one)
        self.paid[one.source] += math.exp(-self.excess(one) / WORTH)
        self.tally["found"] += 1
        return one

    def excess(self, found: Found) -> float:
        """How far a crystal lies above the hull, or, where one composition is looked at, above the
        best of it, eV/atom."""
        if len(self.compositions) > 1:
            return max(float(self.hull.above([found.counts], [found.energy])[0]), 0.0)
        return found.energy - min(f.energy for f in self.found if f.formula == found.formula)

    def repeats(self, proposal: Proposal, descent: Descent) -> bool:
        """Whether a relaxation comes to a crystal that was found before."""
        below, above = NEAR
        close = any(
            descent.energy - below < f.energy < descent.energy + above
            for f in self.found
            if f.formula == proposal.formula
        )
        return close and self.index.find(structure_of(descent.atoms)) is not None
