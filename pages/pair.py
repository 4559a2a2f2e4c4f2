"""Choose the two classes of binary compounds to learn from: built-in ones by their metals, or one's own cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from crystalgan import InputError
from crystalgan.charts import class_figure, distance_figure, pairs_of
from ui import cached, cell, components, state, work

if TYPE_CHECKING:
    from collections.abc import Callable

SHARED = "H"
FILE_TYPES = ["vasp", "poscar", "contcar", "cif", "xyz", "extxyz", "zip", "mat"]


def table_of_elements(a: str | None, b: str | None) -> None:
    """The periodic table; a click chooses A, then B; a click on a chosen metal lets go of it."""
    sizes = cached.class_sizes()
    cells = [element | {"count": sizes.get(element["symbol"], 0)} for element in cached.element_table()]
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


def metal_label(metal: str) -> str:
    names = {element["symbol"]: element["name"] for element in cached.element_table()}
    return f"{metal} · {names.get(metal, metal)}"


def choose_class(which: str, metals: list[str]) -> None:
    """One of the two classes: its metal or one's own cells."""
    sources: dict[str, Callable[[str, list[str]], None]] = {"Built-in": builtin, "Upload": upload}
    st.markdown(f"**Class {which.upper()}**")
    kind = st.segmented_control(
        f"Source of class {which.upper()}",
        list(sources),
        default="Built-in",
        key=f"source_{which}",
        label_visibility="collapsed",
        required=True,
    )
    sources[kind or "Built-in"](which, metals)


def builtin(which: str, metals: list[str]) -> None:
    """A class that comes with CrystalGAN."""
    if st.session_state.get(f"path_{which}"):
        st.session_state.pop(f"path_{which}")
        st.session_state[which] = None
    st.session_state[f"select_{which}"] = st.session_state[which]
    st.selectbox(
        f"Metal {which.upper()}",
        metals,
        index=None,
        format_func=metal_label,
        key=f"select_{which}",
        on_change=lambda: st.session_state.update({which: st.session_state[f"select_{which}"]}),
        placeholder="Choose a metal",
        label_visibility="collapsed",
        help="Relaxed cells of this metal's binary hydrides, made from known structure types.",
    )
    if metal := st.session_state[which]:
        st.caption(f"{cached.class_sizes()[metal]} cells of {metal}-{SHARED}, prototypes relaxed with CHGNet")


def upload(which: str, metals: list[str]) -> None:  # noqa: ARG001 - every source has the same signature
    """One's own cells, from files or a zip."""
    files = st.file_uploader(
        f"Cells of class {which.upper()}",
        FILE_TYPES,
        accept_multiple_files=True,
        key=f"files_{which}",
        label_visibility="collapsed",
        help="POSCAR (named *.vasp), CIF, extended XYZ, the authors' .mat, or a zip of those; at most 50 MB.",
    )
    metal = None
    if any(file.name.lower().endswith(".mat") for file in files):
        metal = st.text_input("Metal of the .mat file", max_chars=2, key=f"mat_{which}", help="These files name no elements.")
    if not files:
        st.session_state[which], st.session_state[f"path_{which}"] = None, None
        return
    path = work.keep_upload(files, cached.runs_folder())
    report = work.doctor(str(path), metal or None, SHARED)
    good = bool(report["cells"] and report["metal"])
    st.session_state[which] = report["metal"] if good else None
    st.session_state[f"path_{which}"] = str(path) if good else None
    if good:
        st.caption(f"{report['cells']} cells of {report['metal']}-{SHARED}; {len(report['left_out'])} left out")
    else:
        st.error("None of these files holds a cell that can be used.")
        show_report(report)


def short(where: str) -> str:
    """A place in a file without the folders that lead to it."""
    return where.rsplit("/", 1)[-1] if where.startswith("/") else where


def show_report(report: dict[str, Any]) -> None:
    """What the data doctor found; tables for lists, a line for each number."""
    tables = {
        "left_out": ("Left out", ["where", "reason"]),
        "duplicates": ("Same cell twice", ["first", "again"]),
    }
    columns = st.columns(3)
    columns[0].metric("Cells", report["cells"])
    columns[1].metric("Left out", len(report["left_out"]))
    columns[2].metric("Keep the paper's rule", report.get("keep_paper_rule", 0), help="H-H and metal-metal within 1.8 to 3.0 Å.")
    shortest = pd.DataFrame(
        [
            {"pair": pair, "shortest / Å": found["distance"], "in": short(found["where"])}
            for pair, found in report["shortest"].items()
        ]
    )
    if len(shortest):
        st.dataframe(shortest, hide_index=True)
    for key, (title, names) in tables.items():
        if report.get(key):
            st.markdown(f"**{title}**")
            entries = [row.values() if isinstance(row, dict) else row for row in report[key]]
            rows = [[short(str(word)) for word in entry] for entry in entries]
            st.dataframe(pd.DataFrame(rows, columns=names), hide_index=True)
    known = {*tables, "path", "metal", "cells", "shortest", "keep_paper_rule"}
    for key in report.keys() - known:  # what a later doctor says
        st.markdown(f"**{key.replace('_', ' ').capitalize()}**")
        st.json(report[key], expanded=False)


def chosen() -> list[tuple[str, str]]:
    """Source and metal of the classes chosen so far."""
    return [(source, st.session_state[w]) for w in "ab" if (source := state.source_of(w)) and st.session_state.get(w)]


def show_distances() -> None:
    classes = chosen()
    series = {f"{metal}-{SHARED}": cached.class_distances(source, metal, SHARED) for source, metal in classes}
    metals = [metal for _, metal in classes]
    pairs = [p for p in dict.fromkeys(pairs_of(SHARED, metals[0], metals[-1])) if any(p in s for s in series.values())]
    left, right = st.columns([3, 2])
    left.markdown("First-neighbour distances")
    left.plotly_chart(distance_figure(series, pairs, {}), key="class_distances", config={"displaylogo": False})
    cells = {}
    for source, metal in classes:
        structures, names = cached.class_cells(source, metal, SHARED)
        counts = [sum(site.specie.symbol == metal for site in s) for s in structures]
        cells[f"{metal}-{SHARED}"] = [
            ((len(s) - n) / n, s.volume / n, name) for s, n, name in zip(structures, counts, names, strict=True)
        ]
    right.markdown("Composition and volume")
    right.plotly_chart(class_figure(cells, SHARED), key="class_map", config={"displaylogo": False})


def show_cells() -> None:
    for column, (source, metal) in zip(st.columns(2), chosen(), strict=False):
        structures, names = cached.class_cells(source, metal, SHARED)
        with column:
            titles = [f"{n}: {s.composition.reduced_formula}, {len(s)} atoms" for n, s in zip(names, structures, strict=True)]
            numbers = list(range(len(structures)))
            number = st.selectbox(f"Cell of {metal}-{SHARED}", numbers, format_func=titles.__getitem__, key=f"cell_{source}")
            cell.show(structures[number], f"{source}-{number}", key=f"view_{metal}", height=330, name=names[number])


def show_doctor() -> None:
    for column, (source, metal) in zip(st.columns(2), chosen(), strict=False):
        with column:
            st.markdown(f"**{metal}-{SHARED}**")
            with work.saying_errors():
                show_report(work.doctor(source, metal, SHARED))


def to_shipped_run() -> None:
    """The way to ternary cells that are there already."""
    runs = work.open_runs(cached.runs_folder())[0]
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
        "Pair", "Two metals, two classes of binary hydrides: what CrystalGAN learns from, before it makes ternary cells."
    )
    a, b = state.get_pair()
    left, right = st.columns([5, 3], gap="medium")
    with left:
        table_of_elements(a, b)
    metals = list(cached.class_sizes())
    with right:
        columns = st.columns(2)
        for column, which in zip(columns, "ab", strict=True):
            with column, work.saying_errors():
                choose_class(which, metals)
        a, b = st.session_state["a"], st.session_state["b"]
        if a and a == b:
            st.warning(f"Both classes are of {a}. A ternary needs two different metals: change one.")
        elif not (a and b):
            st.info("Click two metals on the table, or choose them here.")
        row = st.container(horizontal=True)
        with row:
            if st.button("Train this pair", type="primary", icon=":material/arrow_forward:", disabled=not (a and b) or a == b):
                st.switch_page("pages/train.py")
            st.button("Clear", on_click=state.set_pair, args=(None, None), disabled=not (a or b), key="clear")
        to_shipped_run()
    state.in_address(a=a, b=b)
    if chosen():
        views = {"Distances": show_distances, "Cells in 3D": show_cells, "Data doctor": show_doctor}
        view = st.segmented_control("Look at", list(views), default="Distances", key="pair_view", required=True)
        try:
            views[view or "Distances"]()
        except InputError as error:
            st.error(str(error))


state.through_app()
page()
