"""Reading cells from files of every format, folders and zips.

Reading never changes a cell silently: what cannot be used is left out with its file, its place in
it and the reason, and what is read otherwise than it is written stands in the remarks of its cell.
A reader of a format writes such sentences into the list `info["remarks"]`, also while it builds the
cell. Of one thing nothing is said: deuterium and tritium are hydrogen.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from crystalgan.data.cell_checks import cell_problem
from crystalgan.data.file_formats import backup_of, format_of, is_cell_of_a_run, is_trajectory
from crystalgan.data.files import Unreadable, files, printable
from crystalgan.data.formats.poscar import frames_of
from crystalgan.data.formats.source import Source

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pymatgen.core import Structure

    from crystalgan.data.file_formats import Format

MAX_BAD_ATOMS = 5000  # in the unusable cells of one file; then it is not read on


@dataclass(frozen=True, repr=False)
class Cell:
    """One cell of a class and where it was read."""

    structure: Structure
    where: str  # file, and the place in it where it holds several
    info: dict[str, Any] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()  # what was read otherwise than written, a sentence each

    def __repr__(self) -> str:
        name = self.info.get("prototype") or PurePosixPath(self.where).name
        return f"Cell({self.structure.formula}, {name})"


@dataclass(frozen=True)
class LeftOut:
    """What was not read, and why."""

    where: str
    reason: str
    # nobody meant it as a cell (an editor's backup): it is said, and stops no training
    harmless: bool = False

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"


def read_entries(
    path: Path, metal: str | None = None, shared: str = "H"
) -> tuple[list[Cell], list[LeftOut]]:
    """All cells of a folder, zip or file, and what was left out.

    Files that are no structures at all are not mentioned. `metal` names the metal of a `.mat` file,
    which holds no elements. Raises InputError where nothing can be trusted, as with a damaged zip
    or one that unpacks to too much, and where there is nothing: an empty folder, a file of no known
    format.

    >>> from crystalgan.data.classes import builtin_classes
    >>> cells, left_out = read_entries(builtin_classes()["Pd"])
    >>> cells[0]
    Cell(H1 Pd4, M4H_tI10)
    >>> left_out
    []
    """
    entries: list[Cell] = []
    left_out: list[LeftOut] = []
    found = list(files(path, lambda name: known.most if (known := format_of(name)) else 0))
    with_cells = {PurePosixPath(where).parent for where, name, _ in found if is_cell_of_a_run(name)}
    for where, name, contents in found:
        alone = where == printable(str(path))
        try:
            known = format_of(name)
            if not alone and (original := backup_of(name)):
                reason = f"is a backup of {printable(original)}; give it another name to read it"
                left_out.append(LeftOut(where, reason, harmless=True))
            elif not alone and is_trajectory(name) and PurePosixPath(where).parent in with_cells:
                reason = _why_no_trajectory(contents, metal, shared)
                left_out.append(LeftOut(where, reason, harmless=True))
            elif known is not None:
                _collect(known, where, Source(contents(), metal, shared), entries, left_out)
            else:
                contents()  # says why a path that leads astray is not followed
        except Unreadable as error:
            left_out.append(LeftOut(where, printable(str(error))))
    return entries, left_out


def _why_no_trajectory(contents: Callable[[], bytes], metal: str | None, shared: str) -> str:
    """Why the trajectory in a folder is not read."""
    try:
        count = frames_of(Source(contents(), metal, shared))
        frames = "1 frame" if count == 1 else f"{count} frames"
    except Unreadable as error:
        frames = f"none can be read: {error}"
    return (
        f"is the trajectory of a run ({frames}); give it alone, or let its name end in .vasp, to"
        " read each as a cell"
    )


def _collect(
    known: Format, file: str, source: Source, entries: list[Cell], left_out: list[LeftOut]
) -> None:
    """Add the cells of one file, and those that are none with the reason."""
    bad_atoms = 0
    before = len(entries) + len(left_out)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pymatgen warns of every rounding in a CIF
        try:
            for place, build, info in known.read(source):
                where = printable(file + place)
                structure, problem = _built(build, known)
                if structure is not None and not problem:
                    remarks = tuple(printable(remark) for remark in info.pop("remarks", ()))
                    entries.append(Cell(structure, where, info, remarks))
                    continue
                left_out.append(LeftOut(where, printable(problem)))
                bad_atoms += 5 + (0 if structure is None else len(structure))
                if bad_atoms > MAX_BAD_ATOMS:
                    reason = "so many of its cells cannot be used that the rest was not read"
                    left_out.append(LeftOut(file, reason))
                    return
        except Unreadable:
            raise
        except Exception as error:
            raise Unreadable(_in_words(error, known)) from error
    if len(entries) + len(left_out) == before:
        left_out.append(LeftOut(file, "holds no cells"))


def _built(build: Callable[[], Structure], known: Format) -> tuple[Structure | None, str]:
    """A cell, or why there is none."""
    try:
        structure = build()
    except Unreadable as error:
        return None, str(error)
    except Exception as error:  # noqa: BLE001 - a stranger's file can fail anywhere in a parser
        return None, _in_words(error, known)
    hydrogens = {isotope: "H" for isotope in ("D", "T") if isotope in structure.symbol_set}
    if hydrogens:
        structure.replace_species(hydrogens)
    return structure, cell_problem(structure)


def _in_words(error: Exception, known: Format) -> str:
    """What a parser stumbled over, in a chemist's words where its own are a programmer's."""
    if isinstance(error, np.linalg.LinAlgError):
        return "has lattice vectors that lie in one plane"
    of_parts = (IndexError, TypeError, AttributeError, ArithmeticError)
    if isinstance(error, RecursionError):
        reason = "nested too deeply"
    elif isinstance(error, KeyError):
        reason = f"{error} is missing"
    elif isinstance(error, (MemoryError, OverflowError)):
        reason = "its numbers are too large"
    elif isinstance(error, of_parts) or not str(error).strip():
        reason = "its parts do not fit together"
    else:
        reason = str(error).strip().splitlines()[0][:120]
        reason = reason.replace("could not convert string to float:", "a number expected, found")
    return f"cannot be read as {known.name} ({reason})"
