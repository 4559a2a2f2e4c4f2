"""Relaxation of one structure as a task: settings, limits, and an outcome whatever goes wrong.

A task runs in a process of its own (`workers`), but knows nothing of that.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from crystalgan.crystal.describe import shortest_distance, symmetry
from crystalgan.crystal.lattice import reduced
from crystalgan.errors import InputError
from crystalgan.potentials.registry import load_potential, unknown_elements
from crystalgan.stability.relax import HopelessError, TooLongError, relax

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pymatgen.core import Structure

    from crystalgan.potentials.registry import Potential
    from crystalgan.stability.relax import Frame, Relaxed

FMAX, STEPS = 0.03, 300  # eV/Å, steps
SECONDS = 600.0  # of one structure; a usual one takes one or two
RATTLE, STRAIN = 0.08, 0.01  # Å and share, standard deviations: enough to leave a saddle point
MOLECULE = 0.9  # Å; hydrogen that came closer is a molecule and does not come back
SHRUNK, SWOLLEN = 0.35, 2.5  # times the volume at the start; what goes further runs away
# Å; of the candidates' symmetry, and of cells whose atoms are on their sites
SYMPREC, TIGHT = 0.1, 0.01
MOST_FRAMES = 40  # cells that are kept of a trajectory


@dataclass(frozen=True)
class Settings:
    """How a structure is relaxed.

    `steps` is the most of one relaxation. With `rattle` it is relaxed, rattled and relaxed again,
    and the lower energy counts. With `symmetry` the symmetry found within 0.1 Å is kept. After so
    many `seconds` a structure is given up. Raises InputError for values that cannot be.

    >>> print(Settings(rattle=True))
    300 steps, rattled
    """

    steps: int = STEPS
    rattle: bool = False
    symmetry: bool = False
    seconds: float = SECONDS  # no part of the settings' name: what ended in time is as good

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise InputError(f"{self.steps} steps were asked for; ask for at least 1.")
        if not self.seconds > 0:
            raise InputError(
                f"{self.seconds:g} seconds a structure were asked for; ask for more than none."
            )
        if self.rattle and self.symmetry:
            raise InputError(
                "`rattle` breaks the symmetry that `symmetry` keeps; choose one of them."
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
    """A structure after its relaxation, with what its row in `relaxed.db` holds of it.

    `columns` are the scalars by which rows are selected, such as `state`, `steps`, `force` (eV/Å),
    `energy_per_atom` (eV); `data` are the arrays of the trajectory, and the `reason` of a failure.
    """

    structure: Structure
    columns: dict[str, Any]
    data: dict[str, Any]


def relax_task(potential: str, settings: Settings, task: Task) -> Outcome:
    """Relax the structure of a task with the potential of this name.

    Raises nothing: what goes wrong is the outcome's `data["reason"]`.

    >>> from pymatgen.core import Lattice, Structure
    >>> alloy = Structure(Lattice.tetragonal(2.65, 3.75), ["Pd", "Ni"], [[0, 0, 0], [0.5] * 3])
    >>> relax_task("ase.calculators.emt.EMT", Settings(), Task(1, "", alloy)).columns["state"]
    'converged'
    """
    frames: list[Frame] = []
    try:
        result = _relaxed(task, loaded_potential(potential), settings, frames)
    except TooLongError as error:
        return failed_outcome(task, str(error), seconds=settings.seconds)
    except HopelessError as error:
        return failed_outcome(task, str(error))
    # a potential may fail in its own way on one cell and not on the next
    except Exception as error:  # noqa: BLE001
        return failed_outcome(task, f"{type(error).__name__}: {error}")
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
    return Outcome(after, columns, {"reason": ""} | _trajectory(frames))


def symmetrize_task(potential: str, tolerance: float, seconds: float, task: Task) -> Outcome:
    """Put a relaxed cell onto the sites of a higher symmetry, and relax it with that symmetry kept.

    The symmetry is found within `tolerance` (Å). Raises nothing: where there is no such cell,
    `data["reason"]` says why; else `data` holds its `lattice`, `frac` and `numbers`.
    """
    before, found = symmetry(task.structure, TIGHT), symmetry(task.structure, tolerance)
    if found.number <= before.number:
        return failed_outcome(task, f"No symmetry above {before.symbol} within {tolerance} Å")
    try:
        cell = found.symmetrized.get_primitive_structure()
        check = _limits(cell, seconds)
        result = relax(cell, loaded_potential(potential), FMAX, STEPS, check, keep_symmetry=TIGHT)
    except Exception as error:  # noqa: BLE001 - as above
        return failed_outcome(task, f"{found.symbol} within {tolerance} Å did not relax ({error})")
    if not result.converged:
        return failed_outcome(task, f"{found.symbol} within {tolerance} Å did not converge")
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


def failed_outcome(task: Task, reason: str, **columns: float) -> Outcome:
    """Return the outcome of a structure that could not be relaxed; it stays as it was."""
    return Outcome(task.structure, {"state": "failed"} | columns, {"reason": reason})


def _relaxed(task: Task, potential: Potential, settings: Settings, frames: list[Frame]) -> Relaxed:
    """Relaxed once or, where it is to be rattled, twice; the lower energy counts."""
    check, steps = _limits(task.structure, settings.seconds), settings.steps
    keep = SYMPREC if settings.symmetry else None
    first = relax(task.structure, potential, FMAX, steps, check, keep_symmetry=keep, frames=frames)
    if not settings.rattle:
        return first
    more: list[Frame] = []
    moved = rattled(first.structure, task.candidate)
    try:
        second = relax(moved, potential, FMAX, steps, check, frames=more)
    except (HopelessError, ValueError):
        return first
    if second.energy >= first.energy or second.converged < first.converged:
        return first
    frames += more
    return replace(second, steps=first.steps + second.steps)


def _limits(start: Structure, seconds: float) -> Callable[[Structure], str | None]:
    """`runaway` from `start`, which raises TooLongError when so many seconds from now are over."""
    in_time = time_limit(seconds)

    def check(structure: Structure) -> str | None:
        in_time()
        return runaway(start, structure)

    return check


def time_limit(seconds: float) -> Callable[..., None]:
    """Return a function that raises TooLongError when so many seconds from now are over."""
    end = time.monotonic() + seconds

    def check(*_: object) -> None:
        if time.monotonic() > end:
            raise TooLongError(f"took longer than {seconds:g} s")

    return check


def runaway(start: Structure, structure: Structure) -> str | None:
    """Return why a relaxation from `start` that has come to `structure` leads nowhere, or None."""
    change = structure.volume / start.volume
    if not SHRUNK < change < SWOLLEN:
        return f"the volume became {change:.1f} times that at the start"
    now, before = shortest_distance(structure, "H", "H"), shortest_distance(start, "H", "H")
    if now < MOLECULE <= before:  # solid hydrogen is of molecules from the start
        return f"hydrogen became a molecule, H-H {now:.2f} Å"
    return None


def rattled(structure: Structure, seed: int) -> Structure:
    """Return the structure with atoms moved by 0.08 Å and the cell strained by 1 %.

    Both are standard deviations of normal random numbers with this seed.
    """
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
    """Return the largest displacement of an atom, Å, apart from strain and a common shift."""
    shift = after.frac_coords - before.frac_coords
    shift -= np.round(shift)
    shift -= shift.mean(0)
    return float(np.linalg.norm(shift @ after.lattice.matrix, axis=1).max())


def _trajectory(frames: Sequence[Frame]) -> dict[str, Any]:
    """Energies of all steps (eV/atom); of evenly chosen ones the number, lattice rows and Cartesian
    positions (Å)."""
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
def loaded_potential(name: str) -> Potential:
    """Return the potential of this name, loaded once in each process."""
    return load_potential(name)


def about_potential(potential: str, species: Sequence[str]) -> tuple[str, str]:
    """Return name and version of a potential.

    Raises InputError where there is none, or where it does not know one of the elements.

    >>> about_potential("ase.calculators.emt.EMT", ["Pd", "Ni"])[0]
    'EMT'
    """
    loaded = loaded_potential(potential)
    if unknown := unknown_elements(loaded, species):
        raise InputError(
            f"{loaded.name} gives no energy for {', '.join(unknown)}; choose another potential."
        )
    return loaded.name, loaded.version
