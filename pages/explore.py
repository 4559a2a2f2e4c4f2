"""Generate ternary cells, sort and filter them, turn them around, measure them, keep or reject
them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from crystalgan.errors import InputError
from crystalgan.runs.database import identity
from ui import cached, cell, details, known, state, vet, work

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from crystalgan.runs.folder import Run

SHOW = ["All", "Keep rule", "Undecided", "Kept", "Rejected"]
VIEWERS = ("view", "compare_0", "compare_1", "compare_2", "compare_3")
# Streamlit sorts a table in the browser and tells nobody; here a click on a header comes to
# `clicked_header` instead, and the two
# entries of a header's menu that would sort all the same are taken out. What the eye sees is what
# Next goes through.
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
DETAILS = ["Neighbours", "Distances", "Powder pattern", "Symmetry", "Map"]


@work.saying_errors()
def show_generating(run: Run) -> None:
    """A bar while candidates are made; the page is refreshed when they are there."""
    if not work.is_generating(run):
        st.rerun()
    made = work.counted(run)
    count = f"{made.done} of {made.of}"
    if work.is_comparing(run):
        words = f"{made.share:.0%}: {count} compared" if made.done else "Reading what is known ..."
    else:
        words = f"{count} candidates" if made.done else "Starting ..."
    st.progress(made.share, words)


def generate_more(run: Run, count: int, place: Any) -> None:
    """The popover that makes more candidates."""
    with place.popover(
        "Generate",
        icon=":material/add:",
        type="secondary" if count else "primary",
        help="Make new ternary cells with this run's trained networks.",
    ):
        more = st.number_input("New cells", 1, 100_000, 200, step=100, key="more")
        if st.button("Generate", type="primary", key="generate", width="stretch"):
            work.start_generate(run, count + more)
            st.rerun()
        st.caption(
            "New cells are checked by the rules, compared with those before, and added to the run."
        )


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
    more += [c for c in ("decision", "unique", "new", "note") if c in table]
    rules = {f"rule {c[7:]}": c for c in table if c.startswith("passed_")}
    return SORTED | {c: c for c in more} | rules


def clicked_header(columns: dict[str, str]) -> None:
    """Sort by the column whose header was clicked; by a second click the other way round."""
    state_now = st.session_state.get(table_key())
    chosen = state_now["selection"].get("columns", []) if state_now else []
    if not chosen:
        return
    st.session_state[table_key()] = {"selection": {**state_now["selection"], "columns": []}}
    column = {"spacegroup_symbol": "spacegroup"}.get(chosen[0], chosen[0])
    word = next((word for word, name in columns.items() if name == column), None)
    if word and not st.session_state.get("acts_taken"):
        again = st.session_state.get("sort", "number") == word
        st.session_state["sort_down"] = again and not st.session_state.get("sort_down", False)
        st.session_state["sort"] = word


def show_table(shown: pd.DataFrame) -> list[int]:
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
    they are now."""
    ids = [int(i) for i in shown["id"]]
    before: list[int] = st.session_state.get("table_ids", [])
    state_now = st.session_state.get(table_key())
    rows = state_now["selection"]["rows"] if state_now else []
    picked = [before[i] for i in rows if i < len(before)]
    current = st.session_state.get("candidate")
    new = [i for i in picked if i not in st.session_state.get("picked", [])]
    acted = st.session_state.pop("acts_taken", False)  # then the browser's table is that of before
    if picked != st.session_state.get("picked") and picked and not acted:  # a click in the table
        current = new[-1] if new else (current if current in picked else picked[-1])
        st.session_state["candidate"] = current
    elif current not in picked:  # next, previous, the map or the address
        picked = [current] if current is not None else []
    if current not in ids:
        current = nearest(current, before, ids)
        picked = [current]
        st.session_state["candidate"] = current
    picked = [i for i in picked if i in ids] if st.session_state.get("several") else [current]
    st.session_state["picked"], st.session_state["table_ids"] = picked, ids
    st.session_state[table_key()] = {
        "selection": {"rows": [ids.index(i) for i in picked], "columns": [], "cells": []}
    }


def nearest(current: int | None, before: list[int], ids: list[int]) -> int:
    """The candidate to show where the filters hide the shown one: what came after it, or else
    before, in the order until now."""
    if current in before:
        here = before.index(current)
        return next(
            (i for i in [*before[here:], *reversed(before[:here])] if i in set(ids)), ids[0]
        )
    return ids[0]


def show_verdicts(run: Run, row: pd.Series, structure: Structure, verdicts: dict[str, str]) -> None:
    a, b, c = structure.lattice.abc
    alpha, beta, gamma = structure.lattice.angles
    st.markdown(
        f"**{row['id']}: {row['formula']}** · {row['atoms']} atoms · {row['spacegroup_symbol']} ·"
        f" {structure.volume:.0f} Å³ :gray[a {a:.2f}, b {b:.2f}, c {c:.2f} Å; α {alpha:.0f}°, β"
        f" {beta:.0f}°, γ {gamma:.0f}°]"
    )
    for rule, text in verdicts.items():
        icon = ":material/check_circle:" if row[f"passed_{rule}"] else ":material/warning:"
        st.caption(f"{icon} {text[0].upper()}{text[1:]}")

    if pd.notna(row.get("refined_from")):
        st.caption(
            f":material/grid_4x4: The symmetrized cell of candidate {row['refined_from']:.0f}, at"
            f" {row['refined_at']} Å"
        )
    elif not row["unique"]:
        st.caption(
            f":material/content_copy: The same cell as candidate number {row['duplicate_of'] + 1}"
            " of its seed"
        )
    if row.get("matches"):
        st.caption(f":material/menu_book: Known: matches `{str(row['matches']).replace('`', '')}`")
    elif pd.notna(row.get("new")):
        st.caption(
            f":material/{'new_releases' if known.ternaries(run) != 0 else 'help'}:"
            f" {known.novelty(run)}"
        )


def explore(run: Run, table: pd.DataFrame) -> None:
    left, right = st.columns([5, 6], gap="medium")
    with left:
        shown = filters(table, run.rule.name)
        if shown.empty:
            st.info("No candidate is left by these filters; show all of them above.")
            return
        if added := st.session_state.pop("added", None):
            hidden = "" if added in set(shown["id"]) else " The filters hide it."
            st.toast(f"Candidate {added} is the symmetrized cell.{hidden}", icon=":material/add:")
        keep_selection(shown)
        picked = show_table(shown)
    current = int(st.session_state["candidate"])
    state.in_address(candidate=current)
    row = table[table["id"] == current].iloc[0]
    structure, verdicts = cached.candidate_of(run, current)
    with left:
        drawn = show_details(run, table, row, structure)
    with right:
        vet.bar(run, shown, table, row)
        picture = st.container()
        below = st.container(horizontal=True, vertical_alignment="center")
        vet.note(run, row, below)
        vet.note_problem(run, int(row["id"]))
        show_verdicts(run, row, structure, verdicts)
    with below:
        view = cell.view_settings(drawn.structure, run.rule, "view_settings")
    with picture:
        if len(picked) > 1:
            details.compare(run, picked, table, view)
        else:
            name = f"{row['formula']}_{row['id']}"
            cell.show(
                drawn.structure,
                drawn.identity,
                "view",
                view,
                height=345,
                name=name,
                rule=run.rule,
                lit=drawn.lit,
            )


def show_details(
    run: Run, table: pd.DataFrame, row: pd.Series, structure: Structure
) -> details.Drawn:
    """What is chosen below the table; returns the cell to draw and the pair to light."""
    known_as, name = (
        f"{run.folder.name}-{row['id']}-{identity(run)}",
        f"{row['formula']}_{row['id']}",
    )
    detail = st.segmented_control(
        "Details",
        DETAILS,
        default="Neighbours",
        key="detail",
        required=True,
        label_visibility="collapsed",
    )
    lit = None
    if detail == "Neighbours":
        clicked = (st.session_state.get(key) or {} for key in VIEWERS)
        atom = next((click["atom"] for click in clicked if click.get("identity") == known_as), None)
        lit = details.neighbours(structure, run.rule, run.species[0], known_as, atom)
    elif detail == "Distances":
        details.distances(run, structure, len(table))
    elif detail == "Powder pattern":
        details.powder(structure, known_as, name, run.species[0])
    elif detail == "Symmetry":
        return details.symmetry(run, int(row["id"]), structure, known_as, name)
    elif detail == "Map":
        details.scatter(table, int(row["id"]))
    return details.Drawn(structure, known_as, (lit.center, lit.other, lit.image) if lit else None)


@work.saying_errors()
def page() -> None:
    left, right = st.columns([5, 6], gap="medium", vertical_alignment="bottom")
    with left:
        state.header("Explore", "Ternary cells: look at them, measure them, keep or reject them.")
    row = right.container(horizontal=True, vertical_alignment="bottom")
    runs = state.open_runs()
    run = state.choose_run(runs, row, "collapsed")
    if run is None:
        st.info(
            "No run yet. Choose two metals on the page Pair and train them; their ternary cells are"
            " shown here."
        )
        st.page_link("pages/pair.py", label="To the page Pair", icon=":material/arrow_back:")
        return
    trained = run.status().state == "finished"
    table = pd.DataFrame()
    try:
        table = cached.table(run)
        table = cached.with_energies(run, table)
    except InputError as error:
        st.error(work.in_app(error))
    if not table.empty:
        row.toggle(
            "Several",
            key="several",
            help="Tick two to four cells in the table to see them side by side; all go to Export.",
        )
    if trained and not work.is_generating(run):
        generate_more(run, len(table), row)
        if not table.empty:
            known.compare(run, table, row)
    if problem := work.problem(run):
        st.error(problem)
    if work.is_generating(run):
        st.fragment(show_generating, run_every=1)(run)
    if not table.empty:
        explore(run, table)
    elif trained and not work.is_generating(run):
        st.info(
            "This run is trained and holds no candidates yet. Press Generate for new cells, checked"
            " by both rules."
        )
    elif trained:
        st.caption("The first cells appear here in some seconds.")
    else:
        st.info(
            "This run is not trained to its end. Go on with it on the page Train; then generate its"
            " ternary cells here."
        )
        st.page_link("pages/train.py", label="To the page Train", icon=":material/arrow_back:")


state.through_app()
page()
