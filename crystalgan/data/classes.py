"""Classes of binary compounds: the built-in ones and a chemist's own."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crystalgan.data.files import ACCEPTED
from crystalgan.data.readers import Cell, LeftOut, read_entries
from crystalgan.errors import InputError
from crystalgan.resources import resource

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from crystalgan.crystal.cells import Cells

ASSETS = resource("assets/classes")
MIN_CELLS = 2


@dataclass(frozen=True)
class BinaryClass:
    """Cells of one binary compound of `metal` and the shared element, and what was left out when
    they were read."""

    metal: str
    shared: str
    entries: tuple[Cell, ...]
    source: str
    left_out: tuple[LeftOut, ...] = ()

    def __len__(self) -> int:
        return len(self.entries)

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

    def provenance(self) -> dict[str, Any]:
        """Source, number of cells and a checksum of their tensors."""
        cells = self.cells()
        digest = hashlib.sha256()
        for tensor in (cells.lattice, cells.frac, cells.mask):
            digest.update(tensor.numpy().tobytes())
        return {
            "metal": self.metal,
            "source": self.source,
            "cells": len(self),
            "sha256": digest.hexdigest(),
        }


def builtin_classes() -> dict[str, Path]:
    """Metal -> file of the built-in classes."""
    return {path.stem: path for path in sorted(ASSETS.glob("*.extxyz")) if path.stem != "elements"}


def builtin_sizes() -> dict[str, int]:
    """Metal -> number of cells of its built-in class, counted without reading the cells."""
    return {
        metal: path.read_bytes().count(b"Lattice=") for metal, path in builtin_classes().items()
    }


def load_class(
    source: str | Path, metal: str | None = None, shared: str = "H", skip_bad: bool = False
) -> BinaryClass:
    """A built-in class by its metal's symbol, or one read from a folder, zip or file.

    A file that cannot be used is an error, unless `skip_bad` leaves it out; `metal` says which
    metal is expected, and is taken from the cells where it is not given.
    """
    builtin = builtin_classes()
    if str(source) in builtin and not Path(source).exists():
        entries, left_out = read_entries(builtin[str(source)])
        return _checked(
            str(source), shared, entries, left_out, "built-in, CHGNet-relaxed prototypes", skip_bad
        )
    path = Path(source)
    if not path.exists():
        from pymatgen.core import Element

        name = str(source)
        if Element.is_valid_symbol(name):
            raise InputError(
                f"{name}: there is no built-in class of this metal; bring your own cells as a"
                " folder or zip."
            )
        raise InputError(
            f"{name}: neither a chemical element nor an existing path; give a symbol such as Pd, or"
            " a folder of cells."
        )
    entries, left_out = read_entries(path, metal, shared)
    return _checked(metal, shared, entries, left_out, str(path), skip_bad)


def sort_out(
    entries: list[Cell], metal: str | None, shared: str
) -> tuple[str | None, list[Cell], list[LeftOut]]:
    """The metal of a class, the cells that belong to it, and those that do not with the reason."""
    kept, left_out = [], []
    for entry in entries:
        symbols = sorted({site.specie.symbol for site in entry.structure})
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
    metal: str | None,
    shared: str,
    entries: list[Cell],
    left_out: list[LeftOut],
    source: str,
    skip_bad: bool,
) -> BinaryClass:
    wanted = metal
    metal, kept, strangers = sort_out(entries, metal, shared)
    bad = [x for x in [*left_out, *strangers] if not x.harmless]
    several = (
        wanted is None and len({_metals(entry, shared) for entry in entries}) > 1 and not skip_bad
    )
    if entries and (several or not kept):
        one = f"holds cells of {wanted or 'one metal'} and {shared}"
        raise InputError(
            f"{source}: holds {_holds(entries, wanted, shared)}, where a class {one}; give another"
            " path."
        )
    if bad and not (skip_bad and kept):
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        way = (
            "mend or remove it, or leave out what cannot be used with --skip-bad"
            if kept
            else "mend it or give another path"
        )
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


def _metals(entry: Cell, shared: str) -> tuple[str, ...]:
    return tuple(sorted({site.specie.symbol for site in entry.structure} - {shared}))


def _holds(entries: list[Cell], metal: str | None, shared: str) -> str:
    """What the cells are made of, in words, with what keeps each kind from being one of a class."""
    parts = []
    systems = Counter(
        tuple(sorted({site.specie.symbol for site in entry.structure})) for entry in entries
    )
    for symbols, count in systems.most_common():
        metals = [symbol for symbol in symbols if symbol != shared]
        why = f" ({len(metals)} metals)" if len(metals) > 1 else ""
        if not metals:
            why = f" ({shared} alone)"
        elif shared not in symbols:
            why = f" (no {shared})"
        elif len(metals) == 1 and metal and metals[0] != metal:
            why = f" (not of {metal})"
        parts.append(f"{count} {'cell' if count == 1 else 'cells'} of {'-'.join(symbols)}{why}")
    parts = parts if len(parts) <= 4 else [*parts[:3], f"{len(parts) - 3} more kinds"]
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))
