"""Relaxed candidates: what is kept of them, what survives a crash or a kill, and what is
refused."""

import hashlib
import io
import json
import os
import shutil
import subprocess
import time
import zipfile

import ase.io
import numpy as np
import pandas as pd
import pytest
from ase.calculators.emt import EMT
from conftest import nearly_symmetric, put_in
from processes import command
from pymatgen.core import Composition, Lattice, Structure

from crystalgan.data.classes import load_class
from crystalgan.data.prototypes import compounds_of
from crystalgan.errors import InputError
from crystalgan.runs.database import load_candidate, structure_of
from crystalgan.runs.folder import SHIPPED, Run
from crystalgan.stability import references
from crystalgan.stability.export import export
from crystalgan.stability.hull import above_hull, diagram_of, lacks_compounds
from crystalgan.stability.relaxations import (
    Relaxations,
    frame_of,
    open_relaxed,
    relax_candidates,
    relaxed_rows,
    symmetric_of,
)
from crystalgan.stability.table import agree, phases_of, stability_of, table_of, trust_in_words
from crystalgan.stability.tasks import (
    FMAX,
    SECONDS,
    Settings,
    Task,
    about_potential,
    largest_displacement,
    rattled,
    runaway,
    symmetrize_task,
)
from crystalgan.stability.workers import Workers

EMT_NAME = "ase.calculators.emt.EMT"


@pytest.fixture
def run(tmp_path):
    """The shipped run, without any relaxation."""
    return Run(shutil.copytree(SHIPPED / "Pd-Ni-H_shipped", tmp_path / "run"))


def simple_cells():
    """Cells that EMT relaxes in few steps: ordered PdNi alloys with hydrogen in the octahedra."""
    out = []
    for shift, a in enumerate((3.75, 3.85, 3.95)):
        frac = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0]]
        out.append(
            Structure(
                Lattice.tetragonal(a / np.sqrt(2), a), ["Pd", "Ni", "H"], np.add(frac, 0.01 * shift)
            )
        )
    return out


@pytest.fixture
def simple_run(run):
    for number, structure in enumerate(simple_cells(), 1):
        put_in(run, number, structure)
    return run


@pytest.fixture(scope="module")
def relaxed_once(tmp_path_factory):
    """A run whose first three candidates EMT has relaxed, and what was said of it."""
    folder = tmp_path_factory.mktemp("relaxed") / "run"
    run, said = Run(shutil.copytree(SHIPPED / "Pd-Ni-H_shipped", folder)), []
    for number, structure in enumerate(simple_cells(), 1):
        put_in(run, number, structure)
    before = candidates_of(run)
    done = relax_candidates(run, "1,2,3", EMT_NAME, progress=lambda *words: said.append(words))
    assert candidates_of(run) == before
    return run, done, said


@pytest.fixture
def relaxed_run(relaxed_once, tmp_path):
    """A copy of it."""
    return Run(shutil.copytree(relaxed_once[0].folder, tmp_path / "relaxed"))


def candidates_of(run):
    return hashlib.sha256((run.folder / "candidates.db").read_bytes()).hexdigest()


def emt(structure):
    atoms = structure.to_ase_atoms()
    atoms.calc = EMT()
    return atoms


def test_what_became_of_a_candidate_stands_beside_it(relaxed_once):
    simple_run, done, said = relaxed_once
    assert done == Relaxations(3, 3, 0)
    assert str(done) == "3 candidates relaxed, 3 of them converged, 0 failed"
    assert said == [(k, 3, f"{k}: converged") for k in (1, 2, 3)]
    for row in relaxed_rows(simple_run):
        start, end = load_candidate(simple_run, row.candidate), structure_of(row)
        assert (row.potential, row.state, row.settings) == ("EMT", "converged", "300 steps")
        assert row.version.startswith("ase ")
        energies = row.data["energies"]
        assert len(energies) == row.steps + 1
        assert energies[0] == pytest.approx(
            emt(start).get_potential_energy() / len(start), abs=1e-9
        )
        assert row.energy_per_atom == pytest.approx(
            emt(end).get_potential_energy() / len(end), abs=1e-9
        )
        assert abs(emt(end).get_forces()).max() <= row.force <= FMAX
        assert row.volume_change == pytest.approx(100 * (end.volume / start.volume - 1))
        assert frame_of(row, 0).lattice.abc == pytest.approx(start.lattice.abc, rel=1e-6)
        assert frame_of(row, -1).volume == pytest.approx(end.volume, rel=1e-5)


def test_relaxed_cells_are_exported_where_they_are_asked_for(relaxed_once, tmp_path):
    run, out = relaxed_once[0], tmp_path / "relaxed.zip"
    assert export(run, out, "1,3", file_format="extxyz", relaxed="EMT") == 2
    with zipfile.ZipFile(out) as archive:
        names = [name for name in archive.namelist() if name.endswith(".extxyz")]
        cells = [ase.io.read(io.StringIO(archive.read(n).decode()), format="extxyz") for n in names]
        table = pd.read_csv(io.BytesIO(archive.read("candidates.csv")))
        assert json.loads(archive.read("provenance.json"))["relaxed_with"] == "EMT"
    assert table["relaxed_with"].tolist() == ["EMT", "EMT"]
    rows = {row.candidate: row for row in relaxed_rows(run)}
    for cell, number in zip(cells, (1, 3), strict=True):
        assert (cell.info["id"], cell.info["relaxed_with"]) == (number, "EMT")
        cell.calc = EMT()
        energy = cell.get_potential_energy() / len(cell)
        assert energy == pytest.approx(rows[number].energy_per_atom, abs=1e-6)
        assert abs(cell.get_forces()).max() <= FMAX
    with pytest.raises(InputError, match=r"2 of the selected candidates \(4, 5\) are not relaxed"):
        export(run, out, "3,4,5", relaxed="EMT")
    with pytest.raises(InputError, match="There are relaxed cells of EMT"):
        export(run, out, "3", relaxed="CHGNet")
    assert zipfile.is_zipfile(out)


def test_what_is_done_is_not_done_again(relaxed_run):
    said = []
    before = {row.candidate: row.mtime for row in relaxed_rows(relaxed_run)}
    database = open_relaxed(relaxed_run)
    database.delete([next(row.id for row in database.select(candidate=2))])
    done = relax_candidates(
        relaxed_run, "1,2", EMT_NAME, progress=lambda *words: said.append(words)
    )
    assert (done, said) == (Relaxations(2, 2, 0), [(2, 2, "2: converged")])
    again = {row.candidate: row.mtime for row in relaxed_rows(relaxed_run)}
    assert [number for number in again if again[number] != before[number]] == [2]
    # otherwise than before: replaced
    relax_candidates(relaxed_run, "1", EMT_NAME, Settings(steps=2))
    (row,) = relaxed_rows(relaxed_run, candidate=1)
    assert (row.settings, row.state) == ("2 steps", "unfinished")


def test_a_cell_that_crashes_its_process_harms_no_other(run):
    rows = {number: load_candidate(run, number) for number in range(1, 9)}
    for number, structure in zip((1, 2, 3), simple_cells(), strict=True):
        put_in(run, number, structure)
    large = [number for number, structure in rows.items() if len(structure) > 9 and number > 3][:2]
    ids = ",".join(map(str, (1, *large, 2, 3)))
    assert relax_candidates(run, ids, "faulty.Crashes", jobs=2) == Relaxations(3, 3, 2)
    for row in relaxed_rows(run):
        assert (row.state == "failed") == (row.candidate in large)
        if row.state == "failed":
            assert "process that relaxed it ended" in row.data["reason"]
            assert structure_of(row).lattice.abc == pytest.approx(
                load_candidate(run, row.candidate).lattice.abc
            )


def test_several_processes_leave_a_gpu_alone(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    for processes, seen in ((1, "0"), (2, "")):
        with Workers(processes) as workers:
            assert workers.call(os.getenv, "CUDA_VISIBLE_DEVICES") == seen


def test_a_crash_while_the_potential_loads_is_a_sentence():
    with Workers(1) as workers, pytest.raises(InputError, match="too little memory"):
        workers.call(os._exit, 9)


def test_a_structure_that_takes_too_long_is_given_up(simple_run):
    """The others go on; with more time it is tried again, and what was done in time is not."""
    put_in(simple_run, 2, simple_cells()[1].make_supercell([2, 1, 1]).perturb(0.1, seed=1))
    assert relax_candidates(
        simple_run, "1,2,3", "faulty.Slow", Settings(seconds=40)
    ) == Relaxations(2, 2, 1)
    rows = {row.candidate: row for row in relaxed_rows(simple_run)}
    assert rows[2].data["reason"] == "took longer than 40 s"
    relax_candidates(simple_run, "1,2,3", "faulty.Slow", Settings(seconds=40))
    assert {row.candidate: row.mtime for row in relaxed_rows(simple_run)} == {
        i: row.mtime for i, row in rows.items()
    }
    assert relax_candidates(simple_run, "1,2,3", "faulty.Slow", Settings(steps=300)).failed == 0
    again = {row.candidate: row.mtime for row in relaxed_rows(simple_run)}
    assert [number for number in rows if again[number] != rows[number].mtime] == [2]
    with pytest.raises(InputError, match="0 seconds a structure"):
        Settings(seconds=0)


def test_an_energy_that_is_no_number_is_a_reason(simple_run):
    assert relax_candidates(simple_run, "1", "faulty.NotANumber") == Relaxations(0, 0, 1)
    assert "energy that is not finite" in relaxed_rows(simple_run)[0].data["reason"]
    table = table_of(simple_run, "NotANumber", None)
    assert table["state"].tolist() == ["failed"]


def test_what_runs_away_says_where_to():
    cell = Structure(
        Lattice.cubic(4), ["Pd", "H", "H"], [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0.7]]
    )
    start = Structure(cell.lattice, cell.species, [[0, 0, 0], [0.5, 0.5, 0.5], [0, 0.5, 0]])
    assert runaway(cell, cell) is None  # it was one from the start
    assert runaway(start, cell) == "hydrogen became a molecule, H-H 0.80 Å"
    cell.translate_sites([2], [0, 0, 0.2])
    assert runaway(start, cell) is None
    assert "2.7 times" in runaway(start, cell.copy().scale_lattice(175))
    assert "0.3 times" in runaway(start, cell.copy().scale_lattice(20))


def test_displacement_knows_no_origin_and_no_strain():
    cell = simple_cells()[0]
    other = Structure(Lattice(1.1 * cell.lattice.matrix), cell.species, cell.frac_coords + 0.9)
    assert largest_displacement(cell, other) == pytest.approx(0, abs=1e-9)
    moved = cell.copy()
    moved.translate_sites([2], [0.3, 0, 0], frac_coords=False)
    # 0.3 Å, and the others 0.1 Å the other way
    assert largest_displacement(cell, moved) == pytest.approx(0.2)


def test_shaking_is_by_a_twelfth_of_an_angstrom():
    cell = simple_cells()[0].make_supercell(4)
    moved = rattled(cell, 3)
    shift = moved.frac_coords - cell.frac_coords
    assert np.std((shift - np.round(shift)) @ moved.lattice.matrix) == pytest.approx(0.08, rel=0.1)
    assert moved == rattled(cell, 3)
    assert moved.lattice != rattled(cell, 4).lattice


def test_symmetry_is_kept_or_shaken_off(simple_run):
    put_in(simple_run, 1, nearly_symmetric()[0])
    relax_candidates(simple_run, "1", EMT_NAME, Settings(symmetry=True))
    (row,) = relaxed_rows(simple_run)
    assert (row.spacegroup, row.settings) == (123, "300 steps, symmetry kept")
    plain = row.energy_per_atom
    relax_candidates(simple_run, "1", EMT_NAME, Settings(rattle=True))
    (row,) = relaxed_rows(simple_run)
    assert row.state == "converged"
    # what the shaking found counts only where it is lower
    assert row.energy_per_atom <= plain + 1e-6
    with pytest.raises(InputError, match="`rattle` breaks the symmetry that `symmetry` keeps"):
        Settings(rattle=True, symmetry=True)
    with pytest.raises(InputError, match="0 steps"):
        Settings(steps=0)


def test_a_higher_symmetry_is_offered(relaxed_run):
    relax_candidates(relaxed_run, "1", EMT_NAME, raise_symmetry=0.1)
    (row,) = relaxed_rows(relaxed_run, candidate=1)
    assert row.data["refined"]["text"].startswith("No symmetry above ")
    off = rattled(structure_of(row), 1)
    outcome = symmetrize_task(EMT_NAME, 0.3, SECONDS, Task(1, "", off))
    assert outcome.columns["spacegroup"] == row.spacegroup
    assert outcome.columns["energy_per_atom"] == pytest.approx(row.energy_per_atom, abs=0.002)


def test_the_offered_cell_is_read_back(relaxed_run):
    (row,) = relaxed_rows(relaxed_run, candidate=1)
    moved = structure_of(row).perturb(0.02, seed=0)
    energy = emt(moved).get_potential_energy() / len(moved)
    open_relaxed(relaxed_run).update(row.id, atoms=moved.to_ase_atoms(), energy_per_atom=energy)
    relax_candidates(relaxed_run, "1", EMT_NAME, raise_symmetry=0.1)
    (row,) = relaxed_rows(relaxed_run, candidate=1)
    refined = row.data["refined"]
    assert "here it is" in refined["text"]
    cell = symmetric_of(row)
    assert emt(cell).get_potential_energy() / len(cell) == pytest.approx(
        refined["energy_per_atom"], abs=1e-9
    )
    assert refined["energy_per_atom"] <= row.energy_per_atom + 0.001


@pytest.mark.parametrize(
    ("potential", "words"),
    [
        ("chgnett", "is no potential; give chgnet, sevennet"),
        ("no.such.Calculator", "cannot be loaded .No module named 'no'"),
        ("ase.calculators.emt.ETM", "the module ase.calculators.emt has no ETM"),
    ],
)
def test_an_unknown_potential_is_a_sentence(potential, words):
    with pytest.raises(InputError, match=words):
        about_potential(potential, ("H", "Pd", "Ni"))


def test_an_unknown_potential_leaves_nothing(simple_run):
    with pytest.raises(InputError, match="is no potential; give chgnet, sevennet"):
        relax_candidates(simple_run, "1", "chgnett")
    assert not relaxed_rows(simple_run)


def test_nothing_selected_is_a_sentence(simple_run):
    with pytest.raises(InputError, match="no candidate is selected by 'kept'"):
        relax_candidates(simple_run, "kept", EMT_NAME)


def test_an_unknown_element_is_a_sentence():
    with pytest.raises(InputError, match="EMT gives no energy for Mg, Ti; choose another"):
        about_potential(EMT_NAME, ("H", "Mg", "Ti"))


def test_a_damaged_database_is_a_sentence(simple_run):
    (simple_run.folder / "relaxed.db").write_bytes(b"no database" * 100)
    with pytest.raises(InputError, match=r"relaxed.db: damaged"):
        relaxed_rows(simple_run)


def test_other_phases_compete_and_what_is_missing_is_said(relaxed_run, tmp_path, monkeypatch):
    simple_run = relaxed_run
    compounds = {"NiPd CsCl", "NiPd3 Cu3Au", "Ni3Pd Cu3Au"}  # three of eighteen, for the time
    of_both = {name: cell for name, cell in compounds_of("Pd", "Ni").items() if name in compounds}
    assert set(of_both) == compounds
    monkeypatch.setattr("crystalgan.data.prototypes.compounds_of", lambda *_: of_both)
    with pytest.raises(
        InputError,
        match=r"H2_hcp, Pd fcc, Ni fcc are not relaxed with EMT .*; for energies .* `references`",
    ):
        phases_of(simple_run, "EMT")
    with pytest.raises(InputError, match="nothing is relaxed with CHGNet"):
        phases_of(simple_run, "CHGNet")
    other = tmp_path / "alloy.vasp"
    Structure(Lattice.tetragonal(2.65, 3.75), ["Pd", "Ni"], [[0, 0, 0], [0.5, 0.5, 0.5]]).to(
        str(other), "poscar"
    )
    elements = references.builtin_references(simple_run.species)[:3]
    monkeypatch.setattr(references, "builtin_references", lambda *_: elements)
    relax_candidates(simple_run, "1,2", EMT_NAME, references=True, phases=[other])
    phases = phases_of(simple_run, "EMT")
    assert {phase.name for phase in phases} >= {
        "H H2_hcp",
        "Pd fcc",
        "Ni fcc",
        "alloy.vasp NiPd",
        "candidate 1",
    } | compounds
    assert not lacks_compounds(diagram_of(phases), simple_run.species)
    without = diagram_of(
        [
            phase
            for phase in phases
            if {"Pd", "Ni"} != set(Composition(phase.formula).get_el_amt_dict())
        ]
    )
    assert "No compound of Pd with Ni is among what competes" in lacks_compounds(
        without, simple_run.species
    )
    done = {row.id: row.mtime for row in relaxed_rows(simple_run, "EMT") if row.phase}
    relax_candidates(
        simple_run, "1", EMT_NAME, Settings(steps=200), references=True, phases=[other]
    )
    # phases once, however relaxed
    assert {row.id: row.mtime for row in relaxed_rows(simple_run, "EMT") if row.phase} == done
    phases = phases_of(simple_run, "EMT")
    table = table_of(simple_run, "EMT", diagram_of(phases))
    expected = above_hull([p.formula for p in phases], [p.energy for p in phases])
    by_id = {p.candidate: e for p, e in zip(phases, expected, strict=True) if p.candidate}
    assert dict(zip(table["id"], table["above_hull"], strict=True)) == pytest.approx(by_id)
    (tmp_path / "none.vasp").write_text(other.read_text().replace("Pd", "Cu"))
    with pytest.raises(
        InputError, match=r"none.vasp: holds no phase that competes .* H-Pd-Ni alone"
    ):
        relax_candidates(simple_run, "1", EMT_NAME, phases=[tmp_path / "none.vasp"])


def test_potentials_that_do_not_agree_are_marked(relaxed_run, monkeypatch):
    simple_run = relaxed_run
    elements = references.builtin_references(simple_run.species)[:3]
    monkeypatch.setattr(references, "builtin_references", lambda *_: elements)
    monkeypatch.setattr("crystalgan.data.prototypes.compounds_of", lambda *_: {})
    relax_candidates(simple_run, "1,2", EMT_NAME, references=True)
    assert "apart" not in stability_of(simple_run, "EMT")[1]
    relax_candidates(simple_run, "2", "faulty.Higher")
    assert "apart" not in stability_of(simple_run, "EMT")[1]  # its elements are missing
    relax_candidates(simple_run, "2", "faulty.Higher", references=True)
    for potential in ("EMT", "Higher"):
        _, table, problem = stability_of(simple_run, potential)
        assert not problem
        by_id = table.set_index("id")
        assert by_id["apart"].dropna().to_dict() == {2: pytest.approx(0.2, abs=1e-6)}
        assert by_id["same_cell"][2]
    assert (
        "do not agree: formation energies 200 meV/atom apart, relaxed to the same cell"
        in trust_in_words(0.2, same_cell=True)
    )
    assert agree(0.01, same_cell=True)
    assert not agree(0.01, same_cell=False)


@pytest.mark.slow
def test_a_kill_in_the_middle_loses_and_repeats_nothing(run):
    """A real process, killed as by a power cut; its workers end too."""
    words = [
        "relax",
        str(run.folder),
        "--select",
        "1,2,3,4",
        "--potential",
        EMT_NAME,
        "--steps",
        "40",
        "--json",
    ]
    process = command(*words)
    deadline = time.monotonic() + 300
    while len(relaxed_rows(run)) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    children = subprocess.run(
        ["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=False
    ).stdout.split()
    process.process.kill()
    process.wait()
    before = {row.candidate: row.mtime for row in relaxed_rows(run)}
    assert 2 <= len(before) < 4
    while (
        any(os.path.exists(f"/proc/{child}") for child in children)  # noqa: PTH110
        and time.monotonic() < deadline
    ):
        time.sleep(0.05)
    assert not any(os.path.exists(f"/proc/{child}") for child in children)  # noqa: PTH110
    assert command(*words).wait() == 0
    after = {row.candidate: row.mtime for row in relaxed_rows(run)}
    assert len(relaxed_rows(run)) == len(after) == 4
    assert {number: after[number] for number in before} == before


@pytest.mark.slow
def test_chgnet_agrees_with_the_built_in_classes(run):
    """Cells that were relaxed already stay, and the hull of the class is that of the data card."""
    cells = [cell for cell in load_class("Pd").entries if len(cell.structure) <= 3][:2]
    for number, cell in enumerate(cells, 1):
        put_in(run, number, cell.structure)
    assert relax_candidates(run, "1,2").converged == 2
    table = table_of(run, "CHGNet", diagram_of(phases_of(run, "CHGNet"))).set_index("id")
    for number, cell in enumerate(cells, 1):
        row = table.loc[number]
        assert row["energy_per_atom"] == pytest.approx(cell.info["energy_per_atom"], abs=1e-4)
        assert row["formation_energy"] == pytest.approx(
            cell.info["formation_energy_per_atom"], abs=1e-4
        )
