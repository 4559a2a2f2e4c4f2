"""Relaxation of crystals with a machine-learned interatomic potential, through ASE."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ase import Atoms
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

    `device` is a torch device name. The calculator differentiates the energy once, by positions and lattice together, and only
    where forces or stress are asked for: the package's own one does so twice, ready for a second derivative that no relaxation
    needs, even for an energy alone (here 2 to 3 times faster, and memory does not grow).
    """
    import contextlib
    import io
    from importlib.metadata import version

    import torch
    from ase.calculators.calculator import Calculator, all_changes
    from ase.stress import full_3x3_to_voigt_6_stress
    from chgnet.model import CHGNet
    from pymatgen.io.ase import AseAtomsAdaptor

    with contextlib.redirect_stdout(io.StringIO()):  # the constructor prints; stdout belongs to --json
        model = CHGNet.load(verbose=False, use_device=device).eval().requires_grad_(requires_grad=False)
    model.graph_converter.set_isolated_atom_response("ignore")

    class CHGNetEnergy(Calculator):
        implemented_properties: ClassVar = ["energy", "free_energy", "forces", "stress"]

        def calculate(
            self, atoms: Atoms | None = None, properties: Sequence[str] = ("energy",), system_changes: Sequence[str] = all_changes
        ) -> None:
            super().calculate(atoms, properties, system_changes)
            assert atoms is not None
            graph = model.graph_converter(AseAtomsAdaptor.get_structure(atoms)).to(device)
            derive = not {"forces", "stress"}.isdisjoint(properties)
            graph.lattice = graph.lattice.detach().requires_grad_(derive)
            graph.atom_frac_coord = graph.atom_frac_coord.detach().requires_grad_(derive)
            with torch.set_grad_enabled(derive):
                per_atom = model([graph], task="e")["e"].sum()
            energy = per_atom.item() * len(atoms)
            self.results = {"energy": energy, "free_energy": energy}
            if derive:
                by_frac, by_lattice = torch.autograd.grad(per_atom * len(atoms), (graph.atom_frac_coord, graph.lattice))
                lattice = np.asarray(atoms.cell)
                stress = lattice.T @ by_lattice.double().cpu().numpy() / atoms.get_volume()  # dE/d(strain) / V
                self.results["forces"] = -by_frac.double().cpu().numpy() @ np.linalg.inv(lattice).T
                self.results["stress"] = full_3x3_to_voigt_6_stress(stress)

    return Potential("CHGNet", f"{model.version} (chgnet {version('chgnet')})", CHGNetEnergy())


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
    """Relax cell and positions until no force exceeds `fmax` (eV/Å); L-BFGS for `max_steps`, then FIRE for twice as many.

    On the built-in prototypes L-BFGS needs half the steps of FIRE for the same minimum, yet about one cell in thirty sends it
    astray; FIRE then starts again from the beginning.
    """
    from ase.filters import FrechetCellFilter
    from ase.optimize import FIRE, LBFGS
    from pymatgen.io.ase import AseAtomsAdaptor

    steps = 0
    for method, limit in ((LBFGS, max_steps), (FIRE, 2 * max_steps)):
        atoms: Any = structure.to_ase_atoms()
        atoms.calc = potential.calculator
        filtered = FrechetCellFilter(atoms)
        optimizer = method(filtered, logfile=None)
        converged = bool(optimizer.run(fmax=fmax, steps=limit))
        steps += optimizer.nsteps
        if converged:
            break
    energy = float(atoms.get_potential_energy())
    force = float(max((filtered.get_forces() ** 2).sum(axis=1)) ** 0.5)
    if not (math.isfinite(energy) and math.isfinite(force)):
        raise ValueError(f"{potential.name} gave an energy or force that is not finite for {structure.formula}")
    relaxed = AseAtomsAdaptor.get_structure(atoms)
    relaxed = type(structure)(relaxed.lattice, relaxed.species, relaxed.frac_coords)
    return Relaxed(relaxed, energy, converged, steps, force)
