"""The surrogate against a pair potential of ASE, which it can learn but for the tails."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.morse import MorsePotential
from scipy.stats import spearmanr

from crystalgan.discovery.sources import cell_of
from crystalgan.discovery.surrogate import ENOUGH, Label, Surrogate

SPECIES = ("H", "Pd", "Ni")
CONSTANTS = np.array([-1.0, -3.0, -2.0])  # eV, of the elements


def _label(rng: np.random.Generator, derivatives: bool) -> Label:
    """A random crystal in a Morse potential, the same between all elements, and constants."""
    symbols = ["H"] * 2 + ["Pd"] * 2 + ["Ni"]
    while True:
        cell = np.diag(rng.uniform(4.2, 5.2, 3)) + 0.3 * rng.standard_normal((3, 3))
        atoms = Atoms(symbols, scaled_positions=rng.random((5, 3)), cell=cell, pbc=True)
        distances = atoms.get_all_distances(mic=True) + 9 * np.eye(5)
        if distances.min() > 1.6:
            break
    atoms.calc = MorsePotential(epsilon=0.4, r0=2.4, rho0=4.0, rcut1=3.8, rcut2=4.6)
    own = float(CONSTANTS @ [2, 2, 1])
    energy = atoms.get_potential_energy() + own
    bare = Atoms(symbols, atoms.positions, cell=cell, pbc=True)
    if not derivatives:
        return Label(bare, energy)
    virial = atoms.get_stress(voigt=False) * atoms.get_volume()
    return Label(bare, energy, atoms.get_forces(), virial)


def _learned(derivatives: bool) -> tuple[Surrogate, list[Label]]:
    rng = np.random.default_rng(0)
    labels = [_label(rng, derivatives) for _ in range(120)]
    surrogate = Surrogate(SPECIES, torch.full((3, 3), 1.0, dtype=torch.float64))
    surrogate.learn(labels, [cell_of(label.atoms, SPECIES) for label in labels])
    return surrogate, [_label(rng, False) for _ in range(60)]


@pytest.mark.parametrize("derivatives", [True, False])
def test_it_learns_a_pair_potential(derivatives: bool):
    surrogate, others = _learned(derivatives)
    cells = [cell_of(label.atoms, SPECIES) for label in others]
    said = np.array([surrogate.energies(cell)[0] for cell in cells])
    true = np.array([label.energy / 5 for label in others])
    assert spearmanr(said, true)[0] > 0.95
    if derivatives:
        # but where distances come up that were hardly seen, and the wall stands
        assert np.percentile(np.abs(said - true), 90) < 0.15 * true.std()


def test_nothing_is_fitted_before_there_is_enough():
    rng = np.random.default_rng(1)
    surrogate = Surrogate(SPECIES, torch.full((3, 3), 1.0, dtype=torch.float64))
    labels = [_label(rng, False) for _ in range(ENOUGH)]
    cells = [cell_of(label.atoms, SPECIES) for label in labels]
    surrogate.learn(labels[:-1], cells[:-1])
    assert surrogate.potential is None
    surrogate.learn([Label(labels[0].atoms, np.nan)], cells[:1])  # says nothing
    assert surrogate.potential is None
    surrogate.learn(labels[-1:], cells[-1:])
    assert surrogate.potential is not None


def test_what_was_learned_is_restored_whole():
    surrogate, others = _learned(True)
    again = Surrogate(SPECIES, surrogate.closest)
    again.restore({name: array.copy() for name, array in surrogate.state().items()})
    cell = cell_of(others[0].atoms, SPECIES)
    assert again.energies(cell)[0] == surrogate.energies(cell)[0]
