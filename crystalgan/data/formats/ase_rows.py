"""ASE's databases (SQLite): each row is a cell.

A database is opened in memory, with the size of what it holds and the time of a query limited:
nothing is written, locked or opened beside the file.
"""

from __future__ import annotations

import json
import sqlite3
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from crystalgan.data.files import Unreadable
from crystalgan.data.formats.source import MAX_CELLS, check_atoms

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from crystalgan.data.formats.source import Read, Source

SQL_SECONDS = 0.7  # reading 10 000 rows takes 0.05


def read_db(source: Source) -> Read:
    """The rows of an ASE database, read from a copy in memory."""
    if source.data[:16] != b"SQLite format 3\0":
        raise Unreadable("is no ASE database: it does not begin as SQLite files do")
    if source.data[18:20] == b"\2\2":
        raise Unreadable("is in SQLite's WAL mode; run `PRAGMA journal_mode=delete` on it")
    pages = int.from_bytes(source.data[28:32], "big")
    page = int.from_bytes(source.data[16:18], "big")
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
    stored = {column[1] for column in columns if column[-1] == 0}  # generated ones are programs
    names = ("id", "numbers", "positions", "cell", "pbc", "key_value_pairs")
    if not plain or not plain[0] or not stored.issuperset(names):
        raise Unreadable("is no ASE database: it has no table `systems` with its columns")
    parts = [f"CASE WHEN length({name}) <= 20000 THEN {name} END" for name in names]
    return connection.execute(
        f"SELECT {', '.join(parts)} FROM systems LIMIT {MAX_CELLS + 1}"  # noqa: S608
    ).fetchall()


def _row(numbers: Any, positions: Any, cell: Any, pbc: Any) -> Structure:
    """The cell of a row, whose columns may hold anything."""
    blobs = (numbers, positions, cell)
    if (
        not all(isinstance(blob, bytes) and len(blob) % 4 == 0 for blob in blobs)
        or len(positions) % 24
        or len(cell) != 72
    ):
        raise Unreadable("is no row of ASE's: numbers, positions or cell are not what they must be")
    kinds = ("<i4", "<f8", "<f8")
    numbers, positions, cell = map(np.frombuffer, blobs, kinds)
    return structure_of_row(numbers, positions.reshape(-1, 3), cell.reshape(3, 3), pbc == 7)


def structure_of_row(
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
