"""Symmetry operations of many small cells: special points, common operations, origins.

An operation takes the fractional coordinates x to R x + t, and the atom i to the atom image[i]; its
translation follows from both and is not stored. Everything is compiled on first use and kept in the
cache beside this file.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from crystalgan.crystal.kernels.compiled import compiled

TOLERANCE = 2e-3  # of fractional coordinates that are the same


class Hosts(NamedTuple):
    """Cells with operations, into which sublattices are put."""

    rotation: np.ndarray  # [cells, ops, 3, 3]
    image: np.ndarray  # [cells, ops, atoms], int16
    operations: np.ndarray  # [cells], how many are there
    frac: np.ndarray  # [cells, atoms, 3]
    first: np.ndarray  # [cells], the number of an atom that is there


class Sublattices(NamedTuple):
    """Atoms that are put into each host, as one."""

    frac: np.ndarray  # [cells, sublattices, rows, 3]
    atoms: np.ndarray  # [cells, sublattices], how many of the rows are there


class Points(NamedTuple):
    """Special points of cells."""

    frac: np.ndarray  # [cells, most, 3]
    number: np.ndarray  # [cells], how many of them are there


@compiled(inline="always")
def _same(x: float, y: float) -> bool:
    return abs(x - y - np.rint(x - y)) < TOLERANCE


@compiled()
def special_points(
    rotation: np.ndarray, translation: np.ndarray, grid: np.ndarray, most: int
) -> np.ndarray:
    """At most `most` special points of a grid `[points, 3]`, those that most operations fix first.

    Of points that the operations turn into each other the first stays; only points that some
    operation beside identity keeps.
    """
    points = len(grid)
    order = np.zeros(points, np.int64)
    for p in range(points):
        for g in range(len(rotation)):
            kept = True
            for k in range(3):
                y = translation[g, k]
                for m in range(3):
                    y += rotation[g, k, m] * grid[p, m]
                if not _same(y, grid[p, k]):
                    kept = False
                    break
            order[p] += kept
    chosen = np.empty((most, 3))
    found = 0
    for p in np.argsort(-order, kind="mergesort"):
        if order[p] < 2 or found == most:
            break
        known = False
        for g in range(len(rotation)):
            y = translation[g].copy()
            for k in range(3):
                for m in range(3):
                    y[k] += rotation[g, k, m] * grid[p, m]
            for q in range(found):
                if (
                    _same(y[0], chosen[q, 0])
                    and _same(y[1], chosen[q, 1])
                    and _same(y[2], chosen[q, 2])
                ):
                    known = True
                    break
            if known:
                break
        if not known:
            chosen[found] = grid[p]
            found += 1
    return chosen[:found]


@compiled()
def _translation(
    rotation: np.ndarray, image: np.ndarray, frac: np.ndarray, out: np.ndarray, atom: int
) -> None:
    for k in range(3):
        out[k] = frac[image[atom], k]
        for m in range(3):
            out[k] -= rotation[k, m] * frac[atom, m]


@compiled()
def _turned(
    rotation: np.ndarray,
    image: np.ndarray,
    host: np.ndarray,
    first: int,
    frac: np.ndarray,
    out: np.ndarray,
) -> None:
    """Write where an operation takes each atom of `frac`."""
    _translation(rotation, image, host, out[0], first)
    out[1:] = out[0]
    for i in range(len(out)):
        for k in range(3):
            for m in range(3):
                out[i, k] += rotation[k, m] * frac[i, m]


@compiled()
def _maps(
    rotation: np.ndarray,
    turned: np.ndarray,
    frac: np.ndarray,
    shift: tuple[float, float, float],
    image: np.ndarray,
) -> bool:
    """Whether an operation, which takes the atoms to `turned`, takes them onto each other when they
    are shifted before.

    Writes which onto which.
    """
    s0, s1, s2 = shift
    move0 = rotation[0, 0] * s0 + rotation[0, 1] * s1 + rotation[0, 2] * s2 - s0
    move1 = rotation[1, 0] * s0 + rotation[1, 1] * s1 + rotation[1, 2] * s2 - s1
    move2 = rotation[2, 0] * s0 + rotation[2, 1] * s1 + rotation[2, 2] * s2 - s2
    for i in range(len(turned)):
        y0, y1, y2 = turned[i, 0] + move0, turned[i, 1] + move1, turned[i, 2] + move2
        image[i] = -1
        for j in range(len(turned)):
            if _same(y0, frac[j, 0]) and _same(y1, frac[j, 1]) and _same(y2, frac[j, 2]):
                image[i] = j
                break
        if image[i] < 0:
            return False
    return True


@compiled()
def _keeps(
    rotation: np.ndarray,
    turned: np.ndarray,
    frac: np.ndarray,
    atoms: np.ndarray,
    shift: tuple[float, float, float],
    images: np.ndarray,
) -> bool:
    """As `_maps`, for sublattices `[sublattices, rows, 3]` of which the first `atoms` are there,
    each onto itself."""
    for s in range(len(atoms)):
        if not _maps(rotation, turned[s, : atoms[s]], frac[s], shift, images[s]):
            return False
    return True


@compiled()
def common_operations(
    hosts: Hosts, incoming: Sublattices, shift: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Which operations of each host also keep the sublattices shifted by `shift` `[cells, 3]`.

    Returns masks `[cells, ops]` and the images of the sublattices' atoms under the operations that
    are kept, `[cells, ops, sublattices, rows]`.
    """
    cells, ops = hosts.rotation.shape[:2]
    parts, rows = incoming.frac.shape[1:3]
    kept, images = np.zeros((cells, ops), np.bool_), np.zeros((cells, ops, parts, rows), np.int16)
    turned, mine = np.empty((parts, rows, 3)), np.empty((parts, rows), np.int64)
    for c in range(cells):
        frac, atoms = incoming.frac[c], incoming.atoms[c]
        here = (shift[c, 0], shift[c, 1], shift[c, 2])
        for g in range(hosts.operations[c]):
            turn = hosts.rotation[c, g]
            for s in range(parts):
                _turned(turn, hosts.image[c, g], hosts.frac[c], hosts.first[c], frac[s], turned[s])
            kept[c, g] = _keeps(turn, turned, frac, atoms, here, mine)
            if kept[c, g]:
                for s in range(parts):
                    for i in range(rows):
                        images[c, g, s, i] = mine[s, i] if i < atoms[s] else i
    return kept, images


@compiled()
def symmetric_shifts(
    hosts: Hosts,
    incoming: Sublattices,
    host_points: Points,
    points: Points,
    order: np.ndarray,
    shifts: np.ndarray,
) -> None:
    """Write into `shifts` `[cells, k, 3]` origins that keep at least two operations of the host.

    A special point of the sublattices or an atom of the first of them comes onto a special point of
    the host. Combinations are tried in the order of the numbers `order` `[cells, host points *
    (points + rows)]`; a shift that is not found stays as it was.
    """
    parts, rows = incoming.frac.shape[1:3]
    mine, shift = np.empty((parts, rows), np.int64), np.empty(3)
    wanted, q_most = shifts.shape[1], points.frac.shape[1]
    turned = np.empty((hosts.rotation.shape[1], parts, rows, 3))
    for c in range(len(hosts.rotation)):
        turns, frac, atoms = hosts.rotation[c], incoming.frac[c], incoming.atoms[c]
        for g in range(hosts.operations[c]):
            for s in range(parts):
                _turned(
                    turns[g],
                    hosts.image[c, g],
                    hosts.frac[c],
                    hosts.first[c],
                    frac[s],
                    turned[g, s],
                )
        found = 0
        for n in order[c]:
            p, q = n // (q_most + rows), n % (q_most + rows)
            if p >= host_points.number[c] or (points.number[c] <= q < q_most):
                continue
            if q - q_most >= atoms[0]:
                continue
            for k in range(3):
                own = points.frac[c, q, k] if q < q_most else frac[0, q - q_most, k]
                shift[k] = host_points.frac[c, p, k] - own
            for g in range(1, hosts.operations[c]):  # after identity
                if _keeps(turns[g], turned[g], frac, atoms, (shift[0], shift[1], shift[2]), mine):
                    for k in range(3):
                        shifts[c, found, k] = shift[k]
                    found += 1
                    break
            if found == wanted:
                break
