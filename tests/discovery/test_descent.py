"""Relaxation in rungs against ASE's, in whole and in parts."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.filters import UnitCellFilter
from ase.optimize import LBFGS

from crystalgan.discovery.descent import FMAX, Descent, advance


def _crystal(seed: int = 0):
    atoms = bulk("Ni", "fcc", a=3.7, cubic=True)
    atoms.symbols[:2] = "Pd"
    rng = np.random.default_rng(seed)
    atoms.positions += 0.1 * rng.standard_normal((4, 3))
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.03 * rng.standard_normal((3, 3))), True)
    return atoms


def test_it_comes_to_the_minimum_of_ase():
    ours = advance(Descent.of(_crystal()), EMT(), 200)
    atoms = _crystal()
    atoms.calc = EMT()
    LBFGS(UnitCellFilter(atoms), alpha=8.0, logfile=None).run(fmax=FMAX, steps=200)
    assert ours.converged
    assert ours.energy == pytest.approx(atoms.get_potential_energy() / 4, abs=1e-3)
    assert ours.atoms.get_volume() == pytest.approx(atoms.get_volume(), rel=0.01)


def test_rungs_end_as_one_piece():
    whole = advance(Descent.of(_crystal(1)), EMT(), 8)
    parts = Descent.of(_crystal(1))
    for steps in (3, 1, 4):
        parts = advance(parts, EMT(), steps)
    assert parts.steps == whole.steps == 8
    assert parts.energy == pytest.approx(whole.energy, abs=1e-9)
    assert parts.atoms.positions == pytest.approx(whole.atoms.positions, abs=1e-9)
    assert len(parts.path) == 3  # of the last rung: its beginning, its middle and its end


def test_what_the_potential_said_on_the_way():
    end = advance(Descent.of(_crystal(2)), EMT(), 4)
    last = end.path[-1]
    atoms = last.atoms.copy()
    atoms.calc = EMT()
    assert last.energy == pytest.approx(atoms.get_potential_energy())
    assert last.forces == pytest.approx(atoms.get_forces())
    assert last.virial == pytest.approx(atoms.get_stress(voigt=False) * atoms.get_volume())


def test_a_cell_that_runs_away_is_lost():
    atoms = bulk("Ni", "fcc", a=2.0)  # the pressure blows it up
    assert advance(Descent.of(atoms), EMT(), 200).lost


def test_a_potential_that_does_not_know_an_element_loses_the_crystal():
    assert advance(Descent.of(bulk("Mg")), EMT(), 5).lost
