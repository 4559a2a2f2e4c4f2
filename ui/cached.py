"""Cached calls of the core. What is read from a run folder is cached by the time its file was changed, so it is never stale."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import streamlit as st

from crystalgan.runs import Run

if TYPE_CHECKING:
    import pandas as pd
    from pymatgen.core import Structure


def runs_folder() -> Path:
    """Where run folders lie: the environment variable CRYSTALGAN_RUNS, or `runs` beside the app."""
    return Path(os.environ.get("CRYSTALGAN_RUNS") or "runs")


@st.cache_data(show_spinner="Reading the built-in classes ...")
def class_sizes() -> dict[str, int]:
    """Metal -> number of cells of its built-in class."""
    from crystalgan.classes import builtin_classes, load_class

    return {metal: len(load_class(metal)) for metal in builtin_classes()}


@st.cache_data
def element_name(symbol: str) -> str:
    """The element's English name."""
    from pymatgen.core import Element

    return str(Element(symbol).long_name)


def stamp(run: Run) -> float:
    """When the run's database was changed last, seconds; 0 while there is none."""
    path = run.folder / "candidates.db"
    return path.stat().st_mtime if path.exists() else 0.0


@st.cache_data(show_spinner="Reading the candidates ...", max_entries=20)
def table(folder: str, changed: float) -> pd.DataFrame:  # noqa: ARG001 - part of the cache's key
    """The candidates of a run folder, one row each (`candidates_table`)."""
    from crystalgan.database import candidates_table

    return candidates_table(folder)


@st.cache_data(show_spinner=False, max_entries=200)
def candidate(folder: str, changed: float, number: int) -> tuple[Structure, dict[str, str]]:  # noqa: ARG001 - as above
    """Structure of a candidate, and what each rule says of it in words."""
    from crystalgan.archive import select
    from crystalgan.database import structure_of

    row = select(Run.open(folder), str(number))[0]
    verdicts: dict[str, dict[str, Any]] = row.data["verdicts"]
    return structure_of(row), {rule: verdict["text"] for rule, verdict in verdicts.items()}


def archive(folder: str, select_by: str, file_format: str) -> bytes:
    """The zip that `export` writes, as bytes."""
    from crystalgan.archive import export

    with TemporaryDirectory() as temporary:
        path = Path(temporary) / "candidates.zip"
        export(folder, path, select_by, file_format=file_format)
        return path.read_bytes()
