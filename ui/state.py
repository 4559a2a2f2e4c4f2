"""What a session remembers from page to page, and what its address says: pair, run, candidate."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import streamlit as st
from streamlit.runtime.pages_manager import PagesManager
from streamlit.runtime.scriptrunner import get_script_run_ctx

from crystalgan.discovery.record import is_search, read_record
from crystalgan.errors import InputError
from crystalgan.runs.listing import find_runs
from ui import cached, work

if TYPE_CHECKING:
    from crystalgan.runs.folder import Run

STYLE = """<style>
[data-testid="stMainBlockContainer"] { padding: 3.7rem 2.2rem 2rem; max-width: 1800px; }
[data-testid="stMetricValue"] { font-size: 1.35rem; }
[data-testid="stHeading"] h2 { padding: 0 !important; font-size: 1.5rem; }
[data-testid="stMainBlockContainer"] [data-testid="stVerticalBlock"] { gap: .7rem; }
[data-testid="stSelectboxVirtualDropdown"] { width: max-content !important;
  min-width: var(--trigger-width); max-width: 640px; }
[data-testid="stButtonGroup"] > div { flex-wrap: wrap; }
[data-testid="stButtonGroup"] button { padding-left: .55rem; padding-right: .55rem; }
</style>"""
OF_A_RUN = (
    "candidate",
    "picked",
    "table_sent",
    "clicked_map",
    "clicked_relaxed",
    "clicked_hull",
    "clicked_storage",
)  # in the session's state


def through_app() -> None:
    """Let `app.py` come before the page.

    A server that has not run `st.navigation` yet takes every file of `pages/` for an app of its
    own, and so it would run the page alone for a first visitor who follows a link to it.
    """
    if PagesManager.uses_pages_directory:
        PagesManager.uses_pages_directory = False
        st.rerun()
    context = get_script_run_ctx()
    if context and (
        context.page_script_hash != st.session_state.get("page") or context.is_history_navigation
    ):
        st.session_state["page"], st.session_state["arrived"] = context.page_script_hash, True


def header(title: str, caption: str) -> None:
    """Title of a page with one sentence of what it is for."""
    st.html(STYLE)
    st.header(title, anchor=False)
    st.caption(caption)
    if problem := cached.prepare(str(cached.runs_folder())):
        st.warning(work.in_app(problem))


def in_address(**values: str | int | None) -> None:
    """Write these into the address of the page, or take them out where they are None."""
    for name, value in values.items():
        if value is None:
            st.query_params.pop(name, None)
        elif st.query_params.get(name) != str(value):
            st.query_params[name] = str(value)


def get_pair() -> tuple[str | None, str | None]:
    """The two chosen metals; an address that names them comes first."""
    sizes = cached.class_sizes()
    for which in ("a", "b"):
        if which not in st.session_state:
            named = st.query_params.get(which)
            st.session_state[which] = named if named in sizes else None
    return st.session_state["a"], st.session_state["b"]


def set_pair(a: str | None, b: str | None) -> None:
    """Choose these two metals other than by their own fields; a metal that changes loses its own
    cells."""
    for which, metal in (("a", a), ("b", b)):
        if metal != st.session_state.get(which):
            set_metal(which, metal)
            st.session_state[f"chosen_{which}"] = times_chosen(which) + 1


def times_chosen(which: str) -> int:
    """How often `set_pair` has changed this metal. Its field is a new one each time: with the
    visitor's next click a browser that is slow to draw sends what the old one still showed, and
    that must not count as a choice.
    """
    return int(st.session_state.get(f"chosen_{which}", 0))


def set_metal(which: str, metal: str | None, own: dict[str, Any] | None = None) -> None:
    """Choose the metal of class "a" or "b", and the cells that are no built-in ones."""
    st.session_state[which] = metal
    set_own(which, own)


def set_own(which: str, own: dict[str, Any] | None) -> None:
    """Make these the cells of a class: their `path` and what to say `about` them; None for the
    built-in ones."""
    st.session_state[f"own_{which}"] = own


def own_cells(which: str) -> dict[str, Any] | None:
    """What `set_own` was told last."""
    own: dict[str, Any] | None = st.session_state.get(f"own_{which}")
    return own


def kind_of(which: str) -> str:
    """Where a class comes from: Built-in, Upload or Database."""
    return str(st.session_state.get(f"kind_{which}", "Built-in"))


def set_kind(which: str, kind: str) -> None:
    """Take a class from elsewhere; the metal stays where it can."""
    metal = st.session_state.get(which)
    st.session_state[f"kind_{which}"] = kind
    set_metal(
        which,
        (
            None
            if kind == "Upload" or (kind == "Built-in" and metal not in cached.class_sizes())
            else metal
        ),
    )


def source_of(which: str) -> str | None:
    """What `load_class` reads class "a" or "b" from: a path of one's own cells, or the metal of a
    built-in class."""
    own = own_cells(which)
    if own:
        return str(own["path"])
    return st.session_state.get(which) if kind_of(which) == "Built-in" else None


def class_problem(which: str, shared: str) -> str:
    """Why nothing can be trained on one's own cells of class "a" or "b", in a sentence; empty where
    they will do."""
    own = own_cells(which)
    try:
        if own:
            cached.class_cells(str(own["path"]), str(st.session_state[which]), shared)
    except InputError as error:
        return work.in_app(error)
    return ""


def run_name(run: Run) -> str:
    """A run in a few words, which no other run of the same folder has: those of its own folder."""
    shared, a, b = run.species
    method = "discovery" if is_search(run) else run.config.method
    seed, name = run.config.seed, run.folder.name
    system = f"{a}-{b}-{shared}"
    words = f"{system}{'' if method == 'crystalgan' else f' {method}'}, seed {seed}"
    usual, _, number = name.rpartition("_")
    if usual == f"{system}_{method}_seed{seed}" and number.isdecimal():
        return f"{words} ({number})"
    return (
        f"{words} ({number})" if usual == system and not number.isdecimal() else f"{name} ({words})"
    )


def run_label(run: Run) -> str:
    """A run by its name and what else tells it from others: rule, epochs, number of cells, day."""
    cells, made = cached.count(run), cached.day(run)
    if is_search(run):
        parts = [_search_label(run, cells), made]
        return f"{run_name(run)} · {', '.join(filter(None, parts))}"
    epochs = run.status().epochs or (run.config.epochs1, run.config.epochs2)
    parts = [run.rule.name, f"{' + '.join(map(str, epochs))} epochs", f"{cells} cells", made]
    return f"{run_name(run)} · {', '.join(filter(None, parts))}"


def _search_label(run: Run, phases: int) -> str:
    """What a search was asked for, how long it took and what it found."""
    try:
        record = read_record(run)
    except InputError:
        return "a damaged discovery.json"
    wanted, minutes = record.wanted, record.cpu_seconds / 60
    found = "under way" if work.is_held(run) else f"{minutes:.1f} CPU min, {phases} phases"
    what = f"{wanted.formula}, " if wanted.formula else ""
    return f"{what}at most {wanted.max_atoms} atoms, {found}"


# a Streamlit container
def choose_run(runs: list[Run], place: Any = st, label: str = "visible") -> Run | None:
    """A select box of the runs. An address that a visitor comes by goes first, then the run that
    was shown last, then the newest.

    InputError where the run that was shown is gone: another one is the visitor's to choose.
    """
    by_name = {run.folder.name: run for run in runs}
    go_to_address(by_name)
    if st.session_state.get("run") is None and runs:
        st.session_state["run"] = _first(runs).folder.name
    wanted = st.session_state.get("run")
    is_gone = wanted is not None and wanted not in by_name
    if not runs:
        if is_gone:
            st.warning(f"The run {wanted} is no longer here.")
        return None
    labels = {name: run_label(run) for name, run in by_name.items()}
    st.session_state["choose_run"] = None if is_gone else wanted
    place.selectbox(
        "Run",
        list(by_name),
        index=None if is_gone else 0,
        format_func=lambda name: labels.get(name, name),
        key="choose_run",
        on_change=_run_chosen,
        label_visibility=label,
        placeholder="Choose a run",
        help="Every training is kept in a folder of its own; the newest is first.",
    )
    if is_gone:
        raise InputError(
            f"The run {wanted} is no longer here: its folder was deleted or moved. Choose another"
            " run above."
        )
    in_address(run=wanted)
    return by_name[str(wanted)]


def go_to_address(by_name: dict[str, Run]) -> None:
    """Show the run and the candidate that the address names, when a visitor has just come by it: by
    a link, Back or Forward.

    At any other time the session knows better: the browser may still send the address of a moment
    ago.
    """
    if not st.session_state.pop("arrived", False):
        return
    named, candidate = st.query_params.get("run"), st.query_params.get("candidate", "")
    if named in by_name:
        set_run(named)
    elif named is not None and named != st.session_state.get("run"):
        st.warning("The address names a run that is not here; another one is shown.")
        return
    if candidate.isdecimal() and named in (None, st.session_state.get("run")):
        st.session_state["candidate"] = int(candidate)


def _first(runs: list[Run]) -> Run:
    """The newest run that holds candidates, or the newest of all."""
    return next((run for run in runs if cached.stamp(run)), runs[0])


def _run_chosen() -> None:
    name = st.session_state["choose_run"]
    if name is not None and (cached.runs_folder() / name).is_dir():
        show_run(name)


def set_run(name: str) -> None:
    """Make this run the shown one, and forget what was picked of another."""
    if st.session_state.get("run") != name:
        st.session_state["run"] = name
        for one in OF_A_RUN:
            st.session_state.pop(one, None)


def show_run(name: str) -> None:
    """Make this run the one that pages show, here and in the address."""
    set_run(name)
    in_address(run=name, candidate=None)


def open_runs() -> list[Run]:
    """The runs that can be opened; one warning says which folders cannot, and why."""
    found = find_runs(cached.runs_folder())
    if found.broken:
        _warn_of([work.in_app(one.sentence) for one in found.broken])
    return list(found.runs)


def _warn_of(sentences: list[str]) -> None:
    """Say how many run folders cannot be opened, and why. A stranger's words among the sentences
    are no links or pictures."""
    first, *others = [re.sub(r"([\[\]<`$])", r"\\\1", text) for text in sentences]
    if not others:
        st.warning(f"1 folder in runs/ cannot be opened. {first}")
        return
    st.warning(f"{len(sentences)} folders in runs/ cannot be opened. {first}")
    with st.expander("What is wrong with the others"):
        for sentence in others:
            st.caption(sentence)
