"""The scene for the viewer: what is drawn, where, and with which numbers."""

import json
import subprocess
import sys

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from crystalgan.plot.scene import build_scene, legend


@pytest.fixture
def cube():
    return Structure(Lattice.cubic(3.0), ["Pd", "H"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def part(scene, name):
    return next((s["contents"] for s in scene["contents"] if s["name"] == name), [])


def positions(scene, atom):
    return [
        p for s in part(scene, "atoms") if s["_meta"][0]["atom"] == atom for p in s["positions"]
    ]


def test_scene_is_plain_json_around_the_middle_of_the_cell(cube):
    scene = json.loads(json.dumps(build_scene(cube)))
    origins = {tuple(s["origin"]) for s in scene["contents"] if s["name"] != "axes"}
    assert origins == {(-1.5, -1.5, -1.5)}
    assert [entry["name"] for entry in legend(cube)] == ["Pd", "H"]


@pytest.mark.parametrize(
    ("size", "images", "corners", "centres"),
    [((1, 1, 1), True, 8, 1), ((1, 1, 1), False, 1, 1), ((2, 1, 3), True, 24, 6)],
)
def test_atoms_and_their_images(cube, size, images, corners, centres):
    scene = build_scene(cube, size=size, images=images)
    assert (len(positions(scene, 0)), len(positions(scene, 1))) == (corners, centres)
    assert np.max(positions(scene, 0)) <= 3.0 * max(size) + 1e-9


def test_bonds_follow_the_cutoffs(cube):
    length = 3.0 * np.sqrt(3) / 2
    assert part(build_scene(cube, {"H-Pd": length - 0.01}), "bonds") == []
    halves = [
        pair
        for c in part(build_scene(cube, {"H-Pd": length + 0.01}), "bonds")
        for pair in c["positionPairs"]
    ]
    # of the centre, and of each corner, those that leave the cell too
    assert len(halves) == 8 + 8 * 8
    lengths = np.linalg.norm(np.diff(np.array(halves), axis=1)[:, 0], axis=1)
    assert lengths == pytest.approx(length / 2)
    longer = build_scene(cube, {"Pd-Pd": 3.1})
    assert {c["tooltip"] for c in part(longer, "bonds")} == {"Pd-Pd 3.000 Å"}


def test_polyhedra_have_the_neighbours_as_corners(cube):
    (hull, *_), plain = (
        part(build_scene(cube, polyhedra=True), "polyhedra"),
        part(build_scene(cube), "polyhedra"),
    )
    assert plain == []
    assert len(hull["positions"]) == 8


def test_lit_pair_leads_to_the_neighbours_image(cube):
    lit = part(build_scene(cube, lit=(1, 0, (1, 1, 1))), "lit")
    bond = next(x for x in lit if x["type"] == "cylinders")
    assert bond["positionPairs"] == [[[1.5, 1.5, 1.5], [3.0, 3.0, 3.0]]]


def test_the_package_itself_is_not_imported():
    code = (
        "import sys; from crystalgan.plot.scene import _primitives; _primitives();"
        " print('crystal_toolkit' in sys.modules)"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "False"
    )
