"""Relaxation: scans of the volume, second tries, ends with a reason."""

import numpy as np
import pytest
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.lj import LennardJones
from ase.filters import FrechetCellFilter
from pymatgen.core import Lattice, Structure
from scipy.linalg import expm, logm

from crystalgan.data.classes import load_class
from crystalgan.data.prototypes import load_prototypes
from crystalgan.potentials.registry import Potential, load_chgnet
from crystalgan.stability.relax import (
    HopelessError,
    cell_filter,
    logarithm,
    relax,
    scan_volume,
    single_point,
)
from crystalgan.studies.builtin import SCAN


@pytest.fixture(scope="module")
def chgnet():
    return load_chgnet()


def test_an_energy_alone_is_not_differentiated(chgnet):
    atoms = load_class("Pd").structures[0].to_ase_atoms()
    atoms.calc = chgnet.calculator
    atoms.get_potential_energy()
    assert "forces" not in atoms.calc.results
    atoms.get_forces()
    assert {"forces", "stress"} <= set(atoms.calc.results)


@pytest.mark.parametrize("metal", ["Pd", "Na"])
def test_the_walk_over_volumes_ends_where_a_whole_scan_does(chgnet, metal):
    for prototype in load_prototypes()[7:20:4]:
        structure = prototype.structure(metal)
        energies = [
            single_point(structure.copy().scale_lattice(structure.volume * f), chgnet) for f in SCAN
        ]
        best = SCAN[int(np.argmin(energies))]
        assert scan_volume(structure, chgnet, SCAN).volume == pytest.approx(best * structure.volume)


class Broken(Calculator):
    """A potential whose energy is not a number."""

    implemented_properties = ("energy", "forces", "stress")

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.results = {
            "energy": np.nan,
            "forces": np.zeros((len(atoms), 3)),
            "stress": np.zeros(6),
        }


def test_a_potential_without_finite_energies_is_an_error():
    potential = Potential("broken", "1", Broken())
    structure = Structure(Lattice.cubic(3), ["Pd"], [[0, 0, 0]])
    with pytest.raises(ValueError, match="broken gives no finite energy for Pd1"):
        scan_volume(structure, potential, SCAN)
    with pytest.raises(ValueError, match="energy that is not finite for Pd"):
        relax(structure, potential)


def argon():
    return Potential("LJ", "ase", LennardJones(sigma=3.4, epsilon=0.0104, rc=12.0, smooth=True))


def test_relaxation_says_whether_it_converged():
    structure = Structure.from_spacegroup(225, Lattice.cubic(5.6), ["Ar"], [[0, 0, 0]]).perturb(
        0.2, seed=0
    )
    result = relax(structure, argon(), fmax=0.002)
    assert result.converged
    assert result.force <= 0.002
    # 1.54 sigma, the crystal of Lennard-Jones
    assert result.structure.volume ** (1 / 3) == pytest.approx(5.23, rel=0.02)
    short = relax(structure, argon(), fmax=1e-9, max_steps=3)
    assert not short.converged
    assert short.steps == 6  # three of L-BFGS, three of FIRE


def test_a_hopeless_relaxation_ends_with_its_reason():
    structure = Structure.from_spacegroup(225, Lattice.cubic(5.8), ["Ar"], [[0, 0, 0]]).perturb(
        0.1, seed=0
    )
    with pytest.raises(HopelessError, match="too small: "):
        relax(
            structure,
            argon(),
            1e-6,
            50,
            lambda s: f"too small: {s.volume:.0f} Å³" if s.volume < 160 else None,
        )


def test_the_filter_of_cell_and_positions_is_that_of_ase():
    """Forces and coordinates of strained, sheared and undeformed cells, before and after a step."""
    rng = np.random.default_rng(0)
    for strain in (0, 0.01, 0.2):
        start = (
            Structure.from_spacegroup(225, Lattice.cubic(5.2), ["Ar"], [[0, 0, 0]])
            .perturb(0.2, seed=0)
            .to_ase_atoms()
        )
        both = []
        for make in (FrechetCellFilter, cell_filter):
            atoms = start.copy()
            atoms.calc = argon().calculator
            both.append((atoms, make(atoms)))
        change = np.eye(3) + strain * rng.standard_normal((3, 3))
        for atoms, filtered in both:
            atoms.set_cell(atoms.cell.array @ change, scale_atoms=True)
            filtered.set_positions(filtered.get_positions() + 0.01)
        (theirs, expected), (ours, found) = both
        np.testing.assert_allclose(ours.positions, theirs.positions, atol=1e-10)
        np.testing.assert_allclose(found.get_positions(), expected.get_positions(), atol=1e-10)
        np.testing.assert_allclose(found.get_forces(), expected.get_forces(), atol=1e-10)


@pytest.mark.filterwarnings("ignore:logm result may be inaccurate")
def test_logarithms_of_deformations_are_those_of_scipy():
    rng = np.random.default_rng(0)
    shear = np.eye(3)
    shear[0, 1] = 1e-3  # whose eigenvectors are one and the same
    deformations = [np.eye(3), shear, np.diag([1.1, 1.1, 0.9])]
    deformations += [
        np.eye(3) + 10 ** rng.uniform(-9, -0.7) * rng.standard_normal((3, 3)) for _ in range(300)
    ]
    for deformation in deformations:
        matrix = rng.integers(1, 30) * deformation
        np.testing.assert_allclose(expm(logarithm(matrix)), matrix, rtol=1e-11, atol=1e-11)
        np.testing.assert_allclose(logarithm(matrix), logm(matrix).real, atol=1e-10)
