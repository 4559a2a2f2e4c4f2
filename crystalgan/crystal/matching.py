"""`StructureIndex`: which structures are the same, for duplicates and known structures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

if TYPE_CHECKING:
    from pymatgen.core import Structure

Label = TypeVar("Label", int, str)


class StructureIndex(Generic[Label]):
    """Structures under labels, found again by pymatgen's StructureMatcher at default tolerances.

    Only cells of the same formula and with compatible lattices are compared: the matcher lets
    lengths differ by a fifth after scaling to equal volume, so the three shortest independent
    lattice vectors of a match differ by no more either.
    """

    def __init__(self) -> None:
        from pymatgen.analysis.structure_matcher import StructureMatcher

        self.matcher = StructureMatcher()
        # by reduced formula, which needs no reduction of the cell
        self.entries: dict[str, list[tuple[_Reduced, Label]]] = {}

    def find(self, structure: Structure) -> Label | None:
        """The label of the structure that this one repeats, or None."""
        return self._find(structure)[0]

    def add(self, structure: Structure, label: Label) -> None:
        """Add a structure under `label`, whether or not it repeats another one."""
        self.entries.setdefault(structure.composition.reduced_formula, []).append(
            (_Reduced.of(structure), label)
        )

    def find_or_add(self, structure: Structure, label: Label) -> Label | None:
        """The label of the structure that this one repeats, or None; then it is added."""
        found, reduced = self._find(structure)
        if found is None:
            key = structure.composition.reduced_formula
            self.entries.setdefault(key, []).append((reduced or _Reduced.of(structure), label))
        return found

    def _find(self, structure: Structure) -> tuple[Label | None, _Reduced | None]:
        """The label, and the reduced structure where one was needed."""
        same = self.entries.get(structure.composition.reduced_formula)
        if not same:
            return None, None
        reduced = _Reduced.of(structure)
        for other, label in same:
            ratio = reduced.lengths / other.lengths
            if (
                len(reduced.structure) != len(other.structure)
                or max(ratio.max(), 1 / ratio.min()) > 1 + self.matcher.ltol
            ):
                continue
            # as `fit` does with structures that are reduced already, without copying both
            match = self.matcher._match(  # noqa: SLF001
                reduced.structure, other.structure, fu=1, break_on_match=True
            )
            if match is not None and match[0] <= self.matcher.stol:
                return label, reduced
        return None, reduced


@dataclass(frozen=True)
class _Reduced:
    """The primitive, Niggli-reduced cell at unit volume per atom, and its relative lengths."""

    structure: Structure
    lengths: np.ndarray  # [3], by the cube root of the volume, shortest first

    @classmethod
    def of(cls, structure: Structure) -> _Reduced:
        from pymatgen.core import Structure

        from crystalgan.crystal.lattice import niggli

        lattice, frac, _ = niggli(structure)
        reduced = Structure(lattice, structure.species, frac)
        # what holds one formula unit is primitive
        if reduced.composition.get_reduced_composition_and_factor()[1] > 1:
            reduced = reduced.get_primitive_structure()
        reduced.scale_lattice(len(reduced))
        return cls(reduced, np.sort(reduced.lattice.abc) / reduced.volume ** (1 / 3))
