"""CHGNet's energy as we sum it up, against the package's own."""

import contextlib
import copy
import io

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from conftest import random_crystals
from pymatgen.io.ase import AseAtomsAdaptor

from crystalgan.data.classes import load_class
from crystalgan.potentials.chgnet import ChgnetEnergy
from crystalgan.potentials.registry import load_chgnet


@pytest.fixture(scope="module")
def package():
    with contextlib.redirect_stdout(io.StringIO()):
        from chgnet.model import CHGNetCalculator

        return CHGNetCalculator(use_device="cpu", on_isolated_atoms="ignore")


@pytest.fixture(scope="module")
def ours(package):
    return ChgnetEnergy(copy.deepcopy(package.model))


def shaken(structure, rng):
    atoms = structure.to_ase_atoms()
    atoms.rattle(0.05, rng=rng)
    atoms.set_cell(
        atoms.cell.array @ (np.eye(3) + 0.02 * rng.standard_normal((3, 3))), scale_atoms=True
    )
    # the same crystal, its atoms in other cells
    atoms.positions += rng.integers(-2, 3, (len(atoms), 3)) @ atoms.cell.array
    return atoms


def crystals():
    """Shaken hydrides; crystals at random; one atom a cell, no angle, no neighbour at all."""
    rng = np.random.default_rng(0)
    found = [shaken(structure, rng) for structure in load_class("Ti").structures[::6]]
    found += [
        structure.to_ase_atoms()
        for structure in random_crystals(rng, 40)
        if structure.volume / len(structure) > 6
    ][:8]
    found += [
        bulk("Pd"),
        Atoms("H", cell=[3.4] * 3, pbc=True),
        Atoms("PdH", [[0, 0, 0], [9, 9, 9]], cell=[18] * 3, pbc=True),
    ]
    return found


def test_energy_forces_and_stress_are_those_of_the_package(package):
    calculator = load_chgnet().calculator
    largest = 0.0
    for atoms in crystals():
        theirs = atoms.copy()
        atoms.calc, theirs.calc = calculator, package
        assert atoms.get_potential_energy() / len(atoms) == pytest.approx(
            theirs.get_potential_energy() / len(atoms), abs=1e-5
        )
        # float32, summed in another order
        np.testing.assert_allclose(atoms.get_forces(), theirs.get_forces(), atol=3e-4, rtol=1e-4)
        np.testing.assert_allclose(atoms.get_stress(), theirs.get_stress(), atol=3e-5, rtol=1e-4)
        largest = max(largest, np.abs(atoms.get_forces()).max())
    assert largest > 1


def test_many_at_once_are_as_one_by_one(ours):
    everything = crystals()
    together = ours.with_derivatives(everything)
    np.testing.assert_allclose(ours.energies(everything), together[0], rtol=1e-6)
    for k, atoms in enumerate(everything):
        (energy,), (forces,), (stress,) = ours.with_derivatives([atoms])
        assert energy == pytest.approx(together[0][k], rel=1e-5)
        np.testing.assert_allclose(forces, together[1][k], atol=3e-4, rtol=1e-4)
        np.testing.assert_allclose(stress, together[2][k], atol=3e-5, rtol=1e-4)


def test_bonds_and_angles_are_those_of_the_package(ours, package):
    """Each bond has its way back, and each angle two different short bonds of one atom."""
    for atoms in crystals():
        graph = ours.graph([atoms])
        theirs = package.model.graph_converter(AseAtomsAdaptor.get_structure(atoms))
        assert len(graph.center) == 2 * len(graph.direction) == theirs.atom_graph.numel() // 2
        assert len(graph.first) == len(theirs.bond_graph)
        assert torch.equal(torch.bincount(graph.bond), torch.full((len(graph.direction),), 2))
        assert torch.equal(
            graph.center[graph.short][graph.first], graph.center[graph.short][graph.second]
        )
        assert not (graph.first == graph.second).any()
