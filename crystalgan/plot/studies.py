"""Data -> plotly figures of comparisons: Table II, an ablation, the validity of runs. They read no
file and show nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crystalgan.plot.style import OKABE_ITO
from crystalgan.studies.benchmark import title as race_title
from crystalgan.studies.table2 import paper_counts

if TYPE_CHECKING:
    import plotly.graph_objects as go

METHOD_NAMES = {
    "gan": "GAN",
    "discogan": "DiscoGAN",
    "unconstrained": "CrystalGAN<br>without constraints",
    "crystalgan": "CrystalGAN",
}
RACERS = {
    "crystalgan": "CrystalGAN",
    "pyxtal": "PyXtal",
    "substitution": "swapped metals",
    "ase": "ASE random",
}
VALIDITY = {
    "valid paper": "keep paper",
    "valid learned": "keep learned",
    "valid cdvae": "keep CDVAE",
    "unique": "unique",
}


def table2_figure(results: list[dict[str, Any]]) -> go.Figure:
    """Good cells of as many as both classes hold, by method, one panel a pair: ours with the spread
    over seeds, and the paper's.

    `results` as `table2` gives them; a method that refines has a second bar, of its cells before
    that.
    """
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    titles = [
        f"{result['pair']}-{result['shared']}, of {result['samples']} cells" for result in results
    ]
    figure = make_subplots(1, len(results), subplot_titles=titles, horizontal_spacing=0.07)
    named: set[str] = set()

    def add(trace: go.Bar | go.Scatter, column: int) -> None:
        trace.showlegend, trace.legendgroup = trace.name not in named, trace.name
        named.add(trace.name)
        figure.add_trace(trace, 1, column)

    for column, result in enumerate(results, 1):
        found, paper = result["methods"], paper_counts(result["pair"])
        names = [METHOD_NAMES[method] for method in found]
        spread = {
            "type": "data",
            "array": [one["std"] for one in found.values()],
            "color": "#888888",
        }
        means = [one["mean"] for one in found.values()]
        add(_bars("ours", names, means, OKABE_ITO[0], spread), column)
        if any("raw" in one for one in found.values()):
            add(
                _bars(
                    "ours, not refined",
                    names,
                    [one.get("raw") for one in found.values()],
                    OKABE_ITO[4],
                ),
                column,
            )
        if paper:
            marker = {
                "symbol": "diamond",
                "size": 11,
                "color": OKABE_ITO[1],
                "line": {"width": 1, "color": "#333333"},
            }
            counts = [paper[method] for method in found]
            add(
                go.Scatter(
                    x=names, y=counts, mode="markers", name="paper", marker=marker, cliponaxis=False
                ),
                column,
            )
    figure.update_yaxes(rangemode="tozero")
    figure.update_yaxes(title="good cells", row=1, col=1)
    figure.update_layout(
        height=360,
        margin={"l": 55, "r": 10, "t": 40, "b": 40},
        legend={"orientation": "h", "y": -0.25},
        bargap=0.3,
    )
    return figure


def _bars(
    name: str,
    x: list[str],
    y: list[float | None],
    colour: str,
    spread: dict[str, Any] | None = None,
) -> go.Bar:
    import plotly.graph_objects as go

    return go.Bar(
        x=x, y=y, name=name, marker_color=colour, error_y=spread, hovertemplate="%{y:.1f}"
    )


def ablation_figure(result: dict[str, Any]) -> go.Figure:
    """Cells of 1,000 that keep each rule, for each variant that could be trained; `result` as
    `ablation` gives it."""
    import plotly.graph_objects as go

    found = {
        name: scores
        for name, scores in reversed(result["variants"].items())
        if "error" not in scores
    }
    figure = go.Figure()
    for rule, colour in (("learned", OKABE_ITO[4]), ("paper", OKABE_ITO[0])):
        spread = {
            "type": "data",
            "array": [scores[f"{rule}_std"] for scores in found.values()],
            "color": "#888888",
        }
        figure.add_trace(
            go.Bar(
                y=list(found),
                x=[scores[rule] for scores in found.values()],
                customdata=[(scores["unique"], scores["symmetric"]) for scores in found.values()],
                orientation="h",
                name=f"keep {rule}",
                marker_color=colour,
                error_x=spread,
                hovertemplate=(
                    "%{x:.0f} of 1,000<br>%{customdata[0]:.0f} % unique, %{customdata[1]:.0f} %"
                    " above P1"
                ),
            )
        )
    figure.update_xaxes(title="cells of 1,000", range=(0, 1000))
    figure.update_yaxes(automargin=True)
    figure.update_layout(
        title=f"{result['pair']}-{result['shared']}",
        height=120 + 40 * len(found),
        margin={"l": 10, "r": 10, "t": 50, "b": 40},
        legend={
            "orientation": "h",
            "y": 1.02,
            "yanchor": "bottom",
            "x": 1,
            "xanchor": "right",
            "traceorder": "reversed",
        },
    )
    return figure


def validity_figure(measured: dict[str, dict[str, float | None]]) -> go.Figure:
    """Shares (%) of runs' candidates that keep each rule and are unique; `measured`: name -> what
    `metrics.measure` gives."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for i, (name, values) in enumerate(measured.items()):
        y = [values.get(key) for key in VALIDITY]
        bar = go.Bar(
            x=list(VALIDITY.values()),
            y=y,
            name=name,
            marker_color=OKABE_ITO[i % 6],
            hovertemplate="%{y:.1f} %",
        )
        figure.add_trace(bar)
    figure.update_yaxes(range=(0, 102), ticksuffix=" %")
    figure.update_layout(
        height=300,
        margin={"l": 55, "r": 10, "t": 10, "b": 30},
        legend={"orientation": "h", "y": -0.15},
    )
    return figure


def race_figure(results: list[dict[str, Any]]) -> go.Figure:
    """Hits a CPU minute by method, one panel a pair; `results` as `race` gives them."""
    from plotly.subplots import make_subplots

    figure = make_subplots(
        1,
        len(results),
        subplot_titles=[race_title(result) for result in results],
        horizontal_spacing=0.07,
    )
    for column, result in enumerate(results, 1):
        found = result["methods"]
        names = [RACERS.get(method, method) for method in found]
        for colour, limit in zip((OKABE_ITO[0], OKABE_ITO[4]), ("0.1", "0.05"), strict=True):
            rates = [one[f"hits_{limit}"] / one["cpu_minutes"] for one in found.values()]
            bars = _bars(f"within {limit} eV/atom of the hull", names, rates, colour)
            bars.showlegend, bars.legendgroup = column == 1, limit
            figure.add_trace(bars, 1, column)
    figure.update_yaxes(rangemode="tozero")
    figure.update_yaxes(title="hits a CPU minute", row=1, col=1)
    margin = {"l": 55, "r": 10, "t": 40, "b": 40}
    figure.update_layout(
        height=360, margin=margin, legend={"orientation": "h", "y": -0.25}, bargap=0.3
    )
    return figure
