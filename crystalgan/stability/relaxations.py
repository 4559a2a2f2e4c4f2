"""Relaxed candidates of a run and the phases that compete with them, in `relaxed.db`, an ASE
database beside `candidates.db`.

Candidates stay as they were made. The outcome of each is one row here, written as soon as it is
known, so that a relaxation that is killed goes on where it was.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from crystalgan.crystal.describe import check_tolerance
from crystalgan.crystal.lattice import reduced
from crystalgan.errors import InputError
from crystalgan.runs.database import open_database, structure_of
from crystalgan.runs.folder import Run
from crystalgan.stability.references import other_structures, reference_structures
from crystalgan.stability.selection import select_rows
from crystalgan.stability.tasks import (
    Outcome,
    Settings,
    Task,
    about_potential,
    relax_task,
    symmetrize_task,
)
from crystalgan.stability.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence
    from pathlib import Path

    from ase.db.row import AtomsRow
    from pymatgen.core import Structure

    from crystalgan.runs.filedb import RunDatabase

    Progress = Callable[[int, int, str], None]  # how many are done, of how many, what the last was

SAME_ENERGY = 0.001  # eV/atom


@dataclass(frozen=True)
class Relaxations:
    """How many of the selected candidates are relaxed, those of earlier calls included."""

    relaxed: int
    converged: int  # of the relaxed
    failed: int

    def __str__(self) -> str:
        return (
            f"{self.relaxed} candidates relaxed, {self.converged} of them converged,"
            f" {self.failed} failed"
        )

    def as_dict(self) -> dict[str, int]:
        """The counts, for JSON.

        >>> Relaxations(3, 2, 1).as_dict()
        {'relaxed': 3, 'converged': 2, 'failed': 1}
        """
        return asdict(self)


def open_relaxed(run: Run, make: bool = False) -> RunDatabase:
    """Open the database of what was relaxed (`runs.database.open_database`)."""
    return open_database(run, "relaxed.db", "relax the candidates again", make)


def relaxed_rows(
    run: Run, potential: str | None = None, candidate: int | None = None
) -> list[AtomsRow]:
    """Return the rows of what was relaxed, all or those of one potential and one candidate."""
    wanted: dict[str, Any] = {"potential": potential, "candidate": candidate}
    return list(
        open_relaxed(run).select(
            **{name: value for name, value in wanted.items() if value is not None}
        )
    )


def potentials_of(run: Run) -> list[str]:
    """Return the potentials that structures of a run were relaxed with, CHGNet first."""
    return sorted(
        {row.potential for row in relaxed_rows(run)}, key=lambda name: (name != "CHGNet", name)
    )


def relax_candidates(
    run: Run | Path | str,
    select: str = "good",
    potential: str = "chgnet",
    settings: Settings | None = None,
    jobs: int = 1,
    references: bool = False,
    phases: Sequence[Path | str] = (),
    raise_symmetry: float | None = None,
    progress: Progress | None = None,
    left_out: Callable[[str], None] | None = None,
) -> Relaxations:
    """Relax cell and positions of the selected candidates.

    Those that are relaxed with these settings already are left. `select` is that of `select_rows`,
    `potential` that of `load_potential`; `jobs` is the number of processes, which relax one
    structure each. `references` relaxes what competes as well: compounds of the two metals and, for
    another potential than CHGNet, the elements, binaries and known ternaries, whose CHGNet energies
    are built in.
    `phases` are files of further phases; `left_out` is called with a sentence for each part of them
    that is not used. With `raise_symmetry` (Å) a higher symmetry of what converged is looked for
    within this tolerance. `progress(done, of, what)` is called after each structure. Raises
    InputError for what cannot be used.

    >>> relax_candidates("runs/Pd-Ni-H_crystalgan_seed0_001", "3,17")  # doctest: +SKIP
    Relaxations(relaxed=2, converged=2, failed=0)
    """
    run, settings = run if isinstance(run, Run) else Run.open(run), settings or Settings()
    if raise_symmetry is not None:
        check_tolerance(raise_symmetry)
    rows = select_rows(run, select)
    if not rows:
        raise InputError(
            f"{run.folder}: no candidate is selected by {select!r}; generate some, or select"
            " otherwise."
        )
    tasks = [Task(row.id, "", structure_of(row)) for row in rows]
    others = other_structures(run.species, phases, left_out)
    tasks += [Task(0, name, structure) for name, structure in others.items()]
    ids = {row.id for row in rows}
    with run.hold("relax"), Workers(jobs) as workers:
        about = _about(run, workers, potential, settings)
        name = about["potential"]
        if references:
            tasks += _references(run, about)
        _relax(run, tasks, workers, potential, settings, about, progress)
        if raise_symmetry is not None:
            work = partial(symmetrize_task, potential, raise_symmetry, settings.seconds)
            _raise_symmetry(run, ids, workers, work, name, raise_symmetry, progress)
    states = [row.state for row in relaxed_rows(run, name) if row.candidate in ids]
    failed = states.count("failed")
    return Relaxations(len(states) - failed, states.count("converged"), failed)


def relax_again(
    run: Run,
    tasks: Sequence[Task],
    potential: str,
    jobs: int = 1,
    left_out: Container[str] = (),
    progress: Progress | None = None,
) -> str:
    """Relax cells of a run with a further potential, what competes in it first.

    Those that are relaxed with it already are left, and so are the phases `left_out` of what
    competes. Returns the name that the rows carry. Raises InputError for what cannot be used.
    """
    settings = Settings()
    with run.hold("relax"), Workers(jobs) as workers:
        about = _about(run, workers, potential, settings)
        compete = [t for t in _references(run, about) if t.phase not in left_out]
        names = {task.phase for task in compete}
        more = [task for task in tasks if task.candidate or task.phase not in names]
        _relax(run, [*compete, *more], workers, potential, settings, about, progress)
    return about["potential"]


def _about(run: Run, workers: Workers, potential: str, settings: Settings) -> dict[str, str]:
    """The columns of every row that is relaxed with a potential and settings."""
    name, version = workers.call(about_potential, potential, run.species)
    return {"potential": name, "version": version, "settings": str(settings)}


def _references(run: Run, about: dict[str, str]) -> list[Task]:
    """What competes and has no energy of this potential yet."""
    known = run.config.known_ternaries
    found = reference_structures(run.species, about["potential"], about["version"], known)
    return [Task(0, phase, structure) for phase, structure in found.items()]


def _relax(
    run: Run,
    tasks: list[Task],
    workers: Workers,
    potential: str,
    settings: Settings,
    about: dict[str, str],
    progress: Progress | None,
) -> None:
    """Relax what is not done; `about` are the columns of every row."""
    done = {
        (row.candidate, row.phase)
        for row in relaxed_rows(run, about["potential"])
        if row.version == about["version"]
        and (row.settings == str(settings) or (row.phase and row.state == "converged"))
        if settings.seconds <= row.get("seconds", np.inf)  # which it was given up after
    }
    left = [task for task in tasks if (task.candidate, task.phase) not in done]
    outcomes = workers.run_tasks(partial(relax_task, potential, settings), left)
    for count, (task, outcome) in enumerate(outcomes, len(tasks) - len(left) + 1):
        write_relaxed(run, task, replace(outcome, columns=outcome.columns | about))
        if progress:
            said = outcome.data["reason"] or outcome.columns["state"]
            progress(count, len(tasks), f"{task.phase or task.candidate}: {said}")


def write_relaxed(run: Run, task: Task, outcome: Outcome) -> None:
    """Write the row of a structure and potential, in the place of an older one."""
    with (database := open_relaxed(run, make=True)):
        same = {
            "candidate": task.candidate,
            "phase": task.phase,
            "potential": outcome.columns["potential"],
        }
        old = next((row.id for row in database.select(include_data=False, **same)), None)
        atoms = reduced(outcome.structure).to_ase_atoms()
        database.write(atoms, key_value_pairs=outcome.columns | same, data=outcome.data, id=old)


def _raise_symmetry(
    run: Run,
    candidates: set[int],
    workers: Workers,
    work: Callable[[Task], Outcome],
    potential: str,
    tolerance: float,
    progress: Progress | None,
) -> None:
    """Look for a higher symmetry of the converged candidates, where that is not done yet."""
    rows = {
        row.candidate: row
        for row in relaxed_rows(run, potential)
        if row.candidate in candidates and row.state == "converged"
    }
    left = [
        Task(number, "", structure_of(row))
        for number, row in rows.items()
        if row.get("refined_at") != tolerance
    ]
    outcomes = workers.run_tasks(work, left)
    for count, (task, outcome) in enumerate(outcomes, len(rows) - len(left) + 1):
        row = rows[task.candidate]
        found = {"text": outcome.data["reason"] or _offer(outcome, row, tolerance)}
        if outcome.columns.get("energy_per_atom", np.inf) <= row.energy_per_atom + SAME_ENERGY:
            found |= outcome.columns | outcome.data
        data = row.data | {"refined": found}  # the name that older rows have
        open_relaxed(run).update(row.id, refined_at=tolerance, data=data)
        if progress:
            progress(count, len(rows), f"{task.candidate}: {found['text']}")


def _offer(outcome: Outcome, row: AtomsRow, tolerance: float) -> str:
    """How the symmetric cell compares with the one that it was made from."""
    above = 1000 * (outcome.columns["energy_per_atom"] - row.energy_per_atom)
    verdict = (
        "no higher: here it is" if above <= 1000 * SAME_ENERGY else "higher: it is left as it was"
    )
    return (
        f"Within {tolerance} Å it is {outcome.columns['spacegroup_symbol']}, and {above:+.1f}"
        f" meV/atom, {verdict}"
    )


def symmetric_of(row: AtomsRow) -> Structure:
    """Return the cell of higher symmetry of a relaxed candidate, reduced.

    `row.data["refined"]` must hold its `lattice`.
    """
    from pymatgen.core import Structure

    refined = row.data["refined"]
    return reduced(Structure(refined["lattice"], refined["numbers"], refined["frac"]))


def frame_of(row: AtomsRow, k: int) -> Structure:
    """Return the cell of the k-th frame that was kept of a relaxation.

    All frames have the lattice vectors that the relaxed cell is reduced by, so that no atom jumps
    from one frame to the next.
    """
    from pymatgen.core import Structure

    after, lattices = structure_of(row), row.data["lattices"]
    change = np.rint(after.lattice.matrix @ np.linalg.inv(lattices[-1]))
    return Structure(
        change @ lattices[k], row.symbols, row.data["positions"][k], coords_are_cartesian=True
    )
