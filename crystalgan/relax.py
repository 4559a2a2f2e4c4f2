"""Relaxation of crystals with a machine-learned interatomic potential, through ASE."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ase import Atoms
    from ase.calculators.calculator import Calculator
    from pymatgen.core import Structure


LBFGS_STEPS = 80


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


def scan_volume(structure: Structure, potential: Potential, factors: Sequence[float]) -> Structure:
    """The isotropically scaled copy of `structure` at the valley of its energy over `factors`, which multiply its volume.

    A relaxation started far from the equilibrium volume wanders or ends in another basin; a coarse walk downhill from the factor
    next to 1 is cheap (4 energies where a whole scan takes 12, and the same valley in 215 of 215 cells of K, Pd, La, W and Zn).
    Raises ValueError when no scaled cell has a finite energy.
    """
    factors = sorted(factors)
    energies: dict[int, float] = {}

    def energy(i: int) -> float:
        if i not in energies:
            trial = single_point(structure.copy().scale_lattice(structure.volume * factors[i]), potential)
            energies[i] = trial if math.isfinite(trial) else math.inf
        return energies[i]

    here = min(range(len(factors)), key=lambda i: abs(math.log(factors[i])))
    while (lowest := min((i for i in (here, here - 1, here + 1) if 0 <= i < len(factors)), key=energy)) != here:
        here = lowest
    if math.isinf(energy(here)):
        raise ValueError(
            f"{potential.name} gives no finite energy for {structure.formula} at any volume near {structure.volume:.0f} Å³"
        )
    return structure.copy().scale_lattice(structure.volume * factors[here])


class HopelessError(RuntimeError):
    """A relaxation that was ended early, with the reason."""


def relax(
    structure: Structure,
    potential: Potential,
    fmax: float = 0.03,
    max_steps: int = 300,
    hopeless: Callable[[Structure], str | None] | None = None,
    second_try: bool = True,
) -> Relaxed:
    """Relax cell and positions until no force exceeds `fmax` (eV/Å): a short L-BFGS, and FIRE where that does not get there.

    On the built-in prototypes L-BFGS needs half the steps of FIRE for the same minimum, yet one cell in thirty sends it astray;
    of 940 cells 6 converged with it after its 80th step, and FIRE, started again from the beginning for at most `max_steps`,
    brings nearly all others; `second_try` may forbid it. Every tenth step `hopeless` may give a reason to end in HopelessError.
    """
    from ase.filters import FrechetCellFilter
    from ase.optimize import FIRE, LBFGS
    from pymatgen.io.ase import AseAtomsAdaptor

    steps = 0
    for method, limit in ((LBFGS, min(LBFGS_STEPS, max_steps)), (FIRE, max_steps)):
        atoms: Any = structure.to_ase_atoms()
        atoms.calc = potential.calculator
        filtered = FrechetCellFilter(atoms)
        optimizer = method(filtered, logfile=None)
        if hopeless:
            optimizer.attach(_give_up, 10, atoms, hopeless)
        converged = bool(optimizer.run(fmax=fmax, steps=limit))
        steps += optimizer.nsteps
        if converged or not second_try:
            break
    energy = float(atoms.get_potential_energy())
    force = float(max((filtered.get_forces() ** 2).sum(axis=1)) ** 0.5)
    if not (math.isfinite(energy) and math.isfinite(force)):
        raise ValueError(f"{potential.name} gave an energy or force that is not finite for {structure.formula}")
    relaxed = AseAtomsAdaptor.get_structure(atoms)
    relaxed = type(structure)(relaxed.lattice, relaxed.species, relaxed.frac_coords)
    return Relaxed(relaxed, energy, converged, steps, force)


def _give_up(atoms: Atoms, hopeless: Callable[[Structure], str | None]) -> None:
    from pymatgen.io.ase import AseAtomsAdaptor

    reason = hopeless(AseAtomsAdaptor.get_structure(atoms))
    if reason:
        raise HopelessError(reason)
