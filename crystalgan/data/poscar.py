"""POSCAR and CONTCAR of VASP 4, 5 and 6, several of them in one file, and XDATCAR.

What VASP would guess is refused here: a line that must say Direct or Cartesian and says neither, a
second number beside the scale, more positions than atoms. Velocities and what else VASP writes
behind the positions are no part of a cell.
"""

from __future__ import annotations

import itertools
import math
import re
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from crystalgan.data.elements import ISOTOPES, element, elements
from crystalgan.data.files import Unreadable
from crystalgan.data.formats import MAX_ATOMS, MAX_CELLS, MAX_LINE, NUMBER, Source, number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pymatgen.core import Structure

    from crystalgan.data.formats import Read

    # row, the cell there, what is said of it
    Places = Iterator[tuple[int, Callable[[], Structure], dict[str, Any]]]

MAX_LINES = 400_000  # of one file
# lines above the one that says Direct or Cartesian; 8 where the symbols are not wrapped
MAX_HEAD = 12
# what begins as a vector or a position
ROW = re.compile(rf"\s*{NUMBER}\s+{NUMBER}\s+{NUMBER}(?![^\s!#])")
COUNTS = re.compile(r"[0-9]{1,15}")
# a word of the line of symbols, when that is wrapped
SYMBOL = re.compile(r"[A-Z][A-Za-z]?(?![A-Za-z])\S*")
HASH = re.compile(r"(?<=\w)[/:][0-9a-f]{4,64}")  # VASP 6 puts one of the POTCAR behind each symbol
KINDS = ("d", "D", "c", "C", "k", "K")  # with which the line begins that says Direct or Cartesian
FRAME = re.compile(r"\s*((direct|cartesian)\s+configuration|konfig)\s*=", re.IGNORECASE)


@dataclass(frozen=True)
class _Head:
    """What stands above the positions.

    Lattice rows in Å, the scale `[3]` of Cartesian components, and symbols: none in some of VASP 4.
    """

    lattice: np.ndarray
    scale: np.ndarray
    symbols: list[str]
    counts: list[int]
    end: int  # the row behind it
    old: bool  # of VASP 4: the counts have no symbols above them

    @property
    def atoms(self) -> int:
        return sum(self.counts)


def read_poscar(source: Source) -> Read:
    """The cells of a POSCAR, of several that were joined, or of an XDATCAR; a damaged one is left
    out with its line."""
    places = _places(_Lines(source))
    begin = list(itertools.islice(places, 2))
    for row, build, info in itertools.chain(begin, places):
        yield (f" line {row + 1}" if len(begin) > 1 else ""), build, info


def frames_of(source: Source) -> int:
    """How many frames an XDATCAR holds; `Unreadable` where there is none."""
    found = [build for _, build, _ in _places(_Lines(source))]
    count = sum(build.func is _cell for build in found if isinstance(build, partial))
    if not count:
        found[0]()
    return count


class _Lines(list[str]):
    """The lines of a file up to the last that is not blank, and the rows that say Direct or
    Cartesian, in their order."""

    def __init__(self, source: Source) -> None:
        text = source.text().rstrip()
        if not text:
            raise Unreadable("is empty")
        if text.count("\n") > MAX_LINES:
            raise Unreadable(f"has more than {MAX_LINES} lines")
        super().__init__(text.split("\n"))
        long = next((row for row, line in enumerate(self) if len(line) > MAX_LINE), None)
        if long is not None:
            raise Unreadable(f"line {long + 1}: has more than {MAX_LINE} characters")
        self.modes = [
            row for row, line in enumerate(self) if line.lstrip()[:1] in KINDS and _kind_of(line)
        ]
        if len(self.modes) > MAX_CELLS:
            raise Unreadable(f"holds more than {MAX_CELLS} cells")


def _places(lines: _Lines) -> Places:
    """Each cell of a file, one after the other; those that are none have a function that says
    why."""
    row = 0
    while row < len(lines):
        begin = row
        try:
            head = _head(lines, row)
        except Unreadable as error:
            yield begin, partial(_refuse, str(error)), {}
            row = _next(lines, begin + 1)
            continue
        row, more, bare = head.end, True, _is_bare_xdatcar(lines, head)
        while more:
            info: dict[str, Any] = {}
            try:
                build, row = _frame(lines, head, row, bare, info)
                yield begin, build, info
            except Unreadable as error:
                yield begin, partial(_refuse, str(error)), {}
                row = _next(lines, row + 1)
            begin = row
            more = row < len(lines) and (
                FRAME.match(lines[row]) is not None or (bare and not lines[row].strip())
            )


def _refuse(reason: str) -> NoReturn:
    raise Unreadable(reason)


def _next(lines: _Lines, row: int) -> int:
    """The first row from here on where a cell or a frame of an XDATCAR begins, or the end."""
    for mode in itertools.islice(lines.modes, bisect_left(lines.modes, row), None):
        begin = next(
            (r for r in range(max(row, mode - MAX_HEAD), mode - 5) if _begins(lines, r)), None
        )
        if begin is not None:
            return begin
        if FRAME.match(lines[mode]):
            return mode
    return len(lines)


def _begins(lines: _Lines, row: int) -> bool:
    """Whether a POSCAR begins here and is whole up to the line that says Direct or Cartesian."""
    if row + 6 >= len(lines) or not re.match(r"\s*([A-Za-z]|\d+(?!\S))", lines[row + 5]):
        return False
    scale = _words(lines[row + 1])
    if len(scale) not in (1, 3) or not all(map(_is_number, scale)):
        return False
    if not all(ROW.match(lines[r]) for r in range(row + 2, row + 5)):
        return False
    mode = bisect_left(lines.modes, row + 6)
    if mode == len(lines.modes) or lines.modes[mode] > row + MAX_HEAD:
        return False
    try:
        _mode(lines, _kinds(lines, row)[2])
    except Unreadable:
        return False
    return True


def _words(line: str) -> list[str]:
    """The words of a line up to a comment."""
    return re.split("[!#]", line, maxsplit=1)[0].split()


def _floats(line: str, row: int, count: int = 3) -> list[float]:
    """The first numbers of a line that has them, Fortran's `1.0d0` among them."""
    words = _words(line)[:count]
    numbers = [number(word) for word in words]
    for word, value in zip(words, numbers, strict=True):
        if not math.isfinite(value):
            raise Unreadable(f"line {row + 1}: {word[:20]} is not finite")
    return numbers


def _found(line: str) -> str:
    return f"found {line.strip()[:40]!r}"


def _head(lines: _Lines, row: int) -> _Head:
    """Scale, lattice, symbols and counts of the POSCAR that begins at this row; `Unreadable` says
    which line is wrong."""
    for r, what in enumerate(("the scale", *["a lattice vector"] * 3), row + 1):
        if r >= len(lines):
            raise Unreadable(f"cut short at line {len(lines)}, inside the lattice")
        words = _words(lines[r])
        right = (
            len(words) in (1, 3)
            if r == row + 1
            else len(words) == 3 or (len(words) > 3 and not _is_number(words[3]))
        )
        if not right or not all(_is_number(word) for word in words[:3]):
            raise Unreadable(f"line {r + 1}: {what} expected, {_found(lines[r])}")
    lattice = np.array([_floats(lines[r], r) for r in range(row + 2, row + 5)])
    scale = _scale(_floats(lines[row + 1], row + 1), lattice, row + 1)
    symbols, counts, end, old = _kinds(lines, row)
    return _Head(lattice * scale, scale, symbols, counts, end, old)


def _is_number(word: str) -> bool:
    return re.fullmatch(NUMBER, word) is not None


def _scale(numbers: list[float], lattice: np.ndarray, row: int) -> np.ndarray:
    """Factors of the Cartesian components, `[3]`, of a line that holds one, three, or minus the
    volume of the cell in Å³."""
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


def _kinds(lines: _Lines, row: int) -> tuple[list[str], list[int], int, bool]:
    """Symbols, counts and the row behind them; no symbols where VASP 4 names none that are
    certain."""
    at = row + 5
    if at >= len(lines):
        raise Unreadable(f"cut short at line {len(lines)}, before the positions")
    names, old = _words(lines[at]), False
    if names and COUNTS.fullmatch(names[0]):
        names, old = lines[row].split(), True
    else:
        at += 1
        # wrapped
        while (
            at < len(lines)
            and (more := _words(lines[at]))
            and all(SYMBOL.fullmatch(word) for word in more)
        ):
            names, at = names + more, at + 1
        if at >= len(lines):
            raise Unreadable(f"cut short at line {len(lines)}, before the positions")
    counts, first = _counts(lines[at]), at
    while (
        not old
        and counts
        and len(counts) < len(names)
        and at + 1 < len(lines)
        and (more_counts := _counts(lines[at + 1]))
    ):
        counts, at = counts + more_counts, at + 1
    if not counts or (not old and len(counts) != len(names)):
        above = " ".join(names)[:40]
        raise Unreadable(
            f"line {first + 1}: one count for each of {above!r} expected, {_found(lines[first])}"
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
    return symbols, counts, at + 1, old


def _counts(line: str) -> list[int]:
    """The numbers of atoms on a line; none where it holds anything else but words behind them."""
    words = _words(line)
    numbers = [int(word) for word in words if COUNTS.fullmatch(word)]
    rest = words[len(numbers) :]
    return (
        []
        if any(COUNTS.fullmatch(word) for word in rest) or (rest and not rest[0][0].isalpha())
        else numbers
    )


def _mode(lines: _Lines, row: int) -> tuple[int, bool]:
    """The row of the first position, and whether they are Cartesian."""
    if row < len(lines) and lines[row].lstrip()[:1].lower() == "s":  # selective dynamics
        row += 1
    if row >= len(lines):
        raise Unreadable(f"cut short at line {len(lines)}, before the positions")
    kind = _kind_of(lines[row])
    if not kind:
        raise Unreadable(
            f"line {row + 1}: Direct or Cartesian expected, {_found(lines[row])}; "
            "write above the positions which of the two they are"
        )
    return row + 1, kind == "cartesian"


def _kind_of(line: str) -> str:
    """What a line says that the numbers below are: "direct", "cartesian" or nothing that is
    certain."""
    found = re.match(r"\s*([A-Za-z]+)", line)
    word = found[1].lower() if found else ""
    if word == "d" or word.startswith("dir"):
        return "direct"
    if word == "konfig" and FRAME.match(line):  # of an old XDATCAR
        return "direct"
    return "cartesian" if word in ("c", "k") or word.startswith(("cart", "kart")) else ""


def _is_bare_xdatcar(lines: _Lines, head: _Head) -> bool:
    """Whether blank lines divide at least three frames, as in old versions: of two the second may
    be velocities."""
    starts = [head.end + k * (head.atoms + 1) for k in range(3)]
    return all(
        row < len(lines)
        and not lines[row].strip()
        and row + head.atoms < len(lines)
        and all(ROW.match(lines[r]) for r in range(row + 1, row + 1 + head.atoms))
        for row in starts
    )


def _frame(
    lines: _Lines, head: _Head, row: int, bare: bool, info: dict[str, Any]
) -> tuple[Callable[[], Structure], int]:
    """The cell whose positions are announced at this row, and the row where something else
    begins."""
    first, cartesian = (row + 1, False) if bare else _mode(lines, row)
    end = first + head.atoms
    for r in range(first, min(end, len(lines))):
        if not ROW.match(lines[r]):
            raise Unreadable(f"line {r + 1}: a position expected, {_found(lines[r])}")
    if end > len(lines):
        there = len(lines) - first
        raise Unreadable(
            f"cut short at line {len(lines)}: {head.atoms} atoms announced, {there} positions found"
        )
    divided = bare and end < len(lines) and not lines[end].strip()
    behind = end if divided else _behind(lines, end, head.atoms, info)
    return partial(_cell, lines, head, first, cartesian, info), behind


def _behind(lines: _Lines, row: int, atoms: int, info: dict[str, Any]) -> int:
    """The row where the next cell begins, behind the velocities that VASP writes; what else was not
    read is a remark."""
    start = row
    if (
        row < len(lines)
        and re.match(r"\s*lattice vel", lines[row], re.IGNORECASE)
        and _all_rows(lines, row + 2, 6)
    ):
        row += 8
    announced = (
        row < len(lines)
        and not FRAME.match(lines[row])
        and (not lines[row].strip() or _kind_of(lines[row]))
    )
    if announced and not _begins(lines, row):
        row = _behind_velocities(lines, row, atoms, info)
    rest = next((r for r in range(row, len(lines)) if lines[r].strip()), len(lines))
    if rest > row and _begins(lines, rest - 1):  # a blank comment
        return rest - 1
    if rest == len(lines) or _begins(lines, rest) or FRAME.match(lines[rest]):
        return rest
    if rest == start and ROW.match(lines[rest]):
        raise Unreadable(
            f"line {rest + 1}: more positions follow than the {atoms} atoms that are announced"
        )
    stop = _next(lines, rest)
    rows = [bool(ROW.match(line)) for line in lines[rest:stop]]
    scaled = rest + 1 < stop and all(map(_is_number, _words(lines[rest + 1]) or ["?"]))
    if not rows[0] and (scaled or sum(rows) >= 3):  # a cell that is damaged
        return rest
    info.setdefault("remarks", []).append(
        f"the {stop - rest} lines from line {rest + 1} on, behind its positions, were not read"
        f" ({_found(lines[rest])})"
    )
    return stop


def _behind_velocities(lines: _Lines, row: int, atoms: int, info: dict[str, Any]) -> int:
    """The row behind one velocity for each atom and the state of VASP's thermostat; `row` itself
    where none are there."""
    end = row + 1 + atoms
    if not _all_rows(lines, row + 1, atoms) or (end < len(lines) and ROW.match(lines[end])):
        return row
    if any(any(_floats(lines[r], r)) for r in range(row + 1, end)):
        info.setdefault("remarks", []).append(
            f"its velocities (from line {row + 2} on) were not read"
        )
    numbers = [len(_words(line)) for line in lines[end : end + 4]]
    if numbers[:3] == [0, 1, 1] and _all_rows(lines, end + 4, 3 * atoms):
        return end + 4 + 3 * atoms
    return end


def _all_rows(lines: _Lines, row: int, count: int) -> bool:
    return row + count <= len(lines) and all(ROW.match(lines[r]) for r in range(row, row + count))


def _cell(
    lines: _Lines, head: _Head, first: int, cartesian: bool, info: dict[str, Any]
) -> Structure:
    """The cell of a head and the positions from row `first` on."""
    from pymatgen.core import Structure

    rows = range(first, first + head.atoms)
    positions = np.array([_floats(lines[r], r) for r in rows])
    labels = [_label(lines[r]) for r in rows]
    named = [
        symbol
        for symbol, count in zip(head.symbols, head.counts, strict=False)
        for _ in range(count)
    ]
    if named:
        for r, symbol, label in zip(rows, named, labels, strict=True):
            if label and label != symbol and not {label, symbol} <= {"H", *ISOTOPES}:
                raise Unreadable(
                    f"line {r + 1}: is labelled {label} where the head of the file says {symbol}"
                )
    elif all(labels):
        named = [str(label) for label in labels]
    else:
        reason = "names no elements (the format of VASP 4); write their symbols above the counts"
        raise Unreadable(f"line {head.end}: {reason}")
    if head.old:
        info.setdefault("remarks", []).append(_taken(named, head.symbols))
    return Structure(
        head.lattice,
        named,
        positions * head.scale if cartesian else positions,
        coords_are_cartesian=cartesian,
    )


def _taken(named: list[str], symbols: list[str]) -> str:
    """Where the elements of a file come from that names none above its counts."""
    counts = ", ".join(f"{count} {symbol}" for symbol, count in Counter(named).items())
    where = "the first line says" if symbols else "the labels behind its positions say"
    return f"names no elements above its counts (the format of VASP 4); {where} {counts}"


def _label(line: str) -> str:
    """The element that is written behind a position, and any flags of selective dynamics; nothing
    where there is none."""
    words = _words(line)[3:]
    if len(words) >= 3 and all(
        re.fullmatch(r"\.?[TF](RUE|ALSE)?\.?", word, re.IGNORECASE) for word in words[:3]
    ):
        words = words[3:]
    if not words or not re.fullmatch(r"[A-Z][a-z]?\d*", words[0]):
        return ""
    try:
        return element(words[0])
    except Unreadable:
        return ""
