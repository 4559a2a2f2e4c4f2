"""A database from elsewhere, copied row by row into one of ours and never adopted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crystalgan.errors import InputError
from crystalgan.runs.filedb import RunDatabase
from crystalgan.runs.schema import OF_DAMAGE

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

CONTENT = "pack the run folder again"


class _Stranger(RunDatabase):
    """A database that is read as it lies there: nothing of it is run, nothing is written."""

    def _open(self) -> sqlite3.Connection:
        connection = self._guarded("mode=ro&immutable=1")
        connection.execute("PRAGMA query_only = ON")
        connection.execute("PRAGMA cell_size_check = ON")
        return connection


def copy_database(source: Path, target: Path) -> None:
    """Put the rows of `source` into a new database `target` of the same name elsewhere: cells,
    columns, details, ids, and what its metadata says.

    InputError where `source` is no database of a run (`schema.SCHEMAS`).
    """
    from ase import Atoms

    theirs, ours = _Stranger(source, CONTENT), RunDatabase(target, CONTENT, make=True)
    try:
        with ours:
            for row in theirs.select():
                _set_next_id(ours, row.id)
                atoms = Atoms(row.numbers, row.positions, cell=row.cell, pbc=True)
                ours.write(atoms, key_value_pairs=row.key_value_pairs, data=dict(row.data))
        if theirs.metadata:
            ours.metadata = theirs.metadata
    except OF_DAMAGE as error:
        if isinstance(error, InputError):
            raise
        raise InputError(theirs.damaged(error)) from None


def _set_next_id(database: RunDatabase, number: int) -> None:
    """Have the next row of a database be written with this id, as SQLite's manual allows."""
    with database.managed_connection() as connection:
        connection.execute("DELETE FROM sqlite_sequence WHERE name = 'systems'")
        connection.execute("INSERT INTO sqlite_sequence VALUES ('systems', ?)", (number - 1,))
