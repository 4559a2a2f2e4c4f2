"""The candidates of a run in its ASE database: open, read as a table, decide. Needs no tensors, so the app reads it at once."""

from __future__ import annotations

import json
import re
import sqlite3
import time
from contextlib import closing, contextmanager
from functools import lru_cache
from sqlite3 import DatabaseError
from typing import TYPE_CHECKING, Any

from crystalgan import InputError
from crystalgan.runs import Run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import pandas as pd
    from ase.db.core import Database
    from ase.db.row import AtomsRow
    from pymatgen.core import Structure

DECISIONS = ("undecided", "kept", "rejected")
READ = "SELECT mtime, id, numbers, natoms, volume, key_value_pairs, data FROM systems WHERE mtime >= ? ORDER BY id"
VET_LOCK, LOCK_SECONDS = ".vet.lock", 20


def passed_key(rule: str) -> str:
    """The column of the database that says whether a candidate keeps the rule of this name."""
    return "passed_" + re.sub(r"\W", "_", rule)


def rule_names(run: Run) -> list[str]:
    """The names of the rules that every candidate of a run is judged by."""
    return list(dict.fromkeys(("paper", "learned", run.rule.name)))


def open_database(run: Run, name: str = "candidates.db", again: str = "generate the candidates again") -> Database:
    """An ASE database of the run; InputError when the file is damaged, with how to make it `again`."""
    from ase.db import connect

    path = run.folder / name
    try:
        database = connect(path, type="db")
        database.count()
    except (DatabaseError, OSError) as error:
        raise InputError(f"{path}: damaged ({error}); move it away and {again}.") from None
    return database


@contextmanager
def timed(run: Run) -> Iterator[None]:
    """Add the time that candidates take to be made, and how many they are, to the metadata of the run's database."""
    before, started = open_database(run).count(), time.monotonic()
    yield
    database, seconds = open_database(run), time.monotonic() - started
    if made := database.count() - before:
        noted = database.metadata.get("making", {"seconds": 0.0, "candidates": 0})
        making = {"seconds": noted["seconds"] + seconds, "candidates": noted["candidates"] + made}
        database.metadata = database.metadata | {"making": making}


def compared_with(run: Run) -> dict[str, Any] | None:
    """What a run's candidates were compared with (`matching.Known.report`); None where that was not noted, as in old runs."""
    if not (run.folder / "candidates.db").exists():
        return None
    noted = open_database(run).metadata.get("known")
    return noted if isinstance(noted, dict) else None


def note_compared(run: Run, report: dict[str, Any]) -> None:
    """Note in the metadata of the run's database what its candidates are compared with."""
    database = open_database(run)
    database.metadata = database.metadata | {"known": report}


def structure_of(row: AtomsRow) -> Structure:
    """The pymatgen structure of a row in its Niggli-reduced cell, atoms in the order that verdicts count in.

    Databases that were written before cells were reduced are read reduced too, and stay as they are.
    """
    from pymatgen.core import Structure

    from crystalgan.lattice import reduced

    return reduced(Structure(row.cell, row.symbols, row.positions, coords_are_cartesian=True))


def get_row(run: Run, number: int) -> AtomsRow:
    """The row of the candidate with this id."""
    rows = list(open_database(run).select(id=number))
    if not rows:
        raise InputError(f"{run.folder / 'candidates.db'}: holds no candidate {number}.")
    return rows[0]


def load_candidate(run: Run | Path | str, number: int) -> Structure:
    """The structure of the candidate with this id, in its Niggli-reduced cell."""
    return structure_of(get_row(run if isinstance(run, Run) else Run.open(run), number))


def candidates_table(run: Run | Path | str) -> pd.DataFrame:
    """All candidates of a run, one row each: formula, symmetry, verdicts, duplicates, shortest distances (Å), decision."""
    import pandas as pd

    return refreshed_table(run if isinstance(run, Run) else Run.open(run), pd.DataFrame(), 0.0)[0]


def refreshed_table(run: Run, old: pd.DataFrame, since: float) -> tuple[pd.DataFrame, float]:
    """`old` with the rows that changed after `since` read again, and the time (ASE's) of the last change."""
    import pandas as pd

    path = run.folder / "candidates.db"
    open_database(run)  # makes the file where there is none
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            changed = connection.execute(READ, (since,)).fetchall()
        new = pd.DataFrame([_as_row(*values) for _, *values in changed])
    except (DatabaseError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: damaged ({error}); move it away and generate the candidates again.") from None
    last = max((mtime for mtime, *_ in changed), default=since)
    if new.empty or old.empty:
        return (old if new.empty else new), last
    kept = old[~old["id"].isin(new["id"])]
    return pd.concat([kept, new]).sort_values("id", ignore_index=True), last


def _as_row(number: int, numbers: bytes, atoms: int, volume: float, pairs: str, data: bytes) -> dict[str, Any]:
    """A row of the table, from the columns as ASE writes them: an `AtomsRow` of each would take ten times as long."""
    details = json.loads(data[int.from_bytes(data[:8], "little") :])
    columns = {"id": number, "formula": _formula(numbers), "atoms": atoms, "volume": volume / atoms}
    columns |= json.loads(pairs) | {f"shortest {pair}": d for pair, d in details["shortest"].items()}
    return columns | {"note": details["note"], "matches": details.get("matches", "")}


@lru_cache(maxsize=10_000)
def _formula(numbers: bytes) -> str:
    import numpy as np
    from ase.symbols import Symbols

    return str(Symbols(np.frombuffer(numbers, "<i4")).get_chemical_formula("metal"))


def decide(run: Run, ids: Sequence[int], decision: str, note: str | None = None) -> list[tuple[int, str, str]]:
    """Write the chemist's decision on these candidates, and a note (None: as it is); returns what each had before.

    Every decision stays in the row's `history` with its time, so that nobody's is lost where two people vet one run.
    """
    from filelock import FileLock

    if decision not in DECISIONS:
        raise InputError(f"{decision!r} is not one of {', '.join(DECISIONS)}.")
    before = []
    with FileLock(run.folder / VET_LOCK, timeout=LOCK_SECONDS), (database := open_database(run)):
        for number in ids:
            row = database.get(id=number)
            words = row.data["note"] if note is None else note
            entry = {"decision": decision, "note": words, "time": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
            data: dict[str, Any] = row.data | {"note": words, "history": [*row.data.get("history", []), entry]}
            database.update(number, decision=decision, data=data)
            before.append((number, str(row.decision), str(row.data["note"])))
    return before


def note_matches(run: Run, matches: dict[int, str | None]) -> None:
    """Write which known structure each candidate matches, by id; None says that it is new."""
    from filelock import FileLock

    with FileLock(run.folder / VET_LOCK, timeout=LOCK_SECONDS), (database := open_database(run)):
        for number, match in matches.items():
            database.update(number, new=match is None, data=database.get(id=number).data | {"matches": match or ""})
