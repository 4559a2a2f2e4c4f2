"""Figures of classes and candidates: what is drawn is what was given."""

import math
from itertools import pairwise

import pandas as pd
import pytest

from crystalgan.plot.classes import (
    class_figure,
    distance_figure,
    map_figure,
    pairs_of,
    pattern_figure,
)
from crystalgan.plot.training import thinned


def test_pairs_of_a_ternary():
    assert pairs_of("H", "Pd", "Ni") == ["H-H", "Pd-Pd", "Ni-Ni", "Ni-Pd", "H-Pd", "H-Ni"]
    assert pairs_of("H", "Pd", "Pd") == ["H-H", "Pd-Pd", "H-Pd"]


def test_distance_figure_shares_sum_to_one_and_limits_are_drawn():
    series = {"class": {"H-H": [1.8, 1.82, 2.6, 9.0]}, "empty": {}}
    figure = distance_figure(series, ["H-H"], {"H-H": (1.8, math.inf)}, {"H-H": [2.2]})
    bars = next(t for t in figure.data if t.name == "class")
    assert sum(bars.y) == pytest.approx(100)
    assert max(bars.y) == pytest.approx(50)
    # no line where there is no upper limit
    assert [shape.x0 for shape in figure.layout.shapes] == [1.8]
    assert next(t for t in figure.data if t.name == "this cell").x == (2.2,)


def test_map_figure_gives_back_ids():
    table = pd.DataFrame(
        {
            "id": [3, 8],
            "formula": ["PdNiH", "PdNiH2"],
            "decision": ["kept", "undecided"],
            "x": [1, 2],
            "y": [3, 4],
        }
    )
    figure = map_figure(table, "x", "y", 8)
    by_name = {trace.name: trace for trace in figure.data}
    assert by_name["kept"].customdata[0][0] == 3
    assert list(by_name["shown"].x) == [2]
    assert list(by_name["rejected"].x) == []


def test_pattern_and_class_figures():
    figure = pattern_figure({"a": ([30.0, 40.0], [100.0, 20.0], ["(1, 1, 1)", "(2, 0, 0)"])})
    assert list(figure.data[1].customdata) == ["(1, 1, 1)", "(2, 0, 0)"]
    assert list(figure.data[0].y) == [0, 100.0, None, 0, 20.0, None]
    assert list(
        class_figure({"Pd-H": [(1.0, 15.0, "rocksalt")], "none": []}, "H").data[0].text
    ) == ["rocksalt"]


def test_thinned_keeps_ends_shares_and_means():
    metrics = [{"step": 1, "epoch": k, "geo1": float(k)} for k in range(1, 1001)]
    metrics += [
        {"step": 2, "epoch": 1, "geo1": 2.0, "valid": 0.5},
        {"step": 2, "epoch": 2, "geo1": 4.0},
    ]
    few = thinned(metrics, points=100)
    assert [line["epoch"] for line in few if line["step"] == 1][-1] == 1000
    assert 100 <= len(few) <= 105
    assert few[-2]["valid"] == 0.5
    smooth = thinned(metrics, window=2, points=10_000)
    assert smooth[1]["geo1"] == pytest.approx(1.5)
    assert smooth[-1]["geo1"] == pytest.approx(3.0)


def test_thinned_is_short_however_long_the_training():
    metrics = [
        {"step": 2, "epoch": k, "geo1": 1.0} | ({"valid": k / 1e5} if k % 10 == 1 else {})
        for k in range(1, 100_001)
    ]
    few = thinned(metrics)
    shares = [line for line in few if "valid" in line]
    assert len(few) < 1300
    assert 500 < len(shares) < 700
    assert few[-1]["epoch"] == 100_000
    assert max(after["epoch"] - before["epoch"] for before, after in pairwise(shares)) < 300
