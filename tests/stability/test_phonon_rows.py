"""Phonons of a run's candidates: what is kept, what is not computed twice, what is refused."""

import json
import shutil

import numpy as np
import pytest
from conftest import put_in
from pymatgen.core import Lattice, Structure

from crystalgan.errors import InputError
from crystalgan.runs.folder import SHIPPED, Run
from crystalgan.runs.run_zip import pack_run, unpack_run
from crystalgan.stability import phonons as module
from crystalgan.stability.phonon_rows import (
    compute_phonons,
    open_phonons,
    phonon_rows,
    phonon_task,
    result_of,
    vibrations_of,
)
from crystalgan.stability.relaxations import open_relaxed, relax_candidates, relaxed_rows
from crystalgan.stability.tasks import Task

EMT = "ase.calculators.emt.EMT"
SITES = [[0, 0, 0], [0.5] * 3]


@pytest.fixture(scope="module")
def computed(tmp_path_factory):
    """A run with phonons of two alloys: a stable one, and one that its mode leads away from."""
    folder = tmp_path_factory.mktemp("phonons") / "run"
    run, said = Run(shutil.copytree(SHIPPED / "Pd-Ni-H_shipped", folder)), []
    put_in(run, 1, Structure(Lattice.tetragonal(3.75 / np.sqrt(2), 3.75), ["Pd", "Ni"], SITES))
    put_in(run, 2, Structure(Lattice.cubic(2.9), ["Pd", "Ni"], SITES))
    relax_candidates(run, "1,2", EMT)
    found = compute_phonons(run, "1,2", EMT, progress=lambda *words: said.append(words))
    return run, found, said


@pytest.fixture
def run(computed, tmp_path):
    """A copy of it."""
    return Run(shutil.copytree(computed[0].folder, tmp_path / "run"))


def test_what_came_out_stands_in_its_database(computed):
    run, found, said = computed
    assert [one.candidate for one in found] == [1, 2]
    assert [one.state for one in found] == ["stable", "unstable"]
    assert said == [(1, 2, "1: stable"), (2, 2, "2: unstable")]
    assert str(found) == "2 candidates: 1 stable, 1 unstable, 0 failed"
    for one in found:
        (row,) = phonon_rows(run, "EMT", one.candidate)
        again = result_of(row)
        assert again.as_dict() == one.as_dict()
        assert str(again) == str(one)
        assert np.array_equal(again.phonons.bands.frequencies, one.phonons.bands.frequencies)
        assert again.phonons.bands.labels == one.phonons.bands.labels
    mode, again = found[2].phonons.imaginary, result_of(phonon_rows(run, candidate=2)[0])
    assert np.array_equal(again.phonons.imaginary.eigenvector, mode.eigenvector)
    assert found.table()["id"].tolist() == [1, 2]
    assert "<table" in found._repr_html_()


def test_the_end_of_a_mode_is_a_relaxed_phase(computed):
    run, found, _ = computed
    (phase,) = [row for row in relaxed_rows(run, "EMT") if row.phase]
    assert (phase.phase, phase.state) == ("candidate 2, imaginary mode followed", "converged")
    before = next(row for row in relaxed_rows(run, "EMT") if row.candidate == 2)
    end = found[2].followed
    assert phase.energy_per_atom == end.energy_per_atom < before.energy_per_atom - 0.001
    assert found[1].followed is None


def test_only_stable_cells_have_energies(computed):
    run, found, _ = computed
    (name,) = (vibrations := vibrations_of(run, "EMT"))
    assert name == found[1].formula
    assert vibrations[name].zero_point == found[1].phonons.zero_point
    assert (
        vibrations[name].free_energy == found[1].phonons.free_energy < vibrations[name].zero_point
    )


def test_what_is_done_is_not_done_again_but_anew_where_something_changed(run):
    before = {row.candidate: row.mtime for row in phonon_rows(run)}
    database = open_phonons(run)
    (row,) = database.select(candidate=1)
    database.update(row.id, state="failed", seconds=1.0)  # given up after a second
    said = []
    compute_phonons(run, "1,2", EMT, progress=lambda *words: said.append(words))
    assert said == [(2, 2, "1: stable")]
    after = {row.candidate: row.mtime for row in phonon_rows(run)}
    assert after[2] == before[2]
    (row,) = open_relaxed(run).select(candidate=2)
    atoms = row.toatoms()
    atoms.set_cell(1.001 * atoms.cell.array, scale_atoms=True)
    open_relaxed(run).update(row.id, atoms=atoms)  # relaxed anew, to another cell
    compute_phonons(run, "1,2", EMT, progress=lambda *words: said.append(words))
    assert said[1:] == [(2, 2, "2: unstable")]


def test_candidates_that_are_not_relaxed_are_named(run):
    with pytest.raises(
        InputError, match=r"not relaxed to the end with EMT ase [\d.]+: 3, 4; relax"
    ):
        compute_phonons(run, "1,3,4", EMT)
    with pytest.raises(InputError, match="ask for more than none"):
        compute_phonons(run, "1", EMT, seconds=0)


def test_what_takes_too_long_or_fails_is_said(run):
    task = Task(1, "", Structure(Lattice.cubic(2.9), ["Pd", "Ni"], SITES))
    outcome = phonon_task(EMT, 1e-6, task)
    assert outcome.columns == {"state": "failed", "seconds": 1e-6}
    assert outcome.data["reason"] == "took longer than 1e-06 s"
    outcome = phonon_task("faulty.NotANumber", 100, task)
    assert "not finite" in outcome.data["reason"]
    database = open_phonons(run)
    (row,) = database.select(candidate=1)
    database.update(row.id, state="failed", data={"reason": "for a reason"})
    found = result_of(phonon_rows(run, candidate=1)[0])
    assert (found.state, str(found)) == ("failed", "failed: for a reason")
    assert found.as_dict()["lowest_THz"] is None


def test_phonons_travel_with_the_run(run, tmp_path):
    zipped = tmp_path / "run.zip"
    zipped.write_bytes(pack_run(run))
    other = unpack_run(zipped, tmp_path / "there", "run.zip")
    rows, there = ({row.candidate: result_of(row) for row in phonon_rows(r)} for r in (run, other))
    assert {n: one.as_dict() for n, one in rows.items()} == {
        n: o.as_dict() for n, o in there.items()
    }


@pytest.mark.parametrize(
    ("part", "value", "said"),
    [
        ("frequencies", np.zeros((4, 5)), "phonons of another number of atoms"),
        ("band_labels", ["G"], "names of other points than there are"),
        ("mode", None, "an imaginary mode of a stable cell"),
        ("supercell", "2 x 2 x 2", "supercell"),
    ],
)
def test_damaged_phonons_are_one_sentence(run, part, value, said):
    database = open_phonons(run)
    (row,) = database.select(candidate=2)
    database.update(row.id, data=dict(row.data) | {part: value})
    with pytest.raises(
        InputError, match=rf"phonons.db: damaged \({said}.*compute the phonons again"
    ):
        phonon_rows(run)


def test_the_command_says_it_in_json_and_draws(run, crystalgan, tmp_path):
    figure = tmp_path / "bands.html"
    words = ("phonons", run.folder, "--select", "1,2", "--potential", EMT, "--figure", figure)
    code, out, _ = crystalgan(*words, "--json")
    answer = json.loads(out)
    assert (code, answer["stable"], answer["unstable"], answer["failed"]) == (0, 1, 1, 0)
    by_id = {one["id"]: one for one in answer["candidates"]}
    assert by_id[1]["lowest_THz"] > 0 > by_id[2]["lowest_THz"] + module.TOLERANCE
    assert by_id[1]["zero_point"] > 0
    assert by_id[2]["followed_lower"] > 0.001
    page = figure.read_text()
    assert page.count("<h3>") == 2
    assert page.count("Plotly.newPlot(") == 2
    code, _, err = crystalgan("phonons", run.folder, "--select", "7", "--potential", EMT)
    assert (code, err.count("\n")) == (2, 1)
    assert "relax these candidates first" in err
