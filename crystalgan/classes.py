"""Classes of binary compounds: the built-in ones and a chemist's own; the data doctor."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crystalgan import InputError
from crystalgan.readers import Cell, LeftOut, read_entries

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from crystalgan.cells import Cells

ASSETS = Path(__file__).resolve().parent.parent / "assets" / "classes"
MIN_CELLS = 2


@dataclass(frozen=True)
class BinaryClass:
    """Cells of one binary compound of `metal` and the shared element, and what was left out when they were read."""

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
        from crystalgan.cells import encode

        return encode(self.structures, (self.shared, self.metal))

    def provenance(self) -> dict[str, Any]:
        """Source, number of cells and a checksum of their tensors."""
        cells = self.cells()
        digest = hashlib.sha256()
        for tensor in (cells.lattice, cells.frac, cells.mask):
            digest.update(tensor.numpy().tobytes())
        return {"metal": self.metal, "source": self.source, "cells": len(self), "sha256": digest.hexdigest()}


def builtin_classes() -> dict[str, Path]:
    """Metal -> file of the built-in classes."""
    return {path.stem: path for path in sorted(ASSETS.glob("*.extxyz"))}


def builtin_sizes() -> dict[str, int]:
    """Metal -> number of cells of its built-in class, counted without reading the cells."""
    return {metal: path.read_bytes().count(b"Lattice=") for metal, path in builtin_classes().items()}


def load_class(source: str | Path, metal: str | None = None, shared: str = "H", skip_bad: bool = False) -> BinaryClass:
    """A built-in class by its metal's symbol, or one read from a folder, zip or file.

    A file that cannot be used is an error, unless `skip_bad` leaves it out; `metal` says which metal is expected, and is taken
    from the cells where it is not given.
    """
    builtin = builtin_classes()
    if str(source) in builtin and not Path(source).exists():
        entries, left_out = read_entries(builtin[str(source)])
        return _checked(str(source), shared, entries, left_out, "built-in, CHGNet-relaxed prototypes", skip_bad)
    path = Path(source)
    if not path.exists():
        from pymatgen.core import Element

        name = str(source)
        if Element.is_valid_symbol(name):
            raise InputError(f"{name}: there is no built-in class of this metal; bring your own cells as a folder or zip.")
        raise InputError(
            f"{name}: neither a chemical element nor an existing path; give a symbol such as Pd, or a folder of cells."
        )
    entries, left_out = read_entries(path, metal, shared)
    return _checked(metal, shared, entries, left_out, str(path), skip_bad)


def sort_out(entries: list[Cell], metal: str | None, shared: str) -> tuple[str | None, list[Cell], list[LeftOut]]:
    """The metal of a class, the cells that belong to it, and those that do not with the reason."""
    kept, left_out = [], []
    for entry in entries:
        symbols = sorted({site.specie.symbol for site in entry.structure})
        metals = [s for s in symbols if s != shared]
        if shared not in symbols:
            reason = f"holds no {shared} but only {', '.join(symbols)}"
        elif len(metals) > 1:
            reason = f"holds {len(metals)} other elements ({', '.join(metals)}) where a binary has one"
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
    metal: str | None, shared: str, entries: list[Cell], left_out: list[LeftOut], source: str, skip_bad: bool
) -> BinaryClass:
    metal, kept, strangers = sort_out(entries, metal, shared)
    bad = [*left_out, *strangers]
    if bad and not (skip_bad and kept):
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        way = "mend or remove it, or leave out what cannot be used with --skip-bad" if kept else "mend it or give another path"
        raise InputError(f"{bad[0]}{more}; {way}.")
    if metal is None or not kept:
        raise InputError(f"{source}: holds no cells; put POSCAR, CIF, extended XYZ or .mat files there.")
    if len(kept) < MIN_CELLS:
        raise InputError(
            f"{source}: only {len(kept)} cell of {metal}-{shared}; a class needs at least {MIN_CELLS}, better 15 or more."
        )
    return BinaryClass(metal, shared, tuple(kept), source, tuple(bad))


def examine(path: Path | str, metal: str | None = None, shared: str = "H") -> dict[str, Any]:
    """The data doctor: what was read, what was left out and why, duplicates, shortest distance of each pair (Å)."""
    from pymatgen.analysis.structure_matcher import StructureMatcher

    from crystalgan.cells import encode
    from crystalgan.geometry import judge
    from crystalgan.rules import paper_rule

    path = builtin_classes().get(str(path), Path(path))
    if not path.exists():
        raise InputError(f"{path}: there is no such file or folder.")
    entries, left_out = read_entries(path, metal, shared)
    metal, kept, strangers = sort_out(entries, metal, shared)
    report: dict[str, Any] = {
        "path": str(path),
        "metal": metal,
        "cells": len(kept),
        "left_out": [{"where": x.where, "reason": x.reason} for x in [*left_out, *strangers]],
        "duplicates": [],
        "shortest": {},
        "keep_paper_rule": 0,
    }
    if not kept or metal is None:
        return report
    matcher = StructureMatcher()
    for i, entry in enumerate(kept):
        twin = next((other for other in kept[:i] if matcher.fit(entry.structure, other.structure)), None)
        if twin:
            report["duplicates"].append([twin.where, entry.where])
    verdicts = judge(encode([entry.structure for entry in kept], (shared, metal)), paper_rule([metal], shared))
    for verdict, entry in zip(verdicts, kept, strict=True):
        for pair, distance in verdict.shortest.items():
            if distance < report["shortest"].get(pair, {"distance": np.inf})["distance"]:
                report["shortest"][pair] = {"distance": round(distance, 4), "where": entry.where}
    report["keep_paper_rule"] = sum(verdict.passed for verdict in verdicts)
    return report
