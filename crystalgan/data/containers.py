"""Formats that hold many cells and more: JSON, ASE databases and the .mat files of the paper's
authors.

No file is given to a reader that imports or opens what the file names, or that takes memory before
it has looked: JSON is plain JSON, a database is opened in memory with its size limited, and .mat is
read here, element by element.
"""

from __future__ import annotations

import itertools
import json
import sqlite3
import struct
import time
import zlib
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from crystalgan.data.elements import element
from crystalgan.data.files import Unreadable
from crystalgan.data.formats import MAX_CELLS, Source, check_atoms

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pymatgen.core import Structure

    from crystalgan.data.formats import Read

MAX_JSON_MEMORY = 60_000_000  # bytes that the parsed file may take
JSON_DEPTH = 3
SQL_SECONDS = 0.7  # reading 10 000 rows takes 0.05
MAX_MAT_BYTES = 20_000_000  # unpacked
MAX_NUMBERS = 30_000  # of one matrix; more are nobody's positions
# of MATLAB's elements
TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
MATRIX, COMPRESSED, CELL_CLASS, COMPLEX = 14, 15, 1, 0x800


def read_json(source: Source) -> Read:
    """pymatgen's Structure dicts, entries that hold one as `structure`, lists and dicts of them;
    ASE's JSON database.

    Only lattice, species and coordinates are taken: pymatgen decodes the properties of a site by
    importing what they name.
    """
    text = source.text()
    most = (1 if text.isascii() else 4) * len(text)
    most += sum(
        size * text.count(c)
        for c, size in (("[", 100), ("{", 230), (",", 40), (":", 100), ('"', 30))
    )
    if most > MAX_JSON_MEMORY:
        raise Unreadable(
            f"is too large: it would take {most / 1e6:.0f} MB of memory, more than"
            f" {MAX_JSON_MEMORY / 1e6:.0f}"
        )
    data = json.loads(text)
    found: list[Any]
    if isinstance(data, dict) and "ids" in data and "nextid" in data:
        found = [
            (f" row {i}", partial(_json_row, data.get(str(i))), _info(data.get(str(i))))
            for i in _array(data["ids"]).astype(int).tolist()
        ]
    else:
        found = list(_structures(data))
    if not found:
        raise Unreadable(
            "holds no structure; a pymatgen Structure has a lattice and sites, an entry a structure"
        )
    if len(found) > MAX_CELLS:
        raise Unreadable(f"holds {len(found)} cells, more than {MAX_CELLS}")
    yield from found


def _structures(data: Any) -> Read:
    """The structures of nested lists and dicts, in their order."""
    waiting: list[tuple[str, Any, int]] = [("", data, JSON_DEPTH)]
    looked = 0
    while waiting:
        place, value, depth = waiting.pop()
        if isinstance(value, dict) and "lattice" in value and "sites" in value:
            yield place, partial(_structure, value), {}
        elif isinstance(value, dict) and isinstance(value.get("structure"), dict):
            info = {k: v for k, v in value.items() if isinstance(v, (str, int, float))}
            yield place, partial(_structure, value["structure"]), info
        elif isinstance(value, dict) and (lacks := _lacks(value)):
            yield place, partial(_refuse, lacks), {}
        elif isinstance(value, (dict, list)) and depth:
            looked += len(value)
            if looked > MAX_CELLS:
                raise Unreadable(f"holds more than {MAX_CELLS} entries")
            items = list(value.items() if isinstance(value, dict) else enumerate(value, 1))
            children = [
                (f"{place} entry {str(k)[:40]}", v, depth - 1)
                for k, v in items
                if isinstance(v, (dict, list))
            ]
            waiting += reversed(children)


def _lacks(data: dict[str, Any]) -> str:
    """What a dict that was meant as a structure lacks, or nothing."""
    if "structure" in data and data["structure"] is None:
        return "holds no structure"
    if isinstance(data.get("sites"), list) and "lattice" not in data:
        return "holds sites and no lattice"
    if isinstance(data.get("lattice"), dict) and "matrix" in data["lattice"]:
        return "holds a lattice and no sites"
    return ""


def _refuse(reason: str) -> NoReturn:
    raise Unreadable(reason)


def _structure(data: dict[str, Any]) -> Structure:
    from pymatgen.core import Structure

    sites, lattice = data["sites"], data["lattice"]
    if not isinstance(sites, list) or not isinstance(lattice, dict):
        raise Unreadable("is no structure: its sites are no list or its lattice no dict")
    check_atoms(len(sites))
    clean = [
        {
            "abc": site["abc"],
            "species": [
                {"element": element(str(part["element"])), "occu": part["occu"]}
                for part in site["species"]
            ],
        }
        for site in sites
    ]
    return Structure.from_dict({"lattice": {"matrix": lattice["matrix"]}, "sites": clean})


def _json_row(row: Any) -> Structure:
    if not isinstance(row, dict):
        raise Unreadable("is no row of an ASE database")
    cell = row["cell"]
    cell = cell.get("array", cell) if isinstance(cell, dict) else cell
    return _atoms(
        _array(row["numbers"]),
        _array(row["positions"]),
        _array(cell),
        bool(np.all(_array(row["pbc"]))),
    )


def _array(data: Any) -> np.ndarray:
    """A list, or ASE's `{"__ndarray__": [shape, type, numbers]}`, as float64."""
    if isinstance(data, dict):
        shape, _, flat = data["__ndarray__"]
        return np.asarray(flat, float).reshape(shape)
    return np.asarray(data, float)


def _info(row: Any) -> dict[str, Any]:
    info = row.get("key_value_pairs") if isinstance(row, dict) else None
    return info if isinstance(info, dict) else {}


def _atoms(
    numbers: np.ndarray, positions: np.ndarray, cell: np.ndarray, periodic: bool
) -> Structure:
    """A row of ASE's: atomic numbers `[n]`, positions `[n, 3]` and cell `[3, 3]` in Å."""
    from pymatgen.core import Element, Structure

    check_atoms(numbers.size)
    if not periodic or cell.shape != (3, 3) or not cell.any():
        raise Unreadable("has no lattice in all three directions")
    if numbers.ndim != 1 or positions.shape != (len(numbers), 3):
        raise Unreadable(
            f"has {numbers.size} atomic numbers and positions of shape {positions.shape}"
        )
    strange = next((z for z in numbers.tolist() if z not in range(1, 119)), None)
    if strange is not None:
        raise Unreadable(f"holds the atomic number {strange:g}, which is no element")
    return Structure(
        cell, [Element.from_Z(int(z)) for z in numbers], positions, coords_are_cartesian=True
    )


def read_db(source: Source) -> Read:
    """The rows of an ASE database (SQLite), read from a copy in memory: nothing is written, locked
    or opened beside the file."""
    if source.data[:16] != b"SQLite format 3\0":
        raise Unreadable("is no ASE database: it does not begin as SQLite files do")
    if source.data[18:20] == b"\2\2":
        raise Unreadable("is in SQLite's WAL mode; run `PRAGMA journal_mode=delete` on it")
    pages, page = (
        int.from_bytes(source.data[28:32], "big"),
        int.from_bytes(source.data[16:18], "big"),
    )
    if pages * (65536 if page == 1 else page) > len(source.data):
        raise Unreadable(f"is cut short: {pages} pages of {page} bytes are announced")
    connection = sqlite3.connect(":memory:")
    stop = time.monotonic() + SQL_SECONDS
    connection.text_factory = lambda text: text.decode("utf-8", "replace")
    try:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 20_000_000)
        connection.set_progress_handler(lambda: time.monotonic() > stop, 100)
        connection.deserialize(source.data)
        rows = _rows(connection)
    except (sqlite3.Error, OverflowError) as error:
        reason = "it takes too long" if "interrupted" in str(error) else str(error)
        raise Unreadable(f"cannot be read as ASE database ({reason})") from None
    finally:
        connection.close()
    if len(rows) > MAX_CELLS:
        raise Unreadable(f"holds more than {MAX_CELLS} rows")
    if not rows:
        raise Unreadable("is an ASE database without rows")
    for number, *columns, info in rows:
        try:
            pairs = json.loads(info)
        except (TypeError, ValueError, RecursionError):
            pairs = None
        yield f" row {number}", partial(_row, *columns), pairs if isinstance(pairs, dict) else {}


def _rows(connection: sqlite3.Connection) -> list[tuple[Any, ...]]:
    """At most one row more than may be there; a blob longer than a cell needs comes as NULL."""
    plain = connection.execute(
        "SELECT rootpage FROM sqlite_master WHERE type = 'table' AND name = 'systems'"
    ).fetchone()
    columns = connection.execute("PRAGMA table_xinfo(systems)").fetchall()
    # no generated ones: they are programs
    stored = {column[1] for column in columns if column[-1] == 0}
    names = ("id", "numbers", "positions", "cell", "pbc", "key_value_pairs")
    if not plain or not plain[0] or not stored.issuperset(names):
        raise Unreadable("is no ASE database: it has no table `systems` with its columns")
    parts = [f"CASE WHEN length({name}) <= 20000 THEN {name} END" for name in names]
    return connection.execute(
        f"SELECT {', '.join(parts)} FROM systems LIMIT {MAX_CELLS + 1}"  # noqa: S608
    ).fetchall()


# SQLite's columns hold anything
def _row(numbers: Any, positions: Any, cell: Any, pbc: Any) -> Structure:
    blobs = (numbers, positions, cell)
    if (
        not all(isinstance(blob, bytes) and len(blob) % 4 == 0 for blob in blobs)
        or len(positions) % 24
        or len(cell) != 72
    ):
        raise Unreadable("is no row of ASE's: numbers, positions or cell are not what they must be")
    arrays = (
        np.frombuffer(blob, kind) for blob, kind in zip(blobs, ("<i4", "<f8", "<f8"), strict=True)
    )
    numbers, positions, cell = arrays
    return _atoms(numbers, positions.reshape(-1, 3), cell.reshape(3, 3), pbc == 7)


def read_mat(source: Source) -> Read:
    """The paper's authors' files: an object array `(n, 4)` of lattice, H, M1 and M2 positions,
    Cartesian, Å.

    Of the two metal slots one is filler: zeros throughout the file.
    """
    try:
        tables = {
            name: value
            for name, value in _variables(source.data)
            if isinstance(value, list) and len(value) == 4
        }
    except (ValueError, struct.error):
        raise Unreadable("is damaged: its elements do not fit together") from None
    if not tables:
        raise Unreadable("holds no object array (n, 4) of lattice, H, M1 and M2")
    name, table = next(iter(tables.items()))
    used = [slot for slot in (2, 3) if any(np.any(positions) for positions in table[slot])]
    if len(used) != 1:
        raise Unreadable(f"{len(used)} of the two metal slots are in use where a binary has one")
    symbol = source.metal or name.split("_")[0]
    for i, (lattice, hydrogens, metals) in enumerate(
        zip(table[0], table[1], table[used[0]], strict=True)
    ):
        yield f" row {i}", partial(_mat_row, lattice, hydrogens, metals, source.shared, symbol), {}


def _mat_row(lattice: Any, hydrogens: Any, metals: Any, shared: str, symbol: str) -> Structure:
    from pymatgen.core import Structure

    arrays = (lattice, hydrogens, metals)
    if (
        not all(isinstance(a, np.ndarray) and a.ndim == 2 and a.shape[1] == 3 for a in arrays)
        or len(lattice) != 3
    ):
        shapes = ", ".join(str(np.shape(a)) for a in arrays)
        raise Unreadable(f"must hold matrices (3, 3), (n, 3) and (m, 3), not of shapes {shapes}")
    check_atoms(len(hydrogens) + len(metals))
    species = [shared] * len(hydrogens) + [symbol] * len(metals)
    return Structure(
        lattice, species, np.concatenate((hydrogens, metals)), coords_are_cartesian=True
    )


def _variables(data: bytes) -> Iterator[tuple[str, Any]]:
    """Names and values of a MATLAB 5 file: a numeric matrix as array, a cell array `(n, m)` as list
    of m columns, else None."""
    if data[512:520] == b"\x89HDF\r\n\x1a\n" or data[:8] == b"\x89HDF\r\n\x1a\n":
        raise Unreadable("is a .mat file of version 7.3 (HDF5); save it with -v7")
    order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
    if order is None or len(data) < 136:
        raise Unreadable("cannot be read as .mat (it does not begin as MATLAB 5 files do)")
    left = MAX_MAT_BYTES
    for count, (kind, payload) in enumerate(_elements(memoryview(data)[128:], order)):
        if count == 1000:
            raise Unreadable("holds more than 1000 variables")
        if kind == COMPRESSED:
            try:
                inside = zlib.decompressobj().decompress(payload, left + 1)
            except zlib.error:
                raise Unreadable("is damaged or cut short: a variable cannot be unpacked") from None
            if len(inside) > left:
                raise Unreadable(
                    f"is too large: it unpacks to more than {MAX_MAT_BYTES / 1e6:.0f} MB"
                )
            left -= len(inside)
            for nested, matrix in itertools.islice(_elements(memoryview(inside), order), 1):
                if nested == MATRIX:
                    yield _matrix(matrix, order)
        elif kind == MATRIX:
            yield _matrix(payload, order)


def _elements(data: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """Type and contents of one element after the other."""
    at = 0
    while at + 8 <= len(data):
        kind, size = struct.unpack_from(order + "II", data, at)
        start = at + 8
        if kind >> 16:  # a small one: its size is in the upper half of its type
            kind, size, start = kind & 0xFFFF, kind >> 16, at + 4
        if start + size > len(data):
            raise Unreadable(
                f"is cut short: an element of {size} bytes is announced, {len(data) - start} follow"
            )
        yield kind, data[start : start + size]
        at = at + 8 if start == at + 4 else start + size + (0 if kind == COMPRESSED else -size % 8)


def _matrix(payload: memoryview, order: str, nested: bool = False) -> tuple[str, Any]:
    if not payload:
        return "", np.zeros((0, 0))
    elements = _elements(payload, order)
    flags, shape, label = (bytes(part) for _, part in itertools.islice(elements, 3))
    (flag,) = struct.unpack_from(order + "I", flags)
    dims = np.frombuffer(shape, order + "i4").tolist()
    count = np.prod(dims, dtype=object)
    name = label.decode("latin-1")
    if len(dims) != 2 or min(dims) < 0:
        raise Unreadable(f"has a matrix of dimensions {dims[:4]} where two are expected")
    if flag & 0xFF == CELL_CLASS and not nested:
        if count > 4 * MAX_CELLS:
            raise Unreadable(
                f"announces an object array of {dims[0]} x {dims[1]}, more than {MAX_CELLS} cells"
            )
        parts = [
            _matrix(part, order, nested=True)[1] for _, part in itertools.islice(elements, count)
        ]
        if len(parts) < count:
            raise Unreadable(f"is cut short: {count} objects announced, {len(parts)} found")
        return name, [parts[k * dims[0] : (k + 1) * dims[0]] for k in range(dims[1])]
    kind, numbers = next(elements, (0, payload[:0]))
    if not 6 <= flag & 0xFF <= 15 or flag & COMPLEX or kind not in TYPES:
        return name, None
    array = np.frombuffer(numbers, order + TYPES[kind])
    if len(array) != count:
        raise Unreadable(
            f"announces a matrix of {dims[0]} x {dims[1]} and holds {len(array)} numbers"
        )
    if count > MAX_NUMBERS:
        return name, None
    return name, array.astype(float).reshape(dims, order="F")
