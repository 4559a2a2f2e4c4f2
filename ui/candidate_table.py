"""The candidates of a run as a table: filtered, sorted, with the selection that other parts of the
page share."""

from __future__ import annotations

import time
from typing import Any

import pandas as pd
import streamlit as st

SHOW = ["All", "Keep rule", "Undecided", "Kept", "Rejected"]
# Streamlit sorts a table in the browser and tells nobody; here a click on a header comes to
# `clicked_header` instead, and the two entries of a header's menu that would sort all the same are
# taken out. What the eye sees is what Next goes through.
NO_SORTING_BY_ITSELF = """<style>
[data-testid="stDataFrameColumnMenu"] [role="menu"]
  > [role="menuitem"]:is(:nth-child(2), :nth-child(3)):not([aria-haspopup]) { display: none; }
</style>"""
SORTED = {
    "number": "id",
    "volume": "volume",
    "atoms": "atoms",
    "formula": "formula",
    "space group": "spacegroup",
}
UNSEEN = 0.5  # s after a page's end in which the browser may not have drawn it


def drawn() -> None:
    """Note that the page has been run to its end, so that the browser is about to show the table as
    it is now."""
    st.session_state["table_drawn"] = time.monotonic()


def _unseen() -> bool:
    """Whether the browser may say something that is older than what the last run has put into the
    table: that run was cut short by this one, or ended only just."""
    ended = st.session_state.get("table_drawn")
    return ended is None or time.monotonic() - ended < UNSEEN


def filters(table: pd.DataFrame, rule: str) -> pd.DataFrame:
    """The rows to show, in the order to show them."""
    columns = sort_columns(table)
    clicked_header(columns)
    row = st.container(horizontal=True, vertical_alignment="bottom", gap="small")
    which = row.segmented_control(
        "Show", SHOW, default="All", key="filter", required=True, label_visibility="collapsed"
    )
    with row.popover(
        "Sort", icon=":material/filter_list:", help="Order, formula, number of atoms."
    ):
        by = st.selectbox("Sort by", list(columns), key="sort")
        down = st.toggle("Largest first", key="sort_down")
        words = st.text_input(
            "Formula holds", max_chars=20, key="formula", placeholder="such as Pd2"
        )
        most = st.number_input(
            "At most so many atoms", 1, 1000, int(max(table["atoms"])), key="most_atoms"
        )
        ternary = st.toggle("All three elements only", key="only_ternary")
        unique = st.toggle(
            "Unique only",
            key="only_unique",
            help="Without those that repeat a candidate before them.",
        )
        new = st.toggle(
            "New only",
            key="only_new",
            disabled="new" not in table,
            help="Without those that match a known structure.",
        )
    keep = table["atoms"] <= most
    if which == "Keep rule":
        keep &= table[f"passed_{rule}"].astype(bool)
    elif which in ("Undecided", "Kept", "Rejected"):
        keep &= table["decision"] == which.lower()
    if words.strip():
        keep &= table["formula"].str.contains(words.strip(), regex=False)
    for column, wanted in (
        ("ternary", ternary),
        ("unique", unique),
        ("new", new and "new" in table),
    ):
        if wanted:
            keep &= table[column].eq(True)
    return table[keep].sort_values(
        columns[by], ascending=not down, kind="stable", ignore_index=True
    )


def sort_columns(table: pd.DataFrame) -> dict[str, str]:
    """What candidates may be sorted by: in words, and as a column."""
    more = [c for c in table if c.startswith(("shortest ", "energy", "e_"))]
    more += [c for c in ("decision", "unique", "new", "type", "note") if c in table]
    rules = {f"rule {c[7:]}": c for c in table if c.startswith("passed_")}
    return SORTED | {c: c for c in more} | rules


def clicked_header(columns: dict[str, str]) -> None:
    """Sort by the column whose header was clicked; by a second click the other way round."""
    state_now = st.session_state.get(table_key())
    chosen = state_now["selection"].get("columns", []) if state_now else []
    last, st.session_state["header"] = st.session_state.get("header", []), chosen
    if not (state_now and chosen):
        return
    st.session_state[table_key()] = {"selection": {**state_now["selection"], "columns": []}}
    column = {"spacegroup_symbol": "spacegroup"}.get(chosen[0], chosen[0])
    word = next((word for word, name in columns.items() if name == column), None)
    told = st.session_state.get("acts_taken") or (chosen == last and _unseen())
    if word and not told:
        again = st.session_state.get("sort", "number") == word
        st.session_state["sort_down"] = again and not st.session_state.get("sort_down", False)
        st.session_state["sort"] = word


def show(shown: pd.DataFrame) -> list[int]:
    """The table; returns the ids of the selected rows. The shown candidate is selected where no
    other is."""
    shortest = [c for c in shown if c.startswith("shortest ")]
    rules = [c for c in shown if c.startswith("passed_")]
    energies = [c for c in shown if c.startswith(("energy", "e_"))]
    config: dict[str, Any] = {
        "id": st.column_config.NumberColumn("no.", width=50, pinned=True),
        "formula": st.column_config.TextColumn("formula", width=95, pinned=True),
        "decision": st.column_config.TextColumn("decision", width=85),
        "atoms": st.column_config.NumberColumn("atoms", width=55),
        "volume": st.column_config.NumberColumn(
            "Å³/atom", width=70, format="%.1f", help="Volume of the cell per atom, Å³."
        ),
        "spacegroup_symbol": st.column_config.TextColumn(
            "group", width=70, help="Space group, found with 0.1 Å, before any relaxation."
        ),
        "picture": st.column_config.BarChartColumn(
            "distances",
            width=80,
            y_min=0,
            y_max=4,
            help=(
                "Shortest first-neighbour distances, 0 to 4 Å:"
                f" {', '.join(c[9:] for c in shortest)}."
            ),
        ),
        "unique": st.column_config.CheckboxColumn(
            "unique", width=60, help="No candidate before it is the same cell."
        ),
        "new": st.column_config.CheckboxColumn(
            "new",
            width=50,
            help=(
                "Matches nothing that it was compared with; with what, and which one, is said"
                " beside the cell."
            ),
        ),
        "type": st.column_config.TextColumn(
            "type",
            width=110,
            help="The known ternary of other metals whose structure type the cell takes.",
        ),
        "note": st.column_config.TextColumn("note"),
    }
    config |= {
        c: st.column_config.CheckboxColumn(c[7:], width=65, help=f"Keeps the rule {c[7:]}.")
        for c in rules
    }
    config |= {
        c: st.column_config.NumberColumn(
            f"{c[9:]} / Å",
            format="%.2f",
            width=80,
            help="Shortest first-neighbour distance of this pair, Å.",
        )
        for c in shortest
    }
    config |= {c: st.column_config.NumberColumn(c, format="%.3f") for c in energies}
    data = shown.assign(picture=shown[shortest].fillna(0.0).to_numpy().tolist())
    order = [
        "id",
        "formula",
        "decision",
        "atoms",
        "picture",
        *rules,
        "spacegroup_symbol",
        "volume",
        *energies,
        *shortest,
        "unique",
        *(["new"] if "new" in shown else []),
        *(["type"] if shown.get("type", pd.Series(dtype=str)).astype(bool).any() else []),
        "note",
    ]
    st.html(NO_SORTING_BY_ITSELF)
    by, down = (
        sort_columns(shown)[st.session_state.get("sort", "number")],
        st.session_state.get("sort_down", False),
    )
    for name in {by, "spacegroup_symbol" if by == "spacegroup" else by} & config.keys():
        config[name] = {
            **config[name],
            "label": f"{'▼' if down else '▲'} {config[name]['label'] or name}",
        }
    event: Any = st.dataframe(
        data[order],
        column_config=config,
        hide_index=True,
        on_select="rerun",
        selection_mode=[
            "multi-row" if st.session_state.get("several") else "single-row-required",
            "single-column",
        ],
        height=275,
        row_height=29,
        placeholder="",
        key=table_key(),
    )
    return [int(shown["id"].iloc[i]) for i in event["selection"]["rows"] if i < len(shown)]


def table_key() -> str:
    """The two ways to select are two widgets, and each run has its own."""
    several = "_several" if st.session_state.get("several") else ""
    return f"table{several}_{st.session_state.get('run')}"


def keep_selection(shown: pd.DataFrame) -> None:
    """Before the table is drawn: the rows selected in it are those of the same candidates, wherever
    they are now.

    What the browser says is a click only where it cannot be what the table held before: a run that
    moves the selection may be cut short by the next click, wherever that is, and then the browser
    says once more what it had.
    """
    ids = [int(i) for i in shown["id"]]
    # orders of the candidates and selected rows: first what the browser has for certain, last ours
    sent: list[tuple[list[int], list[int]]] = st.session_state.get("table_sent", [([], [])])
    cut_short = st.session_state.get("table_drawn") is None
    before = sent[0 if cut_short else -1][0]
    state_now = st.session_state.get(table_key())
    rows = said = state_now["selection"]["rows"] if state_now else []
    told = rows != sent[-1][1] and _unseen() and rows in [former for _, former in sent[:-1]]
    # then the browser's table is that of before the keys that have come
    told = st.session_state.pop("acts_taken", False) or told
    ours: list[int] = st.session_state.get("picked", [])
    picked = ours if told or rows == sent[-1][1] else [before[i] for i in rows if i < len(before)]
    current = st.session_state.get("candidate")
    new = [i for i in picked if i not in ours]
    if picked != ours and picked:  # a click in the table
        current = new[-1] if new else (current if current in picked else picked[-1])
        st.session_state["candidate"] = current
    elif current not in picked:  # next, previous, the map or the address
        picked = [current] if current is not None else []
    if current not in ids:
        current = nearest(current, before, ids)
        picked = [current]
        st.session_state["candidate"] = current
    picked = [i for i in picked if i in ids] if st.session_state.get("several") else [current]
    rows = [ids.index(i) for i in picked]
    st.session_state["picked"] = picked
    if not told and said == rows and before == ids:  # the browser has it already
        sent = []
    st.session_state["table_sent"] = [*(sent if _unseen() else sent[-1:]), (ids, rows)]
    st.session_state["table_drawn"] = None
    st.session_state[table_key()] = {"selection": {"rows": rows, "columns": [], "cells": []}}


def nearest(current: int | None, before: list[int], ids: list[int]) -> int:
    """The candidate to show where the filters hide the shown one: what came after it, or else
    before, in the order until now."""
    if current in before:
        here = before.index(current)
        return next(
            (i for i in [*before[here:], *reversed(before[:here])] if i in set(ids)), ids[0]
        )
    return ids[0]
