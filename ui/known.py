"""Known structures that candidates are compared with: the built-in classes, one's own files, a database's answer."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import streamlit as st

from crystalgan import InputError
from crystalgan.exchange import known_folder
from ui import databases, work
from ui.classes import FILE_TYPES

if TYPE_CHECKING:
    import pandas as pd

    from crystalgan.runs import Run


def compare(run: Run, table: pd.DataFrame, place: Any) -> None:  # noqa: ANN401 - a container
    """The popover that compares candidates with what is known."""
    shared, a, b = run.species
    with place.popover("Known", icon=":material/menu_book:", help="Which candidates match a structure that is known already?"):
        if "new" in table:
            st.markdown(f"**{int(table['new'].eq(True).sum())} of {len(table)} match no known structure.**")
        st.caption(f"Compared with the built-in cells of {a}-{shared} and {b}-{shared}" + added(run))
        files = st.file_uploader(
            "Your own known structures",
            [kind for kind in FILE_TYPES if kind != "mat"],
            accept_multiple_files=True,
            key="known_files",
            help="POSCAR, CIF, extended XYZ or a zip; kept with the run, on this server.",
        )
        if st.button("Compare with these files", key="compare", disabled=not files, width="stretch"):
            with work.saying_errors():
                start(run, [(file.name, file.getvalue()) for file in files])
        st.markdown(f"Or what a database has of {a}-{b}-{shared}")
        source, key = databases.choose("known")
        if st.button("Fetch and compare", key="fetch_known", icon=":material/cloud_download:", width="stretch"):
            with work.saying_errors():
                fetch(run, source, key)
        if known_folder(run).exists():
            st.button("Compare with the built-in cells only", key="forget", on_click=forget, args=(run,), width="stretch")


def added(run: Run) -> str:
    """The names of the known structures that a run was given."""
    names = [path.name.replace("`", "") for path in sorted(known_folder(run).glob("*"))]
    return ", and with " + ", ".join(f"`{name}`" for name in names) + "." if names else "."


def fetch(run: Run, source: str, key: str) -> None:
    """Ask a database for the ternary system and compare with what came."""
    shared, a, b = run.species
    answer = databases.fetch([a, b, shared], source, key, refresh=True)
    if not answer["structures"]:
        st.warning(databases.nothing(answer))
        return
    start(run, [(f"{a}-{b}-{shared} {answer['provider']}.extxyz".replace("/", " "), answer["data"])])


def start(run: Run, files: list[tuple[str, bytes]]) -> None:
    """Keep known structures with the run, if any can be read, and compare its candidates with them."""
    from crystalgan.readers import read_entries

    with TemporaryDirectory() as temporary:
        work.write_files(files, Path(temporary))
        entries, left_out = read_entries(Path(temporary))
    if not entries:
        raise InputError(f"None of these files holds a structure that can be read ({left_out[0].reason}).")
    if left_out:
        st.toast(f"{len(left_out)} could not be read: {left_out[0].reason}", icon=":material/warning:")
    work.write_files(files, known_folder(run))
    work.start_comparing(run)
    st.rerun()


def forget(run: Run) -> None:
    """Compare with the built-in cells alone again."""
    shutil.rmtree(known_folder(run), ignore_errors=True)
    work.start_comparing(run)
