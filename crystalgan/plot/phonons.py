"""Phonons -> plotly figure of the bands and the commensurate points. It reads no file and shows
nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from crystalgan.plot.style import EDGE_COLOUR, OKABE_ITO

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from crystalgan.stability.phonons import Phonons

WAVENUMBER = 33.35641  # cm-1 in a THz
SAME_PLACE = 1e-9  # 1/Å
GREEK = {"G": "Γ"}


def bands_figure(phonons: Phonons) -> go.Figure:
    """Phonon bands along a path through the Brillouin zone; imaginary frequencies lie below zero.

    Frequencies in THz, in cm-1 where the pointer is. Bands are interpolated; the verdict is that of
    the commensurate points, whose frequencies stand at the right.

    >>> run.phonons("17")[17].phonons  # doctest: +SKIP
    >>> bands_figure(_)  # doctest: +SKIP
    """
    import plotly.graph_objects as go

    bands, end = phonons.bands, float(phonons.bands.distance[-1])
    # one line of all bands, with gaps between them and where the path jumps
    gaps = [*(np.flatnonzero(np.diff(bands.distance) < SAME_PLACE) + 1), len(bands.distance)]
    x = np.insert(bands.distance, gaps, np.nan)
    y = np.insert(bands.frequencies.T, gaps, np.nan, axis=1)
    figure = go.Figure(
        go.Scatter(
            x=np.tile(x, len(y)).tolist(),
            y=y.ravel().tolist(),
            customdata=(WAVENUMBER * y.ravel()).tolist(),
            mode="lines",
            name="bands, interpolated",
            line={"color": OKABE_ITO[0], "width": 1.5},
            hovertemplate="%{y:.2f} THz, %{customdata:.0f} cm-1<extra></extra>",
        )
    )
    points = phonons.frequencies.ravel()
    colours = [OKABE_ITO[1] if f < -phonons.tolerance else OKABE_ITO[2] for f in points]
    figure.add_trace(
        go.Scatter(
            x=[1.06 * end] * len(points),
            y=points.tolist(),
            customdata=(WAVENUMBER * points).tolist(),
            mode="markers",
            name="at commensurate points",
            marker={"symbol": "line-ew-open", "size": 12, "color": colours},
            hovertemplate="%{y:.2f} THz, %{customdata:.0f} cm-1<extra></extra>",
        )
    )
    for place in dict.fromkeys(place for place, _ in bands.labels):
        figure.add_vline(place, line={"color": EDGE_COLOUR, "width": 0.8})
    figure.add_hline(0, line={"color": EDGE_COLOUR, "width": 0.8})
    places = _named(bands.labels)
    figure.update_xaxes(
        tickvals=list(places), ticktext=list(places.values()), range=(0, 1.1 * end), showgrid=False
    )
    figure.update_yaxes(title="frequency / THz, imaginary below 0", zeroline=False)
    figure.update_layout(
        height=380,
        margin={"l": 60, "r": 10, "t": 10, "b": 30},
        legend={"orientation": "h", "y": 1.1},
    )
    return figure


def _named(labels: tuple[tuple[float, str], ...]) -> dict[float, str]:
    """Place on the path -> its name; two names where the path jumps."""
    out: dict[float, str] = {}
    for place, name in labels:
        shown = GREEK.get(name, name)
        out[place] = f"{out[place]}|{shown}" if place in out else shown
    return out
