"""Novelty: a candidate that matches something known says what."""

import csv
import io
import zipfile

import ase.io
import pytest
from conftest import NO_POTENTIAL

from crystalgan.config import Config
from crystalgan.data.known import known_structures
from crystalgan.errors import InputError
from crystalgan.runs.candidates import compare_with_known, generate
from crystalgan.runs.database import candidates_table, compared_with, load_candidate, open_database
from crystalgan.runs.training import train
from crystalgan.stability.export import export
from crystalgan.stability.references import other_structures
from crystalgan.studies.benchmark import ternary_types
from crystalgan.studies.rediscovery import known_ternaries


def disguised(structure):
    """The same crystal in a supercell, moved and slightly strained."""
    other = structure.copy().make_supercell([[1, 0, 0], [0, 2, 0], [0, 1, 1]])
    other.translate_sites(range(len(other)), [0.1, 0.2, 0.3])
    return other.apply_strain(0.01)


def test_built_in_cells_are_known_by_their_name(palladium):
    known = known_structures(("H", "Pd", "Ni"))
    for entry in palladium.entries:
        assert known.find(disguised(entry.structure)) == f"built-in Pd-H, {entry.info['prototype']}"
    alloyed = palladium.structures[0].copy()
    alloyed.replace(next(i for i, site in enumerate(alloyed) if site.specie.symbol == "Pd"), "Ni")
    assert known.find(alloyed) is None
    assert known_structures(("H", "Mg", "Ti")).find(palladium.structures[0]) is None


def test_candidates_that_match_a_users_file_say_which(tmp_path, palladium, nickel):
    run = train(palladium, nickel, Config(epochs1=2, epochs2=2, **NO_POTENTIAL), tmp_path / "runs")
    counts = generate(run, 12)
    assert counts.new == 12
    table = candidates_table(run)
    assert table["new"].all()
    assert set(table["matches"]) == {""}

    first = load_candidate(run, 1)
    atoms = disguised(first).to_ase_atoms()
    atoms.info = {"id": "ref-17", "provider": "some-database"}
    ase.io.write(
        tmp_path / "known.extxyz", [atoms, palladium.structures[0].to_ase_atoms()], format="extxyz"
    )
    note = open_database(run).get(id=1).data
    built_in = counts.known.structures
    assert counts.known.as_dict() == {
        "structures": built_in,
        "ternary": 0,
        "files": [],
        "not_compared": [],
        "builtin_ternary": 0,
    }
    assert built_in == len(palladium) + len(nickel)
    assert compared_with(run) == counts.known
    compared = compare_with_known(run, [tmp_path / "known.extxyz"])
    assert (compared.candidates, compared.new) == (12, 11)
    assert compared.known.as_dict() == {
        "structures": built_in + 2,
        "ternary": 1,
        "files": ["known.extxyz"],
        "not_compared": [],
        "builtin_ternary": 0,
    }
    assert compared_with(run) == compared.known
    table = candidates_table(run).set_index("id")
    assert not table.loc[1, "new"]
    assert table.loc[1, "matches"] == "some-database ref-17"
    after = open_database(run).get(id=1).data
    assert {k: v for k, v in after.items() if k != "matches"} == {
        k: v for k, v in note.items() if k != "matches"
    }

    again = generate(run, 13, known=[tmp_path / "known.extxyz"])
    assert (again.candidates, again.new) == (13, 12)
    assert compared_with(run) == again.known == compared.known
    assert generate(run, 13).known.ternary == 0
    # nothing was made, so what they were compared with is as before
    assert compared_with(run) == compared.known
    generate(run, 14)
    assert compared_with(run).ternary == 0  # one of them was compared with less
    export(run, tmp_path / "all.zip", "all")
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        rows = list(csv.DictReader(io.StringIO(archive.read("candidates.csv").decode())))
    assert [row["matches"] for row in rows if row["matches"]] == ["some-database ref-17"]


def test_an_empty_answer_of_a_database_is_no_error(tmp_path, palladium):
    (tmp_path / "H-Ni-Pd.extxyz").touch()
    assert known_structures(("H", "Pd"), [tmp_path / "H-Ni-Pd.extxyz"]).find(
        palladium.structures[0]
    )


def test_a_known_path_that_cannot_serve_is_named(tmp_path):
    with pytest.raises(InputError, match="nowhere: there is no such file"):
        known_structures(("H", "Pd"), [tmp_path / "nowhere"])
    (tmp_path / "cut.vasp").write_text("cut\n1.0\n")
    with pytest.raises(
        InputError, match=r"holds no structure that can be read \(.*cut\.vasp: cut short"
    ):
        known_structures(("H", "Pd"), [tmp_path])


def test_what_could_not_be_compared_is_told_without_folders(tmp_path, palladium, nickel):
    folder = tmp_path / "known"
    (folder / "old").mkdir(parents=True)
    poscar = "x\n1.0\n3 0 0\n0 3 0\n0 0 3\nPd Ni H\n1 1 1\nDirect\n0 0 0\n.5 .5 .5\n.5 .5 0\n"
    (folder / "ternary.vasp").write_text(poscar)
    (folder / "old" / "ternary.vasp~").write_text(poscar)
    (folder / "old" / "cut.vasp").write_text("\n".join(poscar.splitlines()[:8]))
    ase.io.write(
        folder / "others.extxyz", [nickel.structures[0].to_ase_atoms()] * 2, format="extxyz"
    )
    ase.io.write(
        tmp_path / "all.extxyz",
        [c.structures[0].to_ase_atoms() for c in (nickel, palladium)],
        format="extxyz",
    )
    ase.io.write(tmp_path / "ni.extxyz", [nickel.structures[0].to_ase_atoms()], format="extxyz")
    report = known_structures(
        ("H", "Pd", "Mg"), [folder, tmp_path / "all.extxyz", tmp_path / "ni.extxyz"]
    ).report()
    assert report.ternary == 0
    assert report.files == ("known", "all.extxyz", "ni.extxyz")
    assert list(report.not_compared) == [
        ("old/cut.vasp", "cut short at line 8: 3 atoms announced, 0 positions found"),
        ("old/ternary.vasp~", "is a backup of ternary.vasp; give it another name to read it"),
        ("known", "all of its 3 structures hold other elements (Ni)"),
        ("all.extxyz", "1 of its 2 structures hold other elements (Ni)"),
        ("ni.extxyz", "all of its 1 structures hold other elements (Ni)"),
    ]
    assert str(tmp_path) not in " ".join(report.lines())
    assert "not compared: old/cut.vasp: cut short" in "\n".join(report.lines())
    report = known_structures(("H", "Pd", "Ni"), [folder]).report()
    assert (report.ternary, len(report.not_compared)) == (1, 2)


def test_a_run_that_noted_nothing_is_compared_with_nobody_knows_what(tmp_path, palladium, nickel):
    run = train(palladium, nickel, Config(epochs1=1, epochs2=1, **NO_POTENTIAL), tmp_path / "runs")
    assert compared_with(run) is None
    generate(run, 2)
    database = open_database(run)
    database.metadata = {k: x for k, x in database.metadata.items() if k != "known"}
    generate(run, 3)
    assert compared_with(run) is None


def test_what_other_commands_leave_out_of_a_users_files_is_said(tmp_path):
    poscar = "x\n1.0\n3 0 0\n0 3 0\n0 0 3\nPd Ni H\n1 1 1\nDirect\n0 0 0\n.5 .5 .5\n.5 .5 0\n"
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "POSCAR").write_text(
            poscar.replace("1.0", "1.1") if name == "b" else poscar
        )
    (tmp_path / "POSCAR_binary").write_text(poscar.replace("Ni", "Pd", 1))
    (tmp_path / "POSCAR_other").write_text(poscar.replace("Ni", "Mg", 1))
    (tmp_path / "POSCAR_cut").write_text("x\n1.0\n")
    said: list[str] = []
    phases = other_structures(("H", "Pd", "Ni"), [tmp_path], said.append)
    assert len(phases) == 3  # those of one name in two folders are two
    assert [x.removeprefix(f"{tmp_path}") for x in said] == [
        "/POSCAR_cut: cut short at line 2, inside the lattice",
        ": 1 of its 4 cells hold other elements than H-Pd-Ni",
    ]
    said.clear()
    assert len(ternary_types([tmp_path], "H", ("Pd", "Ni"), said.append)) == 3
    assert "POSCAR_cut: cut short" in said[0]
    assert said[1] == f"{tmp_path}: 1 of its 4 cells are not of H and two metals"
    with pytest.raises(InputError, match="POSCAR_binary: holds no ternary structure"):
        ternary_types([tmp_path / "a", tmp_path / "POSCAR_binary"], "H", ("Pd", "Ni"))
    said.clear()
    assert len(known_ternaries(tmp_path, "H", said.append)) == 4
    assert said == [f"{tmp_path}/POSCAR_cut: cut short at line 2, inside the lattice"]
