"""One cell of a POSCAR: scale, lattice, symbols and counts at its head, then the positions."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from crystalgan.data.elements import ISOTOPES, element, elements
from crystalgan.data.files import Unreadable
from crystalgan.data.formats.poscar_lines import is_number, kind_of, numbers_of, quoted, words_of
from crystalgan.data.formats.source import MAX_ATOMS

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from crystalgan.data.formats.poscar_lines import Lines

COUNTS = re.compile(r"[0-9]{1,15}")
SYMBOL = re.compile(r"[A-Z][A-Za-z]?(?![A-Za-z])\S*")  # of a line of symbols that is wrapped
HASH = re.compile(r"(?<=\w)[/:][0-9a-f]{4,64}")  # VASP 6 puts one of the POTCAR behind each symbol


@dataclass(frozen=True)
class Kinds:
    """Symbols and numbers of atoms of a cell; no symbols where VASP 4 names none for certain."""

    symbols: list[str]
    counts: list[int]
    end: int  # the row behind them
    old: bool  # of VASP 4: the counts have no symbols above them


@dataclass(frozen=True)
class Head:
    """What stands above the positions: lattice rows (Å) and the scale `[3]` of Cartesian ones."""

    lattice: np.ndarray
    scale: np.ndarray
    kinds: Kinds

    @property
    def end(self) -> int:
        """The row behind the head."""
        return self.kinds.end

    @property
    def atoms(self) -> int:
        """The number of atoms that is announced."""
        return sum(self.kinds.counts)


def read_head(lines: Lines, row: int) -> Head:
    """The head of the POSCAR that begins at this row; `Unreadable` says which line is wrong."""
    for r, what in enumerate(("the scale", *["a lattice vector"] * 3), row + 1):
        if r >= len(lines):
            raise Unreadable(f"cut short at line {len(lines)}, inside the lattice")
        words = words_of(lines[r])
        if r == row + 1:
            right = len(words) in (1, 3)
        else:
            right = len(words) == 3 or (len(words) > 3 and not is_number(words[3]))
        if not right or not all(is_number(word) for word in words[:3]):
            raise Unreadable(f"line {r + 1}: {what} expected, {quoted(lines[r])}")
    lattice = np.array([numbers_of(lines[r], r) for r in range(row + 2, row + 5)])
    scale = _scale(numbers_of(lines[row + 1], row + 1), lattice, row + 1)
    return Head(lattice * scale, scale, read_kinds(lines, row))


def _scale(numbers: list[float], lattice: np.ndarray, row: int) -> np.ndarray:
    """Factors of the Cartesian components, `[3]`.

    The line holds one, three, or minus the volume of the cell in Å³.
    """
    if len(numbers) == 3:
        if min(numbers) <= 0:
            raise Unreadable(
                f"line {row + 1}: of three scales none may be {min(numbers):g}; a negative one"
                " stands alone"
            )
        return np.array(numbers)
    if numbers[0] >= 0:
        return np.full(3, numbers[0])
    volume = abs(np.linalg.det(lattice))
    if volume < 1e-12:
        raise Unreadable("has lattice vectors that lie in one plane")
    return np.full(3, (-numbers[0] / volume) ** (1 / 3))


def read_kinds(lines: Lines, row: int) -> Kinds:
    """Symbols and counts of the POSCAR that begins at this row."""
    names, at, old = _names(lines, row)
    counts, first = _counts(lines[at]), at
    while not old and 0 < len(counts) < len(names) and at + 1 < len(lines):
        more = _counts(lines[at + 1])
        if not more:
            break
        counts, at = counts + more, at + 1
    if not counts or (not old and len(counts) != len(names)):
        above = " ".join(names)[:40]
        raise Unreadable(
            f"line {first + 1}: one count for each of {above!r} expected, {quoted(lines[first])}"
        )
    if not 0 < sum(counts) <= MAX_ATOMS:
        raise Unreadable(
            f"line {first + 1}: announces {sum(counts)} atoms; a cell may have from 1 to"
            f" {MAX_ATOMS}"
        )
    try:
        symbols = elements([HASH.sub("", name) for name in names])
    except Unreadable as error:
        if not old:
            raise Unreadable(f"line {row + 6}: {error}") from None
        symbols = []
    if old and (symbols != names or len(names) != len(counts)):  # a comment of other words
        symbols = []
    return Kinds(symbols, counts, at + 1, old)


def _names(lines: Lines, row: int) -> tuple[list[str], int, bool]:
    """The words that name the elements, the row of the counts, and whether the file is VASP 4's."""
    cut = f"cut short at line {len(lines)}, before the positions"
    at = row + 5
    if at >= len(lines):
        raise Unreadable(cut)
    names = words_of(lines[at])
    if names and COUNTS.fullmatch(names[0]):
        return lines[row].split(), at, True
    for at in range(row + 6, len(lines)):
        wrapped = words_of(lines[at])
        if not wrapped or not all(SYMBOL.fullmatch(word) for word in wrapped):
            return names, at, False
        names += wrapped
    raise Unreadable(cut)


def _counts(line: str) -> list[int]:
    """The numbers of atoms on a line; none where it holds anything else but words behind them."""
    words = words_of(line)
    numbers = [int(word) for word in words if COUNTS.fullmatch(word)]
    rest = words[len(numbers) :]
    if any(COUNTS.fullmatch(word) for word in rest) or (rest and not rest[0][0].isalpha()):
        return []
    return numbers


def read_mode(lines: Lines, row: int) -> tuple[int, bool]:
    """The row of the first position, and whether they are Cartesian."""
    if row < len(lines) and lines[row].lstrip()[:1].lower() == "s":  # selective dynamics
        row += 1
    if row >= len(lines):
        raise Unreadable(f"cut short at line {len(lines)}, before the positions")
    kind = kind_of(lines[row])
    if not kind:
        raise Unreadable(
            f"line {row + 1}: Direct or Cartesian expected, {quoted(lines[row])}; "
            "write above the positions which of the two they are"
        )
    return row + 1, kind == "cartesian"


def build_cell(
    lines: Lines, head: Head, first: int, cartesian: bool, info: dict[str, Any]
) -> Structure:
    """The cell of a head and the positions from row `first` on."""
    from pymatgen.core import Structure

    rows = range(first, first + head.atoms)
    positions = np.array([numbers_of(lines[r], r) for r in rows])
    named = _named(lines, head, first)
    if head.kinds.old:
        info.setdefault("remarks", []).append(_source_of(named, head.kinds.symbols))
    return Structure(
        head.lattice,
        named,
        positions * head.scale if cartesian else positions,
        coords_are_cartesian=cartesian,
    )


def _named(lines: Lines, head: Head, first: int) -> list[str]:
    """The element of each atom, by the head of the file or the labels behind the positions."""
    rows = range(first, first + head.atoms)
    labels = [_label(lines[r]) for r in rows]
    kinds = zip(head.kinds.symbols, head.kinds.counts, strict=False)
    named = [symbol for symbol, count in kinds for _ in range(count)]
    if not named and not all(labels):
        raise Unreadable(
            f"line {head.end}: names no elements (the format of VASP 4); write their symbols above"
            " the counts"
        )
    for r, symbol, label in zip(rows, named or labels, labels, strict=True):
        if label and label != symbol and not {label, symbol} <= {"H", *ISOTOPES}:
            raise Unreadable(
                f"line {r + 1}: is labelled {label} where the head of the file says {symbol}"
            )
    return named or labels


def _source_of(named: list[str], symbols: list[str]) -> str:
    """The remark that says where a file of VASP 4 names its elements."""
    counts = ", ".join(f"{count} {symbol}" for symbol, count in Counter(named).items())
    where = "the first line says" if symbols else "the labels behind its positions say"
    return f"names no elements above its counts (the format of VASP 4); {where} {counts}"


def _label(line: str) -> str:
    """The element behind a position and its flags of selective dynamics; nothing without one."""
    words = words_of(line)[3:]
    flags = [re.fullmatch(r"\.?[TF](RUE|ALSE)?\.?", word, re.IGNORECASE) for word in words[:3]]
    if len(flags) == 3 and all(flags):
        words = words[3:]
    if not words or not re.fullmatch(r"[A-Z][a-z]?\d*", words[0]):
        return ""
    try:
        return element(words[0])
    except Unreadable:
        return ""
