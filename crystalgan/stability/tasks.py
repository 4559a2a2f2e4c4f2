"""What happens to a structure that is relaxed, in a process of its own: the outcome, or the reason
why there is none.

On a processor each process relaxes one structure at a time. On a GPU one process relaxes many side
by side (`abreast`), whose energies are worked out together.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from functools import cache, partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import numpy as np

from crystalgan.crystal.describe import shortest_distance, symmetry
from crystalgan.crystal.lattice import reduced
from crystalgan.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pymatgen.core import Structure

    from crystalgan.potentials.batching import Abreast
    from crystalgan.potentials.registry import Potential
    from crystalgan.stability.relax import Frame, Relaxed

FMAX, STEPS = 0.03, 300  # eV/Å, steps
SECONDS = 600.0  # of one structure; a usual one takes one or two
# structures side by side in one process; on a processor more are hardly faster than one
AT_ONCE = {"cpu": 1, "cuda": 32}
RATTLE, STRAIN = 0.08, 0.01  # Å and share, standard deviations: enough to leave a saddle point
MOLECULE = 0.9  # Å; hydrogen that came closer is a molecule and does not come back
SHRUNK, SWOLLEN = 0.35, 2.5  # times the volume at the start; what goes further runs away
# Å; of the candidates' symmetry, and of cells whose atoms are on their sites
SYMPREC, TIGHT = 0.1, 0.01
MOST_FRAMES = 40  # cells that are kept of a trajectory


@dataclass(frozen=True)
class Settings:
    """How a structure is relaxed."""

    steps: int = STEPS
    rattle: bool = False  # relax, shake, relax again; the lower energy counts
    symmetry: bool = False  # keep the symmetry found within 0.1 Å
    # after which it is given up; no part of the settings' name: what ended in time is as good
    seconds: float = SECONDS

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise InputError(f"{self.steps} steps were asked for; ask for at least 1.")
        if not self.seconds > 0:
            raise InputError(
                f"{self.seconds:g} seconds a structure were asked for; ask for more than none."
            )
        if self.rattle and self.symmetry:
            raise InputError(
                "--rattle breaks the symmetry that --symmetry keeps; choose one of them."
            )

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
    from crystalgan.stability.relax import HopelessError, TooLongError

    frames: list[Frame] = []
    try:
        result = _relaxed(task, _for_one(potential), settings, frames)
    except TooLongError as error:
        return failure(task, str(error), seconds=settings.seconds)
    except HopelessError as error:
        return failure(task, str(error))
    # a potential may fail in its own way on one cell and not on the next
    except Exception as error:  # noqa: BLE001 - whatever a reader meets is what the test is about
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


def raised(potential: str, tolerance: float, task: Task, seconds: float = SECONDS) -> Outcome:
    """A relaxed cell put onto the sites of a higher symmetry and relaxed with it, in a worker."""
    from crystalgan.stability.relax import relax

    before, found = symmetry(task.structure, TIGHT), symmetry(task.structure, tolerance)
    if found.number <= before.number:
        return failure(task, f"No symmetry above {before.symbol} within {tolerance} Å")
    try:
        cell = found.symmetrized.get_primitive_structure()
        result = relax(
            cell, _for_one(potential), FMAX, STEPS, in_time(cell, seconds), keep_symmetry=TIGHT
        )
    except Exception as error:  # noqa: BLE001 - whatever a reader meets is what the test is about
        return failure(task, f"{found.symbol} within {tolerance} Å did not relax ({error})")
    if not result.converged:
        return failure(task, f"{found.symbol} within {tolerance} Å did not converge")
    after, kept = reduced(result.structure), symmetry(result.structure, TIGHT)
    columns = {
        "energy_per_atom": result.energy / len(after),
        "spacegroup": kept.number,
        "spacegroup_symbol": kept.symbol,
    }
    data = {
        "lattice": after.lattice.matrix,
        "frac": after.frac_coords,
        "numbers": np.array(after.atomic_numbers),
    }
    return Outcome(after, columns, {"reason": ""} | data)


def failure(task: Task, reason: str, **columns: float) -> Outcome:
    """The outcome of a structure that could not be relaxed; it stays as it was."""
    return Outcome(task.structure, {"state": "failed"} | columns, {"reason": reason})


def _relaxed(task: Task, potential: Potential, settings: Settings, frames: list[Frame]) -> Relaxed:
    """Relaxed once or, where it is to be shaken, twice; the lower energy counts."""
    from crystalgan.stability.relax import HopelessError, relax

    keep = SYMPREC if settings.symmetry else None
    check = in_time(task.structure, settings.seconds)
    result = relax(
        task.structure, potential, FMAX, settings.steps, check, keep_symmetry=keep, frames=frames
    )
    if settings.rattle:
        second: list[Frame] = []
        try:
            again = relax(
                shaken(result.structure, task.candidate),
                potential,
                FMAX,
                settings.steps,
                check,
                frames=second,
            )
        except (HopelessError, ValueError):
            return result  # what was found before the shaking stands
        if again.energy < result.energy and again.converged >= result.converged:
            frames += second
            return replace(again, steps=result.steps + again.steps)
    return result


def in_time(start: Structure, seconds: float) -> Callable[[Structure], str | None]:
    """`runaway` from `start`, which raises TooLongError when so many seconds from now are over."""
    from crystalgan.stability.relax import TooLongError

    end = time.monotonic() + seconds

    def check(structure: Structure) -> str | None:
        if time.monotonic() > end:
            raise TooLongError(f"took longer than {seconds:g} s")
        return runaway(start, structure)

    return check


def runaway(start: Structure, structure: Structure) -> str | None:
    """Why a relaxation from `start` that has come to `structure` leads nowhere, or None."""
    change = structure.volume / start.volume
    if not SHRUNK < change < SWOLLEN:
        return f"the volume became {change:.1f} times that at the start"
    now = shortest_distance(structure, "H", "H")
    if (
        now < MOLECULE < shortest_distance(start, "H", "H")
    ):  # solid hydrogen is of molecules from the start
        return f"hydrogen became a molecule, H-H {now:.2f} Å"
    return None


def shaken(structure: Structure, seed: int) -> Structure:
    """Atoms moved by 0.08 Å and the cell strained by 1 %, both at random with this seed."""
    from pymatgen.core import Lattice, Structure

    rng = np.random.default_rng(seed)
    strain = np.eye(3) + STRAIN * rng.standard_normal((3, 3))
    moved = structure.cart_coords + RATTLE * rng.standard_normal((len(structure), 3))
    return Structure(
        Lattice(structure.lattice.matrix @ strain),
        structure.species,
        moved @ strain,
        coords_are_cartesian=True,
    )


def largest_displacement(before: Structure, after: Structure) -> float:
    """How far the atom went that went furthest, Å, apart from the change of the cell and of the
    origin."""
    shift = after.frac_coords - before.frac_coords
    shift -= np.round(shift)
    shift -= shift.mean(0)
    return float(np.linalg.norm(shift @ after.lattice.matrix, axis=1).max())


def trajectory(frames: Sequence[Frame]) -> dict[str, Any]:
    """Energies of all steps (eV/atom) and of evenly chosen ones the number, lattice rows and
    Cartesian positions (Å)."""
    chosen = np.unique(
        np.linspace(0, len(frames) - 1, min(len(frames), MOST_FRAMES)).round().astype(int)
    )
    return {
        "energies": np.array([frame.energy / len(frame.positions) for frame in frames]),
        "frames": chosen,
        "lattices": np.array([frames[k].lattice for k in chosen]),
        "positions": np.array([frames[k].positions for k in chosen], dtype=np.float32),
    }


@cache
def _abreast() -> Abreast:
    """Where the threads of a worker meet; a worker without threads asks there as well, and is
    answered at once."""
    from crystalgan.potentials.batching import Abreast

    return Abreast()


@cache
def _load(potential: str) -> Potential:
    from crystalgan.potentials.registry import load_potential

    return load_potential(potential)


_loading = threading.Lock()


def _loaded(potential: str) -> Potential:
    """The potential, loaded once for each worker."""
    with _loading:
        return _load(potential)


def _for_one(potential: str) -> Potential:
    """The potential with a calculator for one relaxation, which asks together with the others of
    this worker."""
    from crystalgan.potentials.batching import AskingCalculator

    loaded = _loaded(potential)
    if loaded.evaluate is None:
        return loaded
    return replace(loaded, calculator=AskingCalculator(partial(_abreast().ask, loaded.evaluate)))


def about_potential(potential: str, species: Sequence[str]) -> tuple[str, str]:
    """Name and version of a potential; InputError where there is none, or it does not know one of
    the elements."""
    from crystalgan.potentials.registry import unknown_elements

    loaded = _loaded(potential)
    if unknown := unknown_elements(loaded, species):
        raise InputError(
            f"{loaded.name} gives no energy for {', '.join(unknown)}; choose another potential."
        )
    return loaded.name, loaded.version


def at_once(potential: str, batch: int | None) -> int:
    """How many structures a worker relaxes side by side: so many as are asked for, or what this
    machine is best at.

    Raises InputError for a potential that works out one structure at a time only.
    """
    from crystalgan.potentials.registry import device

    loaded = _loaded(potential)
    if loaded.evaluate is not None:
        return batch or AT_ONCE[device()]
    if (batch or 1) > 1:
        raise InputError(f"{loaded.name} works out one structure at a time; leave --batch out.")
    return 1


_finished: SimpleQueue[tuple[int, Outcome]] = SimpleQueue()


def advance(function: Callable[[Task], Outcome], tasks: dict[int, Task]) -> dict[int, Outcome]:
    """Relax these beside those that are under way in this worker, until some are done; returns them
    by their number."""
    for _ in tasks:
        _abreast().join()  # before the first starts, which would be answered alone
    for number, task in tasks.items():
        threading.Thread(target=_run, args=(function, number, task), daemon=True).start()
    done = [_finished.get()]
    while not _finished.empty():
        done.append(_finished.get())
    return dict(done)


def _run(function: Callable[[Task], Outcome], number: int, task: Task) -> None:
    try:
        outcome = function(task)
    # a thread that ended without a word would be waited for for ever
    except BaseException as error:  # noqa: BLE001
        outcome = failure(task, f"{type(error).__name__}: {error}")
    _abreast().leave()
    _finished.put((number, outcome))
