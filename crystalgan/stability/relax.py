"""Relaxation of crystals with a machine-learned interatomic potential, through ASE."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from ase import Atoms
    from pymatgen.core import Structure

    from crystalgan.potentials.registry import Potential


LBFGS_STEPS = 150
# eV/Å², ASE's `alpha`: what L-BFGS takes a crystal for until it has seen more of it
STIFFNESS = 8.0


@dataclass(frozen=True)
class Relaxed:
    """The outcome of one relaxation, converged or not."""

    structure: Structure
    energy: float  # eV per cell
    converged: bool
    steps: int
    force: float  # largest force left on an atom or the cell, eV/Å (ASE's cell filter counts both)

    def __repr__(self) -> str:
        state = "converged" if self.converged else "not converged"
        return (
            f"{self.structure.reduced_formula}: {self.energy / len(self.structure):.4f} eV/atom,"
            f" {state} in {self.steps} steps, {self.force:.3f} eV/Å left"
        )


@dataclass(frozen=True)
class Frame:
    """One step of a relaxation."""

    energy: float  # eV per cell
    lattice: np.ndarray  # rows, Å
    positions: np.ndarray  # Cartesian, Å


def single_point(structure: Structure, potential: Potential) -> float:
    """Return the energy of the cell as it is, eV per cell.

    >>> from crystalgan.potentials.registry import load_potential
    >>> from pymatgen.core import Lattice, Structure
    >>> palladium = Structure(Lattice.cubic(3.9), ["Pd"], [[0, 0, 0]])
    >>> round(single_point(palladium, load_potential("ase.calculators.emt.EMT")), 2)
    2.38
    """
    atoms: Any = structure.to_ase_atoms()
    atoms.calc = potential.calculator
    return float(atoms.get_potential_energy())


def scan_volume(structure: Structure, potential: Potential, factors: Sequence[float]) -> Structure:
    """Scale a structure isotropically to the valley of its energy; `factors` multiply its volume.

    A relaxation started far from the equilibrium volume wanders or ends in another basin; a coarse
    walk downhill from the factor next to 1 is cheap (4 energies where a whole scan takes 12, and
    the same valley in 215 of 215 cells of K, Pd, La, W and Zn). Raises ValueError when no scaled
    cell has a finite energy.
    """
    factors = sorted(factors)
    energies: dict[int, float] = {}

    def energy(i: int) -> float:
        if i not in energies:
            trial = single_point(
                structure.copy().scale_lattice(structure.volume * factors[i]), potential
            )
            energies[i] = trial if math.isfinite(trial) else math.inf
        return energies[i]

    here = min(range(len(factors)), key=lambda i: abs(math.log(factors[i])))
    while (
        lowest := min((i for i in (here, here - 1, here + 1) if 0 <= i < len(factors)), key=energy)
    ) != here:
        here = lowest
    if math.isinf(energy(here)):
        raise ValueError(
            f"{potential.name} gives no finite energy for {structure.formula} at any volume near"
            f" {structure.volume:.0f} Å³"
        )
    return structure.copy().scale_lattice(structure.volume * factors[here])


class HopelessError(RuntimeError):
    """A relaxation that was ended early, with the reason."""


class TooLongError(HopelessError):
    """A relaxation whose time is up."""


def relax(
    structure: Structure,
    potential: Potential,
    fmax: float = 0.03,
    max_steps: int = 300,
    hopeless: Callable[[Structure], str | None] | None = None,
    second_try: bool = True,
    keep_symmetry: float | None = None,
    frames: list[Frame] | None = None,
) -> Relaxed:
    """Relax cell and positions until no force exceeds `fmax` (eV/Å).

    L-BFGS goes first; where it does not converge in at most 150 steps, FIRE starts again from the
    beginning for at most `max_steps`, unless `second_try` is False. L-BFGS needs half the steps of
    FIRE for the same minimum, yet of the built-in prototypes one in thirty sends it astray, and
    FIRE brings nearly all of those. With ASE's own guess of 70 eV/Å² for the stiffness L-BFGS
    creeps along: of 7 Pd-Ni candidates 542 steps, with 8 eV/Å² 205 (with 15 282, with 3 to 5 no
    fewer), to the same energies. The filter is ASE's UnitCellFilter: of 30 Pd-Ni candidates 572
    steps in 35 s of CPU time, with FrechetCellFilter 770 in 57 s, to the same energies.

    Every tenth step `hopeless` may return a reason to end; HopelessError is raised with it, where
    FIRE comes to such an end too. The symmetry found within `keep_symmetry` (Å) is kept, none where
    it is None. `frames` is filled with the steps of the method whose outcome is returned. Raises
    ValueError as soon as an energy or a force is not finite.

    >>> from crystalgan.potentials.registry import load_potential
    >>> from pymatgen.core import Lattice, Structure
    >>> alloy = Structure(Lattice.tetragonal(2.65, 3.75), ["Pd", "Ni"], [[0, 0, 0], [0.5] * 3])
    >>> relax(alloy, load_potential("ase.calculators.emt.EMT")).converged
    True
    """
    from ase.constraints import FixSymmetry
    from ase.filters import UnitCellFilter
    from ase.optimize import FIRE, LBFGS

    steps = 0
    for method, limit in (
        (partial(LBFGS, alpha=STIFFNESS), min(LBFGS_STEPS, max_steps)),
        (FIRE, max_steps),
    ):
        atoms: Any = structure.to_ase_atoms()
        if keep_symmetry is not None:
            atoms.set_constraint(FixSymmetry(atoms, keep_symmetry))
        atoms.calc = potential.calculator
        if frames is not None:
            frames.clear()
        filtered = UnitCellFilter(atoms)
        optimizer = method(filtered, logfile=None)
        optimizer.attach(_note, 1, atoms, potential.name, frames)
        if hopeless:
            optimizer.attach(_give_up, 10, atoms, hopeless)
        try:
            converged = bool(optimizer.run(fmax=fmax, steps=limit))
        except HopelessError:
            if method is FIRE or not second_try:
                raise
            converged = False  # perhaps astray only
        steps += optimizer.nsteps
        if converged or not second_try:
            break
    energy = float(atoms.get_potential_energy())
    force = float(max((filtered.get_forces() ** 2).sum(axis=1)) ** 0.5)
    if not math.isfinite(force):
        raise ValueError(
            f"{potential.name} gave a force that is not finite for {structure.formula}"
        )
    return Relaxed(_structure(atoms), energy, converged, steps, force)


def _note(atoms: Atoms, potential: str, frames: list[Frame] | None) -> None:
    energy = float(atoms.get_potential_energy())
    if not math.isfinite(energy):
        raise ValueError(
            f"{potential} gave an energy that is not finite for {atoms.get_chemical_formula()}"
        )
    if frames is not None:
        frames.append(Frame(energy, atoms.cell.array.copy(), atoms.positions.copy()))


def _give_up(atoms: Atoms, hopeless: Callable[[Structure], str | None]) -> None:
    reason = hopeless(_structure(atoms))
    if reason:
        raise HopelessError(reason)


def _structure(atoms: Atoms) -> Structure:
    from pymatgen.core import Structure

    return Structure(
        atoms.cell.array, atoms.get_chemical_symbols(), atoms.positions, coords_are_cartesian=True
    )
