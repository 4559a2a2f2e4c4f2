"""Which format a file has, by its name, and what a name says besides: a backup, a trajectory."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from crystalgan.data.cif.reader import read_cif
from crystalgan.data.formats.ase_rows import read_db
from crystalgan.data.formats.extxyz import read_xyz
from crystalgan.data.formats.json_cells import read_json
from crystalgan.data.formats.mat import read_mat
from crystalgan.data.formats.poscar import read_poscar

if TYPE_CHECKING:
    from collections.abc import Callable

    from crystalgan.data.formats.source import Read, Source


@dataclass(frozen=True)
class Format:
    """How files of one kind are recognised and read."""

    name: str
    endings: tuple[str, ...]
    read: Callable[[Source], Read]
    most: int  # bytes


POSCAR = Format("POSCAR", (".vasp", ".poscar"), read_poscar, 10_000_000)
FORMATS = (
    Format("CIF", (".cif", ".mcif"), read_cif, 1_000_000),
    Format("extended XYZ", (".xyz", ".extxyz"), read_xyz, 20_000_000),
    Format(".mat", (".mat",), read_mat, 20_000_000),
    Format("JSON", (".json",), read_json, 20_000_000),
    Format("ASE database", (".db",), read_db, 50_000_000),
    POSCAR,
)
CARS = ("poscar", "contcar", "xdatcar")  # VASP's names of files, whatever stands before or behind
NO_CAR = re.compile(  # endings of pictures, scripts and notes that only carry such a name
    r".*\.(png|jpe?g|gif|svg|pdf|e?ps|tiff?|bmp|webp|pyc?|ipynb|sh|bash|bat|ps1|pl|cpp|f90|js|md"
    r"|rst|tex|html?|docx?|odt|rtf|pptx?|xlsx?|ods|[ct]sv|log|out|err|ya?ml|toml|ini|cfg|xml|lock"
    r"|part|zip|tar|tgz|bz2|xz|7z|rar|np[yz]|pkl|h5|hdf5)"
)
BACKUPS = (  # how editors and file managers name a copy of the file that `of` names
    r"(?P<of>.+?)(\.~\d+)?~",
    r"#(?P<of>.+)#",
    r"(?P<of>.+)\.(bak|bck|bk|backup|old|orig|original|save|sav|swp|swo|tmp|autosave)\d*",
    r"(?P<of>.+?)_(bak|backup|old|orig|original|save)",
    r"(?P<of>.+?)( -)? \(?(copy|kopie|copie|copia)( ?\d+)?\)?( \(\d+\))?(?P<ending>\.[a-z]+)?",
    r"(copy of |backup of )(?P<of>.+)",
)


def format_of(name: str) -> Format | None:
    """The format of a file by its name, or of the file that it is a backup of.

    None for what is no file of cells.

    >>> format_of("CONTCAR.gz").name
    'POSCAR'
    """
    base = _base(name)
    lower = _base(backup_of(base) or base).lower()
    if lower == "provenance.json":  # of an export, which holds its cells beside it
        return None
    car = any(word in lower for word in CARS) and not NO_CAR.fullmatch(lower)
    return next((f for f in FORMATS if lower.endswith(f.endings)), POSCAR if car else None)


def backup_of(name: str) -> str:
    """The name of the file that an editor or a file manager copied; nothing where it is no copy.

    >>> backup_of("Pd (copy).cif")
    'Pd.cif'
    """
    base = _base(name)
    matches = (re.fullmatch(pattern, base, re.IGNORECASE) for pattern in BACKUPS)
    found = next(filter(None, matches), None)
    return found["of"] + (found.groupdict().get("ending") or "") if found else ""


def is_trajectory(name: str) -> bool:
    """Whether VASP wrote a file of this name step by step, beside the cell that came of it."""
    base = _base(name).lower()
    return "xdatcar" in base and format_of(name) is POSCAR and not base.endswith(POSCAR.endings)


def is_cell_of_a_run(name: str) -> bool:
    """Whether a file of this name is a POSCAR or CONTCAR, which VASP's trajectory lies beside."""
    base = _base(name).lower()
    car = any(word in base for word in CARS[:2])
    return car and format_of(name) is POSCAR and not backup_of(name)


def _base(name: str) -> str:
    """The name of a file without folders, `.gz`, and the `.txt` that some systems add."""
    name = PurePosixPath(name.replace("\\", "/")).name
    name = name[:-3] if name.lower().endswith(".gz") else name
    known = tuple(ending + ".txt" for f in FORMATS for ending in f.endings)
    return name[:-4] if name.lower().endswith(known) else name
