"""What all figures share: colours, an empty figure with a note, the edges of a cell."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from numpy import ndarray

# Okabe and Ito's colours, told apart with any colour vision; black and yellow are left out: one is
# lost on dark, one on white.
OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
EDGE_COLOUR = "#888888"


def element_colour(symbol: str) -> str:
    """VESTA's colour of an element as "rgb(r, g, b)", grey where it has none."""
    from pymatgen.vis.structure_vtk import EL_COLORS

    return "rgb({}, {}, {})".format(*EL_COLORS["VESTA"].get(symbol, (150, 150, 150)))


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


def note(text: str) -> go.Figure:
    """An empty figure that says why."""
    import plotly.graph_objects as go

    figure = go.Figure()
    figure.add_annotation(
        text=text, showarrow=False, x=0.5, y=0.5, xref="paper", yref="paper", font={"size": 15}
    )
    figure.update_layout(height=200, xaxis={"visible": False}, yaxis={"visible": False})
    return figure
