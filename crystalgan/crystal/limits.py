"""Limits of first-neighbour distances as tensors, and the rule learned from two classes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from crystalgan.crystal.distances import Neighbours, first_neighbours
from crystalgan.crystal.rules import Rule, pair_name
from crystalgan.errors import InputError

if TYPE_CHECKING:
    from crystalgan.crystal.cells import Cells

# Å; closer atoms of the shared element are a molecule, from which nothing is learned
SHORTEST_SHARED = 1.5


@dataclass(frozen=True)
class Limits:
    """A rule's limits `[slots, slots]` (Å); -inf and inf where it asks nothing."""

    lower: Tensor  # Å
    upper: Tensor  # Å

    @property
    def cross(self) -> bool:
        """Whether anything is asked of the shared element and a metal."""
        return bool((self.lower[0, 1:].isfinite() | self.upper[0, 1:].isfinite()).any())

    def of(self, near: Neighbours) -> tuple[Tensor, Tensor]:
        """Lower and upper limit of each row, Å."""
        return (
            self.lower[near.center_slot, near.other_slot],
            self.upper[near.center_slot, near.other_slot],
        )

    def excess(self, near: Neighbours, margin: float) -> tuple[Tensor, Tensor, Tensor]:
        """By how much each row is too short and too long (Å), and whether the rule asks about it.

        Both are zero inside. Both limits are drawn in by `margin` (Å), at most by a quarter of the
        interval.
        """
        lower, upper = self.of(near)
        inset = ((upper - lower) / 4).clamp_max(margin)
        asked = lower.isfinite() | upper.isfinite()
        return (
            (lower + inset - near.distance).relu(),
            (near.distance - upper + inset).relu(),
            asked,
        )


def limits_of(rule: Rule, species: tuple[str, ...], dtype: torch.dtype = torch.float32) -> Limits:
    """The limits of a rule as tensors for cells with these slots."""
    none = (-math.inf, math.inf)
    table = [[rule.limits.get(pair_name(a, b), none) for b in species] for a in species]
    both = torch.tensor(table, dtype=dtype)
    return Limits(both[..., 0], both[..., 1])


def learned_rule(a: Cells, b: Cells, shortest_shared: float = SHORTEST_SHARED) -> Rule:
    """The rule learned from the first-neighbour distances of two classes.

    Lower: 0.95 times the 5th percentile; upper: 1.05 times the 95th; A-B: means of those of A-A and
    B-B; the shared element with itself has a lower limit only. Cells with two shared atoms closer
    than `shortest_shared` (Å) teach nothing.
    """
    (of_a, shared_a), (of_b, shared_b) = (_class_limits(cells, shortest_shared) for cells in (a, b))
    (metal_a, metal_b), shared = (a.species[1], b.species[1]), a.species[0]
    ends = zip(of_a[pair_name(metal_a, metal_a)], of_b[pair_name(metal_b, metal_b)], strict=True)
    low, high = ((x + y) / 2 for x, y in ends)
    limits = of_a | of_b | {pair_name(metal_a, metal_b): (low, high)}
    limits[pair_name(shared, shared)] = (
        0.95 * float(torch.cat((shared_a, shared_b)).quantile(0.05)),
        math.inf,
    )
    return Rule("learned", limits)


def with_learned_limits(rule: Rule, a: Cells, b: Cells) -> Rule:
    """A rule with the limits that two classes teach (`learned_rule`) for pairs that it says nothing
    of."""
    shared, metals = a.species[0], (a.species[1], b.species[1])
    pairs = {pair_name(x, y) for x in (shared, *metals) for y in (shared, *metals)}
    if pairs <= rule.limits.keys():
        return rule
    return replace(rule, limits=learned_rule(a, b).limits | rule.limits)


def class_limits(
    cells: Cells, shortest_shared: float = SHORTEST_SHARED
) -> dict[str, tuple[float, float]]:
    """Limits (Å) learned from one class: shared-shared, metal-shared and metal-metal pairs.

    Percentiles as in `learned_rule`.
    """
    limits, of_shared = _class_limits(cells, shortest_shared)
    low = 0.95 * float(of_shared.quantile(0.05)) if len(of_shared) else 0.0
    return limits | {pair_name(cells.species[0], cells.species[0]): (low, math.inf)}


def _class_limits(
    cells: Cells, shortest_shared: float
) -> tuple[dict[str, tuple[float, float]], Tensor]:
    """Limits of the pairs with the metal, and the shared element's distances to itself."""
    near = first_neighbours(cells.to(torch.float64))
    same = (near.center_slot == 0) & (near.other_slot == 0)
    molecular = torch.zeros(len(cells), dtype=torch.bool)
    molecular[near.cell[same & (near.distance < shortest_shared)]] = True
    sane = ~molecular[near.cell]
    shared, metal = cells.species
    if not sane.any():
        raise InputError(
            f"Every cell of {metal}-{shared} has {shared} atoms closer than {shortest_shared} Å: no"
            " limits can be learned; use the rule paper or a table of your own."
        )
    limits = {}
    for symbol, slot in ((metal, 1), (shared, 0)):
        chosen = near.distance[sane & (near.center_slot == slot) & (near.other_slot == 1)]
        low, high = chosen.quantile(torch.tensor([0.05, 0.95], dtype=chosen.dtype)).tolist()
        limits[pair_name(symbol, metal)] = (0.95 * low, 1.05 * high)
    return limits, near.distance[sane & same]
