"""Relaxation of crystals with a machine-learned interatomic potential, through ASE."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ase.calculators.calculator import Calculator
    from pymatgen.core import Structure


@dataclass(frozen=True)
class Potential:
    """A calculator that knows its own name and version, so that every energy can say where it is from."""

    name: str
    version: str
    calculator: Calculator


@dataclass(frozen=True)
class Relaxed:
    """The outcome of one relaxation, converged or not."""

    structure: Structure
    energy: float  # eV per cell
    converged: bool
    steps: int
    force: float  # largest force left on an atom or the cell, eV/Å (ASE's cell filter counts both)


def load_chgnet(device: str = "cpu") -> Potential:
    """CHGNet with the weights in its wheel (Deng et al., Nature Machine Intelligence 5, 1031 (2023)).

    `device` is a torch device name.
    """
    import contextlib
    import io
    from importlib.metadata import version

    with contextlib.redirect_stdout(io.StringIO()):  # both constructors print; stdout belongs to --json
        from chgnet.model import CHGNet, CHGNetCalculator

        model = CHGNet.load(verbose=False, use_device=device)
        calculator = CHGNetCalculator(model, use_device=device)
    return Potential("CHGNet", f"{model.version} (chgnet {version('chgnet')})", calculator)


def single_point(structure: Structure, potential: Potential) -> float:
    """Energy of the cell as it is, eV per cell."""
    atoms: Any = structure.to_ase_atoms()
    atoms.calc = potential.calculator
    return float(atoms.get_potential_energy())


def scan_volume(structure: Structure, potential: Potential, factors: Iterable[float]) -> Structure:
    """The isotropically scaled copy of `structure` with the lowest energy.

    A relaxation started far from the equilibrium volume wanders or ends in another basin; a coarse scan is cheap.
    Factors multiply the cell's volume. Raises ValueError when no scaled cell has a finite energy.
    """
    best: tuple[float, Structure] | None = None
    for factor in factors:
        trial = structure.copy()
        trial.scale_lattice(structure.volume * factor)
        energy = single_point(trial, potential)
        if math.isfinite(energy) and (best is None or energy < best[0]):
            best = (energy, trial)
    if best is None:
        raise ValueError(f"{potential.name} gives no finite energy for {structure.formula} at any volume of the scan")
    return best[1]


def relax(structure: Structure, potential: Potential, fmax: float = 0.03, max_steps: int = 200) -> Relaxed:
    """Relax cell and positions until no force exceeds `fmax` (eV/Å) or `max_steps` have passed.

    L-BFGS on the exponential cell filter: on the built-in prototypes it needs half the steps of FIRE for the same minimum.
    """
    from ase.filters import FrechetCellFilter
    from ase.optimize import LBFGS
    from pymatgen.io.ase import AseAtomsAdaptor

    atoms: Any = structure.to_ase_atoms()
    atoms.calc = potential.calculator
    filtered = FrechetCellFilter(atoms)
    optimizer = LBFGS(filtered, logfile=None)
    converged = bool(optimizer.run(fmax=fmax, steps=max_steps))
    energy = float(atoms.get_potential_energy())
    force = float(max((filtered.get_forces() ** 2).sum(axis=1)) ** 0.5)
    if not (math.isfinite(energy) and math.isfinite(force)):
        raise ValueError(f"{potential.name} gave an energy or force that is not finite for {structure.formula}")
    relaxed = AseAtomsAdaptor.get_structure(atoms)
    relaxed = type(structure)(relaxed.lattice, relaxed.species, relaxed.frac_coords)
    return Relaxed(relaxed, energy, converged, optimizer.nsteps, force)
