"""Relax candidates, see whether they hold together, how far above the hull they are, how much
hydrogen they store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from crystalgan.discovery.record import is_search
from crystalgan.errors import InputError
from crystalgan.plot.stability import hull_figure, storage_figure
from crystalgan.potentials.registry import untrained
from crystalgan.stability.hull import lacks_compounds
from crystalgan.stability.references import other_structures
from ui import cached, relaxed, state, vet, vibrations, work
from ui.classes import FILE_TYPES
from ui.clicks import clicked_point, clicked_row

if TYPE_CHECKING:
    from pymatgen.analysis.phase_diagram import PhaseDiagram

    from crystalgan.runs.folder import Run

PLAIN = {"displaylogo": False}
SECONDS = 2  # that a candidate takes to relax, about


def choices(run: Run, table: pd.DataFrame) -> dict[str, tuple[str, list[int]]]:
    """What may be relaxed: in words, and as ids."""
    good = (
        table[f"passed_{run.rule.name}"].astype(bool)
        & table["unique"].astype(bool)
        & (table["decision"] != "rejected")
    )
    here = set(table["id"])
    groups = {
        "kept": ("kept by you", table["id"][table["decision"] == "kept"].tolist()),
        "picked": (
            "selected on the page Explore",
            [i for i in st.session_state.get("picked", []) if i in here],
        ),
        "first": ("the first ten good ones", table["id"][good].tolist()[:10]),
        "good": ("all good ones: keep the rule, unique, not rejected", table["id"][good].tolist()),
        "all": ("all", table["id"].tolist()),
    }
    return {name: (f"{words} ({len(ids)})", ids) for name, (words, ids) in groups.items() if ids}


def relax_form(run: Run, table: pd.DataFrame, place: Any) -> None:
    """The popover that starts relaxations."""
    with place.popover(
        "Relax",
        icon=":material/compress:",
        type="primary" if not cached.relaxed_stamp(run) else "secondary",
    ):
        groups = choices(run, table)
        which = st.selectbox(
            "Candidates", list(groups), format_func=lambda name: groups[name][0], key="relax_which"
        )
        left, right = st.columns(2)
        potential = left.selectbox(
            "Potential",
            list(cached.POTENTIALS),
            key="relax_potential",
            help="It gives every energy on this page.",
        )
        way = right.selectbox(
            "How",
            ["as it is", "rattled", "symmetry kept"],
            key="relax_how",
            help=(
                "Rattled: relaxed, rattled by 0.08 Å and 1 % strain, relaxed again; finds the way"
                " off saddle points and takes twice as long. Symmetry kept: that found within"
                " 0.1 Å."
            ),
        )
        references = st.toggle(
            "What competes too",
            value=True,
            key="relax_references",
            help=(
                "Compounds of the two metals in 18 structure types, once for each run, half a"
                " minute; with another potential than CHGNet also the elements, binaries and"
                " built-in known ternaries, some minutes."
            ),
        )
        tolerance = st.selectbox(
            "Look for a higher symmetry",
            [0.1, 0.3, None],
            format_func=lambda x: "no" if x is None else f"within {x} Å",
            key="relax_refine",
            help=(
                "A relaxed cell that is nearly symmetric is put onto its sites and relaxed again"
                " with that symmetry; it is offered where its energy is no higher."
            ),
        )
        files = st.file_uploader(
            "Further phases that compete",
            [kind for kind in FILE_TYPES if kind != "mat"],
            accept_multiple_files=True,
            key="relax_phases",
            help=(
                "More known ternaries or intermetallics of these elements: CIF, POSCAR (*.vasp),"
                " extended XYZ, or a zip. They are relaxed with the same potential and join the"
                " hull."
            ),
        )
        ids = groups[which][1]
        if words := untrained(potential, run.species):
            st.warning(words)
        st.caption(
            f"About {work.in_words(SECONDS * len(ids))} for {len(ids)}, less where some are relaxed"
            " like this already."
        )
        if st.button("Relax", type="primary", key="relax", width="stretch"):
            options = {"rattled": ["--rattle"], "symmetry kept": ["--symmetry"]}.get(way, [])
            options = [
                *options,
                "--potential",
                cached.POTENTIALS[potential],
                *(["--references"] if references else []),
            ]
            options += ["--raise-symmetry", str(tolerance)] if tolerance else []
            with work.saying_errors():
                if files:
                    path = work.keep_upload(files, cached.runs_folder())
                    # says what is wrong with them before anything is started
                    other_structures(run.species, [path])
                    options += ["--phases", str(path)]
                work.start_relaxing(run, ids, options)
                st.rerun()


@work.saying_errors()
def show_progress(run: Run) -> None:
    """A bar while candidates are relaxed; the page is refreshed when they are."""
    if not work.is_relaxing(run):
        st.rerun()
    relaxed = work.counted(run, work.RELAX_LOG)
    what = relaxed.what or "relaxed"
    words = f"{relaxed.done} of {relaxed.of} {what}" if relaxed.of else "Loading the potential ..."
    left, right = st.columns([5, 1], vertical_alignment="center")
    left.progress(relaxed.share, words)
    if right.button(
        "Stop", icon=":material/stop_circle:", key="stop_relaxing", help="What is done is kept."
    ):
        work.stop_relaxing(run)
        st.rerun()


def show_table(table: pd.DataFrame) -> int:
    """The relaxed candidates; returns the id of the chosen one."""
    ids = [int(i) for i in table["id"]]
    config: dict[str, Any] = {
        "id": st.column_config.NumberColumn("no.", width=50, pinned=True),
        "formula": st.column_config.TextColumn("formula", width=95, pinned=True),
        "above_hull": st.column_config.NumberColumn(
            "above hull", format="%.3f", help="Energy above the convex hull, eV/atom."
        ),
        "formation_energy": st.column_config.NumberColumn(
            "formation", format="%.3f", help="Against the elements, eV/atom."
        ),
        "apart": st.column_config.NumberColumn(
            "apart",
            format="%.3f",
            help=(
                "How far apart the formation energies of the potentials are, eV/atom. Beyond 0.05"
                " trust neither."
            ),
        ),
        "weight_percent": st.column_config.NumberColumn("wt% H", format="%.2f"),
        "enthalpy": st.column_config.NumberColumn(
            "kJ/mol H2", format="%.0f", help="Release of all hydrogen."
        ),
        "spacegroup_symbol": st.column_config.TextColumn(
            "group", help="Space group after relaxation, 0.1 Å."
        ),
        "volume_change": st.column_config.NumberColumn("volume", format="%+.0f %%"),
        "displacement": st.column_config.NumberColumn(
            "moved / Å", format="%.2f", help="Largest displacement of an atom."
        ),
        "state": st.column_config.TextColumn("relaxation"),
        "products": st.column_config.TextColumn("decomposes into", width="medium"),
        "reason": st.column_config.TextColumn("why not"),
    }
    current = clicked_row(table, config, "relaxed")
    if current is None:
        current = st.session_state.get("candidate")
    current = current if current in ids else ids[0]
    vet.show_candidate(current)
    return current


def show_figures(run: Run, diagram: PhaseDiagram, table: pd.DataFrame, current: int) -> None:
    views = ["Hull", "Storage"]
    view = st.segmented_control(
        "Look at", views, default="Hull", key="stability_view", required=True
    )
    if view == "Storage":
        figure, key = storage_figure(table, current), "storage"
    else:
        figure, key = hull_figure(diagram, table, run.species, current), "hull"
    event = st.plotly_chart(
        figure, key=key, on_select="rerun", selection_mode="points", config=PLAIN
    )
    if (number := clicked_point(event, key)) is not None:
        vet.show_candidate(number)
        st.rerun()
    if missing := lacks_compounds(diagram, run.species):
        st.caption(f"{missing} Press Relax once more with *What competes too*.")


def show_relaxed(run: Run, potential: str) -> None:
    diagram, table, problem = cached.stability(run, potential)
    if words := untrained(potential, run.species):
        st.warning(words)  # beside every energy of the page
    if table.empty:
        st.info(f"No candidate is relaxed with {potential} yet.")
        return
    left, right = st.columns([5, 6], gap="medium")
    with left:
        current = show_table(table)
        if diagram:
            show_figures(run, diagram, table, current)
        else:
            st.warning(problem)
    row = cached.relaxed(str(run.folder), potential, current, cached.relaxed_stamp(run))
    with right:
        if row is None:
            return
        before, _ = cached.candidate_of(run, current)
        if row.state != "failed":
            relaxed.outcome(row)
            relaxed.trust(table, current)
        views = ["Way", "Hydrogen", "Phonons"]
        view = st.segmented_control("Show", views, default="Way", key="relaxed_show", required=True)
        if view == "Way" or row.state == "failed":
            relaxed.way(run, row, before)
        elif view == "Hydrogen":
            relaxed.storage(run, row, diagram)
        else:
            vibrations.show(run, row, cached.POTENTIALS.get(potential))


@work.saying_errors()
def page() -> None:
    left, right = st.columns([5, 6], gap="medium", vertical_alignment="bottom")
    with left:
        state.header(
            "Stability", "Does it hold together, how stable is it, how much hydrogen does it store?"
        )
    place = right.container(horizontal=True, vertical_alignment="bottom")
    runs = state.open_runs()
    run = state.choose_run(runs, place, "collapsed")
    if run is None:
        st.info(
            "No run yet. Choose two metals on the page Pair and train them; their ternary cells can"
            " be relaxed here."
        )
        st.page_link("pages/pair.py", label="To the page Pair", icon=":material/arrow_back:")
        return
    table = pd.DataFrame()
    try:
        table = cached.table(run)
    except InputError as error:
        st.error(work.in_app(error))
    if table.empty:
        st.info(
            "This search has found no phases yet; it can be gone on with on the page Discover."
            if is_search(run)
            else "This run holds no candidates to relax. Generate some on the page Explore."
        )
        return
    if problem := work.problem(run, work.RELAX_LOG):
        st.error(problem)
    if work.is_relaxing(run):
        st.fragment(show_progress, run_every=1)(run)
    elif is_search(run) and work.is_held(run):
        st.info("The search of this run is under way; the page Discover shows and stops it.")
    else:
        relax_form(run, table, place)
    potentials = cached.potentials(str(run.folder), cached.relaxed_stamp(run))
    if not potentials:
        st.info(
            "Nothing is relaxed yet. Press Relax: some candidates take a minute or two, and it goes"
            " on when you leave the page."
        )
        return
    potential = potentials[0]
    if len(potentials) > 1:
        potential = place.segmented_control(
            "Energies", potentials, default=potential, key="energies_of", required=True
        )
    show_relaxed(run, potential)


state.through_app()
page()
