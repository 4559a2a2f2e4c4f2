"""A cell as a plotly figure, for notebooks: the scene of the app's viewer, drawn with points and
lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crystalgan.plot.scene import build_scene

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from pymatgen.core import Structure

PIXELS = 40  # an Å of an atom's radius; plotly's points don't scale with the axes


def structure_figure(structure: Structure, cutoffs: dict[str, float] | None = None) -> go.Figure:
    """One cell in 3D: atoms with their images on opposite faces, bonds and cell edges.

    `cutoffs`: longest bond of a pair in Å, named like "H-Pd" (`describe.default_cutoffs` by
    default: metals with non-metals up to 1.2 times the shortest distance of their pair). Hovering
    gives the name and the fractional coordinates of an atom, and the length of a bond.

    >>> from crystalgan import load_candidate, shipped
    >>> figure = structure_figure(load_candidate(shipped(), 1))
    >>> {"H", "Pd", "Ni"} <= {trace.name for trace in figure.data}
    True
    """
    import plotly.graph_objects as go

    scene = build_scene(structure, cutoffs)
    parts = {part["name"]: part["contents"] for part in scene["contents"]}
    figure = go.Figure()
    for bond in parts.get("bonds", []):
        figure.add_trace(_lines(bond["positionPairs"], bond["color"], 7, bond["tooltip"]))
    box = parts["cell"][0]
    edges = list(zip(box["positions"][::2], box["positions"][1::2], strict=True))
    figure.add_trace(_lines(edges, box["color"], 2))
    symbols = [site.specie.symbol for site in structure]
    for symbol in dict.fromkeys(symbols):
        mine = [atom for atom, s in zip(parts["atoms"], symbols, strict=True) if s == symbol]
        figure.add_trace(_atoms(symbol, mine))
    hidden = {f"{x}axis": {"visible": False} for x in "xyz"}
    camera = {"projection": {"type": "orthographic"}, "eye": {"x": 1.2, "y": -2.2, "z": 0.7}}
    figure.update_layout(
        height=460,
        margin={"l": 0, "r": 0, "t": 0, "b": 0},
        legend={"itemsizing": "constant", "x": 0, "y": 1, "font": {"size": 15}},
        scene={"aspectmode": "data", "camera": camera, **hidden},
    )
    return figure


def _lines(pairs: list[Any], colour: str, width: float, hover: str = "") -> go.Scatter3d:
    """Line segments from start to end as one trace, parted by gaps."""
    import plotly.graph_objects as go

    path = [point for start, end in pairs for point in (start, end, (None, None, None))]
    x, y, z = zip(*path, strict=True)
    return go.Scatter3d(
        x=x,
        y=y,
        z=z,
        mode="lines",
        line={"color": colour, "width": width},
        hovertemplate=f"{hover}<extra></extra>" if hover else None,
        hoverinfo=None if hover else "skip",
        showlegend=False,
    )


def _atoms(symbol: str, spheres: list[dict[str, Any]]) -> go.Scatter3d:
    """All atoms of an element as points."""
    import plotly.graph_objects as go

    places = [(point, ball["tooltip"]) for ball in spheres for point in ball["positions"]]
    x, y, z = zip(*(point for point, _ in places), strict=True)
    return go.Scatter3d(
        x=x,
        y=y,
        z=z,
        mode="markers",
        name=symbol,
        text=[hover for _, hover in places],
        marker={
            "size": PIXELS * spheres[0]["radius"],
            "color": spheres[0]["color"],
            "opacity": 1,
            "line": {"width": 1, "color": "#333333"},
        },
        hovertemplate="%{text}<extra></extra>",
    )
