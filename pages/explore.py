"""Generate ternary cells, sort and filter them, turn them around, measure them, keep or reject
them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from crystalgan.discovery.record import is_search
from crystalgan.errors import InputError
from crystalgan.runs.database import identity
from ui import cached, candidate_table, cell, details, discovery, known, state, vet, work

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from crystalgan.runs.folder import Run

VIEWERS = ("view", "compare_0", "compare_1", "compare_2", "compare_3")
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
            f" {known.novelty(run)}{known.of_type(row)}"
        )


def explore(run: Run, table: pd.DataFrame) -> None:
    if is_search(run):
        st.caption(
            "A search: each cell as it was proposed. Relaxed they are on the pages Discover and"
            " Stability, and *new* is said of the relaxed cell."
        )
    left, right = st.columns([5, 6], gap="medium")
    with left:
        shown = candidate_table.filters(table, run.rule.name)
        if shown.empty:
            st.info("No candidate is left by these filters; show all of them above.")
            return
        if added := st.session_state.pop("added", None):
            hidden = "" if added in set(shown["id"]) else " The filters hide it."
            st.toast(f"Candidate {added} is the symmetrized cell.{hidden}", icon=":material/add:")
        candidate_table.keep_selection(shown)
        picked = candidate_table.show(shown)
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
    elif is_search(run):
        discovery.say_search(run, "This search has found no phases yet.")
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
