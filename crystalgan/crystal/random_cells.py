"""Random crystals with the symmetry of random space groups, of a given composition."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import torch

from crystalgan.crystal.cells import Cells
from crystalgan.crystal.symmetry import MOST_OPERATIONS, Symmetry
from crystalgan.crystal.wyckoff import GROUPS, SpaceGroup, WyckoffPosition, space_group

if TYPE_CHECKING:
    from collections.abc import Sequence

FILLINGS = 6  # random ways that are tried to put a composition on the sites of one group
# free parameters of a crystal, by which it gets rarer: crystals that are found have few
FREEDOM = 3.0
LENGTHS, ANGLES = 0.35, 0.2  # standard deviations of log lengths and of cosines


@dataclass(frozen=True)
class Occupation:
    """A space group, and the Wyckoff positions of each element of a composition."""

    group: SpaceGroup
    positions: tuple[tuple[WyckoffPosition, ...], ...]

    @property
    def freedom(self) -> int:
        """Free parameters of lattice and positions."""
        return self.group.lattice_freedom + sum(p.freedom for of in self.positions for p in of)


@cache
def fitting_groups(counts: tuple[int, ...]) -> tuple[int, ...]:
    """Return the space groups above P1 whose positions can hold so many atoms of each element.

    >>> len(fitting_groups((1, 1)))
    188
    """
    return tuple(number for number in GROUPS[1:] if _holds(space_group(number), counts))


def _holds(group: SpaceGroup, counts: tuple[int, ...]) -> bool:
    """Whether there is a way to fill the positions; points can be taken once."""
    points: dict[int, int] = {}
    for p in group.positions:
        if not p.freedom:
            points[p.multiplicity] = points.get(p.multiplicity, 0) + 1
    sizes = sorted(points)
    others = sorted({p.multiplicity for p in group.positions if p.freedom})

    @cache
    def fill(left: tuple[int, ...], free: tuple[int, ...]) -> bool:
        if not any(left):
            return True
        k = next(k for k, n in enumerate(left) if n)
        for size in others:
            if size <= left[k] and fill((*left[:k], left[k] - size, *left[k + 1 :]), free):
                return True
        for s, size in enumerate(sizes):
            if free[s] and size <= left[k]:
                rest = (*free[:s], free[s] - 1, *free[s + 1 :])
                if fill((*left[:k], left[k] - size, *left[k + 1 :]), rest):
                    return True
        return False

    return fill(counts, tuple(points[size] for size in sizes))


def random_occupation(counts: tuple[int, ...], rng: np.random.Generator) -> Occupation | None:
    """Draw a space group and positions for so many atoms of each element; None where that failed.

    Those with fewer free parameters are drawn more often.
    """
    groups = fitting_groups(counts)
    if not groups:
        return None
    group = space_group(groups[rng.integers(len(groups))])
    for _ in range(FILLINGS):
        drawn = _filled(group, counts, rng)
        if drawn and rng.random() < math.exp((4 - drawn.freedom) / FREEDOM):
            return drawn
    return None


def _filled(
    group: SpaceGroup, counts: tuple[int, ...], rng: np.random.Generator
) -> Occupation | None:
    taken: set[int] = set()
    out: list[tuple[WyckoffPosition, ...]] = [()] * len(counts)
    for element in rng.permutation(len(counts)):
        left, chosen = counts[element], []
        while left:
            fitting = [
                k
                for k, p in enumerate(group.positions)
                if p.multiplicity <= left and (p.freedom or k not in taken)
            ]
            if not fitting:
                return None
            k = fitting[rng.integers(len(fitting))]
            taken.add(k)
            chosen.append(group.positions[k])
            left -= group.positions[k].multiplicity
        out[element] = tuple(chosen)
    return Occupation(group, tuple(out))


def random_cells(
    occupation: Occupation,
    species: tuple[str, ...],
    volume: float,
    count: int,
    rng: np.random.Generator,
    length: int = 0,
) -> Cells:
    """Cells `[count]` of a volume (Å³) with the symmetry and positions of an occupation.

    Lattice parameters and free coordinates are random. Slots are of `length` rows, or as many as
    they need.
    """
    group, slots = occupation.group, len(species)
    n_ops = len(group.rotations)
    rows = max(3, length, *(sum(p.multiplicity for p in of) for of in occupation.positions))
    frac = np.zeros((count, slots, rows, 3))
    mask = np.zeros((slots, rows), bool)
    image = np.tile(np.arange(slots * rows, dtype=np.int16), (MOST_OPERATIONS, 1))
    for slot, positions in enumerate(occupation.positions):
        first = 0
        for p in positions:
            points = p.point + rng.random((count, 3)) @ p.free.T
            atoms, onto = group.orbit(points, p)
            there = slice(first, first + p.multiplicity)
            frac[:, slot, there], mask[slot, there] = atoms, True
            image[:n_ops, slot * rows + first : slot * rows + first + p.multiplicity] = (
                onto + slot * rows + first
            )
            first += p.multiplicity
    lattice = _lattices(group, volume, count, rng)
    rotation = np.tile(np.eye(3, dtype=np.float32), (MOST_OPERATIONS, 1, 1))
    rotation[:n_ops] = group.rotations
    frac -= np.floor(frac)
    cells = [torch.from_numpy(x) for x in (lattice, frac * mask[..., None])]
    symmetry = Symmetry(
        torch.from_numpy(rotation).repeat(count, 1, 1, 1),
        torch.from_numpy(image).repeat(count, 1, 1),
        torch.full((count,), n_ops),
        cells[0],
    )
    return Cells(*cells, torch.from_numpy(mask).repeat(count, 1, 1), species, symmetry)


def _lattices(
    group: SpaceGroup, volume: float, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Random lattices `[count, 3, 3]` of the group's crystal system, a along x, b in the xy plane."""
    lengths = np.exp(LENGTHS * rng.standard_normal((count, 3)))
    cosines = np.clip(ANGLES * rng.standard_normal((count, 3)), -0.5, 0.5)
    angles = np.ones((count, 3, 3))
    for k, (i, j) in enumerate(((0, 1), (0, 2), (1, 2))):
        angles[:, i, j] = angles[:, j, i] = cosines[:, k]
    metric = angles * lengths[:, :, None] * lengths[:, None]
    turns = group.conventional
    metric = np.einsum("gki,nkl,glj->nij", turns, metric, turns, optimize=True) / len(turns)
    metric = group.basis @ metric @ group.basis.T
    lattice = np.linalg.cholesky(metric)
    return lattice * np.cbrt(volume / np.linalg.det(lattice))[:, None, None]
