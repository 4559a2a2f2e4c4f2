"""Wyckoff positions of all space groups, in primitive cells, found from spglib's operations.

A Wyckoff position is a set of points whose site-symmetry groups are conjugate. All of them show on
a grid of 24ths, the denominators of all fixed coordinates. They are in `assets/wyckoff.json`, since
finding them takes a minute; `python -m crystalgan.crystal.wyckoff` writes that file anew.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np

from crystalgan.resources import resource

GROUPS = range(1, 231)
HALL_SETTINGS = 530
STEPS = 24  # of the grid, an edge of the cell
IMAGES = np.array(list(itertools.product(range(-2, 3), repeat=3)))


@dataclass(frozen=True, eq=False)
class WyckoffPosition:
    """Points `point + free @ u`, any u `[3]`, with their images under a space group."""

    multiplicity: int  # atoms in a primitive cell
    point: np.ndarray  # [3], fractional
    free: np.ndarray  # [3, 3], a projection
    freedom: int  # 0 (a point) to 3 (the general position)


@dataclass(frozen=True)
class SpaceGroup:
    """Operations x -> R x + t of a primitive cell, and its Wyckoff positions.

    `basis` holds the primitive vectors as rows in terms of those of the conventional cell, whose
    rotations are `conventional`.
    """

    number: int
    rotations: np.ndarray  # [operations, 3, 3]
    translations: np.ndarray  # [operations, 3]
    basis: np.ndarray  # [3, 3]
    conventional: np.ndarray  # [operations, 3, 3]
    positions: tuple[WyckoffPosition, ...]

    def __repr__(self) -> str:
        return f"SpaceGroup({self.number}, {len(self.positions)} Wyckoff positions)"

    @cached_property
    def lattice_freedom(self) -> int:
        """How many lattice parameters are free: 1 (cubic) to 6 (triclinic)."""
        metrics = np.einsum(
            "gki,klm,glj->mij", self.conventional, _SYMMETRIC, self.conventional, optimize=True
        )
        return int(np.linalg.matrix_rank(metrics.reshape(6, 9)))

    def orbit(self, points: np.ndarray, position: WyckoffPosition) -> tuple[np.ndarray, np.ndarray]:
        """The atoms `[..., multiplicity, 3]` of points `[..., 3]` on a position; and `[operations,
        multiplicity]`, which atom each operation makes of each."""
        first, image = _orbit(self, position)
        rotations, translations = self.rotations[first], self.translations[first]
        return np.einsum("gij,...j->...gi", rotations, points) + translations, image


# the six symmetric unit matrices `[3, 3, 6]`
_SYMMETRIC = np.stack(
    [
        np.array([[float({i, j} == {a, b}) for j in range(3)] for i in range(3)])
        for a, b in itertools.combinations_with_replacement(range(3), 2)
    ],
    axis=-1,
)


@cache
def _orbit_of(number: int, index: int) -> tuple[np.ndarray, np.ndarray]:
    group = space_group(number)
    position = group.positions[index]
    generic = position.point + position.free @ np.array([0.0137, 0.0271, 0.0419])
    moved = group.rotations @ generic + group.translations
    first: list[int] = []
    for k, x in enumerate(moved):
        if not any(_same(x, moved[f]) for f in first):
            first.append(k)
    atoms = moved[first]
    turned = np.einsum("gij,aj->gai", group.rotations, atoms) + group.translations[:, None]
    offset = turned[:, :, None] - atoms
    offset -= np.rint(offset)
    return np.array(first), np.abs(offset).sum(-1).argmin(-1)


def _orbit(group: SpaceGroup, position: WyckoffPosition) -> tuple[np.ndarray, np.ndarray]:
    index = next(k for k, other in enumerate(group.positions) if other is position)
    return _orbit_of(group.number, index)


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    offset = one - other
    return bool(np.abs(offset - np.rint(offset)).max() < 1e-6)


@cache
def space_group(number: int) -> SpaceGroup:
    """Return a space group in the setting that spglib lists first.

    Raises ValueError for a number that no space group has.

    >>> group = space_group(225)
    >>> [p.multiplicity for p in group.positions if not p.freedom]
    [1, 1, 2, 6]
    """
    if number not in GROUPS:
        raise ValueError(f"space groups have numbers from 1 to 230, not {number}")
    rotations, translations, basis, conventional = _operations(number)
    positions = tuple(
        WyckoffPosition(
            len(rotations) // row["order"],
            np.array(row["point"]) / STEPS,
            np.array(row["free"]) / row["order"],
            row["freedom"],
        )
        for row in _table()[number - 1]
    )
    return SpaceGroup(number, rotations, translations, basis, conventional, positions)


@cache
def _table() -> list[list[dict[str, Any]]]:
    table: list[list[dict[str, Any]]] = json.loads(resource("assets/wyckoff.json").read_text())
    return table


@cache
def _halls() -> dict[int, int]:
    """The first Hall setting of each space group."""
    import spglib

    out: dict[int, int] = {}
    for hall in range(1, HALL_SETTINGS + 1):
        found: Any = spglib.get_spacegroup_type(hall)
        out.setdefault(found.number, hall)
    return out


def _operations(number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Rotations and translations of the primitive cell, its basis, and the conventional rotations;
    one operation for each rotation."""
    import spglib

    found: Any = spglib.get_symmetry_from_database(_halls()[number])
    turns, shifts = found["rotations"].astype(float), found["translations"]
    centring = shifts[(turns == np.eye(3)).all((1, 2))]
    basis = _primitive_basis(centring)
    change = np.linalg.inv(basis.T)
    _, first = np.unique(turns.reshape(len(turns), 9), axis=0, return_index=True)
    first.sort()
    rotations = np.rint(change @ turns[first] @ basis.T)
    translations = np.rint(STEPS * shifts[first] @ change.T) / STEPS
    return rotations, translations % 1, basis, turns[first]


def _primitive_basis(centring: np.ndarray) -> np.ndarray:
    """Three short vectors that span the lattice of these centring translations and the cell."""
    near = (centring[:, None] + np.array(list(itertools.product((-1, 0, 1), repeat=3)))).reshape(
        -1, 3
    )
    near = near[np.argsort((near**2).sum(1), kind="stable")][1:]
    for rows in itertools.combinations(near[:40], 3):
        basis = np.array(rows)
        if abs(np.linalg.det(basis) - 1 / len(centring)) < 1e-6:
            return basis
    raise AssertionError("no primitive cell")  # pragma: no cover


def find_positions(number: int) -> list[dict[str, Any]]:
    """Find the Wyckoff positions of a space group on the grid, the most special first.

    Of each: the `order` of its site-symmetry group, a `point` in 24ths, `free`, the sum of the
    rotations of that group, and `freedom`.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rotations, translations, *_ = _operations(number)
    turns, shifts = rotations.astype(int), np.rint(STEPS * translations).astype(int)
    grid = np.array(list(itertools.product(range(STEPS), repeat=3)))
    moved = (np.einsum("gij,pj->gpi", turns, grid) + shifts[:, None]) % STEPS
    onto = moved @ np.array([STEPS**2, STEPS, 1])  # [operations, points]
    stays = (onto == np.arange(len(grid))).T
    # points of one fixed point, line or plane have the same site-symmetry group, and differ by
    # what their rotations leave, apart from lattice vectors
    keys, site = np.unique(np.packbits(stays, axis=1), axis=0, return_inverse=True)
    label, count = np.zeros(len(grid), int), 0
    for k in range(len(keys)):
        points = np.flatnonzero(site == k)
        group = turns[stays[points[0]]]
        away = len(group) * np.eye(3, dtype=int) - group.sum(0)
        images = (grid[points][:, None] + STEPS * IMAGES) @ away.T
        order = np.lexsort((*images.transpose(2, 0, 1), (images**2).sum(-1)), axis=-1)[:, 0]
        least = images[np.arange(len(points)), order]
        _, within = np.unique(least, axis=0, return_inverse=True)
        label[points] = count + within
        count += within.max() + 1
    edges = np.unique(np.stack([np.tile(label, len(turns)), label[onto].flatten()]), axis=1)
    graph = coo_array((np.ones(edges.shape[1]), edges), shape=(count, count))
    components, component = connected_components(graph, directed=False)
    out = []
    for k in range(components):
        point = int(np.flatnonzero(component[label] == k)[0])
        free = turns[stays[point]].sum(0)
        rows = {"order": int(stays[point].sum()), "point": grid[point].tolist()}
        out.append(rows | {"free": free.tolist(), "freedom": int(np.linalg.matrix_rank(free))})
    return sorted(out, key=lambda row: (row["freedom"], -row["order"], row["point"]))


if __name__ == "__main__":
    rows = ",\n".join(json.dumps(find_positions(number)) for number in GROUPS)
    resource("assets/wyckoff.json").write_text(f"[\n{rows}\n]\n")
