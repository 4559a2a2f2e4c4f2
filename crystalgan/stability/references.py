"""Structures that compete with candidates: built-in ones, compounds of the metals, a user's own.

Of the built-in ones are elements, binaries and known ternaries.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from crystalgan.data.known import builtin_binaries, builtin_elements, read_known
from crystalgan.data.known_ternaries import ternaries_of
from crystalgan.errors import InputError
from crystalgan.stability.hull import Phase, short

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import Any

    from pymatgen.core import Structure


@dataclass(frozen=True)
class Reference:
    """A built-in element, binary or known ternary, and the energy that it came with."""

    name: str
    structure: Structure
    energy_per_atom: float  # eV
    potential: str  # which the energy is of
    version: str

    @classmethod
    def of(cls, name: str, structure: Structure, info: dict[str, Any]) -> Reference:
        """A reference with what its file says of it."""
        about = info["energy_per_atom"], info["potential"], info["version"]
        return cls(f"{name} {info.get('prototype') or info['id']}", structure, *about)

    @property
    def phase(self) -> Phase:
        """What it is for a hull of that potential."""
        formula = self.structure.formula.replace(" ", "")
        return Phase(self.name, formula, self.energy_per_atom * len(self.structure))


@cache
def builtin_references(
    species: tuple[str, ...], known_ternaries: bool = True
) -> tuple[Reference, ...]:
    """Return the built-in elements, binaries and known ternaries of a system, in this order.

    `species` begins with the shared element. Known ternaries are left out where that is asked for.
    Raises InputError for an element without a built-in cell.

    >>> [reference.name for reference in builtin_references(("H", "Pd", "Ni"))][:3]
    ['H H2_hcp', 'Pd fcc', 'Ni fcc']
    >>> builtin_references(("H", "Ca", "Os"))[-1].name
    'Ca2OsH6 mp-1207196'
    """
    elements = builtin_elements()
    if missing := [symbol for symbol in species if symbol not in elements]:
        raise InputError(
            f"There is no built-in phase of {', '.join(missing)}: no energy above the hull can be"
            " said."
        )
    out = [Reference.of(s, elements[s].structure, elements[s].info) for s in species]
    for c in builtin_binaries(species):
        name = f"{c.metal}-{c.shared}"
        out += [Reference.of(name, cell.structure, cell.info) for cell in c.entries]
    ternaries = ternaries_of(frozenset(species)) if known_ternaries else ()
    out += [Reference.of(c.info["formula"], c.structure, c.info) for c in ternaries]
    return tuple(out)


def builtin_phases(species: tuple[str, ...], known_ternaries: bool = True) -> list[Phase]:
    """Return `builtin_references` as phases, with the energies that they came with.

    >>> builtin_phases(("H", "Pd", "Ni"))[1].name
    'Pd fcc'
    """
    return [reference.phase for reference in builtin_references(species, known_ternaries)]


def reference_structures(
    species: tuple[str, ...], potential: str, version: str, known_ternaries: bool = True
) -> dict[str, Structure]:
    """Return the structures that compete and have no energy of this potential yet, by name.

    These are the built-in elements, binaries and known ternaries, where their energies are of
    another potential, and compounds of the two metals (`data.prototypes.compounds_of`), which have
    no built-in energies. Raises InputError for an element without a built-in cell.
    """
    from crystalgan.data.prototypes import compounds_of

    known = {
        reference.name: reference.structure
        for reference in builtin_references(species, known_ternaries)
        if (reference.potential, reference.version) != (potential, version)
    }
    return known | compounds_of(*species[1:])


def other_structures(
    species: tuple[str, ...],
    paths: Sequence[Path | str],
    left_out: Callable[[str], None] | None = None,
) -> dict[str, Structure]:
    """Return the structures in a user's files that hold no other elements, by a name of each.

    `left_out` is called with a sentence for each part of the files that is not used. Raises
    InputError for a file without any such structure.
    """
    elements, system = set(species), "-".join(species)
    out: dict[str, Structure] = {}
    for path in paths:
        file = read_known(path, lambda structure: set(structure.symbol_set) <= elements, "phases")
        file.check("phase that competes", f"of {system} alone")
        for cell in file.cells:
            out[f"{file.place(cell.where)} {short(cell.structure.formula)}"] = cell.structure
        if left_out:
            for words in file.not_used(f"hold other elements than {system}"):
                left_out(words)
    return out
