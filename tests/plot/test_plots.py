"""Figures: what they draw is compared with the data, and with pymatgen where there is geometry."""

import subprocess
import sys

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from crystalgan import loss_figure, structure_figure

STEP1 = [
    {
        "step": 1,
        "epoch": n,
        "discriminator_a": 1.3,
        "adversarial_b": 0.7,
        "reconstruction_a": 1e-3 / n,
    }
    for n in (1, 2, 3)
]
STEP2 = [
    {"step": 2, "epoch": n, "adversarial_b": 0.7, "geo1": 0.5 / n, "geo2": 0.1} for n in (1, 2)
]


@pytest.fixture
def rocksalt():
    return Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(4.0), ["Pd", "H"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    )


def traces(figure, kind="scatter"):
    return {trace.name: trace for trace in figure.data if trace.type == kind}


def bond_lines(figure):
    """Every drawn bond half as (start, end), Å."""
    halves = []
    for trace in figure.data:
        if trace.type == "scatter3d" and trace.mode == "lines" and trace.line.width > 5:
            points = np.stack((trace.x, trace.y, trace.z), -1).reshape(-1, 3, 3)
            halves.append(points[:, :2])
    return np.concatenate(halves) if halves else np.empty((0, 2, 3))


def ball_centres(trace):
    _, sizes = np.unique(np.asarray(trace.text), return_counts=True)
    vertices = np.stack((trace.x, trace.y, trace.z), -1)
    corners = 11 * 17
    assert len(vertices) % corners == 0
    assert sizes.sum() == len(vertices)
    low, high = (f(vertices.reshape(-1, corners, 3), axis=1) for f in (np.min, np.max))
    return (low + high) / 2


def test_losses_are_drawn_as_they_are():
    figure = loss_figure([*STEP1, *STEP2])
    drawn = traces(figure)
    assert set(drawn) == {"discriminator A", "adversarial B", "reconstruction A", "geo1", "geo2"}
    assert drawn["reconstruction A"].x == (1, 2, 3)
    assert drawn["reconstruction A"].y == pytest.approx([1e-3, 5e-4, 1e-3 / 3])
    assert drawn["geo1"].y == (0.5, 0.25)
    assert [a.text for a in figure.layout.annotations] == ["Step 1", "Step 2"]
    assert figure.layout.yaxis.type == figure.layout.yaxis2.type == "log"
    assert figure.layout.xaxis.title.text == "epoch"


def test_a_term_of_both_steps_is_in_the_legend_once():
    shown = [trace.name for trace in loss_figure([*STEP1, *STEP2]).data if trace.showlegend]
    assert len(shown) == len(set(shown)) == 5


def test_share_that_keeps_the_rule_is_in_percent():
    figure = loss_figure([*STEP1, {**STEP2[0], "valid": 0.25}, STEP2[1]])
    assert traces(figure)["keep the rule"].y == (25.0,)
    assert figure.layout.yaxis3.ticksuffix == " %"
    assert len(figure.layout.annotations) == 3


def test_negative_and_zero_terms():
    """The literal geo2 is never positive; a log axis can show its size only, and no zero."""
    lines = [
        {"step": 2, "epoch": n, "geo2": value} for n, value in ((1, -0.5), (2, 0.0), (3, -0.25))
    ]
    (trace,) = loss_figure(lines).data
    assert trace.name == "geo2, negative: its size"
    assert trace.y == (0.5, None, 0.25)
    assert trace.customdata == (-0.5, 0.0, -0.25)


def test_training_under_way_and_not_begun():
    assert len(loss_figure(STEP1[:1]).data) == 3
    empty = loss_figure([])
    assert not empty.data
    assert "No epoch" in empty.layout.annotations[0].text


def test_atoms_on_faces_are_repeated(rocksalt):
    """Rock salt shows 14 atoms on corners and faces, and 13 on edges and in the middle."""
    balls = traces(structure_figure(rocksalt), "mesh3d")
    palladium, hydrogen = ball_centres(balls["Pd"]), ball_centres(balls["H"])
    assert len(palladium) == 14
    assert len(hydrogen) == 13
    assert {tuple(p) for p in palladium.round(3) % 4} == {
        (0, 0, 0),
        (0, 2, 2),
        (2, 0, 2),
        (2, 2, 0),
    }
    assert (palladium.min(), palladium.max()) == pytest.approx((0, 4), abs=1e-6)


def test_an_atom_just_below_a_face_is_on_it():
    cell = Structure(Lattice.orthorhombic(3, 4, 5), ["Ni"], [[0.999, 0.5, 0.5]])
    x = np.sort(ball_centres(traces(structure_figure(cell), "mesh3d")["Ni"])[:, 0])
    assert x == pytest.approx([-0.003, 2.997], abs=1e-6)


def test_bonds_are_pymatgens_neighbours():
    """In a skewed cell with no atom on a face each drawn half is half of a neighbour vector, and
    there is one for each."""
    lattice = Lattice.from_parameters(3.1, 4.2, 5.3, 75, 82, 64)
    cell = Structure(
        lattice,
        ["Pd", "Ni", "H", "H"],
        [[0.1, 0.2, 0.3], [0.6, 0.7, 0.8], [0.4, 0.3, 0.6], [0.8, 0.5, 0.2]],
    )
    cutoffs = {"H-Pd": 2.9, "H-Ni": 2.0}
    wanted = []
    for site in cell:
        for other in cell.get_neighbors(site, 2.9):
            pair = "-".join(sorted((site.specie.symbol, other.specie.symbol)))
            if other.nn_distance < cutoffs.get(pair, 0):
                wanted.append(np.concatenate((site.coords, (site.coords + other.coords) / 2)))
    drawn = bond_lines(structure_figure(cell, cutoffs)).reshape(-1, 6)
    assert len(wanted) >= 6
    assert np.array(sorted(drawn.round(4).tolist())) == pytest.approx(
        np.array(sorted(np.round(wanted, 4).tolist())), abs=2e-4
    )


def test_default_bonds_are_metal_hydrogen_only(rocksalt):
    halves = bond_lines(structure_figure(rocksalt))
    assert len(halves) == 6 * 27
    assert np.linalg.norm(halves[:, 1] - halves[:, 0], axis=-1) == pytest.approx(1.0)
    assert len(bond_lines(structure_figure(rocksalt, {}))) == 0


def test_shared_element_other_than_hydrogen():
    nitride = Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(4.2), ["Ti", "N"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    )
    assert len(bond_lines(structure_figure(nitride))) == 6 * 27


def test_hover_tells_nearest_neighbour_also_an_own_image():
    text = traces(
        structure_figure(Structure(Lattice.tetragonal(3, 2.5), ["Mg"], [[0.5, 0.5, 0.5]])), "mesh3d"
    )["Mg"].text[0]
    assert "atom 0" in text
    assert "nearest: Mg 2.50 Å" in text
    assert "(0.500, 0.500, 0.500)" in text


def test_cell_edges_and_equal_scale(rocksalt):
    figure = structure_figure(rocksalt)
    thin = next(
        t for t in figure.data if t.type == "scatter3d" and t.mode == "lines" and t.line.width < 5
    )
    edges = np.stack((thin.x, thin.y, thin.z), -1).reshape(-1, 3, 3)[:, :2]
    assert len(np.unique(edges.round(6).reshape(-1, 6), axis=0)) == 12
    assert np.linalg.norm(edges[:, 1] - edges[:, 0], axis=-1) == pytest.approx(4.0)
    scene, ratio = figure.layout.scene, figure.layout.scene.aspectratio
    assert ratio.x == ratio.y == ratio.z
    assert (
        len(
            {
                round(axis.range[1] - axis.range[0], 9)
                for axis in (scene.xaxis, scene.yaxis, scene.zaxis)
            }
        )
        == 1
    )
    assert not scene.xaxis.visible


def test_plots_import_nothing_heavy():
    code = (
        "import sys, crystalgan.plots; print(sorted({'plotly', 'pandas', 'torch', 'pymatgen',"
        " 'streamlit'} & set(sys.modules)))"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )


@pytest.mark.parametrize(("ratio", "bonds"), [(1.15, 6), (1.25, 4)])
def test_default_bonds_reach_a_fifth_beyond_the_shortest(ratio, bonds):
    """A Ni with hydrogen neighbours at 2 Å, and two at 2 Å times the ratio."""
    cell = Structure(
        Lattice.tetragonal(2 * 2**0.5, 4 * ratio),
        ["Ni", "H", "H"],
        [[0.5, 0.5, 0.5], [0, 0, 0.5], [0.5, 0.5, 0]],
    )
    halves = bond_lines(structure_figure(cell))
    assert np.isclose(halves[:, 0], cell[0].coords).all(-1).sum() == bonds
