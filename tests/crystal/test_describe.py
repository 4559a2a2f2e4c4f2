"""What is said of one cell, against pymatgen and against crystals known by heart."""

import math

import numpy as np
import pytest
from conftest import random_crystals
from pymatgen.core import Lattice, Structure

from crystalgan.crystal import describe
from crystalgan.crystal.cells import encode
from crystalgan.crystal.repair import check
from crystalgan.crystal.rules import Rule, paper_rule


@pytest.fixture
def rocksalt():
    return Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(4.1), ["Pd", "H"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    )


def test_neighbours_are_those_of_pymatgen():
    for structure in random_crystals(np.random.default_rng(1), 20, atoms=6):
        found = describe.neighbours(structure, 3.0)
        expected = sorted(n.nn_distance for near in structure.get_all_neighbors(3.0) for n in near)
        assert sorted(n.distance for n in found) == pytest.approx(expected)
        for n in found[:10]:
            assert structure.get_distance(n.center, n.other, n.image) == pytest.approx(n.distance)


def test_first_distances_of_rocksalt(rocksalt):
    found = describe.first_distances([rocksalt])
    assert found.keys() == {"H-H", "Pd-Pd", "H-Pd"}
    assert found["H-Pd"] == pytest.approx([2.05] * 4)
    assert found["Pd-Pd"] == pytest.approx([4.1 / math.sqrt(2)] * 4)


def test_rule_is_asked_as_the_judge_asks_it():
    rule = paper_rule(("Ni", "Pd"))
    crystals = [
        s
        for s in random_crystals(np.random.default_rng(2), 60, atoms=9)
        if {"H", "Pd", "Ni"} == set(s.symbol_set)
    ]
    verdicts = [check(encode([s], ("H", "Pd", "Ni")), rule)[0] for s in crystals]
    assert {v.passed for v in verdicts} == {False, True}
    for structure, verdict in zip(crystals, verdicts, strict=True):
        found = describe.neighbours(structure, 12.0, rule)
        bad = {n.pair for n in found if n.verdict in ("too short", "too long")}
        assert bad == {b.pair for b in verdict.broken}
        shortest = {pair: min(d) for pair, d in describe.first_distances([structure]).items()}
        assert shortest == pytest.approx(verdict.shortest, rel=1e-5)


def test_a_pair_is_judged_from_either_end(rocksalt):
    found = describe.neighbours(rocksalt, 2.1, Rule("own", {"H-Pd": (1.0, 2.0)}))
    asked = [n for n in found if n.verdict]
    assert {n.verdict for n in asked} == {"too long"}
    ends = {(n.center, n.other, n.image) for n in asked}
    assert all((j, i, tuple(-x for x in image)) in ends for i, j, image in ends)


def test_symmetry_grows_with_the_tolerance(rocksalt):
    shaken = rocksalt.copy().perturb(0.02, seed=0)
    assert describe.symmetry(shaken, 1e-3).symbol == "P1"
    found = describe.symmetry(shaken, 0.2)
    assert (found.number, found.system) == (225, "cubic")
    assert describe.symmetry(found.symmetrized, 1e-3).number == 225


def test_powder_pattern_of_a_cube():
    simple = Structure(Lattice.cubic(3.0), ["Po"], [[0, 0, 0]])
    angles, intensities, indices = describe.powder_pattern(simple)
    # Bragg: (1 0 0), d = 3 Å
    assert angles[0] == pytest.approx(2 * math.degrees(math.asin(1.54184 / 6)), abs=0.01)
    assert intensities.max() == pytest.approx(100)
    assert "1" in indices[0]


def test_atom_names_count_by_element(rocksalt):
    names = describe.atom_names(rocksalt)
    assert sorted(names) == ["H1", "H2", "H3", "H4", "Pd1", "Pd2", "Pd3", "Pd4"]
