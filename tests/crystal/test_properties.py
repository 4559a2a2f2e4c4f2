"""What holds of any crystal, drawn by hypothesis; ASE, pymatgen and arithmetic are the oracles."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from ase.geometry.minkowski_reduction import minkowski_reduce
from ase.neighborlist import neighbor_list
from conftest import raw_cells
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Structure

from crystalgan.crystal.canonical import canonical
from crystalgan.crystal.cells import decode, encode
from crystalgan.crystal.describe import first_distances, shortest_distance
from crystalgan.crystal.distances import first_neighbours
from crystalgan.crystal.kernels.distances import reduce_basis

SPECIES = ("H", "Pd", "Ni")
quick = settings(max_examples=40, deadline=None, derandomize=True, database=None)


@st.composite
def lattices(draw):
    """Rows in Å, edges of a few Å, described by skewed vectors as often as by short ones.

    Lengths are quarters, so that two that are equal by accident are so exactly.
    """
    edges = [draw(st.integers(8, 16)) for _ in range(3)]
    slants = [draw(st.integers(-6, 6)) for _ in range(3)]
    short = np.diag(edges).astype(float)
    short[np.tril_indices(3, -1)] = slants
    return draw(bases()) @ short / 4


@st.composite
def bases(draw):
    """Integer matrices of determinant 1."""
    change = np.eye(3)
    for _ in range(draw(st.integers(0, 4))):
        i, j = draw(st.permutations(range(3)))[:2]
        change[i] += draw(st.integers(-2, 2)) * change[j]
    return change


@st.composite
def crystals(draw, most=7):
    """Crystals of H, Pd and Ni in this order, atoms on a grid of 24 points along each vector."""
    points = st.tuples(*[st.integers(0, 23)] * 3)
    places = draw(st.lists(points, min_size=1, max_size=most, unique=True))
    symbols = sorted((draw(st.sampled_from(SPECIES)) for _ in places), key=SPECIES.index)
    return Structure(draw(lattices()), symbols, np.array(places) / 24)


@st.composite
def turns(draw):
    """Proper rotations."""
    q = np.array([draw(st.floats(0.5, 1)), *(draw(st.floats(-1, 1)) for _ in range(3))])
    w, x, y, z = q / np.linalg.norm(q)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + 2 * w * cross + 2 * cross @ cross


def by_ase(structure, reach):
    """Atoms, their neighbours and distances up to `reach` Å."""
    return neighbor_list("ijd", structure.to_ase_atoms(), reach)


@quick
@given(crystals(), bases(), turns(), st.randoms(use_true_random=False))
def test_a_crystal_has_one_canonical_description(structure, basis, turn, random):
    order = random.sample(range(len(structure)), len(structure))
    frac = (structure.frac_coords + [random.random() for _ in range(3)]) @ np.linalg.inv(basis)
    other = Structure(
        basis @ structure.lattice.matrix @ turn, [structure[i].specie for i in order], frac[order]
    )
    one, two = canonical(structure), canonical(other)
    np.testing.assert_allclose(two.lattice.matrix, one.lattice.matrix, atol=1e-6)
    assert [s.specie for s in two] == [s.specie for s in one]
    np.testing.assert_allclose(two.frac_coords, one.frac_coords, atol=1e-6)


@quick
@given(crystals())
def test_canonical_cells_are_the_same_crystal_reduced_upright_and_right_handed(structure):
    cell = canonical(structure)
    matrix = cell.lattice.matrix
    assert abs(matrix[0, 1]) + abs(matrix[0, 2]) + abs(matrix[1, 2]) == 0
    assert np.linalg.det(matrix) > 0
    reduced = structure.get_primitive_structure(1e-3).lattice.get_niggli_reduced_lattice()
    np.testing.assert_allclose(cell.lattice.abc, reduced.abc, rtol=1e-4)
    times = len(structure) // len(cell)
    of_cell, of_structure = (pairs(c, 5.0) for c in (cell, structure))
    for both in ((s, t) for s in SPECIES for t in SPECIES):
        found, expected = np.sort(of_cell[both]), np.sort(of_structure[both])
        np.testing.assert_allclose(np.repeat(found, times), expected, atol=1e-6)


def pairs(structure, reach):
    """All distances of atoms of each two elements up to `reach` Å, a little less than asked for."""
    i, j, distance = by_ase(structure, reach)
    symbols = np.array([s.specie.symbol for s in structure])
    near = distance < reach - 1e-6
    return {
        (a, b): distance[(symbols[i] == a) & (symbols[j] == b) & near]
        for a in SPECIES
        for b in SPECIES
    }


@quick
@given(crystals())
def test_encoded_crystals_decode_to_their_canonical_description(structure):
    (again,) = decode(encode([structure], SPECIES))
    expected = canonical(structure)
    assert again.composition == expected.composition
    np.testing.assert_allclose(again.lattice.matrix, expected.lattice.matrix)
    ordered = sorted(expected, key=lambda site: SPECIES.index(site.specie.symbol))
    offset = again.frac_coords - [site.frac_coords for site in ordered]
    np.testing.assert_allclose(offset, np.rint(offset), atol=1e-9)


@quick
@given(lattices())
def test_reduction_is_unimodular_and_ends_with_the_shortest_vectors(lattice):
    change = np.empty((3, 3))
    reduce_basis(lattice, change)
    np.testing.assert_array_equal(change, np.rint(change))
    assert abs(round(np.linalg.det(change))) == 1
    found = np.sort(np.linalg.norm(change @ lattice, axis=1))
    expected = np.sort(np.linalg.norm(minkowski_reduce(lattice)[0], axis=1))
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert all(x <= y for x, y in pairwise(found))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 2e-4)])
@quick
@given(crystals())
def test_first_neighbours_are_the_nearest_that_ase_lists(dtype, tolerance, structure):
    near = first_neighbours(raw_cells([structure], dtype))
    symbols = np.array([s.specie.symbol for s in structure])
    shared, reach = symbols == "H", float(near.distance.max()) + 0.01
    i, j, distance = by_ase(structure, reach)
    rows = zip(near.center.tolist(), near.other.tolist(), near.distance.tolist(), strict=True)
    found = [(a, bool(shared[b]), d) for a, b, d in rows]
    groups = [(a, s) for a in range(len(shared)) for s in (True, False) if shared[a] or not s]
    assert {(a, s) for a, s, _ in found} == {(a, s) for a, s in groups if (shared == s).any()}
    for a, of_shared, d in found:
        around = distance[(i == a) & (shared[j] == of_shared)]
        assert d == pytest.approx(around.min(), abs=tolerance)


@quick
@given(crystals(most=4))
def test_shortest_distances_are_those_that_ase_lists_own_images_included(structure):
    symbols = {s.specie.symbol for s in structure}
    firsts = first_distances([structure])
    for a, b in ((a, b) for a in SPECIES for b in SPECIES):
        found = shortest_distance(structure, a, b)
        if {a, b} <= symbols:
            assert found == pytest.approx(pairs(structure, found + 0.1)[a, b].min(), abs=1e-9)
        else:
            assert found == math.inf
    if "H" in symbols:
        assert min(firsts["H-H"]) == pytest.approx(shortest_distance(structure, "H", "H"))


def test_the_shortest_distance_of_one_atom_is_the_shortest_lattice_vector():
    skewed = np.array([[2.0, 0, 0], [1.0, 3, 0], [21.0, 30.0, 5]])
    alone = Structure(skewed, ["H"], [[0.3, 0.2, 0.1]])
    assert shortest_distance(alone, "H", "H") == pytest.approx(2.0)
    long = Structure(np.diag([9.0, 12.0, 15.0]), ["H", "Pd"], [[0, 0, 0], [0, 0.5, 0]])
    assert shortest_distance(long, "H", "H") == pytest.approx(9.0)  # beyond where it starts
    assert shortest_distance(long, "Pd", "H") == pytest.approx(6.0)
    assert shortest_distance(long, "Ni", "Ni") == math.inf
