"""Reading cells from files of every format, folders and zips.

Reading never changes a cell silently: what cannot be used is left out with its file, its place in
it and the reason, and what is read otherwise than it is written stands in the remarks of its cell.
A reader of a format writes such sentences into the list `info["remarks"]`, also while it builds the
cell. Of one thing nothing is said: deuterium and tritium are hydrogen.
"""

from __future__ import annotations

import itertools
import re
import warnings
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from crystalgan.data import cif, containers, formats, poscar
from crystalgan.data.files import Unreadable, files, printable
from crystalgan.data.formats import MAX_ATOMS, Source

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pymatgen.core import Structure

    from crystalgan.data.formats import Read

MAX_EDGE = 100.0  # Å; no cell that a network could learn from is longer
MIN_VOLUME = 1.0  # Å³
MIN_DISTANCE = 0.5  # Å; H2 has 0.74
ONE_PLACE = 0.05  # Å; two atoms of one element that are closer are one that is listed twice
MAX_BAD_ATOMS = 5000  # in the unusable cells of one file; then it is not read on


@dataclass(frozen=True)
class Format:
    """How files of one kind are recognised and read."""

    name: str
    endings: tuple[str, ...]
    read: Callable[[Source], Read]
    most: int  # bytes


FORMATS = (
    Format("CIF", (".cif", ".mcif"), cif.read_cif, 1_000_000),
    Format("extended XYZ", (".xyz", ".extxyz"), formats.read_xyz, 20_000_000),
    Format(".mat", (".mat",), containers.read_mat, 20_000_000),
    Format("JSON", (".json",), containers.read_json, 20_000_000),
    Format("ASE database", (".db",), containers.read_db, 50_000_000),
    Format("POSCAR", (".vasp", ".poscar"), poscar.read_poscar, 10_000_000),
)
CARS = ("poscar", "contcar", "xdatcar")  # VASP's names of files, whatever stands before or behind
NO_CAR = re.compile(  # endings of pictures, scripts and notes that only carry such a name
    r".*\.(png|jpe?g|gif|svg|pdf|e?ps|tiff?|bmp|webp|pyc?|ipynb|sh|bash|bat|ps1|pl|cpp|f90|js|md|rst|tex|html?|docx?|odt|rtf|pptx?"
    r"|xlsx?|ods|[ct]sv|log|out|err|ya?ml|toml|ini|cfg|xml|lock|part|zip|tar|tgz|bz2|xz|7z|rar|np[yz]|pkl|h5|hdf5)"
)
BACKUPS = (  # how editors and file managers name a copy of the file that `of` names
    r"(?P<of>.+?)(\.~\d+)?~",
    r"#(?P<of>.+)#",
    r"(?P<of>.+)\.(bak|bck|bk|backup|old|orig|original|save|sav|swp|swo|tmp|autosave)\d*",
    r"(?P<of>.+?)_(bak|backup|old|orig|original|save)",
    r"(?P<of>.+?)( -)? \(?(copy|kopie|copie|copia)( ?\d+)?\)?( \(\d+\))?(?P<ending>\.[a-z]+)?",
    r"(copy of |backup of )(?P<of>.+)",
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
    # nobody meant it as a cell (an editor's backup): it is said, and stops no training
    harmless: bool = False

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"


def read_entries(
    path: Path, metal: str | None = None, shared: str = "H"
) -> tuple[list[Cell], list[LeftOut]]:
    """All cells of a folder, zip or file, and what was left out; files that are no structures at
    all are not mentioned.

    `metal` names the metal of a `.mat` file, which holds no elements. InputError where nothing can
    be trusted, as with a damaged zip or one that unpacks to too much, and where there is nothing:
    an empty folder, a file of no known format.
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
                left_out.append(
                    LeftOut(
                        where,
                        f"is a backup of {printable(original)}; give it another name to read it",
                        True,
                    )
                )
            elif not alone and is_trajectory(name) and PurePosixPath(where).parent in with_cells:
                left_out.append(LeftOut(where, _frames(contents, metal, shared), True))
            elif known is not None:
                _collect(known, where, Source(contents(), metal, shared), entries, left_out)
            else:
                contents()  # says why a path that leads astray is not followed
        except Unreadable as error:
            left_out.append(LeftOut(where, printable(str(error))))
    return entries, left_out


def format_of(name: str) -> Format | None:
    """The format of a file by its name, or of the file that it is a backup of; None for what is no
    file of cells."""
    base = _base(name)
    lower = _base(backup_of(base) or base).lower()
    if lower == "provenance.json":  # of an export, which holds its cells beside it
        return None
    car = any(word in lower for word in CARS) and not NO_CAR.fullmatch(lower)
    return next((f for f in FORMATS if lower.endswith(f.endings)), FORMATS[-1] if car else None)


def backup_of(name: str) -> str:
    """The name of the file that one of this name is an editor's or a file manager's copy of;
    nothing where it is none."""
    base = _base(name)
    found = next(
        (m for pattern in BACKUPS if (m := re.fullmatch(pattern, base, re.IGNORECASE))), None
    )
    return found["of"] + (found.groupdict().get("ending") or "") if found else ""


def is_trajectory(name: str) -> bool:
    """Whether VASP wrote a file of this name step by step: it lies beside the cell that came of
    it."""
    base = _base(name).lower()
    return (
        "xdatcar" in base
        and format_of(name) is FORMATS[-1]
        and not base.endswith(FORMATS[-1].endings)
    )


def is_cell_of_a_run(name: str) -> bool:
    """Whether a file of this name is a POSCAR or CONTCAR, in whose folder an XDATCAR is the way
    from one to the other."""
    base = _base(name).lower()
    return (
        any(word in base for word in CARS[:2])
        and format_of(name) is FORMATS[-1]
        and not backup_of(name)
    )


def _base(name: str) -> str:
    """The name of a file without folders, `.gz`, and the `.txt` that some systems add to a name
    with an ending of its own."""
    name = PurePosixPath(name.replace("\\", "/")).name
    name = name[:-3] if name.lower().endswith(".gz") else name
    known = tuple(ending + ".txt" for f in FORMATS for ending in f.endings)
    return name[:-4] if name.lower().endswith(known) else name


def _frames(contents: Callable[[], bytes], metal: str | None, shared: str) -> str:
    """Why the trajectory in a folder is not read."""
    try:
        count = poscar.frames_of(Source(contents(), metal, shared))
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
                        left_out.append(
                            LeftOut(
                                file,
                                "so many of its cells cannot be used that the rest was not read",
                            )
                        )
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
    except Exception as error:  # noqa: BLE001 - whatever a reader meets is what the test is about
        return None, _words(error, known)
    hydrogens = {isotope: "H" for isotope in ("D", "T") if isotope in structure.symbol_set}
    if hydrogens:
        structure.replace_species(hydrogens)
    return structure, cell_problem(structure)


def _words(error: Exception, known: Format) -> str:
    """What a parser stumbled over, in the words of a chemist where its own are those of a
    programmer."""
    if isinstance(error, np.linalg.LinAlgError):
        return "has lattice vectors that lie in one plane"
    if isinstance(error, RecursionError):
        reason = "nested too deeply"
    elif isinstance(error, KeyError):
        reason = f"{error} is missing"
    elif isinstance(error, (MemoryError, OverflowError)):
        reason = "its numbers are too large"
    elif (
        isinstance(error, (IndexError, TypeError, AttributeError, ArithmeticError))
        or not str(error).strip()
    ):
        reason = "its parts do not fit together"
    else:
        reason = (
            str(error)
            .strip()
            .splitlines()[0][:120]
            .replace("could not convert string to float:", "a number expected, found")
        )
    return f"cannot be read as {known.name} ({reason})"


def cell_problem(structure: Structure) -> str:
    """Why a structure that could be read is no cell to learn from, or nothing."""
    from pymatgen.core import Element

    if not structure.is_ordered:
        site = next(s for s in structure if not s.is_ordered)
        return (
            f"has a partially occupied site ({site.species_string}); make an ordered cell of it"
            " first"
        )
    strange = next(
        (s.specie.symbol for s in structure if not Element.is_valid_symbol(s.specie.symbol)), None
    )
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
    repeat = np.linalg.norm(
        steps @ structure.lattice.get_lll_reduced_lattice().matrix, axis=1
    ).min()
    if repeat < MIN_DISTANCE:
        return f"repeats after {repeat:.3g} Å; its atoms would lie on their own images"
    distances = structure.distance_matrix
    np.fill_diagonal(distances, np.inf)
    i, j = np.unravel_index(distances.argmin(), distances.shape)
    least = distances[i, j]
    if least >= MIN_DISTANCE:
        return ""
    same = structure[i].specie == structure[j].specie
    both = f"{structure[i].specie.symbol} {i + 1} and {structure[j].specie.symbol} {j + 1}"
    if same and least < ONE_PLACE:
        pairs = int((distances < ONE_PLACE).sum()) // 2
        more = (
            f", and {pairs - 1} more such {'pair' if pairs == 2 else 'pairs'}" if pairs > 1 else ""
        )
        way = "list each atom of the cell once, without its copies on opposite faces"
        return f"has two atoms at one place: {both} ({least:.2g} Å apart{more}); {way}"
    way = (
        "correct the positions"
        if same
        else "a place holds one atom, so leave one of them out or correct the positions"
    )
    return f"has two atoms at one place: {both} are {least:.2f} Å apart; {way}"
