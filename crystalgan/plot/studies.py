"""Figures of comparisons: Table II, an ablation, a benchmark, the validity of runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crystalgan.plot.style import EDGE_COLOUR, OKABE_ITO

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import plotly.graph_objects as go

    from crystalgan.studies.ablation import AblationResult
    from crystalgan.studies.benchmark import BenchmarkResult
    from crystalgan.studies.table2 import Table2Result

METHOD_NAMES = {
    "gan": "GAN",
    "discogan": "DiscoGAN",
    "unconstrained": "CrystalGAN<br>without constraints",
    "crystalgan": "CrystalGAN",
}
SOURCE_NAMES = {
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


def table2_figure(results: Sequence[Table2Result]) -> go.Figure:
    """Good cells by method, one panel a pair: ours with the spread over seeds, and the paper's.

    A method that repairs its cells has a second bar, of its cells before that.

    >>> table2_figure(table2([("Pd", "Ni")], seeds=2))  # doctest: +SKIP
    """
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    titles = [f"{result.pair}-{result.shared}, of {result.samples} cells" for result in results]
    figure = make_subplots(1, len(results), subplot_titles=titles, horizontal_spacing=0.07)
    named: set[str] = set()

    def add(trace: go.Bar | go.Scatter, column: int) -> None:
        trace.showlegend, trace.legendgroup = trace.name not in named, trace.name
        named.add(trace.name)
        figure.add_trace(trace, 1, column)

    for column, result in enumerate(results, 1):
        found, paper = result.methods, result.paper
        names = [METHOD_NAMES[method] for method in found]
        means, raw = ([getattr(n, x) for n in found.values()] for x in ("mean", "raw"))
        spread = _spread([one.std for one in found.values()])
        add(_bars("ours", names, means, OKABE_ITO[0], spread), column)
        if any(value is not None for value in raw):
            add(_bars("ours, not repaired", names, raw, OKABE_ITO[4]), column)
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
    x: Sequence[str],
    y: Sequence[float | None],
    colour: str,
    spread: dict[str, Any] | None = None,
) -> go.Bar:
    import plotly.graph_objects as go

    return go.Bar(
        x=x, y=y, name=name, marker_color=colour, error_y=spread, hovertemplate="%{y:.1f}"
    )


def _spread(values: Sequence[float]) -> dict[str, Any]:
    """Error bars of this length."""
    return {"type": "data", "array": values, "color": EDGE_COLOUR}


def ablation_figure(result: AblationResult) -> go.Figure:
    """Cells of 1,000 that keep each rule, for each variant that could be trained.

    >>> ablation_figure(ablation("Pd", "Ni", seeds=1))  # doctest: +SKIP
    """
    import plotly.graph_objects as go

    found = {name: one for name, one in reversed(result.variants.items()) if not one.error}
    figure = go.Figure()
    for rule, colour in (("learned", OKABE_ITO[4]), ("paper", OKABE_ITO[0])):
        spread = _spread([one.std[rule] for one in found.values()])
        figure.add_trace(
            go.Bar(
                y=list(found),
                x=[one.mean[rule] for one in found.values()],
                customdata=[(one.mean["unique"], one.mean["symmetric"]) for one in found.values()],
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
        title=f"{result.pair}-{result.shared}",
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


def validity_figure(measured: Mapping[str, Mapping[str, float | None]]) -> go.Figure:
    """Shares (%) of runs' candidates that keep each rule and are unique.

    `measured`: the name of each run -> what `metrics.measure` gives.

    >>> from crystalgan import measure, open_run, shipped
    >>> figure = validity_figure({"shipped": measure(open_run(shipped()))})
    >>> figure.data[0].type
    'bar'
    """
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


def benchmark_figure(results: Sequence[BenchmarkResult]) -> go.Figure:
    """Hits a CPU minute by source of candidates, one panel a result.

    >>> benchmark_figure([benchmark("Pd", "Ni", minutes=1)])  # doctest: +SKIP
    """
    from plotly.subplots import make_subplots

    figure = make_subplots(
        1,
        len(results),
        subplot_titles=[result.title for result in results],
        horizontal_spacing=0.07,
    )
    for column, result in enumerate(results, 1):
        names = [SOURCE_NAMES.get(source, source) for source in result.methods]
        for colour, limit in zip((OKABE_ITO[0], OKABE_ITO[4]), (0.1, 0.05), strict=True):
            rates = [found.total.rate(limit) for found in result.methods.values()]
            bars = _bars(f"within {limit} eV/atom of the hull", names, rates, colour)
            bars.showlegend, bars.legendgroup = column == 1, str(limit)
            figure.add_trace(bars, 1, column)
    figure.update_yaxes(rangemode="tozero")
    figure.update_yaxes(title="hits a CPU minute", row=1, col=1)
    margin = {"l": 55, "r": 10, "t": 40, "b": 40}
    figure.update_layout(
        height=360, margin=margin, legend={"orientation": "h", "y": -0.25}, bargap=0.3
    )
    return figure
