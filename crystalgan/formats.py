"""POSCAR and extended XYZ. The reader of a format yields each place of a file with a function that builds the cell there.

Sizes and counts that a file announces are checked before anything is made of them.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from crystalgan.files import Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pymatgen.core import Structure

    Read = Iterator[tuple[str, Callable[[], Structure], dict[str, Any]]]  # place in the file, cell, what else is said of it

MAX_ATOMS = 500  # of one cell
MAX_CELLS = 10_000  # of one file
MAX_LINE = 10_000  # characters


@dataclass(frozen=True)
class Source:
    """The contents of one file; `metal` and `shared` for a format that names no elements."""

    data: bytes
    metal: str | None
    shared: str

    def text(self) -> str:
        """The contents as text with line feeds; `Unreadable` where they are no UTF-8."""
        if self.data[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise Unreadable("not a text file in UTF-8 but in UTF-16; save it as UTF-8")
        try:
            return self.data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise Unreadable(f"not a text file (byte {error.start} is no UTF-8); save it as UTF-8") from None


def check_atoms(count: int) -> None:
    """Refuse an announced number of atoms that no cell may have."""
    if not 0 < count <= MAX_ATOMS:
        raise Unreadable(f"announces {count} atoms; a cell may have from 1 to {MAX_ATOMS}")


def read_poscar(source: Source) -> Read:
    """The one cell of a POSCAR or CONTCAR."""
    from pymatgen.io.vasp import Poscar

    text = source.text()
    problem = poscar_problem(text)
    if problem:
        raise Unreadable(problem)
    yield "", lambda: Poscar.from_str(text, read_velocities=False).structure, {}


def poscar_problem(text: str) -> str | None:
    """The first line of a POSCAR (VASP 5 and later) that is not what it must be, or None."""
    lines = text.rstrip().split("\n")

    def numbers(row: int, count: int) -> bool:
        try:
            return len([float(word) for word in lines[row].split()[:count]]) == count
        except ValueError:
            return False

    if not text.strip():
        return "is empty"
    for row in range(1, 5):
        if len(lines) <= row:
            return f"cut short at line {len(lines)}, inside the lattice"
        if not numbers(row, 1 if row == 1 else 3):
            return (
                f"line {row + 1}: {'the scale' if row == 1 else 'a lattice vector'} expected, found {lines[row].strip()[:40]!r}"
            )
    if len(lines) < 8:
        return f"cut short at line {len(lines)}, before the positions"
    if lines[5].split() and lines[5].split()[0].isdigit():
        return "line 6: names no elements (the format of VASP 4); write their symbols above the counts"
    words = lines[6].split()
    if not words or not all(re.fullmatch("[0-9]{1,15}", word) for word in words) or len(words) != len(lines[5].split()):
        return f"line 7: one count for each of {lines[5].strip()[:40]!r} expected, found {lines[6].strip()[:40]!r}"
    atoms = sum(int(word) for word in words)
    if not 0 < atoms <= MAX_ATOMS:
        return f"line 7: announces {atoms} atoms; a cell may have from 1 to {MAX_ATOMS}"
    first = 9 if lines[7].strip()[:1].lower() == "s" else 8
    for row in range(first, first + atoms):
        if len(lines) <= row:
            return f"cut short at line {len(lines)}: {atoms} atoms announced, {max(0, len(lines) - first)} positions found"
        if not numbers(row, 3):
            return f"line {row + 1}: a position expected, found {lines[row].strip()[:40]!r}"
    return None


def read_xyz(source: Source) -> Read:
    """The frames of an extended XYZ file; each has its `Lattice="..."`. What stands before a damaged one is read."""
    text = source.text()
    frames, problem = [], None
    try:
        for frame in itertools.islice(_frames(text), MAX_CELLS + 1):
            frames.append(frame)  # noqa: PERF402 - those before an error are kept
    except Unreadable as error:
        problem = error
    if len(frames) > MAX_CELLS:
        raise Unreadable(f"holds more than {MAX_CELLS} cells")
    for line, at, atoms in frames:
        info: dict[str, Any] = {}
        yield f" line {line}", partial(_frame, _lines(text, at, atoms + 1)[0], line + 1, info), info
    if problem:
        raise problem


def _frames(text: str) -> Iterator[tuple[int, int, int]]:
    """Line, position of the comment and number of atoms of each frame; nothing is made of them yet."""
    at, line = 0, 1
    while visible := re.compile(r"\S").search(text, at):
        begin = text.rfind("\n", at, visible.start()) + 1 or at
        line += text.count("\n", at, begin)
        (head,), at = _lines(text, begin, 1)
        if not re.fullmatch(r"\s*[0-9]{1,15}\s*", head):
            raise Unreadable(f"line {line}: a number of atoms expected, found {head.strip()[:40]!r}")
        atoms, comment = int(head), at
        if not 0 < atoms <= MAX_ATOMS:
            raise Unreadable(f"line {line}: announces {atoms} atoms; a cell may have from 1 to {MAX_ATOMS}")
        rows, at = _lines(text, comment, atoms + 1)
        if len(rows) < atoms + 1:
            raise Unreadable(f"cut short: line {line} announces {atoms} atoms, {max(0, len(rows) - 1)} follow")
        if len(rows[0]) > MAX_LINE:
            raise Unreadable(f"line {line + 1}: has more than {MAX_LINE} characters")
        yield line, comment, atoms
        line += atoms + 2


def _lines(text: str, at: int, count: int) -> tuple[list[str], int]:
    """At most `count` lines from a position, and the position behind them; a list of all, or one very long, would be large."""
    rows: list[str] = []
    while len(rows) < count and at < len(text):
        end = text.find("\n", at)
        end = len(text) if end < 0 else end
        rows.append(text[at : min(end, at + MAX_LINE + 1)])
        at = end + 1
    return rows, at


def _frame(rows: list[str], line: int, info: dict[str, Any]) -> Structure:
    """One frame; `rows` begins with its comment, which is `line` of the file; what the comment says goes into `info`."""
    from ase.io.extxyz import key_val_str_to_dict
    from pymatgen.core import Structure

    try:
        info.update(key_val_str_to_dict(rows[0]))
    except ValueError:
        raise Unreadable(f"line {line}: Lattice must hold nine numbers") from None
    lattice = info.pop("Lattice", None)
    if lattice is None or not np.all(info.pop("pbc", True)):
        raise Unreadable(f'line {line}: no lattice in all three directions; write the cell as Lattice="..." and pbc="T T T"')
    columns = str(info.pop("Properties", "species:S:1:pos:R:3")).split(":")
    widths = [int(word) if re.fullmatch("[0-9]{1,4}", word) else 0 for word in columns[2::3]]
    starts = {name: sum(widths[:i]) for i, name in enumerate(columns[::3])}
    if len(columns) % 3 or not {"species", "pos"} <= set(starts) or widths[columns[::3].index("pos")] != 3:
        raise Unreadable(f"line {line}: Properties must name species:S:1 and pos:R:3, found {':'.join(columns)[:60]!r}")
    symbols, positions = [], []
    for i, row in enumerate(rows[1:], line + 1):
        words = row.split()
        try:
            symbols.append(words[starts["species"]].capitalize())
            x, y, z = words[starts["pos"] : starts["pos"] + 3]
            positions.append([float(x), float(y), float(z)])
        except (IndexError, ValueError):
            raise Unreadable(f"line {i}: an element and its position expected, found {row.strip()[:40]!r}") from None
    return Structure(np.asarray(lattice, float).T, symbols, positions, coords_are_cartesian=True)
