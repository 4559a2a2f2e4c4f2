"""The periodic neighbour graph of many small cells, and steps along its edges.

An edge joins an atom and another one, or an image of itself, within a cutoff; each is there once.
Coordinates are those of `Cells.features`: nine numbers of the lattice, its padding, then the atoms
of all slots. Everything is compiled on first use and kept in the cache beside this file.
"""

from __future__ import annotations

import numpy as np

from crystalgan.crystal.kernels.compiled import compiled
from crystalgan.crystal.kernels.distances import SHIFTS, _prepare, _spacings

MOST_IMAGES = 4  # in each direction: no sound cell is thinner than a fifth of the cutoff
# Å³ an atom: a cell with as many edges as at less has collapsed, and could fill any memory
LEAST_VOLUME = 0.5
# Å; atoms nearer than that have no direction, and a list of edges has none that are farther
CLOSEST, FARTHEST = 1e-3, 1e3
# all of fastmath but that nothing is infinite or not a number
FAST = {"reassoc", "contract", "arcp", "nsz", "afn"}


@compiled()
def _placed(
    features: np.ndarray,
    mask: np.ndarray,
    cutoff: float,
    change: np.ndarray,
    back: np.ndarray,
    metric: np.ndarray,
    lengths: np.ndarray,
    reach: np.ndarray,
    coords: np.ndarray,
    place: np.ndarray,
) -> int:
    """How many atoms a cell holds; written: its reduced basis, the images within the cutoff along
    each of its vectors, and the atoms' coordinates in it `[atoms, 3]` with their places in the
    mask.
    """
    _prepare(features[:9].astype(np.float64).reshape(3, 3), change, back, metric, lengths)
    spacings, length, n = _spacings(metric), len(features) // 3 - len(mask), 0
    for i in range(3):
        reach[i] = min(cutoff / np.sqrt(max(spacings[i], 1e-12)), float(MOST_IMAGES))
    for k in range(len(mask)):
        if mask[k]:
            at = 3 * (length + k)
            for i in range(3):
                coords[n, i] = (
                    features[at] * back[0, i]
                    + features[at + 1] * back[1, i]
                    + features[at + 2] * back[2, i]
                )
            place[n] = k
            n += 1
    return n


@compiled()
def edges_of(
    features: np.ndarray, mask: np.ndarray, cutoff: float
) -> tuple[np.ndarray, np.ndarray]:
    """All edges up to `cutoff` (Å): whole numbers `[edges, 3]` (cell, one atom, the other) and
    shifts `[edges, 3]` of the other.

    Features `[cells, features]`, mask `[cells, atoms]`. A cell that is not finite, collapsed or
    beyond all sense has no edges.
    """
    cells, atoms = mask.shape
    who, shifts, count = (
        np.empty((256 * cells, 3), np.int32),
        np.empty((256 * cells, 3), features.dtype),
        0,
    )
    change, back, metric, lengths = (
        np.empty((3, 3)),
        np.empty((3, 3)),
        np.empty((3, 3)),
        np.empty(len(SHIFTS)),
    )
    coords, place, x, reach, most = (
        np.empty((atoms, 3)),
        np.empty(atoms, np.int64),
        np.empty(3),
        np.empty(3),
        cutoff * cutoff,
    )
    low, high = np.empty(3, np.int64), np.empty(3, np.int64)
    for c in range(cells):
        if not (np.abs(features[c]) < FARTHEST).all():
            continue
        n = _placed(
            features[c], mask[c], cutoff, change, back, metric, lengths, reach, coords, place
        )
        g00, g01, g02, g11, g12, g22 = (
            metric[0, 0],
            metric[0, 1],
            metric[0, 2],
            metric[1, 1],
            metric[1, 2],
            metric[2, 2],
        )
        # half the atoms of a sphere, for each atom
        begin, most_here = count, count + int(n * 2.1 * cutoff**3 / LEAST_VOLUME)
        for a in range(n):
            if count > most_here:
                break
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
                            if plane + y2 * (slope + g22 * y2) > most or (
                                a == b and (n0, n1, n2) <= (0, 0, 0)
                            ):
                                continue
                            if count == len(who):
                                who = np.concatenate((who, np.empty_like(who)))
                                shifts = np.concatenate((shifts, np.empty_like(shifts)))
                            who[count, 0], who[count, 1], who[count, 2] = c, place[a], place[b]
                            for i in range(3):
                                shifts[count, i] = (
                                    n0 * change[0, i] + n1 * change[1, i] + n2 * change[2, i]
                                )
                            count += 1
        if count > most_here:
            count = begin
    return who[:count], shifts[:count]


@compiled(inline="always")
def _lattice(x: np.ndarray) -> tuple[float, ...]:
    return x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7], x[8]


@compiled(inline="always")
def _edge(
    x: np.ndarray, shift: np.ndarray, here: int, there: int, lattice: tuple[float, ...]
) -> tuple[float, float, float, float, float, float]:
    """From one atom of a cell to another, whose coordinates begin at `here` and `there`: fractional
    and Cartesian (Å)."""
    s0, s1, s2 = (
        x[there] - x[here] + shift[0],
        x[there + 1] - x[here + 1] + shift[1],
        x[there + 2] - x[here + 2] + shift[2],
    )
    v0 = s0 * lattice[0] + s1 * lattice[3] + s2 * lattice[6]
    v1 = s0 * lattice[1] + s1 * lattice[4] + s2 * lattice[7]
    v2 = s0 * lattice[2] + s1 * lattice[5] + s2 * lattice[8]
    return s0, s1, s2, v0, v1, v2


@compiled(inline="always")
def _knot(distance: float, first: float, width: float, knots: int) -> tuple[int, float, bool]:
    """The knot of a table before a distance, how far it is to the next one (0 to 1), and whether
    the table bends there at all."""
    along = min(max((distance - first) / width, 0.0), knots - 1.0)
    k = min(int(along), knots - 2)
    return k, along - k, 0.0 < along < knots - 1.0


@compiled(fastmath=FAST)
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
    """Every atom moves along its edges, and the cell is strained along all of them: `[cells,
    features]`.

    Tables `[nets, 2, slots * slots, knots]` of displacements (Å) and strains, linear between knots
    from `first` on with spacing `width` (Å); cell c takes the tables of net c // per_net and holds
    `atoms[c]`. Atom i moves by the sum of table(d) v / d over its edges v; the lattice L becomes L
    + L sum of table(d) v (x) v / d^2 / atoms over both directions of every edge.
    """
    out = features.copy()
    length = features.shape[1] // 3 // (slots + 1)
    begin = 0
    while begin < len(who):  # cell by cell: what its edges share is worked out once
        c = who[begin, 0]
        net, scale = c // per_net, 1.0 / atoms[c]
        lattice = _lattice(features[c])
        # sum of table(d) v (x) v / d^2 over the edges
        p00, p01, p02, p11, p12, p22 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        end = begin
        while end < len(who) and who[end, 0] == c:
            e, end = end, end + 1
            i, j = who[e, 1], who[e, 2]
            here, there = 3 * (length + i), 3 * (length + j)
            s0, s1, s2, v0, v1, v2 = _edge(features[c], shifts[e], here, there, lattice)
            square = v0 * v0 + v1 * v1 + v2 * v2
            if not CLOSEST * CLOSEST < square < FARTHEST * FARTHEST:
                continue
            distance = np.sqrt(square)
            k, part, _ = _knot(distance, first, width, tables.shape[3])
            there_kind, back_kind = (
                i // length * slots + j // length,
                j // length * slots + i // length,
            )
            forth = (
                tables[net, 0, there_kind, k] * (1 - part)
                + tables[net, 0, there_kind, k + 1] * part
            ) / distance
            back = (
                tables[net, 0, back_kind, k] * (1 - part) + tables[net, 0, back_kind, k + 1] * part
            ) / distance
            psi = (tables[net, 1, there_kind, k] + tables[net, 1, back_kind, k]) * (1 - part)
            psi = (
                (
                    psi
                    + (tables[net, 1, there_kind, k + 1] + tables[net, 1, back_kind, k + 1]) * part
                )
                * scale
                / square
            )
            out[c, here] += forth * s0
            out[c, here + 1] += forth * s1
            out[c, here + 2] += forth * s2
            out[c, there] -= back * s0
            out[c, there + 1] -= back * s1
            out[c, there + 2] -= back * s2
            p00, p01, p02 = p00 + psi * v0 * v0, p01 + psi * v0 * v1, p02 + psi * v0 * v2
            p11, p12, p22 = p11 + psi * v1 * v1, p12 + psi * v1 * v2, p22 + psi * v2 * v2
        for m in range(3):
            x, y, z = features[c, 3 * m], features[c, 3 * m + 1], features[c, 3 * m + 2]
            out[c, 3 * m] += x * p00 + y * p01 + z * p02
            out[c, 3 * m + 1] += x * p01 + y * p11 + z * p12
            out[c, 3 * m + 2] += x * p02 + y * p12 + z * p22
        begin = end
    return out


@compiled(fastmath=FAST)
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
    begin = 0
    while begin < len(who):
        c = who[begin, 0]
        net, scale = c // per_net, 1.0 / atoms[c]
        lattice = _lattice(features[c])
        l00, l01, l02, l10, l11, l12, l20, l21, l22 = lattice
        g00, g01, g02, g10, g11, g12, g20, g21, g22 = _lattice(grad[c])
        # L^T G + its transpose, for the lattice L and its gradient G: half of v^T of it v is what a
        # strain along v changes
        q00, q11 = 2 * (l00 * g00 + l10 * g10 + l20 * g20), 2 * (l01 * g01 + l11 * g11 + l21 * g21)
        q22 = 2 * (l02 * g02 + l12 * g12 + l22 * g22)
        q01 = l00 * g01 + l10 * g11 + l20 * g21 + g00 * l01 + g10 * l11 + g20 * l21
        q02 = l00 * g02 + l10 * g12 + l20 * g22 + g00 * l02 + g10 * l12 + g20 * l22
        q12 = l01 * g02 + l11 * g12 + l21 * g22 + g01 * l02 + g11 * l12 + g21 * l22
        p00, p01, p02, p11, p12, p22 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0  # as in `step`
        # sum of s (x) dE/dv
        r00, r01, r02, r10, r11, r12, r20, r21, r22 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        end = begin
        while end < len(who) and who[end, 0] == c:
            e, end = end, end + 1
            i, j = who[e, 1], who[e, 2]
            here, there = 3 * (length + i), 3 * (length + j)
            s0, s1, s2, v0, v1, v2 = _edge(features[c], shifts[e], here, there, lattice)
            square = v0 * v0 + v1 * v1 + v2 * v2
            if not CLOSEST * CLOSEST < square < FARTHEST * FARTHEST:
                continue
            distance = np.sqrt(square)
            inverse = 1.0 / distance
            k, part, bends = _knot(distance, first, width, tables.shape[3])
            slope = 1.0 / width if bends else 0.0
            there_kind, back_kind = (
                i // length * slots + j // length,
                j // length * slots + i // length,
            )
            lower, upper = tables[net, 0, there_kind, k], tables[net, 0, there_kind, k + 1]
            forth, forth_slope = (
                (lower * (1 - part) + upper * part) * inverse,
                (upper - lower) * slope,
            )
            lower, upper = tables[net, 0, back_kind, k], tables[net, 0, back_kind, k + 1]
            back, back_slope = (
                (lower * (1 - part) + upper * part) * inverse,
                (upper - lower) * slope,
            )
            lower = tables[net, 1, there_kind, k] + tables[net, 1, back_kind, k]
            upper = tables[net, 1, there_kind, k + 1] + tables[net, 1, back_kind, k + 1]
            psi, psi_slope = lower * (1 - part) + upper * part, (upper - lower) * slope
            of_forth = (
                grad[c, here] * s0 + grad[c, here + 1] * s1 + grad[c, here + 2] * s2
            ) * inverse
            of_back = (
                -(grad[c, there] * s0 + grad[c, there + 1] * s1 + grad[c, there + 2] * s2) * inverse
            )
            w0, w1, w2 = (
                q00 * v0 + q01 * v1 + q02 * v2,
                q01 * v0 + q11 * v1 + q12 * v2,
                q02 * v0 + q12 * v1 + q22 * v2,
            )
            per = scale * inverse * inverse
            of_psi = 0.5 * per * (w0 * v0 + w1 * v1 + w2 * v2)
            for n in range(2):
                weight = part if n else 1 - part
                by_tables[net, 0, there_kind, k + n] += of_forth * weight
                by_tables[net, 0, back_kind, k + n] += of_back * weight
                by_tables[net, 1, there_kind, k + n] += of_psi * weight
                by_tables[net, 1, back_kind, k + n] += of_psi * weight
            of_distance = of_forth * (forth_slope - forth) + of_back * (back_slope - back)
            of_distance = (of_distance + of_psi * (psi_slope - 2 * psi * inverse)) * inverse
            psi = psi * per
            p00, p01, p02 = p00 + psi * v0 * v0, p01 + psi * v0 * v1, p02 + psi * v0 * v2
            p11, p12, p22 = p11 + psi * v1 * v1, p12 + psi * v1 * v2, p22 + psi * v2 * v2
            w0, w1, w2 = (
                of_distance * v0 + psi * w0,
                of_distance * v1 + psi * w1,
                of_distance * v2 + psi * w2,
            )
            r00, r01, r02 = r00 + s0 * w0, r01 + s0 * w1, r02 + s0 * w2
            r10, r11, r12 = r10 + s1 * w0, r11 + s1 * w1, r12 + s1 * w2
            r20, r21, r22 = r20 + s2 * w0, r21 + s2 * w1, r22 + s2 * w2
            by_0 = l00 * w0 + l01 * w1 + l02 * w2 + forth * grad[c, here] - back * grad[c, there]
            by_1 = (
                l10 * w0
                + l11 * w1
                + l12 * w2
                + forth * grad[c, here + 1]
                - back * grad[c, there + 1]
            )
            by_2 = (
                l20 * w0
                + l21 * w1
                + l22 * w2
                + forth * grad[c, here + 2]
                - back * grad[c, there + 2]
            )
            by_features[c, there] += by_0
            by_features[c, there + 1] += by_1
            by_features[c, there + 2] += by_2
            by_features[c, here] -= by_0
            by_features[c, here + 1] -= by_1
            by_features[c, here + 2] -= by_2
        by_features[c, 0] += g00 * p00 + g01 * p01 + g02 * p02 + r00
        by_features[c, 1] += g00 * p01 + g01 * p11 + g02 * p12 + r01
        by_features[c, 2] += g00 * p02 + g01 * p12 + g02 * p22 + r02
        by_features[c, 3] += g10 * p00 + g11 * p01 + g12 * p02 + r10
        by_features[c, 4] += g10 * p01 + g11 * p11 + g12 * p12 + r11
        by_features[c, 5] += g10 * p02 + g11 * p12 + g12 * p22 + r12
        by_features[c, 6] += g20 * p00 + g21 * p01 + g22 * p02 + r20
        by_features[c, 7] += g20 * p01 + g21 * p11 + g22 * p12 + r21
        by_features[c, 8] += g20 * p02 + g21 * p12 + g22 * p22 + r22
        begin = end
    return by_features, by_tables
