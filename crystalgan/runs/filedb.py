"""An ASE database in a file that several processes use: never seen half made, never made by a
reader, plain about failures, and checked row by row.

Whoever made the file may be a stranger: nothing but tables is taken, no function of its schema is
called, and a row that is no crystal with our columns is damage.

ASE makes a file on the first look at it, empty, and its tables one by one, so that whoever looks
meanwhile finds a damaged one. Its lock file outlives a process that is killed. Here a file appears
when it is complete, and SQLite alone does the locking.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ase.db.sqlite import SQLite3Database

from crystalgan.errors import InputError
from crystalgan.runs.schema import OF_DAMAGE, SCHEMAS, Metadata, check_row, reason
from crystalgan.storage import COPY, appear, hidden, may, problem, refusal, saying

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ase.db.row import AtomsRow

MOST_BYTES = 100_000_000  # of one value in a database
PATIENCE = 30  # seconds that SQLite waits for another process
TABLES = {"systems", "species", "keys", "text_key_values", "number_key_values", "information"}


class RunDatabase(SQLite3Database):
    """ASE's own for this file; without one it reads as an empty one.

    What cannot be read or written, or is no row of such a file (`schema.SCHEMAS`), is an
    InputError.
    """

    connection: sqlite3.Connection | None

    def __init__(self, path: Path, again: str, make: bool = False) -> None:
        super().__init__(str(path.absolute()), use_lock_file=False)
        self.path, self.again = path, again
        if make and not self._is_there():
            self._make()
        self.count()  # the first look says whether it is damaged

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """What an SQL statement gives."""
        with self.managed_connection() as connection:
            return list(connection.execute(statement, values).fetchall())

    def _select(
        self, keys: Any, cmps: Any, *, include_data: bool = True, columns: Any = "all", **more: Any
    ) -> Iterator[AtomsRow]:
        """ASE's, each row checked."""
        rows = super()._select(keys, cmps, include_data=include_data, columns=columns, **more)
        schemas = SCHEMAS.get(self.path.name) if columns == "all" else None
        while True:
            try:
                if (row := next(rows, None)) is None:
                    return
                if schemas and not more.get("explain"):
                    check_row(row, *schemas, include_data)
            except OF_DAMAGE as error:
                if isinstance(error, InputError):
                    raise
                raise InputError(self.damaged(error)) from None
            yield row

    def _get_external_table_names(self, *_: Any) -> list[str]:
        """None: ours have none, and the names of a stranger's would go into statements."""
        return []

    def contents(self) -> bytes:
        """The file as it would be if no process were at work on it."""
        with (
            self._saying(),
            closing(self._connect()) as connection,
            closing(sqlite3.connect(":memory:")) as copy,
        ):
            connection.backup(copy)
            return bytes(copy.serialize())

    def damaged(self, error: Exception) -> str:
        """The sentence on a file that is no such database any more."""
        return f"{self.path}: damaged ({reason(error)}); {self.again}."

    def __enter__(self) -> Self:
        with self._saying():
            super().__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        with self._saying():
            try:
                super().__exit__(*error)
            finally:
                # the commit failed: nothing of it is written
                if (left := self.connection) is not None:
                    left.close()
                    self.connection = None

    @contextmanager
    def managed_connection(self, commit_frequency: int = 5000) -> Iterator[sqlite3.Connection]:
        """ASE's; every statement goes through it."""
        with self._saying(), super().managed_connection(commit_frequency) as connection:
            yield connection

    def _connect(self) -> sqlite3.Connection:
        if self.initialized or self._is_there():
            return self._open()
        return sqlite3.connect(":memory:")  # nothing is there yet

    def _initialize(self, con: sqlite3.Connection) -> None:
        try:
            super()._initialize(con)
            Metadata.model_validate(self._metadata)
        except (OSError, *OF_DAMAGE) as error:  # of another version, or no ASE database
            raise InputError(self.damaged(error)) from None
        if not con.execute("PRAGMA database_list").fetchone()[2]:
            con.execute("PRAGMA query_only = ON")  # what is written here would be lost
            self.initialized = False  # the file may be there the next time

    def _open(self) -> sqlite3.Connection:
        """A connection to a file that is there; one that may not be written is opened for
        reading."""
        return self._guarded("mode=rw")

    def _guarded(self, how: str) -> sqlite3.Connection:
        """A connection that calls no function of the file's schema and takes no endless value."""
        connection = sqlite3.connect(
            f"{Path(self.filename).as_uri()}?{how}", uri=True, timeout=PATIENCE
        )
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MOST_BYTES)
        return connection

    def _is_there(self) -> bool:
        """Whether there is a file with all tables; one that lacks them and holds no row was left by
        a process that was killed."""
        if not self.path.exists():
            return False
        with self._saying():
            connection = self._open()
            try:
                made_of = connection.execute("SELECT type, name, rootpage FROM sqlite_master")
                kinds = {name: (kind, page) for kind, name, page in made_of}
                for name, (kind, page) in kinds.items():
                    if kind not in ("table", "index") or not page:  # a virtual table has no page
                        raise sqlite3.DatabaseError(f"holds the {kind} {name!r}, no plain table")
                found = {name for name, (kind, _) in kinds.items() if kind == "table"}
                version = (
                    "information" in found
                    and connection.execute(
                        "SELECT 1 FROM information WHERE name = 'version'"
                    ).fetchone()
                )
                if found >= TABLES and version:
                    return True
                if "systems" in found and connection.execute("SELECT 1 FROM systems").fetchone():
                    raise sqlite3.DatabaseError("tables are missing")
            finally:
                connection.close()
        return False

    def _make(self) -> None:
        """Put a complete, empty database where there is none; another process may be quicker."""
        partial = hidden(self.path)
        with self._saying(), saying(self.path, COPY, writing=True):
            try:
                partial.touch()  # with the mode of new files; SQLite would let no group write
                SQLite3Database(str(partial.absolute()), use_lock_file=False).count()
                if self.path.exists():  # without tables
                    os.replace(partial, self.path)
                else:
                    with suppress(FileExistsError):
                        appear(partial, self.path)
            finally:
                for left in (partial, partial.with_name(f"{partial.name}-journal")):
                    with suppress(FileNotFoundError):
                        left.unlink()

    @contextmanager
    def _saying(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.ProgrammingError:
            raise
        except sqlite3.DatabaseError as error:
            raise InputError(refused(self.path, error, self.again)) from None


def refused(path: Path, error: sqlite3.DatabaseError, again: str) -> str:
    """One sentence on why SQLite cannot read or write this file; `again` is what to do with a
    damaged one."""
    code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return (
            f"{path}: another process has been writing here for {PATIENCE} s; try again when it is"
            " done."
        )
    if code == sqlite3.SQLITE_FULL:
        return problem(OSError(errno.ENOSPC, ""), path)
    if code in (
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_IOERR,
    ):
        return _by_the_system(path, error)
    return f"{path}: damaged ({error}); {again}."


def _by_the_system(path: Path, error: sqlite3.DatabaseError) -> str:
    """SQLite keeps the system's reason to itself; it is asked without opening the file, which would
    undo SQLite's locks."""
    if not path.exists():
        return problem(
            FileNotFoundError(errno.ENOENT, ""), path, "the run was deleted or moved", writing=False
        )
    journal = path.with_name(f"{path.name}-journal")
    interrupted = (
        " A process ended while it wrote here: whoever may write is to open the run once."
        * journal.exists()
    )
    for place, what in ((path, os.R_OK), (path, os.W_OK), (path.parent, os.W_OK)):
        if not may(place, what):
            number = refusal(place) if what == os.W_OK else errno.EACCES
            return problem(OSError(number, ""), place, COPY, writing=what == os.W_OK) + interrupted
    return f"{path}: cannot be read or written ({error}); look whether the disk is full or fails."
