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

from crystalgan.crystal.canonical import space_group
from crystalgan.crystal.matching import StructureIndex
from crystalgan.data.readers import Cell, read_entries
from crystalgan.resources import resource

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from pymatgen.core import Structure

TERNARIES = "known-ternaries.extxyz"
SHARED = "H"  # in all that are built in
SYMPREC = 0.1  # Å, of the space groups in the file and of cells as they are made


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

    A cell takes a type when it has the space group (within 0.1 Å) of a known ternary and matches it
    (StructureMatcher) once the two metals are replaced; hydrogen stays hydrogen. Metals are
    replaced when a cell of that formula and space group comes up first.

    >>> types = TernaryTypes(("H", "Mg", "Os"), builtin_ternaries())
    >>> (cell,) = ternaries_of(frozenset({"H", "Ca", "Os"}))
    >>> types.find(cell.structure.copy().replace_species({"Ca": "Mg"}))
    'Ca2OsH6 (mp-1207196)'
    """

    def __init__(self, species: Iterable[str], cells: Sequence[Cell]) -> None:
        metals = sorted(frozenset(species) - {SHARED})
        # formula with the system's metals -> known ternaries, each with the metals to put in
        self.replaced: dict[str, list[tuple[Cell, dict[str, str]]]] = {}
        self.indices: dict[tuple[str, int], StructureIndex[str]] = {}
        if len(metals) != 2:
            return
        for cell in cells:
            theirs = sorted(set(cell.structure.symbol_set) - {SHARED})
            for ours in permutations(metals):
                if list(ours) != theirs:  # the known ternary itself
                    elements = dict(zip(theirs, ours, strict=True))
                    formula = _formula(cell.structure, elements)
                    self.replaced.setdefault(formula, []).append((cell, elements))

    def find(self, structure: Structure) -> str:
        """Formula and id of the first known ternary whose type it takes, or an empty text."""
        formula = _formula(structure)
        if formula not in self.replaced:
            return ""
        key = formula, space_group(structure, SYMPREC)[0]
        if key not in self.indices:
            self.indices[key] = self._index(*key)
        return self.indices[key].find(structure) or ""

    def _index(self, formula: str, spacegroup: int) -> StructureIndex[str]:
        """The known ternaries of this formula and space group, with the system's metals in them."""
        index = StructureIndex[str]()
        for cell, elements in self.replaced[formula]:
            if cell.info["spacegroup"] == spacegroup:
                index.add(cell.structure.copy().replace_species(elements), title(cell))
        return index


def _formula(structure: Structure, elements: Mapping[str, str] | None = None) -> str:
    """The reduced formula, symbols in alphabetical order, with elements replaced by others."""
    counts = Counter(site.specie.symbol for site in structure)
    divisor = gcd(*counts.values())
    named = {(elements or {}).get(symbol, symbol): n // divisor for symbol, n in counts.items()}
    return "".join(f"{symbol}{named[symbol]}" for symbol in sorted(named))
