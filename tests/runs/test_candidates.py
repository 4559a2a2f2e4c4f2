"""Candidates: counts, duplicates, export; every file read again and judged by pymatgen alone."""

import csv
import io
import json
import shutil
import zipfile
from collections import Counter

import ase.db
import ase.io
import numpy as np
import pandas as pd
import pytest
import safetensors
import torch
from conftest import NO_POTENTIAL, nearly_symmetric, put_in
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer
from test_geometry import independent_paper_verdict

from crystalgan.config import Config, mixed
from crystalgan.crystal.matching import StructureIndex
from crystalgan.errors import InputError
from crystalgan.model.model import Model
from crystalgan.runs import candidates
from crystalgan.runs.candidates import generate
from crystalgan.runs.database import (
    candidates_table,
    decide,
    get_row,
    load_candidate,
    open_database,
    structure_of,
)
from crystalgan.runs.folder import Run
from crystalgan.runs.loading import load_model
from crystalgan.runs.symmetrizing import symmetrize
from crystalgan.runs.training import train
from crystalgan.stability.export import export
from crystalgan.stability.selection import select_rows


def test_counts_are_those_of_the_database(small_run):
    counts = generate(small_run, 40)
    table = candidates_table(small_run)
    assert counts.candidates == len(table) == 40
    assert counts.passed == {
        "paper": table.passed_paper.sum(),
        "learned": table.passed_learned.sum(),
    }
    assert counts.unique == table.unique.sum()
    assert counts.ternary == 40
    assert {"H", "Pd", "Ni"} == set(load_candidate(small_run, 1).symbol_set)


def test_results_show_themselves_in_a_line_and_a_table(small_run):
    counts = generate(small_run, 40)
    assert repr(counts).startswith("Generated(40 candidates from ")
    assert len(repr(counts)) < 160
    (table,) = pd.read_html(io.StringIO(counts._repr_html_()))
    shown = dict(table.itertuples(index=False))
    assert (shown["candidates"], shown["unique"]) == (counts.candidates, counts.unique)
    assert shown["keep paper unrepaired"] == counts.passed_before_repair["paper"]


def test_table_is_what_ase_reads(small_run):
    generate(small_run, 40)
    for row, ours in zip(
        open_database(small_run).select(),
        candidates_table(small_run).to_dict("records"),
        strict=True,
    ):
        theirs = {
            "id": row.id,
            "formula": row.formula,
            "atoms": row.natoms,
            "volume": pytest.approx(row.volume / row.natoms),
        }
        theirs |= row.key_value_pairs
        theirs |= {name: row.data[name] for name in ("note", "matches", "type")}
        theirs |= {f"shortest {pair}": distance for pair, distance in row.data["shortest"].items()}
        absent = ours.keys() - theirs.keys()
        assert {name: ours[name] for name in theirs} == theirs
        assert all(np.isnan(ours[name]) for name in absent)


def test_asking_for_more_extends_and_never_repeats(small_run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(small_run.folder, folder)
    assert generate(folder, 300).candidates == 300  # into a second block
    before = [structure_of(r) for r in open_database(small_run).select(sort="number")]
    after = [
        structure_of(r)
        for r in open_database(small_run.__class__(folder)).select("number<40", sort="number")
    ]
    assert before == after
    numbers = [r.number for r in open_database(small_run.__class__(folder)).select()]
    assert sorted(numbers) == list(range(300))
    assert generate(folder, 20).candidates == 20


def test_files_of_a_run_are_read_once_for_many_blocks(small_run, tmp_path, monkeypatch):
    monkeypatch.setattr(candidates, "BLOCK", 6)
    run = small_run.__class__(shutil.copytree(small_run.folder, tmp_path / "run"))
    opened, draws = Counter(), []
    safe_open, draw = safetensors.safe_open, Model.draw

    def counted(path, *arguments):
        opened[path.name] += 1
        return safe_open(path, *arguments)

    monkeypatch.setattr(safetensors, "safe_open", counted)
    monkeypatch.setattr(
        Model, "draw", lambda self, *a, **more: draws.append(a) or draw(self, *a, **more)
    )
    generate(run, 18, seed=2)
    assert len(draws) >= 3
    assert opened == dict.fromkeys(
        (
            "classes.safetensors",
            "energy.safetensors",
            "step1.safetensors",
            "step2.safetensors",
        ),
        1,
    )


def test_another_seed_makes_others(small_run, tmp_path):
    shutil.copytree(small_run.folder, tmp_path / "run")
    run = small_run.__class__(tmp_path / "run")
    generate(run, 10, seed=1)
    first, second = (
        [structure_of(r) for r in open_database(run).select(seed=s)][:10] for s in (0, 1)
    )
    assert not any(a == b for a, b in zip(first, second, strict=True))


def test_seeds_that_are_equal_as_floats_make_candidates_of_their_own(
    small_run, tmp_path, monkeypatch
):
    """Time stamps in nanoseconds; and what smaller seeds have always made stays."""
    monkeypatch.setattr(candidates, "BLOCK", 2)
    run = small_run.__class__(shutil.copytree(small_run.folder, tmp_path / "run"))
    seeds = [2**62, 2**62 + 1, 2**63 - 1]
    assert len({float(seed) for seed in seeds[:2]}) == 1
    for seed in seeds:
        assert generate(run, 2, seed).candidates == 2
    rows = [row for row in open_database(run).select() if row.seed in seeds]
    assert sorted(row.seed for row in rows) == sorted([*seeds, *seeds])
    assert len({tuple(row.positions.ravel()) for row in rows}) == 6
    assert all(mixed(number) == number for number in (0, 7 * 1_000_003 + 3, 2**64 - 1))
    assert 0 <= mixed(2**64) < 2**64
    for seed in (-1, 2**63):
        with pytest.raises(InputError, match=f"The seed {seed} must be"):
            generate(run, 2, seed)


def test_verdicts_in_the_database_are_pymatgens(small_run):
    for row in open_database(small_run).select():
        assert bool(row.passed_paper) == independent_paper_verdict(structure_of(row))


def test_duplicates_are_those_of_the_structure_matcher(small_run):
    structures = [structure_of(row) for row in open_database(small_run).select(sort="number")]
    rng = np.random.default_rng(0)
    shaken = [s.copy().perturb(0.02, seed=i) for i, s in enumerate(structures[:10])]
    for s in shaken:
        s.apply_strain(rng.uniform(-0.02, 0.02, 3))
    larger = [
        s.copy().perturb(0.3, seed=i).make_supercell([[2, 0, 0], [0, 1, 0], [0, 1, 1]])
        for i, s in enumerate(structures[10:25])
    ]
    everything = structures + shaken + larger
    finder = StructureIndex[int]()
    found = [finder.find_or_add(s, i) for i, s in enumerate(everything)]
    matcher = StructureMatcher()
    for i, twin in enumerate(found):
        firsts = [
            j for j in range(i) if found[j] is None and matcher.fit(everything[i], everything[j])
        ]
        assert twin == (firsts[0] if firsts else None)
    assert all(twin is not None for twin in found[len(structures) : len(structures) + len(shaken)])


@pytest.mark.parametrize(
    ("file_format", "ending"), [("poscar", ".vasp"), ("cif", ".cif"), ("extxyz", ".extxyz")]
)
def test_exported_files_hold_the_candidates(small_run, tmp_path, file_format, ending):
    out = tmp_path / "out.zip"
    count = export(small_run, out, "good", "paper", file_format)
    rows = select_rows(small_run, "good", "paper")
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
                structure = Structure(
                    atoms.cell.array,
                    atoms.get_chemical_symbols(),
                    atoms.positions,
                    coords_are_cartesian=True,
                )
            else:
                structure = Structure.from_str(text, fmt=file_format)
                assert f"{row.formula} id={row.id} run={small_run.folder.name} seed=0" in text
            assert StructureMatcher(scale=False, stol=1e-3, ltol=1e-3).fit(
                structure, structure_of(row)
            )
            assert {"H", "Pd", "Ni"} == set(structure.symbol_set)
            assert independent_paper_verdict(structure)
            assert line["passed_paper"] in {"True", "1"}
            assert line["verdict_paper"] == "keeps the rule paper"
            assert Counter(line["formula"])[" "] == 0


def test_selection_by_decision_and_id(small_run, tmp_path):
    decide(small_run, [2, 5], "kept", "looks right")
    assert [row.id for row in select_rows(small_run, "kept")] == [2, 5]
    assert [row.id for row in select_rows(small_run, "3, 7")] == [3, 7]
    assert len(select_rows(small_run, "all")) == 40
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
def test_an_export_that_cannot_be_done_says_so_and_keeps_the_old_file(
    small_run, tmp_path, arguments, words
):
    out = tmp_path / "out.zip"
    out.write_text("old")
    target = tmp_path / "missing" / "out.zip" if words == "cannot be written" else out
    with pytest.raises(InputError, match=words):
        export(small_run, target, *arguments)
    assert out.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("to_b", [True, False])
@pytest.mark.parametrize("incoming", ["all", "metal"])
def test_cells_of_one_way_alone_have_the_atoms_of_their_parents(small_run, to_b, incoming):
    model = load_model(small_run)
    a, b = (cells.mask.sum(-1) for cells in model.classes)
    pairs, rng = torch.tensor([[0, 0], [3, 5], [7, 2]]), torch.Generator().manual_seed(0)
    batch = model.sample(pairs, torch.tensor([to_b] * 3), rng, incoming=incoming)
    (h_a, m_a), (h_b, m_b) = a[pairs[:, 0]].T, b[pairs[:, 1]].T
    shared = h_a + h_b if incoming == "all" else h_a if to_b else h_b
    # each parent is one of the other metal now
    assert torch.equal(batch.cells.mask.sum(-1), torch.stack((shared, m_b, m_a), -1))


@pytest.mark.parametrize("method", ["discogan", "gan"])
def test_methods_without_a_second_step_make_no_ternary(tmp_path, palladium, nickel, method):
    run = train(palladium, nickel, Config(method=method, epochs1=2, **NO_POTENTIAL), tmp_path)
    counts = generate(run, 30)
    assert counts.ternary == 0
    systems = Counter(
        structure_of(row).composition.chemical_system for row in open_database(run).select()
    )
    assert set(systems) == {"H-Pd", "H-Ni"}


def test_a_run_that_is_not_finished_says_what_to_do(tmp_path, palladium, nickel):
    from crystalgan.runs.training import new_run

    run = new_run(palladium, nickel, Config(), tmp_path)
    with pytest.raises(InputError, match="crystalgan resume"):
        generate(run)


@pytest.fixture
def with_near_symmetry(small_run, tmp_path):
    """A run of its own, whose candidate 3 is off P4/mmm by 0.03 Å, and the cell that it nearly
    is."""
    run = Run(shutil.copytree(small_run.folder, tmp_path / "run"))
    exact, near = nearly_symmetric()
    put_in(run, 3, near)
    return run, exact, near


def test_a_symmetrized_cell_becomes_a_candidate_of_its_own(with_near_symmetry):
    run, exact, near = with_near_symmetry
    before = candidates_table(run)
    new = symmetrize(run, 3, 0.1)
    row, table = get_row(run, new), candidates_table(run)
    assert new == 41 == len(table)
    assert StructureMatcher(ltol=0.02, stol=0.01, angle_tol=1, scale=False).fit(
        structure_of(row), exact
    )
    sharp = SpacegroupAnalyzer(structure_of(row), symprec=1e-4)
    assert (row.spacegroup_symbol, sharp.get_space_group_symbol()) == ("P4/mmm", "P4/mmm")
    assert SpacegroupAnalyzer(load_candidate(run, 3), symprec=1e-4).get_space_group_symbol() == "P1"
    assert bool(row.passed_paper) == independent_paper_verdict(structure_of(row))
    assert [site.specie.symbol for site in structure_of(row)] == ["H", "H", "Pd", "Ni"]
    assert (row.refined_from, row.refined_at, row.decision, row.ternary) == (
        3,
        0.1,
        "undecided",
        True,
    )
    assert (row.parent_a, row.parent_b) == tuple(before[["parent_a", "parent_b"]].iloc[2])
    assert (row.unique, row.duplicate_of) == (False, 2)
    pd.testing.assert_frame_equal(table[before.columns][:40], before)  # the others stay as they are
    assert load_candidate(run, 3).matches(near, stol=1e-6, ltol=1e-6, scale=False)


def test_a_symmetrized_cell_is_taken_once(with_near_symmetry):
    run, *_ = with_near_symmetry
    new = symmetrize(run, 3, 0.1)
    for tolerance in (0.1, 0.2):
        with pytest.raises(
            InputError, match=f"the symmetrized cell of candidate 3 is the cell of candidate {new}"
        ):
            symmetrize(run, 3, tolerance)
    with pytest.raises(InputError, match=f"Candidate {new} is its own symmetrized cell"):
        symmetrize(run, new, 0.1)
    with pytest.raises(InputError, match=r"Candidate 3 has no symmetry at 0\.001 Å"):
        symmetrize(run, 3, 0.001)
    with pytest.raises(InputError, match="holds no candidate 99"):
        symmetrize(run, 99, 0.1)
    assert len(candidates_table(run)) == new


def test_a_symmetrized_cell_is_no_drawn_one_and_says_so_in_every_export(
    with_near_symmetry, tmp_path
):
    run, *_ = with_near_symmetry
    new = symmetrize(run, 3, 0.1)
    assert generate(run, 45).candidates == 45
    assert sorted(row.number for row in open_database(run).select(seed=0)) == list(range(45))
    decide(run, [new], "rejected", "too dense")
    assert get_row(run, new).data["history"][-1]["note"] == "too dense"
    for file_format in ("poscar", "cif", "extxyz"):
        export(run, tmp_path / "out.zip", f"2,{new}", file_format=file_format)
        with zipfile.ZipFile(tmp_path / "out.zip") as archive:
            drawn, refined = (archive.read(name).decode() for name in archive.namelist()[:2])
            table = list(csv.DictReader(io.StringIO(archive.read("candidates.csv").decode())))
            origin = json.loads(archive.read("provenance.json"))["candidates"][1]
        assert "refined_from=3 refined_at=0.1" in refined
        assert "seed=0" in drawn
        assert "refined" not in drawn
        assert [(line["refined_from"], line["refined_at_A"]) for line in table] == [
            ("", ""),
            ("3", "0.1"),
        ]
        assert (origin["refined_from"], origin["refined_at"]) == (3, 0.1)
