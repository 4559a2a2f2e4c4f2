"""Supercells: as many as the literature counts, each the same crystal."""

import numpy as np
import pytest
import spglib
import torch
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure

from crystalgan.crystal.cells import Cells, decode
from crystalgan.crystal.operations import find_symmetry
from crystalgan.crystal.supercells import (
    _hermite,
    _hermite_forms,
    supercell_of,
    supercells,
)

FCC = Lattice([[0, 2, 2], [2, 0, 2], [2, 2, 0]])
BCC = Lattice([[-2, 2, 2], [2, -2, 2], [2, 2, -2]])
CUBIC = Lattice.cubic(3)


# Hart and Forcade, Phys. Rev. B 77, 224115 (2008)
@pytest.mark.parametrize(
    ("lattice", "counts"),
    [
        (FCC, [1, 2, 3, 7, 5, 10, 7, 20]),
        (BCC, [1, 2, 3, 7, 5, 10, 7, 20]),
        (CUBIC, [1, 3, 3, 9, 5, 13, 7, 24]),
    ],
)
def test_there_are_as_many_as_hart_and_forcade_count(lattice, counts):
    crystal = Structure(lattice, ["Pd"], [[0, 0, 0]])
    assert [len(supercells(crystal, index)) for index in range(1, 9)] == counts


def test_without_symmetry_all_are_different():
    triclinic = Structure(
        Lattice.from_parameters(3, 4, 5, 70, 80, 95), ["Pd", "H", "H"], np.eye(3) * 0.3
    )
    for index in range(1, 7):
        # the sum over divisors d of d times the sum of their divisors
        count = sum(
            d * sum(k for k in range(1, d + 1) if d % k == 0)
            for d in range(1, index + 1)
            if index % d == 0
        )
        assert len(supercells(triclinic, index)) == len(_hermite_forms(index)) == count


@given(st.lists(st.integers(-6, 6), min_size=9, max_size=9), st.integers(1, 6), st.data())
def test_a_normal_form_is_that_of_every_basis_of_its_lattice(entries, index, data):
    forms = _hermite_forms(index)
    form = forms[data.draw(st.integers(0, len(forms) - 1))]
    lower, upper = np.eye(3, dtype=int), np.eye(3, dtype=int)
    lower[np.tril_indices(3, -1)], upper[np.triu_indices(3, 1)] = entries[:3], entries[3:6]
    signs = np.diag([1 if e < 0 else -1 for e in entries[6:]])
    assert _hermite(signs @ lower @ upper @ form) == tuple(form.flatten())


@pytest.mark.parametrize("metal", ["palladium", "nickel"])
def test_supercells_are_the_same_crystal(metal, request):
    for structure in request.getfixturevalue(metal).structures[:10]:
        for index in (2, 3, 4):
            found = supercells(structure, index)
            assert [one.kept for one in found] == sorted((one.kept for one in found), reverse=True)
            for one in found:
                assert index == round(np.linalg.det(one.matrix))
                cell = structure.make_supercell(one.matrix, in_place=False)
                primitive = spglib.find_primitive(
                    (cell.lattice.matrix, cell.frac_coords, cell.atomic_numbers), 1e-3
                )
                assert len(primitive[2]) == len(structure)


def test_the_most_symmetric_comes_first():
    crystal = Structure(CUBIC, ["Pd"], [[0, 0, 0]])
    # along a space diagonal (face-centred), an edge, a face's diagonal
    assert [one.kept for one in supercells(crystal, 2)] == [1, 16 / 48, 16 / 48]


def _repeated(cells, most_atoms, most_index):
    """Every cell and its supercells, and the row that each is of."""
    made, parents = [], []
    for row, structure in enumerate(decode(cells)):
        one = cells[row : row + 1]
        options = [
            option
            for index in range(1, min(most_index, most_atoms // len(structure)) + 1)
            for option in supercells(structure, index)
        ]
        made += [supercell_of(one, option) for option in options]
        parents += [row] * len(options)
    length = max(one.mask.shape[-1] for one in made)
    return Cells.cat([one.padded(length) for one in made]), torch.tensor(parents)


def test_cells_of_a_class_and_their_supercells_are_the_same_crystal(palladium):
    larger, parents = _repeated(palladium.cells(), 12, 3)
    matcher = StructureMatcher(primitive_cell=True, scale=False)
    before = decode(palladium.cells())
    for structure, parent in list(zip(decode(larger), parents.tolist(), strict=True))[::7]:
        whole = before[parent]
        assert len(structure) % len(whole) == 0
        assert structure.volume / whole.volume == pytest.approx(len(structure) / len(whole))
        assert matcher.fit(structure, whole)


def test_symmetry_of_a_supercell_has_its_translations(palladium):
    cells = palladium.cells()[:6]
    larger, parents = _repeated(cells, 24, 4)
    known = find_symmetry(cells, 0.01).symmetry.count
    found = find_symmetry(larger, 0.01, most=4 * 48)
    repeats = larger.mask.sum((1, 2)) // cells.mask.sum((1, 2))[parents]
    assert (found.symmetry.count <= known[parents] * repeats).all()
    assert (found.symmetry.count % repeats == 0).all()
    # and those that keep all of the point group have all of it
    assert found.symmetry.count.max() > 48
