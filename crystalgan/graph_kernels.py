"""The periodic neighbour graph of many small cells and steps along its edges, compiled with numba; numpy arrays.

An edge joins an atom and another one, or an image of itself, within a cutoff; each is there once. Coordinates are those of
`Cells.features`: nine numbers of the lattice, its padding, then the atoms of all slots. Everything is compiled on first use and
kept in the cache beside this file.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from crystalgan.kernels import SHIFTS, _prepare, _spacings

MOST_IMAGES = 4  # in each direction: no cell worth looking at is thinner than a fifth of the cutoff
CLOSEST, FARTHEST = 1e-3, 1e3  # Å; atoms nearer than that have no direction, and a list of edges has none that are farther
FAST = {"reassoc", "contract", "arcp", "nsz", "afn"}  # all of fastmath but that nothing is infinite or not a number


@njit(cache=True)
def edges_of(features: np.ndarray, mask: np.ndarray, cutoff: float) -> tuple[np.ndarray, np.ndarray]:
    """All edges up to `cutoff` (Å): whole numbers `[edges, 3]` (cell, one atom, the other) and shifts `[edges, 3]` of the other.

    Features `[cells, features]`, mask `[cells, atoms]`. A cell that is not finite, or beyond all sense, has no edges.
    """
    cells, atoms = mask.shape
    length = features.shape[1] // 3 - atoms
    who, shifts, count = np.empty((256 * cells, 3), np.int32), np.empty((256 * cells, 3), features.dtype), 0
    change, back, metric, lengths = np.empty((3, 3)), np.empty((3, 3)), np.empty((3, 3)), np.empty(len(SHIFTS))
    coords, place, x, reach, most = np.empty((atoms, 3)), np.empty(atoms, np.int64), np.empty(3), np.empty(3), cutoff * cutoff
    low, high = np.empty(3, np.int64), np.empty(3, np.int64)
    for c in range(cells):
        if not (np.abs(features[c]) < FARTHEST).all():
            continue
        _prepare(features[c, :9].astype(np.float64).reshape(3, 3), change, back, metric, lengths)
        spacings = _spacings(metric)
        for i in range(3):
            reach[i] = min(cutoff / np.sqrt(max(spacings[i], 1e-12)), float(MOST_IMAGES))
        g00, g01, g02, g11, g12, g22 = metric[0, 0], metric[0, 1], metric[0, 2], metric[1, 1], metric[1, 2], metric[2, 2]
        n = 0
        for k in range(atoms):
            if mask[c, k]:
                for i in range(3):
                    at = 3 * (length + k)
                    coords[n, i] = (
                        features[c, at] * back[0, i] + features[c, at + 1] * back[1, i] + features[c, at + 2] * back[2, i]
                    )
                place[n] = k
                n += 1
        for a in range(n):
            for b in range(a, n):
                for i in range(3):
                    x[i] = coords[b, i] - coords[a, i]
                    low[i], high[i] = int(np.ceil(-reach[i] - x[i])), int(np.floor(reach[i] - x[i]))
                for n0 in range(low[0], high[0] + 1):
                    y0 = x[0] + n0
                    for n1 in range(low[1], high[1] + 1):
                        y1 = x[1] + n1
                        plane = y0 * (g00 * y0 + 2 * g01 * y1) + g11 * y1 * y1
                        slope = 2 * (g02 * y0 + g12 * y1)
                        for n2 in range(low[2], high[2] + 1):
                            y2 = x[2] + n2
                            if plane + y2 * (slope + g22 * y2) > most or (a == b and (n0, n1, n2) <= (0, 0, 0)):
                                continue
                            if count == len(who):
                                who = np.concatenate((who, np.empty_like(who)))
                                shifts = np.concatenate((shifts, np.empty_like(shifts)))
                            who[count, 0], who[count, 1], who[count, 2] = c, place[a], place[b]
                            for i in range(3):
                                shifts[count, i] = n0 * change[0, i] + n1 * change[1, i] + n2 * change[2, i]
                            count += 1
    return who[:count], shifts[:count]


@njit(cache=True, fastmath=FAST)
def step(
    features: np.ndarray,
    who: np.ndarray,
    shifts: np.ndarray,
    tables: np.ndarray,
    slots: int,
    per_net: int,
    atoms: np.ndarray,
    first: float,
    width: float,
) -> np.ndarray:
    """Every atom moves along its edges, and the cell is strained along all of them: `[cells, features]`.

    Tables `[nets, 2, slots * slots, knots]` of displacements (Å) and strains, linear between knots from `first` on with spacing
    `width` (Å); cell c takes the tables of net c // per_net and holds `atoms[c]`. Atom i moves by the sum of table(d) v / d over
    its edges v; the lattice L becomes L + L sum of table(d) v (x) v / d^2 / atoms over both directions of every edge.
    """
    out = features.copy()
    length = features.shape[1] // 3 // (slots + 1)
    top = tables.shape[3] - 1.0
    for e in range(len(who)):
        c, i, j = who[e, 0], who[e, 1], who[e, 2]
        here, there = 3 * (length + i), 3 * (length + j)
        s0 = features[c, there] - features[c, here] + shifts[e, 0]
        s1 = features[c, there + 1] - features[c, here + 1] + shifts[e, 1]
        s2 = features[c, there + 2] - features[c, here + 2] + shifts[e, 2]
        v0 = s0 * features[c, 0] + s1 * features[c, 3] + s2 * features[c, 6]
        v1 = s0 * features[c, 1] + s1 * features[c, 4] + s2 * features[c, 7]
        v2 = s0 * features[c, 2] + s1 * features[c, 5] + s2 * features[c, 8]
        square = v0 * v0 + v1 * v1 + v2 * v2
        if not CLOSEST * CLOSEST < square < FARTHEST * FARTHEST:
            continue
        distance = np.sqrt(square)
        along = min(max((distance - first) / width, 0.0), top)
        k = min(int(along), tables.shape[3] - 2)
        part = along - k
        net, one, other = c // per_net, i // length, j // length
        there_kind, back_kind = one * slots + other, other * slots + one
        forth = (tables[net, 0, there_kind, k] * (1 - part) + tables[net, 0, there_kind, k + 1] * part) / distance
        back = (tables[net, 0, back_kind, k] * (1 - part) + tables[net, 0, back_kind, k + 1] * part) / distance
        psi = (tables[net, 1, there_kind, k] + tables[net, 1, back_kind, k]) * (1 - part)
        psi = (psi + (tables[net, 1, there_kind, k + 1] + tables[net, 1, back_kind, k + 1]) * part) / (square * atoms[c])
        out[c, here] += forth * s0
        out[c, here + 1] += forth * s1
        out[c, here + 2] += forth * s2
        out[c, there] -= back * s0
        out[c, there + 1] -= back * s1
        out[c, there + 2] -= back * s2
        for m in range(3):
            lv = psi * (features[c, 3 * m] * v0 + features[c, 3 * m + 1] * v1 + features[c, 3 * m + 2] * v2)
            out[c, 3 * m] += lv * v0
            out[c, 3 * m + 1] += lv * v1
            out[c, 3 * m + 2] += lv * v2
    return out


@njit(cache=True, fastmath=FAST)
def step_backward(
    features: np.ndarray,
    who: np.ndarray,
    shifts: np.ndarray,
    tables: np.ndarray,
    slots: int,
    per_net: int,
    atoms: np.ndarray,
    first: float,
    width: float,
    grad: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """The gradients of `step` by features and tables, given the one by what it returns."""
    by_features, by_tables = grad.copy(), np.zeros_like(tables)
    length = features.shape[1] // 3 // (slots + 1)
    top = tables.shape[3] - 1.0
    for e in range(len(who)):
        c, i, j = who[e, 0], who[e, 1], who[e, 2]
        here, there = 3 * (length + i), 3 * (length + j)
        s0 = features[c, there] - features[c, here] + shifts[e, 0]
        s1 = features[c, there + 1] - features[c, here + 1] + shifts[e, 1]
        s2 = features[c, there + 2] - features[c, here + 2] + shifts[e, 2]
        v0 = s0 * features[c, 0] + s1 * features[c, 3] + s2 * features[c, 6]
        v1 = s0 * features[c, 1] + s1 * features[c, 4] + s2 * features[c, 7]
        v2 = s0 * features[c, 2] + s1 * features[c, 5] + s2 * features[c, 8]
        square = v0 * v0 + v1 * v1 + v2 * v2
        if not CLOSEST * CLOSEST < square < FARTHEST * FARTHEST:
            continue
        distance = np.sqrt(square)
        along = min(max((distance - first) / width, 0.0), top)
        k = min(int(along), tables.shape[3] - 2)
        part = along - k
        slope = 1.0 / width if 0.0 < along < top else 0.0
        net, one, other = c // per_net, i // length, j // length
        there_kind, back_kind = one * slots + other, other * slots + one
        lower, upper = tables[net, 0, there_kind, k], tables[net, 0, there_kind, k + 1]
        forth, forth_slope = lower * (1 - part) + upper * part, (upper - lower) * slope
        lower, upper = tables[net, 0, back_kind, k], tables[net, 0, back_kind, k + 1]
        back, back_slope = lower * (1 - part) + upper * part, (upper - lower) * slope
        lower = tables[net, 1, there_kind, k] + tables[net, 1, back_kind, k]
        upper = tables[net, 1, there_kind, k + 1] + tables[net, 1, back_kind, k + 1]
        psi, psi_slope = lower * (1 - part) + upper * part, (upper - lower) * slope
        of_forth = (grad[c, here] * s0 + grad[c, here + 1] * s1 + grad[c, here + 2] * s2) / distance
        of_back = -(grad[c, there] * s0 + grad[c, there + 1] * s1 + grad[c, there + 2] * s2) / distance
        scale = 1.0 / (square * atoms[c])
        of_psi, w0, w1, w2 = 0.0, 0.0, 0.0, 0.0
        for m in range(3):
            l0, l1, l2 = features[c, 3 * m], features[c, 3 * m + 1], features[c, 3 * m + 2]
            g0, g1, g2 = grad[c, 3 * m], grad[c, 3 * m + 1], grad[c, 3 * m + 2]
            lv, gv = l0 * v0 + l1 * v1 + l2 * v2, g0 * v0 + g1 * v1 + g2 * v2
            of_psi += lv * gv * scale
            w0 += l0 * gv + g0 * lv
            w1 += l1 * gv + g1 * lv
            w2 += l2 * gv + g2 * lv
            by_features[c, 3 * m] += psi * scale * gv * v0
            by_features[c, 3 * m + 1] += psi * scale * gv * v1
            by_features[c, 3 * m + 2] += psi * scale * gv * v2
        for n in range(2):
            weight = part if n else 1 - part
            by_tables[net, 0, there_kind, k + n] += of_forth * weight
            by_tables[net, 0, back_kind, k + n] += of_back * weight
            by_tables[net, 1, there_kind, k + n] += of_psi * weight
            by_tables[net, 1, back_kind, k + n] += of_psi * weight
        of_distance = of_forth * (forth_slope - forth / distance) + of_back * (back_slope - back / distance)
        of_distance = (of_distance + of_psi * (psi_slope - 2 * psi / distance)) / distance
        w0, w1, w2 = of_distance * v0 + psi * scale * w0, of_distance * v1 + psi * scale * w1, of_distance * v2 + psi * scale * w2
        for m in range(3):
            s = s0 if m == 0 else (s1 if m == 1 else s2)
            by_s = features[c, 3 * m] * w0 + features[c, 3 * m + 1] * w1 + features[c, 3 * m + 2] * w2
            by_s += (forth * grad[c, here + m] - back * grad[c, there + m]) / distance
            by_features[c, 3 * m] += s * w0
            by_features[c, 3 * m + 1] += s * w1
            by_features[c, 3 * m + 2] += s * w2
            by_features[c, there + m] += by_s
            by_features[c, here + m] -= by_s
    return by_features, by_tables


@njit(cache=True)
def nearest(
    features: np.ndarray, who: np.ndarray, shifts: np.ndarray, slots: int, most: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The nearest neighbours of every atom among shared atoms and among metals, at most `most` of each.

    Returns rows and shifts as `kernels.distances` takes them, and where each belongs: numbers `[rows]` of
    `[cells, atoms, 2, most]`, the third axis for shared atoms and metals.
    """
    length = features.shape[1] // 3 // (slots + 1)
    cells, atoms = len(features), slots * length
    best, edge = np.full((cells, atoms, 2, most), np.inf), np.full((cells, atoms, 2, most), -1, np.int64)
    s, v = np.empty(3), np.empty(3)
    for e in range(len(who)):
        c = who[e, 0]
        for k in range(3):
            s[k] = features[c, 3 * (length + who[e, 2]) + k] - features[c, 3 * (length + who[e, 1]) + k] + shifts[e, k]
        for k in range(3):
            v[k] = s[0] * features[c, k] + s[1] * features[c, 3 + k] + s[2] * features[c, 6 + k]
        square = v[0] * v[0] + v[1] * v[1] + v[2] * v[2]
        for turn in range(2):
            i, j = who[e, 1 + turn], who[e, 2 - turn]
            kind = 0 if j < length else 1
            if square >= best[c, i, kind, most - 1]:
                continue
            k = most - 1
            while k > 0 and best[c, i, kind, k - 1] > square:
                best[c, i, kind, k], edge[c, i, kind, k] = best[c, i, kind, k - 1], edge[c, i, kind, k - 1]
                k -= 1
            best[c, i, kind, k], edge[c, i, kind, k] = square, 2 * e + turn
    places = np.flatnonzero(edge >= 0)
    rows, at = np.zeros((len(places), 7), np.int64), np.empty((len(places), 3))
    for n in range(len(places)):
        e, turn = edge.flat[places[n]] // 2, edge.flat[places[n]] % 2
        rows[n, 0], rows[n, 3], rows[n, 6] = who[e, 0], who[e, 1 + turn], who[e, 2 - turn]
        rows[n, 2], rows[n, 5] = rows[n, 3] // length, rows[n, 6] // length
        at[n] = -shifts[e] if turn else shifts[e]
    return rows, at, places
