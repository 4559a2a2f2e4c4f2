"""Selection of a run's candidates, as relaxation and export take it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crystalgan.errors import InputError
from crystalgan.runs.database import LARGEST_ID, open_database
from crystalgan.runs.table import passed_key

if TYPE_CHECKING:
    from ase.db.row import AtomsRow

    from crystalgan.runs.folder import Run


def select_rows(run: Run, select: str, rule: str | None = None) -> list[AtomsRow]:
    """Return rows of the run's candidates, by id.

    `select` is "good" (satisfies `rule`, by default the run's own), "kept" (by the user's
    decision), "all", or ids such as "3,17". Raises InputError for other words, an unknown rule, or
    an id that is not there.
    """
    database, rule = open_database(run), rule or run.rule.name
    if select == "good":
        if rule not in run.rule_names():
            raise InputError(
                f"There is no rule {rule!r} in {run.folder}; it has {', '.join(run.rule_names())}."
            )
        return list(database.select(f"{passed_key(rule)}=1"))
    if select == "kept":
        return list(database.select(decision="kept"))
    if select == "all":
        return list(database.select())
    words = [word.strip() for word in select.split(",")]
    if not all(word.isascii() and word.isdigit() for word in words):
        raise InputError(f"{select!r} selects nothing; give good, kept, all or ids such as 3,17.")
    if any(len(word) > len(str(LARGEST_ID)) for word in words):
        raise InputError(
            f"{run.folder / 'candidates.db'}: holds no candidate {max(words, key=len)[:40]}."
        )
    wanted = {int(word) for word in words}
    rows = [row for row in database.select() if row.id in wanted]
    if len(rows) < len(wanted):
        missing = ", ".join(map(str, sorted(wanted - {row.id for row in rows})))
        raise InputError(f"{run.folder / 'candidates.db'}: holds no candidate {missing}.")
    return rows
