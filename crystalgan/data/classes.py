"""Classes of binary compounds: the built-in ones and a chemist's own."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import asdict, dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crystalgan.data.files import ACCEPTED
from crystalgan.data.prototypes import ELEMENTS
from crystalgan.data.readers import Cell, LeftOut, read_entries
from crystalgan.errors import InputError
from crystalgan.resources import resource

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from crystalgan.crystal.cells import Cells

MIN_CELLS = 2
BUILT_IN = "built-in, CHGNet-relaxed prototypes"  # the source of a class that comes along


@dataclass(frozen=True)
class Provenance:
    """Where the cells of a class come from, how many they are, and a checksum of their tensors."""

    metal: str
    source: str
    cells: int
    sha256: str

    def as_dict(self) -> dict[str, Any]:
        """The same for JSON."""
        return asdict(self)


@dataclass(frozen=True, repr=False)
class BinaryClass:
    """Cells of one binary compound of `metal` and the shared element.

    `left_out` names what was not read with them, and why.

    >>> load_class("Pd").metal
    'Pd'
    """

    metal: str
    shared: str
    entries: tuple[Cell, ...]
    source: str
    left_out: tuple[LeftOut, ...] = ()

    def __len__(self) -> int:
        return len(self.entries)

    def __repr__(self) -> str:
        left_out = f"; {len(self.left_out)} left out" if self.left_out else ""
        return f"{self.metal}-{self.shared}, {len(self)} cells, {self._atoms()}{left_out}"

    def _repr_html_(self) -> str:
        formulas = Counter(entry.structure.reduced_formula for entry in self.entries)
        most = ", ".join(f"{formula} ({n})" for formula, n in formulas.most_common())
        return (
            f"<b>{escape(self.metal)}-{escape(self.shared)}</b>, {len(self)} cells,"
            f" {self._atoms()}<br>{escape(most)}<br>source: {escape(self.source)};"
            f" {len(self.left_out)} left out"
        )

    def _atoms(self) -> str:
        """The smallest and the largest number of atoms, in words."""
        counts = [len(entry.structure) for entry in self.entries]
        if not counts:
            return "no atoms"
        least, most = min(counts), max(counts)
        return f"{least} to {most} atoms" if least < most else f"{most} atoms each"

    @property
    def structures(self) -> list[Structure]:
        """The cells as they were read."""
        return [entry.structure for entry in self.entries]

    def cells(self) -> Cells:
        """The canonical cells as float64 tensors, with the slots (shared, metal)."""
        return self._cells

    @cached_property
    def _cells(self) -> Cells:
        from crystalgan.crystal.cells import encode

        return encode(self.structures, (self.shared, self.metal))

    def provenance(self) -> Provenance:
        """Source, number of cells and a checksum of their tensors."""
        cells = self.cells()
        digest = hashlib.sha256()
        for tensor in (cells.lattice, cells.frac, cells.mask):
            digest.update(tensor.numpy().tobytes())
        return Provenance(self.metal, self.source, len(self), digest.hexdigest())


def builtin_classes() -> dict[str, Path]:
    """Metal -> file of the built-in classes.

    >>> builtin_classes()["Pd"].name
    'Pd.extxyz'
    """
    found = sorted(resource("assets/classes").glob("*.extxyz"))
    return {path.stem: path for path in found if path.name != ELEMENTS}


def builtin_sizes() -> dict[str, int]:
    """Metal -> number of cells of its built-in class, counted without reading the cells.

    >>> builtin_sizes()["Pd"]
    40
    """
    return {
        metal: path.read_bytes().count(b"Lattice=") for metal, path in builtin_classes().items()
    }


def load_class(
    source: str | Path, metal: str | None = None, shared: str = "H", skip_bad: bool = False
) -> BinaryClass:
    """A built-in class by its metal's symbol, or one read from a folder, zip or file.

    A file that cannot be used is an error, unless `skip_bad` leaves it out; `metal` says which
    metal is expected, and is taken from the cells where it is not given. Raises InputError where
    the cells are no class.

    >>> load_class("Pd")
    Pd-H, 40 cells, 2 to 13 atoms
    >>> load_class("Pd").structures[0].formula
    'H1 Pd4'
    """
    builtin = builtin_classes()
    if str(source) in builtin and not Path(source).exists():
        entries, left_out = read_entries(builtin[str(source)])
        return _checked(str(source), shared, entries, left_out, BUILT_IN, skip_bad)
    path = Path(source)
    if not path.exists():
        raise _no_such_class(str(source))
    entries, left_out = read_entries(path, metal, shared)
    return _checked(metal, shared, entries, left_out, str(path), skip_bad)


def _no_such_class(name: str) -> InputError:
    from pymatgen.core import Element

    if Element.is_valid_symbol(name):
        return InputError(
            f"{name}: there is no built-in class of this metal; bring your own cells as a folder or"
            " zip."
        )
    return InputError(
        f"{name}: neither a chemical element nor an existing path; give a symbol such as Pd, or a"
        " folder of cells."
    )


def sort_out(
    entries: list[Cell], metal: str | None, shared: str
) -> tuple[str | None, list[Cell], list[LeftOut]]:
    """The metal of a class, the cells that belong to it, and those that do not with the reason."""
    kept, left_out = [], []
    for entry in entries:
        symbols = _symbols(entry)
        metals = [s for s in symbols if s != shared]
        if shared not in symbols:
            reason = f"holds no {shared} but only {', '.join(symbols)}"
        elif len(metals) > 1:
            reason = (
                f"holds {len(metals)} other elements ({', '.join(metals)}) where a binary has one"
            )
        elif not metals:
            reason = f"holds only {shared}"
        elif metals[0] != (metal := metal or metals[0]):
            reason = f"is a compound of {metals[0]}, not of {metal}"
        else:
            kept.append(entry)
            continue
        left_out.append(LeftOut(entry.where, reason))
    return metal, kept, left_out


def _checked(
    wanted: str | None,
    shared: str,
    entries: list[Cell],
    left_out: list[LeftOut],
    source: str,
    skip_bad: bool,
) -> BinaryClass:
    """The class of these cells, or InputError that says why they are none."""
    metal, kept, strangers = sort_out(entries, wanted, shared)
    bad = [x for x in [*left_out, *strangers] if not x.harmless]
    systems = {tuple(s for s in _symbols(entry) if s != shared) for entry in entries}
    several = wanted is None and len(systems) > 1 and not skip_bad
    if entries and (several or not kept):
        one = f"holds cells of {wanted or 'one metal'} and {shared}"
        raise InputError(
            f"{source}: holds {_holds(entries, wanted, shared)}, where a class {one}; give another"
            " path."
        )
    if bad and not (skip_bad and kept):
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        way = "mend it or give another path"
        if kept:
            way = "mend or remove it, or leave out what cannot be used with --skip-bad"
        raise InputError(f"{bad[0]}{more}; {way}.")
    if metal is None or not kept:
        why = f" ({left_out[0]})" if left_out else ""
        raise InputError(f"{source}: holds no cells{why}; put {ACCEPTED} there.")
    if len(kept) < MIN_CELLS:
        raise InputError(
            f"{source}: only {len(kept)} cell of {metal}-{shared}; a class needs at least"
            f" {MIN_CELLS}, better 15 or more."
        )
    return BinaryClass(metal, shared, tuple(kept), source, (*left_out, *strangers))


def _symbols(entry: Cell) -> tuple[str, ...]:
    """The elements of a cell, sorted."""
    return tuple(sorted({site.specie.symbol for site in entry.structure}))


def _holds(entries: list[Cell], metal: str | None, shared: str) -> str:
    """The elements of the cells in words, with what keeps each kind from being one of a class."""
    parts = []
    for symbols, count in Counter(map(_symbols, entries)).most_common():
        why = _why_no_class(symbols, metal, shared)
        parts.append(f"{count} {'cell' if count == 1 else 'cells'} of {'-'.join(symbols)}{why}")
    parts = parts if len(parts) <= 4 else [*parts[:3], f"{len(parts) - 3} more kinds"]
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))


def _why_no_class(symbols: tuple[str, ...], metal: str | None, shared: str) -> str:
    """Why cells of these elements are not of a class, in brackets; nothing where they may be."""
    metals = [symbol for symbol in symbols if symbol != shared]
    if not metals:
        return f" ({shared} alone)"
    if shared not in symbols:
        return f" (no {shared})"
    if len(metals) > 1:
        return f" ({len(metals)} metals)"
    return f" (not of {metal})" if metal and metals[0] != metal else ""
