"""POSCAR and CONTCAR of VASP 4, 5 and 6, several of them in one file, and XDATCAR.

What VASP would guess is refused here: a line that must say Direct or Cartesian and says neither, a
second number beside the scale, more positions than atoms. Velocities and what else VASP writes
behind the positions are no part of a cell.
"""

from __future__ import annotations

import itertools
import re
from bisect import bisect_left
from functools import partial
from typing import TYPE_CHECKING, Any

from crystalgan.data.files import Unreadable
from crystalgan.data.formats.poscar_cell import build_cell, read_head, read_kinds, read_mode
from crystalgan.data.formats.poscar_lines import (
    FRAME,
    ROW,
    Lines,
    is_number,
    kind_of,
    numbers_of,
    quoted,
    words_of,
)
from crystalgan.data.formats.source import refuse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pymatgen.core import Structure

    from crystalgan.data.formats.poscar_cell import Head
    from crystalgan.data.formats.source import Read, Source

    # row, the cell there, what is said of it
    Places = Iterator[tuple[int, Callable[[], Structure], dict[str, Any]]]

# lines above the one that says Direct or Cartesian; 8 where the symbols are not wrapped
MAX_HEAD = 12


def read_poscar(source: Source) -> Read:
    """The cells of a POSCAR, of several that were joined, or of an XDATCAR.

    A damaged cell is left out with its line.
    """
    places = _places(Lines(source))
    begin = list(itertools.islice(places, 2))
    for row, build, info in itertools.chain(begin, places):
        yield (f" line {row + 1}" if len(begin) > 1 else ""), build, info


def frames_of(source: Source) -> int:
    """How many frames an XDATCAR holds; `Unreadable` where there is none."""
    found = [build for _, build, _ in _places(Lines(source))]
    count = sum(build.func is build_cell for build in found if isinstance(build, partial))
    if not count:
        found[0]()
    return count


def _places(lines: Lines) -> Places:
    """Each cell of a file in its order; a damaged one has a function that says why."""
    row = 0
    while row < len(lines):
        begin = row
        try:
            head = read_head(lines, row)
        except Unreadable as error:
            yield begin, partial(refuse, str(error)), {}
            row = _next(lines, begin + 1)
            continue
        row, more, bare = head.end, True, _is_bare_xdatcar(lines, head)
        while more:
            info: dict[str, Any] = {}
            try:
                build, row = _frame(lines, head, row, bare, info)
                yield begin, build, info
            except Unreadable as error:
                yield begin, partial(refuse, str(error)), {}
                row = _next(lines, row + 1)
            begin = row
            more = row < len(lines) and (
                FRAME.match(lines[row]) is not None or (bare and not lines[row].strip())
            )


def _next(lines: Lines, row: int) -> int:
    """The first row from here on where a cell or a frame of an XDATCAR begins, or the end."""
    for mode in itertools.islice(lines.modes, bisect_left(lines.modes, row), None):
        rows = range(max(row, mode - MAX_HEAD), mode - 5)
        begin = next((r for r in rows if _begins(lines, r)), None)
        if begin is not None:
            return begin
        if FRAME.match(lines[mode]):
            return mode
    return len(lines)


def _begins(lines: Lines, row: int) -> bool:
    """Whether a POSCAR begins here and is whole up to the line that says Direct or Cartesian."""
    if row + 6 >= len(lines) or not re.match(r"\s*([A-Za-z]|\d+(?!\S))", lines[row + 5]):
        return False
    scale = words_of(lines[row + 1])
    if len(scale) not in (1, 3) or not all(map(is_number, scale)):
        return False
    if not lines.are_rows(row + 2, 3):
        return False
    mode = bisect_left(lines.modes, row + 6)
    if mode == len(lines.modes) or lines.modes[mode] > row + MAX_HEAD:
        return False
    try:
        read_mode(lines, read_kinds(lines, row).end)
    except Unreadable:
        return False
    return True


def _is_bare_xdatcar(lines: Lines, head: Head) -> bool:
    """Whether blank lines divide three frames or more, as in old versions.

    Of two frames the second may be velocities.
    """
    starts = [head.end + k * (head.atoms + 1) for k in range(3)]
    return all(
        row < len(lines) and not lines[row].strip() and lines.are_rows(row + 1, head.atoms)
        for row in starts
    )


def _frame(
    lines: Lines, head: Head, row: int, bare: bool, info: dict[str, Any]
) -> tuple[Callable[[], Structure], int]:
    """The cell with positions announced at this row, and the row where something else begins."""
    first, cartesian = (row + 1, False) if bare else read_mode(lines, row)
    end = first + head.atoms
    for r in range(first, min(end, len(lines))):
        if not ROW.match(lines[r]):
            raise Unreadable(f"line {r + 1}: a position expected, {quoted(lines[r])}")
    if end > len(lines):
        there = len(lines) - first
        raise Unreadable(
            f"cut short at line {len(lines)}: {head.atoms} atoms announced, {there} positions found"
        )
    divided = bare and end < len(lines) and not lines[end].strip()
    behind = end if divided else _behind(lines, end, head.atoms, info)
    return partial(build_cell, lines, head, first, cartesian, info), behind


def _behind(lines: Lines, row: int, atoms: int, info: dict[str, Any]) -> int:
    """The row where the next cell begins, behind the velocities that VASP writes.

    A remark names all else that was not read.
    """
    start = row
    has_lattice_velocities = row < len(lines) and re.match(
        r"\s*lattice vel", lines[row], re.IGNORECASE
    )
    if has_lattice_velocities and lines.are_rows(row + 2, 6):
        row += 8
    announced = (
        row < len(lines)
        and not FRAME.match(lines[row])
        and (not lines[row].strip() or kind_of(lines[row]))
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
    scaled = rest + 1 < stop and all(map(is_number, words_of(lines[rest + 1]) or ["?"]))
    if not rows[0] and (scaled or sum(rows) >= 3):  # a cell that is damaged
        return rest
    info.setdefault("remarks", []).append(
        f"the {stop - rest} lines from line {rest + 1} on, behind its positions, were not read"
        f" ({quoted(lines[rest])})"
    )
    return stop


def _behind_velocities(lines: Lines, row: int, atoms: int, info: dict[str, Any]) -> int:
    """The row behind one velocity for each atom and the state of VASP's thermostat.

    That is `row` itself where no velocities are there.
    """
    end = row + 1 + atoms
    if not lines.are_rows(row + 1, atoms) or (end < len(lines) and ROW.match(lines[end])):
        return row
    if any(any(numbers_of(lines[r], r)) for r in range(row + 1, end)):
        info.setdefault("remarks", []).append(
            f"its velocities (from line {row + 2} on) were not read"
        )
    numbers = [len(words_of(line)) for line in lines[end : end + 4]]
    if numbers[:3] == [0, 1, 1] and lines.are_rows(end + 4, 3 * atoms):
        return end + 4 + 3 * atoms
    return end
