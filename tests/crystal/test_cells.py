"""Structures to tensors and back, canonical descriptions; pymatgen is the judge."""

from dataclasses import replace

import numpy as np
import pytest
import spglib
import torch
from conftest import AUTHORS_DATA
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure

from crystalgan.crystal.cells import Cells, decode, encode
from crystalgan.crystal.operations import find_symmetry
from crystalgan.data.classes import builtin_classes, load_class
from crystalgan.errors import InputError
from crystalgan.model.batches import union


def described_otherwise(structure: Structure, rng: np.random.Generator) -> Structure:
    """The same crystal in another basis, origin, order and orientation."""
    while True:
        basis = rng.integers(-2, 3, (3, 3))
        if round(np.linalg.det(basis)) == 1:
            break
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    turn *= np.sign(np.linalg.det(turn))
    frac = (structure.frac_coords - rng.uniform(size=3)) @ np.linalg.inv(basis)
    order = rng.permutation(len(structure))
    return Structure(
        basis @ structure.lattice.matrix @ turn, [structure[i].specie for i in order], frac[order]
    )


def distances(structure: Structure) -> np.ndarray:
    """All distances up to 5 Å, sorted."""
    return np.sort(structure.get_neighbor_list(5.0)[3])


@pytest.mark.parametrize("metal", sorted(builtin_classes()))
def test_round_trip_of_built_in_cells(metal):
    cells = load_class(metal)
    for before, after in zip(cells.structures, decode(cells.cells()), strict=True):
        assert StructureMatcher(scale=False, ltol=1e-3, stol=1e-3, angle_tol=0.1).fit(before, after)
        # a cell that was not primitive has every distance that many times
        times = len(before) // len(after)
        np.testing.assert_allclose(
            distances(before), np.repeat(distances(after), times), atol=1e-3 if times > 1 else 1e-9
        )  # what symmetry may move


@pytest.mark.skipif(
    not AUTHORS_DATA.exists(), reason="the paper's own cells are not beside the project"
)
@pytest.mark.parametrize(("file", "metal"), [("PdH_dataset.mat", "Pd"), ("NiH_dataset.mat", "Ni")])
def test_round_trip_of_the_authors_cells(file, metal):
    cells = load_class(AUTHORS_DATA / file, metal)
    assert len(cells) == 35
    matcher = StructureMatcher()
    assert all(
        matcher.fit(a, b) for a, b in zip(cells.structures, decode(cells.cells()), strict=True)
    )


def test_equal_crystals_have_equal_tensors(palladium):
    rng = np.random.default_rng(0)
    species = ("H", "Pd")
    for structure in palladium.structures:
        first = encode([structure], species)
        for _ in range(3):
            other = encode([described_otherwise(structure, rng)], species)
            # equal up to what the relaxation left of a lower symmetry
            torch.testing.assert_close(other.lattice, first.lattice, atol=1e-3, rtol=0)
            torch.testing.assert_close(other.frac, first.frac, atol=1e-3, rtol=0)
            assert torch.equal(other.mask, first.mask)


def test_left_handed_cell_is_the_mirrored_basis_of_the_same_crystal():
    structure = Structure(Lattice.hexagonal(3, 5), ["Pd", "H"], [[0, 0, 0], [1 / 3, 2 / 3, 0.2]])
    swapped = Structure(
        structure.lattice.matrix[[1, 0, 2]], ["Pd", "H"], structure.frac_coords[:, [1, 0, 2]]
    )
    assert np.linalg.det(swapped.lattice.matrix) < 0
    torch.testing.assert_close(
        encode([swapped], ("H", "Pd")).frac, encode([structure], ("H", "Pd")).frac
    )


def test_a_lattice_that_spglib_reduces_at_few_tolerances_is_encoded():
    skewed = [
        [-4.288559451, -2.476000658, -13.832764687],
        [-3.4e-08, 4.952002921, -2.77e-07],
        [-7.14759885, 2.476003055, -27.665529876],
    ]
    assert spglib.niggli_reduce(np.array(skewed)) is None
    structure = Structure(skewed, ["Pd", "Pd", "H"], [[0, 0, 0], [0.5, 0.1, 0.2], [0.3, 0.3, 0.3]])
    (made,) = decode(encode([structure], ("H", "Pd")))
    np.testing.assert_allclose(distances(made), distances(structure), atol=1e-9)


def test_cells_check_their_shapes():
    with pytest.raises(ValueError, match="shapes disagree"):
        Cells(
            torch.eye(3)[None],
            torch.zeros(1, 2, 4, 3),
            torch.zeros(1, 2, 5, dtype=torch.bool),
            ("H", "Pd"),
        )
    with pytest.raises(ValueError, match="boolean"):
        Cells(torch.eye(3)[None], torch.zeros(1, 2, 4, 3), torch.zeros(1, 2, 4), ("H", "Pd"))


def test_an_element_without_a_slot_is_named():
    structure = Structure(Lattice.cubic(4), ["Pd", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    with pytest.raises(InputError, match="O, which has no place"):
        encode([structure], ("H", "Pd"))


def test_features_hold_lattice_and_positions_and_nothing_else(palladium):
    cells = palladium.cells()
    again = Cells.from_features(cells.features, cells.mask, cells.species)
    assert torch.equal(again.frac, cells.frac)
    assert torch.equal(again.lattice, cells.lattice)
    assert torch.equal(cells.occupied.sum(-1), 9 + 3 * cells.mask.sum((1, 2)).double())
    assert not cells.features[cells.occupied == 0].any()


def test_cells_are_joined_one_after_the_other_or_stacked(palladium):
    cells = find_symmetry(palladium.cells(), 0.05)
    again = Cells.cat((cells[:7], cells[7:]))
    for found, expected in zip(fields(again), fields(cells), strict=True):
        assert torch.equal(found, expected)
    both = Cells.stack((cells[:5], cells[5:10]), 1)
    for found, expected in zip(fields(both), fields(cells), strict=True):
        assert torch.equal(found, torch.stack((expected[:5], expected[5:10]), 1))
    free = replace(cells[7:], symmetry=None)
    assert Cells.cat((cells[:7], free)).symmetry is None
    other = replace(cells[:5], species=("H", "Ni"))
    assert Cells.stack((cells[:5], other)).species == ("H", "Pd")
    with pytest.raises(RuntimeError, match="size"):
        Cells.cat((free, free.padded(20)))


def fields(cells):
    return cells.lattice, cells.frac, cells.mask, cells.features, *cells.symmetry.tensors


def test_gradients_go_through_joined_and_swapped_cells(palladium):
    cells = palladium.cells()[:6]
    features = cells.features.clone().requires_grad_()
    made = cells.with_features(features)
    assert torch.equal(made.occupied, cells.occupied)
    both = Cells.stack((made[None][:, :3], made[None][:, 3:]), 1)
    weight = torch.arange(both.features.numel(), dtype=torch.float64).view_as(both.features)
    (both.swapped().features * weight).sum().backward()
    expected = weight.flip(1).squeeze(0).flatten(0, 1)
    torch.testing.assert_close(features.grad * cells.occupied, expected * cells.occupied)


def test_what_is_kept_with_cells_follows_from_their_own_tensors(palladium):
    cells = palladium.cells()[:4]
    assert cells.features is cells.features
    larger = replace(cells, lattice=2 * cells.lattice)
    torch.testing.assert_close(larger.features[:, :9], 2 * cells.features[:, :9])
    batch = Cells.stack((cells, larger))[None]
    assert batch.swapped() is batch.swapped()
    assert torch.equal(batch.swapped().swapped().features, batch.features)
    assert "features" not in vars(cells)
    assert "derived" not in repr(cells)


def test_union_keeps_both_classes_apart(palladium, nickel):
    both = union(palladium.cells()[:4].padded(20), nickel.cells()[:6].padded(20))
    formulas = [s.composition.chemical_system for s in decode(both)]
    assert formulas == ["H-Pd"] * 4 + ["H-Ni"] * 6
