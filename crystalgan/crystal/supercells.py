"""Supercells of a crystal: all different sublattices of a given index, the most symmetric first.

A sublattice is a Hermite normal form, and two are the same where an operation of the crystal turns
one into the other (Hart and Forcade, Phys. Rev. B 77, 224115 (2008)).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import torch

from crystalgan.crystal.cells import Cells
from crystalgan.crystal.lattice import lattice_points, niggli_change, wrapped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymatgen.core import Structure


@dataclass(frozen=True)
class Supercell:
    """A sublattice of a crystal, with how much of its symmetry it keeps."""

    matrix: np.ndarray  # [3, 3], integers; its rows are the supercell's vectors
    kept: float  # share of the crystal's rotations that are rotations of the sublattice


@cache
def _hermite_forms(index: int) -> np.ndarray:
    """All lower triangular Hermite normal forms `[n, 3, 3]` of a determinant."""
    forms = [
        [[a, 0, 0], [ba, b, 0], [ca, cb, c]]
        for a in _divisors(index)
        for b in _divisors(index // a)
        for c in (index // a // b,)
        for ba in range(a)
        for ca in range(a)
        for cb in range(b)
    ]
    return np.array(forms)


def _divisors(number: int) -> list[int]:
    return [k for k in range(1, number + 1) if number % k == 0]


def _hermite(rows: np.ndarray) -> tuple[int, ...]:
    """The lower triangular Hermite normal form of the lattice that integer `rows` `[3, 3]` span."""
    m = [[int(x) for x in row] for row in rows]
    for k in (2, 1, 0):
        # all but one of the first k + 1 rows get a zero in column k
        while len(left := [r for r in range(k + 1) if m[r][k]]) > 1:
            least = min(left, key=lambda r: abs(m[r][k]))
            for r in left:
                if r != least:
                    times = m[r][k] // m[least][k]
                    m[r] = [x - times * y for x, y in zip(m[r], m[least], strict=True)]
        m[k], m[left[0]] = m[left[0]], m[k]
        if m[k][k] < 0:
            m[k] = [-x for x in m[k]]
        for r in range(k + 1, 3):
            times = m[r][k] // m[k][k]
            m[r] = [x - times * y for x, y in zip(m[r], m[k], strict=True)]
    return tuple(x for row in m for x in row)


def supercells(structure: Structure, index: int, symprec: float = 0.05) -> list[Supercell]:
    """The different sublattices of an index, those that keep most of the symmetry first.

    `structure` is a primitive cell, whose space group is found within `symprec` (Å).

    >>> from pymatgen.core import Lattice, Structure
    >>> fcc = Structure(Lattice([[0, 2, 2], [2, 0, 2], [2, 2, 0]]), ["Pd"], [[0, 0, 0]])
    >>> [len(supercells(fcc, index)) for index in (1, 2, 3, 4)]
    [1, 2, 3, 7]
    """
    rotations = _rotations(structure, symprec)
    out, seen = [], set[tuple[int, ...]]()
    for form in _hermite_forms(index):
        if tuple(form.flatten()) in seen:
            continue
        turned = [_hermite(form @ rotation.T) for rotation in rotations]
        seen.update(turned)
        same = turned.count(tuple(form.flatten()))
        out.append(Supercell(form, same / len(rotations)))
    return sorted(out, key=lambda one: -one.kept)


def _rotations(structure: Structure, symprec: float) -> np.ndarray:
    """The different rotations `[n, 3, 3]` of a crystal, of fractional coordinates as columns."""
    import spglib

    cell = structure.lattice.matrix, structure.frac_coords, [site.specie.Z for site in structure]
    try:
        found = spglib.get_symmetry(cell, symprec)
    except spglib.SpglibError:
        found = None
    return np.unique(found["rotations"], axis=0) if found else np.eye(3, dtype=int)[None]


def draw_supercell(options: Sequence[Supercell], rng: np.random.Generator) -> int:
    """The number of one of the supercells of `supercells`; the first ones come more often."""
    return min(int(rng.exponential(len(options) / 3 + 0.3)), len(options) - 1)


def supercell_of(cell: Cells, supercell: Supercell) -> Cells:
    """The supercell of one cell `[1]`; the copies of an atom follow each other."""
    lattice = cell.lattice[0].numpy()
    change = supercell.matrix
    reduced = niggli_change(change @ lattice)
    change = change if reduced is None else reduced @ change
    points, back = lattice_points(change), np.linalg.inv(change)
    slots = [
        wrapped(((frac[mask].numpy()[:, None] + points) @ back).reshape(-1, 3))
        for frac, mask in zip(cell.frac[0], cell.mask[0], strict=True)
    ]
    rows = change @ lattice
    frac = torch.zeros(1, len(slots), max(3, *map(len, slots)), 3, dtype=torch.float64)
    mask = torch.zeros(frac.shape[:-1], dtype=torch.bool)
    for slot, atoms in enumerate(slots):
        frac[0, slot, : len(atoms)] = torch.from_numpy(atoms)
        mask[0, slot, : len(atoms)] = True
    upright = torch.from_numpy(np.linalg.cholesky(rows @ rows.T))
    return Cells(upright[None], frac, mask, cell.species)
