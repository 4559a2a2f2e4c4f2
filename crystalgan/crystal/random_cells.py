"""Random crystals with the symmetry of random space groups, of a given composition."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch

from crystalgan.crystal.cells import Cells
from crystalgan.crystal.symmetry import MOST_OPERATIONS, Symmetry
from crystalgan.crystal.wyckoff import GROUPS, SpaceGroup, WyckoffPosition, space_group
from crystalgan.resources import resource

if TYPE_CHECKING:
    from collections.abc import Sequence

# free parameters by which an occupation gets rarer by a factor e: crystals that are found have few
FREEDOM = 2.5
GROUP_DRAWS = 40  # groups that are drawn before a composition is given up for this time
TYPE_WEIGHT = 5.0  # of a structure type, where a cubic group has 3
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

    @property
    def key(self) -> str:
        """The number of the group and of the positions of each element."""
        names = [[self.group.positions.index(p) for p in of] for of in self.positions]
        return f"{self.group.number} {names}"


class Fillings:
    """All ways to put so many atoms of each element on the Wyckoff positions of a group.

    A way with f free parameters has the weight exp(-f / FREEDOM). A point is taken at most once,
    other positions as often as there are atoms. `tables[k]` `[n + 1 for each element]` are the
    summed weights of what the positions from the k-th on can hold.
    """

    def __init__(self, group: SpaceGroup, counts: tuple[int, ...]) -> None:
        self.group, self.counts = group, counts
        table = np.zeros([n + 1 for n in counts])
        table[(0,) * len(counts)] = 1.0
        self.tables = [table]
        for p in reversed(group.positions):
            self.tables.insert(0, self._with(p, self.tables[0]))

    def _with(self, p: WyckoffPosition, rest: np.ndarray) -> np.ndarray:
        """The table with one more position."""
        out = rest.copy()
        for axis, most in enumerate(self.counts):
            to, source = out.swapaxes(0, axis), rest.swapaxes(0, axis)
            if not p.freedom:
                to[p.multiplicity :] += source[: max(0, most + 1 - p.multiplicity)]
                continue
            weight = math.exp(-p.freedom / FREEDOM)
            for n in range(p.multiplicity, most + 1):
                to[n] += weight * to[n - p.multiplicity]
        return out

    @property
    def weight(self) -> float:
        """The sum over all ways; 0 where there is none."""
        return float(self.tables[0][self.counts])

    def draw(self, rng: np.random.Generator) -> Occupation:
        """One of the ways by its weight; there must be one."""
        left = list(self.counts)
        chosen: list[list[WyckoffPosition]] = [[] for _ in left]
        for p, rest in zip(self.group.positions, self.tables[1:], strict=True):
            if not any(left):
                break
            for element, times in enumerate(self._taken(p, rest, left, rng)):
                chosen[element] += times * [p]
                left[element] -= times * p.multiplicity
        return Occupation(self.group, tuple(map(tuple, chosen)))

    def _taken(
        self, p: WyckoffPosition, rest: np.ndarray, left: Sequence[int], rng: np.random.Generator
    ) -> tuple[int, ...]:
        """How many orbits of each element are on a position."""
        most = [n // p.multiplicity for n in left]
        if p.freedom:
            ways = list(itertools.product(*(range(n + 1) for n in most)))
        else:
            ways = [(0,) * len(left)]
            ways += [tuple(int(k == e) for k in range(len(left))) for e, n in enumerate(most) if n]
        weights = np.array(
            [
                math.exp(-p.freedom * sum(way) / FREEDOM)
                * rest[tuple(n - k * p.multiplicity for n, k in zip(left, way, strict=True))]
                for way in ways
            ]
        )
        if len(ways) == 1:
            return ways[0]
        # a tenth of the time of rng.choice
        total = weights.cumsum()
        return ways[int(total.searchsorted(rng.random() * total[-1], "right"))]


@lru_cache(20_000)
def fillings(number: int, counts: tuple[int, ...]) -> Fillings:
    """The ways to put so many atoms on the positions of a space group.

    >>> fillings(221, (3, 1, 1)).weight  # perovskite and its like: 2 points of 1, 2 of 3
    4.0
    """
    return Fillings(space_group(number), counts)


@cache
def _group_weights() -> np.ndarray:
    """The share of each space group above P1: by its operations, and by the built-in structure
    types that have it."""
    weights = np.array([len(space_group(number).rotations) / 16 for number in GROUPS[1:]])
    for name in ("prototypes", "intermetallics"):
        for row in json.loads(resource(f"assets/{name}.json").read_text()):
            if row["spacegroup"] > 1:
                weights[row["spacegroup"] - 2] += TYPE_WEIGHT
    shares: np.ndarray = weights / weights.sum()
    return shares


def random_occupation(counts: tuple[int, ...], rng: np.random.Generator) -> Occupation | None:
    """Draw a space group and positions for so many atoms of each element.

    None where no group that was drawn can hold them.

    >>> random_occupation((3, 1, 1), np.random.default_rng(0)).group
    SpaceGroup(221, 14 Wyckoff positions)
    """
    shares = _group_weights()
    for number in rng.choice(GROUPS[1:], GROUP_DRAWS, p=shares):
        if (ways := fillings(int(number), counts)).weight:
            return ways.draw(rng)
    return None


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
    rows_of, coordinates = (torch.from_numpy(x) for x in (lattice, frac * mask[..., None]))
    symmetry = Symmetry(
        torch.from_numpy(rotation).repeat(count, 1, 1, 1),
        torch.from_numpy(image).repeat(count, 1, 1),
        torch.full((count,), n_ops),
        rows_of,
    )
    occupied = torch.from_numpy(mask).repeat(count, 1, 1)
    return Cells(rows_of, coordinates, occupied, species, symmetry)


def _lattices(group: SpaceGroup, volume: float, count: int, rng: np.random.Generator) -> np.ndarray:
    """Random lattices `[count, 3, 3]` of the group's crystal system, a along x, b in xy."""
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
