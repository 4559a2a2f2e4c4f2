"""What was clicked in a table or a figure: once, and only what is clicked now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import streamlit as st

if TYPE_CHECKING:
    import pandas as pd


def clicked_row(table: pd.DataFrame, config: dict[str, Any], name: str) -> int | None:
    """Draw the columns of `config` of a table; returns the `id` of the row that was clicked since
    the page was drawn last."""
    ids = tuple(int(i) for i in table["id"])
    event: Any = st.dataframe(
        table[[column for column in config if column in table]],
        column_config=config,
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        height=275,
        row_height=29,
        placeholder="",
        # rows move as more are found: a selection is of one order of them
        key=f"{name}_{hash(ids)}",
    )
    rows = [i for i in event["selection"]["rows"] if i < len(ids)]
    return ids[rows[0]] if _is_new(name, (ids, rows)) and rows else None


def clicked_point(event: Any, name: str) -> int | None:
    """The candidate whose point was clicked in a figure since the page was drawn last."""
    points = [
        int(point["customdata"][0])
        for point in event["selection"]["points"]
        if "customdata" in point
    ]
    return points[0] if _is_new(name, points) and points else None


def _is_new(name: str, selection: object) -> bool:
    """Whether a selection is another one than at the last time."""
    key = f"clicked_{name}"
    before, st.session_state[key] = st.session_state.get(key), selection
    return bool(before != selection)
