"""Cached calls of the core. What is read from a run folder is cached by the state of its file, so
it is never stale."""

from __future__ import annotations

import importlib.util
import os
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from crystalgan.errors import InputError
from crystalgan.potentials.registry import TITLES
from crystalgan.runs.folder import Run

if TYPE_CHECKING:
    import numpy as np
    import plotly.graph_objects as go
    from ase.db.row import AtomsRow
    from pymatgen.analysis.phase_diagram import PhaseDiagram
    from pymatgen.core import Structure

    from crystalgan.crystal.describe import FoundSymmetry
    from crystalgan.discovery.phases import Phases
    from crystalgan.runs.metrics import Measured
    from crystalgan.stability.hydrogen import Vibrations
    from crystalgan.stability.phonon_rows import CandidatePhonons

# as energies carry them -> as commands take them
POTENTIALS = {
    title: title.lower() for title in (TITLES if importlib.util.find_spec("sevenn") else TITLES[:1])
}
MANY_CELLS = 300  # of a run, that a histogram is made of
_reading = threading.Lock()


def runs_folder() -> Path:
    """Where run folders lie: the environment variable CRYSTALGAN_RUNS, or `runs` beside the app."""
    return Path(os.environ.get("CRYSTALGAN_RUNS") or "runs")


@st.cache_data(show_spinner=False)
def class_sizes() -> dict[str, int]:
    """Metal -> number of cells of its built-in class."""
    from crystalgan.data.classes import builtin_sizes

    return builtin_sizes()


@st.cache_data(show_spinner=False)
def element_table() -> list[dict[str, Any]]:
    """The metals of the periodic table: symbol, English name, column x and row y; lanthanides and
    actinides below."""
    from pymatgen.core import Element

    cells = []
    for e in Element:
        if not e.is_metal or e.Z > 103 or e.symbol in ("D", "T"):
            continue
        y = {"La": 9, "Ac": 10}.get(e.symbol) or (
            9 if e.is_lanthanoid else 10 if e.is_actinoid else e.row
        )
        x = 3 + e.Z - (57 if e.Z < 80 else 89) if y > 8 else e.group
        cells.append(
            {"symbol": e.symbol, "name": str(e.long_name), "x": x, "y": y - 1 if y > 8 else y}
        )
    return cells


@st.cache_data(show_spinner=False, max_entries=64)
def class_cells(source: str, metal: str, shared: str) -> tuple[list[Structure], list[str]]:
    """Cells and names of a class: a built-in one by its metal, or a folder; what cannot be used is
    left out."""
    from crystalgan.data.classes import load_class

    found = load_class(source, metal, shared, skip_bad=True)
    return found.structures, [
        str(entry.info.get("prototype") or Path(entry.where).name) for entry in found.entries
    ]


@st.cache_data(show_spinner=False, max_entries=64)
def class_distances(source: str, metal: str, shared: str) -> dict[str, list[float]]:
    """First-neighbour distances of a class by pair, Å."""
    from crystalgan.crystal.describe import first_distances

    return first_distances(class_cells(source, metal, shared)[0], shared)


@st.cache_resource(show_spinner=False, max_entries=50)  # drawn, never changed
def class_figure(
    classes: tuple[tuple[str, str], ...],
    shared: str,
    limits: tuple[tuple[str, tuple[float, float]], ...],
) -> go.Figure:
    """First-neighbour distances of one class or two, given by source and metal."""
    from crystalgan.plot.classes import distance_figure, pairs_of

    series = {
        f"{metal}-{shared}": class_distances(source, metal, shared) for source, metal in classes
    }
    pairs = dict.fromkeys(pairs_of(shared, classes[0][1], classes[-1][1]))
    return distance_figure(
        series, [p for p in pairs if any(p in s for s in series.values())], dict(limits)
    )


def parent_distances(folder: str) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """First-neighbour distances of both classes that a run learned from, by pair, Å."""
    return _parent_distances(folder, (Path(folder) / "config.json").stat().st_mtime_ns)


@st.cache_data(show_spinner=False, max_entries=20)
def _parent_distances(
    folder: str, made: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    from crystalgan.crystal.describe import first_distances
    from crystalgan.runs.parents import class_structures

    run = Run.open(folder)
    a, b = class_structures(run)
    return first_distances(a, run.species[0]), first_distances(b, run.species[0])


def count(run: Run) -> int:
    """How many candidates a run holds; 0 where they cannot be counted."""
    return _count(str(run.folder), stamp(run)) if stamp(run) else 0


@st.cache_data(show_spinner=False, max_entries=500)
def _count(folder: str, changed: float) -> int:
    path = Path(folder).resolve() / "candidates.db"
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            return int(connection.execute("SELECT COUNT(*) FROM systems").fetchone()[0])
    except sqlite3.Error:
        return 0


def day(run: Run) -> str:
    """The day and the minute that a run was made, as its folder says."""
    try:
        return f"{pd.Timestamp(str(run.about['created'])):%d %b %Y %H:%M}"
    except (KeyError, ValueError):
        return ""


def stamp(run: Run) -> float:
    """When the run's database was changed last, seconds; 0 while there is none."""
    path = run.folder / "candidates.db"
    return path.stat().st_mtime if path.exists() else 0.0


@st.cache_resource(show_spinner=False)
def _tables() -> dict[tuple[str, str], tuple[float, float, pd.DataFrame]]:
    """Run folder and what tells its candidates from others -> when the file was read, the last
    change in it, and its table."""
    return {}


def table(run: Run) -> pd.DataFrame:
    """The candidates of a run, one row each; of a table read before only what changed is read
    again."""
    from crystalgan.runs.database import identity, refreshed_table

    changed = stamp(run)
    if not changed:
        return pd.DataFrame()
    key = (str(run.folder.resolve()), identity(run))
    with _reading:
        when, since, old = _tables().get(key, (0.0, 0.0, pd.DataFrame()))
        if when != changed:
            old, since = refreshed_table(run, old, since)
            _tables()[key] = (changed, since, old)
        return old


@st.cache_resource(show_spinner=False)
def _lines() -> dict[tuple[str, int], tuple[list[dict[str, Any]], int]]:
    """Run folder and file of metrics -> the lines read so far, and the byte where they end."""
    return {}


def metrics(run: Run) -> list[dict[str, Any]]:
    """The lines of `Run.metrics`; of a file that has grown only what is new is read."""
    path = run.folder / "metrics.jsonl"
    if not path.exists():
        return []
    # a resumed run has another file
    key, size = (str(run.folder.resolve()), path.stat().st_ino), path.stat().st_size
    with _reading:
        lines, end = _lines().get(key, ([], 0))
        if size < end:
            lines, end = [], 0
        new, end = run.metrics_from(end)
        lines = [*lines, *new]
        _lines()[key] = (lines, end)
        return lines


def losses(run: Run, window: int) -> str:
    """The figure of a run's losses as JSON, each term the mean of its last `window` epochs."""
    lines = metrics(run)
    path = run.folder / "metrics.jsonl"
    return _losses(lines, f"{path} {path.stat().st_ino if lines else 0} {len(lines)}", window)


@st.cache_data(show_spinner=False, max_entries=50)
def _losses(_metrics: list[dict[str, Any]], identity: str, window: int) -> str:
    from crystalgan.plot.training import loss_figure, thinned

    return str(loss_figure(thinned(_metrics, window)).to_json())


@st.cache_data(show_spinner=False, max_entries=500)
def candidate(folder: str, known_as: str, number: int) -> tuple[Structure, dict[str, str]]:
    """Structure of a candidate, and what each rule says of it in words."""
    from crystalgan.runs.database import get_row, structure_of

    row = get_row(Run.open(folder), number)
    verdicts: dict[str, dict[str, Any]] = row.data["verdicts"]
    return structure_of(row), {rule: verdict["text"] for rule, verdict in verdicts.items()}


def candidate_of(run: Run, number: int) -> tuple[Structure, dict[str, str]]:
    """`candidate`, cached by the database that it is in: its cell and verdicts never change
    there."""
    from crystalgan.runs.database import identity

    return candidate(str(run.folder), identity(run), number)


def run_distances(folder: str, count: int) -> dict[str, list[float]]:
    """First-neighbour distances of a run's first candidates, by pair, Å."""
    from crystalgan.runs.database import identity

    return _run_distances(folder, count, identity(Run.open(folder)))


@st.cache_data(show_spinner="Measuring distances ...", max_entries=20)
def _run_distances(folder: str, count: int, known_as: str) -> dict[str, list[float]]:
    from crystalgan.crystal.describe import first_distances
    from crystalgan.runs.database import open_database, structure_of

    run = Run.open(folder)
    rows = open_database(run).select(limit=min(count, MANY_CELLS), include_data=False)
    return first_distances([structure_of(row) for row in rows], run.species[0])


@st.cache_data(show_spinner=False, max_entries=500)
def symmetry(_structure: Structure, identity: str, tolerance: float) -> FoundSymmetry:
    """Symmetry of a cell, Å."""
    from crystalgan.crystal.describe import symmetry as find

    return find(_structure, tolerance)


@st.cache_data(show_spinner="Simulating the powder pattern ...", max_entries=500)
def powder(
    _structure: Structure, identity: str, wavelength: str
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Powder pattern of a cell: 2 theta, intensities, indices."""
    from crystalgan.crystal.describe import powder_pattern

    return powder_pattern(_structure, wavelength)


def measured(run: Run) -> Measured:
    """Every metric of a run's candidates."""
    return _measured(str(run.folder), stamp(run))


@st.cache_data(show_spinner="Measuring the candidates ...", max_entries=50)
def _measured(folder: str, changed: float) -> Measured:
    from crystalgan.runs.metrics import measure

    return measure(Run.open(folder))


def archive(
    folder: str,
    select: str,
    file_format: str,
    cell: str = "reduced",
    smearing: str = "gaussian",
    relaxed: str = "",
) -> bytes:
    """The zip that `export` writes, as bytes."""
    from crystalgan.stability.export import export

    with TemporaryDirectory() as temporary:
        path = Path(temporary) / "candidates.zip"
        export(folder, path, select, None, file_format, cell, smearing, relaxed)
        return path.read_bytes()


@st.cache_resource(show_spinner=False)
def prepare(root: str) -> str:
    """Put the shipped runs below `root`, once; returns what hinders, in words."""
    from crystalgan.runs.listing import copy_shipped

    try:
        copy_shipped(root)
    except InputError as error:
        return str(error)
    return ""


def stability(run: Run, potential: str) -> tuple[PhaseDiagram | None, pd.DataFrame, str]:
    """The phase diagram of a run in a potential, its relaxed candidates, and what hinders the
    diagram, in words."""
    return _stability(str(run.folder), potential, relaxed_stamp(run))


def with_energies(run: Run, table: pd.DataFrame) -> pd.DataFrame:
    """The candidates with a column `e_above_hull` (eV/atom) where some are relaxed, in CHGNet if it
    is there.

    The column's name says so where the potential was hardly trained on an element.
    """
    from crystalgan.potentials.registry import untrained

    names = potentials(str(run.folder), relaxed_stamp(run))
    found = stability(run, names[0])[1] if names else table
    if "above_hull" not in found:
        return table
    name = "e_above_hull" + (f" ({words})" if (words := untrained(names[0], run.species)) else "")
    energies = found[["id", "above_hull"]].rename(columns={"above_hull": name})
    return table.merge(energies, how="left", on="id")


def discovered(run: Run) -> Phases:
    """The phases that a run's search has found so far."""
    return _discovered(str(run.folder), relaxed_stamp(run))


@st.cache_resource(show_spinner=False, max_entries=20)  # drawn, never changed
def _discovered(folder: str, changed: float) -> Phases:
    from crystalgan.discovery.phases import phases_of_run

    return phases_of_run(Run.open(folder))


def relaxed_stamp(run: Run) -> float:
    """When something was relaxed last, seconds; 0 while nothing was."""
    path = run.folder / "relaxed.db"
    return path.stat().st_mtime if path.exists() else 0.0


def _phonon_stamp(run: Run) -> float:
    """When phonons were computed last, seconds; 0 while none were."""
    path = run.folder / "phonons.db"
    return path.stat().st_mtime if path.exists() else 0.0


def phonons(run: Run, potential: str, number: int) -> CandidatePhonons | None:
    """The phonons of a candidate in a potential; None where they were not computed."""
    return _phonons(str(run.folder), potential, number, _phonon_stamp(run))


@st.cache_resource(show_spinner=False, max_entries=100)  # drawn, never changed
def _phonons(folder: str, potential: str, number: int, changed: float) -> CandidatePhonons | None:
    from crystalgan.stability.phonon_rows import phonon_rows, result_of

    rows = phonon_rows(Run.open(folder), potential, number) if changed else []
    return result_of(rows[0]) if rows else None


def vibrations(run: Run, potential: str) -> dict[str, Vibrations]:
    """Vibrational energies of a run's stable cells by reduced formula."""
    return _vibrations(str(run.folder), potential, _phonon_stamp(run))


@st.cache_resource(show_spinner=False, max_entries=20)
def _vibrations(folder: str, potential: str, changed: float) -> dict[str, Vibrations]:
    from crystalgan.stability.phonon_rows import vibrations_of

    return vibrations_of(Run.open(folder), potential) if changed else {}


@st.cache_resource(show_spinner=False, max_entries=20)  # drawn, never changed
def _stability(
    folder: str, potential: str, changed: float
) -> tuple[PhaseDiagram | None, pd.DataFrame, str]:
    from crystalgan.stability.table import stability_of

    return stability_of(Run.open(folder), potential)


@st.cache_data(show_spinner=False, max_entries=20)
def potentials(folder: str, changed: float) -> list[str]:
    """The potentials that structures of a run were relaxed with."""
    from crystalgan.stability.relaxations import potentials_of

    return potentials_of(Run.open(folder))


@st.cache_resource(show_spinner=False, max_entries=100)
def relaxed(folder: str, potential: str, number: int, changed: float) -> AtomsRow | None:
    """What became of a candidate in a potential; None where it was not relaxed."""
    from crystalgan.stability.relaxations import relaxed_rows

    return next(iter(relaxed_rows(Run.open(folder), potential, number)), None)
