"""The known ternary hydrides that are built in, and the structure types that they give.

They count as known and compete on the hull. Nothing is made of them: no training, no transfer and
no baseline reads them.
"""

from __future__ import annotations

from collections import Counter
from functools import cache
from itertools import permutations
from math import gcd
from typing import TYPE_CHECKING

from crystalgan.crystal.matching import StructureIndex
from crystalgan.data.readers import Cell, read_entries
from crystalgan.resources import resource

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from pymatgen.core import Structure

TERNARIES = "known-ternaries.extxyz"
SHARED = "H"  # in all that are built in


def ternaries_file() -> Path:
    """The file of the built-in known ternaries."""
    return resource("assets") / TERNARIES


@cache
def builtin_ternaries() -> tuple[Cell, ...]:
    """All built-in known ternary hydrides, relaxed with CHGNet, with their ids and energies.

    >>> len(builtin_ternaries())
    75
    """
    return tuple(read_entries(ternaries_file())[0])


@cache
def ternaries_of(species: frozenset[str]) -> tuple[Cell, ...]:
    """The built-in known ternaries of one system: those that hold exactly these elements.

    >>> [title(cell) for cell in ternaries_of(frozenset({"H", "Ca", "Os"}))]
    ['Ca2OsH6 (mp-1207196)']
    """
    return tuple(c for c in builtin_ternaries() if set(c.structure.symbol_set) == species)


def title(cell: Cell) -> str:
    """Formula and id of a built-in known ternary."""
    return f"{cell.info['formula']} ({cell.info['id']})"


class TernaryTypes:
    """Structure types of known ternaries, to find the one that a cell of a system takes.

    A cell takes a type when it matches a known ternary whose two metals are replaced by those of
    the system; hydrogen stays hydrogen. Only known ternaries of the cell's formula are compared,
    and their metals are replaced when a cell of that formula comes up first.

    >>> types = TernaryTypes(("H", "Mg", "Os"), builtin_ternaries())
    >>> (cell,) = ternaries_of(frozenset({"H", "Ca", "Os"}))
    >>> types.find(cell.structure.copy().replace_species({"Ca": "Mg"}))
    'Ca2OsH6 (mp-1207196)'
    """

    def __init__(self, species: Iterable[str], cells: Sequence[Cell]) -> None:
        self.species = frozenset(species)
        of_hydride = len(self.species) == 3 and SHARED in self.species
        self.cells = cells if of_hydride else ()
        self.indices: dict[str, StructureIndex[str]] = {}

    def find(self, structure: Structure) -> str:
        """Formula and id of the first known ternary whose type it takes, or an empty text."""
        formula = structure.composition.reduced_formula
        if formula not in self.indices:
            self.indices[formula] = self._index(structure)
        return self.indices[formula].find(structure) or ""

    def _index(self, structure: Structure) -> StructureIndex[str]:
        """All known ternaries that have its formula with the system's metals in them."""
        index, wanted = StructureIndex[str](), _amounts(structure)
        if set(wanted) != self.species:
            return index
        for cell in self.cells:
            amounts = _amounts(cell.structure)
            theirs = [symbol for symbol in amounts if symbol != SHARED]
            for ours in permutations(sorted(self.species - {SHARED})):
                elements = dict(zip(theirs, ours, strict=True))
                replaced = {elements.get(symbol, symbol): n for symbol, n in amounts.items()}
                itself = all(old == new for old, new in elements.items())
                if replaced == wanted and not itself:
                    index.add(cell.structure.copy().replace_species(elements), title(cell))
        return index


def _amounts(structure: Structure) -> dict[str, int]:
    """The numbers of atoms of each element in the reduced formula."""
    counts = Counter(site.specie.symbol for site in structure)
    divisor = gcd(*counts.values())
    return {symbol: n // divisor for symbol, n in counts.items()}
