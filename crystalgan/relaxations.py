"""Relaxed candidates of a run and the phases that compete with them, in `relaxed.db`, an ASE database beside `candidates.db`.

Candidates stay as they were made; what became of each is one row here, written as soon as it is known, so that work that is
killed goes on where it was. Structures are relaxed in processes of their own: one that crashes harms no other.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import cache, partial
from multiprocessing import get_context, parent_process
from sqlite3 import DatabaseError
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from crystalgan import InputError
from crystalgan.archive import select
from crystalgan.database import structure_of
from crystalgan.describe import symmetry
from crystalgan.runs import Run
from crystalgan.study import end_children

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from ase.db.core import Database
    from ase.db.row import AtomsRow
    from pymatgen.core import Structure

    from crystalgan.potentials import Potential
    from crystalgan.relax import Frame, Relaxed

FMAX, STEPS = 0.03, 300  # eV/Å, steps
RATTLE, STRAIN = 0.08, 0.01  # Å and share, standard deviations: enough to leave a saddle point
MOLECULE = 0.9  # Å; hydrogen that came closer is a molecule and does not come back
SHRUNK, SWOLLEN = 0.35, 2.5  # times the volume at the start; what goes further runs away
SYMPREC, TIGHT = 0.1, 0.01  # Å; of the candidates' symmetry, and of cells whose atoms are on their sites
SAME_ENERGY = 0.001  # eV/atom
MOST_FRAMES = 40  # cells that are kept of a trajectory
STATES = ("converged", "unfinished", "failed")


@dataclass(frozen=True)
class Settings:
    """How a structure is relaxed."""

    steps: int = STEPS
    rattle: bool = False  # relax, shake, relax again; the lower energy counts
    symmetry: bool = False  # keep the symmetry found within 0.1 Å

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise InputError(f"{self.steps} steps were asked for; ask for at least 1.")
        if self.rattle and self.symmetry:
            raise InputError("--rattle breaks the symmetry that --symmetry keeps; choose one of them.")

    def __str__(self) -> str:
        return f"{self.steps} steps" + ", rattled" * self.rattle + ", symmetry kept" * self.symmetry


@dataclass(frozen=True)
class Task:
    """A structure to relax: a candidate by its id, or another phase (id 0) by its name."""

    candidate: int
    phase: str
    structure: Structure


@dataclass(frozen=True)
class Outcome:
    """What became of a structure: columns and details of its row."""

    structure: Structure
    columns: dict[str, Any]
    data: dict[str, Any]


def open_relaxed(run: Run) -> Database:
    """The database of what was relaxed; InputError when the file is damaged."""
    from ase.db import connect

    path = run.folder / "relaxed.db"
    try:
        database = connect(path, type="db")
        database.count()
    except (DatabaseError, OSError) as error:
        raise InputError(f"{path}: damaged ({error}); move it away and relax the candidates again.") from None
    return database


def relaxed_rows(run: Run, potential: str | None = None, candidate: int | None = None) -> list[AtomsRow]:
    """What was relaxed, of one potential and one candidate where they are given; none where nothing was."""
    if not (run.folder / "relaxed.db").exists():
        return []
    wanted: dict[str, Any] = {"potential": potential, "candidate": candidate}
    return list(open_relaxed(run).select(**{name: value for name, value in wanted.items() if value is not None}))


def potentials_of(run: Run) -> list[str]:
    """The potentials that structures of a run were relaxed with, CHGNet first."""
    return sorted({row.potential for row in relaxed_rows(run)}, key=lambda name: (name != "CHGNet", name))


def relax_candidates(
    run: Run | Path | str,
    which: str = "good",
    potential: str = "chgnet",
    settings: Settings | None = None,
    jobs: int = 1,
    references: bool = False,
    others: Sequence[Path | str] = (),
    refine: float | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> dict[str, int]:
    """Relax the candidates that `which` selects (`archive.select`), those that are not relaxed like this yet.

    `references` relaxes the built-in elements and binaries as well, which the hull of a potential other than CHGNet needs, and
    `others` are files of further phases. `refine` (Å) looks for a higher symmetry of what converged. `progress(done, of, what)`
    is called after each. Returns counts over the selected candidates: relaxed, converged, failed. Raises InputError for what
    cannot be used.
    """
    from crystalgan.stability import builtin_structures, other_structures

    run, settings = run if isinstance(run, Run) else Run.open(run), settings or Settings()
    rows = select(run, which)
    if not rows:
        raise InputError(f"{run.folder}: no candidate is selected by {which!r}; generate some, or select otherwise.")
    tasks = [Task(row.id, "", structure_of(row)) for row in rows]
    named = builtin_structures(run.species) if references else {}
    named |= other_structures(run.species, others)
    tasks += [Task(0, name, structure) for name, structure in named.items()]
    with run.hold("relax"):
        name = _relax(run, tasks, potential, settings, jobs, progress)
        if refine is not None:
            _refine(run, {row.id for row in rows}, name, potential, refine, jobs, progress)
    states = {row.candidate: row.state for row in relaxed_rows(run, name)}
    chosen = [states[row.id] for row in rows]
    failed = chosen.count("failed")
    return {"relaxed": len(chosen) - failed, "converged": chosen.count("converged"), "failed": failed}


def _relax(
    run: Run,
    tasks: list[Task],
    potential: str,
    settings: Settings,
    jobs: int,
    progress: Callable[[int, int, str], None] | None,
) -> str:
    """Relax what is not done; returns the name of the potential."""
    with _Workers(jobs) as workers:
        name, version = workers.ask(about_potential, potential, run.species)
        about = {"potential": name, "version": version, "settings": str(settings)}
        done = {(r.candidate, r.phase) for r in relaxed_rows(run, name) if (r.version, r.settings) == (version, str(settings))}
        left = [task for task in tasks if (task.candidate, task.phase) not in done]
        for count, (task, outcome) in enumerate(workers.carry_out(partial(perform, potential, settings), left), 1):
            _write(run, task, replace(outcome, columns=outcome.columns | about))
            if progress:
                said = outcome.data["reason"] or outcome.columns["state"]
                progress(len(tasks) - len(left) + count, len(tasks), f"{task.phase or task.candidate}: {said}")
    return str(name)


def _write(run: Run, task: Task, outcome: Outcome) -> None:
    """Replace the row of a structure and potential."""
    with (database := open_relaxed(run)):
        same = {"candidate": task.candidate, "phase": task.phase, "potential": outcome.columns["potential"]}
        database.delete([row.id for row in database.select(include_data=False, **same)])
        database.write(outcome.structure.to_ase_atoms(), key_value_pairs=outcome.columns | same, data=outcome.data)


def perform(potential: str, settings: Settings, task: Task) -> Outcome:
    """Relax one structure, in a worker; what goes wrong is the outcome's reason."""
    from crystalgan.relax import HopelessError

    frames: list[Frame] = []
    try:
        result = _relaxed(task, _loaded(potential), settings, frames)
    except HopelessError as error:
        return failure(task, str(error))
    except Exception as error:  # noqa: BLE001 - a potential may fail in its own way on one cell and not on the next
        return failure(task, f"{type(error).__name__}: {error}")
    before, after = task.structure, result.structure
    found = symmetry(after, SYMPREC)
    columns = {
        "state": "converged" if result.converged else "unfinished",
        "steps": result.steps,
        "force": result.force,  # eV/Å
        "energy_per_atom": result.energy / len(after),  # eV
        "volume_change": 100 * (after.volume / before.volume - 1),  # %
        "displacement": largest_displacement(before, after),  # Å
        "spacegroup": found.number,
        "spacegroup_symbol": found.symbol,
    }
    return Outcome(after, columns, {"reason": ""} | trajectory(frames))


def _refine(
    run: Run,
    candidates: set[int],
    name: str,
    potential: str,
    tolerance: float,
    jobs: int,
    progress: Callable[[int, int, str], None] | None,
) -> None:
    """Look for a higher symmetry of the converged candidates, where that is not done yet."""
    rows = {row.candidate: row for row in relaxed_rows(run, name) if row.candidate in candidates and row.state == "converged"}
    tasks = [Task(i, "", structure_of(row)) for i, row in rows.items() if row.get("refined_at") != tolerance]
    with _Workers(jobs) as workers:
        for count, (task, outcome) in enumerate(workers.carry_out(partial(raised, potential, tolerance), tasks), 1):
            row = rows[task.candidate]
            refined = {"text": outcome.data["reason"] or _offer(outcome, row, tolerance)}
            if outcome.columns.get("energy_per_atom", np.inf) <= row.energy_per_atom + SAME_ENERGY:
                refined |= outcome.columns | outcome.data
            open_relaxed(run).update(row.id, refined_at=tolerance, data=row.data | {"refined": refined})
            if progress:
                progress(len(rows) - len(tasks) + count, len(rows), f"{task.candidate}: {refined['text']}")


def _offer(outcome: Outcome, row: AtomsRow, tolerance: float) -> str:
    """How the symmetric cell compares with the one that it was made from."""
    above = 1000 * (outcome.columns["energy_per_atom"] - row.energy_per_atom)
    verdict = "no higher: here it is" if above <= 1000 * SAME_ENERGY else "higher: it is left as it was"
    return f"Within {tolerance} Å it is {outcome.columns['spacegroup_symbol']}, and {above:+.1f} meV/atom, {verdict}"


def raised(potential: str, tolerance: float, task: Task) -> Outcome:
    """A relaxed cell put onto the sites of a higher symmetry and relaxed with it, in a worker."""
    from crystalgan.relax import relax

    before, found = symmetry(task.structure, TIGHT), symmetry(task.structure, tolerance)
    if found.number <= before.number:
        return failure(task, f"No symmetry above {before.symbol} within {tolerance} Å")
    try:
        cell = found.refined.get_primitive_structure()
        result = relax(cell, _loaded(potential), FMAX, STEPS, partial(runaway, cell), keep_symmetry=TIGHT)
    except Exception as error:  # noqa: BLE001 - as for any relaxation
        return failure(task, f"{found.symbol} within {tolerance} Å did not relax ({error})")
    if not result.converged:
        return failure(task, f"{found.symbol} within {tolerance} Å did not converge")
    after, kept = result.structure, symmetry(result.structure, TIGHT)
    columns = {
        "energy_per_atom": result.energy / len(after),
        "spacegroup": kept.number,
        "spacegroup_symbol": kept.symbol,
    }
    data = {"lattice": after.lattice.matrix, "frac": after.frac_coords, "numbers": np.array(after.atomic_numbers)}
    return Outcome(after, columns, {"reason": ""} | data)


def refined_of(row: AtomsRow) -> Structure:
    """The cell of higher symmetry that a relaxed candidate became, where `row.data["refined"]` holds one."""
    from pymatgen.core import Structure

    refined = row.data["refined"]
    return Structure(refined["lattice"], refined["numbers"], refined["frac"])


def failure(task: Task, reason: str) -> Outcome:
    """The outcome of a structure that could not be relaxed; it stays as it was."""
    return Outcome(task.structure, {"state": "failed"}, {"reason": reason})


def _relaxed(task: Task, potential: Potential, settings: Settings, frames: list[Frame]) -> Relaxed:
    """Relaxed once or, where it is to be shaken, twice; the lower energy counts."""
    from crystalgan.relax import HopelessError, relax

    keep = SYMPREC if settings.symmetry else None
    check = partial(runaway, task.structure)
    result = relax(task.structure, potential, FMAX, settings.steps, check, keep_symmetry=keep, frames=frames)
    if settings.rattle:
        second: list[Frame] = []
        try:
            again = relax(shaken(result.structure, task.candidate), potential, FMAX, settings.steps, check, frames=second)
        except (HopelessError, ValueError):
            return result  # what was found before the shaking stands
        if again.energy < result.energy and again.converged >= result.converged:
            frames += second
            return replace(again, steps=result.steps + again.steps)
    return result


def runaway(start: Structure, structure: Structure) -> str | None:
    """Why a relaxation from `start` that has come to `structure` leads nowhere, or None."""
    change = structure.volume / start.volume
    if not SHRUNK < change < SWOLLEN:
        return f"the volume became {change:.1f} times that at the start"
    now = nearest_hydrogen(structure)
    if now < MOLECULE < nearest_hydrogen(start):  # solid hydrogen is of molecules from the start
        return f"hydrogen became a molecule, H-H {now:.2f} Å"
    return None


def nearest_hydrogen(structure: Structure) -> float:
    """The shortest distance of two hydrogen atoms, Å; infinite where there are not two in the cell."""
    hydrogen = [i for i, site in enumerate(structure) if site.specie.symbol == "H"]
    distance = structure.distance_matrix[np.ix_(hydrogen, hydrogen)]
    return float(min(distance[~np.eye(len(hydrogen), dtype=bool)], default=np.inf))


def shaken(structure: Structure, seed: int) -> Structure:
    """Atoms moved by 0.08 Å and the cell strained by 1 %, both at random with this seed."""
    from pymatgen.core import Lattice, Structure

    rng = np.random.default_rng(seed)
    strain = np.eye(3) + STRAIN * rng.standard_normal((3, 3))
    moved = structure.cart_coords + RATTLE * rng.standard_normal((len(structure), 3))
    return Structure(Lattice(structure.lattice.matrix @ strain), structure.species, moved @ strain, coords_are_cartesian=True)


def largest_displacement(before: Structure, after: Structure) -> float:
    """How far the atom went that went furthest, Å, apart from the change of the cell and of the origin."""
    shift = after.frac_coords - before.frac_coords
    shift -= np.round(shift)
    shift -= shift.mean(0)
    return float(np.linalg.norm(shift @ after.lattice.matrix, axis=1).max())


def trajectory(frames: Sequence[Frame]) -> dict[str, Any]:
    """Energies of all steps (eV/atom) and of evenly chosen ones the number, lattice rows and Cartesian positions (Å)."""
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(len(frames), MOST_FRAMES)).round().astype(int))
    return {
        "energies": np.array([frame.energy / len(frame.positions) for frame in frames]),
        "frames": chosen,
        "lattices": np.array([frames[k].lattice for k in chosen], dtype=np.float32),
        "positions": np.array([frames[k].positions for k in chosen], dtype=np.float32),
    }


def frame_of(row: AtomsRow, k: int) -> Structure:
    """The cell of the k-th frame that was kept of a relaxation."""
    from pymatgen.core import Structure

    return Structure(row.data["lattices"][k], row.symbols, row.data["positions"][k], coords_are_cartesian=True)


@cache
def _loaded(potential: str) -> Potential:
    """The potential, loaded once for each worker."""
    from crystalgan.potentials import load_potential

    return load_potential(potential)


def about_potential(potential: str, species: Sequence[str]) -> tuple[str, str]:
    """Name and version of a potential; InputError where there is none, or it does not know one of the elements."""
    from crystalgan.potentials import unknown_elements

    loaded = _loaded(potential)
    if unknown := unknown_elements(loaded, species):
        raise InputError(f"{loaded.name} gives no energy for {', '.join(unknown)}; choose another potential.")
    return loaded.name, loaded.version


class _Workers:
    """Processes that relax, one thread each, and end with this one however it ends."""

    def __init__(self, jobs: int) -> None:
        if jobs < 1:
            raise InputError(f"{jobs} processes were asked for; ask for at least 1.")
        self.jobs = jobs
        self.pool = self._start(jobs)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown(wait=False, cancel_futures=True)
        end_children()

    @staticmethod
    def _start(jobs: int) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(jobs, get_context("spawn"), start_worker)

    def ask(self, function: Callable[..., Any], *arguments: Any) -> Any:  # noqa: ANN401 - whatever it returns
        """What a function returns or raises in a worker."""
        try:
            return self.pool.submit(function, *arguments).result()
        except BrokenProcessPool:
            raise InputError("The process that loads the potential ended; there may be too little memory.") from None

    def carry_out(self, function: Callable[[Task], Outcome], tasks: Sequence[Task]) -> Iterator[tuple[Task, Outcome]]:
        """Each task with its outcome as soon as it is there; a task whose process ends is tried once more, alone."""
        waiting, alone, under_way = deque(tasks), deque[Task](), dict[Any, Task]()
        while waiting or alone or under_way:
            try:
                queue, most = (alone, 1) if alone else (waiting, self.jobs)
                while queue and len(under_way) < most:
                    future = self.pool.submit(function, queue[0])
                    under_way[future] = queue.popleft()
                for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                    outcome = future.result()
                    yield under_way.pop(future), outcome
            except BrokenProcessPool:
                self.pool = self._start(self.jobs)
                suspects, under_way = list(under_way.values()), {}
                if len(suspects) == 1:
                    yield suspects[0], failure(suspects[0], "the process that relaxed it ended, perhaps for lack of memory")
                alone.extend(suspects if len(suspects) > 1 else ())


def start_worker() -> None:
    """One thread, and an end with the process that asked: an orphan would wait for work for ever."""
    import warnings

    os.environ["OMP_NUM_THREADS"] = "1"  # cells are small: more threads only wait
    warnings.simplefilter("ignore")
    sys.stdout = sys.stderr  # packages that greet on loading; stdout belongs to --json
    parent = parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
