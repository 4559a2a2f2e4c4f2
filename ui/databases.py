"""Cells from databases, asked for in a process of its own.

A visitor chooses among known names: no other host is ever asked.
"""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import streamlit as st

from crystalgan.errors import InputError
from ui import work

if TYPE_CHECKING:
    from collections.abc import Sequence

# environment variable: the address of one more OPTIMADE provider, such as a group's own
EXTRA = "CRYSTALGAN_OPTIMADE"
KEYED = "mp-api"
TITLES = {
    "mp": "Materials Project",
    KEYED: "Materials Project, with your key",
    "oqmd": "OQMD",
    "alexandria": "Alexandria",
    "cod": "Crystallography Open Database",
    "odbx": "odbx",
    "jarvis": "JARVIS-DFT",
    "nmd": "NOMAD",
}


@st.cache_data(show_spinner=False)
def names(extra: str) -> list[str]:
    """Short names of the databases to choose from, the well-known first.

    The server's own, `extra`, stands before them.
    """
    from crystalgan.data.providers import short_names

    return [
        *([extra] if extra else []),
        *TITLES,
        *(name for name in short_names() if name not in TITLES),
    ]


def choose(key: str) -> tuple[str, str]:
    """The fields that name a database; returns it with the key that was typed, if it takes one."""
    source = st.selectbox(
        "Database",
        names(os.environ.get(EXTRA, "")),
        format_func=lambda name: TITLES.get(name, name),
        key=f"database_{key}",
        label_visibility="collapsed",
        help="All but one speak OPTIMADE, the databases' common language, and need no key.",
    )
    typed = ""
    if source == KEYED:
        typed = st.text_input(
            "Key of the Materials Project",
            type="password",
            key=f"key_{key}",
            autocomplete="off",
            placeholder=(
                "the server's own"
                if os.environ.get("MP_API_KEY")
                else "from materialsproject.org/api"
            ),
            help="Used for this question only: it is not kept.",
        )
    return source, typed.strip()


def fetch(elements: Sequence[str], source: str, key: str, refresh: bool) -> dict[str, Any]:
    """The answer of `crystalgan fetch --json`, with the elements and the cells as `data`.

    It shows its progress.
    """
    title = TITLES.get(source, source)
    bar = st.progress(0.0, f"Asking {title} ...")

    def show(done: int, total: int | None) -> None:
        bar.progress(
            min(1.0, done / total) if total else 0.0,
            f"{done}{f' of {total}' if total else ''} structures from {title}",
        )

    with TemporaryDirectory() as temporary:
        out = Path(temporary) / "cells.extxyz"
        arguments = [
            "fetch",
            *elements,
            "--from",
            source,
            "--out",
            str(out),
            "--json",
            *(["--refresh"] if refresh else []),
        ]
        try:
            answer = work.carried_out(arguments, show, {"MP_API_KEY": key} if key else {})
        except InputError as error:
            raise InputError(str(error).replace(key, "(key)") if key else str(error)) from None
        finally:
            bar.empty()
        return answer | {"data": out.read_bytes(), "system": "-".join(elements)}


def in_words(answer: dict[str, Any]) -> str:
    """Where cells come from, in a sentence."""
    when = (
        f"kept since {answer['retrieved'][:10]}"
        if answer["cached"]
        else f"asked {answer['retrieved'][:10]}"
    )
    cells, left_out = f"{answer['structures']} cells of {answer['system']}", len(answer["left_out"])
    return f"{cells} from {answer['provider']}, {when}; {left_out} left out"


def nothing(answer: dict[str, Any]) -> str:
    """What to say of an answer that holds no cell that can be used."""
    elements = " and ".join(answer["system"].split("-"))
    if answer["left_out"]:
        return (
            f"{answer['provider']} has {len(answer['left_out'])} structures of {elements}, and none"
            " that can be used."
        )
    return (
        f"{answer['provider']} has no structure that holds exactly {elements}; try another"
        " database."
    )
