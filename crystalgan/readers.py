"""Reading cells from POSCAR, CIF, extended XYZ and .mat files, folders and zips.

Reading never changes a cell silently: what cannot be used is left out with its file, its line and the reason.
"""

from __future__ import annotations

import io
import warnings
import zipfile
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from crystalgan import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pymatgen.core import Structure

    Read = Iterator[tuple[str, Structure, dict[str, Any]]]  # place in the file, cell, what else the file says of it

MAX_FILE_BYTES = 50_000_000
MAX_ZIP_FILES = 10_000


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
                problem = cell_problem(structure)
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


def cell_problem(structure: Structure) -> str | None:
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
