"""Differentiable first-neighbour distances in periodic crystals; rules and verdicts on them.

The nearest image is searched without gradients, exactly (`crystalgan.kernels`); the distance to it has a gradient, which is
all that the derivative of a minimum needs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from crystalgan import InputError
from crystalgan.rules import Broken, Rule, Verdict, pair_name
from crystalgan.symmetry import no_symmetry

if TYPE_CHECKING:
    import numpy as np

    from crystalgan.cells import Cells
    from crystalgan.symmetry import Symmetry

SHORTEST_SHARED = 1.5  # Å; closer atoms of the shared element are a molecule, of which nothing is learned
POSITION_STEP, STRAIN_STEP = 0.25, 0.1  # of `refine`: Å and strain for each Å² of the loss
GROWTH = 0.05  # what is left of a strain's change of volume: a cell that may grow keeps the limits so, and holds voids
PACKING, PACKING_GROWTH = 60, 0.02  # steps of `pack`, and what it leaves of a change of volume
LEAST_VOLUME = 0.01  # of the usual one: a cell flatter than that is not blown up to it
NEAR_USUAL = 0.97  # of the usual distance: no first neighbour is nearer in a cell that is packed well


@dataclass(frozen=True)
class Neighbours:
    """Nearest neighbours of atoms, one row each. Atoms are numbered through the batch, cell by cell, slot by slot.

    A row says: of all atoms of the group asked for (its own images included), `other`, shifted by `shift` lattice vectors, is the
    nearest to `center`.
    """

    center: Tensor  # [rows], atom
    other: Tensor  # [rows], atom
    shift: Tensor  # [rows, 3], whole lattice vectors added to `other`
    cell: Tensor  # [rows]
    center_slot: Tensor  # [rows]
    other_slot: Tensor  # [rows]
    distance: Tensor  # [rows], Å, differentiable through lattice and positions


def first_neighbours(cells: Cells, cross: bool = True) -> Neighbours:
    """The nearest neighbours that rules and losses ask about, for cells with one leading axis.

    For every atom of the shared element the nearest of its kind; for every metal atom the nearest metal, whichever it is; and
    with `cross` for every atom of the shared element the nearest metal (no row in a cell without metal).
    """
    from crystalgan import kernels

    lattice, frac, mask = (x.detach().contiguous().numpy() for x in (cells.lattice, cells.frac, cells.mask))
    rows, shifts = kernels.first_neighbours(lattice, frac, mask, cross)
    distance = distances_of(cells.features, rows, shifts, mask.shape[-1])
    cell, center, center_slot, _, other, other_slot, _ = torch.from_numpy(rows).T.contiguous().unbind()
    return Neighbours(center, other, torch.from_numpy(shifts), cell, center_slot, other_slot, distance)


def distances_of(features: Tensor, rows: np.ndarray, shifts: np.ndarray, length: int) -> Tensor:
    """Distances `[rows]` (Å) of rows as `kernels.first_neighbours` gives them, differentiable through `[cells, features]`."""
    distances: Tensor = _Distances.apply(features, rows, shifts, length)
    return distances


class _Distances(torch.autograd.Function):
    """Distances of the rows of `kernels.first_neighbours`, differentiable through the features of the cells."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, rows: np.ndarray, shifts: np.ndarray, length: int) -> Tensor:  # noqa: ANN401
        from crystalgan import kernels

        ctx.save_for_backward(features)
        ctx.rest = (rows, shifts, length)
        return torch.from_numpy(kernels.distances(features.detach().contiguous().numpy(), rows, shifts, length)).to(
            features.dtype
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:  # noqa: ANN401
        from crystalgan import kernels

        features = ctx.saved_tensors[0].contiguous().numpy()
        return (
            torch.from_numpy(kernels.distances_backward(features, *ctx.rest, grad.double().contiguous().numpy())),
            None,
            None,
            None,
        )


@dataclass(frozen=True)
class Limits:
    """A rule's limits for the slots of some cells, as tensors `[slots, slots]`; -inf and inf where nothing is asked."""

    lower: Tensor  # Å
    upper: Tensor  # Å

    @property
    def cross(self) -> bool:
        """Whether anything is asked of the shared element and a metal."""
        return bool((self.lower[0, 1:].isfinite() | self.upper[0, 1:].isfinite()).any())

    def of(self, near: Neighbours) -> tuple[Tensor, Tensor]:
        """Lower and upper limit of each row, Å."""
        return self.lower[near.center_slot, near.other_slot], self.upper[near.center_slot, near.other_slot]

    def excess(self, near: Neighbours, margin: float) -> tuple[Tensor, Tensor, Tensor]:
        """How far each row is too short and too long, Å and zero inside, and whether the rule asks about it.

        Both limits are drawn in by `margin` (Å), at most by a quarter of the interval.
        """
        lower, upper = self.of(near)
        inset = ((upper - lower) / 4).clamp_max(margin)
        judged = lower.isfinite() | upper.isfinite()
        return (lower + inset - near.distance).relu(), (near.distance - upper + inset).relu(), judged


def learned_rule(a: Cells, b: Cells, shortest_shared: float = SHORTEST_SHARED) -> Rule:
    """Limits for each pair from the two classes' own first-neighbour distances.

    Lower: 0.95 times the 5th percentile; upper: 1.05 times the 95th; A-B: means of those of A-A and B-B; the shared element with
    itself has a lower limit only. Cells with two shared atoms closer than `shortest_shared` (Å) teach nothing.
    """
    (of_a, shared_a), (of_b, shared_b) = (_class_limits(cells, shortest_shared) for cells in (a, b))
    (metal_a, metal_b), shared = (a.species[1], b.species[1]), a.species[0]
    ends = zip(of_a[pair_name(metal_a, metal_a)], of_b[pair_name(metal_b, metal_b)], strict=True)
    low, high = ((x + y) / 2 for x, y in ends)
    limits = of_a | of_b | {pair_name(metal_a, metal_b): (low, high)}
    limits[pair_name(shared, shared)] = (0.95 * float(torch.cat((shared_a, shared_b)).quantile(0.05)), math.inf)
    return Rule("learned", limits)


def class_limits(cells: Cells, shortest_shared: float = SHORTEST_SHARED) -> dict[str, tuple[float, float]]:
    """The limits that one class teaches by itself, Å: shared-shared, metal-shared and metal-metal, as in `learned_rule`."""
    limits, of_shared = _class_limits(cells, shortest_shared)
    low = 0.95 * float(of_shared.quantile(0.05)) if len(of_shared) else 0.0
    return limits | {pair_name(cells.species[0], cells.species[0]): (low, math.inf)}


def _class_limits(cells: Cells, shortest_shared: float) -> tuple[dict[str, tuple[float, float]], Tensor]:
    """Limits of the pairs with the metal, and the shared element's distances to itself."""
    near = first_neighbours(cells.to(torch.float64))
    same = (near.center_slot == 0) & (near.other_slot == 0)
    molecular = torch.zeros(len(cells), dtype=torch.bool)
    molecular[near.cell[same & (near.distance < shortest_shared)]] = True
    sane = ~molecular[near.cell]
    shared, metal = cells.species
    if not sane.any():
        raise InputError(
            f"Every cell of {metal}-{shared} has {shared} atoms closer than {shortest_shared} Å: no limits can be learned; "
            "use the rule paper or a table of your own."
        )
    limits = {}
    for symbol, slot in ((metal, 1), (shared, 0)):
        chosen = near.distance[sane & (near.center_slot == slot) & (near.other_slot == 1)]
        low, high = chosen.quantile(torch.tensor([0.05, 0.95], dtype=chosen.dtype)).tolist()
        limits[pair_name(symbol, metal)] = (0.95 * low, 1.05 * high)
    return limits, near.distance[sane & same]


def distances_by_pair(cells: Cells) -> dict[str, list[float]]:
    """First-neighbour distances of all cells, Å, by pair of elements."""
    near = first_neighbours(cells.to(torch.float64))
    found: dict[str, list[float]] = {}
    for center, other, distance in zip(near.center_slot.tolist(), near.other_slot.tolist(), near.distance.tolist(), strict=True):
        found.setdefault(pair_name(cells.species[center], cells.species[other]), []).append(distance)
    return found


def keeps(cells: Cells, limits: Limits) -> Tensor:
    """Whether each cell (one leading axis) keeps the limits, `[cells]`; a verdict without its reasons."""
    with torch.no_grad():
        near = first_neighbours(cells)
        lower, upper = limits.of(near)
        outside = ~((near.distance >= lower) & (near.distance <= upper))
        return cells.features.isfinite().all(-1).index_fill(0, near.cell[outside], value=False)


def judge(cells: Cells, rule: Rule) -> list[Verdict]:
    """The verdict of `rule` on each cell (one leading axis), in double precision."""
    cells = cells.to(torch.float64)
    near = first_neighbours(cells)
    lower, upper = rule.for_slots(cells.species, torch.float64).of(near)
    first_atom = torch.cat((torch.zeros(1, dtype=torch.long), cells.mask.sum((1, 2)).cumsum(0)[:-1]))[near.cell]
    columns = (near.cell, near.center - first_atom, near.other - first_atom, near.center_slot, near.other_slot)
    broken: list[list[Broken]] = [[] for _ in range(len(cells))]
    shortest: list[dict[str, float]] = [{} for _ in range(len(cells))]
    rows = zip(*(c.tolist() for c in columns), near.distance.tolist(), lower.tolist(), upper.tolist(), strict=True)
    for cell, atom, other, slot, other_slot, distance, low, high in rows:
        pair = pair_name(cells.species[slot], cells.species[other_slot])
        shortest[cell][pair] = min(distance, shortest[cell].get(pair, math.inf))
        if not low <= distance <= high:
            broken[cell].append(Broken(pair, atom, other, distance, low if distance < low else high))
    finite = cells.features.isfinite().all(-1).tolist()  # else no distance is found, and none is broken
    return [Verdict(rule.name, f and not b, tuple(b), s) for f, b, s in zip(finite, broken, shortest, strict=True)]


def refine(cells: Cells, limits: Limits, steps: int, margin: float) -> Cells:
    """Gradient steps of positions and lattice down the sum of squares that break the limits; cells that break none stay.

    One leading axis; `margin` (Å) is drawn in as in `Limits.excess`. Steps are Cartesian displacements and strains, so they mean
    the same in every basis. They keep the symmetry of cells that have one to follow; a cell that breaks limits after all of them
    takes as many without it.
    """
    features = cells.features.detach().double().contiguous().clone()
    inset = ((limits.upper - limits.lower) / 4).clamp_max(margin)
    inside = Limits(limits.lower + inset, limits.upper - inset)
    for symmetry in (cells.symmetry, no_symmetry(cells)):
        if symmetry:
            _descend(features, cells, symmetry, inside, limits.cross, steps, GROWTH)
    return cells.with_features(features.to(cells.lattice.dtype))


def pack(cells: Cells, limits: Limits, usual: Tensor, margin: float) -> Cells:
    """Cells at their usual volume, and gradient steps there that take first neighbours to nearly their usual distance.

    `usual` as `pools.usual_of`: prior knowledge of what the classes' atoms take up, also where the limits ask nothing. A
    cell that `refine` has to mend from where a generator left it ends with many distances at the very limit, and voids beside.
    One leading axis. Symmetry is kept.
    """
    volumes = torch.linalg.det(cells.lattice).abs() / (cells.mask.sum(-1) * usual[-1].to(cells.lattice.dtype)).sum(-1)
    volumes = volumes.clamp_min(LEAST_VOLUME)
    features = replace(cells, lattice=cells.lattice / volumes.pow(1 / 3)[:, None, None]).features.detach().double().contiguous()
    upper = limits.upper.double()
    lower = (NEAR_USUAL * usual[:-1].double()).maximum(limits.lower.double()).minimum(upper - margin)
    symmetry = cells.symmetry or no_symmetry(cells)
    _descend(features, cells, symmetry, Limits(lower, upper), True, PACKING, PACKING_GROWTH)
    return cells.with_features(features.to(cells.lattice.dtype))


def _descend(features: Tensor, cells: Cells, symmetry: Symmetry, ends: Limits, cross: bool, steps: int, growth: float) -> None:
    from crystalgan.symmetry_kernels import descend

    operations = (t.contiguous().numpy() for t in (symmetry.rotation, symmetry.image, symmetry.count))
    between = (ends.lower.double().numpy(), ends.upper.double().numpy())
    mask = cells.mask.contiguous().numpy()
    descend(features.numpy(), mask, *between, cross, *operations, steps, POSITION_STEP, STRAIN_STEP, growth)
