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
from crystalgan.potentials.chgnet import ChgnetCalculator, ChgnetEnergy


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
    found = [shaken(structure, rng) for structure in load_class("Ti").structures[::9]]
    found += [
        structure.to_ase_atoms()
        for structure in random_crystals(rng, 40)
        if structure.volume / len(structure) > 6
    ][:6]
    found += [
        bulk("Pd"),
        Atoms("H", cell=[3.4] * 3, pbc=True),
        Atoms("PdH", [[0, 0, 0], [9, 9, 9]], cell=[18] * 3, pbc=True),
    ]
    return found


def test_energy_forces_and_stress_are_those_of_the_package(ours, package):
    calculator = ChgnetCalculator(ours)
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


def test_an_energy_alone_is_not_differentiated(ours):
    calculator = ChgnetCalculator(ours)
    atoms = bulk("Pd")
    atoms.calc = calculator
    assert atoms.get_potential_energy() == pytest.approx(ours.energy(atoms))
    assert "forces" not in calculator.results
    atoms.get_forces()
    assert {"forces", "stress"} <= set(calculator.results)


@pytest.mark.parametrize("what", ["positions", "cell", "numbers"])
def test_an_energy_of_a_crystal_that_changed_is_computed_anew(ours, what):
    atoms = bulk("Pd", cubic=True)
    atoms.calc = ChgnetCalculator(ours)
    first = atoms.get_potential_energy()
    if what == "positions":
        atoms.positions[0, 0] += 0.05
    elif what == "cell":
        atoms.set_cell(1.01 * atoms.cell.array)
    else:
        atoms.numbers[0] = 22
    assert atoms.get_potential_energy() != first


def test_bonds_and_angles_are_those_of_the_package(ours, package):
    """Each bond has its way back, and each angle two different short bonds of one atom."""
    for atoms in crystals():
        graph = ours.graph(atoms)
        theirs = package.model.graph_converter(AseAtomsAdaptor.get_structure(atoms))
        assert len(graph.center) == 2 * len(graph.direction) == theirs.atom_graph.numel() // 2
        assert len(graph.first) == len(theirs.bond_graph)
        assert torch.equal(torch.bincount(graph.bond), torch.full((len(graph.direction),), 2))
        assert torch.equal(
            graph.center[graph.short][graph.first], graph.center[graph.short][graph.second]
        )
        assert not (graph.first == graph.second).any()
