"""The data doctor: what it finds in classes made ill on purpose; that it changes nothing."""

import json

import ase.io
import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from crystalgan.data.classes import load_class
from crystalgan.data.doctor import cleaned, examine
from crystalgan.errors import InputError


def write(path, structures):
    ase.io.write(path, [s.to_ase_atoms() for s in structures], format="extxyz")
    return path


@pytest.fixture
def ill(tmp_path, palladium):
    """Sane cells of Pd-H, then one too wide, one with a molecule, one too large and one twice."""
    sane = [
        e.structure
        for e in palladium.entries
        if e.info["prototype"] in {"MH_NaCl", "MH2_fluorite", "M2H_cuprite", "MH_wurtzite"}
    ]
    wide = sane[0].copy().scale_lattice(4 * sane[0].volume)
    molecule = Structure(
        Lattice.cubic(4.0), ["Pd", "H", "H"], [[0, 0, 0], [0.5, 0.5, 0.4], [0.5, 0.5, 0.59]]
    )
    large = Structure.from_spacegroup(
        225, Lattice.cubic(4.1), ["Pd", "H"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    ) * (3, 2, 1)
    # a crystal's supercell is its primitive cell again, and that is small
    large.perturb(0.01, seed=0)
    twin = sane[1].copy() * (2, 1, 1)
    return write(tmp_path / "ill.extxyz", [*sane, wide, molecule, large, twin]), len(sane)


def test_each_ill_cell_is_proposed_with_its_own_reason(ill):
    path, sane = ill
    report = examine(path)
    assert json.loads(json.dumps(report.as_dict()))["cells"] == report.cells == sane + 4
    assert repr(report) == f"{sane + 4} cells of Pd-H: 0 left out, 4 proposals"
    lines = np.cumsum([1] + [len(atoms) + 2 for atoms in ase.io.read(path, ":")])
    reasons = {x.where: x.why for x in report.proposals}
    where = [f"{path} line {line}" for line in lines]
    assert set(reasons) == set(where[sane : sane + 4])
    wide, molecule, large, twin = (reasons[w] for w in where[sane : sane + 4])
    assert "expected at this composition" in wide
    assert molecule.startswith("H-H 0.76 Å, closer than 1.5")
    assert large.startswith("24 atoms of one kind")
    assert twin == f"repeats {where[1]}"


def test_the_doctor_writes_what_is_left_and_leaves_the_class_alone(ill, tmp_path):
    path, sane = ill
    before = path.read_bytes()
    out = tmp_path / "well" / "cells.extxyz"
    report = cleaned(path, out)
    assert path.read_bytes() == before
    assert len(load_class(out)) == sane == report.cells - len(report.proposals)
    with pytest.raises(InputError, match="exists already"):
        cleaned(path, out)


def test_prototypes_are_recognised_whatever_their_setting(palladium, tmp_path):
    rng = np.random.default_rng(1)
    names = ["MH_NaCl", "MH_wurtzite", "M2H_cuprite", "MH_PtS"]
    chosen = [
        next(e.structure for e in palladium.entries if e.info["prototype"] == name)
        for name in names
    ]
    turned = [s.copy().make_supercell([[1, 1, 0], [0, 1, 0], [0, 0, 1]]) for s in chosen]
    for s in turned:
        s.translate_sites(range(len(s)), rng.random(3))
        s.scale_lattice(s.volume * rng.uniform(0.8, 1.2))
    report = examine(write(tmp_path / "turned.extxyz", turned))
    assert list(report.findings.prototypes.values()) == names


def test_oxidation_states_are_a_note(tmp_path):
    salt = Structure.from_spacegroup(
        225, Lattice.cubic(4.9), ["Na", "H"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    )
    rich = Structure.from_spacegroup(221, Lattice.cubic(4.0), ["Na", "H"], [[0, 0, 0], [0.5, 0, 0]])
    report = examine(write(tmp_path / "na.extxyz", [salt, rich]))
    assert list(report.findings.oxidation) == ["NaH3"]
    assert report.proposals == ()


def test_built_in_classes_need_no_leaving_out_for_close_atoms_or_size():
    for metal in ("Ti", "Mg"):
        report = examine(metal)
        assert report.findings.close == report.findings.large == report.findings.duplicates == ()
        # some types relax into what is none of them
        assert len(report.findings.prototypes) > 0.8 * report.cells
