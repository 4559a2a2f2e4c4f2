"""Relaxations side by side: each comes to what it comes to alone, and what goes wrong with one harms no other."""

import threading

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.emt import EMT

from crystalgan.database import open_database, structure_of
from crystalgan.potentials import Potential, load_chgnet
from crystalgan.relaxing import Settings, Task, perform, perform_together, usual_batch
from crystalgan.runs import SHIPPED, Run
from crystalgan.together import Collector, Waiting, side_by_side


@pytest.fixture(scope="module")
def tasks():
    rows = list(open_database(Run.open(SHIPPED / "Pd-Ni-H_shipped")).select(limit=40, include_data=False))
    small = sorted(rows, key=lambda row: row.natoms)[:6]
    return [Task(row.id, "", structure_of(row)) for row in small]


@pytest.mark.slow
@pytest.mark.parametrize("settings", [Settings(), Settings(steps=40, rattle=True), Settings(symmetry=True)])
def test_side_by_side_they_come_to_what_they_come_to_alone(tasks, settings):
    alone = [perform("chgnet", settings, task) for task in tasks]
    for one, other in zip(alone, perform_together("chgnet", settings, tasks), strict=True):
        assert one.columns["state"] == other.columns["state"]
        assert one.columns["energy_per_atom"] == pytest.approx(other.columns["energy_per_atom"], abs=1e-3)


def results_of(atoms):
    atoms.calc = EMT()
    energy = atoms.get_potential_energy()
    return {"energy": energy, "free_energy": energy, "forces": atoms.get_forces(), "stress": atoms.get_stress()}


def evaluated(crystals):
    """Results by ASE's EMT, which fails on a crystal that holds tungsten."""
    if any("W" in atoms.get_chemical_symbols() for atoms in crystals):
        raise RuntimeError("no tungsten")
    return [results_of(atoms) for atoms in crystals]


def crystal(symbol, edge=3.6):
    return Atoms(symbol, cell=[edge] * 3, pbc=True)


def test_all_are_asked_for_at_once_until_one_ends():
    sizes = []

    def counted(crystals):
        sizes.append(len(crystals))
        return evaluated(crystals)

    def ask(potential, times):
        energies = []
        for k in range(times):
            atoms = crystal("Cu", 3.0 + 0.1 * k)
            atoms.calc = potential.calculator
            energies.append(atoms.get_potential_energy())
        return energies

    found = side_by_side(ask, Potential("EMT", "", EMT(), counted), [1, 3, 2])
    assert sizes == [3, 2, 1]
    expected = [results_of(crystal("Cu", 3.0 + 0.1 * k))["energy"] for k in range(3)]
    for energies in found:
        np.testing.assert_allclose(energies, expected[: len(energies)])


def test_what_one_does_wrong_is_its_own():
    def ask(potential, symbol):
        atoms = crystal(symbol)
        atoms.calc = potential.calculator
        try:
            return atoms.get_potential_energy()
        except RuntimeError as error:
            return str(error)

    found = side_by_side(ask, Potential("EMT", "", EMT(), evaluated), ["Cu", "W", "Ni"])
    assert found[1] == "no tungsten"
    assert [found[0], found[2]] == [results_of(crystal(symbol))["energy"] for symbol in ("Cu", "Ni")]


def test_one_that_ends_without_asking_keeps_no_other_waiting():
    collector, done = Collector(evaluated, 2), []

    def ask():
        with collector.one_of_all():
            atoms = crystal("Ni")
            atoms.calc = Waiting(collector)
            done.append(atoms.get_potential_energy())

    thread = threading.Thread(target=ask)
    thread.start()
    with pytest.raises(ValueError, match="hopeless"), collector.one_of_all():
        raise ValueError("hopeless")
    thread.join(timeout=20)
    assert len(done) == 1


def test_a_potential_that_takes_one_at_a_time_is_asked_one_by_one():
    names = side_by_side(lambda potential, task: (potential.calculator, task), Potential("EMT", "", "its own"), [1, 2])
    assert names == [("its own", 1), ("its own", 2)]


def test_chgnet_takes_many_and_the_processor_one_by_one():
    assert load_chgnet("cpu").evaluate is not None
    assert usual_batch() in (1, 32)
