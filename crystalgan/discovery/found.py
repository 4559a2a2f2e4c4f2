"""What a search has found: relaxed crystals with their compositions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ase import Atoms
    from pymatgen.core import Structure

    from crystalgan.discovery.system import Counts


@dataclass(frozen=True)
class Found:
    """A relaxed crystal in its reduced cell, other than all before it."""

    id: int
    source: str
    counts: Counts
    structure: Structure
    energy: float  # eV/atom
    converged: bool

    @property
    def formula(self) -> Counts:
        """The counts of one formula unit."""
        return reduced(self.counts)


def reduced(counts: Counts) -> Counts:
    """The counts of one formula unit.

    >>> reduced((4, 2, 2))
    (2, 1, 1)
    """
    divisor = math.gcd(*counts)
    h, a, b = (n // divisor for n in counts)
    return h, a, b


def structure_of(atoms: Atoms) -> Structure:
    """ASE's atoms as a pymatgen structure."""
    from pymatgen.core import Structure

    return Structure(atoms.cell.array, atoms.get_chemical_symbols(), atoms.get_scaled_positions())
