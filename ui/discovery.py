"""Parts of the page Discover: what to look for, how far a search is, the phases that it found."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import streamlit as st

from crystalgan.discovery.compositions import LARGEST, SMALLEST, one_composition
from crystalgan.discovery.record import MOST_ATOMS, is_search, read_record
from crystalgan.errors import InputError
from crystalgan.plot.stability import composition_figure, hull_figure, sources_figure
from crystalgan.plot.training import accuracy_figure
from crystalgan.potentials.registry import untrained
from crystalgan.runs.database import structure_of
from crystalgan.stability.hull import lacks_compounds
from ui import cached, cell, known, relaxed, state, vet, work
from ui.classes import SHARED
from ui.clicks import clicked_point, clicked_row

if TYPE_CHECKING:
    import pandas as pd

    from crystalgan.discovery.phases import Phases
    from crystalgan.discovery.record import Record
    from crystalgan.runs.folder import Run

PLAIN = {"displaylogo": False}
MINUTES, MOST_MINUTES = 5.0, 10_000.0  # CPU minutes
VIEWS = ["Hull", "Energy", "Sources"]


def form(shown: Run | None) -> None:
    """What to look for, in one row, and the button that begins; where no metals are chosen, those
    of the search that is shown."""
    columns = st.columns([2, 2, 2, 2, 3, 2, 2], vertical_alignment="bottom")
    a, b = state.get_pair()
    if shown and not (a or b) and set(shown.species[1:]) <= cached.class_sizes().keys():
        state.set_pair(*shown.species[1:])
    for which, column in zip("ab", columns, strict=False):
        choose_metal(which, column)
    a, b = st.session_state["a"], st.session_state["b"]
    state.in_address(a=a, b=b)
    minutes = columns[2].number_input(
        "CPU minutes",
        0.1,
        MOST_MINUTES,
        MINUTES,
        1.0,
        format="%g",
        key="discover_minutes",
        help="Time of one core that the search may take; it can be stopped and gone on with.",
    )
    most_atoms = columns[3].number_input(
        "Most atoms",
        SMALLEST,
        LARGEST,
        min(12, MOST_ATOMS),
        key="discover_atoms",
        help="Of a cell. Small cells relax sooner, so that more of them are looked at.",
    )
    formula = columns[4].text_input(
        "Formula",
        key="discover_formula",
        max_chars=40,
        placeholder="all compositions",
        help=f"Look at one composition alone, such as ZrNi{SHARED}3.",
    )
    with columns[5].popover("More", icon=":material/tune:", width="stretch"):
        options, potential = further_options()
    pressed = columns[6].button(
        "Go",
        type="primary",
        icon=":material/travel_explore:",
        width="stretch",
        disabled=not (a and b),
        key="discover_go",
        help="It goes on when you leave this page or close the browser.",
    )
    if a and b and (words := untrained(potential, (SHARED, a, b))):
        st.warning(words)
    if pressed and a and b:
        options += ["--minutes", str(minutes), "--max-atoms", str(most_atoms)]
        with work.saying_errors():
            begin(str(a), str(b), formula.strip(), int(most_atoms), options)


def choose_metal(which: str, column: Any) -> None:
    """One of the metals of the pair; own cells are chosen on the page Pair."""
    title, metal = f"Metal {which.upper()}", st.session_state[which]
    if own := state.own_cells(which):
        column.text_input(
            title,
            f"{metal}, own cells",
            disabled=True,
            key=f"discover_own_{which}_{own['path']}",
            help="Your own cells, from the page Pair; choose built-in ones there.",
        )
        return
    metals = sorted(cached.class_sizes())
    chosen = column.selectbox(
        title,
        metals,
        index=metals.index(metal) if metal in metals else None,
        placeholder="choose",
        key=f"discover_{which}_{state.times_chosen(which)}",
        help=f"Its hydrides, the metal and compounds of both are what cells with {SHARED} are made"
        " from. The page Pair shows them.",
    )
    if chosen != metal and chosen is not None:
        state.set_metal(which, chosen)


def further_options() -> tuple[list[str], str]:
    """What seldom is changed: options of the command, and the name of the potential."""
    potential = st.selectbox(
        "Potential",
        list(cached.POTENTIALS),
        key="discover_potential",
        help="It gives every energy. With another than CHGNet the elements and binaries are"
        " relaxed first, some minutes.",
    )
    jobs = st.number_input(
        "Processes",
        1,
        max(1, os.cpu_count() or 1),
        key="discover_jobs",
        help="The same is found with any number, sooner with more; the CPU minutes are those of"
        " all together.",
    )
    seed = st.number_input(
        "Seed", 0, 10**6, key="discover_seed", help="Another seed goes another way."
    )
    compete = st.toggle(
        "Known ternaries compete",
        value=True,
        key="discover_known",
        help="Off: the built-in known ternaries neither compete nor count as known, to see whether"
        " the search finds them.",
    )
    options = ["--potential", cached.POTENTIALS[potential], "--jobs", str(jobs)]
    options += ["--seed", str(seed), *([] if compete else ["--without-known"])]
    return options, potential


def begin(a: str, b: str, formula: str, most_atoms: int, options: list[str]) -> None:
    """Start a search, or go on with one of the same wishes, and show it."""
    if a == b:
        raise InputError(f"Both metals are {a}. A ternary needs two different metals.")
    if formula:
        try:
            one_composition(formula, (SHARED, a, b), most_atoms)
        except InputError as error:
            said = str(error).replace("allow more by `max_atoms`", "allow more by *Most atoms*")
            raise InputError(said) from None
        options = [*options, "--formula", formula]
    for which in "ab":
        if own := state.own_cells(which):
            options = [*options, f"--{which}", str(own["path"])]
    with st.spinner("Beginning the search ..."):
        folder = work.start_discovery([a, b, *options], cached.runs_folder())
    st.session_state["search"] = folder.name
    state.show_run(folder.name)
    st.rerun()


def say_search(run: Run, words: str) -> None:
    """Say on another page what a search is or lacks, with the way to this page."""
    st.info(words)
    st.page_link(
        "pages/discover.py",
        label="To the page Discover",
        icon=":material/travel_explore:",
        query_params={"run": run.folder.name},
    )


def choose_search(runs: list[Run], place: Any) -> Run | None:
    """A select box of the searches: the one that pages show, or that was shown here last, or the
    newest."""
    state.go_to_address({run.folder.name: run for run in runs})
    by_name = {run.folder.name: run for run in runs if is_search(run)}
    if not by_name:
        return None
    last = (st.session_state.get("run"), st.session_state.get("search"), next(iter(by_name)))
    wanted = next(name for name in last if name in by_name)
    st.session_state["search"] = st.session_state["choose_search"] = wanted
    labels = {name: state.run_label(run) for name, run in by_name.items()}
    place.selectbox(
        "Search",
        list(by_name),
        format_func=lambda name: labels.get(name, name),
        key="choose_search",
        on_change=_search_chosen,
        label_visibility="collapsed",
        help="Every search is kept in a folder of its own; the newest is first.",
    )
    return by_name[wanted]


def _search_chosen() -> None:
    name = st.session_state["choose_search"]
    if name is not None and (cached.runs_folder() / name).is_dir():
        st.session_state["search"] = name
        state.show_run(name)


def progress(record: Record, running: bool) -> tuple[float, str]:
    """How much of the asked CPU time is spent, and what was done in it, in words."""
    minutes, step = record.cpu_seconds / 60, record.step
    asked = max(record.asked, 1e-9)
    of = f" of {record.asked:g}" if record.asked else ""
    words = [f"{minutes:.1f}{of} CPU min"]
    if step:
        words += [
            f"round {step.rounds}",
            f"{step.screened} screened by one energy",
            f"{step.relaxed} relaxed",
            f"{step.found} phases",
        ]
    elif running:
        words.append("loading the potential and the classes")
    return min(1.0, minutes / asked) if record.asked else 0.0, " · ".join(words)


def controls(run: Run, record: Record, running: bool, place: Any) -> None:
    """Stop, or so many CPU minutes more."""
    if running:
        asked = work.is_asked_to_stop(run)
        if place.button(
            "Stops after this round" if asked else "Stop",
            icon=":material/stop_circle:",
            key="discover_stop",
            disabled=asked,
            help="What was relaxed is kept, and Go on continues from there.",
        ):
            work.stop_discovering(run)
            st.rerun()
        return
    more = place.number_input(
        "CPU minutes more",
        0.1,
        MOST_MINUTES,
        MINUTES,
        1.0,
        format="%g",
        key="discover_more",
        label_visibility="collapsed",
        width=130,
        help="CPU minutes more.",
    )
    if place.button(
        f"Go on for {more:g} CPU min",
        icon=":material/play_arrow:",
        key="discover_go_on",
        help="So many CPU minutes more, from where the search is.",
    ):
        jobs = int(st.session_state.get("discover_jobs", 1))
        work.go_on_discovering(run, round(record.cpu_seconds / 60 + more, 4), jobs)
        st.rerun()


@work.saying_errors()
def show_search(run: Run) -> None:
    """How far a search is and what it found; while it is under way this is drawn anew every two
    seconds."""
    running = work.is_held(run)
    if st.session_state.get("searching") == run.folder.name and not running:
        st.session_state["searching"] = None
        st.rerun()  # the page, which then stops asking
    st.session_state["searching"] = run.folder.name if running else None
    record = read_record(run)
    said, buttons = st.columns([5, 3], vertical_alignment="center")
    share, words = progress(record, running)
    if share or running:
        said.progress(share, words)
    else:
        said.markdown(words)
    row = buttons.container(horizontal=True, vertical_alignment="center")
    controls(run, record, running, row)
    if problem := work.problem(run, work.DISCOVER_LOG):
        st.error(problem)
    found = cached.discovered(run)
    if found.table.empty:
        st.info(
            "Nothing is found yet: the first phases appear after some relaxations."
            if running
            else "This search has found nothing yet. Press Go on to give it more CPU minutes."
        )
        return
    show_found(run, record, found)


def show_found(run: Run, record: Record, found: Phases) -> None:
    """The phases that were found, where they lie, and the cell of one."""
    left, right = st.columns([6, 5], gap="medium")
    with left:
        current = show_table(run, found.table)
        view = st.segmented_control(
            "Look at", VIEWS, default="Hull", key="discover_view", required=True
        )
        show_view(run, record, found, str(view), current)
    with right:
        show_phase(run, found, current)


def show_view(run: Run, record: Record, found: Phases, view: str, current: int) -> None:
    """A figure: the hull from above, energies by composition, or the sources."""
    if view == "Sources":
        step = record.step
        figure = sources_figure(step.sources if step else found.sources, step.spent if step else {})
        st.plotly_chart(figure, key="discover_sources", config=PLAIN)
        st.caption(
            "A source that finds more low phases for its work makes more of the next proposals,"
            " each at least a tenth. Work: proposing, screening and relaxing."
        )
        if step and step.accuracies:
            st.plotly_chart(accuracy_figure(step.accuracies), key="discover_accuracy", config=PLAIN)
            st.caption("How often the discriminator of the source `learned` was right.")
        return
    if view == "Energy" or found.diagram is None:
        figure, key = composition_figure(found.table, run.species, current), "discover_energy"
    else:
        figure, key = hull_figure(found.diagram, found.table, run.species, current), "discover_hull"
    event = st.plotly_chart(
        figure, key=key, on_select="rerun", selection_mode="points", config=PLAIN
    )
    if (number := clicked_point(event, key)) is not None:
        choose(run, number)
        st.rerun()
    if found.diagram is not None and lacks_compounds(found.diagram, run.species):
        st.caption(
            "Compounds of the two metals do not compete here; on the page Stability press Relax"
            " with *What competes too*."
        )


def choose(run: Run, number: int) -> None:
    """Make a phase the candidate that this page and the others show."""
    state.show_run(run.folder.name)
    vet.show_candidate(number)


def show_table(run: Run, table: pd.DataFrame) -> int:
    """The phases, the lowest above the hull first; returns the id of the one that is shown."""
    ids = [int(i) for i in table["id"]]
    shown = table.assign(known=table["known"].where(table["known"] != "", "new"))
    for name in ("enthalpy", "temperature"):
        shown[name] = shown[name].astype(float)
    config: dict[str, Any] = {
        "id": st.column_config.NumberColumn("no.", width=45, pinned=True),
        "formula": st.column_config.TextColumn("formula", width=90, pinned=True),
        "above_hull": st.column_config.NumberColumn(
            "eV/atom",
            format="%.3f",
            width=65,
            help="Energy above the convex hull, eV/atom; 0 is on it.",
        ),
        "atoms": st.column_config.NumberColumn("atoms", width=50, help="Of the primitive cell."),
        "spacegroup_symbol": st.column_config.TextColumn(
            "group", width=75, help="Space group after relaxation, found within 0.1 Å."
        ),
        "weight_percent": st.column_config.NumberColumn(
            "wt% H", format="%.2f", width=60, help="Hydrogen by mass."
        ),
        "enthalpy": st.column_config.NumberColumn(
            "kJ/mol H2", format="%.0f", width=75, help="Enthalpy of release of all hydrogen."
        ),
        "temperature": st.column_config.NumberColumn(
            "1 bar / K",
            format="%.0f",
            width=65,
            help="Temperature at which released hydrogen has 1 bar, of the usual entropy; empty"
            " where the release gives off heat.",
        ),
        "known": st.column_config.TextColumn(
            "known",
            width=70,
            help="The known structure that it is; new: none of those that it was compared with.",
        ),
        "source": st.column_config.TextColumn("source", width=75, help="What proposed it."),
        "products": st.column_config.TextColumn("decomposes into", width="medium"),
    }
    current = shown_phase(run, ids)
    clicked = clicked_row(shown, config, f"discovered_{run.folder.name}")
    if clicked is not None:
        current = clicked
        choose(run, current)
    return current


def shown_phase(run: Run, ids: list[int]) -> int:
    """The candidate that pages show where it is one of these, or the lowest."""
    mine = st.session_state.get("run") == run.folder.name
    chosen = st.session_state.get("candidate") if mine else None
    return chosen if chosen in ids else ids[0]


def show_phase(run: Run, found: Phases, number: int) -> None:
    """The relaxed cell of a phase, what it would decompose into, and the way to all else."""
    name = found.potential
    row = cached.relaxed(str(run.folder), name, number, cached.relaxed_stamp(run))
    if row is None:
        return
    about = found.table[found.table["id"] == number].iloc[0]
    relaxed.outcome(row)
    identity = f"{run.folder.name}-{name}-{number}-found"
    title = f"{about['formula']}_{number}"
    cell.show(structure_of(row), identity, "discover_cell", height=345, name=title, rule=run.rule)
    words = [f"**{1000 * about['above_hull']:.0f} meV/atom** above the hull"]
    if about["above_hull"] > 0 and about["products"]:
        words.append(f"decomposes into {about['products']}")
    words.append(f"proposed by {about['source']}")
    st.markdown(" · ".join(words))
    matches = str(about["known"]).replace("`", "")
    novelty = f":material/menu_book: Known: matches `{matches}`" if matches else known.novelty(run)
    st.caption(novelty)
    if about["enthalpy"] is not None:
        st.caption(
            f"{about['weight_percent']:.2f} wt% H; release of all hydrogen"
            f" {about['enthalpy']:.0f} kJ/mol H2. {relaxed.heat(about['enthalpy'])}"
        )
    with st.container(horizontal=True):
        here = {"run": run.folder.name, "candidate": str(number)}
        st.page_link(
            "pages/stability.py",
            label="Hydrogen and phonons",
            icon=":material/landscape:",
            query_params=here,
        )
        st.page_link(
            "pages/explore.py",
            label="Neighbours, symmetry, powder pattern",
            icon=":material/view_in_ar:",
            query_params=here,
        )
        relaxed.download(structure_of(row), title, "POSCAR", "take_discovered")
