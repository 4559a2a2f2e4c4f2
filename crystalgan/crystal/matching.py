"""`StructureIndex`: which structures are the same, for duplicates and known structures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

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

    def nearest(self, structure: Structure) -> Label | None:
        """The label of the structure that matches with the least root mean square displacement."""
        _, same = self._similar(structure)
        matches = [
            (match[0], number, label)
            for number, (reduced, other, label) in enumerate(same)
            if (match := self._match(reduced, other, use_rms=True)) is not None
        ]
        return min(matches)[2] if matches else None

    def _find(self, structure: Structure) -> tuple[Label | None, _Reduced | None]:
        """The label, and the reduced structure where one was needed."""
        found, same = self._similar(structure)
        for reduced, other, label in same:
            match = self._match(reduced, other, break_on_match=True)
            if match is not None and match[0] <= self.matcher.stol:
                return label, reduced
        return None, found

    def _similar(
        self, structure: Structure
    ) -> tuple[_Reduced | None, Iterator[tuple[_Reduced, _Reduced, Label]]]:
        """The structure reduced, with each entry that has its formula, its size and its lengths."""
        same = self.entries.get(structure.composition.reduced_formula)
        if not same:
            return None, iter(())
        reduced = _Reduced.of(structure)
        return reduced, (
            (reduced, other, label) for other, label in same if self._may_match(reduced, other)
        )

    def _may_match(self, one: _Reduced, other: _Reduced) -> bool:
        if len(one.structure) != len(other.structure):
            return False
        ratio = one.lengths / other.lengths
        return bool(max(ratio.max(), 1 / ratio.min()) <= 1 + self.matcher.ltol)

    def _match(self, one: _Reduced, other: _Reduced, **how: bool) -> Any:
        # as `fit` does with structures that are reduced already, without copying both
        return self.matcher._match(one.structure, other.structure, fu=1, **how)  # noqa: SLF001


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
