"""Vetting: keep, reject or leave undecided, with a note, by button and by key; a decision is in the database at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import streamlit as st

from crystalgan import InputError
from crystalgan.database import decide
from ui import state

if TYPE_CHECKING:
    import pandas as pd

    from crystalgan.runs import Run

KEYS = {"kept": ("Keep", "K", None), "rejected": ("Reject", "X", None), "undecided": ("Undecided", "U", None)}


def show_candidate(number: int) -> None:
    """Make this candidate the one that is shown, here and in the address."""
    st.session_state["candidate"] = number
    state.in_address(candidate=number)


def bar(run: Run, shown: pd.DataFrame, table: pd.DataFrame, row: pd.Series) -> None:
    """The buttons and keys, the note and how far the vetting is; `shown` are the rows that next and previous go through."""
    number = int(row["id"])
    ids = [int(i) for i in shown["id"]]
    here = ids.index(number)
    with st.container(horizontal=True, vertical_alignment="center", gap="xsmall"):
        _step("Prev", "P", ids[here - 1] if here else None)
        _step("Next", "N", ids[here + 1] if here + 1 < len(ids) else None)
        following = ids[here + 1] if here + 1 < len(ids) else number
        for decision, (label, key, icon) in KEYS.items():
            st.button(
                label,
                icon=icon,
                key=f"decide_{decision}",
                type="primary" if row["decision"] == decision else "secondary",
                on_click=_decide,
                args=(run, number, decision, following if decision != "undecided" else number),
                shortcut=key,
                help=f"Key {key}; shows the next one." if decision != "undecided" else f"Key {key}: undecided again.",
            )
        st.button(
            "Undo",
            key="undo",
            on_click=_undo,
            args=(run,),
            disabled=not any(folder == str(run.folder) for folder, *_ in st.session_state.get("undo_stack", [])),
            shortcut="Z",
            help="Key Z: takes your last decision back.",
        )
    counts = table["decision"].value_counts()
    kept, rejected = int(counts.get("kept", 0)), int(counts.get("rejected", 0))
    st.progress((kept + rejected) / len(table), f"{kept + rejected} of {len(table)} decided: {kept} kept, {rejected} rejected")


def note(run: Run, row: pd.Series, place: Any) -> None:  # noqa: ANN401 - a container
    """The field for a note on a candidate; it is kept when the field is left."""
    number = int(row["id"])
    key = f"note_{run.folder.name}_{number}"
    if st.session_state.get(f"{key}_was") != row["note"]:  # also when another session wrote it
        st.session_state[key] = st.session_state[f"{key}_was"] = row["note"]
    place.text_input(
        "Note",
        key=key,
        max_chars=500,
        on_change=_note,
        args=(run, number, key),
        placeholder="Note on this candidate",
        label_visibility="collapsed",
    )


def _step(label: str, key: str, target: int | None) -> None:
    st.button(
        label,
        key=label.lower(),
        disabled=target is None,
        on_click=show_candidate,
        args=(target,),
        shortcut=key,
        help=f"Key {key}.",
    )


def _decide(run: Run, number: int, decision: str, following: int) -> None:
    try:
        before = decide(run, [number], decision)[0]
    except (InputError, KeyError, TimeoutError) as error:
        st.toast(f"Not written: {error}", icon=":material/error:")
        return
    st.session_state.setdefault("undo_stack", []).append((str(run.folder), *before, decision))
    show_candidate(following)


def _note(run: Run, number: int, key: str) -> None:
    from crystalgan.database import get_row

    decide(run, [number], str(get_row(run, number).decision), st.session_state[key])
    st.session_state[f"{key}_was"] = st.session_state[key]


def _undo(run: Run) -> None:
    """Take back this session's last decision on the run, unless somebody else has decided otherwise since."""
    from crystalgan.database import get_row

    stack = st.session_state.get("undo_stack", [])
    mine = next((entry for entry in reversed(stack) if entry[0] == str(run.folder)), None)
    if mine is None:
        return
    stack.remove(mine)
    _, number, decision, _, written = mine
    if get_row(run, number).decision != written:
        st.toast(f"Candidate {number} was decided again by someone else; it is left as it is.")
    else:
        decide(run, [number], decision)
    show_candidate(number)
