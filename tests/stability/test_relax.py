"""Relaxation: scans of the volume, second tries, ends with a reason."""

import numpy as np
import pytest
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.lj import LennardJones
from pymatgen.core import Lattice, Structure

from crystalgan.data.prototypes import load_prototypes
from crystalgan.potentials.registry import Potential, load_chgnet
from crystalgan.stability.relax import (
    HopelessError,
    relax,
    scan_volume,
    single_point,
)
from crystalgan.studies.builtin import SCAN


@pytest.fixture(scope="module")
def chgnet():
    return load_chgnet()


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


def test_a_strained_cell_comes_back():
    """Stress alone drives it: the atoms are on their sites all the way."""
    cell = Structure.from_spacegroup(225, Lattice.cubic(5.23), ["Ar"], [[0, 0, 0]])
    strained = cell.copy()
    strained.apply_strain([0.03, -0.02, 0.01])
    result = relax(strained, argon(), fmax=0.001)
    assert result.converged
    a, b, c = result.structure.lattice.abc
    assert a == pytest.approx(b, rel=1e-3)
    assert a == pytest.approx(c, rel=1e-3)
    assert result.energy < single_point(cell, argon()) + 1e-4
    assert "converged in" in repr(result)
