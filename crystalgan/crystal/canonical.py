"""One description of each crystal: primitive, reduced, with one origin, order and orientation."""

from __future__ import annotations

import itertools
import os
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from crystalgan.crystal.lattice import niggli

if TYPE_CHECKING:
    from pymatgen.core import Structure

KEY_DECIMALS = 1000  # canonical order compares fractional coordinates to 1/1000


def primitive(structure: Structure, symprec: float = 1e-3) -> Structure:
    """The primitive cell found with `symprec` (Å), not idealised; a primitive cell stays."""
    from pymatgen.core import Structure

    symmetry = _symmetry(structure, symprec)
    # one pure translation: itself
    if symmetry is None or (symmetry.rotations == np.eye(3)).all(axis=(1, 2)).sum() == 1:
        return structure.copy()
    import spglib

    found = spglib.standardize_cell(
        _spglib_cell(structure), to_primitive=True, no_idealize=True, symprec=symprec
    )
    return structure.copy() if found is None else Structure(found[0], found[2], found[1])


def space_group(structure: Structure, symprec: float) -> tuple[int, str]:
    """Number and symbol of the space group that spglib finds with `symprec` (Å), or of P1.

    >>> from pymatgen.core import Lattice, Structure
    >>> space_group(Structure(Lattice.cubic(3.0), ["Po"], [[0, 0, 0]]), 0.01)
    (221, 'Pm-3m')
    """
    symmetry = _symmetry(structure, symprec)
    return (1, "P1") if symmetry is None else (int(symmetry.number), str(symmetry.international))


def _symmetry(structure: Structure, symprec: float) -> Any:
    os.environ.setdefault("SPGLIB_WARNING", "OFF")  # a cell without symmetry is nothing to warn of
    import spglib

    try:
        return spglib.get_symmetry_dataset(_spglib_cell(structure), symprec)
    except spglib.SpglibError:
        return None


def _spglib_cell(structure: Structure) -> tuple[np.ndarray, np.ndarray, list[int]]:
    return structure.lattice.matrix, structure.frac_coords, [site.specie.Z for site in structure]


def canonical(structure: Structure) -> Structure:
    """The same structure for each crystal, whatever basis, origin, order and orientation it had.

    Primitive, Niggli-reduced, right-handed, a along x and b in the xy plane. Among the
    automorphisms of the lattice and the atoms that may sit at the origin, the one whose sorted
    coordinates come first is taken. Species are sorted by name.

    >>> from pymatgen.core import Lattice, Structure
    >>> moved = Structure(Lattice.cubic(3.0), ["Pd", "H"], [[0.2, 0.1, 0], [0.7, 0.6, 0.5]])
    >>> canonical(moved).frac_coords.round(6).tolist()
    [[0.0, 0.0, 0.0], [0.5, 0.5, 0.5]]
    """
    from pymatgen.core import Structure

    lattice, frac, symbols = niggli(primitive(structure))
    kinds, kind = np.unique(symbols, return_inverse=True)
    counts = np.bincount(kind)
    rare = int(np.argmin(counts))
    turns = _automorphisms(lattice)  # [u, 3, 3]
    trials = np.einsum(
        "oni,uij->uonj", frac[None] - frac[kind == rare][:, None], np.linalg.inv(turns)
    )
    trials = trials.reshape(-1, *frac.shape)
    trials -= np.floor(trials + 0.5 / KEY_DECIMALS)
    keys = np.rint(trials * KEY_DECIMALS).astype(np.int64) @ np.array(
        [KEY_DECIMALS**2, KEY_DECIMALS, 1]
    )
    order = np.lexsort((keys, np.broadcast_to(kind, keys.shape)), axis=-1)
    best = np.lexsort(np.take_along_axis(keys, order, -1).T[::-1])[0]
    turned = turns[best // counts[rare]] @ lattice
    upright = np.linalg.cholesky(turned @ turned.T)  # lower triangular: a along x, b in xy
    return Structure(upright, kinds[kind[order[best]]].tolist(), trials[best][order[best]])


@cache
def _unimodular() -> np.ndarray:
    """Integer matrices with entries -1, 0, 1 and determinant 1: all rotations of lattices."""
    every = np.array(list(itertools.product((-1, 0, 1), repeat=9))).reshape(-1, 3, 3)
    return every[np.rint(np.linalg.det(every)) == 1]


def _automorphisms(lattice: np.ndarray, tolerance: float = 1e-3) -> np.ndarray:
    """Changes of basis `[n, 3, 3]` that keep the metric of a reduced lattice within `tolerance`."""
    metric = lattice @ lattice.T
    every = _unimodular()
    changed = every @ metric @ every.transpose(0, 2, 1)
    return every[(np.abs(changed - metric) <= tolerance * np.trace(metric)).all(axis=(1, 2))]
