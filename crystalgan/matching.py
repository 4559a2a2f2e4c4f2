"""Which structures are the same: duplicates among candidates, and candidates that are known already."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from crystalgan import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pymatgen.core import Structure

MOST_TOLD = 100  # places that were not compared; of more the number is told
Label = TypeVar("Label", int, str)


class Seen(Generic[Label]):
    """Structures seen so far, each under a label; pymatgen's StructureMatcher with its default tolerances says what is the same.

    Only cells of the same formula and with compatible lattices are compared: the matcher lets lengths differ by a fifth after
    scaling to equal volume, so the three shortest independent lattice vectors of a match differ by no more either.
    """

    def __init__(self) -> None:
        from pymatgen.analysis.structure_matcher import StructureMatcher

        self.matcher = StructureMatcher()
        self.seen: dict[str, list[tuple[_Reduced, Label]]] = {}  # by reduced formula, which needs no reduction of the cell

    def find(self, structure: Structure) -> Label | None:
        """The label of the structure that this one repeats, or None."""
        return self._find(structure)[0]

    def add(self, structure: Structure, label: Label) -> None:
        """Remember a structure under `label`, whether or not it repeats another one."""
        self.seen.setdefault(structure.composition.reduced_formula, []).append((_Reduced.of(structure), label))

    def find_or_add(self, structure: Structure, label: Label) -> Label | None:
        """The label of the structure that this one repeats; None when it is new, and is then remembered under `label`."""
        found, reduced = self._find(structure)
        if found is None:
            key = structure.composition.reduced_formula
            self.seen.setdefault(key, []).append((reduced or _Reduced.of(structure), label))
        return found

    def _find(self, structure: Structure) -> tuple[Label | None, _Reduced | None]:
        """The label, and the reduced structure where one was needed."""
        same = self.seen.get(structure.composition.reduced_formula)
        if not same:
            return None, None
        reduced = _Reduced.of(structure)
        for other, label in same:
            ratio = reduced.lengths / other.lengths
            if len(reduced.structure) != len(other.structure) or max(ratio.max(), 1 / ratio.min()) > 1 + self.matcher.ltol:
                continue
            # What `fit` does with structures that are reduced already, but for two copies of both.
            match = self.matcher._match(reduced.structure, other.structure, fu=1, break_on_match=True)  # noqa: SLF001
            if match is not None and match[0] <= self.matcher.stol:
                return label, reduced
        return None, reduced


@dataclass(frozen=True)
class _Reduced:
    """The primitive, Niggli-reduced cell at unit volume per atom; its lengths are by the cube root of its volume."""

    structure: Structure
    lengths: np.ndarray

    @classmethod
    def of(cls, structure: Structure) -> _Reduced:
        from pymatgen.core import Structure

        from crystalgan.lattice import niggli

        lattice, frac, _ = niggli(structure)
        reduced = Structure(lattice, structure.species, frac)
        if reduced.composition.get_reduced_composition_and_factor()[1] > 1:  # what holds one formula unit is primitive
            reduced = reduced.get_primitive_structure()
        reduced.scale_lattice(len(reduced))
        return cls(reduced, np.sort(reduced.lattice.abc) / reduced.volume ** (1 / 3))


class Known(Seen[str]):
    """Known structures of one system, and what of the files that were given could not be compared.

    `structures` and `ternary` count those that were compared and those of them that hold all elements; `files` are the names of
    what was given; `not_compared` says of a place, without the folders above what was given, why it was not compared.
    """

    def __init__(self, species: Iterable[str]) -> None:
        super().__init__()
        self.species = frozenset(species)
        self.structures = self.ternary = 0
        self.files: list[str] = []
        self.not_compared: list[tuple[str, str]] = []

    def add(self, structure: Structure, label: str) -> None:
        """Remember a structure under `label`, and count it."""
        super().add(structure, label)
        self.structures += 1
        self.ternary += structure.symbol_set == tuple(sorted(self.species))

    def report(self) -> dict[str, Any]:
        """What was compared, for JSON: the counts and lists of this class, of `not_compared` at most 100."""
        told = [list(pair) for pair in self.not_compared[:MOST_TOLD]]
        if more := len(self.not_compared) - len(told):
            told.append(["", f"{more} more were not compared"])
        return {"structures": self.structures, "ternary": self.ternary, "files": self.files, "not_compared": told}


def known_structures(species: Iterable[str], paths: Iterable[Path | str] = ()) -> Known:
    """What is known in the system of these elements: the cells of the built-in classes, and those of the user's files.

    `paths` are files, folders or zips in any format that a class may have, also what `crystalgan fetch` wrote. Cells with other
    elements are not compared. Raises InputError for a path that does not exist or holds no cell at all.
    """
    from crystalgan.classes import builtin_classes, load_class
    from crystalgan.readers import read_entries

    known = Known(species)
    for metal in sorted(known.species & set(builtin_classes())):
        c = load_class(metal)
        for entry in c.entries if c.shared in known.species else ():
            known.add(entry.structure, f"built-in {metal}-{c.shared}, {entry.info['prototype']}")
    for path in map(Path, paths):
        if not path.exists():
            raise InputError(f"{path}: there is no such file or folder of known structures.")
        entries, left_out = read_entries(path)
        nothing_is_known = path.is_file() and path.stat().st_size == 0  # the answer of a database that has no such system
        if not entries and not nothing_is_known:
            why = f" ({left_out[0]})" if left_out else ""
            raise InputError(f"{path}: holds no structure that can be read{why}.")
        above = f"{path if path.is_dir() else path.parent}/"
        known.files.append(path.name)
        if not nothing_is_known:
            known.not_compared += [(x.where.removeprefix(above), x.reason) for x in left_out]
        others: Counter[str] = Counter()
        for entry in entries:
            if set(entry.structure.symbol_set) <= known.species:
                known.add(entry.structure, _name(entry.where.removeprefix(above), entry.info))
            else:
                others.update(set(entry.structure.symbol_set) - known.species)
                others[""] += 1
        if strange := others.pop("", 0):
            which = ", ".join(symbol for symbol, _ in others.most_common(5)) + (", ..." if len(others) > 5 else "")
            of = f"all of its {strange}" if strange == len(entries) else f"{strange} of its {len(entries)}"
            known.not_compared.append((path.name, f"{of} structures hold other elements ({which})"))
    return known


def in_words(report: dict[str, Any]) -> list[str]:
    """The `report` of known structures in lines."""
    lines = [f"compared with {report['structures']:,} known structures, {report['ternary']:,} of them of all elements"]
    return lines + [f"not compared: {where + ': ' if where else ''}{reason}" for where, reason in report["not_compared"]]


def _name(where: str, info: dict[str, Any]) -> str:
    """What a user would look the structure up by: its id in a database where it has one, else its file."""
    for key in ("id", "material_id", "immutable_id"):
        if info.get(key):
            return f"{info.get('provider', '')} {info[key]}".strip()
    return where
