"""Relaxation of a crystal in rungs: it can stop after any step and go on later where it was."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.stress import full_3x3_to_voigt_6_stress

from crystalgan.discovery.surrogate import Label

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator

STIFFNESS = 8.0  # eV/Å², as in `stability.relax`
LONGEST_STEP = 0.2  # Å
FMAX = 0.03  # eV/Å
SHRUNK, SWOLLEN = 0.35, 2.5  # times the volume at the start; what goes further runs away
MEMORY = 30  # steps that L-BFGS remembers from one rung to the next


@dataclass(frozen=True)
class Descent:
    """A relaxation under way: the crystal, and what L-BFGS remembers of its path.

    `energy` (eV/atom) and `force` (the largest, eV/Å) are those of `atoms`, once a step was made.
    """

    atoms: Atoms
    start: np.ndarray  # [3, 3], the cell that it began with, rows in Å
    energy: float = math.nan
    force: float = math.inf
    steps: int = 0
    lost: bool = False
    path: tuple[Label, ...] = ()  # what the potential said on the last rung
    moves: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))  # [memory, coordinates]
    turns: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))  # of the gradient

    @classmethod
    def of(cls, atoms: Atoms, energy: float = math.nan) -> Descent:
        """A relaxation that begins with these atoms."""
        return cls(atoms, atoms.cell.array.copy(), energy)

    @property
    def converged(self) -> bool:
        """Whether no force is left above the threshold."""
        return self.force < FMAX


def advance(descent: Descent, calculator: Calculator, steps: int) -> Descent:
    """Relax cell and positions further, by at most so many steps of L-BFGS.

    The coordinates are those of ASE's UnitCellFilter. The outcome is `lost` where the volume runs
    away or an energy is not finite.
    """
    from ase.filters import UnitCellFilter

    atoms: Any = descent.atoms.copy()
    # the first forces of a rung are the last of the one before
    atoms.calc = _remembered(descent) or calculator
    filtered = UnitCellFilter(atoms, orig_cell=descent.start)
    volume = abs(np.linalg.det(descent.start))
    moves, turns = list(descent.moves), list(descent.turns)
    path: list[Label] = []
    done, force, here, gradient = 0, math.inf, None, None
    energy = math.nan
    while True:
        try:
            forces = filtered.get_forces()
        except Exception:  # noqa: BLE001 - each potential fails in its own way on some cells
            return replace(descent, lost=True, steps=descent.steps + done, path=tuple(path))
        energy = float(atoms.get_potential_energy()) / len(atoms)
        force = float(np.linalg.norm(forces, axis=1).max())
        if not (math.isfinite(energy) and math.isfinite(force)):
            return replace(descent, lost=True, steps=descent.steps + done, path=tuple(path))
        if done in (0, steps // 2, steps) or force < FMAX:
            virial = atoms.get_stress(voigt=False) * atoms.get_volume()
            bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
            path.append(Label(bare, energy * len(atoms), atoms.get_forces(), virial))
        x, g = filtered.get_positions().ravel(), -forces.ravel()
        if here is not None and gradient is not None:
            moves.append(x - here)
            turns.append(g - gradient)
        if force < FMAX or done == steps:
            break
        atoms.calc = calculator
        step = -_inverse_hessian(g, moves, turns)
        longest = np.linalg.norm(step.reshape(-1, 3), axis=1).max()
        step *= min(1.0, LONGEST_STEP / longest)
        here, gradient = x, g
        filtered.set_positions((x + step).reshape(-1, 3))
        done += 1
        if not SHRUNK < atoms.get_volume() / volume < SWOLLEN:
            return replace(descent, lost=True, steps=descent.steps + done, path=tuple(path))
    atoms.calc = None
    moves, turns = moves[-MEMORY:], turns[-MEMORY:]
    return Descent(
        atoms,
        descent.start,
        energy,
        force,
        descent.steps + done,
        path=tuple(path),
        moves=_rows(moves),
        turns=_rows(turns),
    )


def _remembered(descent: Descent) -> Calculator | None:
    """What the potential said of the crystal at the end of the last rung."""
    if not descent.path or not descent.moves.size:
        return None
    last = descent.path[-1]
    assert last.forces is not None and last.virial is not None  # noqa: PT018
    stress = full_3x3_to_voigt_6_stress(last.virial / descent.atoms.get_volume())
    return SinglePointCalculator(
        descent.atoms.copy(), energy=last.energy, forces=last.forces, stress=stress
    )


def _rows(memory: list[np.ndarray]) -> np.ndarray:
    return np.array(memory) if memory else np.zeros((0, 0))


def _inverse_hessian(
    gradient: np.ndarray, moves: list[np.ndarray], turns: list[np.ndarray]
) -> np.ndarray:
    """What L-BFGS makes of a gradient (Nocedal and Wright, Numerical Optimization, alg. 7.4)."""
    q, weights = gradient.copy(), []
    pairs = [(s, y, 1 / (y @ s)) for s, y in zip(moves, turns, strict=True) if abs(y @ s) > 1e-12]
    for s, y, rho in reversed(pairs):
        weights.append(rho * (s @ q))
        q -= weights[-1] * y
    q /= STIFFNESS
    for (s, y, rho), weight in zip(pairs, reversed(weights), strict=True):
        q += s * (weight - rho * (y @ q))
    return q
