"""Candidates: sample cells of a trained run, check them, store them in an ASE database.

Candidate k of a seed is the same however many are asked for: cells are drawn in blocks, each with
random numbers of its own. They are checked as they are drawn, and stored in the Niggli-reduced cell
of the same crystal.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from crystalgan.config import check_seed
from crystalgan.crystal.cells import decode
from crystalgan.crystal.matching import StructureIndex
from crystalgan.data.known import known_structures
from crystalgan.errors import InputError
from crystalgan.model.model import BLOCK
from crystalgan.runs.checking import candidate_of, rules_of, verdicts_of
from crystalgan.runs.database import (
    compared_with,
    note_compared,
    note_likenesses,
    open_database,
    structure_of,
    timed,
)
from crystalgan.runs.folder import Run
from crystalgan.runs.loading import is_trained, load_model
from crystalgan.runs.table import passed_key

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from crystalgan.data.known import Compared, KnownStructures

    Progress = Callable[[int, int], None]

MOST_CANDIDATES = 10_000_000
MOST_DRAWS = 4  # a candidate, before repeated ones are taken too


@dataclass(frozen=True)
class Generated:
    """Counts over the first candidates of a seed, and what they were compared with.

    >>> Generated(40, {"paper": 31}, {"paper": 12}, unique=39, new=40, ternary=40, drawn=41)
    Generated(40 candidates from 41 draws: 39 unique, 40 new, 40 ternary, 31 keep paper)
    """

    candidates: int
    passed: dict[str, int]  # by rule
    passed_before_repair: dict[str, int]  # by the rule that the run was trained towards
    unique: int
    new: int
    ternary: int  # hold all three elements
    drawn: int  # cells that were drawn for them
    known: Compared | None = None

    def as_dict(self) -> dict[str, Any]:
        """The counts for JSON."""
        return asdict(self) | {"known": self.known.as_dict() if self.known else None}

    def __repr__(self) -> str:
        passed = ", ".join(f"{count} keep {name}" for name, count in self.passed.items())
        return (
            f"Generated({self.candidates} candidates from {self.drawn} draws: {self.unique} unique,"
            f" {self.new} new, {self.ternary} ternary, {passed})"
        )

    def _repr_html_(self) -> str:
        rows = {
            "candidates": self.candidates,
            "drawn": self.drawn,
            "unique": self.unique,
            "new": self.new,
            "ternary": self.ternary,
            **{f"keep {name}": count for name, count in self.passed.items()},
            **{f"keep {name} unrepaired": n for name, n in self.passed_before_repair.items()},
        }
        return _html(rows)


@dataclass(frozen=True)
class Novelty:
    """How many candidates match no known structure, and what they were compared with."""

    candidates: int
    new: int
    known: Compared

    def as_dict(self) -> dict[str, Any]:
        """The counts for JSON."""
        return asdict(self) | {"known": self.known.as_dict()}

    def __repr__(self) -> str:
        return (
            f"Novelty({self.new} of {self.candidates} candidates match none of"
            f" {self.known.structures} known structures)"
        )

    def _repr_html_(self) -> str:
        return _html(
            {
                "candidates": self.candidates,
                "new": self.new,
                "known structures": self.known.structures,
                "known ternaries": self.known.ternary,
            }
        )


def _html(rows: dict[str, int]) -> str:
    from html import escape

    cells = (
        f"<tr><td>{escape(name)}</td><td style='text-align:right'>{count:,}</td></tr>"
        for name, count in rows.items()
    )
    return f"<table>{''.join(cells)}</table>"


def generate(
    run: Run | Path | str,
    n: int = 1000,
    seed: int = 0,
    progress: Progress | None = None,
    known: Sequence[Path | str] = (),
) -> Generated:
    """Have `n` candidates of this seed in the run's database; those that are missing are sampled.

    A draw that repeats an earlier candidate is skipped, unless nearly all do. A candidate is new
    when it matches neither a built-in structure nor one in the files `known`. `progress(done, n)`
    is called after each candidate.
    """
    run = run if isinstance(run, Run) else Run.open(run)
    if not 1 <= n <= MOST_CANDIDATES:
        raise InputError(f"{n} candidates were asked for; ask for 1 to {MOST_CANDIDATES:,}.")
    check_seed(seed)
    if not is_trained(run):
        raise InputError(
            f"{run.folder}: not trained to the end yet; run `crystalgan resume {run.folder}` first."
        )
    with run.hold("generate"), timed(run):
        reference = known_structures(run.species, known, run.config.known_ternaries)
        _note_compared(run, n, seed, reference.report())
        _extend(run, n, seed, reference, progress)
    return summary(run, n, seed, reference.report())


def compare_with_known(
    run: Run | Path | str, known: Sequence[Path | str] = (), progress: Progress | None = None
) -> Novelty:
    """Say again of every candidate of a run whether it is new, for known structures that were added
    later.

    `progress(done, of)` is called after each candidate.
    """
    run = run if isinstance(run, Run) else Run.open(run)
    with run.hold("generate"):
        reference = known_structures(run.species, known, run.config.known_ternaries)
        found, rows = {}, list(open_database(run).select(include_data=False))
        for row in rows:
            found[row.id] = reference.compare(structure_of(row))
            if progress:
                progress(len(found), len(rows))
        note_likenesses(run, found)
        note_compared(run, reference.report())
    new = sum(likeness.match is None for likeness in found.values())
    return Novelty(len(found), new, reference.report())


def _note_compared(run: Run, n: int, seed: int, known: Compared) -> None:
    """Note what candidates that are to be made will be compared with, or what those there were,
    where that is less."""
    database, before = open_database(run), compared_with(run)
    if database.count() == 0:
        note_compared(run, known)
    elif before is not None and database.count(seed=seed) < n:
        note_compared(run, min(before, known, key=lambda one: (one.ternary, one.structures)))


def summary(run: Run, n: int, seed: int, known: Compared) -> Generated:
    """The counts over the first `n` candidates of a seed."""
    rows = _rows(run, seed, f"number<{n}")
    return Generated(
        candidates=len(rows),
        passed={
            name: sum(bool(row[passed_key(name)]) for row in rows) for name in run.rule_names()
        },
        passed_before_repair={run.rule.name: sum(bool(row.raw_passed) for row in rows)},
        unique=sum(bool(row.unique) for row in rows),
        new=sum(bool(row.get("new", True)) for row in rows),
        ternary=sum(bool(row.ternary) for row in rows),
        drawn=1 + max((row.draw for row in rows), default=-1),
        known=known,
    )


def _rows(run: Run, seed: int, condition: str | None = None) -> list[Any]:
    """The rows of a seed in the order of their numbers; ASE selects seeds as floats."""
    found = open_database(run).select(condition, seed=seed, sort="number", include_data=False)
    return [row for row in found if row.seed == seed]


def _extend(run: Run, n: int, seed: int, known: KnownStructures, progress: Progress | None) -> None:
    """Sample, check and store candidates until there are `n` of this seed."""
    there = _rows(run, seed)
    if len(there) >= n:
        return
    number, draw = len(there), (there[-1].draw + 1 if there else 0)
    database, model = open_database(run, make=True), load_model(run)
    rules, earlier = rules_of(model.rule, *model.classes), StructureIndex[int]()
    for row in there:
        earlier.find_or_add(structure_of(row), row.number)
    while number < n:
        block, first = divmod(draw, BLOCK)
        batch = model.draw(block, seed, size=BLOCK)
        verdicts, found = verdicts_of(batch.cells, rules), []
        for row, structure in enumerate(decode(batch.cells[first:]), first):
            twin = earlier.find_or_add(structure, number)
            draw += 1
            if twin is not None and draw < MOST_DRAWS * number + BLOCK:
                continue
            candidate = candidate_of(batch, row, structure, verdicts[row])
            candidate.place(seed, number, draw - 1)
            candidate.compare(twin, known.compare(structure))
            found.append(candidate)
            number += 1
            if progress:
                progress(number, n)
            if number == n:
                break
        with database:  # one transaction a block, and a short one: others vet meanwhile
            for candidate in found:
                candidate.write(database)
