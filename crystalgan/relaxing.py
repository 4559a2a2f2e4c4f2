"""What happens to one structure that is relaxed, in a process of its own: the outcome, or the reason why there is none."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import cache, partial
from multiprocessing import get_context, parent_process
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from crystalgan import InputError
from crystalgan.describe import symmetry
from crystalgan.study import end_children

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pymatgen.core import Structure

    from crystalgan.potentials import Potential
    from crystalgan.relax import Frame, Relaxed

FMAX, STEPS = 0.03, 300  # eV/Å, steps
SECONDS = 600.0  # of one structure: a cell that takes longer is no reason for all others to wait
RATTLE, STRAIN = 0.08, 0.01  # Å and share, standard deviations: enough to leave a saddle point
MOLECULE = 0.9  # Å; hydrogen that came closer is a molecule and does not come back
SHRUNK, SWOLLEN = 0.35, 2.5  # times the volume at the start; what goes further runs away
SYMPREC, TIGHT = 0.1, 0.01  # Å; of the candidates' symmetry, and of cells whose atoms are on their sites
ON_A_GPU = 32  # structures that are relaxed at once
MOST_FRAMES = 40  # cells that are kept of a trajectory


@dataclass(frozen=True)
class Settings:
    """How a structure is relaxed."""

    steps: int = STEPS
    rattle: bool = False  # relax, shake, relax again; the lower energy counts
    symmetry: bool = False  # keep the symmetry found within 0.1 Å
    seconds: float = SECONDS  # of one structure, after which it is given up; changes nothing of those that take less

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise InputError(f"{self.steps} steps were asked for; ask for at least 1.")
        if self.seconds <= 0:
            raise InputError(f"{self.seconds:g} seconds were asked for; ask for more than none.")
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


def perform(potential: str, settings: Settings, task: Task) -> Outcome:
    """Relax one structure, in a worker; what goes wrong is the outcome's reason."""
    return _performed(settings, _loaded(potential), task)


def perform_together(potential: str, settings: Settings, tasks: Sequence[Task]) -> list[Outcome]:
    """Relax some structures side by side, in a worker; what goes wrong with one is the reason of its outcome alone."""
    from crystalgan.together import side_by_side

    return side_by_side(partial(_performed, settings), _loaded(potential), tasks)


def singly(function: Callable[[Task], Outcome], tasks: Sequence[Task]) -> list[Outcome]:
    """The outcome of each, one after the other."""
    return [function(task) for task in tasks]


def usual_batch() -> int:
    """How many structures one process relaxes at once by default: many on a GPU; on a processor they would gain a tenth."""
    from crystalgan.potentials import best_device

    return 1 if best_device() == "cpu" else ON_A_GPU


def _performed(settings: Settings, potential: Potential, task: Task) -> Outcome:
    from crystalgan.relax import HopelessError

    frames: list[Frame] = []
    try:
        result = _relaxed(task, potential, settings, frames)
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


def failure(task: Task, reason: str) -> Outcome:
    """The outcome of a structure that could not be relaxed; it stays as it was."""
    return Outcome(task.structure, {"state": "failed"}, {"reason": reason})


def _relaxed(task: Task, potential: Potential, settings: Settings, frames: list[Frame]) -> Relaxed:
    """Relaxed once or, where it is to be shaken, twice; the lower energy counts."""
    from crystalgan.relax import HopelessError, relax

    keep = SYMPREC if settings.symmetry else None
    check = partial(hopeless, task.structure, time.monotonic() + settings.seconds, settings.seconds)
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


def hopeless(start: Structure, deadline: float, seconds: float, structure: Structure) -> str | None:
    """Why a relaxation is given up (`runaway`, or its `seconds` are over: `deadline` by the monotonic clock), or None."""
    return f"took longer than {seconds:g} s" if time.monotonic() > deadline else runaway(start, structure)


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


class Workers:
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

    def carry_out(
        self, function: Callable[[Sequence[Task]], list[Outcome]], tasks: Sequence[Task], batch: int = 1
    ) -> Iterator[tuple[Task, Outcome]]:
        """Each task with its outcome as soon as it is there; a task whose process ends is tried once more, alone.

        A process is given `batch` tasks at once.
        """
        waiting = deque(list(tasks[k : k + batch]) for k in range(0, len(tasks), batch))
        alone, under_way = deque[list[Task]](), dict[Any, list[Task]]()
        while waiting or alone or under_way:
            try:
                queue, most = (alone, 1) if alone else (waiting, self.jobs)
                while queue and len(under_way) < most:
                    future = self.pool.submit(function, queue[0])
                    under_way[future] = queue.popleft()
                for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                    outcomes = future.result()
                    yield from zip(under_way.pop(future), outcomes, strict=True)
            except BrokenProcessPool:
                self.pool = self._start(self.jobs)
                suspects, under_way = [task for group in under_way.values() for task in group], {}
                if len(suspects) == 1:
                    yield suspects[0], failure(suspects[0], "the process that relaxed it ended, perhaps for lack of memory")
                alone.extend([task] for task in suspects if len(suspects) > 1)


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
