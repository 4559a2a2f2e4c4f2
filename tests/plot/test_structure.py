"""The figure of a cell holds what its scene holds; the scene has tests of its own."""

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from crystalgan import structure_figure


@pytest.fixture
def skewed():
    """No atom lies on a face, so that each is drawn once."""
    return Structure(
        Lattice.from_parameters(3.1, 4.2, 5.3, 75, 82, 64),
        ["Pd", "Ni", "H", "H"],
        [[0.1, 0.2, 0.3], [0.6, 0.7, 0.8], [0.4, 0.3, 0.6], [0.8, 0.5, 0.2]],
    )


def points(trace):
    return np.array([trace.x, trace.y, trace.z], dtype=float).T


def bonds(figure):
    """Every drawn bond half as start and end, Å."""
    lines = [t for t in figure.data if t.mode == "lines" and t.line.width > 5]
    return np.concatenate([points(t).reshape(-1, 3, 3)[:, :2].reshape(-1, 6) for t in lines])


def test_atoms_are_where_they_are(skewed):
    atoms = {t.name: t for t in structure_figure(skewed).data if t.mode == "markers"}
    assert list(atoms) == ["Pd", "Ni", "H"]
    drawn = np.concatenate([points(t) for t in atoms.values()])
    np.testing.assert_allclose(drawn, skewed.cart_coords, atol=1e-9)
    assert "(0.400, 0.300, 0.600)" in atoms["H"].text[0]


def test_bonds_are_pymatgens_neighbours(skewed):
    """Each drawn half is half of a neighbour vector, and there is one for each."""
    cutoffs = {"H-Pd": 2.9, "H-Ni": 2.0}
    wanted = []
    for site in skewed:
        for other in skewed.get_neighbors(site, 2.9):
            pair = "-".join(sorted((site.specie.symbol, other.specie.symbol)))
            if other.nn_distance < cutoffs.get(pair, 0):
                wanted.append(np.concatenate((site.coords, (site.coords + other.coords) / 2)))
    assert len(wanted) >= 6
    drawn = sorted(bonds(structure_figure(skewed, cutoffs)).round(4).tolist())
    np.testing.assert_allclose(drawn, sorted(np.round(wanted, 4).tolist()), atol=2e-4)


def test_edges_of_the_cell_and_equal_scale(skewed):
    figure = structure_figure(skewed, {})
    (edges,) = [t for t in figure.data if t.mode == "lines"]
    segments = points(edges).reshape(-1, 3, 3)[:, :2]
    lengths = np.linalg.norm(segments[:, 1] - segments[:, 0], axis=-1)
    np.testing.assert_allclose(np.sort(lengths), np.repeat(sorted(skewed.lattice.abc), 4))
    assert figure.layout.scene.aspectmode == "data"
