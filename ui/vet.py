"""Vetting: keep, reject or leave undecided, with a note, by button and by key; a decision is in the
database at once.

Each act (a key or a click) carries the run and the candidate that it was meant for and what the
visitor saw of it, from the browser (`frontend/keys`) to the database; it is done once, in its
order, whatever the page shows by then.
"""

from __future__ import annotations

import uuid
from typing import Any

import pandas as pd
import streamlit as st

from crystalgan.errors import InputError
from crystalgan.runs.database import (
    DECISIONS,
    ChangedMeanwhileError,
    Entry,
    decide,
    history,
    identity,
    take_back,
    write_note,
)
from crystalgan.runs.folder import Run
from ui import cached, components, state, work

KEYS = {"kept": ("Keep", "K"), "rejected": ("Reject", "X"), "undecided": ("Undecided", "U")}
MOST_UNDONE = 200  # decisions that Undo reaches back
MOST_NOTE = 2000  # characters
NOBODY: dict[str, Any] = {
    "run": None,
    "identity": "",
    "order": [],
    "decisions": "",
    "current": None,
    "undo": [],
    "note": None,
}


def show_candidate(number: int) -> None:
    """Make this candidate the one that is shown, here and in the address."""
    st.session_state["candidate"] = number
    state.in_address(candidate=number)


def bar(run: Run, shown: pd.DataFrame, table: pd.DataFrame, row: pd.Series) -> None:
    """The buttons and keys, the note and how far the vetting is; `shown` are the rows that next and
    previous go through."""
    number, ids = int(row["id"]), [int(i) for i in shown["id"]]
    here, decisions = ids.index(number), "".join(decision[0] for decision in shown["decision"])
    undone = [
        (by, i, before) for folder, by, i, before in _undo_stack() if folder == str(run.folder)
    ][-MOST_UNDONE:]
    at = {
        "run": run.folder.name,
        "identity": identity(run),
        "order": ids,
        "decisions": decisions,
        "current": number,
    }
    st.session_state["vetting"] = NOBODY | at | {"undo": undone}
    base = {"run": run.folder.name, "identity": at["identity"], "id": number}
    previous, following = ids[max(0, here - 1)], ids[min(here + 1, len(ids) - 1)]
    with st.container(horizontal=True, vertical_alignment="center", gap="xsmall"):
        _button("Prev", "P", "prev", base | {"what": "prev", "to": previous}, off=not here)
        _button(
            "Next", "N", "next", base | {"what": "next", "to": following}, off=here + 1 == len(ids)
        )
        for decision, (label, key) in KEYS.items():
            to, what = (
                (number, "undecided again.")
                if decision == "undecided"
                else (following, "shows the next one.")
            )
            event = base | {"what": decision, "to": to, "seen": str(row["decision"])}
            _button(
                label,
                key,
                f"decide_{decision}",
                event,
                more=what,
                chosen=row["decision"] == decision,
            )
        last = undone[-1] if undone else ("", number, "")
        event = base | {"what": "undo", "id": last[1], "to": last[1], "undoes": last[0]}
        _button("Undo", "Z", "undo", event, more="takes your last decision back.", off=not undone)
    counts = table["decision"].value_counts()
    kept, rejected = int(counts.get("kept", 0)), int(counts.get("rejected", 0))
    st.progress(
        (kept + rejected) / len(table),
        f"{kept + rejected} of {len(table)} decided: {kept} kept, {rejected} rejected",
    )
    _show_refused(run, ids)


def _button(
    label: str,
    key: str,
    name: str,
    event: dict[str, Any],
    more: str = "",
    chosen: bool = False,
    off: bool = False,
) -> None:
    """A button of the bar. The browser takes its clicks itself (`frontend/keys`); `on_click` is for
    one that cannot yet."""
    st.button(
        f"{label} :small[:gray[{key}]]" if not chosen else f"{label} :small[{key}]",
        key=name,
        type="primary" if chosen else "secondary",
        disabled=off,
        on_click=_clicked,
        args=(event,),
        help=f"Key {key}; {more}" if more else f"Key {key}.",
    )


def listen() -> None:
    """Let the browser bind keys and clicks to the candidates of this page, or to nothing where a
    page shows none."""
    at = st.session_state.pop("vetting", NOBODY)
    components.keys(at, st.session_state.setdefault("acts_done", {}), _take, key="acts")


def _take() -> None:
    """Do what has come from the browser and is not done yet, in its order."""
    value = st.session_state.get("acts") or {}
    nonce, events = str(value.get("nonce", "")), value.get("events", [])
    done = st.session_state.setdefault("acts_done", {})
    _mine().add(f"{nonce}-")
    for event in sorted(events, key=lambda event: int(event["seq"])):
        if event["seq"] > done.get(nonce, 0):
            _act(event, f"{nonce}-{event['seq']}")
            done[nonce] = event["seq"]
            # what the browser says of the table now is older than these
            st.session_state["acts_taken"] = True
    # there was a click after these
    if (mark := value.get("mark")) and mark != done.get(f"{nonce} mark"):
        done[f"{nonce} mark"] = mark
        if value.get("in_table"):
            st.session_state["acts_taken"] = False


def _clicked(event: dict[str, Any]) -> None:
    _act(event, _new_act())


def _mine() -> set[str]:
    """How the names of this session's acts begin."""
    found: set[str] = st.session_state.setdefault("acts_mine", set())
    return found


def _new_act() -> str:
    """A name for an act of this session that does not come from the browser's queue."""
    me = st.session_state.setdefault("me", f"s{uuid.uuid4().hex[:12]}-")
    _mine().add(me)
    st.session_state["acts_made"] = st.session_state.get("acts_made", 0) + 1
    return f"{me}{st.session_state['acts_made']}"


def _undo_stack() -> list[tuple[str, str, int, str]]:
    """Run folder, name of the act, candidate and former decision of what this session decided, the
    last one at the end."""
    found: list[tuple[str, str, int, str]] = st.session_state.setdefault("undo_stack", [])
    return found


def _act(event: dict[str, Any], by: str) -> None:
    """Do one act where it was meant; what cannot be written is said on the page."""
    number, name = int(event["id"]), str(event["run"])
    if "note" in event:
        run = Run(cached.runs_folder() / name)
        _write_note(
            run,
            str(event["identity"]),
            int(event["note_of"]),
            str(event["note"]),
            str(event["note_seen"]),
        )
    try:
        if event["what"] not in ("next", "prev"):
            _write(_meant(name, str(event["identity"])), number, event, by)
    except ChangedMeanwhileError as error:
        _refuse(name, number, _conflict(error, event))
    except (InputError, TimeoutError, KeyError) as error:
        _refuse(name, number, f"Candidate {number}: not written. {work.in_app(error)}")
    if name == st.session_state.get("run"):
        show_candidate(int(event["to"]))


def _meant(name: str, known_as: str) -> Run:
    """The run that an act was meant for, if it is there still and no other one has taken its
    place."""
    folder = cached.runs_folder() / name
    if folder.name != name or not (folder / "config.json").exists():
        raise InputError(f"The run {name} is no longer there.")
    run = Run.open(folder)
    if identity(run) != known_as:
        raise InputError(
            f"The candidates of {name} are others than those that were shown. Look at them again."
        )
    return run


def _write(run: Run, number: int, event: dict[str, Any], by: str) -> None:
    stack = _undo_stack()
    if event["what"] in DECISIONS:
        before = decide(run, [number], event["what"], seen=[str(event["seen"])], by=by)[0][1]
        if before != event["what"]:
            stack.append((str(run.folder), by, number, before))
        _forget(run.folder.name, number)
        return
    mine = next((entry for entry in stack if entry[:2] == (str(run.folder), event["undoes"])), None)
    if mine is None:
        raise InputError("That decision was not written, so there is nothing to take back.")
    stack.remove(mine)
    take_back(run, number, mine[3], written=mine[1], mine=sorted(_mine()), by=by)


def _conflict(error: ChangedMeanwhileError, event: dict[str, Any]) -> str:
    """What somebody else has done to a candidate meanwhile, and what to do about it."""
    now, whose = error.entry.decision, _who(error.entry)
    was = (
        f"Candidate {error.number} was"
        f" {'kept' if now == 'kept' else 'rejected' if now == 'rejected' else 'made undecided'}"
    )
    if event["what"] == "undo":
        return f"{was} {whose} after you had decided on it; it is left as it is."
    label, key = KEYS[event["what"]]
    return (
        f"{was} {whose}: your {label} is not written. Look at it; {key} pressed there writes it all"
        " the same."
    )


def _who(entry: Entry) -> str:
    """Who made an entry of a history, and when: "by another session at 14:03"."""
    mine = entry.by and entry.by.startswith(tuple(_mine()))
    return " ".join(filter(None, ["by you" if mine else "by another session", when(entry.time)]))


def when(time: str) -> str:
    """The time of a history's entry in words; the day only where it is another one."""
    if not time:
        return ""
    at = pd.Timestamp(time)
    today = pd.Timestamp.now(at.tz).date() == at.date()
    return f"at {at:%H:%M}" if today else f"on {at.day} {at:%b %Y} at {at:%H:%M}"


def _refused() -> dict[tuple[str, int], str]:
    found: dict[tuple[str, int], str] = st.session_state.setdefault("acts_refused", {})
    return found


def _refuse(name: str, number: int, words: str) -> None:
    _refused().pop((name, number), None)
    _refused()[name, number] = words


def _forget(name: str, number: int) -> None:
    _refused().pop((name, number), None)


def _show_refused(run: Run, ids: list[int]) -> None:
    """What could not be written, until it is decided again or was read."""
    refused = list(_refused().items())[-3:]
    if not refused:
        return
    lines = [
        words if name == run.folder.name else f"{name}: {words}" for (name, _), words in refused
    ]
    st.warning("  \n".join(f":small[{line}]" for line in lines), icon=":material/group:")
    with st.container(horizontal=True, gap="xsmall"):
        for (name, number), _ in refused:
            if name == run.folder.name and number in ids:
                st.button(
                    f"Show {number}",
                    key=f"refused_show_{number}",
                    on_click=show_candidate,
                    args=(number,),
                )
        st.button(
            "OK",
            key="refused_ok",
            on_click=_refused().clear,
            help="Takes these lines away; nothing else changes.",
        )


def note(run: Run, row: pd.Series, place: Any) -> None:
    """The field for a note on a candidate, which is kept when the field is left, and the
    candidate's history."""
    number, saved = int(row["id"]), str(row["note"])
    draft = _drafts().get((str(run.folder), number))
    key, wanted = f"note_{run.folder.name}_{number}", saved if draft is None else draft[0]
    st.session_state.get("vetting", {})["note"] = {"text": wanted, "written": saved}
    # another session's note, or the field was not on the page for a while
    if st.session_state.get(key) != wanted:
        st.session_state[key] = wanted
    place.text_input(
        "Note",
        key=key,
        on_change=_note,
        args=(run, identity(run), number, key, saved),
        placeholder="Note on this candidate",
        label_visibility="collapsed",
        help=f"Kept when you press Enter or leave the field; at most {MOST_NOTE:,} characters.",
    )
    show_history(run, number, place)


def note_problem(run: Run, number: int) -> None:
    """Why what was typed as a note is not written, with what can be done."""
    draft = _drafts().get((str(run.folder), number))
    if draft is None:
        return
    words, problem, theirs = draft
    st.warning(problem, icon=":material/edit_note:")
    with st.container(horizontal=True):
        if theirs is not None:
            known_as = identity(run)
            args = (run, known_as, number, words, theirs)
            st.button("Replace it with mine", key="note_mine", on_click=_write_note, args=args)
        st.button("Drop mine", key="note_theirs", on_click=_drop_draft, args=(run, number))


def _drop_draft(run: Run, number: int) -> None:
    _drafts().pop((str(run.folder), number), None)


def _drafts() -> dict[tuple[str, int], tuple[str, str, str | None]]:
    """Run folder and candidate -> a note that is not written, why, and the note that is there
    instead (None: it is too long)."""
    found: dict[tuple[str, int], tuple[str, str, str | None]] = st.session_state.setdefault(
        "drafts", {}
    )
    return found


def _note(run: Run, known_as: str, number: int, key: str, seen: str) -> None:
    _write_note(run, known_as, number, str(st.session_state[key]), seen)


def _write_note(run: Run, known_as: str, number: int, words: str, seen: str) -> None:
    place = (str(run.folder), number)
    _drafts().pop(place, None)
    if len(words) > MOST_NOTE:
        problem = (
            f"This note has {len(words):,} characters, and {MOST_NOTE:,} are kept at most. It is"
            " not written: shorten it."
        )
        _drafts()[place] = (words, problem, None)
        return
    try:
        write_note(_meant(run.folder.name, known_as), number, words, seen=seen, by=_new_act())
    except ChangedMeanwhileError as error:
        theirs = error.entry.note
        problem = (
            f"Another note was written here {_who(error.entry)}: “{theirs}”. Yours is not written"
            " yet."
        )
        _drafts()[place] = (words, problem, theirs)
    except (InputError, TimeoutError) as error:
        _drafts()[place] = (words, f"The note is not written. {work.in_app(error)}", None)


def show_history(run: Run, number: int, place: Any) -> None:
    """Everything that was decided and noted on a candidate, the newest first."""
    entries = history(run, number)
    if not entries:
        return
    with place.popover("History", icon=":material/history:"):
        rows = [
            {
                "when": f"{pd.Timestamp(entry.time):%d %b %Y %H:%M:%S}",
                "decision": entry.decision,
                "note": entry.note,
                "by": "you" if entry.by.startswith(tuple(_mine()) or ("?",)) else "another session",
            }
            for entry in reversed(entries)
        ]
        st.dataframe(
            pd.DataFrame(rows)[["when", "decision", "by", "note"]],
            hide_index=True,
            placeholder="",
            width=560,
        )
