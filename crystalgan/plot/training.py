"""The loss terms of a training as a figure, and the lines of metrics that are worth drawing."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from crystalgan.plot.style import OKABE_ITO, note

if TYPE_CHECKING:
    from collections.abc import Sequence

    import plotly.graph_objects as go

TERM_COLOURS = dict(
    zip(("discriminator", "adversarial", "reconstruction", "geo1", "geo2"), OKABE_ITO, strict=False)
)
TERM_COLOURS["energy"] = "#8C6BB1"
FEW_ROUNDS = 10  # each of which gets its tick
BALANCED = 0.55, 0.85  # accuracies of a discriminator that keeps up and does not win
FIXED = ("step", "epoch", "valid")  # of a line of metrics: no loss terms


def loss_figure(metrics: list[dict[str, Any]]) -> go.Figure:
    """The loss terms of both steps against the epoch, and the share of good raw cells in %.

    `metrics` are the lines of `Run.metrics()`, all of them or as many as there are yet. Raw cells
    are what step 2's generator puts out, before any repair. Losses have a log axis: a negative
    term is drawn by its size and named so, and a zero leaves a gap; hovering gives the value as it
    is.

    >>> figure = loss_figure([{"step": 1, "epoch": 1, "reconstruction_a": 0.2}])
    >>> [trace.name for trace in figure.data]
    ['reconstruction A']
    """
    from plotly.subplots import make_subplots

    if not metrics:
        return note("No epoch has been trained yet.")
    valid = [line for line in metrics if "valid" in line]
    steps = sorted({line["step"] for line in metrics} | {1})
    titles = [f"Step {step}" for step in steps] + (["Raw cells keeping the rule"] if valid else [])
    figure = make_subplots(1, len(titles), subplot_titles=titles, horizontal_spacing=0.07)
    named: set[str] = set()
    for column, step in enumerate(steps, 1):
        lines = [line for line in metrics if line["step"] == step]
        terms = {name for line in lines for name in line} - set(FIXED)
        for term in sorted(terms, key=_order):
            trace = _term(term, lines)
            trace.showlegend = trace.name not in named
            named.add(trace.name)
            figure.add_trace(trace, 1, column)
        figure.update_yaxes(type="log", exponentformat="power", row=1, col=column)
    if valid:
        figure.add_trace(_share(valid), 1, len(titles))
        figure.update_yaxes(range=(-2, 102), ticksuffix=" %", row=1, col=len(titles))
        figure.update_xaxes(range=(0, metrics[-1]["epoch"]), row=1, col=len(titles))
    figure.update_xaxes(title={"text": "epoch", "standoff": 4}, rangemode="tozero")
    figure.update_annotations(font_size=14)
    figure.update_yaxes(title="loss, unweighted", row=1, col=1)
    figure.update_layout(
        height=330,
        margin={"l": 60, "r": 10, "t": 50, "b": 40},
        legend={"orientation": "h", "y": -0.2, "yanchor": "top", "font": {"size": 12}},
        uirevision="losses",
    )
    return figure


def accuracy_figure(accuracies: Sequence[float]) -> go.Figure:
    """The accuracy of the discriminator of a search in %, against the rounds that it learned in.

    `accuracies` are those of `Record.step`, a round's mean each. A game is played in the band where
    it is neither half nor all.

    >>> len(accuracy_figure([0.5, 0.62, 0.71]).data)
    1
    """
    import plotly.graph_objects as go

    figure = go.Figure(
        go.Scatter(
            x=list(range(1, len(accuracies) + 1)),
            y=[100 * accuracy for accuracy in accuracies],
            mode="lines+markers" if len(accuracies) < 30 else "lines",
            line={"color": OKABE_ITO[0], "width": 1.8},
            hovertemplate="round %{x}: %{y:.0f} %<extra></extra>",
        )
    )
    low, high = BALANCED
    figure.add_hrect(100 * low, 100 * high, line_width=0, fillcolor=OKABE_ITO[2], opacity=0.12)
    figure.update_yaxes(title="discriminator right", range=(0, 102), ticksuffix=" %")
    figure.update_xaxes(title="rounds that it learned in", rangemode="tozero", tickformat="d")
    if len(accuracies) <= FEW_ROUNDS:
        figure.update_xaxes(dtick=1)
    figure.update_layout(height=240, margin={"l": 60, "r": 10, "t": 10, "b": 45})
    return figure


def thinned(
    metrics: list[dict[str, Any]], window: int = 1, points: int = 600
) -> list[dict[str, Any]]:
    """Metrics to draw: as many lines as a figure can show.

    Terms become means of the last `window` epochs; at most `points` lines a step are kept, and as
    many again of those with the share of good cells.
    """
    from collections import deque

    out = []
    for step in sorted({line["step"] for line in metrics}):
        lines = [line for line in metrics if line["step"] == step]
        watched = [k for k, line in enumerate(lines) if "valid" in line]
        kept = {len(lines) - 1, *_every(range(len(lines)), points), *_every(watched, points)}
        recent: deque[dict[str, Any]] = deque(maxlen=max(1, window))
        for k, line in enumerate(lines):
            recent.append(line)
            if k in kept:
                terms = [name for name in line if name not in FIXED]
                means = {name: sum(old[name] for old in recent) / len(recent) for name in terms}
                out.append({name: line[name] for name in line if name in FIXED} | means)
    return out


def _every(numbers: Sequence[int], points: int) -> Sequence[int]:
    """Evenly chosen ones of these numbers, at most `points`."""
    return numbers[:: max(1, math.ceil(len(numbers) / points))]


def _order(term: str) -> tuple[int, str]:
    """Known terms in the order of their colours, others after them."""
    kind = term.partition("_")[0]
    return (list(TERM_COLOURS).index(kind) if kind in TERM_COLOURS else len(TERM_COLOURS)), term


def _term(term: str, lines: list[dict[str, Any]]) -> go.Scatter:
    """One loss term as a line: its colour says which term, dashes which domain."""
    import plotly.graph_objects as go

    kept = [line for line in lines if term in line]
    values = [line[term] for line in kept]
    sign = ", negative: its size" if any(value < 0 for value in values) else ""
    kind, _, domain = term.partition("_")
    colour = TERM_COLOURS.get(kind, OKABE_ITO[-1])
    return go.Scatter(
        x=[line["epoch"] for line in kept],
        y=[abs(value) or None for value in values],
        customdata=values,
        mode="lines" if len(kept) > 1 else "markers",
        name=f"{kind} {domain.upper()}".strip() + sign,
        legendgroup=term,
        line={"color": colour, "width": 1.8, "dash": "dot" if domain == "b" else "solid"},
        hovertemplate="epoch %{x}: %{customdata:.4g}",
    )


def _share(lines: list[dict[str, Any]]) -> go.Scatter:
    import plotly.graph_objects as go

    return go.Scatter(
        x=[line["epoch"] for line in lines],
        y=[100 * line["valid"] for line in lines],
        mode="lines+markers" if len(lines) < 30 else "lines",
        name="keep the rule",
        showlegend=False,
        line={"color": OKABE_ITO[2], "width": 2.2},
        hovertemplate="epoch %{x}: %{y:.1f} %",
    )
