"""The candidates of a database as a table, read from its columns and checked row by row."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from crystalgan.errors import InputError
from crystalgan.runs.schema import OF_DAMAGE, Candidate, CandidateDetails

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from crystalgan.runs.filedb import RunDatabase

READ = (
    "SELECT mtime, id, numbers, natoms, volume, key_value_pairs, data FROM systems WHERE mtime >= ?"
    " ORDER BY id"
)


def passed_key(rule: str) -> str:
    """The column of the database that says whether a candidate keeps the rule of this name."""
    return "passed_" + re.sub(r"\W", "_", rule)


def read_table(database: RunDatabase, rules: Sequence[str]) -> pd.DataFrame:
    """All rows; see `crystalgan.runs.database.candidates_table`."""
    import pandas as pd

    return refreshed(database, rules, pd.DataFrame(), 0.0)[0]


def refreshed(
    database: RunDatabase, rules: Sequence[str], old: pd.DataFrame, since: float
) -> tuple[pd.DataFrame, float]:
    """`old` with the rows that changed after `since` read again, and the time (ASE's) of the last
    change. Every row says which of the `rules` it keeps."""
    import pandas as pd

    verdicts = [passed_key(rule) for rule in rules]
    try:
        changed = database.rows(READ, (since,))
        new = pd.DataFrame([_as_row(verdicts, *values) for _, *values in changed])
        last = max((float(mtime) for mtime, *_ in changed), default=since)
    except OF_DAMAGE as error:
        if isinstance(error, InputError):
            raise
        raise InputError(database.damaged(error)) from None
    if new.empty or old.empty:
        return (old if new.empty else new), last
    kept = old[~old["id"].isin(new["id"])]
    return pd.concat([kept, new]).sort_values("id", ignore_index=True), last


def _as_row(
    verdicts: list[str],
    number: int,
    numbers: bytes,
    atoms: int,
    volume: float,
    pairs: str,
    data: bytes,
) -> dict[str, Any]:
    """A row of the table, from the columns as ASE writes them: an `AtomsRow` of each would take ten
    times as long."""
    details = json.loads(data[int.from_bytes(data[:8], "little") :])
    said = json.loads(pairs)
    Candidate.model_validate(said)
    CandidateDetails.model_validate(details)
    for name in verdicts:
        if not isinstance(said[name], bool):
            raise TypeError(f"{name} of candidate {number} is neither true nor false")
    columns = {"id": number, "formula": _formula(numbers), "atoms": atoms, "volume": volume / atoms}
    columns |= said | {f"shortest {pair}": d for pair, d in details["shortest"].items()}
    return (
        columns
        | {"note": details["note"], "matches": details.get("matches", "")}
        | {"type": details.get("type", "")}
    )


@lru_cache(maxsize=10_000)
def _formula(numbers: bytes) -> str:
    import numpy as np
    from ase.symbols import Symbols

    return str(Symbols(np.frombuffer(numbers, "<i4")).get_chemical_formula("metal"))
