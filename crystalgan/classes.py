"""Classes of binary compounds: the built-in ones, and what a chemist brings as POSCAR, CIF, extended XYZ, zip or .mat.

Reading never changes a cell silently: what cannot be used is left out with its file, its line and the reason.
"""

from __future__ import annotations

import hashlib
import io
import warnings
import zipfile
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from crystalgan import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pymatgen.core import Structure

    from crystalgan.cells import Cells

    Read = Iterator[tuple[str, Structure, dict[str, Any]]]  # place in the file, cell, what else the file says of it

ASSETS = Path(__file__).resolve().parent.parent / "assets" / "classes"
MAX_FILE_BYTES = 50_000_000
MAX_ZIP_FILES = 10_000
MIN_CELLS = 2


@dataclass(frozen=True)
class Cell:
    """One cell of a class and where it was read."""

    structure: Structure
    where: str  # file, and the place in it where it holds several
    info: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LeftOut:
    """What was not read, and why."""

    where: str
    reason: str

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"


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


def read_entries(path: Path, metal: str | None = None, shared: str = "H") -> tuple[list[Cell], list[LeftOut]]:
    """All cells of a folder, zip or file, and what was left out; files that are no structures at all are not mentioned.

    `metal` names the metal of a `.mat` file, which holds no elements.
    """
    entries: list[Cell] = []
    left_out: list[LeftOut] = []
    try:
        for name, data in _files(path):
            reader = _reader(name)
            if reader is None:
                if path.is_file() and not zipfile.is_zipfile(path):
                    raise InputError(
                        f"{name}: not a format that can be read; use POSCAR, CIF, extended XYZ, .mat, a folder or a zip."
                    )
                continue
            try:
                _collect(reader, _Source(name, data, metal, shared), entries, left_out)
            except _Unreadable as error:
                left_out.append(LeftOut(name, str(error)))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from None
    return entries, left_out


@dataclass(frozen=True)
class _Source:
    """The contents of one file; `metal` and `shared` for a format that names no elements."""

    name: str
    data: bytes
    metal: str | None
    shared: str

    def text(self) -> str:
        try:
            return self.data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise _Unreadable(f"not a text file (byte {error.start} is no UTF-8)") from None


class _Unreadable(Exception):  # noqa: N818 - becomes a LeftOut
    """Why a file holds no usable cell."""


def _collect(reader: Callable[[_Source], Read], source: _Source, entries: list[Cell], left_out: list[LeftOut]) -> None:
    size, most = len(source.data) // 1_000_000, MAX_FILE_BYTES // 1_000_000
    if size > most:
        raise _Unreadable(f"{size} MB, more than the {most} MB that one file may have")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pymatgen warns of every rounding in a CIF
        try:
            for place, structure, info in reader(source):
                where = f"{source.name}{place}"
                problem = _problem(structure)
                if problem:
                    left_out.append(LeftOut(where, problem))
                else:
                    entries.append(Cell(structure, where, info))
        except _Unreadable:
            raise
        except Exception as error:
            words = str(error).splitlines()
            reason = words[0] if words else type(error).__name__
            raise _Unreadable(f"cannot be read as {_format(source.name)} ({reason})") from error


def _problem(structure: Structure) -> str | None:
    """Why a structure that could be read is no cell to learn from."""
    if not structure.is_ordered:
        site = next(s for s in structure if not s.is_ordered)
        return f"has a partially occupied site ({site.species_string}); make an ordered cell of it first"
    numbers = np.concatenate((structure.lattice.matrix.ravel(), structure.frac_coords.ravel()))
    if not np.isfinite(numbers).all():
        return "has coordinates that are not finite"
    if structure.volume < 1.0:
        return f"has a volume of {structure.volume:.3g} Å³; its lattice vectors lie in one plane"
    return None


def _files(path: Path) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the files of a folder, of a zip (never unpacked to disk), or of the one file."""
    if path.is_dir():
        found = [file for file in sorted(path.rglob("*")) if file.is_file() and not file.name.startswith(".")]
        if not found:
            raise InputError(f"{path}: this folder is empty; put POSCAR, CIF, extended XYZ or .mat files there.")
        for file in found:
            if _reader(file.name):
                yield str(file), file.read_bytes()
    elif zipfile.is_zipfile(path):
        yield from _zip_files(path)
    elif path.suffix.lower() == ".zip":
        raise InputError(f"{path}: not a zip file, or cut short; pack it again.")
    else:
        yield str(path), path.read_bytes()


def _zip_files(path: Path) -> Iterator[tuple[str, bytes]]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = [m for m in archive.infolist() if not m.is_dir()]
            for member in members:
                inside = PurePosixPath(member.filename.replace("\\", "/"))
                if inside.is_absolute() or ".." in inside.parts:
                    raise InputError(
                        f"{path}: holds the path {member.filename!r}, which leads out of the archive; pack it again without."
                    )
            size = sum(m.file_size for m in members)
            if len(members) > MAX_ZIP_FILES or size > 10 * MAX_FILE_BYTES:
                raise InputError(f"{path}: unpacks to {len(members)} files and {size // 1_000_000} MB, too much for one class.")
            for member in members:
                if _reader(member.filename) and not PurePosixPath(member.filename).name.startswith("."):
                    yield f"{path}/{member.filename}", archive.read(member)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise InputError(f"{path}: this zip is damaged ({error}); pack it again.") from None


def _format(name: str) -> str:
    lower = PurePosixPath(name.replace("\\", "/")).name.lower()
    if lower.endswith(".cif"):
        return "CIF"
    if lower.endswith((".xyz", ".extxyz")):
        return "extended XYZ"
    if lower.endswith(".mat"):
        return ".mat"
    if "poscar" in lower or "contcar" in lower or lower.endswith(".vasp"):
        return "POSCAR"
    return ""


def _reader(name: str) -> Callable[[_Source], Read] | None:
    return {"CIF": _read_cif, "extended XYZ": _read_xyz, ".mat": _read_mat, "POSCAR": _read_poscar}.get(_format(name))


def _read_poscar(source: _Source) -> Read:
    from pymatgen.io.vasp import Poscar

    text = source.text()
    problem = poscar_problem(text)
    if problem:
        raise _Unreadable(problem)
    yield "", Poscar.from_str(text, read_velocities=False).structure, {}


def poscar_problem(text: str) -> str | None:
    """The first line of a POSCAR (VASP 5 and later) that is not what it must be, or None."""
    lines = text.rstrip().splitlines()

    def numbers(row: int, count: int) -> bool:
        try:
            return len([float(word) for word in lines[row].split()[:count]]) == count
        except ValueError:
            return False

    for row in range(1, 5):
        if len(lines) <= row:
            return f"cut short at line {len(lines)}, inside the lattice"
        if not numbers(row, 1 if row == 1 else 3):
            return (
                f"line {row + 1}: {'the scale' if row == 1 else 'a lattice vector'} expected, found {lines[row].strip()[:40]!r}"
            )
    if len(lines) < 8:
        return f"cut short at line {len(lines)}, before the positions"
    if lines[5].split() and lines[5].split()[0].isdigit():
        return "line 6: names no elements (the format of VASP 4); write their symbols above the counts"
    words = lines[6].split()
    if not words or not all(word.isdigit() for word in words) or len(words) != len(lines[5].split()):
        return f"line 7: one count for each of {lines[5].strip()[:40]!r} expected, found {lines[6].strip()[:40]!r}"
    first = 9 if lines[7].strip()[:1].lower() == "s" else 8
    atoms = sum(int(word) for word in words)
    for row in range(first, first + atoms):
        if len(lines) <= row:
            return f"cut short at line {len(lines)}: {atoms} atoms announced, {max(0, len(lines) - first)} positions found"
        if not numbers(row, 3):
            return f"line {row + 1}: a position expected, found {lines[row].strip()[:40]!r}"
    return None


def _read_cif(source: _Source) -> Read:
    from pymatgen.io.cif import CifParser

    structures = CifParser.from_str(source.text()).parse_structures(primitive=False)
    for i, structure in enumerate(structures):
        yield (f" (cell {i + 1})" if len(structures) > 1 else ""), structure, {}


def _read_xyz(source: _Source) -> Read:
    from ase.io import iread
    from pymatgen.core import Structure

    line = 1
    for atoms in iread(io.StringIO(source.text()), index=":", format="extxyz"):
        place = f" line {line}"
        line += len(atoms) + 2
        if not atoms.pbc.all():
            raise _Unreadable(f'line {line - len(atoms) - 1}: no lattice; write the cell as Lattice="..."')
        yield (
            place,
            Structure(atoms.cell.array, atoms.get_chemical_symbols(), atoms.get_scaled_positions(wrap=False)),
            dict(atoms.info),
        )


def _read_mat(source: _Source) -> Read:
    """The paper's authors' files: an object array `(n, 4)` of lattice, H, M1 and M2 positions, Cartesian, Å.

    Of the two metal slots one is filler: zeros throughout the file.
    """
    import scipy.io
    from pymatgen.core import Structure

    contents = scipy.io.loadmat(io.BytesIO(source.data))
    tables = {
        key: value
        for key, value in contents.items()
        if isinstance(value, np.ndarray) and value.dtype.kind == "O" and value.ndim == 2
    }
    table = next((value for value in tables.values() if value.shape[1] == 4), None)
    if table is None:
        raise _Unreadable("holds no object array (n, 4) of lattice, H, M1 and M2")
    used = [slot for slot in (2, 3) if any(np.any(row[slot]) for row in table)]
    if len(used) != 1:
        raise _Unreadable(f"{len(used)} of the two metal slots are in use where a binary has one")
    symbol = source.metal or next(iter(tables)).split("_")[0]
    for i, row in enumerate(table):
        hydrogens, metals = np.atleast_2d(row[1]), np.atleast_2d(row[used[0]])
        species = [source.shared] * len(hydrogens) + [symbol] * len(metals)
        yield f" row {i}", Structure(row[0], species, np.concatenate((hydrogens, metals)), coords_are_cartesian=True), {}


def examine(path: Path | str, metal: str | None = None, shared: str = "H") -> dict[str, Any]:
    """The data doctor: what was read, what was left out and why, duplicates, shortest distance of each pair (Å)."""
    from pymatgen.analysis.structure_matcher import StructureMatcher

    from crystalgan.cells import encode
    from crystalgan.geometry import judge, paper_rule

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
