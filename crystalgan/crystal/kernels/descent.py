"""Gradient steps of many small cells towards limits of their first-neighbour distances."""

from __future__ import annotations

import numpy as np

from crystalgan.crystal.kernels.compiled import compiled
from crystalgan.crystal.kernels.distances import _step, first_neighbours
from crystalgan.crystal.kernels.projection import project


@compiled()
def descend(
    features: np.ndarray,
    mask: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    cross: bool,
    rotation: np.ndarray,
    image: np.ndarray,
    count: np.ndarray,
    steps: int,
    move: float,
    strain: float,
    growth: float,
) -> None:
    """Gradient steps on the sum of squares by which first neighbours break limits, in place.

    A cell takes steps until no limit is broken, at most `steps`.

    Features `[cells, features]`, mask `[cells, slots, length]`, limits `[slots, slots]` in Å,
    operations as in `projection.project`. A step moves atoms by `move` Å and strains the cell by
    `strain` / atoms for each Å of the gradient; of its change of volume `growth` is left.
    """
    slots, length = mask.shape[1:]
    s, v, turn = np.empty(3), np.empty(3), np.empty((3, 3))
    for c in range(len(features)):
        atoms = mask[c].sum()
        x = features[c : c + 1]
        for _ in range(steps):
            basis = x[0, :9].copy().reshape(1, 3, 3)
            frac = x[:, 3 * length :].copy().reshape(1, slots, length, 3)
            rows, shifts = first_neighbours(basis, frac, mask[c : c + 1], cross)
            change, turn[:] = np.zeros_like(x), 0.0
            broken = False
            for r in range(len(rows)):
                distance = _step(x, rows[r], shifts[r], length, s, v)
                low, high = lower[rows[r, 2], rows[r, 5]], upper[rows[r, 2], rows[r, 5]]
                if low <= distance <= high or distance < 1e-6:
                    continue
                broken = True
                excess = 2 * ((low if distance < low else high) - distance) / distance
                center, other = 3 * (length + rows[r, 3]), 3 * (length + rows[r, 6])
                for i in range(3):
                    change[0, center + i] -= move * excess * v[i]
                    change[0, other + i] += move * excess * v[i]
                    for j in range(3):
                        turn[i, j] += strain / atoms * excess * v[i] * v[j]
            if not broken:
                break
            trace = (1 - growth) * (turn[0, 0] + turn[1, 1] + turn[2, 2]) / 3
            for i in range(3):
                turn[i, i] -= trace
            inverse = np.linalg.inv(basis[0])
            for k in range(length, length * (slots + 1)):
                for i in range(3):
                    v[i] = change[0, 3 * k + i]
                for i in range(3):
                    change[0, 3 * k + i] = (
                        v[0] * inverse[0, i] + v[1] * inverse[1, i] + v[2] * inverse[2, i]
                    )
            change[0, :9] = (basis[0] @ turn).reshape(9)
            if count[c] > 1:
                change = project(
                    change, rotation[c : c + 1], image[c : c + 1], count[c : c + 1], basis, False
                )
            x += change
