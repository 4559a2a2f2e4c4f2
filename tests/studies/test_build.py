"""The built-in classes: prototypes are what they claim, relaxation finds known lattices, a stopped
build goes on."""

import json

import ase.io
import numpy as np
import pytest
from pymatgen.core import Lattice, Structure
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer
from pymatgen.symmetry.groups import SpaceGroup

from crystalgan.data.classes import builtin_classes, load_class
from crystalgan.data.prototypes import compounds_of, element_types, load_prototypes, orbit
from crystalgan.potentials.registry import load_chgnet
from crystalgan.resources import resource
from crystalgan.stability.relax import relax
from crystalgan.studies.builtin import Built, build_classes
from crystalgan.studies.builtin_cells import Record, drop_collapsed, drop_unphysical

EXPERIMENT = {  # Å
    ("Pd", "MH_NaCl"): (4.09, None),  # PdH
    ("Ni", "MH_NaCl"): (3.72, None),  # NiH
    ("Mg", "MH2_rutile"): (4.517, 3.020),  # MgH2
}


@pytest.mark.parametrize("prototype", load_prototypes(), ids=lambda p: p.name)
def test_prototypes_have_the_symmetry_and_the_atoms_that_the_table_says(prototype):
    row = next(
        p
        for p in json.loads(resource("assets/prototypes.json").read_text())
        if p["name"] == prototype.name
    )
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


@pytest.mark.parametrize("metal", builtin_classes())
def test_built_in_files_are_read_by_ase_and_what_was_left_out_is_said(metal):
    images = ase.io.read(resource("assets") / "classes" / f"{metal}.extxyz", ":")
    assert all(
        {"prototype", "energy_per_atom", "formation_energy_per_atom", "volume", "fmax", "version"}
        <= set(a.info)
        for a in images
    )
    dropped = json.loads((resource("assets") / "classes" / f"{metal}.dropped.json").read_text())
    assert len(images) + len(dropped) == len(load_prototypes())
    assert len(images) == len(load_class(metal)) >= 15
    assert all(reason for reason in dropped.values())


@pytest.mark.slow
def test_a_stopped_build_goes_on_where_it_was(tmp_path, monkeypatch):
    from crystalgan.studies import builtin as build

    monkeypatch.setattr(
        build,
        "load_prototypes",
        lambda: [p for p in load_prototypes() if p.name in {"MH_NaCl", "MH_CsCl"}],
    )
    seen = []
    counts = build_classes(
        ["Pd"], tmp_path / "out", tmp_path / "work", progress=lambda *x: seen.append(x)
    )
    assert counts == {"Pd": Built(kept=2, dropped=0)}
    steps = len(element_types("H")) + len(element_types("Pd")) + 2
    assert [done for done, _, _ in seen] == list(range(1, steps + 1))
    log = tmp_path / "work" / "Pd.jsonl"
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join(lines[:-1]) + lines[-1][:100])  # killed while it wrote
    seen.clear()
    assert (
        build_classes(
            ["Pd"], tmp_path / "out", tmp_path / "work", progress=lambda *x: seen.append(x)
        )
        == counts
    )
    assert len(seen) == 1
    images = ase.io.read(tmp_path / "out" / "Pd.extxyz", ":")
    elements = {
        str(a.symbols[0]): a.info["energy_per_atom"]
        for a in ase.io.read(tmp_path / "out" / "elements.extxyz", ":")
    }
    built_in = {e.info["prototype"]: e.info for e in load_class("Pd").entries}
    for atoms in images:
        assert atoms.info["energy_per_atom"] == pytest.approx(
            built_in[atoms.info["prototype"]]["energy_per_atom"], abs=2e-3
        )
        assert atoms.info["fmax"] <= 0.03
        assert atoms.info["volume"] == pytest.approx(atoms.get_volume())
        of_elements = (elements["Pd"] + elements["H"]) / 2  # both types are MH
        assert atoms.info["formation_energy_per_atom"] == pytest.approx(
            atoms.info["energy_per_atom"] - of_elements
        )


@pytest.mark.parametrize("symbol", ["H", "Ga", "Sn", "Mn", "Pu", "Np", "U", "Sm", "In", "Zn"])
def test_structures_of_the_elements_have_their_symmetry_and_sane_distances(symbol):
    from pymatgen.core import Element

    for prototype in element_types(symbol):
        structure = prototype.structure(symbol)
        assert SpacegroupAnalyzer(structure, 1e-3).get_space_group_number() == prototype.spacegroup
        nearest = min(structure.get_neighbor_list(6.0)[3])
        usual = (
            0.74
            if symbol == "H"
            else 2 * float(Element(symbol).metallic_radius or Element(symbol).atomic_radius)
        )
        assert 0.7 * usual < nearest < 1.3 * usual, prototype.name


def record(name, energy, structure):
    spacegroup = SpacegroupAnalyzer(structure, 0.01).get_space_group_number()
    (metal,) = set(structure.symbol_set) - {"H"}
    return Record(
        metal,
        name,
        structure,
        energy_per_atom=energy,
        spacegroup=spacegroup,
    )


def test_cells_that_collapsed_into_another_are_left_out():
    cell = load_class("Pd").entries[0].structure
    failed = Record("Pd", "three", dropped="not converged")
    reasons = {
        r.prototype: r.dropped
        for r in drop_collapsed([record("two", -3.99, cell), failed, record("one", -4.0, cell)])
    }
    assert reasons == {"one": "", "two": "collapsed into one", "three": "not converged"}


def test_of_equal_energies_the_higher_symmetry_keeps_its_name():
    cubic = next(p for p in load_prototypes() if p.name == "MH2_fluorite").structure("Ti")
    flat = cubic.copy().apply_strain([0.01, 0.01, -0.01])
    names = {True: "collapsed into cubic", False: "collapsed into flat"}
    for gap, winner_is_cubic in ((0.0005, True), (0.005, False)):
        marked = drop_collapsed([record("flat", -4.0, flat), record("cubic", -4.0 + gap, cubic)])
        reasons = {r.prototype: r.dropped for r in marked}
        loser = "flat" if winner_is_cubic else "cubic"
        assert reasons[loser] == names[winner_is_cubic]
        assert sum(x == "" for x in reasons.values()) == 1
    fallen = [record("MH2_ThH2", -4.0002, cubic), record("MH2_fluorite", -4.0, cubic)]
    assert [r.dropped for r in drop_collapsed(fallen)] == [
        "collapsed into MH2_fluorite",
        "",
    ]


def test_cells_with_molecules_or_hydrogen_inside_a_metal_are_left_out():
    def cell(x):
        return Structure(Lattice.cubic(4.0), ["Pd", "H", "H"], [[0, 0, 0], [0.5, 0.5, 0.5], x])

    records = [
        record("molecule", -1.0, cell([0.5, 0.5, 0.7])),
        record("inside", -1.0, cell([0, 0, 0.3])),
        record("well", -1.0, cell([0.5, 0, 0])),
    ]
    reasons = [r.dropped for r in drop_unphysical(records)]
    assert reasons == ["H-H 0.80 Å, shorter than 1.5 Å", "M-H 1.20 Å, shorter than 1.3 Å", ""]


def test_compounds_of_two_metals_have_the_space_groups_of_their_types():
    found = compounds_of("La", "Ni")
    assert found.keys() == compounds_of("Ni", "La").keys()
    assert {"LaNi CsCl", "LaNi5 CaCu5", "La5Ni CaCu5", "LaNi2 MgCu2", "La2Ni Mg2Ni"} <= found.keys()
    groups = {
        row["name"]: row["spacegroup"]
        for row in json.loads(resource("assets/intermetallics.json").read_text())
    }
    for name, structure in found.items():
        assert (
            SpacegroupAnalyzer(structure, 0.01).get_space_group_number() == groups[name.split()[1]]
        )
        distance = structure.distance_matrix + 9 * np.eye(len(structure))
        assert distance.min() > 2.0


@pytest.mark.parametrize(
    ("name", "metals", "measured"),
    [  # Å, as commonly quoted
        ("TiFe CsCl", ("Ti", "Fe"), (2.976,)),
        ("LaNi5 CaCu5", ("La", "Ni"), (5.017, 3.986)),
        ("Mg2Ni Mg2Ni", ("Mg", "Ni"), (5.205, 13.236)),
    ],
)
def test_compounds_relax_to_what_is_measured(name, metals, measured):
    relaxed = relax(compounds_of(*metals)[name], load_chgnet())
    assert relaxed.converged
    cell = SpacegroupAnalyzer(relaxed.structure, 0.1).get_conventional_standard_structure()
    assert sorted(set(np.round(cell.lattice.abc, 3))) == pytest.approx(sorted(measured), rel=0.03)


def test_orbits_are_those_of_pymatgen():
    """Of every prototype, and of general and special points of every space group."""
    points = ([0.137, 0.261, 0.423], [0, 0, 0], [0.25, 0.25, 0.25], [1 / 3, 2 / 3, 0.25])
    for number in (
        1,
        5,
        12,
        14,
        48,
        62,
        68,
        88,
        129,
        141,
        146,
        148,
        155,
        166,
        194,
        203,
        221,
        225,
        227,
        228,
    ):
        group = SpaceGroup.from_int_number(number)
        for point in points:
            mine, theirs = orbit(number, point), np.array(group.get_orbit(point))
            assert len(mine) == len(theirs), (number, point)
            steps = mine[:, None] - theirs
            assert (np.abs(steps - np.rint(steps)).max(-1).min(1) < 1e-4).all(), (number, point)
