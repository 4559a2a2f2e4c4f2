"""Lattice reduction, nearest neighbours of periodic crystals and their distances.

Images are sought in the Minkowski-reduced basis: there, for a difference wrapped to [-1/2, 1/2],
the nearest one is among the 27 with shifts -1, 0 and 1, since no point of the Voronoi cell has a
coordinate beyond 3/2 (the largest that we found is 1.005). Everything is compiled on first use and
kept in the cache beside this file.
"""

from __future__ import annotations

import itertools

import numpy as np

from crystalgan.crystal.kernels.compiled import compiled

# One of each pair +n, -n of the 26 shifts around the origin, [13, 3].
SHIFTS = np.array([n for n in itertools.product((-1.0, 0.0, 1.0), repeat=3) if n > (0, 0, 0)])
# a handful is enough for any sound cell; the bound ends the loop for one that is not finite
MAX_REDUCTIONS = 1000
TOLERANCE = 1e-9  # of a squared length: what counts as shorter


@compiled(inline="always")
def _dot(basis: np.ndarray, i: int, j: int) -> float:
    return basis[i, 0] * basis[j, 0] + basis[i, 1] * basis[j, 1] + basis[i, 2] * basis[j, 2]


@compiled()
def reduce_basis(lattice: np.ndarray, change: np.ndarray) -> None:
    """Write into `change` `[3, 3]` the whole numbers H for which the rows of H @ lattice are
    Minkowski-reduced.

    Greedy reduction (Nguyen and Stehlé, ACM Trans. Algorithms 5, 46 (2009)): with a <= b <= c, b
    loses its nearest multiple of a, and c its nearest lattice point of the plane of both, which is
    among nine around the rounded one.
    """
    basis = lattice.copy()
    change[:] = np.eye(3)
    square = np.empty(3)
    for _ in range(MAX_REDUCTIONS):
        for i in range(3):
            square[i] = _dot(basis, i, i)
        for i, j in ((0, 1), (1, 2), (0, 1)):
            if square[j] < square[i]:
                square[i], square[j] = square[j], square[i]
                for k in range(3):
                    basis[i, k], basis[j, k] = basis[j, k], basis[i, k]
                    change[i, k], change[j, k] = change[j, k], change[i, k]
        aa, bb, cc = square
        ab, ac, bc = _dot(basis, 0, 1), _dot(basis, 0, 2), _dot(basis, 1, 2)
        turns = np.rint(ab / max(aa, 1e-300))
        if turns != 0 and bb - turns * (2 * ab - turns * aa) < bb * (1 - TOLERANCE):
            for k in range(3):
                basis[1, k] -= turns * basis[0, k]
                change[1, k] -= turns * change[0, k]
            continue
        determinant = max(aa * bb - ab * ab, 1e-300)
        x0, y0 = (
            np.rint((bc * ab - ac * bb) / determinant),
            np.rint((ac * ab - bc * aa) / determinant),
        )
        least, best_x, best_y = cc * (1 - TOLERANCE), 0.0, 0.0
        for i in range(-1, 2):
            for j in range(-1, 2):
                x, y = x0 + i, y0 + j
                length = cc + x * (x * aa + 2 * (y * ab + ac)) + y * (y * bb + 2 * bc)
                if length < least:
                    least, best_x, best_y = length, x, y
        if best_x == 0 and best_y == 0:
            return
        for k in range(3):
            basis[2, k] += best_x * basis[0, k] + best_y * basis[1, k]
            change[2, k] += best_x * change[0, k] + best_y * change[1, k]


@compiled()
def _prepare(
    lattice: np.ndarray,
    change: np.ndarray,
    back: np.ndarray,
    metric: np.ndarray,
    lengths: np.ndarray,
) -> None:
    """Change of basis, its inverse, the metric of the reduced basis and the squared lengths of
    `SHIFTS` in it."""
    reduce_basis(lattice, change)
    # products written out: a call of BLAS costs more than a product of 3 x 3
    reduced = np.zeros((3, 3))
    for i in range(3):
        for j in range(3):
            for k in range(3):
                reduced[i, k] += change[i, j] * lattice[j, k]
    for i in range(3):
        for j in range(3):
            metric[i, j] = (
                reduced[i, 0] * reduced[j, 0]
                + reduced[i, 1] * reduced[j, 1]
                + reduced[i, 2] * reduced[j, 2]
            )
    for i in range(3):  # the adjugate: the determinant is 1 or -1
        j, k = (i + 1) % 3, (i + 2) % 3
        for m in range(3):
            n, p = (m + 1) % 3, (m + 2) % 3
            back[m, i] = change[j, n] * change[k, p] - change[j, p] * change[k, n]
    sign = change[0, 0] * back[0, 0] + change[0, 1] * back[1, 0] + change[0, 2] * back[2, 0]
    back *= sign
    for k in range(len(SHIFTS)):
        lengths[k] = 0.0
        for i in range(3):
            for j in range(3):
                lengths[k] += SHIFTS[k, i] * metric[i, j] * SHIFTS[k, j]


@compiled(fastmath=True)
def _squares(
    coords: np.ndarray, a: int, end: int, metric: np.ndarray, lengths: np.ndarray, out: np.ndarray
) -> None:
    """Squared lengths of the shortest images of the differences of atom a to the atoms a + 1 to
    `end`, in a reduced basis.

    With x the wrapped difference and u = x G the 27 images are at |x + n|^2 = x.u + n G n +- 2 u.n;
    the 13 products u.n are written out, in a loop that the compiler makes vectors of.
    """
    m00, m01, m02 = metric[0, 0], metric[0, 1], metric[0, 2]
    m11, m12, m22 = metric[1, 1], metric[1, 2], metric[2, 2]
    l0, l1, l2, l3, l4 = lengths[0], lengths[1], lengths[2], lengths[3], lengths[4]
    l5, l6, l7, l8, l9 = lengths[5], lengths[6], lengths[7], lengths[8], lengths[9]
    l10, l11, l12 = lengths[10], lengths[11], lengths[12]
    a0, a1, a2 = coords[0, a], coords[1, a], coords[2, a]
    for b in range(a + 1, end):
        x0, x1, x2 = coords[0, b] - a0, coords[1, b] - a1, coords[2, b] - a2
        x0, x1, x2 = x0 - np.rint(x0), x1 - np.rint(x1), x2 - np.rint(x2)
        u0 = m00 * x0 + m01 * x1 + m02 * x2
        u1 = m01 * x0 + m11 * x1 + m12 * x2
        u2 = m02 * x0 + m12 * x1 + m22 * x2
        plus, minus = u0 + u1, u0 - u1
        least = min(0.0, l0 - 2 * abs(u2), l2 - 2 * abs(u1), l8 - 2 * abs(u0))
        least = min(least, l1 - 2 * abs(u1 - u2), l3 - 2 * abs(u1 + u2))
        least = min(least, l7 - 2 * abs(u0 - u2), l9 - 2 * abs(u0 + u2))
        least = min(least, l5 - 2 * abs(minus), l4 - 2 * abs(minus - u2), l6 - 2 * abs(minus + u2))
        least = min(least, l11 - 2 * abs(plus), l10 - 2 * abs(plus - u2), l12 - 2 * abs(plus + u2))
        out[b] = x0 * u0 + x1 * u1 + x2 * u2 + least


@compiled()
def _image(
    coords: np.ndarray,
    a: int,
    b: int,
    square: float,
    metric: np.ndarray,
    lengths: np.ndarray,
    shift: np.ndarray,
) -> None:
    """Write into `shift` the lattice vector that brings `b` nearest to `a`, another atom, at a
    known squared distance."""
    for i in range(3):
        shift[i] = -np.rint(coords[i, b] - coords[i, a])
    x0, x1, x2 = (
        coords[0, b] - coords[0, a] + shift[0],
        coords[1, b] - coords[1, a] + shift[1],
        coords[2, b] - coords[2, a] + shift[2],
    )
    u0 = metric[0, 0] * x0 + metric[0, 1] * x1 + metric[0, 2] * x2
    u1 = metric[1, 0] * x0 + metric[1, 1] * x1 + metric[1, 2] * x2
    u2 = metric[2, 0] * x0 + metric[2, 1] * x1 + metric[2, 2] * x2
    if x0 * u0 + x1 * u1 + x2 * u2 <= square * (1 + TOLERANCE):
        return  # as of most
    least, best, sign = np.inf, -1, 0.0
    for k in range(len(SHIFTS)):
        along = u0 * SHIFTS[k, 0] + u1 * SHIFTS[k, 1] + u2 * SHIFTS[k, 2]
        if lengths[k] - 2 * abs(along) < least:
            least, best, sign = lengths[k] - 2 * abs(along), k, -1.0 if along > 0 else 1.0
    for i in range(3):
        shift[i] += sign * SHIFTS[best, i]


@compiled()
def _spacings(metric: np.ndarray) -> tuple[float, float, float]:
    """The squared spacings of the lattice planes: no image of a difference is nearer than its
    planes are."""
    aa, bb, cc, ab, ac, bc = (
        metric[0, 0],
        metric[1, 1],
        metric[2, 2],
        metric[0, 1],
        metric[0, 2],
        metric[1, 2],
    )
    squared_volume = aa * (bb * cc - bc * bc) - ab * (ab * cc - bc * ac) + ac * (ab * bc - bb * ac)
    a, b, c = (
        max(bb * cc - bc * bc, 1e-300),
        max(aa * cc - ac * ac, 1e-300),
        max(aa * bb - ab * ab, 1e-300),
    )
    return squared_volume / a, squared_volume / b, squared_volume / c


@compiled()
def _search(
    coords: np.ndarray,
    shared: int,
    cross: bool,
    metric: np.ndarray,
    lengths: np.ndarray,
    best: np.ndarray,
    who: np.ndarray,
) -> None:
    """The nearest to each atom, in a reduced basis: `who[i]` within its group, `who[atoms + i]` in
    the other one; -1 for none.

    The first `shared` atoms are one group, the others the other.
    """
    atoms = coords.shape[1]
    best[:], who[:] = np.inf, -1
    least = lengths.min()
    for a in range(atoms):  # to begin with, its own images, which are as far from every atom
        if np.isfinite(least + coords[0, a] + coords[1, a] + coords[2, a]):
            best[a], who[a] = least, a
    square = np.empty(atoms)
    for a in range(atoms):
        end = atoms if cross or a >= shared else shared
        _squares(coords, a, end, metric, lengths, square)
        for b in range(a + 1, end):
            row = a + atoms if a < shared <= b else a
            if square[b] < best[row]:
                best[row], who[row] = square[b], b
            if row == a and square[b] < best[b]:
                best[b], who[b] = square[b], a


@compiled()
def first_neighbours(
    lattices: np.ndarray, frac: np.ndarray, mask: np.ndarray, cross: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Nearest neighbours within the shared atoms, within the metals, and with `cross` from each
    shared atom to a metal.

    Lattices `[cells, 3, 3]`, coordinates `[cells, slots, length, 3]`, mask `[cells, slots,
    length]`, slot 0 the shared element. Returns rows of whole numbers `[rows, 7]` (cell, the
    center's number among all atoms, its slot and place in the cell, the same of the other) and the
    shift of the other `[rows, 3]` in the given basis. Atoms of a cell that is not finite have no
    row.
    """
    cells, slots, length = mask.shape
    most = slots * length
    occupied, points = mask.reshape(cells, most), frac.reshape(cells, most, 3)
    rows, shifts = np.empty((2 * mask.sum(), 7), np.int64), np.empty((2 * mask.sum(), 3))
    count, number = 0, 0
    change, back, metric, lengths = (
        np.empty((3, 3)),
        np.empty((3, 3)),
        np.empty((3, 3)),
        np.empty(len(SHIFTS)),
    )
    coords, place, who, shift = (
        np.empty((3, most)),
        np.empty(most, np.int64),
        np.empty(2 * most, np.int64),
        np.empty(3),
    )
    best, slot = np.empty(2 * most), np.empty(most, np.int64)
    for cell in range(cells):
        _prepare(lattices[cell].astype(np.float64), change, back, metric, lengths)
        atoms, shared = 0, 0
        for k in range(most):
            if occupied[cell, k]:
                x0, x1, x2 = points[cell, k, 0], points[cell, k, 1], points[cell, k, 2]
                for i in range(3):
                    coords[i, atoms] = x0 * back[0, i] + x1 * back[1, i] + x2 * back[2, i]
                place[atoms], slot[atoms] = k, k // length
                atoms += 1
                shared += k < length
        _search(
            coords[:, :atoms], shared, cross, metric, lengths, best[: 2 * atoms], who[: 2 * atoms]
        )
        own = SHIFTS[lengths.argmin()]
        for row in range(2 * atoms):
            if who[row] >= 0:
                a, b = row if row < atoms else row - atoms, who[row]
                if a == b:
                    shift[:] = own
                else:
                    _image(coords, a, b, best[row], metric, lengths, shift)
                rows[count, 0], rows[count, 1], rows[count, 2], rows[count, 3] = (
                    cell,
                    number + a,
                    slot[a],
                    place[a],
                )
                rows[count, 4], rows[count, 5], rows[count, 6] = number + b, slot[b], place[b]
                for i in range(3):
                    shifts[count, i] = (
                        shift[0] * change[0, i] + shift[1] * change[1, i] + shift[2] * change[2, i]
                    )
                count += 1
        number += atoms
    return rows[:count], shifts[:count]


@compiled(inline="always")
def _step(
    features: np.ndarray,
    row: np.ndarray,
    shift: np.ndarray,
    length: int,
    step: np.ndarray,
    vector: np.ndarray,
) -> float:
    """Fractional and Cartesian vector from the center of a row to its neighbour, and its length;
    features as `Cells.features`."""
    cell, center, other = row[0], 3 * (length + row[3]), 3 * (length + row[6])
    for i in range(3):
        step[i] = features[cell, other + i] - features[cell, center + i] + shift[i]
    for j in range(3):
        vector[j] = (
            step[0] * features[cell, j]
            + step[1] * features[cell, 3 + j]
            + step[2] * features[cell, 6 + j]
        )
    return np.sqrt(vector[0] ** 2 + vector[1] ** 2 + vector[2] ** 2)


@compiled()
def distances(
    features: np.ndarray, rows: np.ndarray, shifts: np.ndarray, length: int
) -> np.ndarray:
    """The distance of each row of `first_neighbours`; features `[cells, (1 + slots) * length *
    3]`."""
    out, step, vector = np.empty(len(rows)), np.empty(3), np.empty(3)
    for r in range(len(rows)):
        out[r] = _step(features, rows[r], shifts[r], length, step, vector)
    return out


@compiled()
def distances_backward(
    features: np.ndarray, rows: np.ndarray, shifts: np.ndarray, length: int, grad: np.ndarray
) -> np.ndarray:
    """The gradient of `distances` by `features`, given the one by the distances.

    With the step s and the vector v = s L: d|v| / ds = L v / |v| and d|v| / dL = s (x) v / |v|.
    Atoms on top of each other have no direction; a zero gradient is better than none.
    """
    out, step, vector = np.zeros_like(features), np.empty(3), np.empty(3)
    for r in range(len(rows)):
        distance = _step(features, rows[r], shifts[r], length, step, vector)
        if distance < 1e-15:
            continue
        cell, center, other = rows[r, 0], 3 * (length + rows[r, 3]), 3 * (length + rows[r, 6])
        for j in range(3):
            vector[j] *= grad[r] / distance
        for i in range(3):
            along = 0.0
            for j in range(3):
                along += features[cell, 3 * i + j] * vector[j]
                out[cell, 3 * i + j] += step[i] * vector[j]
            out[cell, other + i] += along
            out[cell, center + i] -= along
    return out
