"""`Model`: what was learned of one A-B-H system, as a value that samples new cells.

It knows of no folder: `crystalgan.runs.loading.load_model` reads a run into one, and a study that
needs other parents or other settings takes `Model.with_classes` or `dataclasses.replace`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from crystalgan.config import mixed
from crystalgan.crystal.cells import Cells
from crystalgan.crystal.limits import Limits, limits_of, with_learned_limits
from crystalgan.crystal.repair import repair, rescale, satisfies
from crystalgan.errors import InputError
from crystalgan.model import methods
from crystalgan.model.batches import noise, pair_order, perturb, shuffled, union
from crystalgan.model.methods import METHODS, Networks, Stage
from crystalgan.model.reference import reference_of
from crystalgan.model.transfer import (
    Host,
    Incoming,
    Parents,
    fitted_transfer,
    order_rng,
    paper_transfer,
)

if TYPE_CHECKING:
    from crystalgan.config import Config
    from crystalgan.crystal.rules import Rule
    from crystalgan.model.pair_potential import PairPotential

Part = Literal["metal", "all"]

BLOCK = 250  # cells that are drawn together, with random numbers of their own
BREAKING = 1e6  # eV/atom, for a cell that breaks its rule: any that keeps it is better


@dataclass(frozen=True)
class Batch:
    """New cells, the rows of the classes that they come from, and whether each kept the rule before
    `repair`."""

    cells: Cells  # [n], float64
    parent_a: list[int]  # -1: none
    parent_b: list[int]
    raw: list[bool]


@dataclass(frozen=True, repr=False)
class Model:
    """Classes, rule, networks and pair potential of one A-B-H system.

    `parents` are the cells of `classes` in float32, padded to one length, with their symmetry where
    the settings follow it. `networks` are those of the steps that are trained so far; `potential`
    is None where the settings ask for none.
    """

    config: Config
    rule: Rule  # that the run was trained towards
    classes: tuple[Cells, Cells]  # canonical cells, float64, slots (shared, metal)
    parents: tuple[Parents, Parents]
    networks: tuple[Networks, ...] = ()
    potential: PairPotential | None = None

    @classmethod
    def of(cls, config: Config, rule: Rule, a: Cells, b: Cells, length: int = 0) -> Model:
        """The model of two classes before any training; `length` is the least number of rows."""
        length = max(length, a.mask.shape[-1], b.mask.shape[-1])
        follows = config.symmetry and (config.residual or config.generator == "graph")
        of_a, of_b = (Parents.of(cells.padded(length), follows) for cells in (a, b))
        parents = [replace(p, cells=p.cells.to(torch.float32)) for p in (of_a, of_b)]
        return cls(config, rule, (a, b), (parents[0], parents[1]))

    def with_classes(self, a: Cells, b: Cells) -> Model:
        """The same networks, rule and pair potential with other parents of the same elements.

        InputError for a perceptron where a parent has more atoms of an element than those that it
        was trained on.
        """
        length = self.length if self.config.generator == "mlp" else 0
        other = Model.of(self.config, self.rule, a, b, length)
        if length and other.length > length:
            raise InputError(
                f"A perceptron takes cells of at most {length} atoms of one element, not"
                f" {other.length}; train with generator=graph."
            )
        return replace(self, classes=other.classes, parents=other.parents)

    def __repr__(self) -> str:
        a, b = self.classes
        known = ", pair potential" if self.potential else ""
        return (
            f"Model({a.species[1]}-{b.species[1]}-{a.species[0]}, {self.config.method},"
            f" {len(a)} + {len(b)} parents, {len(self.networks)} of {len(self.stages)} steps"
            f" trained{known})"
        )

    @property
    def species(self) -> tuple[str, str, str]:
        """Shared element, metal A, metal B: the slots of step 2."""
        a, b = self.classes
        return a.species[0], a.species[1], b.species[1]

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The steps of the method."""
        return METHODS[self.config.method]

    @property
    def length(self) -> int:
        """Rows of a slot of the parents."""
        return self.parents[0].cells.mask.shape[-1]

    @cached_property
    def limits(self) -> Limits:
        """The limits of the rule, float64."""
        return limits_of(self.rule, self.species, torch.float64)

    @cached_property
    def full_rule(self) -> Rule:
        """The rule, with the limits that both classes teach for pairs that it says nothing of."""
        return with_learned_limits(self.rule, *self.classes)

    @cached_property
    def reference(self) -> Tensor:
        """Reference lengths and volumes, see `reference_of`."""
        return reference_of(*(p.cells for p in self.parents))

    def draw(self, block: int, seed: int, best_of: int | None = None, size: int = BLOCK) -> Batch:
        """Block `block` of the cells of a seed, the same whatever else is drawn; `best_of` as for
        `sample`."""
        rng = torch.Generator().manual_seed(mixed(seed * 1_000_003 + block))
        return self.sample(*self.pairs(block, seed, size), rng, best_of)

    def pairs(self, block: int, seed: int, size: int = BLOCK) -> tuple[Tensor, Tensor]:
        """Pairs of parents of one block, `[size, 2]`, and which of them the generator from A to B
        translates, `[size]`.

        Every pair comes once in an order that the seed shuffles, before any comes again, then by
        the other generator. A pair of -1 is none: a standard GAN starts from noise.
        """
        if self.stages[-1].domains == "noise":
            return torch.full((size, 2), -1), torch.ones(size, dtype=torch.bool)
        rng = torch.Generator().manual_seed(seed)
        a, b = self.classes
        order = pair_order(len(a), len(b), rng)
        numbers = torch.arange(block * size, (block + 1) * size)
        to_b = (numbers + numbers // len(order)) % 2 == 0
        return order[numbers % len(order)], to_b

    @torch.no_grad()
    def sample(
        self,
        pairs: Tensor,
        to_b: Tensor,
        rng: torch.Generator,
        best_of: int | None = None,
        incoming: Part | None = None,
    ) -> Batch:
        """New cells, one of each pair of parents: rows of both classes `[n, 2]`.

        The generator from A to B translates those that are `to_b` `[n]`, the other one the rest.
        Each cell is the one of lowest energy among `best_of`, if the model has a pair potential;
        `incoming` ("metal" or "all") is what a fitted transfer takes of the second parent. Both are
        the settings' where they are None. InputError where a step is not trained yet.
        """
        tries = (best_of or self.config.best_of) if self.potential else 1
        cells = self._translated(
            pairs.repeat_interleave(tries, 0), to_b.repeat_interleave(tries), rng, incoming
        ).to(torch.float64)
        satisfied = satisfies(cells, self.limits)
        cells = self.finish(cells)
        if tries > 1:
            best = self._lowest_in_energy(cells, tries)
            cells, satisfied = cells[best], satisfied[best]
        parent_a, parent_b = pairs.T.tolist()
        return Batch(cells, parent_a, parent_b, satisfied.tolist())

    def finish(self, cells: Cells) -> Cells:
        """Generated cells `[n]` (float64) after rescaling, prerelaxation and repair, as far as
        method and settings ask for them."""
        if not self.stages[-1].constrained:
            return cells
        config, limits = self.config, self.limits
        if config.prerelax and self.potential:
            cells = rescale(cells, limits, self.reference, config.margin)
            cells = self.potential.prerelaxed(cells, config.prerelax)
        return repair(cells, limits, config.repair, config.margin) if config.repair else cells

    def transferred(
        self, pairs: Tensor, origins: Tensor, to_b: Tensor, incoming: Part | None = None
    ) -> tuple[Cells, Cells]:
        """Transferred cells AHB_g of the pairs `[n, 2]` that are `to_b`, and BHA_g of the others,
        after step 1.

        `origins` `[n, k, 3]` are random fractional shifts that a fitted transfer chooses from;
        `incoming` as for `sample`.
        """
        (a, b), nets, (i, j) = self.parents, self._trained(1), pairs.T
        in_b, in_a = methods.one_way(nets, a.cells[i], 0), methods.one_way(nets, b.cells[j], 1)
        return (
            self._put((in_b, in_a), (a, b), pairs, 2, to_b, origins, incoming),
            self._put((in_a, in_b), (b, a), pairs.flip(1), 1, ~to_b, origins, incoming),
        )

    def _put(
        self,
        binaries: tuple[Cells, Cells],
        classes: tuple[Parents, Parents],
        rows: Tensor,
        slot: int,
        chosen: Tensor,
        origins: Tensor,
        incoming: Part | None,
    ) -> Cells:
        """Sublattices of the second of `binaries` put into the first, of the `chosen` ones; `rows`
        `[n, 2]` are of their parents in `classes`."""
        (host, other), rows = (cells[chosen] for cells in binaries), rows[chosen]
        hosts = Host.of(host, classes[0], rows[:, 0], slot, self.species)
        others = Incoming.of(other, classes[1], rows[:, 1], incoming or self.config.incoming)
        if self.config.transfer == "paper":
            return paper_transfer(hosts, others)
        limits, shifts = limits_of(self.full_rule, self.species), origins[chosen]
        return fitted_transfer(hosts, others, limits, shifts, order_rng(shifts))

    def _translated(
        self, pairs: Tensor, to_b: Tensor, rng: torch.Generator, incoming: Part | None
    ) -> Cells:
        """What the generators of the last step make of these pairs."""
        kind = self.stages[-1].domains
        if kind == "noise":
            return self._from_noise(len(pairs), rng)
        return (
            self._pseudo_binaries(pairs, to_b)
            if kind == "binary"
            else self._ternaries(pairs, to_b, rng, incoming)
        )

    def _ternaries(
        self, pairs: Tensor, to_b: Tensor, rng: torch.Generator, incoming: Part | None
    ) -> Cells:
        origins = torch.rand(len(pairs), self.config.origins, 3, generator=rng)
        nets = self._trained(2)
        starts = [
            perturb(start[None], self.config.noise, [rng])[0]
            for start in self.transferred(pairs, origins, to_b, incoming)
        ]
        return _interleaved(to_b, *(methods.one_way(nets, x, k) for k, x in enumerate(starts)))

    def _pseudo_binaries(self, pairs: Tensor, to_b: Tensor) -> Cells:
        """Cells of step 1, each with the metal of the domain that it was translated into."""
        (a, b), nets = (p.cells for p in self.parents), self._trained(1)
        in_b = replace(methods.one_way(nets, a[pairs[to_b, 0]], 0), species=b.species)
        in_a = replace(methods.one_way(nets, b[pairs[~to_b, 1]], 1), species=a.species)
        return _interleaved(to_b, union(a[:0], in_b), union(in_a, b[:0]))

    def _from_noise(self, count: int, rng: torch.Generator) -> Cells:
        both = union(*(p.cells for p in self.parents))
        start = noise(both[shuffled(len(both), count, rng)][None], [rng])
        return methods.forward(self._trained(1), Cells.stack([start], 1)).b[0]

    def _lowest_in_energy(self, cells: Cells, tries: int) -> Tensor:
        """The row of the lowest energy per atom of each `tries` in turn; cells that break the
        limits come last."""
        assert self.potential
        broken = (~satisfies(cells, self.limits)).double()
        order = self.potential(cells) / cells.mask.sum((-2, -1)) + broken * BREAKING
        return order.view(-1, tries).argmin(-1) + torch.arange(len(cells) // tries) * tries

    def _trained(self, step: int) -> Networks:
        if len(self.networks) < step:
            raise InputError(f"Step {step} of this model is not trained yet.")
        return self.networks[step - 1]


def _interleaved(to_b: Tensor, b: Cells, a: Cells) -> Cells:
    """The cells of `b` where `to_b`, and those of `a` elsewhere, each in their order."""
    order = torch.cat((to_b.nonzero(), (~to_b).nonzero())).squeeze(-1).argsort()
    return Cells.cat((b, a))[order]
