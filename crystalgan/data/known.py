"""Known structures: built-in elements, binaries and ternaries, and those of a user's files.

Candidates are compared with them, they compete on the hull, and a benchmark swaps the metals of a
user's: all that is known comes through `builtin_elements`, `builtin_binaries`, `read_known` and
`known_ternaries.ternaries_of`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from functools import cache
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crystalgan.crystal.matching import StructureIndex
from crystalgan.data.classes import BinaryClass, builtin_classes, load_class
from crystalgan.data.known_ternaries import (
    TernaryTypes,
    builtin_ternaries,
    ternaries_of,
    title,
)
from crystalgan.data.prototypes import ELEMENTS
from crystalgan.data.readers import Cell, LeftOut, read_entries
from crystalgan.errors import InputError
from crystalgan.resources import resource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pymatgen.core import Structure

MOST_TOLD = 100  # places that were not compared; of more the number is told


@cache
def builtin_elements() -> dict[str, Cell]:
    """Symbol -> cell of the lowest phase of each element that the built-in classes need.

    >>> builtin_elements()["Pd"]
    Cell(Pd1, fcc)
    """
    cells, _ = read_entries(resource("assets/classes") / ELEMENTS)
    return {cell.structure[0].specie.symbol: cell for cell in cells}


def builtin_binaries(species: Iterable[str]) -> Iterator[BinaryClass]:
    """The built-in classes of the metals among these elements, where the shared one is with them.

    >>> [*builtin_binaries(("H", "Pd", "Ni"))]
    [Pd-H, 40 cells, 2 to 13 atoms, Ni-H, 42 cells, 2 to 13 atoms]
    """
    species = tuple(species)
    for metal in species:
        if metal in builtin_classes() and (found := load_class(metal)).shared in species:
            yield found


@dataclass(frozen=True)
class KnownFile:
    """A user's file, folder or zip of known structures: those asked for, others, what was left out.

    `is_empty` says that the file holds nothing at all, as the answer of a database that has no such
    system.
    """

    path: Path
    cells: tuple[Cell, ...]
    others: tuple[Cell, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    is_empty: bool = False

    def place(self, where: str) -> str:
        """A place in it without the folders above the path."""
        return where.removeprefix(f"{self.path if self.path.is_dir() else self.path.parent}/")

    def label(self, cell: Cell) -> str:
        """What a user would look a cell up by: its id in a database, or else its file."""
        for key in ("id", "material_id", "immutable_id"):
            if cell.info.get(key):
                return f"{cell.info.get('provider', '')} {cell.info[key]}".strip()
        return self.place(cell.where)

    def check(self, what: str, wanted: str) -> None:
        """Raise InputError where none of its cells was asked for; `wanted` says which were."""
        if not self.cells:
            none = f"none of its {len(self.others)} cells is {wanted}"
            why = self.left_out[0] if self.left_out else none
            raise InputError(f"{self.path}: holds no {what} ({why}).")

    def not_used(self, why: str) -> list[str]:
        """What of it was not used, a sentence each; `why` says what is wrong with other cells."""
        said = [str(one) for one in self.left_out]
        if self.others:
            of = f"{len(self.others)} of its {len(self.cells) + len(self.others)} cells"
            said.append(f"{self.path}: {of} {why}")
        return said


def read_known(
    path: Path | str, wanted: Callable[[Structure], bool], what: str = "known structures"
) -> KnownFile:
    """The structures of a user's file, folder or zip, those that are wanted apart from the others.

    Any format that a class may have is read, also what `crystalgan fetch` wrote. Raises InputError
    for a path that does not exist; `what` names what it should hold.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: there is no such file or folder of {what}.")
    entries, left_out = read_entries(path)
    cells = tuple(entry for entry in entries if wanted(entry.structure))
    others = tuple(entry for entry in entries if not wanted(entry.structure))
    is_empty = path.is_file() and path.stat().st_size == 0
    return KnownFile(path, cells, others, tuple(left_out), is_empty)


@dataclass(frozen=True)
class Compared:
    """What candidates were compared with.

    `structures` counts it, `ternary` those that hold all elements, `builtin_ternary` the built-in
    ones of these; `files` are the names of a user's files; `not_compared` are places in them, each
    with the reason.
    """

    structures: int
    ternary: int
    files: tuple[str, ...] = ()
    not_compared: tuple[tuple[str, str], ...] = ()
    builtin_ternary: int = 0

    @classmethod
    def of(cls, noted: Mapping[str, Any]) -> Compared:
        """What `as_dict` noted; version 0.2 had no built-in known ternaries."""
        not_compared = tuple((where, reason) for where, reason in noted["not_compared"])
        files, builtin = tuple(noted["files"]), noted.get("builtin_ternary", 0)
        return cls(noted["structures"], noted["ternary"], files, not_compared, builtin)

    @property
    def own_ternary(self) -> int:
        """How many of a user's structures hold all elements."""
        return self.ternary - self.builtin_ternary

    def as_dict(self) -> dict[str, Any]:
        """The same for JSON."""
        pairs = [list(pair) for pair in self.not_compared]
        return asdict(self) | {"files": list(self.files), "not_compared": pairs}

    def lines(self) -> list[str]:
        """The same in words, a line each."""
        first = (
            f"compared with {self.structures:,} known structures, {self.ternary:,} of them of all"
            f" elements: {self.builtin_ternary:,} built in, {self.own_ternary:,} of yours"
        )
        return [first] + [
            f"not compared: {where + ': ' if where else ''}{reason}"
            for where, reason in self.not_compared
        ]

    def __repr__(self) -> str:
        return f"Compared({self.structures} structures, {self.ternary} of all elements)"

    def _repr_html_(self) -> str:
        return "<br>".join(map(escape, self.lines()))


@dataclass(frozen=True)
class Likeness:
    """What a cell repeats.

    `match` is the known structure that it is, None for a new cell. `type` is the known ternary of
    other elements that has the structure type of a new cell, empty where there is none.
    """

    match: str | None = None
    type: str = ""


class KnownStructures(StructureIndex[str]):
    """Known structures of one system under their names, to find what a candidate repeats."""

    def __init__(self, species: Iterable[str], types: Sequence[Cell] = ()) -> None:
        super().__init__()
        self.species = frozenset(species)
        self.structures = self.ternary = self.builtin_ternary = 0
        self.files: list[str] = []
        self.not_compared: list[tuple[str, str]] = []
        self.types = TernaryTypes(self.species, types)

    def __repr__(self) -> str:
        return f"{self.structures} known structures of {'-'.join(sorted(self.species))}"

    def add(self, structure: Structure, label: str) -> None:
        """Remember a structure under `label`, and count it."""
        super().add(structure, label)
        self.structures += 1
        self.ternary += structure.symbol_set == tuple(sorted(self.species))

    def compare(self, structure: Structure) -> Likeness:
        """What a cell repeats: a known structure, or a known structure type."""
        if match := self.find(structure):
            return Likeness(match)
        return Likeness(None, self.types.find(structure))

    def add_ternaries(self, cells: Sequence[Cell], left_out: bool = False) -> None:
        """Remember built-in known ternaries, or note that they are not compared."""
        if left_out and cells:
            words = f"the {len(cells)} built-in known ternaries of its system are left out"
            self.not_compared.append(("known_ternaries=False", words))
            return
        for cell in cells:
            self.add(cell.structure, f"built-in {title(cell)}")
        self.builtin_ternary += len(cells)

    def add_file(self, file: KnownFile) -> None:
        """Remember the cells of a file, and note what of it is not compared."""
        self.files.append(file.path.name)
        if not file.is_empty:
            self.not_compared += [(file.place(x.where), x.reason) for x in file.left_out]
        for cell in file.cells:
            self.add(cell.structure, file.label(cell))
        if file.others:
            self.not_compared.append((file.path.name, self._others_in_words(file)))

    def _others_in_words(self, file: KnownFile) -> str:
        """How many structures of a file hold other elements, and which those are."""
        strange = Counter(
            symbol
            for cell in file.others
            for symbol in set(cell.structure.symbol_set) - self.species
        )
        which = ", ".join(symbol for symbol, _ in strange.most_common(5))
        more = ", ..." if len(strange) > 5 else ""
        count, total = len(file.others), len(file.cells) + len(file.others)
        of = f"all of its {count}" if count == total else f"{count} of its {total}"
        return f"{of} structures hold other elements ({which}{more})"

    def report(self) -> Compared:
        """What is compared, with 100 places that are not at most."""
        told = self.not_compared[:MOST_TOLD]
        if more := len(self.not_compared) - len(told):
            told = [*told, ("", f"{more} more were not compared")]
        files = tuple(self.files)
        return Compared(self.structures, self.ternary, files, tuple(told), self.builtin_ternary)


def known_structures(
    species: Iterable[str], paths: Iterable[Path | str] = (), known_ternaries: bool = True
) -> KnownStructures:
    """The known structures of the system of these elements: built-in ones and a user's files.

    `paths` are files, folders or zips in any format that a class may have. Cells with other
    elements are not compared. Without `known_ternaries` the built-in known ternaries of the system
    are left out. Raises InputError for a path that does not exist or holds no cell at all.

    >>> known = known_structures(("H", "Pd", "Ni"))
    >>> known
    82 known structures of H-Ni-Pd
    >>> from crystalgan import load_class
    >>> known.find(load_class("Pd").structures[0])
    'built-in Pd-H, M4H_tI10'
    >>> known_structures(("H", "Mg", "Ba")).builtin_ternary
    3
    """
    elements = frozenset(species)
    own = ternaries_of(elements)
    known = KnownStructures(
        elements, [c for c in builtin_ternaries() if known_ternaries or c not in own]
    )
    for c in builtin_binaries(sorted(elements)):
        for entry in c.entries:
            known.add(entry.structure, f"built-in {c.metal}-{c.shared}, {entry.info['prototype']}")
    known.add_ternaries(own, left_out=not known_ternaries)
    for path in paths:
        file = read_known(path, lambda structure: set(structure.symbol_set) <= elements)
        if not (file.cells or file.others or file.is_empty):
            why = f" ({file.left_out[0]})" if file.left_out else ""
            raise InputError(f"{file.path}: holds no structure that can be read{why}.")
        known.add_file(file)
    return known
