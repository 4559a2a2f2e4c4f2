"""Data -> plotly figures of classes and candidates: distances, powder patterns, maps. They read no
file and show nothing."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from crystalgan.crystal.rules import pair_name
from crystalgan.plot.style import OKABE_ITO

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import pandas as pd
    import plotly.graph_objects as go

BIN = 0.1  # Å
LIMIT_COLOUR = "#888888"
DECISION_MARKS = {
    "undecided": ("circle", "#8a8a8a"),
    "kept": ("diamond", OKABE_ITO[0]),
    "rejected": ("x", OKABE_ITO[1]),
}


def pairs_of(shared: str, a: str, b: str) -> list[str]:
    """The six pairs of the elements of a ternary, metals with the shared element last."""
    return [
        pair_name(*pair)
        for pair in dict.fromkeys(
            ((shared, shared), (a, a), (b, b), (a, b), (shared, a), (shared, b))
        )
    ]


def distance_figure(
    series: dict[str, dict[str, list[float]]],
    pairs: list[str],
    limits: dict[str, tuple[float, float]],
    marked: dict[str, list[float]] | None = None,
) -> go.Figure:
    """Histograms of first-neighbour distances, one panel a pair of elements.

    Share of each series (%), d1 and d2 as dashed lines.

    `series`: name -> pair -> distances (Å); `marked`: the distances of one cell, as marks below the
    bars.

    >>> figure = distance_figure({"mine": {"H-Pd": [1.8, 1.9]}}, ["H-Pd"], {"H-Pd": (1.6, 2.2)})
    >>> {trace.name for trace in figure.data}
    {'mine'}
    """
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    columns = 3 if len(pairs) > 2 else len(pairs)
    rows = math.ceil(len(pairs) / columns)
    figure = make_subplots(
        rows, columns, subplot_titles=pairs, vertical_spacing=0.22, horizontal_spacing=0.06
    )
    for k, pair in enumerate(pairs):
        row, column = divmod(k, columns)
        place = {"row": row + 1, "col": column + 1}
        for i, (name, distances) in enumerate(series.items()):
            centers, share = _histogram(distances.get(pair, []))
            bar = go.Scatter(
                x=centers,
                y=share,
                name=name,
                legendgroup=name,
                showlegend=k == 0,
                mode="lines",
                line={
                    "shape": "hvh",
                    "color": OKABE_ITO[i % 6],
                    "width": 2,
                    "dash": ("solid", "dash", "dot")[i % 3],
                },
                hovertemplate="%{x:.2f} Å: %{y:.0f} %",
            )
            figure.add_trace(bar, **place)
        if marked and marked.get(pair):
            figure.add_trace(_marks(marked[pair], showlegend=k == 0), **place)
        for end, name, side in zip(
            limits.get(pair, ()), ("d1", "d2"), ("left", "right"), strict=False
        ):
            if math.isfinite(end):
                words = {
                    "annotation_text": f"{name} {end:.2f}",
                    "annotation_position": f"top {side}",
                    "annotation_font_size": 11,
                }
                figure.add_vline(
                    end,
                    line={"dash": "dash", "color": LIMIT_COLOUR, "width": 1.5},
                    **words,
                    **place,
                )
        figure.update_xaxes(range=(0.5, 5), ticksuffix=" Å", **place)
    figure.update_yaxes(rangemode="tozero", ticksuffix=" %")
    if marked and not any(pair in marked for pair in pairs[:1]):
        figure.add_trace(_marks([], showlegend=True), row=1, col=1)
    figure.update_layout(
        height=80 + 190 * rows,
        margin={"l": 50, "r": 10, "t": 30, "b": 30},
        legend={"orientation": "h", "y": -0.28 / rows},
    )
    return figure


def _marks(distances: Sequence[float | None], showlegend: bool) -> go.Scatter:
    import plotly.graph_objects as go

    return go.Scatter(
        x=distances or [None],
        y=[0.0] * max(1, len(distances)),
        name="this cell",
        legendgroup="this cell",
        showlegend=showlegend,
        mode="markers",
        marker={
            "symbol": "triangle-up",
            "size": 12,
            "color": OKABE_ITO[3],
            "line": {"width": 1, "color": "#333"},
        },
        cliponaxis=False,
        hovertemplate="%{x:.3f} Å",
    )


def _histogram(distances: list[float]) -> tuple[list[float], list[float]]:
    """Bin centres and the share of each in %."""
    import numpy as np

    if not distances:
        return [], []
    edges = np.arange(0.5, 5.0 + BIN, BIN)
    counts, _ = np.histogram(np.clip(distances, 0.5, 5.0 - 1e-9), edges)
    return ((edges[:-1] + edges[1:]) / 2).tolist(), (100 * counts / len(distances)).tolist()


def pattern_figure(patterns: dict[str, tuple[np.ndarray, np.ndarray, list[str]]]) -> go.Figure:
    """Simulated powder patterns as sticks, each below the other's name.

    `patterns`: name -> angles (2 theta), intensities and Miller indices, which hovering gives.

    >>> from crystalgan import load_candidate, powder_pattern, shipped
    >>> figure = pattern_figure({"1": powder_pattern(load_candidate(shipped(), 1))})
    >>> figure.data[0].name
    '1'
    """
    import plotly.graph_objects as go

    figure = go.Figure()
    for i, (name, (angles, intensities, indices)) in enumerate(patterns.items()):
        x = [v for angle in angles for v in (angle, angle, None)]
        y = [v for value in intensities for v in (0, value, None)]
        colour = OKABE_ITO[i % 6]
        figure.add_trace(
            go.Scatter(
                x=x,
                y=y,
                mode="lines",
                line={"color": colour, "width": 2},
                name=name,
                legendgroup=name,
                hoverinfo="skip",
            )
        )
        hover = "2θ %{x:.2f}°, intensity %{y:.0f}<br>%{customdata}"
        figure.add_trace(
            go.Scatter(
                x=angles,
                y=intensities,
                customdata=indices,
                mode="markers",
                marker={"color": colour, "size": 4},
                legendgroup=name,
                showlegend=False,
                name=name,
                hovertemplate=hover,
            )
        )
    figure.update_xaxes(title="2θ / °", range=(5, 90))
    figure.update_yaxes(title="intensity", range=(0, 105))
    figure.update_layout(
        height=300,
        margin={"l": 50, "r": 10, "t": 10, "b": 40},
        legend={"orientation": "h", "y": 1.12},
    )
    return figure


def class_figure(classes: dict[str, list[tuple[float, float, str]]], shared: str) -> go.Figure:
    """Cells of classes: shared atoms a metal atom, against the volume of a metal atom (Å³).

    `classes`: name -> volume, ratio and words of each cell.

    >>> figure = class_figure({"Pd": [(14.7, 1.0, "rocksalt"), (15.6, 2.0, "fluorite")]}, "H")
    >>> list(figure.data[0].x)
    [14.7, 15.6]
    """
    import plotly.graph_objects as go

    figure = go.Figure()
    for i, (name, cells) in enumerate(classes.items()):
        ratio, volume, names = (
            (list(column) for column in zip(*cells, strict=True)) if cells else ([], [], [])
        )
        figure.add_trace(
            go.Scatter(
                x=ratio,
                y=volume,
                text=names,
                mode="markers",
                name=name,
                marker={
                    "color": OKABE_ITO[i],
                    "symbol": ("circle", "diamond")[i % 2],
                    "size": 9,
                    "opacity": 0.75,
                },
                hovertemplate="%{text}<br>%{x:.2f}, %{y:.1f} Å³",
            )
        )
    figure.update_xaxes(title=f"{shared} atoms for each metal atom")
    figure.update_yaxes(title="volume of a metal atom / Å³")
    figure.update_layout(
        height=380,
        margin={"l": 55, "r": 10, "t": 10, "b": 40},
        legend={"orientation": "h", "y": 1.1},
    )
    return figure


def map_figure(table: pd.DataFrame, x: str, y: str, current: int | None) -> go.Figure:
    """Candidates as points, marked by decision; `customdata` holds their ids, a ring the current
    one."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for decision, (symbol, colour) in DECISION_MARKS.items():
        mine = table[table["decision"] == decision]
        figure.add_trace(
            go.Scattergl(
                x=mine[x],
                y=mine[y],
                customdata=mine[["id", "formula"]],
                mode="markers",
                name=decision,
                marker={"symbol": symbol, "color": colour, "size": 8, "opacity": 0.8},
                hovertemplate=(
                    "%{customdata[0]}: %{customdata[1]}<br>%{x:.2f}, %{y:.2f}<extra></extra>"
                ),
            )
        )
    here = table[table["id"] == current]
    ring: dict[str, Any] = {
        "symbol": "circle-open",
        "size": 18,
        "color": OKABE_ITO[3],
        "line": {"width": 3},
    }
    figure.add_trace(
        go.Scatter(
            x=here[x], y=here[y], mode="markers", name="shown", marker=ring, hoverinfo="skip"
        )
    )
    figure.update_xaxes(title=x)
    figure.update_yaxes(title=y)
    figure.update_layout(
        height=380,
        margin={"l": 55, "r": 10, "t": 10, "b": 40},
        legend={"orientation": "h", "y": 1.1},
        clickmode="event+select",
    )
    return figure
