"""A second potential on what a search found."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass

import numpy as np
import pytest
from pymatgen.core import Composition
from scipy.optimize import linprog

from crystalgan.discovery import phases as phases_module
from crystalgan.discovery.phases import Phases, phases_of_run
from crystalgan.discovery.record import RECORD, read_record
from crystalgan.discovery.verify import verify
from crystalgan.errors import InputError
from crystalgan.runs.database import structure_of
from crystalgan.runs.folder import Run
from crystalgan.stability import relaxations
from crystalgan.stability.references import builtin_references
from crystalgan.stability.relaxations import open_relaxed, relaxed_rows
from crystalgan.stability.tasks import loaded_potential

EMT = "ase.calculators.emt.EMT"
SPECIES = ("H", "Pd", "Ni")
FAR = "Pd-H MH3_UH3a"  # 0.4 eV/atom above the hull


def _few(species, *_):
    """The elements and two binaries: not all that competes has to be relaxed here."""
    builtin = builtin_references(species)
    names = {one.name for one in builtin[: len(species)]} | {"Pd-H MH_NaCl", "Ni-H MH_NaCl", FAR}
    return {one.name: one.structure for one in builtin if one.name in names}


@pytest.fixture(autouse=True)
def _few_references(monkeypatch):
    monkeypatch.setattr(relaxations, "reference_structures", _few)


@pytest.fixture
def run(searched_folder, tmp_path):
    return Run(shutil.copytree(searched_folder, tmp_path / searched_folder.name))


@dataclass(frozen=True)
class Twice:
    """A search verified twice, its lowest phase first, then all."""

    run: Run
    lowest: Phases
    every: Phases
    said: list[tuple]  # by the second


@pytest.fixture(scope="module")
def twice(searched_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("twice") / searched_folder.name
    run, said = Run(shutil.copytree(searched_folder, folder)), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(relaxations, "reference_structures", _few)
        lowest = verify(run, EMT, most=1)
        return Twice(run, lowest, verify(run, EMT, progress=lambda *w: said.append(w)), said)


def _hull(rows, formula):
    """The lowest energy of a mixture of this composition, eV/atom."""
    shares = [Composition(row.formula).fractional_composition for row in rows]
    equal = [[share[symbol] for share in shares] for symbol in SPECIES]
    wanted = Composition(formula).fractional_composition
    energies = [row.energy_per_atom for row in rows]
    return linprog(energies, A_eq=equal, b_eq=[wanted[symbol] for symbol in SPECIES]).fun


def test_both_energies_stand_side_by_side(twice):
    before, found = phases_of_run(twice.run), twice.every
    assert found.verified.potential == "EMT"
    assert found.verified.phases == len(found.table) == len(before.table) > 1
    same = ["id", "formula", "above_hull", "source", "known"]
    assert found.table[same].equals(before.table[same])
    assert "above_hull_verified" not in before.table  # unless asked for
    rows = relaxed_rows(twice.run, "EMT")
    assert {row.version for row in rows} == {loaded_potential(EMT).version}
    converged = [row for row in rows if row.state == "converged"]
    for row in converged:
        if not row.candidate:
            continue
        atoms = structure_of(row).to_ase_atoms()
        atoms.calc = loaded_potential(EMT).calculator
        assert row.energy_per_atom == pytest.approx(atoms.get_potential_energy() / len(atoms))
        (above,) = found.table.loc[found.table["id"] == row.candidate, "above_hull_verified"]
        assert above == pytest.approx(row.energy_per_atom - _hull(converged, row.formula), abs=1e-6)


def test_what_competes_comes_first_and_what_is_there_is_left(twice):
    rows = relaxed_rows(twice.run, "EMT")
    ids = [row.candidate for row in rows]
    lowest = int(twice.lowest.table["id"].iloc[0])
    assert ids == sorted(ids, key=lambda i: (i > 0, i != lowest))
    assert FAR not in [row.phase for row in rows]
    assert "Pd-H MH_NaCl" in [row.phase for row in rows]
    assert twice.lowest.verified.phases == 1
    known = twice.lowest.table.set_index("id")["above_hull_verified"]
    assert known[known.notna()].index.tolist() == [lowest]
    assert [done for done, *_ in twice.said] == list(range(ids.index(lowest) + 2, len(rows) + 1))
    assert {of for _, of, _ in twice.said} == {len(rows)}


def test_it_starts_from_the_relaxed_cells(twice):
    starts = {row.candidate: structure_of(row) for row in relaxed_rows(twice.run, "CHGNet")}
    for row in relaxed_rows(twice.run, "EMT"):
        if row.candidate:
            volume = abs(np.linalg.det(row.data["lattices"][0]))
            assert volume == pytest.approx(starts[row.candidate].volume, rel=1e-6)


def test_the_search_keeps_its_own_potential(run):
    """Also where the second sorts before it, as CHGNet does."""
    for row in relaxed_rows(run):
        if row.settings == "discovery":
            open_relaxed(run).update(row.id, potential="Mine")
    names = [phases_module.potential_of(run)]
    row = next(iter(relaxed_rows(run)))
    columns = row.key_value_pairs | {"potential": "CHGNet", "settings": "300 steps"}
    open_relaxed(run).write(row.toatoms(), key_value_pairs=columns, data=row.data)
    names.append(phases_module.potential_of(run))
    assert names == ["Mine", "Mine"]


def test_refusals(run):
    with pytest.raises(InputError, match="nothing is relaxed with EMT yet"):
        phases_of_run(run, "EMT")
    with pytest.raises(InputError, match="The search itself took CHGNet; verify it with another"):
        verify(run, "chgnet")
    with pytest.raises(InputError, match="is no potential"):
        verify(run, "nothing")
    assert {row.potential for row in relaxed_rows(run)} == {"CHGNet"}
    (run.folder / "relaxed.db").unlink()
    with pytest.raises(InputError, match="no phase is found yet that could be verified"):
        verify(run, EMT)


def test_the_command(twice, crystalgan):
    spent = read_record(twice.run).cpu_seconds
    code, out, err = crystalgan("discover", twice.run.folder, "--verify", EMT, "--json")
    assert code == 0, err
    assert read_record(twice.run).cpu_seconds == spent  # it searched no further
    assert "discover:" not in err
    said = json.loads(out)
    assert said == json.loads(json.dumps(twice.every.as_dict()))
    assert said["verified"]["potential"] == "EMT"
    assert all(isinstance(phase["above_hull_verified"], float) for phase in said["phases"])
    assert "verified" not in phases_of_run(twice.run).as_dict()


def test_lines_have_both(twice):
    lines = twice.every.lines()
    assert "  verified " in lines[1]
    for line, row in zip(lines[2:], twice.every.table.itertuples(), strict=False):
        assert f" {row.above_hull:.3f} " in line
        assert f" {row.above_hull_verified:.3f}" in line
    assert any(line.startswith("verified: relaxed with EMT ase") for line in lines)
    assert "verified" in twice.every._repr_html_()
    first, second = twice.lowest.lines()[2:4]
    assert len(first.split()) == len(second.split()) + 1  # where nothing is known nothing is said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--verify", "nothing"), "is no potential"),
        (("--verify", "chgnet"), "The search itself took CHGNet"),
        (("--verify", "chgnet", "--minutes", "1000"), "The search itself took CHGNet"),
    ],
)
def test_what_cannot_be_is_said_before_any_search(run, crystalgan, words, said):
    code, _, err = crystalgan("discover", run.folder, *words)
    assert code == 2
    assert said in err
    code, _, err = crystalgan("discover", "Pd", "Ni", *words, "--runs", run.folder.parent / "new")
    assert code == 2
    assert said in err
    assert not (run.folder.parent / "new").exists()


def test_a_folder_does_not_say_what_is_run(run, crystalgan):
    """A potential with arguments, or a file, that a folder from elsewhere names is not loaded."""
    about = json.loads((run.folder / RECORD).read_text())
    about["settings"]["potential"] = "subprocess.run:args='touch x'"
    (run.folder / RECORD).write_text(json.dumps(about))
    code, _, err = crystalgan("discover", run.folder, "--minutes", "1000")
    assert code == 2
    assert "is a file or has arguments; go on with the two metals" in err
