"""Operations and special points of cells, found by spglib."""

from __future__ import annotations

import itertools
import os
from dataclasses import replace
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from crystalgan.crystal.symmetry import MOST_OPERATIONS, Symmetry

if TYPE_CHECKING:
    from crystalgan.crystal.cells import Cells

KEPT = 1000  # cells whose operations are remembered: some 5 MB
MOST_POINTS = 32  # special points of a cell that no operation turns into each other


def find_symmetry(cells: Cells, symprec: float, most: int = MOST_OPERATIONS) -> Cells:
    """Cells `[n]` made exactly symmetric, with operations that spglib finds at `symprec` (Å).

    Of a cell with more than `most` operations, as a supercell has, none is claimed.
    """
    lattices, fracs = cells.lattice.double().numpy().copy(), cells.frac.double().numpy().copy()
    mask = cells.mask.numpy()
    n, atoms = len(cells), mask[0].size
    rotation = np.zeros((n, most, 3, 3), np.float32)
    image = np.tile(np.arange(atoms, dtype=np.int16), (n, most, 1))
    count = np.ones(n, np.int64)
    rotation[:, 0] = np.eye(3)
    for c in range(n):
        there = np.flatnonzero(mask[c])
        frac = fracs[c].reshape(-1, 3)[there]
        kinds = there // mask.shape[2]
        turns, shifts = _operations(*_as_bytes(lattices[c], frac, kinds), symprec)
        moved = np.einsum("gij,aj->gai", turns, frac) + shifts[:, None]
        offset = moved[:, :, None] - frac  # [ops, atom, image, 3]
        offset -= np.rint(offset)
        distance = np.linalg.norm(offset @ lattices[c], axis=-1) + 1e3 * (kinds[:, None] != kinds)
        onto = distance.argmin(-1)
        permutes = (np.sort(onto, -1) == np.arange(len(there))).all(-1)
        if len(turns) > most or not permutes.all():
            continue  # not primitive, or looser than its own distances: no symmetry is claimed
        ops, mean = np.arange(len(turns))[:, None], np.zeros_like(frac)
        np.add.at(mean, onto, np.take_along_axis(offset, onto[:, :, None, None], 2)[:, :, 0])
        fracs[c].reshape(-1, 3)[there] = frac + mean / len(ops)
        metric = (turns.transpose(0, 2, 1) @ (lattices[c] @ lattices[c].T) @ turns).mean(0)
        lattices[c] = np.linalg.cholesky(metric)
        rotation[c, : len(turns)], count[c] = turns, len(turns)
        image[c, : len(turns)][:, there] = there[onto]
    found = Symmetry(*(torch.from_numpy(x) for x in (rotation, image, count, lattices)))
    dtype = cells.lattice.dtype
    found = replace(found, lattice=found.lattice.to(dtype))
    return replace(
        cells, lattice=found.lattice, frac=torch.from_numpy(fracs).to(dtype), symmetry=found
    )


def _as_bytes(lattice: np.ndarray, frac: np.ndarray, kinds: np.ndarray) -> tuple[bytes, ...]:
    """A cell (float64, and slots as int64) as the key of a cache, which an array cannot be."""
    numbers = (lattice.astype(np.float64), frac.astype(np.float64), kinds.astype(np.int64))
    return tuple(x.tobytes() for x in numbers)


@lru_cache(KEPT)
def _operations(
    lattice: bytes, frac: bytes, kinds: bytes, symprec: float
) -> tuple[np.ndarray, np.ndarray]:
    """Rotations and translations that spglib finds; the identity alone where it finds none.

    They are kept, since every model of a class has the same parents.
    """
    os.environ.setdefault("SPGLIB_WARNING", "OFF")
    import spglib

    cell = (
        np.frombuffer(lattice).reshape(3, 3),
        np.frombuffer(frac).reshape(-1, 3),
        np.frombuffer(kinds, np.int64) + 1,
    )
    try:
        found: Any = spglib.get_symmetry_dataset(cell, symprec)
    except spglib.SpglibError:
        found = None
    if found is None:
        return np.eye(3)[None], np.zeros((1, 3))
    return np.asarray(found.rotations, np.float64), np.asarray(found.translations, np.float64)


@cache
def _grid() -> np.ndarray:
    """Points whose coordinates are twelfths or eighths, where the special positions of all space
    groups lie."""
    steps = (np.arange(12) / 12, np.arange(8) / 8)
    return np.unique(np.array([p for s in steps for p in itertools.product(s, repeat=3)]), axis=0)


def special_points(cells: Cells, metals_only: bool, symprec: float) -> tuple[Tensor, Tensor]:
    """Special points `[n, MOST_POINTS, 3]` of binary cells `[n]` or of their metals, and counts.

    A special point is one that some operation beside identity leaves where it is.
    """
    points, count = np.zeros((len(cells), MOST_POINTS, 3)), np.zeros(len(cells), np.int64)
    for c, (lattice, frac, mask) in enumerate(
        zip(cells.lattice, cells.frac, cells.mask, strict=True)
    ):
        shown = mask & (torch.arange(len(mask))[:, None] > 0) if metals_only else mask
        kinds = shown.nonzero()[:, 0].numpy()
        cell = _as_bytes(lattice.double().numpy(), frac[shown].double().numpy(), kinds)
        found = _points_of(*cell, symprec)
        points[c, : len(found)], count[c] = found, len(found)
    return torch.from_numpy(points), torch.from_numpy(count)


@lru_cache(KEPT)
def _points_of(lattice: bytes, frac: bytes, kinds: bytes, symprec: float) -> np.ndarray:
    """Special points of one cell, kept as its operations are."""
    from crystalgan.crystal.kernels.symmetry import special_points as of_cell

    rotations, translations = _operations(lattice, frac, kinds, symprec)
    return of_cell(rotations, translations, _grid(), MOST_POINTS)


def no_symmetry(cells: Cells) -> Symmetry:
    """The identity alone, for cells `[n]`."""
    n, atoms = len(cells), cells.mask[0].numel()
    image = torch.arange(atoms, dtype=torch.int16).repeat(n, 1, 1)
    return Symmetry(
        torch.eye(3).repeat(n, 1, 1, 1),
        image,
        torch.ones(n, dtype=torch.int64),
        cells.lattice.detach(),
    )
