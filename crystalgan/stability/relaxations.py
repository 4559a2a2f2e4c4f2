"""Relaxed candidates of a run and the phases that compete with them, in `relaxed.db`, an ASE
database beside `candidates.db`.

Candidates stay as they were made; what became of each is one row here, written as soon as it is
known, so that work that is killed goes on where it was. Structures are relaxed in processes of
their own: one that crashes harms no other.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from crystalgan.crystal.describe import check_tolerance
from crystalgan.crystal.lattice import reduced
from crystalgan.errors import InputError
from crystalgan.runs.database import open_database, structure_of
from crystalgan.runs.folder import Run
from crystalgan.stability.export import select
from crystalgan.stability.tasks import (
    Outcome,
    Settings,
    Task,
    about_potential,
    at_once,
    perform,
    raised,
)
from crystalgan.stability.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ase.db.row import AtomsRow
    from pymatgen.core import Structure

    from crystalgan.runs.filedb import RunDatabase

SAME_ENERGY = 0.001  # eV/atom


def open_relaxed(run: Run, make: bool = False) -> RunDatabase:
    """The database of what was relaxed (`open_database`)."""
    return open_database(run, "relaxed.db", "relax the candidates again", make)


def relaxed_rows(
    run: Run, potential: str | None = None, candidate: int | None = None
) -> list[AtomsRow]:
    """What was relaxed, of one potential and one candidate where they are given; none where nothing
    was."""
    wanted: dict[str, Any] = {"potential": potential, "candidate": candidate}
    return list(
        open_relaxed(run).select(
            **{name: value for name, value in wanted.items() if value is not None}
        )
    )


def potentials_of(run: Run) -> list[str]:
    """The potentials that structures of a run were relaxed with, CHGNet first."""
    return sorted(
        {row.potential for row in relaxed_rows(run)}, key=lambda name: (name != "CHGNet", name)
    )


def relax_candidates(
    run: Run | Path | str,
    which: str = "good",
    potential: str = "chgnet",
    settings: Settings | None = None,
    jobs: int = 1,
    references: bool = False,
    others: Sequence[Path | str] = (),
    raise_symmetry: float | None = None,
    progress: Callable[[int, int, str], None] | None = None,
    batch: int | None = None,
    left: Callable[[str], None] | None = None,
) -> dict[str, int]:
    """Relax the candidates that `which` selects (`archive.select`), those that are not relaxed like
    this yet.

    `references` relaxes what competes as well: compounds of the two metals, and for another
    potential than CHGNet, whose energies are built in, the elements and binaries. `others` are
    files of further phases; `left` is told, in a sentence each, what of them was left out.
    `raise_symmetry` (Å) looks for a higher symmetry of what converged. `progress(done, of, what)`
    is called after each. Of several `jobs`, processes, each relaxes one structure at a time; a
    single one relaxes `batch` side by side, 32 on a GPU and one on a processor where it is not
    given. Returns counts over the selected candidates: relaxed, converged, failed. Raises
    InputError for what cannot be used.
    """
    from crystalgan.stability.hull import other_structures

    run, settings = run if isinstance(run, Run) else Run.open(run), settings or Settings()
    if raise_symmetry is not None:
        check_tolerance(raise_symmetry)
    if jobs > 1:
        if (batch or 1) > 1:
            raise InputError("--batch is of one process; leave --jobs out.")
        batch = 1
    rows = select(run, which)
    if not rows:
        raise InputError(
            f"{run.folder}: no candidate is selected by {which!r}; generate some, or select"
            " otherwise."
        )
    tasks = [Task(row.id, "", structure_of(row)) for row in rows]
    tasks += [
        Task(0, name, structure)
        for name, structure in other_structures(run.species, others, left).items()
    ]
    with run.hold("relax"):
        name = _relax(run, tasks, references, potential, settings, jobs, batch, progress)
        if raise_symmetry is not None:
            _raise_symmetry(
                run,
                {row.id for row in rows},
                name,
                potential,
                raise_symmetry,
                settings.seconds,
                jobs,
                batch,
                progress,
            )
    states = {row.candidate: row.state for row in relaxed_rows(run, name)}
    chosen = [states[row.id] for row in rows]
    failed = chosen.count("failed")
    return {
        "relaxed": len(chosen) - failed,
        "converged": chosen.count("converged"),
        "failed": failed,
    }


def _relax(
    run: Run,
    tasks: list[Task],
    references: bool,
    potential: str,
    settings: Settings,
    jobs: int,
    batch: int | None,
    progress: Callable[[int, int, str], None] | None,
) -> str:
    """Relax what is not done; returns the name of the potential."""
    from crystalgan.stability.hull import reference_structures

    with Workers(jobs, gpu=batch != 1) as workers:
        name, version = workers.ask(about_potential, potential, run.species)
        about = {"potential": name, "version": version, "settings": str(settings)}
        if references:
            tasks = tasks + [
                Task(0, n, s) for n, s in reference_structures(run.species, name, version).items()
            ]
        done = {
            (row.candidate, row.phase)
            for row in relaxed_rows(run, name)
            if row.version == version
            and (row.settings == str(settings) or (row.phase and row.state == "converged"))
            if settings.seconds <= row.get("seconds", np.inf)  # which it was given up after
        }
        left = [task for task in tasks if (task.candidate, task.phase) not in done]
        abreast = workers.ask(at_once, potential, batch)
        for count, (task, outcome) in enumerate(
            workers.carry_out(partial(perform, potential, settings), left, abreast), 1
        ):
            _write(run, task, replace(outcome, columns=outcome.columns | about))
            if progress:
                said = outcome.data["reason"] or outcome.columns["state"]
                progress(
                    len(tasks) - len(left) + count,
                    len(tasks),
                    f"{task.phase or task.candidate}: {said}",
                )
    return str(name)


def _write(run: Run, task: Task, outcome: Outcome) -> None:
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
    name: str,
    potential: str,
    tolerance: float,
    seconds: float,
    jobs: int,
    batch: int | None,
    progress: Callable[[int, int, str], None] | None,
) -> None:
    """Look for a higher symmetry of the converged candidates, where that is not done yet."""
    rows = {
        row.candidate: row
        for row in relaxed_rows(run, name)
        if row.candidate in candidates and row.state == "converged"
    }
    tasks = [
        Task(i, "", structure_of(row))
        for i, row in rows.items()
        if row.get("refined_at") != tolerance
    ]
    if not tasks:
        return  # without loading the potential
    with Workers(jobs, gpu=batch != 1) as workers:
        abreast, work = (
            workers.ask(at_once, potential, batch),
            partial(raised, potential, tolerance, seconds=seconds),
        )
        for count, (task, outcome) in enumerate(workers.carry_out(work, tasks, abreast), 1):
            row = rows[task.candidate]
            refined = {"text": outcome.data["reason"] or _offer(outcome, row, tolerance)}
            if outcome.columns.get("energy_per_atom", np.inf) <= row.energy_per_atom + SAME_ENERGY:
                refined |= outcome.columns | outcome.data
            open_relaxed(run).update(
                row.id, refined_at=tolerance, data=row.data | {"refined": refined}
            )
            if progress:
                progress(
                    len(rows) - len(tasks) + count,
                    len(rows),
                    f"{task.candidate}: {refined['text']}",
                )


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


def refined_of(row: AtomsRow) -> Structure:
    """The cell of higher symmetry that a relaxed candidate became, reduced, where
    `row.data["refined"]` holds one."""
    from pymatgen.core import Structure

    refined = row.data["refined"]
    return reduced(Structure(refined["lattice"], refined["numbers"], refined["frac"]))


def frame_of(row: AtomsRow, k: int) -> Structure:
    """The cell of the k-th frame that was kept of a relaxation.

    All have the lattice vectors that the relaxed cell is reduced by, so that no atom jumps from one
    frame to the next.
    """
    from pymatgen.core import Structure

    after, lattices = structure_of(row), row.data["lattices"]
    change = np.rint(after.lattice.matrix @ np.linalg.inv(lattices[-1]))
    return Structure(
        change @ lattices[k], row.symbols, row.data["positions"][k], coords_are_cartesian=True
    )
