"""Pair potentials in many small cells: energies with gradients, and relaxation by FIRE."""

from __future__ import annotations

import numpy as np

from crystalgan.crystal.kernels.compiled import compiled
from crystalgan.crystal.kernels.graph import FARTHEST, FAST, _edge, _lattice, edges_of

TIMESTEP, MOST_TIMESTEP, LONGEST_STEP = 0.15, 0.5, 0.2  # of FIRE, masses 1, in (Å² / eV)^1/2; Å
MIXING, PATIENCE = 0.1, 5  # of FIRE, as its authors set them
REBUILD = 0.25  # Å that an atom or a lattice vector may have moved before edges are listed anew


@compiled(inline="always")
def _pair(table: np.ndarray, distance: float, first: float, width: float) -> tuple[float, float]:
    """Value and derivative of a table `[knots, 2]` of values and slopes times width: cubic between
    knots, straight before them.

    It is zero from the last knot on.
    """
    along = (distance - first) / width
    if along >= len(table) - 1:
        return 0.0, 0.0
    if along < 0.0:
        return table[0, 0] + along * table[0, 1], table[0, 1] / width
    k = int(along)
    t = along - k
    low, high, low_slope, high_slope = table[k, 0], table[k + 1, 0], table[k, 1], table[k + 1, 1]
    a, b = low_slope - (high - low), (high - low) - high_slope
    value = low + t * (high - low) + t * (1 - t) * ((1 - t) * a + t * b)
    slope = high - low + (1 - 2 * t) * ((1 - t) * a + t * b) + t * (1 - t) * (b - a)
    return value, slope / width


@compiled(fastmath=FAST)
def _derivatives(
    x: np.ndarray,
    who: np.ndarray,
    shifts: np.ndarray,
    tables: np.ndarray,
    slots: int,
    first: float,
    width: float,
    by_position: np.ndarray,
    by_strain: np.ndarray,
) -> float:
    """The energy of one cell, given its edges; written: its derivatives by Cartesian positions
    `[atoms, 3]` and by strain."""
    length = len(x) // 3 // (slots + 1)
    lattice, energy = _lattice(x), 0.0
    by_position[:], by_strain[:] = 0.0, 0.0
    for e in range(len(who)):
        i, j = who[e, 1], who[e, 2]
        _, _, _, v0, v1, v2 = _edge(x, shifts[e], 3 * (length + i), 3 * (length + j), lattice)
        distance = np.sqrt(v0 * v0 + v1 * v1 + v2 * v2)
        value, slope = _pair(tables[i // length * slots + j // length], distance, first, width)
        energy += value
        slope /= max(distance, 1e-3)
        w0, w1, w2 = slope * v0, slope * v1, slope * v2
        by_position[i, 0] -= w0
        by_position[i, 1] -= w1
        by_position[i, 2] -= w2
        by_position[j, 0] += w0
        by_position[j, 1] += w1
        by_position[j, 2] += w2
        by_strain[0, 0] += v0 * w0
        by_strain[0, 1] += v0 * w1
        by_strain[0, 2] += v0 * w2
        by_strain[1, 1] += v1 * w1
        by_strain[1, 2] += v1 * w2
        by_strain[2, 2] += v2 * w2
    by_strain[1, 0], by_strain[2, 0], by_strain[2, 1] = (
        by_strain[0, 1],
        by_strain[0, 2],
        by_strain[1, 2],
    )
    return energy


@compiled()
def energies(
    features: np.ndarray,
    mask: np.ndarray,
    tables: np.ndarray,
    slots: int,
    first: float,
    width: float,
) -> tuple[np.ndarray, np.ndarray]:
    """The energy of each cell, `[cells]` eV, and its gradient `[cells, features]`.

    Features `[cells, features]` as `Cells.features`, mask `[cells, atoms]`, tables `[slots * slots,
    knots, 2]` as in `_pair` with knots from `first` on with spacing `width` (Å). A cell whose edges
    cannot be listed (`edges_of`) has none.
    """
    cells, atoms = mask.shape
    length = atoms // slots
    who, shifts = edges_of(features, mask, first + width * (tables.shape[1] - 1))
    energy, gradient = np.zeros(cells), np.zeros_like(features)
    by_position, by_strain = np.empty((atoms, 3)), np.empty((3, 3))
    begin = 0
    while begin < len(who):
        c, end = who[begin, 0], begin
        while end < len(who) and who[end, 0] == c:
            end += 1
        x = features[c].astype(np.float64)
        energy[c] = _derivatives(
            x,
            who[begin:end],
            shifts[begin:end].astype(np.float64),
            tables,
            slots,
            first,
            width,
            by_position,
            by_strain,
        )
        lattice = x[:9].copy().reshape(3, 3)
        by_lattice = np.linalg.inv(lattice).T @ by_strain
        for i in range(9):
            gradient[c, i] = by_lattice[i // 3, i % 3]
        for k in range(atoms):
            for i in range(3):
                by = 0.0
                for m in range(3):
                    by += lattice[i, m] * by_position[k, m]
                gradient[c, 3 * (length + k) + i] = by
        begin = end
    return energy, gradient


@compiled()
def prerelax(
    features: np.ndarray,
    mask: np.ndarray,
    tables: np.ndarray,
    slots: int,
    first: float,
    width: float,
    steps: int,
    force: float,
) -> None:
    """Relax each cell in place (float64) by FIRE until no force (eV/Å) is larger than `force`.

    Bitzek et al., Phys. Rev. Lett. 97, 170201 (2006). Positions and strain move together, the
    strain's force and step being those per atom, as in ASE's cell filters. Other arguments as in
    `energies`.
    """
    cells, atoms = mask.shape
    length, cutoff = atoms // slots, first + width * (tables.shape[1] - 1)
    gradient, speed = np.zeros((atoms + 3, 3)), np.zeros((atoms + 3, 3))
    by_strain, turn = np.empty((3, 3)), np.empty((3, 3))
    for c in range(cells):
        x, count = features[c], mask[c].sum()
        time, mixing, downhill, gone = TIMESTEP, MIXING, 0, np.inf
        speed[:] = 0.0
        for _ in range(steps):
            if gone > REBUILD:
                who, shifts = edges_of(features[c : c + 1], mask[c : c + 1], cutoff)
                gone = 0.0
                if len(who) == 0:
                    break
            _derivatives(x, who, shifts, tables, slots, first, width, gradient[:atoms], by_strain)
            gradient[atoms:] = by_strain / count
            power, of_force, of_speed, largest = 0.0, 0.0, 0.0, 0.0
            for k in range(atoms + 3):
                here = 0.0
                for i in range(3):
                    power -= gradient[k, i] * speed[k, i]
                    here += gradient[k, i] ** 2
                    of_speed += speed[k, i] ** 2
                of_force += here
                largest = max(largest, here)
            if largest < force * force:
                break
            if power < 0.0:
                speed[:] = 0.0
                time, mixing, downhill = time * 0.5, MIXING, 0
            else:
                scale = mixing * np.sqrt(of_speed / max(of_force, 1e-12))
                for k in range(atoms + 3):
                    for i in range(3):
                        speed[k, i] = (1 - mixing) * speed[k, i] - scale * gradient[k, i]
                downhill += 1
                if downhill > PATIENCE:
                    time, mixing = min(time * 1.1, MOST_TIMESTEP), mixing * 0.99
            longest = 0.0
            for k in range(atoms + 3):
                for i in range(3):
                    speed[k, i] -= time * gradient[k, i]
                longest = max(longest, speed[k, 0] ** 2 + speed[k, 1] ** 2 + speed[k, 2] ** 2)
            along = min(time, LONGEST_STEP / max(np.sqrt(longest), 1e-12))
            gone += along * np.sqrt(longest)
            lattice = x[:9].copy().reshape(3, 3)
            inverse = np.linalg.inv(lattice)
            for k in range(atoms):
                for i in range(3):
                    moved = 0.0
                    for m in range(3):
                        moved += speed[k, m] * inverse[m, i]
                    x[3 * (length + k) + i] += along * moved
            turn[:] = speed[atoms:] * (along / count)
            lattice = lattice + lattice @ turn
            for i in range(9):
                x[i] = lattice[i // 3, i % 3]
            if not (np.abs(x) < FARTHEST).all():
                break
