"""Known structures that a run's candidates are compared with.

They are the built-in classes and known ternaries, one's own files and the answers of databases.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from crystalgan.data.known_ternaries import ternaries_of
from crystalgan.errors import InputError
from crystalgan.runs.database import compared_with, identity
from crystalgan.runs.folder import Run
from crystalgan.runs.run_zip import known_folder
from ui import cached, databases, work
from ui.classes import FILE_TYPES

if TYPE_CHECKING:
    from crystalgan.data.known import Compared


def compare(run: Run, table: pd.DataFrame, place: Any) -> None:
    """The popover that compares candidates with what is known."""
    shared, a, b = run.species
    with place.popover(
        "Known",
        icon=":material/menu_book:",
        help="Which candidates match a structure that is known already?",
    ):
        if "new" in table:
            st.markdown(
                f"**{int(table['new'].eq(True).sum())} of {len(table)} match nothing that they were"
                " compared with.**"
            )
        st.caption(
            f"Compared with the built-in cells of {a}-{shared} and {b}-{shared}" + added(run)
        )
        show_compared(run)
        if missing := not_compared_yet(run):
            st.button(
                f"Compare with {_built_in(missing)} too",
                key="compare_builtin",
                on_click=work.start_comparing,
                args=(run,),
                width="stretch",
            )
        files = st.file_uploader(
            "Your own known structures",
            [kind for kind in FILE_TYPES if kind != "mat"],
            accept_multiple_files=True,
            key="known_files",
            help="POSCAR, CIF, extended XYZ or a zip; kept with the run, on this server.",
        )
        if st.button(
            "Compare with these files", key="compare", disabled=not files, width="stretch"
        ):
            with work.saying_errors():
                start(run, [(file.name, file.getvalue()) for file in files])
        st.markdown(f"Or what a database has of {a}-{b}-{shared}")
        source, key = databases.choose("known")
        if st.button(
            "Fetch and compare",
            key="fetch_known",
            icon=":material/cloud_download:",
            width="stretch",
        ):
            with work.saying_errors():
                fetch(run, source, key)
        if known_folder(run).exists():
            st.button(
                "Compare with the built-in cells only",
                key="forget",
                on_click=forget,
                args=(run,),
                width="stretch",
            )


def _noted(run: Run) -> Compared | None:
    return _compared_with(str(run.folder), identity(run), cached.stamp(run))


@st.cache_data(show_spinner=False, max_entries=50)
def _compared_with(
    folder: str,
    known_as: str,  # noqa: ARG001 - part of the cache's key
    changed: float,  # noqa: ARG001
) -> Compared | None:
    return compared_with(Run.open(folder))


def ternaries(run: Run) -> int | None:
    """How many known ternaries the run's candidates were compared with.

    None where that was not noted and there may be some.
    """
    noted = _noted(run)
    if noted is not None:
        return noted.ternary
    return None if any(known_folder(run).glob("*")) else 0


def built_in(run: Run) -> int:
    """How many known ternaries of its system are built in, and not left out by its settings."""
    return len(ternaries_of(frozenset(run.species))) if run.config.known_ternaries else 0


def not_compared_yet(run: Run) -> int:
    """How many built-in known ternaries came after the run's candidates were compared."""
    noted = _noted(run)
    return built_in(run) - (noted.builtin_ternary if noted else 0)


def _built_in(count: int) -> str:
    return f"{count} built-in known ternar{'y' if count == 1 else 'ies'}"


def novelty(run: Run) -> str:
    """What it means that a candidate matches nothing: what it was compared with."""
    known, system = ternaries(run), "-".join([*run.species[1:], run.species[0]])
    if known == 0:
        there = built_in(run)
        which = _built_in(there) if there else "known ternaries"
        none = "" if there else ", and none is built in"
        return f"Not compared with {which} of {system} yet{none}; it matches none of the binaries"
    if known is None:
        return "New: matches no structure that it was compared with, your own known ones among them"
    several = f"none of {known} known ternaries" if known > 1 else "not the one known ternary"
    noted = _noted(run)
    parts = f" ({noted.builtin_ternary} built in, {noted.own_ternary} of yours)" if noted else ""
    return f"New: matches {several} of {system} that it was compared with{parts}"


def of_type(row: pd.Series) -> str:
    """The known ternary of other elements that has a candidate's structure type, in words."""
    name = str(row.get("type") or "").replace("`", "")
    return f"; the type of `{name}`" if name and name != "nan" else ""


def show_compared(run: Run) -> None:
    """How many known structures were compared, and which were not and why."""
    noted = _noted(run)
    if ternaries(run) == 0:
        st.caption(
            ":material/warning: No known ternary is among them"
            + ("" if built_in(run) else ", and none of this system is built in")
            + ": bring some, or ask a database, before you call a cell new."
        )
    if noted is None:
        return
    st.caption(
        f"{noted.structures} known structures were compared, {noted.ternary} of them ternaries"
        f" ({noted.builtin_ternary} built in, {noted.own_ternary} of yours)."
    )
    if missing := noted.not_compared:
        with st.expander(f"{len(missing)} could not be compared"):
            rows = [
                {"where": work.in_app(where), "why": work.in_app(why)} for where, why in missing
            ]
            st.dataframe(pd.DataFrame(rows), hide_index=True)


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
    start(
        run, [(f"{a}-{b}-{shared} {answer['provider']}.extxyz".replace("/", " "), answer["data"])]
    )


def start(run: Run, files: list[tuple[str, bytes]]) -> None:
    """Keep known structures with the run, if any can be read, and compare its candidates."""
    from crystalgan.data.readers import read_entries

    good, bad = [], []
    with TemporaryDirectory() as temporary:
        for name, data in files:
            path = work.keep_file(name, data, Path(temporary))
            try:
                entries, left_out = read_entries(path)
            except InputError as error:
                bad.append(work.in_app(error))
                continue
            bad += [work.in_app(one) for one in left_out if not one.harmless]
            good += [(name, data)] if entries else []
    if not good:
        raise InputError(
            "None of these files holds a structure that can be read"
            f" ({bad[0] if bad else 'nothing is in them'})."
        )
    if bad:
        st.toast(f"{len(bad)} could not be read: {bad[0]}", icon=":material/warning:")
    work.write_files(good, known_folder(run))
    work.start_comparing(run)
    st.rerun()


def forget(run: Run) -> None:
    """Compare with the built-in cells alone again."""
    shutil.rmtree(known_folder(run), ignore_errors=True)
    work.start_comparing(run)
