"""Choosing one of the two classes: a built-in one by its metal, one's own files, or a database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from ui import cached, databases, state, work
from ui.report import short, show_report

if TYPE_CHECKING:
    from collections.abc import Callable

SHARED = "H"
FILE_TYPES = ["vasp", "poscar", "contcar", "cif", "xyz", "extxyz", "zip", "mat"]


def choose_class(which: str) -> None:
    """One of the two classes."""
    sources: dict[str, Callable[[str], None]] = {
        "Built-in": builtin,
        "Upload": upload,
        "Database": database,
    }
    st.markdown(f"**Class {which.upper()}**")
    st.session_state[f"source_{which}"] = state.kind_of(which)
    kind = st.segmented_control(
        f"Source of class {which.upper()}",
        list(sources),
        key=f"source_{which}",
        on_change=lambda: state.set_kind(which, st.session_state[f"source_{which}"]),
        label_visibility="collapsed",
        required=True,
    )
    own = state.own_cells(which)
    if own and "whole" in own:
        st.caption(own["about"])
        st.button(
            "Take the whole class again",
            key=f"whole_{which}",
            on_click=state.set_own,
            args=(which, own["whole"]),
        )
    else:
        sources[kind or "Built-in"](which)


def metal_label(metal: str) -> str:
    """Symbol and name of a metal."""
    names = {element["symbol"]: element["name"] for element in cached.element_table()}
    return f"{metal} · {names.get(metal, metal)}"


def choose_metal(which: str, metals: list[str], words: str) -> str | None:
    """The field for the metal of a class."""
    key = f"select_{which}_{state.times_chosen(which)}"
    st.session_state[key] = st.session_state[which]
    return st.selectbox(
        f"Metal {which.upper()}",
        metals,
        index=None,
        format_func=metal_label,
        key=key,
        on_change=lambda: state.set_metal(which, st.session_state[key]),
        placeholder="Choose a metal",
        label_visibility="collapsed",
        help=words,
    )


def builtin(which: str) -> None:
    """A class that comes with CrystalGAN."""
    sizes = cached.class_sizes()
    words = "Relaxed cells of this metal's binary hydrides, made from known structure types."
    if metal := choose_metal(which, list(sizes), words):
        st.caption(f"{sizes[metal]} cells of {metal}-{SHARED}, prototypes relaxed with CHGNet")


def upload(which: str) -> None:
    """One's own cells, from files or a zip."""
    files = st.file_uploader(
        f"Cells of class {which.upper()}",
        FILE_TYPES,
        accept_multiple_files=True,
        key=f"files_{which}",
        on_change=state.set_metal,
        args=(which, None),
        label_visibility="collapsed",
        help=(
            "POSCAR (named *.vasp), CIF, extended XYZ, the authors' .mat, or a zip of those; at"
            " most 50 MB."
        ),
    )
    metal = None
    if any(file.name.lower().endswith(".mat") for file in files):
        metal = st.text_input(
            "Metal of the .mat file",
            max_chars=2,
            key=f"mat_{which}",
            on_change=state.set_metal,
            args=(which, None),
            help="These files name no elements.",
        )
    # also of an earlier visit to this page, whose files the uploader shows no more
    own = state.own_cells(which)
    if not own and files:
        path = work.keep_upload(files, cached.runs_folder())
        report = work.doctor(str(path), metal or None, SHARED)
        if not (report["cells"] and report["metal"]):
            st.error("None of these files holds a cell that can be used.")
            show_report(report)
            return
        about = (
            f"{report['cells']} cells of {report['metal']}-{SHARED}; {len(report['left_out'])}"
            " left out"
        )
        own = {"path": str(path), "about": about}
        state.set_metal(which, report["metal"], own)
        st.rerun()
    if own:
        st.caption(own["about"])


def database(which: str) -> None:
    """Cells from a database."""
    metals = sorted(element["symbol"] for element in cached.element_table())
    metal = choose_metal(
        which,
        metals,
        f"The database is asked for all cells that hold exactly this metal and {SHARED}.",
    )
    source, key = databases.choose(which)
    own = state.own_cells(which)
    here = own is not None and own.get("source") == source
    if st.button(
        "Ask again" if here else "Fetch",
        key=f"fetch_{which}",
        disabled=not metal,
        icon=":material/cloud_download:",
    ):
        state.set_own(which, None)
        own = None
        if fetched(which, str(metal), source, key, refresh=here):
            st.rerun()
    if own:
        st.caption(own["about"])
        show_left_out(own["left_out"])
    elif metal:
        st.caption(f"Press Fetch for the cells of {metal}-{SHARED}.")


def fetched(which: str, metal: str, source: str, key: str, refresh: bool) -> bool:
    """Ask a database and make what came this class; whether anything that can be used came."""
    answer = databases.fetch([metal, SHARED], source, key, refresh)
    if not answer["structures"]:
        st.warning(databases.nothing(answer))
        show_left_out(answer["left_out"])
        return False
    path = work.keep([(f"{metal}-{SHARED}.extxyz", answer["data"])], cached.runs_folder())
    own = {
        "path": str(path),
        "about": databases.in_words(answer),
        "left_out": answer["left_out"],
        "source": source,
    }
    own["about"] += f". Licence: {answer['licence']}"
    state.set_own(which, own)
    return True


def show_left_out(left_out: list[dict[str, str]]) -> None:
    """What a database gave and cannot be used, and why."""
    if left_out:
        with st.expander(f"{len(left_out)} left out"):
            rows = [{"where": short(x["where"]), "reason": x["reason"]} for x in left_out]
            st.dataframe(pd.DataFrame(rows), hide_index=True)
