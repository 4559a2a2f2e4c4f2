"""Data -> plotly figures: the losses of a training, one cell in 3D. They read no file and show
nothing."""

from __future__ import annotations

import math
from itertools import product
from typing import TYPE_CHECKING, Any

from crystalgan.crystal.describe import default_cutoffs
from crystalgan.crystal.rules import pair_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import plotly.graph_objects as go
    from numpy import ndarray
    from pymatgen.core import Structure

# Okabe and Ito's colours, told apart with any colour vision; black and yellow are left out: one is
# lost on dark, one on white.
OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
TERM_COLOURS = dict(
    zip(("discriminator", "adversarial", "reconstruction", "geo1", "geo2"), OKABE_ITO, strict=False)
)
TERM_COLOURS["energy"] = "#8C6BB1"
EDGE_COLOUR = "#888888"
FIXED = ("step", "epoch", "valid")  # of a line of metrics: no loss terms
FACE = 0.02  # fractional: atoms closer to a face than this are drawn on the opposite one too


def loss_figure(metrics: list[dict[str, Any]]) -> go.Figure:
    """The loss terms of both steps against the epoch, and the share of raw cells that keep the rule
    in %.

    `metrics` are the lines of `Run.metrics()`, all of them or as many as there are yet. Raw cells
    are what step 2's generator puts out, before any refinement. Losses have a log axis: a negative
    term is drawn by its size and named so, and a zero leaves a gap; hovering gives the value as it
    is.
    """
    from plotly.subplots import make_subplots

    if not metrics:
        return _note("No epoch has been trained yet.")
    valid = [line for line in metrics if "valid" in line]
    steps = sorted({line["step"] for line in metrics} | {1})
    titles = [f"Step {step}" for step in steps] + (["Raw cells keeping the rule"] if valid else [])
    figure = make_subplots(1, len(titles), subplot_titles=titles, horizontal_spacing=0.07)
    named: set[str] = set()
    for column, step in enumerate(steps, 1):
        lines = [line for line in metrics if line["step"] == step]
        for term in sorted(
            {name for line in lines for name in line} - {"step", "epoch", "valid"}, key=_order
        ):
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


def thinned(
    metrics: list[dict[str, Any]], window: int = 1, points: int = 600
) -> list[dict[str, Any]]:
    """Metrics to draw: terms as means of the last `window` epochs, at most `points` a step and as
    many again with a share."""
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
                terms = {
                    name: sum(old[name] for old in recent) / len(recent)
                    for name in line
                    if name not in FIXED
                }
                out.append({name: line[name] for name in line if name in FIXED} | terms)
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


def structure_figure(structure: Structure, cutoffs: dict[str, float] | None = None) -> go.Figure:
    """One cell in 3D: atoms with their images on opposite faces, cell edges, and the bonds of
    metals with non-metals.

    `cutoffs` gives the longest bond of a pair in Å, named like "H-Pd"; pairs that it leaves out
    have no bonds. By default a metal and a non-metal are bonded up to 1.2 times the shortest
    distance of their pair. Hovering gives element, number from 0, fractional coordinates and the
    nearest neighbour in Å.
    """
    import numpy as np
    import plotly.graph_objects as go

    matrix = structure.lattice.matrix
    index, frac = _with_images(structure.frac_coords)
    points = frac @ matrix
    symbols = np.array([site.specie.symbol for site in structure])[index]
    hover = np.array(_hover_texts(structure))[index]
    figure = go.Figure()
    for i, middles in _half_bonds(
        structure, default_cutoffs(structure) if cutoffs is None else cutoffs
    ):
        starts = points[index == i].repeat(len(middles), axis=0)
        ends = starts + np.tile(middles, ((index == i).sum(), 1))
        figure.add_trace(_lines(starts, ends, element_colour(structure[i].specie.symbol), 7))
    figure.add_trace(_lines(*cell_edges(matrix), EDGE_COLOUR, 2))
    figure.add_trace(_axis_names(matrix))
    for symbol in dict.fromkeys(symbols):
        mine = symbols == symbol
        figure.add_trace(_atoms(symbol, points[mine], hover[mine]))
    middle = matrix.sum(0) / 2
    reach = np.linalg.norm(np.concatenate(cell_edges(matrix)) - middle, axis=1).max() + 0.5  # Å
    figure.update_layout(
        height=460,
        margin={"l": 0, "r": 0, "t": 0, "b": 0},
        legend={"itemsizing": "constant", "x": 0, "y": 1, "font": {"size": 15}},
        scene={
            "aspectmode": "manual",  # "data" times a zoom: the orthographic camera knows no other
            "aspectratio": dict.fromkeys("xyz", 2),
            "camera": {
                "projection": {"type": "orthographic"},
                "eye": {"x": 1.2, "y": -2.2, "z": 0.7},
            },
            **{
                f"{x}axis": {"visible": False, "range": (c - reach, c + reach)}
                for x, c in zip("xyz", middle, strict=True)
            },
        },
    )
    return figure


def element_colour(symbol: str) -> str:
    """VESTA's colour of an element as "rgb(r, g, b)", grey where it has none."""
    from pymatgen.vis.structure_vtk import EL_COLORS

    return "rgb({}, {}, {})".format(*EL_COLORS["VESTA"].get(symbol, (150, 150, 150)))


def _with_images(frac: ndarray) -> tuple[ndarray, ndarray]:
    """Atoms wrapped into the cell, and again on the opposite face, edge or corner; their numbers
    and fractional positions."""
    import numpy as np

    inside = frac % 1.0
    inside[inside > 1 - FACE] -= 1.0
    index, shown = [], []
    for i, position in enumerate(inside):
        for shift in product(*((0, 1) if abs(x) < FACE else (0,) for x in position)):
            index.append(i)
            shown.append(position + shift)
    return np.array(index, dtype=int), np.array(shown).reshape(-1, 3)


def _half_bonds(structure: Structure, cutoffs: dict[str, float]) -> Iterator[tuple[int, ndarray]]:
    """Each atom's number and the vectors (Å) `[n, 3]` from it to the middles of its bonds, also of
    those that leave the cell."""
    import numpy as np

    longest = max(cutoffs.values(), default=0.0)
    if longest <= 0:
        return
    center, other, image, distance = structure.get_neighbor_list(longest)
    symbols = [site.specie.symbol for site in structure]
    bonded = np.array(
        [
            d < cutoffs.get(pair_name(symbols[i], symbols[j]), 0.0)
            for i, j, d in zip(center, other, distance, strict=True)
        ]
    )
    frac = structure.frac_coords
    middle = (frac[other] + image - frac[center]) @ structure.lattice.matrix / 2
    for i in range(len(structure)):
        mine = (center == i) & bonded
        if mine.any():
            yield i, middle[mine]


def _lines(start: ndarray, end: ndarray, colour: str, width: float) -> go.Scatter3d:
    """Line segments `[n, 3]` to `[n, 3]` as one trace: segments are parted by gaps."""
    import numpy as np
    import plotly.graph_objects as go

    path = np.stack((start, end, np.full_like(start, np.nan)), 1).reshape(-1, 3)
    x, y, z = path.T
    return go.Scatter3d(
        x=x,
        y=y,
        z=z,
        mode="lines",
        line={"color": colour, "width": width},
        hoverinfo="skip",
        showlegend=False,
    )


def cell_edges(matrix: ndarray) -> tuple[ndarray, ndarray]:
    """Starts and ends of the twelve edges of a cell, Å."""
    import numpy as np

    edges = [
        (np.insert((i, j), axis, 0), np.insert((i, j), axis, 1))
        for axis in range(3)
        for i, j in product((0, 1), repeat=2)
    ]
    start, end = np.array(edges).swapaxes(0, 1) @ matrix
    return start, end


def _axis_names(matrix: ndarray) -> go.Scatter3d:
    import numpy as np
    import plotly.graph_objects as go

    # 0.6 Å beyond the corner
    x, y, z = (matrix * (1 + 0.6 / np.linalg.norm(matrix, axis=1, keepdims=True))).T
    return go.Scatter3d(
        x=x,
        y=y,
        z=z,
        mode="text",
        text=["a", "b", "c"],
        textfont={"color": EDGE_COLOUR},
        hoverinfo="skip",
        showlegend=False,
    )


def _atoms(symbol: str, points: ndarray, hover: ndarray) -> go.Mesh3d:
    """Balls at these points (Å): about a third of the atoms' radius, hydrogen a little more."""
    import numpy as np
    import plotly.graph_objects as go
    from pymatgen.core import Element

    ball, faces = _sphere()
    radius = 0.2 + 0.22 * float(Element(symbol).atomic_radius or 1.2)
    x, y, z = (points[:, None] + radius * ball).reshape(-1, 3).T
    i, j, k = (np.arange(len(points))[:, None, None] * len(ball) + faces).reshape(-1, 3).T
    return go.Mesh3d(
        x=x,
        y=y,
        z=z,
        i=i,
        j=j,
        k=k,
        name=symbol,
        showlegend=True,
        color=element_colour(symbol),
        text=np.repeat(hover, len(ball)),
        hovertemplate="%{text}<extra></extra>",
        lighting={
            "ambient": 0.7,
            "diffuse": 0.5,
            "specular": 0.15,
            "roughness": 0.5,
            "fresnel": 0.05,
        },
        lightposition={"x": -2e4, "y": 2e4, "z": -2e4},  # plotly shines from the other side
    )


def _sphere(rings: int = 10, sectors: int = 16) -> tuple[ndarray, ndarray]:
    """Corners `[n, 3]` and triangles of a ball of radius 1, wound outwards."""
    import numpy as np

    polar, azimuth = np.meshgrid(
        np.linspace(0, np.pi, rings + 1), np.linspace(0, 2 * np.pi, sectors + 1), indexing="ij"
    )
    points = np.stack(
        (np.sin(polar) * np.cos(azimuth), np.sin(polar) * np.sin(azimuth), np.cos(polar)), -1
    ).reshape(-1, 3)
    a = (np.arange(rings)[:, None] * (sectors + 1) + np.arange(sectors)).ravel()
    below = a + sectors + 1
    return points, np.concatenate(
        (np.stack((a, below, below + 1), -1), np.stack((a, below + 1, a + 1), -1))
    )


def _hover_texts(structure: Structure) -> list[str]:
    """Element, number, fractional coordinates and nearest neighbour (Å) of each atom; its own
    images count as neighbours."""
    import numpy as np

    distance = structure.distance_matrix.copy()
    np.fill_diagonal(distance, min(structure.lattice.get_niggli_reduced_lattice().abc))
    nearest = distance.argmin(1)
    symbols = [site.specie.symbol for site in structure]
    return [
        f"<b>{symbols[i]}</b> atom"
        f" {i}<br>({', '.join(f'{x:.3f}' for x in structure[i].frac_coords % 1)})<br>nearest:"
        f" {symbols[j]} {distance[i, j]:.2f} Å"
        for i, j in enumerate(nearest)
    ]


def _note(text: str) -> go.Figure:
    """An empty figure that says why."""
    import plotly.graph_objects as go

    figure = go.Figure()
    figure.add_annotation(
        text=text, showarrow=False, x=0.5, y=0.5, xref="paper", yref="paper", font={"size": 15}
    )
    figure.update_layout(height=200, xaxis={"visible": False}, yaxis={"visible": False})
    return figure
