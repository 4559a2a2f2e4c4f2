"""Candidates: counts, duplicates, export; every file read again and judged by pymatgen alone."""

import csv
import io
import zipfile
from collections import Counter

import ase.db
import ase.io
import numpy as np
import pytest
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure
from test_geometry import independent_paper_verdict

from crystalgan import InputError
from crystalgan.archive import export, select
from crystalgan.candidates import (
    candidates_table,
    decide,
    generate,
    load_candidate,
    open_database,
    structure_of,
)
from crystalgan.config import Config
from crystalgan.matching import Seen
from crystalgan.training import train


def test_counts_are_those_of_the_database(small_run):
    counts = generate(small_run, 40)
    table = candidates_table(small_run)
    assert counts["candidates"] == len(table) == 40
    assert counts["passed"] == {"paper": table.passed_paper.sum(), "learned": table.passed_learned.sum()}
    assert counts["unique"] == table.unique.sum()
    assert counts["ternary"] == 40
    assert {"H", "Pd", "Ni"} == set(load_candidate(small_run, 1).symbol_set)


def test_table_is_what_ase_reads(small_run):
    generate(small_run, 40)
    for row, ours in zip(open_database(small_run).select(), candidates_table(small_run).to_dict("records"), strict=True):
        theirs = {"id": row.id, "formula": row.formula, "atoms": row.natoms, "volume": pytest.approx(row.volume / row.natoms)}
        theirs |= row.key_value_pairs | {"note": row.data["note"], "matches": row.data["matches"]}
        theirs |= {f"shortest {pair}": distance for pair, distance in row.data["shortest"].items()}
        absent = ours.keys() - theirs.keys()
        assert {name: ours[name] for name in theirs} == theirs
        assert all(np.isnan(ours[name]) for name in absent)


def test_asking_for_more_extends_and_never_repeats(small_run, tmp_path):
    import shutil

    folder = tmp_path / "run"
    shutil.copytree(small_run.folder, folder)
    assert generate(folder, 300)["candidates"] == 300  # into a second block
    before = [structure_of(r) for r in open_database(small_run).select(sort="number")]
    after = [structure_of(r) for r in open_database(small_run.__class__(folder)).select("number<40", sort="number")]
    assert before == after
    numbers = [r.number for r in open_database(small_run.__class__(folder)).select()]
    assert sorted(numbers) == list(range(300))
    assert generate(folder, 20)["candidates"] == 20


def test_another_seed_makes_others(small_run, tmp_path):
    import shutil

    shutil.copytree(small_run.folder, tmp_path / "run")
    run = small_run.__class__(tmp_path / "run")
    generate(run, 10, seed=1)
    first, second = ([structure_of(r) for r in open_database(run).select(seed=s)][:10] for s in (0, 1))
    assert not any(a == b for a, b in zip(first, second, strict=True))


def test_verdicts_in_the_database_are_pymatgens(small_run):
    for row in open_database(small_run).select():
        assert bool(row.passed_paper) == independent_paper_verdict(structure_of(row))


def test_duplicates_are_those_of_the_structure_matcher(small_run):
    structures = [structure_of(row) for row in open_database(small_run).select(sort="number")]
    rng = np.random.default_rng(0)
    shaken = [s.copy().perturb(0.02) for s in structures[:10]]
    for s in shaken:
        s.apply_strain(rng.uniform(-0.02, 0.02, 3))
    everything = structures + shaken
    finder = Seen[int]()
    found = [finder.find_or_add(s, i) for i, s in enumerate(everything)]
    matcher = StructureMatcher()
    for i, twin in enumerate(found):
        firsts = [j for j in range(i) if found[j] is None and matcher.fit(everything[i], everything[j])]
        assert twin == (firsts[0] if firsts else None)
    assert all(twin is not None for twin in found[len(structures) :])


@pytest.mark.parametrize(("file_format", "ending"), [("poscar", ".vasp"), ("cif", ".cif"), ("extxyz", ".extxyz")])
def test_exported_files_hold_the_candidates(small_run, tmp_path, file_format, ending):
    out = tmp_path / "out.zip"
    count = export(small_run, out, "good", "paper", file_format)
    rows = select(small_run, "good", "paper")
    assert count == len(rows) > 0
    with zipfile.ZipFile(out) as archive:
        names = archive.namelist()
        table = list(csv.DictReader(io.StringIO(archive.read("candidates.csv").decode())))
        assert [row["file"] for row in table] == names[:-2]
        for row, name, line in zip(rows, names, table, strict=False):
            text = archive.read(name).decode()
            assert name.endswith(ending)
            if file_format == "extxyz":
                atoms = ase.io.read(io.StringIO(text), format="extxyz")
                assert atoms.info["id"] == row.id
                structure = Structure(atoms.cell.array, atoms.get_chemical_symbols(), atoms.positions, coords_are_cartesian=True)
            else:
                structure = Structure.from_str(text, fmt=file_format)
                assert f"{row.formula} id={row.id} run={small_run.folder.name} seed=0" in text
            assert StructureMatcher(scale=False, stol=1e-3, ltol=1e-3).fit(structure, structure_of(row))
            assert {"H", "Pd", "Ni"} == set(structure.symbol_set)
            assert independent_paper_verdict(structure)
            assert line["passed_paper"] in {"True", "1"}
            assert line["verdict_paper"] == "keeps the rule paper"
            assert Counter(line["formula"])[" "] == 0


def test_selection_by_decision_and_id(small_run, tmp_path):
    decide(small_run, [2, 5], "kept", "looks right")
    assert [row.id for row in select(small_run, "kept")] == [2, 5]
    assert [row.id for row in select(small_run, "3, 7")] == [3, 7]
    assert len(select(small_run, "all")) == 40
    assert export(small_run, tmp_path / "kept.zip", "kept") == 2
    with zipfile.ZipFile(tmp_path / "kept.zip") as archive:
        assert archive.read("candidates.csv").decode().count("looks right") == 2
    decide(small_run, [2, 5], "undecided")
    assert ase.db.connect(small_run.folder / "candidates.db").count(decision="kept") == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nonsense",), "selects nothing"),
        (("999",), "no candidate 999"),
        (("kept",), "no candidate is selected"),
        (("good", "mine"), "no rule 'mine'"),
        (("good", "paper", "pdb"), "not one of poscar"),
        (("all", None, "poscar"), "cannot be written"),
    ],
)
def test_an_export_that_cannot_be_done_says_so_and_keeps_the_old_file(small_run, tmp_path, arguments, words):
    out = tmp_path / "out.zip"
    out.write_text("old")
    target = tmp_path / "missing" / "out.zip" if words == "cannot be written" else out
    with pytest.raises(InputError, match=words):
        export(small_run, target, *arguments)
    assert out.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("method", ["discogan", "gan"])
def test_methods_without_a_second_step_make_no_ternary(tmp_path, palladium, nickel, method):
    run = train(palladium, nickel, Config(method=method, epochs1=2), tmp_path)
    counts = generate(run, 30)
    assert counts["ternary"] == 0
    systems = Counter(structure_of(row).composition.chemical_system for row in open_database(run).select())
    assert set(systems) == {"H-Pd", "H-Ni"}


def test_a_run_that_is_not_finished_says_what_to_do(tmp_path, palladium, nickel):
    from crystalgan.training import new_run

    run = new_run(palladium, nickel, Config(), tmp_path)
    with pytest.raises(InputError, match="crystalgan resume"):
        generate(run)
