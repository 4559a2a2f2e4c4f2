"""Wyckoff positions and random cells with symmetry, against PyXtal's tables, spglib and arithmetic."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import spglib

from crystalgan.crystal.cells import decode
from crystalgan.crystal.random_cells import fillings, random_cells, random_occupation
from crystalgan.crystal.wyckoff import GROUPS, find_positions, space_group

SPECIES = ("H", "Pd", "Ni")


def test_positions_of_all_groups_are_those_of_the_tables():
    symmetry = pytest.importorskip("pyxtal.symmetry")
    for number in GROUPS:
        there = symmetry.Group(number)
        centred = {"P": 1, "A": 2, "B": 2, "C": 2, "I": 2, "R": 3, "F": 4}[there.symbol[0]]
        theirs = Counter((len(w.ops) // centred, w.get_dof()) for w in there.Wyckoff_positions)
        ours = Counter((p.multiplicity, p.freedom) for p in space_group(number).positions)
        assert ours == theirs, number


@pytest.mark.parametrize("number", [2, 14, 62, 139, 166, 227])
def test_positions_are_found_again(number: int):
    found = find_positions(number)
    stored = space_group(number).positions
    assert [row["freedom"] for row in found] == [p.freedom for p in stored]
    order = len(space_group(number).rotations)
    assert [order // row["order"] for row in found] == [p.multiplicity for p in stored]


def test_a_number_that_no_group_has():
    with pytest.raises(ValueError, match="from 1 to 230"):
        space_group(231)


@pytest.mark.parametrize("counts", [(3, 1, 1), (4, 2, 1), (6, 2, 2), (10, 6, 2), (5, 1, 3)])
def test_random_cells_have_the_symmetry_and_the_atoms(counts: tuple[int, int, int]):
    rng = np.random.default_rng(1)
    for _ in range(30):
        occupation = random_occupation(counts, rng)
        assert occupation is not None
        cells = random_cells(occupation, SPECIES, 60.0, 2, rng)
        assert cells.mask.sum(-1).tolist() == [list(counts)] * 2
        for cell in decode(cells):
            assert cell.volume == pytest.approx(60.0)
            found = spglib.get_symmetry(
                (cell.lattice.matrix, cell.frac_coords, cell.atomic_numbers), 1e-3
            )
            if found is None:  # atoms on top of each other
                continue
            operations = {tuple(r.flatten()) for r in found["rotations"]}
            wanted = {tuple(r.astype(int).flatten()) for r in occupation.group.rotations}
            assert wanted <= operations


def test_the_operations_of_random_cells_take_atoms_onto_atoms():
    rng = np.random.default_rng(2)
    for _ in range(40):
        occupation = random_occupation((4, 2, 2), rng)
        assert occupation is not None
        cells = random_cells(occupation, SPECIES, 80.0, 1, rng)
        symmetry = cells.symmetry
        assert symmetry is not None
        there = cells.mask[0].flatten().numpy()
        frac = cells.frac[0].flatten(0, 1).numpy()
        metric = (cells.lattice[0] @ cells.lattice[0].T).numpy()
        operations = int(symmetry.count[0])
        shifts = occupation.group.translations
        for g in range(operations):
            turn = symmetry.rotation[0, g].double().numpy()
            assert np.allclose(turn.T @ metric @ turn, metric, atol=1e-6)
            offset = frac @ turn.T + shifts[g] - frac[symmetry.image[0, g].numpy().astype(int)]
            assert np.abs(offset - np.rint(offset))[there].max() < 1e-6


def test_ways_to_fill_positions_are_counted_by_hand():
    # Pm-3m has two points of one atom and two of three; a fourth orbit has at least six
    assert fillings(221, (3, 1, 1)).weight == 4
    assert fillings(221, (1, 1, 1)).weight == 0
    # Fm-3m: two points of one atom, one of two
    assert fillings(225, (2, 1, 1)).weight == 2


def test_occupations_come_by_their_weight():
    # P-1 has eight points of one atom (weight 1) and general positions of two (exp(-3 / 2.5)):
    # one atom each of two elements takes two of the points, two atoms of one element may take either
    assert fillings(2, (1, 1)).weight == pytest.approx(8 * 7)
    general = np.exp(-3 / 2.5)
    assert fillings(2, (2,)).weight == pytest.approx(8 * 7 / 2 + general)
    rng = np.random.default_rng(0)
    drawn = Counter(fillings(2, (2,)).draw(rng).freedom for _ in range(4000))
    share = general / (28 + general)
    assert drawn[9] / 4000 == pytest.approx(share, abs=4 * (share / 4000) ** 0.5)
