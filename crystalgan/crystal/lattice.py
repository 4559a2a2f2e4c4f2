"""The same crystal by other lattice vectors: Niggli-reduced or conventional; no tensors."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from crystalgan.errors import InputError

if TYPE_CHECKING:
    from pymatgen.core import Structure

NIGGLI = 1e-5  # Å², how far the entries of the metric may be from the conditions of a reduced cell
OTHERS = (1e-4, 1e-3, 1e-6)  # Å², where the algorithm goes round in circles with that
FLAT = 1e-9  # of the volume of a box with these edges; what has less is in one plane
EDGE = 1e-9  # fractional: what lies so close below 1 lies at 0
# Å, how far an atom may be from its site in the symmetry that a conventional cell is of
TOLERANCE = 0.1
# Å, where the first would take a candidate for several copies of a smaller cell
TIGHTER = (0.03, 0.01, 3e-3, 1e-3)
CELLS = ("reduced", "conventional")

# an atom, its neighbour, and the lattice vectors that the neighbour is shifted by
Pair = tuple[int, int, tuple[int, int, int]]


def niggli(structure: Structure) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Right-handed Niggli-reduced lattice (rows, Å), fractional coordinates in it, and element
    symbols.

    The atoms stay where they are and in their order; a reduced cell comes back with the lattice
    that it has. InputError for lattice vectors in one plane.
    """
    matrix = structure.lattice.matrix
    change = _change(matrix)
    if change is None:
        raise InputError(
            f"{structure.formula}: the lattice cannot be reduced; its vectors lie in one plane."
        )
    frac = structure.frac_coords @ np.linalg.inv(change)
    return change @ matrix, frac, np.array([site.specie.symbol for site in structure])


def _change(matrix: np.ndarray) -> np.ndarray | None:
    """The integer matrix, determinant 1 or -1, that makes a lattice (rows) reduced and
    right-handed; None for a flat one."""
    # or not a number
    if not abs(np.linalg.det(matrix)) > FLAT * np.linalg.norm(matrix, axis=1).prod():
        return None
    # Where lengths or angles are equal but for rounding, the algorithm may go round in circles at
    # one tolerance, not at the next.
    for tolerance in (NIGGLI, *OTHERS):
        reduced = _niggli_reduced(matrix, tolerance)
        if reduced is None:
            continue
        # exact, where the reduced lattice is rounded
        change = np.rint(reduced @ np.linalg.inv(matrix))
        # from here it may end with the first one; so what is reduced once more stays as it is
        if tolerance != NIGGLI:
            again = _niggli_reduced(change @ matrix, NIGGLI)
            change = change if again is None else np.rint(again @ np.linalg.inv(matrix))
        return np.asarray(-change if np.linalg.det(change @ matrix) < 0 else change)
    return None


def _niggli_reduced(matrix: np.ndarray, tolerance: float) -> np.ndarray | None:
    """The reduced lattice, or None where the algorithm goes round in circles."""
    import spglib

    try:
        return cast("np.ndarray | None", spglib.niggli_reduce(matrix, tolerance))
    except spglib.SpglibError:  # in place of None as soon as phonopy is imported
        return None


def wrapped(frac: np.ndarray) -> np.ndarray:
    """Fractional coordinates inside the cell: from 0 to less than 1."""
    inside = np.asarray(frac - np.floor(frac))
    inside[inside > 1 - EDGE] = 0.0
    return inside


def reduced(structure: Structure) -> Structure:
    """The same atoms in the right-handed Niggli-reduced cell of their lattice (spglib).

    Atoms keep their order, and nothing is turned. A cell of several copies of a smaller one stays
    that large. InputError for lattice vectors in one plane.
    """
    from pymatgen.core import Structure

    lattice, frac, symbols = niggli(structure)
    return Structure(lattice, symbols, wrapped(frac))


def upright(structure: Structure) -> Structure:
    """The same cell turned as a whole: a along x (-x if it is left-handed), b in the xy plane."""
    from pymatgen.core import Structure

    rows = structure.lattice.matrix
    turned = np.sign(np.linalg.det(rows)) * np.linalg.cholesky(rows @ rows.T)
    return Structure(turned, structure.species, structure.frac_coords)


@dataclass(frozen=True)
class Setting:
    """A cell of a candidate, with the candidate's atom that each of its atoms is a copy of."""

    kind: str  # of CELLS
    structure: Structure
    atoms: tuple[int, ...]
    symbol: str = ""  # space group of a conventional cell
    tolerance: float = 0.0  # Å, that it was found with

    def pair(self, candidate: Structure, pair: Pair) -> Pair:
        """A pair of atoms of the candidate as one of its copies in this cell."""
        center, other, image = pair
        here, copies = self.atoms.index(center), np.flatnonzero(np.array(self.atoms) == other)
        step = (
            candidate.frac_coords[other] + image - candidate.frac_coords[center]
        ) @ candidate.lattice.matrix
        there = self.structure.frac_coords[here] + step @ np.linalg.inv(
            self.structure.lattice.matrix
        )
        shifts = there - self.structure.frac_coords[copies]
        best = int(np.abs(shifts - np.rint(shifts)).max(1).argmin())
        x, y, z = np.rint(shifts[best]).astype(int).tolist()
        return here, int(copies[best]), (x, y, z)

    def __str__(self) -> str:
        return (
            f"{self.kind}, {self.symbol} within {self.tolerance:g} Å" if self.symbol else self.kind
        )


def setting(structure: Structure, kind: str = "reduced") -> Setting:
    """A candidate in its reduced or its conventional cell; InputError for another kind."""
    if kind not in CELLS:
        raise InputError(f"{kind!r} is not one of {', '.join(CELLS)}.")
    return conventional(structure) if kind == "conventional" else _reduced(structure)


def conventional(structure: Structure) -> Setting:
    """The conventional cell of the symmetry that spglib finds within 0.1 Å; no atom is moved.

    Copies of one atom follow each other. The reduced cell of a triclinic one; and where some of the
    translations found are none of the candidate's own, the tolerance is tightened, so that no atom
    is lost.
    """
    os.environ.setdefault("SPGLIB_WARNING", "OFF")  # a cell without symmetry is nothing to warn of
    import spglib
    from pymatgen.core import Structure

    small = reduced(structure)
    cell = small.lattice.matrix, small.frac_coords, [site.specie.Z for site in small]
    for tolerance in (TOLERANCE, *TIGHTER):
        try:
            found = spglib.get_symmetry_dataset(cell, tolerance)
        except spglib.SpglibError:
            found = None
        if found is None:  # atoms closer than the tolerance
            continue
        if found.number <= 2:  # triclinic
            break
        exact = np.linalg.inv(found.transformation_matrix).T
        change = np.rint(exact)
        if not np.allclose(change, exact, atol=1e-3):
            continue
        shifts = _points(change)
        frac = ((small.frac_coords[:, None] + shifts) @ np.linalg.inv(change)).reshape(-1, 3)
        atoms = np.repeat(np.arange(len(small)), len(shifts))
        made = Structure(
            change @ small.lattice.matrix, [small[i].specie for i in atoms], wrapped(frac)
        )
        return Setting(
            "conventional", made, tuple(atoms.tolist()), str(found.international), tolerance
        )
    return _reduced(small)


def _reduced(structure: Structure) -> Setting:
    return Setting("reduced", reduced(structure), tuple(range(len(structure))))


def _points(change: np.ndarray) -> np.ndarray:
    """The points of a lattice, `[n, 3]`, inside the cell whose rows are these integer combinations
    of its vectors."""
    corners = np.array(list(itertools.product((0, 1), repeat=3))) @ change
    ranges = [
        range(int(low), int(high) + 1)
        for low, high in zip(corners.min(0), corners.max(0), strict=True)
    ]
    points = np.array(list(itertools.product(*ranges)))
    place = points @ np.linalg.inv(change)
    return points[((place > -EDGE) & (place < 1 - EDGE)).all(1)]
