"""Work that outlives a page: a run's training and the making of its candidates, each in a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import streamlit as st

from crystalgan import InputError
from crystalgan.runs import Run, list_runs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOG = "generate.log"


@contextmanager
def saying_errors() -> Iterator[None]:
    """Show what the user can mend as one sentence; for a `with` or before a function."""
    try:
        yield
    except InputError as error:
        st.error(str(error))


def open_runs(root: Path) -> tuple[list[Run], list[str]]:
    """The runs that can be opened, the newest first, and one sentence for each that cannot."""
    good, problems = [], []
    for found in list_runs(root) if root.is_dir() else []:
        try:
            run = Run.open(found.folder)
            _ = run.species, run.status()
        except InputError as error:
            problems.append(str(error))
        else:
            good.append(run)
    return good, problems


def is_training(state: dict[str, Any]) -> bool:
    """Whether a status says that a process trains the run, or is about to."""
    return state.get("state") in {"starting", "running"}


def share_done(state: dict[str, Any]) -> float:
    """How much of all epochs of both steps is done, 0 to 1."""
    if state.get("state") == "finished":
        return 1.0
    epochs = state.get("epochs") or [0]
    step = int(state.get("step") or 1)
    return min(1.0, (sum(epochs[: step - 1]) + int(state.get("epoch") or 0)) / max(1, sum(epochs)))


@st.cache_resource
def _processes() -> dict[str, subprocess.Popen[bytes]]:
    """The processes that make candidates, by run folder: one for all pages and visitors."""
    return {}


def start_generate(run: Run, number: int) -> None:
    """Make candidates until the run holds this many, unless a process is at it already."""
    if is_generating(run):
        return
    with (run.folder / LOG).open("wb") as log:
        _processes()[str(run.folder)] = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", "crystalgan", "generate", str(run.folder), "-n", str(number), "--json"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,
        )


def is_generating(run: Run) -> bool:
    """Whether a process that this app started is making candidates of the run now."""
    process = _processes().get(str(run.folder))
    return process is not None and process.poll() is None


def generated(run: Run) -> tuple[int, int] | None:
    """Candidates done and asked for, from the process's progress bar; None before the first."""
    found = re.findall(r"(\d+)/(\d+) \[", _log(run))
    return (int(found[-1][0]), int(found[-1][1])) if found else None


def problem(run: Run) -> str | None:
    """The sentence that the last making of candidates ended with, if it failed."""
    process = _processes().get(str(run.folder))
    if process is None or not process.poll():
        return None
    said = [line for line in _log(run).splitlines() if line.strip()]
    return said[-1].removeprefix("crystalgan: ") if said else f"Making candidates ended with exit code {process.returncode}."


def _log(run: Run) -> str:
    path = run.folder / LOG
    return path.read_text(errors="replace").replace("\r", "\n") if path.exists() else ""
