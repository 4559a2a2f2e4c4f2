"""Data -> plotly figures of stability: the ternary hull, a relaxation, storage. They read no file
and show nothing."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from crystalgan.plot.style import EDGE_COLOUR, OKABE_ITO
from crystalgan.stability.hydrogen import KNOWN, TARGETS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    import plotly.graph_objects as go
    from pymatgen.analysis.phase_diagram import PhaseDiagram
    from pymatgen.core import Composition

HEIGHT = math.sqrt(3) / 2  # of a triangle with edges of 1
ABOVE = "above_hull"


def place(composition: Composition, species: Sequence[str]) -> tuple[float, float]:
    """Where a composition lies in a triangle with edges of 1: metal A on the left, B on the right,
    the shared element on top."""
    shared, _, b = species
    top = composition.get_atomic_fraction(shared)
    return float(composition.get_atomic_fraction(b) + top / 2), float(HEIGHT * top)


def hull_figure(
    diagram: PhaseDiagram, table: pd.DataFrame, species: Sequence[str], current: int | None
) -> go.Figure:
    """The convex hull seen from above: stable phases, lines between them, and candidates.

    `table` is that of `stability.table.table_of`; `customdata` of a candidate's point begins with
    its id, a ring is the current one.

    >>> hull_figure(diagram, hull("runs/my_run"), ("H", "Pd", "Ni"), None)  # doctest: +SKIP
    """
    import plotly.graph_objects as go
    from pymatgen.core import Composition

    figure = go.Figure()
    corners = [
        diagram.qhull_entries[i] for facet in diagram.facets for i in (*facet, facet[0], facet[0])
    ]
    points = [place(entry.composition, species) for entry in corners]
    x = [None if k % 5 == 4 else p[0] for k, p in enumerate(points)]
    y = [None if k % 5 == 4 else p[1] for k, p in enumerate(points)]
    line = {"color": EDGE_COLOUR, "width": 1.2}
    figure.add_trace(
        go.Scatter(x=x, y=y, mode="lines", line=line, hoverinfo="skip", showlegend=False)
    )
    phases = [entry for entry in diagram.all_entries if not entry.attribute]
    for name, mine, marker in (
        (
            "other phases",
            [e for e in phases if e not in diagram.stable_entries],
            {"color": "#b0b0b0", "size": 5},
        ),
        (
            "phases on the hull",
            [e for e in phases if e in diagram.stable_entries],
            {"color": OKABE_ITO[0], "size": 11},
        ),
    ):
        places = [place(entry.composition, species) for entry in mine]
        figure.add_trace(
            go.Scatter(
                x=[p[0] for p in places],
                y=[p[1] for p in places],
                text=[f"{e.name}, {1000 * diagram.get_e_above_hull(e):.0f} meV/atom" for e in mine],
                mode="markers",
                name=name,
                marker=marker | {"symbol": "diamond"},
                hovertemplate="%{text}<extra></extra>",
            )
        )
    shown = table[table[ABOVE].notna()].sort_values(ABOVE, ascending=False)  # the lowest on top
    places = [place(Composition(formula), species) for formula in shown["formula"]]
    figure.add_trace(
        go.Scatter(
            x=[p[0] for p in places],
            y=[p[1] for p in places],
            customdata=shown[["id", "formula", ABOVE]].to_numpy().tolist(),
            mode="markers",
            name="candidates",
            marker={
                "size": 11,
                "color": 1000 * shown[ABOVE],
                "colorscale": "Viridis_r",
                "cmin": 0,
                "cmax": 200,
                "colorbar": {"title": "meV/atom", "thickness": 12, "len": 0.7},
                "line": {"width": 1, "color": "#ffffff"},
            },
            hovertemplate=(
                "%{customdata[0]}: %{customdata[1]}, %{marker.color:.0f} meV/atom<extra></extra>"
            ),
        )
    )
    here = [p for p, number in zip(places, shown["id"], strict=True) if number == current]
    ring = {"symbol": "circle-open", "size": 20, "color": OKABE_ITO[3], "line": {"width": 3}}
    figure.add_trace(
        go.Scatter(
            x=[p[0] for p in here],
            y=[p[1] for p in here],
            mode="markers",
            name="shown",
            marker=ring,
            hoverinfo="skip",
        )
    )
    shared, a, b = species
    for text, at, side in (
        (a, (0.0, 0.0), "right"),
        (b, (1.0, 0.0), "left"),
        (shared, (0.5, HEIGHT), "center"),
    ):
        figure.add_annotation(
            text=f"<b>{text}</b>",
            x=at[0],
            y=at[1],
            showarrow=False,
            xanchor=side,
            yshift=14 if side == "center" else -12,
        )
    figure.update_xaxes(visible=False, range=(-0.1, 1.1))
    figure.update_yaxes(visible=False, range=(-0.08, 0.97), scaleanchor="x")
    figure.update_layout(
        height=430,
        margin={"l": 0, "r": 0, "t": 10, "b": 0},
        legend={"orientation": "h", "y": -0.02, "yanchor": "top"},
        clickmode="event+select",
    )
    return figure


def relaxation_figure(
    energies: Sequence[float], step: int, steps: Sequence[int] | None = None
) -> go.Figure:
    """Energy along a relaxation against where it ended (meV/atom); the step shown is marked.

    `energies`: of each step, or of these `steps`, eV/atom.

    >>> relaxation_figure([-3.0, -3.1, -3.12], step=1).data[0].type
    'scatter'
    """
    import plotly.graph_objects as go

    steps = range(len(energies)) if steps is None else steps
    last = [1000 * (energy - energies[-1]) for energy in energies]
    figure = go.Figure(
        go.Scatter(
            x=list(steps),
            y=last,
            mode="lines",
            line={"color": OKABE_ITO[0], "width": 2},
            hovertemplate="step %{x}: %{y:.1f} meV/atom",
        )
    )
    figure.add_trace(
        go.Scatter(
            x=[step],
            y=[last[list(steps).index(step)]],
            mode="markers",
            marker={"size": 11, "color": OKABE_ITO[1]},
            hoverinfo="skip",
        )
    )
    figure.update_xaxes(title="step")
    figure.update_yaxes(title="meV/atom above the end")
    figure.update_layout(height=230, margin={"l": 60, "r": 10, "t": 10, "b": 40}, showlegend=False)
    return figure


def storage_figure(table: pd.DataFrame, current: int | None) -> go.Figure:
    """Hydrogen capacity (wt%) against the enthalpy of release (kJ/mol H2).

    Candidates and known hydrides; targets are lines. `table` is that of `stability.table_of`.

    >>> storage_figure(hull("runs/my_run"), None)  # doctest: +SKIP
    """
    import plotly.graph_objects as go

    shown = table[table["enthalpy"].notna()]
    known = [hydride for hydride in KNOWN if hydride.enthalpy is not None]
    figure = go.Figure()
    figure.add_trace(
        go.Scatter(
            x=shown["weight_percent"],
            y=shown["enthalpy"],
            customdata=shown[["id", "formula"]].to_numpy().tolist(),
            mode="markers",
            name="candidates, this potential",
            marker={"size": 9, "color": OKABE_ITO[0]},
            hovertemplate=(
                "%{customdata[0]}: %{customdata[1]}<br>%{x:.2f} wt%, %{y:.0f} kJ/mol"
                " H2<extra></extra>"
            ),
        )
    )
    figure.add_trace(
        go.Scatter(
            x=[hydride.weight_percent for hydride in known],
            y=[hydride.enthalpy for hydride in known],
            text=[hydride.formula for hydride in known],
            mode="markers+text",
            textposition="top center",
            name="measured hydrides",
            marker={"size": 11, "symbol": "star", "color": OKABE_ITO[1]},
            hovertemplate="%{text}: %{x:.2f} wt%, %{y:.1f} kJ/mol H2<extra></extra>",
        )
    )
    here = shown[shown["id"] == current]
    ring = {"symbol": "circle-open", "size": 18, "color": OKABE_ITO[3], "line": {"width": 3}}
    figure.add_trace(
        go.Scatter(
            x=here["weight_percent"],
            y=here["enthalpy"],
            mode="markers",
            name="shown",
            marker=ring,
            hoverinfo="skip",
        )
    )
    for name, (mass, _) in TARGETS.items():
        figure.add_vline(
            mass,
            line={"dash": "dash", "color": EDGE_COLOUR},
            annotation_text=f"DOE system target {name}",
            annotation_textangle=-90,
            annotation_position="bottom left",
        )
    figure.update_xaxes(title="hydrogen / wt%", rangemode="tozero")
    figure.update_yaxes(title="release / (kJ/mol H2)")
    figure.update_layout(
        height=380,
        margin={"l": 60, "r": 10, "t": 10, "b": 40},
        legend={"orientation": "h", "y": 1.12},
    )
    return figure


def composition_figure(
    table: pd.DataFrame, species: Sequence[str], current: int | None
) -> go.Figure:
    """Energy above the hull (meV/atom) against the share of the shared element (at.%), coloured by
    the share of metal B among the metals.

    `table` is that of `stability.table.table_of`; `customdata` of a point begins with the id, a
    ring is the current one.

    >>> composition_figure(hull("runs/my_run"), ("H", "Pd", "Ni"), None)  # doctest: +SKIP
    """
    import plotly.graph_objects as go
    from pymatgen.core import Composition

    shared, a, b = species
    shown = table[table[ABOVE].notna()].sort_values(ABOVE, ascending=False)  # the lowest on top
    compositions = [Composition(formula) for formula in shown["formula"]]
    x = [100 * c.get_atomic_fraction(shared) for c in compositions]
    metal = [100 * c[b] / (c[a] + c[b]) for c in compositions]
    y = (1000 * shown[ABOVE]).tolist()
    figure = go.Figure(
        go.Scatter(
            x=x,
            y=y,
            customdata=shown[["id", "formula"]].to_numpy().tolist(),
            mode="markers",
            cliponaxis=False,
            marker={
                "size": 10,
                "color": metal,
                "colorscale": "Viridis",
                "cmin": 0,
                "cmax": 100,
                "colorbar": {"title": f"{b} / % of metals", "thickness": 12, "len": 0.8},
                "line": {"width": 1, "color": "#ffffff"},
            },
            hovertemplate=(
                "%{customdata[0]}: %{customdata[1]}, %{y:.0f} meV/atom above the hull"
                "<extra></extra>"
            ),
        )
    )
    here = [k for k, number in enumerate(shown["id"]) if number == current]
    figure.add_trace(
        go.Scatter(
            x=[x[k] for k in here],
            y=[y[k] for k in here],
            mode="markers",
            cliponaxis=False,
            marker={
                "symbol": "circle-open",
                "size": 20,
                "color": OKABE_ITO[3],
                "line": {"width": 3},
            },
            hoverinfo="skip",
        )
    )
    figure.update_xaxes(title=f"{shared} / at.%", range=(0, 100))
    figure.update_yaxes(title="above the hull / (meV/atom)", rangemode="tozero")
    figure.update_layout(
        height=380,
        margin={"l": 60, "r": 10, "t": 10, "b": 40},
        showlegend=False,
        clickmode="event+select",
    )
    return figure


def sources_figure(found: dict[str, int], spent: dict[str, float]) -> go.Figure:
    """What each source of a search found (phases) and took (seconds of one usual core).

    >>> len(sources_figure({"hosts": 3, "random": 1}, {"hosts": 12.0, "random": 8.0}).data)
    2
    """
    from plotly.subplots import make_subplots

    names = sorted(found, key=lambda name: found[name])
    figure = make_subplots(1, 2, shared_yaxes=True, horizontal_spacing=0.06)
    counts = [float(found[name]) for name in names]
    seconds = [spent.get(name, 0.0) for name in names]
    bars = (
        (counts, OKABE_ITO[0], "phases found", "%{y}: %{x} phases"),
        (seconds, OKABE_ITO[5], "work / s of one usual core", "%{y}: %{x:.0f} s"),
    )
    for column, (values, colour, title, hover) in enumerate(bars, 1):
        figure.add_bar(
            x=values,
            y=names,
            orientation="h",
            marker={"color": colour},
            text=[f"{value:.0f}" for value in values],
            hovertemplate=f"{hover}<extra></extra>",
            row=1,
            col=column,
        )
        figure.update_xaxes(title=title, rangemode="tozero", row=1, col=column)
    figure.update_layout(
        height=110 + 40 * len(names),
        margin={"l": 80, "r": 10, "t": 10, "b": 45},
        showlegend=False,
    )
    return figure
