"""Reading cells from files of every format, folders and zips.

Reading never changes a cell silently: what cannot be used is left out with its file, its place in it and the reason, and what is
read otherwise than it is written stands in the remarks of its cell. A reader of a format writes such sentences into the list
`info["remarks"]`, also while it builds the cell. Of one thing nothing is said: deuterium and tritium are hydrogen.
"""

from __future__ import annotations

import itertools
import warnings
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from crystalgan import cif, containers, formats
from crystalgan.files import Unreadable, files, printable
from crystalgan.formats import MAX_ATOMS, Source

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pymatgen.core import Structure

    from crystalgan.formats import Read

MAX_EDGE = 100.0  # Å; no cell that a network could learn from is longer
MIN_VOLUME = 1.0  # Å³
MIN_DISTANCE = 0.5  # Å; H2 has 0.74
MAX_BAD_ATOMS = 5000  # in the unusable cells of one file; then it is not read on


@dataclass(frozen=True)
class Format:
    """How files of one kind are recognised and read."""

    name: str
    endings: tuple[str, ...]
    read: Callable[[Source], Read]
    most: int  # bytes


FORMATS = (
    Format("CIF", (".cif",), cif.read_cif, 1_000_000),
    Format("extended XYZ", (".xyz", ".extxyz"), formats.read_xyz, 20_000_000),
    Format(".mat", (".mat",), containers.read_mat, 20_000_000),
    Format("JSON", (".json",), containers.read_json, 20_000_000),
    Format("ASE database", (".db",), containers.read_db, 50_000_000),
    Format("POSCAR", (".vasp",), formats.read_poscar, 1_000_000),
)


@dataclass(frozen=True)
class Cell:
    """One cell of a class and where it was read."""

    structure: Structure
    where: str  # file, and the place in it where it holds several
    info: dict[str, Any] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()  # what was read otherwise than written, a sentence each


@dataclass(frozen=True)
class LeftOut:
    """What was not read, and why."""

    where: str
    reason: str
    harmless: bool = False  # nobody meant it as a cell (an editor's backup): it is said, and stops no training

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"


def read_entries(path: Path, metal: str | None = None, shared: str = "H") -> tuple[list[Cell], list[LeftOut]]:
    """All cells of a folder, zip or file, and what was left out; files that are no structures at all are not mentioned.

    `metal` names the metal of a `.mat` file, which holds no elements. InputError where nothing can be trusted, as with a damaged
    zip or one that unpacks to too much, and where there is nothing: an empty folder, a file of no known format.
    """
    entries: list[Cell] = []
    left_out: list[LeftOut] = []
    for where, name, contents in files(path, lambda name: known.most if (known := format_of(name)) else 0):
        try:
            known = format_of(name)
            data = contents()
            if known is not None:
                _collect(known, where, Source(data, metal, shared), entries, left_out)
        except Unreadable as error:
            left_out.append(LeftOut(where, printable(str(error))))
    return entries, left_out


def format_of(name: str) -> Format | None:
    """The format of a file by its name, or None."""
    lower = PurePosixPath(name.replace("\\", "/")).name.lower().removesuffix(".gz")
    poscar = "poscar" in lower or "contcar" in lower
    return next((f for f in FORMATS if lower.endswith(f.endings)), FORMATS[-1] if poscar else None)


def _collect(known: Format, file: str, source: Source, entries: list[Cell], left_out: list[LeftOut]) -> None:
    """Add the cells of one file, and those that are none with the reason."""
    bad_atoms = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pymatgen warns of every rounding in a CIF
        try:
            before = len(entries) + len(left_out)
            for place, build, info in known.read(source):
                structure, problem = _built(build, known)
                if structure is None or problem:
                    left_out.append(LeftOut(printable(file + place), printable(problem)))
                    bad_atoms += 5 + (0 if structure is None else len(structure))
                    if bad_atoms > MAX_BAD_ATOMS:
                        left_out.append(LeftOut(file, "so many of its cells cannot be used that the rest was not read"))
                        return
                else:
                    remarks = tuple(printable(remark) for remark in info.pop("remarks", ()))
                    entries.append(Cell(structure, printable(file + place), info, remarks))
            if len(entries) + len(left_out) == before:
                left_out.append(LeftOut(file, "holds no cells"))
        except Unreadable:
            raise
        except Exception as error:
            raise Unreadable(_words(error, known)) from error


def _built(build: Callable[[], Structure], known: Format) -> tuple[Structure | None, str]:
    """A cell, or why there is none."""
    try:
        structure = build()
    except Unreadable as error:
        return None, str(error)
    except Exception as error:  # noqa: BLE001 - whatever a parser stumbles over is said to the user
        return None, _words(error, known)
    hydrogens = {isotope: "H" for isotope in ("D", "T") if isotope in structure.symbol_set}
    if hydrogens:
        structure.replace_species(hydrogens)
    return structure, cell_problem(structure)


def _words(error: Exception, known: Format) -> str:
    """What a parser stumbled over, in the words of a chemist where its own are those of a programmer."""
    if isinstance(error, np.linalg.LinAlgError):
        return "has lattice vectors that lie in one plane"
    if isinstance(error, RecursionError):
        reason = "nested too deeply"
    elif isinstance(error, KeyError):
        reason = f"{error} is missing"
    elif isinstance(error, (MemoryError, OverflowError)):
        reason = "its numbers are too large"
    elif isinstance(error, (IndexError, TypeError, AttributeError, ArithmeticError)) or not str(error).strip():
        reason = "its parts do not fit together"
    else:
        reason = (
            str(error).strip().splitlines()[0][:120].replace("could not convert string to float:", "a number expected, found")
        )
    return f"cannot be read as {known.name} ({reason})"


def cell_problem(structure: Structure) -> str:
    """Why a structure that could be read is no cell to learn from, or nothing."""
    from pymatgen.core import Element

    if not structure.is_ordered:
        site = next(s for s in structure if not s.is_ordered)
        return f"has a partially occupied site ({site.species_string}); make an ordered cell of it first"
    strange = next((s.specie.symbol for s in structure if not Element.is_valid_symbol(s.specie.symbol)), None)
    if strange:
        return f"holds {strange}, which is no element"
    if not 0 < len(structure) <= MAX_ATOMS:
        return f"has {len(structure)} atoms; from 1 to {MAX_ATOMS} can be used"
    matrix = structure.lattice.matrix
    if not (np.isfinite(matrix).all() and np.isfinite(structure.frac_coords).all()):
        return "has coordinates that are not finite"
    if np.abs(structure.frac_coords).max() > MAX_EDGE:
        return "has a position far outside of its cell"
    longest = np.abs(matrix).max()
    if longest > MAX_EDGE:
        return f"has a lattice vector of {longest:.3g} Å; at most {MAX_EDGE:g} Å can be used"
    if structure.volume < MIN_VOLUME:
        return f"has a volume of {structure.volume:.3g} Å³; its lattice vectors lie in one plane"
    return _clash(structure)


def _clash(structure: Structure) -> str:
    """Two atoms at one place, or an atom and its own image in a needle of a cell."""
    steps = np.array([step for step in itertools.product((-1, 0, 1), repeat=3) if any(step)])
    repeat = np.linalg.norm(steps @ structure.lattice.get_lll_reduced_lattice().matrix, axis=1).min()
    if repeat < MIN_DISTANCE:
        return f"repeats after {repeat:.3g} Å; its atoms would lie on their own images"
    distances = structure.distance_matrix
    np.fill_diagonal(distances, np.inf)
    i, j = np.unravel_index(distances.argmin(), distances.shape)
    if distances[i, j] < MIN_DISTANCE:
        both = f"{structure[i].specie.symbol} {i + 1} and {structure[j].specie.symbol} {j + 1}"
        return f"has two atoms at one place: {both} are {distances[i, j]:.2f} Å apart"
    return ""
