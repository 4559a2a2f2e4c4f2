"""The part of changes of many small cells that keeps their symmetry operations."""

from __future__ import annotations

import numpy as np

from crystalgan.crystal.kernels.compiled import compiled


@compiled()
def project(
    x: np.ndarray,
    rotation: np.ndarray,
    image: np.ndarray,
    count: np.ndarray,
    lattice: np.ndarray,
    transposed: bool,
) -> np.ndarray:
    """The part of changes x `[cells, features]`, as `Cells.features`, that keeps the operations; or
    the adjoint of this map.

    Rotations `[cells, ops, 3, 3]`, images `[cells, ops, atoms]`, of which `count` `[cells]` are
    there, lattices `[cells, 3, 3]`. Displacements are averaged over the operations. With R^T G R =
    G for the metric G, a change M L of the lattice L keeps them when M commutes with every R^T; M
    is averaged over R^T M R^-T.
    """
    cells, atoms = len(x), image.shape[2]
    length = x.shape[1] // 3 - atoms
    out = np.zeros_like(x)
    change, mean, back, half = (
        np.empty((3, 3)),
        np.empty((3, 3)),
        np.empty((3, 3)),
        np.empty((3, 3)),
    )
    for c in range(cells):
        if count[c] == 1:
            out[c] = x[c]
            continue
        weight = 1.0 / count[c]
        basis = lattice[c].astype(np.float64)
        inverse = np.linalg.inv(basis)
        start = x[c, :9].astype(np.float64).reshape(3, 3)
        change[:] = start @ basis.T if transposed else start @ inverse
        mean[:] = 0.0
        for g in range(count[c]):
            turn = rotation[c, g]
            # the inverse, as the adjugate: no rotation of a lattice has another determinant than 1
            # or -1
            for i in range(3):
                i1, i2 = (i + 1) % 3, (i + 2) % 3
                for k in range(3):
                    k1, k2 = (k + 1) % 3, (k + 2) % 3
                    back[k, i] = turn[i1, k1] * turn[i2, k2] - turn[i1, k2] * turn[i2, k1]
            sign = turn[0, 0] * back[0, 0] + turn[0, 1] * back[1, 0] + turn[0, 2] * back[2, 0]
            for i in range(3):
                for k in range(3):
                    if transposed:
                        half[i, k] = (
                            turn[i, 0] * change[0, k]
                            + turn[i, 1] * change[1, k]
                            + turn[i, 2] * change[2, k]
                        )
                    else:
                        half[i, k] = (
                            turn[0, i] * change[0, k]
                            + turn[1, i] * change[1, k]
                            + turn[2, i] * change[2, k]
                        )
            for i in range(3):
                for k in range(3):
                    if transposed:
                        mean[i, k] += sign * (
                            half[i, 0] * back[0, k]
                            + half[i, 1] * back[1, k]
                            + half[i, 2] * back[2, k]
                        )
                    else:
                        mean[i, k] += sign * (
                            half[i, 0] * back[k, 0]
                            + half[i, 1] * back[k, 1]
                            + half[i, 2] * back[k, 2]
                        )
            for i in range(atoms):
                here, there = 3 * (length + i), 3 * (length + image[c, g, i])
                source, target = (there, here) if transposed else (here, there)
                x0, x1, x2 = x[c, source], x[c, source + 1], x[c, source + 2]
                if x0 == 0.0 and x1 == 0.0 and x2 == 0.0:  # so it is all over the padding
                    continue
                for k in range(3):
                    if transposed:
                        out[c, target + k] += weight * (
                            turn[0, k] * x0 + turn[1, k] * x1 + turn[2, k] * x2
                        )
                    else:
                        out[c, target + k] += weight * (
                            turn[k, 0] * x0 + turn[k, 1] * x1 + turn[k, 2] * x2
                        )
        total = mean @ inverse.T if transposed else mean @ basis
        for i in range(9):
            out[c, i] = weight * total[i // 3, i % 3]
    return out
