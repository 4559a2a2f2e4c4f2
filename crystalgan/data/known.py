"""Known structures: the built-in cells and those of a user's files, to compare candidates with."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crystalgan.crystal.matching import StructureIndex
from crystalgan.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pymatgen.core import Structure

MOST_TOLD = 100  # places that were not compared; of more the number is told


class Known(StructureIndex[str]):
    """Known structures of one system, and what of the files that were given could not be compared.

    `structures` and `ternary` count those that were compared and those of them that hold all
    elements; `files` are the names of what was given; `not_compared` says of a place, without the
    folders above what was given, why it was not compared.
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
        """What was compared, for JSON: the counts and lists of this class, of `not_compared` at
        most 100."""
        told = [list(pair) for pair in self.not_compared[:MOST_TOLD]]
        if more := len(self.not_compared) - len(told):
            told.append(["", f"{more} more were not compared"])
        return {
            "structures": self.structures,
            "ternary": self.ternary,
            "files": self.files,
            "not_compared": told,
        }


def known_structures(species: Iterable[str], paths: Iterable[Path | str] = ()) -> Known:
    """What is known in the system of these elements: the cells of the built-in classes, and those
    of the user's files.

    `paths` are files, folders or zips in any format that a class may have, also what `crystalgan
    fetch` wrote. Cells with other elements are not compared. Raises InputError for a path that does
    not exist or holds no cell at all.
    """
    from crystalgan.data.classes import builtin_classes, load_class
    from crystalgan.data.readers import read_entries

    known = Known(species)
    for metal in sorted(known.species & set(builtin_classes())):
        c = load_class(metal)
        for entry in c.entries if c.shared in known.species else ():
            known.add(entry.structure, f"built-in {metal}-{c.shared}, {entry.info['prototype']}")
    for path in map(Path, paths):
        if not path.exists():
            raise InputError(f"{path}: there is no such file or folder of known structures.")
        entries, left_out = read_entries(path)
        # the answer of a database that has no such system
        nothing_is_known = path.is_file() and path.stat().st_size == 0
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
            which = ", ".join(symbol for symbol, _ in others.most_common(5)) + (
                ", ..." if len(others) > 5 else ""
            )
            of = (
                f"all of its {strange}"
                if strange == len(entries)
                else f"{strange} of its {len(entries)}"
            )
            known.not_compared.append((path.name, f"{of} structures hold other elements ({which})"))
    return known


def in_words(report: dict[str, Any]) -> list[str]:
    """The `report` of known structures in lines."""
    lines = [
        (
            f"compared with {report['structures']:,} known structures,"
            f" {report['ternary']:,} of them of all elements"
        )
    ]
    return lines + [
        f"not compared: {where + ': ' if where else ''}{reason}"
        for where, reason in report["not_compared"]
    ]


def _name(where: str, info: dict[str, Any]) -> str:
    """What a user would look the structure up by: its id in a database where it has one, else its
    file."""
    for key in ("id", "material_id", "immutable_id"):
        if info.get(key):
            return f"{info.get('provider', '')} {info[key]}".strip()
    return where
