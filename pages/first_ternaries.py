"""Train a pair of built-in classes, watch it learn, make ternary cells, look at them, take them along."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from crystalgan import loss_figure, structure_figure
from crystalgan.config import Config
from crystalgan.runs import Run, start, stop
from ui import cached, work

if TYPE_CHECKING:
    from streamlit.delta_generator import DeltaGenerator

FILE_FORMATS = {"POSCAR": "poscar", "CIF": "cif", "extended XYZ": "extxyz"}
RULES = {
    "learned": "learned from the two classes",
    "paper": "the paper's 1.8-3.0 Å",
}


def label(metal: str) -> str:
    return f"{cached.element_name(metal)} ({metal}-H, {cached.class_sizes()[metal]} cells)"


def name(run: Run, state: str = "") -> str:
    shared, a, b = run.species
    method = "" if run.config.method == "crystalgan" else f" {run.config.method}"
    number = run.folder.name.rpartition("_")[2].lstrip("0")
    return f"{a}-{b}-{shared}{method} seed {run.config.seed} run {number}" + (f": {state}" if state else "")


def use_preset() -> None:
    chosen = Config.paper() if st.session_state["preset"] == "paper" else Config()
    st.session_state["rule"] = chosen.rule
    st.session_state["epochs"] = chosen.epochs1 if st.session_state["preset"] == "paper" else 200


def new_run_form() -> None:
    st.subheader("Train a pair")
    metals = list(cached.class_sizes())
    st.session_state.setdefault("a", "Pd" if "Pd" in metals else metals[0])
    st.session_state.setdefault("b", "Ni" if "Ni" in metals else metals[-1])
    st.session_state.setdefault("epochs", 200)
    a = st.selectbox(
        "First metal", metals, format_func=label, key="a", help="The first class: relaxed cells of this metal's binary hydride."
    )
    b = st.selectbox("Second metal", metals, format_func=label, key="b", help="The second class; ternary cells hold both metals.")
    if a == b:
        st.warning(f"Both classes are of {cached.element_name(a).lower()}. A ternary needs two different metals: change one.")
    preset = st.selectbox(
        "Settings",
        ["default", "paper"],
        key="preset",
        on_change=use_preset,
        help="default: what makes good cells in a few minutes. paper: the paper's settings to the letter, for comparison.",
    )
    epochs = st.number_input(
        "Epochs of each step",
        1,
        100_000,
        step=50,
        key="epochs",
        help="How often each step goes through all cells of the larger class. 200 gives a first impression; the paper uses 1000.",
    )
    rule = st.selectbox(
        "Distance rule",
        list(RULES),
        format_func=RULES.__getitem__,
        key="rule",
        help="Which first-neighbour distances are sensible. Learned: each pair of elements within the range seen in the classes, "
        "metal-hydrogen included. Paper: hydrogen-hydrogen and metal-metal between 1.8 and 3.0 Å, metal-hydrogen not asked.",
    )
    seed = st.number_input("Seed", 0, 2**31 - 1, key="seed", help="Another seed gives another training of the same pair.")
    if st.button("Train", type="primary", icon=":material/play_arrow:", disabled=a == b, width="stretch", key="train"):
        settings = {"epochs1": epochs, "epochs2": epochs, "seed": seed, "rule": rule}
        with st.spinner("Preparing the run ..."):
            from crystalgan.training import new_run

            run = new_run(a, b, Config.paper(**settings) if preset == "paper" else Config.of(settings), cached.runs_folder())
            start(run)
        st.session_state["run"] = str(run.folder)
        st.rerun()


def chosen_run(runs: list[Run]) -> Run | None:
    st.subheader("Runs")
    if not runs:
        st.caption("None yet.")
        return None
    by_folder = {str(run.folder): run for run in runs}
    folders = list(by_folder)
    labels = [name(run, run.status()["state"]) for run in runs]
    chosen = st.session_state.get("run")
    folder = st.selectbox(
        "Show",
        folders,
        index=folders.index(chosen) if chosen in by_folder else 0,
        format_func=dict(zip(folders, labels, strict=True)).__getitem__,
        key="; ".join(labels),  # a new state is a new widget: a browser keeps the old one's words
        help="Every training is kept in a folder of its own; the newest is first.",
    )
    st.session_state["run"] = folder
    return by_folder[folder]


@work.saying_errors()
def show_training(run: Run) -> None:
    """State, progress and losses; polls once a second while a process trains the run, then refreshes the page once."""
    state = run.status()
    running = work.is_training(state)
    if not running and st.session_state.get("watched") == str(run.folder):
        st.session_state["watched"] = None
        st.rerun()
    st.session_state["watched"] = str(run.folder) if running else None
    epochs, step = state.get("epochs") or [run.config.epochs1, run.config.epochs2], state.get("step")
    words = [
        f"**{state['state']}**",
        f"step {step or 0} of {len(epochs)}",
        f"epoch {state.get('epoch', 0)} of {epochs[(step or 1) - 1]}",
    ]
    said, button = st.columns([4, 1], vertical_alignment="center")
    said.markdown(", ".join([*words, f"{state.get('seconds', 0):.0f} s in this step"]))
    with button:
        if running:
            if st.button(
                "Stop",
                icon=":material/stop:",
                key="stop",
                disabled=state["state"] == "starting",
                width="stretch",
                help="Ends after this epoch and keeps all; resume goes on.",
            ):
                stop(run)
                st.toast("Stopping after this epoch.")
        elif state["state"] != "finished" and st.button(
            "Resume", type="primary", icon=":material/play_arrow:", key="resume", width="stretch"
        ):
            start(run)
            st.rerun()
    if state["state"] != "finished":
        st.progress(work.share_done(state))
    if state["state"] == "failed":
        st.error(state.get("message") or "The training ended with an error.")
    elif state.get("message") and not running:
        st.info(state["message"])
    with st.expander("Losses", expanded=not cached.stamp(run)), work.saying_errors():
        st.plotly_chart(loss_figure(run.metrics()), key="losses", config={"displaylogo": False})


@work.saying_errors()
def show_generating(run: Run) -> None:
    """A bar while candidates are made; the page is refreshed when they are there."""
    if not work.is_generating(run):
        st.rerun()
    done, total = work.generated(run) or (0, 0)
    st.progress(done / total if total else 0.0, f"{done} of {total} candidates" if done else "Starting ...")


def show_candidates(run: Run) -> None:
    st.subheader("Ternary cells", divider="gray")
    if work.is_generating(run):
        st.fragment(show_generating, run_every=1)(run)
        return
    if problem := work.problem(run):
        st.error(problem)
    changed = cached.stamp(run)
    table = cached.table(str(run.folder), changed) if changed else pd.DataFrame()
    rules = [column for column in table if column.startswith("passed_")]
    left, middle, _ = st.columns([1, 1, 3], vertical_alignment="bottom")
    number = left.number_input(
        "Cells to make",
        1,
        100_000,
        200,
        step=100,
        key="number",
        help="How many cells this run shall hold; more keep the old ones.",
    )
    if middle.button("Generate", type="secondary" if len(table) else "primary", key="generate", width="stretch"):
        work.start_generate(run, number)
        st.rerun()
    if table.empty:
        st.info("This run is trained. Generate candidates: new cells, judged by both rules, compared with one another.")
        return
    row = st.columns(3 + len(rules))
    row[0].metric("Candidates", len(table))
    for place, column in zip(row[1:], rules, strict=False):
        place.metric(
            f"Keep {column.removeprefix('passed_')}", int(table[column].sum()), help=f"{table[column].mean():.0%} keep this rule."
        )
    row[-2].metric(
        "Unique", int(table["unique"].sum()), help="So many differ from all before them, within pymatgen's tolerances."
    )
    row[-1].metric("Ternary", int(table["ternary"].sum()), help="So many hold both metals and the shared element.")
    own = next((c for c in rules if c == f"passed_{run.rule.name}"), rules[0])
    shown = choose_rows(table, own)
    picked = show_table(shown, rules)
    cell_side, text_side = st.columns([5, 4], gap="medium")
    with text_side:
        facts = st.container()
        show_download(run, table, own)
    if shown.empty:
        cell_side.info("No candidate is left to show; choose all of them above the table.")
    else:
        show_cell(run, changed, shown.iloc[picked], cell_side, facts)


def choose_rows(table: pd.DataFrame, own: str) -> pd.DataFrame:
    which = st.segmented_control("Show", ["All", "Keep the run's rule", "Keep it and unique"], default="All", key="filter")
    if which in (None, "All"):
        return table
    kept = table[table[own]]
    return kept if which == "Keep the run's rule" else kept[kept["unique"]]


def show_table(table: pd.DataFrame, rules: list[str]) -> int:
    """The table; returns the position of the selected row, the first when none is."""
    shortest = [column for column in table if column.startswith("shortest ")]
    config = {
        "id": st.column_config.NumberColumn("id", width=50, pinned=True),
        "formula": st.column_config.TextColumn("formula", pinned=True),
        "atoms": st.column_config.NumberColumn("atoms", width="small", help="Atoms in the cell."),
        "volume": st.column_config.NumberColumn("Å³/atom", format="%.1f", help="Volume of the cell per atom, Å³."),
        "spacegroup_symbol": st.column_config.TextColumn(
            "space group", help="Found with a tolerance of 0.1 Å, before any relaxation."
        ),
        "unique": st.column_config.CheckboxColumn("unique", help="No candidate before it is the same cell."),
    }
    config |= {c: st.column_config.CheckboxColumn(c.removeprefix("passed_"), help="Keeps this rule.") for c in rules}
    config |= {
        c: st.column_config.NumberColumn(
            f"{c.removeprefix('shortest ')} / Å", format="%.2f", help="Shortest first-neighbour distance of this pair, Å."
        )
        for c in shortest
    }
    order = ["id", "formula", "atoms", "volume", "spacegroup_symbol", *rules, "unique", *shortest]
    event = st.dataframe(
        table[order],
        column_config=config,
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        height=300,
        placeholder="",
        key="table",
    )
    rows = event["selection"]["rows"]
    return rows[0] if rows and rows[0] < len(table) else 0


def show_cell(run: Run, changed: float, row: pd.Series, picture: DeltaGenerator, facts: DeltaGenerator) -> None:
    structure, verdicts = cached.candidate(str(run.folder), changed, int(row["id"]))
    a, b, c = structure.lattice.abc
    alpha, beta, gamma = structure.lattice.angles
    picture.plotly_chart(
        structure_figure(structure), key=f"cell-{run.folder.name}-{row['id']}", config={"displaylogo": False}, height=380
    )
    facts.markdown(f"**{row['formula']}**, candidate {row['id']}: {row['atoms']} atoms, space group {row['spacegroup_symbol']}")
    facts.caption(
        f"a {a:.2f}, b {b:.2f}, c {c:.2f} Å; α {alpha:.0f}°, β {beta:.0f}°, γ {gamma:.0f}°; "
        f"{structure.volume:.0f} Å³. Drag to turn; hover for distances."
    )
    for rule, text in verdicts.items():
        (facts.success if row[f"passed_{rule}"] else facts.warning)(text)


def show_download(run: Run, table: pd.DataFrame, own: str) -> None:
    which, kind = st.columns([3, 2])
    good = int(table[own].sum())
    words = {"good": f"keep the rule ({good})", "all": f"all ({len(table)})"}
    select_by = which.selectbox("Take along", list(words), format_func=words.__getitem__, key="export")
    file_format = kind.selectbox("Format", list(FILE_FORMATS), key="format")
    st.download_button(
        "Download zip",
        data=partial(cached.archive, str(run.folder), select_by, FILE_FORMATS[file_format]),
        file_name=f"{run.folder.name}.zip",
        mime="application/zip",
        on_click="ignore",
        disabled=select_by == "good" and not good,
        icon=":material/download:",
        width="stretch",
        help="One file for each cell, and candidates.csv with every verdict and distance (Å).",
        key="download",
    )


@work.saying_errors()
def page() -> None:
    st.title("First ternaries")
    st.caption("Two classes of binary hydrides in, ternary cells out: train, watch, generate, look, take along.")
    with st.sidebar:
        new_run_form()
        runs, problems = work.open_runs(cached.runs_folder())
        run = chosen_run(runs)
    for problem in problems:
        st.warning(f"A run folder is left out. {problem}")
    if run is None:
        st.info(
            "Choose two metals on the left and press Train. Training runs on its own: you can close this page and come back. "
            "When it is finished, generate ternary cells here."
        )
        return
    st.subheader(name(run), divider="gray")
    running = work.is_training(run.status())
    st.fragment(show_training, run_every=1 if running else None)(run)
    if run.status()["state"] == "finished":
        show_candidates(run)


page()
