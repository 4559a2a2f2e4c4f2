"""Choose the two classes of binary compounds to learn from: built-in ones, or own cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from crystalgan.crystal.rules import paper_rule
from crystalgan.errors import InputError
from crystalgan.plot.classes import class_figure
from crystalgan.runs.listing import list_runs
from ui import cached, cell, components, state, work
from ui.classes import SHARED, choose_class
from ui.report import show_proposals, show_report

if TYPE_CHECKING:
    from streamlit.delta_generator import DeltaGenerator


def table_of_elements(a: str | None, b: str | None) -> None:
    """The periodic table; a click chooses A, then B; a click on a chosen metal lets go of it."""
    sizes = cached.class_sizes()
    cells = [
        element | {"count": sizes.get(element["symbol"], 0)} for element in cached.element_table()
    ]
    clicked = components.elements(cells, a, b, key="elements")
    if not clicked or clicked["click"] == st.session_state.get("last_click"):
        return
    st.session_state["last_click"] = clicked["click"]
    symbol = clicked["symbol"]
    if symbol in (a, b):
        state.set_pair(None if symbol == a else a, None if symbol == b else b)
    elif a is None or b is None:
        state.set_pair(a or symbol, symbol if a else b)
    else:
        state.set_pair(symbol, None)
    st.rerun()


def chosen() -> dict[str, tuple[str, str]]:
    """Source and metal of the classes chosen so far, by "a" and "b"."""
    return {
        w: (source, st.session_state[w])
        for w in "ab"
        if (source := state.source_of(w)) and st.session_state.get(w)
    }


def show_distances() -> None:
    classes = list(chosen().values())
    left, right = st.columns([3, 2])
    left.markdown("First-neighbour distances")
    limits = choose_limits(left, classes)
    figure = cached.class_figure(tuple(classes), SHARED, tuple(limits.items()))
    left.plotly_chart(figure, key="class_distances", config={"displaylogo": False})
    cells = {}
    for source, metal in classes:
        structures, names = cached.class_cells(source, metal, SHARED)
        counts = [sum(site.specie.symbol == metal for site in s) for s in structures]
        cells[f"{metal}-{SHARED}"] = [
            ((len(s) - n) / n, s.volume / n, name)
            for s, n, name in zip(structures, counts, names, strict=True)
        ]
    right.markdown("Composition and volume")
    right.plotly_chart(class_figure(cells, SHARED), key="class_map", config={"displaylogo": False})


def choose_limits(
    place: DeltaGenerator, classes: list[tuple[str, str]]
) -> dict[str, tuple[float, float]]:
    """Limits d1 and d2 of the pairs: the paper's, or those that each class teaches by itself."""
    whose = place.segmented_control(
        "d1 and d2",
        ["the paper's d1, d2", "learned from each class"],
        default="the paper's d1, d2",
        key="whose_limits",
        required=True,
        label_visibility="collapsed",
        help=(
            "A rule keeps first-neighbour distances between d1 and d2, the dashed lines."
            f" {SHARED}-{SHARED} is learned from both classes together when a pair is trained; here"
            " the lower of the two is drawn."
        ),
    )
    if whose != "learned from each class":
        return dict(paper_rule([metal for _, metal in classes], SHARED).limits)
    limits: dict[str, tuple[float, float]] = {}
    for source, metal in classes:
        for pair, (low, high) in work.doctor(source, metal, SHARED)["limits"]["learned"].items():
            limits[pair] = (min(low, limits.get(pair, (low,))[0]), high)
    return limits


def show_cells() -> None:
    for column, (source, metal) in zip(st.columns(2), chosen().values(), strict=False):
        structures, names = cached.class_cells(source, metal, SHARED)
        with column:
            titles = [
                f"{n}: {s.composition.reduced_formula}, {len(s)} atoms"
                for n, s in zip(names, structures, strict=True)
            ]
            numbers = list(range(len(structures)))
            number = st.selectbox(
                f"Cell of {metal}-{SHARED}",
                numbers,
                format_func=titles.__getitem__,
                key=f"cell_{source}",
            )
            cell.show(
                structures[number],
                f"{source}-{number}",
                key=f"view_{metal}",
                height=330,
                name=names[number],
            )


def show_doctor() -> None:
    for column, (which, (source, metal)) in zip(
        st.columns(2, gap="large"), chosen().items(), strict=False
    ):
        with column:
            st.markdown(f"**{metal}-{SHARED}**")
            with work.saying_errors():
                report = work.doctor(source, metal, SHARED)
                show_proposals(which, source, report)
                show_report(report, which)


def to_shipped_run() -> None:
    """The way to ternary cells that are there already."""
    runs = list_runs(cached.runs_folder())
    finished = [run for run in runs if cached.stamp(run)]
    if finished:
        run = finished[-1]
        st.page_link(
            "pages/explore.py",
            label=f"Or look at ternary cells now: {state.run_name(run)}",
            icon=":material/view_in_ar:",
            query_params={"run": run.folder.name},
        )


def page() -> None:
    state.header(
        "Pair",
        "Two metals, two classes of binary hydrides: what CrystalGAN learns from, before it makes"
        " ternary cells.",
    )
    a, b = state.get_pair()
    left, right = st.columns([5, 3], gap="medium")
    with left:
        table_of_elements(a, b)
    with right:
        columns = st.columns(2)
        for column, which in zip(columns, "ab", strict=True):
            with column, work.saying_errors():
                choose_class(which)
        a, b = st.session_state["a"], st.session_state["b"]
        if a and a == b:
            st.warning(
                f"Both classes are of {a}. A ternary needs two different metals: change one."
            )
        elif not (a and b):
            st.info("Click two metals on the table, or choose them here.")
        problems = [problem for which in "ab" if (problem := state.class_problem(which, SHARED))]
        for problem in problems:
            st.error(problem)
        ready = len(chosen()) == 2 and a != b and not problems
        row = st.container(horizontal=True)
        with row:
            if st.button(
                "Train this pair",
                type="primary",
                icon=":material/arrow_forward:",
                disabled=not ready,
                key="train_pair",
            ):
                st.switch_page("pages/train.py")
            if st.button(
                "Discover phases",
                icon=":material/travel_explore:",
                disabled=not ready,
                key="discover_pair",
                help="Search for ternary hydrides of these metals; nothing needs to be trained.",
            ):
                st.switch_page("pages/discover.py")
            st.button(
                "Clear",
                on_click=state.set_pair,
                args=(None, None),
                disabled=not (a or b),
                key="clear",
            )
        to_shipped_run()
    state.in_address(a=a, b=b)
    if chosen() and not problems:
        views = {"Distances": show_distances, "Cells in 3D": show_cells, "Data doctor": show_doctor}
        view = st.segmented_control(
            "Look at", list(views), default="Distances", key="pair_view", required=True
        )
        try:
            views[view or "Distances"]()
        except InputError as error:
            st.error(work.in_app(error))


state.through_app()
page()
