"""Extended XYZ: frames with a `Lattice="..."` in their comment.

Counts that a file announces are checked before anything is made of them.
"""

from __future__ import annotations

import itertools
import re
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from crystalgan.data.elements import elements
from crystalgan.data.files import Unreadable
from crystalgan.data.formats.source import MAX_ATOMS, MAX_CELLS, MAX_LINE, NUMBER, number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pymatgen.core import Structure

    from crystalgan.data.formats.source import Read, Source

# a key of a comment with its value, or a word or a quoted text that belongs to no key
PAIR = re.compile(
    r"""([^\s="']+)\s*=\s*("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|\{[^{}]*\}|\[[^\[\]]*\]|[^\s"']*)|"(?:[^"\\]|\\.)*"|[^\s="']+|\S""",
    re.DOTALL,
)
KEYS = ("lattice", "properties", "pbc")  # of the comment, in whatever case they are written
# columns that name the element
SPECIES = {"species": "S", "symbol": "S", "symbols": "S", "element": "S", "elements": "S"}
# and those that say its atomic number, where none names it
NUMBERS = ("z", "numbers", "atomic_numbers")


def read_xyz(source: Source) -> Read:
    """The frames of an extended XYZ file, each with its lattice; those before a damaged one too."""
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
    """Line, position of the comment and number of atoms of each frame, which is not built yet."""
    at, line = 0, 1
    while visible := re.compile(r"\S").search(text, at):
        begin = text.rfind("\n", at, visible.start()) + 1 or at
        line += text.count("\n", at, begin)
        (head,), at = _lines(text, begin, 1)
        if not re.fullmatch(r"\s*[0-9]{1,15}\s*", head):
            raise Unreadable(
                f"line {line}: a number of atoms expected, found {head.strip()[:40]!r}"
            )
        atoms, comment = int(head), at
        if not 0 < atoms <= MAX_ATOMS:
            raise Unreadable(
                f"line {line}: announces {atoms} atoms; a cell may have from 1 to {MAX_ATOMS}"
            )
        rows, at = _lines(text, comment, atoms + 1)
        if len(rows) < atoms + 1:
            raise Unreadable(
                f"cut short: line {line} announces {atoms} atoms, {max(0, len(rows) - 1)} follow"
            )
        if len(rows[0]) > MAX_LINE:
            raise Unreadable(f"line {line + 1}: has more than {MAX_LINE} characters")
        yield line, comment, atoms
        line += atoms + 2


def _lines(text: str, at: int, count: int) -> tuple[list[str], int]:
    """At most `count` lines from a position, and the position behind them.

    A list of all lines, or one that is very long, would be large.
    """
    rows: list[str] = []
    while len(rows) < count and at < len(text):
        end = text.find("\n", at)
        end = len(text) if end < 0 else end
        rows.append(text[at : min(end, at + MAX_LINE + 1)])
        at = end + 1
    return rows, at


def _frame(rows: list[str], line: int, info: dict[str, Any]) -> Structure:
    """One frame; `rows` begins with its comment, which is `line` of the file.

    What the comment says goes into `info`.
    """
    from ase.data import chemical_symbols
    from ase.io.extxyz import key_val_str_to_dict
    from pymatgen.core import Structure

    said = _said(rows[0], line)
    lattice = _lattice(said.get("lattice"), said.get("pbc", "T"), line)
    for pair in PAIR.finditer(rows[0]):
        if pair[1] and pair[1].lower() not in KEYS:
            try:
                info.update(key_val_str_to_dict(pair[0]))
            except ValueError:  # a stress of six numbers, where ASE wants nine
                info[pair[1]] = pair[2]
    at, pos, width, by_number = _columns(said.get("properties"), line)
    names, positions = [], []
    for i, row in enumerate(rows[1:], line + 1):
        words = row.split()
        if width and len(words) != width:
            raise Unreadable(
                f"line {i}: {width} columns are announced by Properties, found {len(words)}:"
                f" {row.strip()[:40]!r}"
            )
        try:
            names.append(chemical_symbols[int(words[at])] if by_number else words[at])
            x, y, z = words[pos : pos + 3]
            positions.append([number(x), number(y), number(z)])
        except (IndexError, ValueError):
            raise Unreadable(
                f"line {i}: an element and its position expected, found {row.strip()[:40]!r}"
            ) from None
    return Structure(lattice, elements(names), positions, coords_are_cartesian=True)


def _said(comment: str, line: int) -> dict[str, str]:
    """Lattice, Properties and pbc of a comment, in whatever case their keys are.

    Two that differ are refused.
    """
    said: dict[str, str] = {}
    for key, value in PAIR.findall(comment):
        name = key.lower()
        bare = value[1:-1] if value[:1] in ("'", '"', "{", "[") and len(value) > 1 else value
        if name in KEYS and said.setdefault(name, bare).split() != bare.split():
            raise Unreadable(f"line {line}: says {key} twice and not the same; write it once")
    return said


def _lattice(text: str | None, periodic: str, line: int) -> np.ndarray:
    """The lattice rows of nine numbers, Å."""
    directions = re.split(r"[\s,]+", periodic.strip().strip("[]{}()").lower())
    if not all(word in ("t", "true", "1", "f", "false", "0") for word in directions) or len(
        directions
    ) not in (1, 3):
        raise Unreadable(f'line {line}: pbc must be "T T T", found {periodic[:40]!r}')
    if text is None or not all(word in ("t", "true", "1") for word in directions):
        raise Unreadable(
            f'line {line}: no lattice in all three directions; write the cell as Lattice="..." and'
            ' pbc="T T T"'
        )
    words = text.split()
    if len(words) != 9 or not all(re.fullmatch(NUMBER, word) for word in words):
        raise Unreadable(f"line {line}: Lattice must hold nine numbers, found {text[:60]!r}")
    return np.array([number(word) for word in words]).reshape(3, 3)


def _columns(properties: str | None, line: int) -> tuple[int, int, int, bool]:
    """The columns of element and position, their number, and whether elements are numbers.

    The number is 0 where nobody says it.
    """
    if properties is None:
        return 0, 1, 0, False
    parts = properties.strip().split(":")
    names = [name.strip().lower() for name in parts[::3]]
    widths = [int(word) if re.fullmatch("[1-9][0-9]{0,3}", word) else 0 for word in parts[2::3]]
    kinds = [kind.upper() for kind in parts[1::3]]
    columns = list(zip(names, kinds, widths, strict=False))
    species = [
        i
        for i, (name, kind, width) in enumerate(columns)
        if (SPECIES.get(name), 1) == (kind, width)
    ]
    by_number = not species
    if by_number:
        species = [
            i for i, column in enumerate(columns) if column[0] in NUMBERS and column[1:] == ("I", 1)
        ]
    places = [
        i for i, (name, kind, width) in enumerate(columns) if (name, kind, width) == ("pos", "R", 3)
    ]
    if (
        len(parts) % 3
        or not all(widths)
        or len(species) != 1
        or len(places) != 1
        or len(set(names)) < len(names)
    ):
        raise Unreadable(
            f"line {line}: Properties must name species:S:1 and pos:R:3 once each, found"
            f" {properties[:60]!r}"
        )
    return sum(widths[: species[0]]), sum(widths[: places[0]]), sum(widths), by_number
