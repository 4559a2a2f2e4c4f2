"""Figures of stability: places in the triangle, points that carry their ids."""

import math

import pandas as pd
import pytest
from pymatgen.core import Composition

from crystalgan.plot.stability import hull_figure, place, relaxation_figure, storage_figure
from crystalgan.stability.hull import Phase, diagram_of
from crystalgan.stability.hydrogen import TARGETS

SPECIES = ("H", "Mg", "Ni")


@pytest.fixture
def table():
    return pd.DataFrame(
        {
            "id": [4, 7],
            "formula": ["Mg2NiH4", "MgNiH"],
            "above_hull": [0.0, 0.1],
            "weight_percent": [3.6, 1.2],
            "enthalpy": [64.0, None],
        }
    )


def test_corners_and_middle_of_the_triangle():
    assert place(Composition("Mg"), SPECIES) == (0, 0)
    assert place(Composition("Ni"), SPECIES) == (1, 0)
    assert place(Composition("H2"), SPECIES) == pytest.approx((0.5, math.sqrt(3) / 2))
    assert place(Composition("MgNiH"), SPECIES) == pytest.approx((0.5, math.sqrt(3) / 6))


def test_candidates_of_the_hull_carry_their_ids(table):
    energies = {"Mg": 0.0, "Ni": 0.0, "H2": 0.0, "MgH2": -0.7, "NiH": 0.1, "Mg2NiH4": -2.0}
    diagram = diagram_of([Phase(f, f, e, 4 * (f == "Mg2NiH4")) for f, e in energies.items()])
    figure = hull_figure(diagram, table, SPECIES, 7)
    traces = {trace.name: trace for trace in figure.data}
    assert [row[0] for row in traces["candidates"].customdata] == [7, 4]  # the lowest on top
    assert list(traces["candidates"].marker.color) == pytest.approx([100, 0])
    assert list(traces["other phases"].text) == ["NiH, 50 meV/atom"]
    assert len(traces["phases on the hull"].x) == 4
    assert (traces["shown"].x[0], traces["shown"].y[0]) == place(Composition("MgNiH"), SPECIES)
    lines = figure.data[0]
    assert len([x for x in lines.x if x is None]) == len(diagram.facets)


def test_energies_are_told_from_the_end():
    figure = relaxation_figure([-1.0, -1.2, -1.25], 1)
    assert list(figure.data[0].y) == pytest.approx([250, 50, 0])
    assert (figure.data[1].x[0], figure.data[1].y[0]) == (1, pytest.approx(50))


def test_storage_stands_beside_known_hydrides_and_targets(table):
    figure = storage_figure(table, 4)
    traces = {trace.name: trace for trace in figure.data}
    assert [row[0] for row in traces["candidates, this potential"].customdata] == [4]
    assert "LaNi5H6" in traces["measured hydrides"].text
    assert [shape.x0 for shape in figure.layout.shapes] == [mass for mass, _ in TARGETS.values()]
    assert all("system target" in note.text for note in figure.layout.annotations)
