"""Proposals by hydrogen in the voids of compounds of the two metals."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from crystalgan.crystal.cells import encode
from crystalgan.crystal.supercells import draw_supercell, supercell_of, supercells
from crystalgan.data.prototypes import compounds_of
from crystalgan.discovery.sources import Forgetful, atoms_of, cells_of

if TYPE_CHECKING:
    from ase import Atoms

    from crystalgan.crystal.cells import Cells
    from crystalgan.crystal.supercells import Supercell
    from crystalgan.discovery.sources import Request
    from crystalgan.discovery.system import Counts, System

MOST_INDEX = 4  # cells of a compound in a supercell
SWITENDICK = 2.1  # Å, the least distance of hydrogen atoms in a metal
NEAR_SWITENDICK = 0.9  # of it, before relaxation
HYDROGEN_VOLUME = 2.8  # Å³ by which an atom of hydrogen swells a metal
LEAST_VOID = 0.8  # of the lower metal-hydrogen limit, in the host before it swells
SYMPREC = 0.05  # Å
ORBITS = 0.7  # share of the proposals that fill whole orbits of voids
IMAGES = np.array([[i, j, k] for i in (-1, 0, 1) for j in (-1, 0, 1) for k in (-1, 0, 1)], float)


@dataclass(frozen=True)
class Voids:
    """A cell of metals, and the points in it that hydrogen can take."""

    lattice: np.ndarray  # [3, 3], rows, Å
    metals: tuple[np.ndarray, np.ndarray]  # fractional, of both metals
    points: np.ndarray  # [voids, 3], fractional
    orbit: np.ndarray  # [voids], which are turned into each other


def voids_of(
    lattice: np.ndarray, metals: tuple[np.ndarray, np.ndarray], least: tuple[float, float]
) -> Voids:
    """The vertices of the Voronoi cells of metals that are `least` (Å) from both kinds."""
    from scipy.spatial import Voronoi, cKDTree

    frac = np.vstack(metals)
    kinds = np.repeat([0, 1], [len(m) for m in metals])
    around = (frac[:, None] + IMAGES).reshape(-1, 3)
    limit = np.repeat(np.array(least)[kinds], len(IMAGES))
    vertices = Voronoi(around @ lattice).vertices @ np.linalg.inv(lattice)
    inside = vertices[((vertices > -1e-6) & (vertices < 1 - 1e-6)).all(1)] % 1
    if not len(inside):
        return Voids(lattice, metals, inside, np.zeros(0, int))
    tree = cKDTree(around @ lattice)
    distance, which = tree.query(inside @ lattice, k=4)
    inside = inside[(distance >= limit[which]).all(1)]
    kept: list[np.ndarray] = []
    for point in inside:
        if not kept or _apart(np.array(kept), point, lattice).min() > 0.2:
            kept.append(point)
    points = np.array(kept).reshape(-1, 3)
    return Voids(lattice, metals, points, _orbits(lattice, frac, kinds, points))


def _apart(points: np.ndarray, point: np.ndarray, lattice: np.ndarray) -> np.ndarray:
    """Distances (Å) of periodic points `[n, 3]` to one."""
    offset = points - point
    offset = (offset - np.rint(offset))[:, None] + IMAGES
    out: np.ndarray = np.linalg.norm(offset @ lattice, axis=-1).min(1)
    return out


def _orbits(
    lattice: np.ndarray, frac: np.ndarray, kinds: np.ndarray, points: np.ndarray
) -> np.ndarray:
    import spglib

    orbit = np.arange(len(points))
    try:
        found = spglib.get_symmetry((lattice, frac, kinds + 1), SYMPREC)
    except spglib.SpglibError:
        return orbit
    for turn, shift in zip(found["rotations"], found["translations"], strict=True):
        moved = points @ turn.T + shift
        offset = moved[:, None] - points
        offset -= np.rint(offset)
        onto = np.linalg.norm(offset @ lattice, axis=-1).argmin(1)
        for k, j in enumerate(onto):
            low, high = sorted((orbit[k], orbit[j]))
            orbit[orbit == high] = low
    return orbit


def filled(voids: Voids, count: int, whole: bool, rng: np.random.Generator) -> np.ndarray | None:
    """`count` of the voids `[count, 3]`, none nearer to another than hydrogen may be.

    Whole orbits are taken where `whole`. None where that does not come out even.
    """
    names = voids.orbit if whole else np.arange(len(voids.points))
    chosen = np.zeros((0, 3))
    for name in rng.permutation(np.unique(names)):
        some = voids.points[names == name]
        if len(chosen) + len(some) > count:
            continue
        both = np.vstack([chosen, some])
        if any(
            _apart(np.delete(both, k, 0), both[k], voids.lattice).min(initial=np.inf)
            < NEAR_SWITENDICK * SWITENDICK
            for k in range(len(chosen), len(both))
        ):
            continue
        chosen = both
        if len(chosen) == count:
            return chosen
    return None


@dataclass
class HostSource(Forgetful):
    """Compounds of the two metals with hydrogen in their voids."""

    system: System
    most_atoms: int
    name: str = "hosts"
    _lattices: dict[tuple[int, int], list[Supercell]] = field(default_factory=dict)
    _voids: dict[tuple[int, int, int], Voids] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _, metal_a, metal_b = self.system.species
        self.counts: list[tuple[int, int]] = []
        self.compounds = []
        for compound in compounds_of(metal_a, metal_b).values():
            a, b = (int(compound.composition[metal]) for metal in (metal_a, metal_b))
            self.counts.append((a, b))
            self.compounds.append(compound.copy().scale_lattice(self.system.volume((0, a, b))))
        self.cells = [encode([compound], self.system.species) for compound in self.compounds]

    def starts(self) -> list[tuple[Counts, Atoms]]:
        """The compounds themselves, which compete with the hydrides."""
        return [
            ((0, a, b), atoms_of(cell))
            for cell, (a, b) in zip(self.cells, self.counts, strict=True)
        ]

    def propose(self, request: Request, rng: np.random.Generator) -> Cells | None:
        """Cells that were asked for, or None where the attempt came to nothing."""
        h, a, b = request.counts
        fitting = [
            (k, a // own[0])
            for k, own in enumerate(self.counts)
            if a % own[0] == 0 and b == own[1] * (a // own[0]) and a // own[0] <= MOST_INDEX
        ]
        if not fitting or not h:
            return None
        k, index = fitting[rng.integers(len(fitting))]
        voids = self._draw(k, index, rng)
        chosen = filled(voids, h, bool(rng.random() < ORBITS), rng)
        if chosen is None:
            return None
        volume = abs(np.linalg.det(voids.lattice))
        lattice = voids.lattice * np.cbrt(1 + HYDROGEN_VOLUME * h / volume)
        return cells_of(lattice, (chosen, *voids.metals), request.system.species)

    def _draw(self, k: int, index: int, rng: np.random.Generator) -> Voids:
        """The voids of one of the supercells of a compound, the symmetric ones more often."""
        if (k, index) not in self._lattices:
            self._lattices[k, index] = supercells(self.compounds[k], index)
        options = self._lattices[k, index]
        which = draw_supercell(options, rng)
        if (k, index, which) not in self._voids:
            cell = supercell_of(self.cells[k], options[which])
            mask = cell.mask[0]
            one, other = (cell.frac[0, s][mask[s]].numpy() for s in (1, 2))
            lower = self.system.limits.lower[0, 1:].clamp_min(0.0) * LEAST_VOID
            least = float(lower[0]), float(lower[1])
            found = voids_of(cell.lattice[0].numpy(), (one, other), least)
            self._voids[k, index, which] = found
        return self._voids[k, index, which]
