"""What makes a structure a cell: it is ordered and finite, of real elements, and no atoms clash."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from crystalgan.data.formats.source import MAX_ATOMS

if TYPE_CHECKING:
    from pymatgen.core import Structure

MAX_EDGE = 100.0  # Å; no cell that a network could learn from is longer
MIN_VOLUME = 1.0  # Å³
MIN_DISTANCE = 0.5  # Å; H2 has 0.74
ONE_PLACE = 0.05  # Å; two atoms of one element that are closer are one that is listed twice


def cell_problem(structure: Structure) -> str:
    """Why a structure that could be read is no cell to learn from, or nothing."""
    from pymatgen.core import Element

    if not structure.is_ordered:
        site = next(s for s in structure if not s.is_ordered)
        return (
            f"has a partially occupied site ({site.species_string}); make an ordered cell of it"
            " first"
        )
    strange = next(
        (s.specie.symbol for s in structure if not Element.is_valid_symbol(s.specie.symbol)), None
    )
    if strange:
        return f"holds {strange}, which is no element"
    if not 0 < len(structure) <= MAX_ATOMS:
        return f"has {len(structure)} atoms; from 1 to {MAX_ATOMS} can be used"
    matrix = structure.lattice.matrix
    if not (np.isfinite(matrix).all() and np.isfinite(structure.frac_coords).all()):
        return "has coordinates that are not finite"
    if np.abs(structure.frac_coords).max() > MAX_EDGE:
        return "has a position far outside of its cell"
    longest = np.abs(matrix).max()
    if longest > MAX_EDGE:
        return f"has a lattice vector of {longest:.3g} Å; at most {MAX_EDGE:g} Å can be used"
    if structure.volume < MIN_VOLUME:
        return f"has a volume of {structure.volume:.3g} Å³; its lattice vectors lie in one plane"
    return _clash(structure)


def _clash(structure: Structure) -> str:
    """Two atoms at one place, or an atom and its own image in a needle of a cell."""
    steps = np.array([step for step in itertools.product((-1, 0, 1), repeat=3) if any(step)])
    repeat = np.linalg.norm(
        steps @ structure.lattice.get_lll_reduced_lattice().matrix, axis=1
    ).min()
    if repeat < MIN_DISTANCE:
        return f"repeats after {repeat:.3g} Å; its atoms would lie on their own images"
    distances = structure.distance_matrix
    np.fill_diagonal(distances, np.inf)
    i, j = np.unravel_index(distances.argmin(), distances.shape)
    least = distances[i, j]
    if least >= MIN_DISTANCE:
        return ""
    same = structure[i].specie == structure[j].specie
    both = f"{structure[i].specie.symbol} {i + 1} and {structure[j].specie.symbol} {j + 1}"
    if same and least < ONE_PLACE:
        pairs = int((distances < ONE_PLACE).sum()) // 2
        more = (
            f", and {pairs - 1} more such {'pair' if pairs == 2 else 'pairs'}" if pairs > 1 else ""
        )
        way = "list each atom of the cell once, without its copies on opposite faces"
        return f"has two atoms at one place: {both} ({least:.2g} Å apart{more}); {way}"
    way = (
        "correct the positions"
        if same
        else "a place holds one atom, so leave one of them out or correct the positions"
    )
    return f"has two atoms at one place: {both} are {least:.2f} Å apart; {way}"
