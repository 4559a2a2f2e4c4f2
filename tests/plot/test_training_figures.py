"""Figures of a training: what they draw is compared with the data."""

import subprocess
import sys

import pytest

from crystalgan import accuracy_figure, loss_figure

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


def traces(figure, kind="scatter"):
    return {trace.name: trace for trace in figure.data if trace.type == kind}


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


def test_the_accuracy_of_a_discriminator():
    figure = accuracy_figure([0.5, 0.625])
    assert list(figure.data[0].x) == [1, 2]
    assert list(figure.data[0].y) == [50.0, 62.5]
    (band,) = figure.layout.shapes
    assert (band.y0, band.y1) == pytest.approx((55, 85))


@pytest.mark.parametrize("module", ["training", "classes", "studies", "style", "structure"])
def test_plots_import_nothing_heavy(module):
    code = (
        f"import sys, crystalgan.plot.{module};"
        " print(sorted({'plotly', 'pandas', 'torch', 'pymatgen', 'numba'} & set(sys.modules)))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"
