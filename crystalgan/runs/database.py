"""The candidates of a run in its ASE database: open, read as a table, decide. Needs no tensors, so
the app reads it at once."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING

from crystalgan.data.known import Compared
from crystalgan.errors import InputError
from crystalgan.runs.filedb import RunDatabase
from crystalgan.runs.folder import Run
from crystalgan.runs.table import refreshed
from crystalgan.storage import locked

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import pandas as pd
    from ase.db.row import AtomsRow
    from pymatgen.core import Structure

    from crystalgan.data.known import Likeness

DECISIONS = ("undecided", "kept", "rejected")
VET_LOCK, LOCK_SECONDS = ".vet.lock", 20
LARGEST_ID = 2**63 - 1  # that SQLite can hold


def open_database(
    run: Run,
    name: str = "candidates.db",
    again: str = "generate the candidates again",
    make: bool = False,
) -> RunDatabase:
    """An ASE database of the run, empty while there is none; `make` makes the file, complete, for
    whoever is to write first.

    InputError when the file is damaged, with how to make it `again`; when it may not be read; and
    when the run was deleted.
    """
    path = run.folder / name
    if make:
        run.check_it_is_there()
    return RunDatabase(path, f"move it away and {again}", make)


@contextmanager
def timed(run: Run) -> Iterator[None]:
    """Add the time that candidates take to be made, and how many they are, to the metadata of the
    run's database."""
    before, started = open_database(run).count(), time.monotonic()
    yield
    database, seconds = open_database(run, make=True), time.monotonic() - started
    if made := database.count() - before:
        noted = database.metadata.get("making", {"seconds": 0.0, "candidates": 0})
        making = {"seconds": noted["seconds"] + seconds, "candidates": noted["candidates"] + made}
        database.metadata = database.metadata | {"making": making}


def compared_with(run: Run) -> Compared | None:
    """Return what a run's candidates were compared with; None where old runs noted nothing.

    >>> from crystalgan import open_run, shipped
    >>> compared_with(open_run(shipped())) is None
    True
    """
    if not (run.folder / "candidates.db").exists():
        return None
    noted = open_database(run).metadata.get("known")
    return Compared.of(noted) if isinstance(noted, dict) else None


def note_compared(run: Run, known: Compared) -> None:
    """Note in the metadata of the run's database what its candidates are compared with."""
    database = open_database(run, make=True)
    database.metadata = database.metadata | {"known": known.as_dict()}


def structure_of(row: AtomsRow) -> Structure:
    """The pymatgen structure of a row in its Niggli-reduced cell, atoms in the order that verdicts
    count in.

    Databases that were written before cells were reduced are read reduced too, and stay as they
    are.
    """
    from pymatgen.core import Structure

    from crystalgan.crystal.lattice import reduced

    return reduced(Structure(row.cell, row.symbols, row.positions, coords_are_cartesian=True))


def get_row(run: Run, number: int) -> AtomsRow:
    """The row of the candidate with this id."""
    return _row(run, open_database(run), number)


def _row(run: Run, database: RunDatabase, number: int) -> AtomsRow:
    rows = list(database.select(id=number)) if 0 < number <= LARGEST_ID else []
    if not rows:
        there = (
            "no candidate " + str(number)
            if database.count()
            else "no candidates yet; generate some"
        )
        raise InputError(f"{run.folder / 'candidates.db'}: holds {there}.")
    return rows[0]


def load_candidate(run: Run | Path | str, number: int) -> Structure:
    """The structure of the candidate with this id, in its Niggli-reduced cell.

    >>> from crystalgan import shipped
    >>> sorted(load_candidate(shipped(), 1).symbol_set)
    ['H', 'Ni', 'Pd']
    """
    return structure_of(get_row(run if isinstance(run, Run) else Run.open(run), number))


def candidates_table(run: Run | Path | str) -> pd.DataFrame:
    """All candidates of a run, one row each.

    Formula, symmetry, verdicts, duplicates, shortest distances (Å), decision.

    >>> from crystalgan import shipped
    >>> len(candidates_table(shipped()))
    200
    """
    return (run if isinstance(run, Run) else Run.open(run)).candidates()


def refreshed_table(run: Run, old: pd.DataFrame, since: float) -> tuple[pd.DataFrame, float]:
    """`old` with the rows that changed after `since` read again, and the time (ASE's) of the last
    change."""
    return refreshed(open_database(run), run.rule_names(), old, since)


@dataclass(frozen=True)
class Entry:
    """One entry of a candidate's history: what the chemist decided and noted, when (ISO 8601), what
    of it was new ("decision", "note" or both), and the act that it was; empty where it is not
    known."""

    decision: str
    note: str
    time: str = ""
    what: str = "decision and note"
    by: str = ""

    @classmethod
    def all_of(cls, row: AtomsRow) -> list[Entry]:
        """The history of a row, the oldest first."""
        names = [one.name for one in fields(cls)]
        return [
            cls(**{name: entry[name] for name in names if name in entry})
            for entry in row.data.get("history", [])
        ]


class ChangedMeanwhileError(InputError):
    """Somebody has changed a candidate since it was looked at, so nothing was written; `entry` says
    what is there now."""

    def __init__(self, number: int, entry: Entry) -> None:
        super().__init__(f"Candidate {number} was changed by somebody else; look at it again.")
        self.number, self.entry = number, entry


def decide(
    run: Run,
    ids: Sequence[int],
    decision: str,
    note: str | None = None,
    *,
    seen: Sequence[str] | None = None,
    by: str = "",
) -> list[tuple[int, str, str]]:
    """Write the chemist's decision on these candidates; returns what each had before.

    A `note` is written beside it; None leaves it as it is.

    Every decision stays in the row's `history` with its time, so that nobody's is lost where two
    people vet one run. `seen` are the decisions that the chemist saw: where one is another by now
    and not the wanted one either, nothing is written and ChangedMeanwhileError raised. `by` names
    the one act that this is: the same act twice is written once.

    >>> from crystalgan import open_run
    >>> decide(open_run("runs/my_run"), [3, 17], "kept", "hydrogen in planes")  # doctest: +SKIP
    """
    if decision not in DECISIONS:
        raise InputError(f"{decision!r} is not one of {', '.join(DECISIONS)}.")
    before = []
    with _vetting(run) as database:
        rows = [_row(run, database, number) for number in ids]
        for row, expected in zip(rows, seen or [], strict=False):
            if row.decision not in (expected, decision) and not _is_done(row, by):
                raise ChangedMeanwhileError(row.id, last_entry(row, "decision"))
        for row in rows:
            before.append((row.id, str(row.decision), str(row.data["note"])))
            if not _is_done(row, by):
                _write(database, row, decision, row.data["note"] if note is None else note, by)
    return before


def write_note(run: Run, number: int, note: str, *, seen: str | None = None, by: str = "") -> None:
    """Write a note on a candidate; its decision stays. `seen` is the note that was there, and `by`
    as for `decide`."""
    with _vetting(run) as database:
        row = _row(run, database, number)
        if seen is not None and row.data["note"] not in (seen, note):
            raise ChangedMeanwhileError(number, last_entry(row, "note"))
        if row.data["note"] != note and not _is_done(row, by):
            _write(database, row, row.decision, note, by)


def take_back(
    run: Run, number: int, decision: str, *, written: str, mine: Sequence[str], by: str = ""
) -> None:
    """Give a candidate its former `decision` back; ChangedMeanwhileError where another than `mine`
    has decided since.

    `written` names the act that is taken back, `mine` begin the names of one's own acts.
    """
    with _vetting(run) as database:
        row = _row(run, database, number)
        entries = Entry.all_of(row)
        names = [entry.by for entry in entries]
        later = entries[names.index(written) + 1 :] if written in names else entries
        others = [
            entry
            for entry in later
            if entry.what != "note" and not entry.by.startswith(tuple(mine))
        ]
        if others:
            raise ChangedMeanwhileError(number, others[-1])
        if not _is_done(row, by):
            _write(database, row, decision, row.data["note"], by)


def history(run: Run, number: int) -> list[Entry]:
    """What was decided and noted on a candidate, the oldest first."""
    return Entry.all_of(get_row(run, number))


def last_entry(row: AtomsRow, what: str) -> Entry:
    """The last entry of a row's history that changed `what` ("decision" or "note"), with what the
    row holds now."""
    decision, note = str(row.decision), str(row.data["note"])
    entries = [entry for entry in Entry.all_of(row) if what in entry.what]
    last = entries[-1] if entries else Entry(decision, note)
    return replace(last, decision=decision, note=note)


def _is_done(row: AtomsRow, by: str) -> bool:
    return bool(by) and any(entry.by == by for entry in Entry.all_of(row))


def _write(database: RunDatabase, row: AtomsRow, decision: str, note: str, by: str) -> None:
    is_new = {"decision": decision != row.decision, "note": note != row.data["note"]}
    what = " and ".join(name for name, new in is_new.items() if new) or "decision"
    entry = Entry(decision, note, time.strftime("%Y-%m-%dT%H:%M:%S%z"), what, by)
    entries = [*row.data.get("history", []), asdict(entry)]
    database.update(row.id, decision=decision, data=row.data | {"note": note, "history": entries})


def identity(run: Run) -> str:
    """What tells the candidates of a run from those of another one that came to lie in the same
    folder."""
    try:
        rows = open_database(run).rows("SELECT unique_id FROM systems ORDER BY id LIMIT 1")
        return f"{(run.folder / 'config.json').stat().st_mtime_ns:x}-{rows[0][0] if rows else ''}"
    except (InputError, OSError):
        return ""


def note_likenesses(run: Run, likenesses: dict[int, Likeness]) -> None:
    """Write which known structure or type each candidate repeats, by id."""
    with _vetting(run) as database:
        for number, likeness in likenesses.items():
            data = _row(run, database, number).data | details_of(likeness)
            database.update(number, new=likeness.match is None, data=data)


def details_of(likeness: Likeness) -> dict[str, str]:
    """What the data of a candidate's row say of its likeness.

    >>> from crystalgan.data.known import Likeness
    >>> details_of(Likeness(None, "Ca2OsH6 (mp-1207196)"))
    {'matches': '', 'type': 'Ca2OsH6 (mp-1207196)'}
    """
    return {"matches": likeness.match or "", "type": likeness.type}


@contextmanager
def _vetting(run: Run) -> Iterator[RunDatabase]:
    """The database for one change by one process at a time, written whole or not at all."""
    run.check_it_is_there()
    busy = f"{run.folder}: somebody else is changing its candidates; try again in a moment."
    with locked(run.folder / VET_LOCK, LOCK_SECONDS, busy), (database := open_database(run)):
        yield database
