"""The built-in classes: prototypes are what they claim, relaxation finds known lattices, a stopped build goes on."""

import json

import ase.io
import pytest
from pymatgen.core import Structure
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from crystalgan.build import ASSETS, build_classes, drop_collapsed, load_prototypes
from crystalgan.classes import load_class

EXPERIMENT = {  # Å
    ("Pd", "MH_NaCl"): (4.09, None),  # PdH
    ("Ni", "MH_NaCl"): (3.72, None),  # NiH
    ("Mg", "MH2_rutile"): (4.517, 3.020),  # MgH2
}


@pytest.mark.parametrize("prototype", load_prototypes(), ids=lambda p: p.name)
def test_prototypes_have_the_symmetry_and_the_atoms_that_the_table_says(prototype):
    row = next(p for p in json.loads((ASSETS / "prototypes.json").read_text()) if p["name"] == prototype.name)
    structure = prototype.structure("Ti")
    found = SpacegroupAnalyzer(structure, 1e-3)
    assert found.get_space_group_number() >= prototype.spacegroup
    ratio = structure.composition["H"] / structure.composition["Ti"]
    assert ratio == pytest.approx(row["n_hydrogen"] / row["n_metal"])


@pytest.mark.parametrize(("metal", "name"), EXPERIMENT)
def test_known_hydrides_have_their_lattice_constants(metal, name):
    cell = next(e.structure for e in load_class(metal).entries if e.info["prototype"] == name)
    lattice = SpacegroupAnalyzer(cell, 0.01).get_conventional_standard_structure().lattice
    a, c = EXPERIMENT[metal, name]
    assert lattice.a == pytest.approx(a, rel=0.03)
    if c:
        assert lattice.c == pytest.approx(c, rel=0.03)


@pytest.mark.parametrize("metal", ["Pd", "Ni", "Mg", "Ti"])
def test_built_in_files_are_read_by_ase_and_what_was_left_out_is_said(metal):
    images = ase.io.read(ASSETS / "classes" / f"{metal}.extxyz", ":")
    dropped = json.loads((ASSETS / "classes" / f"{metal}.dropped.json").read_text())
    assert len(images) + len(dropped) == len(load_prototypes())
    assert len(images) == len(load_class(metal)) >= 15
    assert all(reason for reason in dropped.values())


@pytest.mark.slow
def test_a_stopped_build_goes_on_where_it_was(tmp_path, monkeypatch):
    from crystalgan import build

    monkeypatch.setattr(build, "load_prototypes", lambda: [p for p in load_prototypes() if p.name in {"MH_NaCl", "MH_CsCl"}])
    seen = []
    counts = build_classes(["Pd"], tmp_path / "out", tmp_path / "work", progress=lambda *x: seen.append(x))
    assert counts == {"Pd": {"kept": 2, "dropped": 0}}
    assert [done for done, _, _ in seen] == [1, 2]
    log = tmp_path / "work" / "Pd.jsonl"
    lines = log.read_text().splitlines(keepends=True)
    log.write_text(lines[0] + lines[1][:100])  # killed while it wrote
    seen.clear()
    assert build_classes(["Pd"], tmp_path / "out", tmp_path / "work", progress=lambda *x: seen.append(x)) == counts
    assert len(seen) == 1
    images = ase.io.read(tmp_path / "out" / "Pd.extxyz", ":")
    built_in = {e.info["prototype"]: e.info["energy_per_atom"] for e in load_class("Pd").entries}
    for atoms in images:
        assert atoms.info["energy_per_atom"] == pytest.approx(built_in[atoms.info["prototype"]], abs=2e-3)
        assert atoms.info["fmax"] <= 0.03


def test_cells_that_collapsed_into_another_are_left_out():
    cell = load_class("Pd").entries[0].structure
    record = {"structure": cell.as_dict(), "prototype": "one", "energy_per_atom": -4.0}
    same = record | {"prototype": "two", "energy_per_atom": -3.99}
    failed = {"prototype": "three", "dropped": "not converged"}
    reasons = {r["prototype"]: r.get("dropped") for r in drop_collapsed([same, failed, record])}
    assert reasons == {"one": None, "two": "collapsed into one", "three": "not converged"}
    assert Structure.from_dict(record["structure"]) == cell
