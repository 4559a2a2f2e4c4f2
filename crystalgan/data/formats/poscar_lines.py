"""The lines of VASP's files: words, numbers, positions, and what says Direct or Cartesian."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from crystalgan.data.files import Unreadable
from crystalgan.data.formats.source import MAX_CELLS, MAX_LINE, NUMBER, number

if TYPE_CHECKING:
    from crystalgan.data.formats.source import Source

MAX_LINES = 400_000  # of one file
# a vector or a position, whatever stands behind it
ROW = re.compile(rf"\s*{NUMBER}\s+{NUMBER}\s+{NUMBER}(?![^\s!#])")
FRAME = re.compile(r"\s*((direct|cartesian)\s+configuration|konfig)\s*=", re.IGNORECASE)
FIRST_LETTERS = ("d", "D", "c", "C", "k", "K")  # of a line that says Direct or Cartesian


class Lines(list[str]):
    """The lines of a file up to the last that is not blank.

    `modes` holds the rows that say Direct or Cartesian, in their order.
    """

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
            row
            for row, line in enumerate(self)
            if line.lstrip()[:1] in FIRST_LETTERS and kind_of(line)
        ]
        if len(self.modes) > MAX_CELLS:
            raise Unreadable(f"holds more than {MAX_CELLS} cells")

    def are_rows(self, row: int, count: int) -> bool:
        """Whether `count` vectors or positions stand here, a line each."""
        rows = range(row, row + count)
        return row + count <= len(self) and all(ROW.match(self[r]) for r in rows)


def words_of(line: str) -> list[str]:
    """The words of a line up to a comment."""
    return re.split("[!#]", line, maxsplit=1)[0].split()


def numbers_of(line: str, row: int, count: int = 3) -> list[float]:
    """The first numbers of a line that has them, Fortran's `1.0d0` among them."""
    words = words_of(line)[:count]
    numbers = [number(word) for word in words]
    for word, value in zip(words, numbers, strict=True):
        if not math.isfinite(value):
            raise Unreadable(f"line {row + 1}: {word[:20]} is not finite")
    return numbers


def is_number(word: str) -> bool:
    """Whether a word is a number."""
    return re.fullmatch(NUMBER, word) is not None


def quoted(line: str) -> str:
    """The end of a sentence that names a line: what was found there."""
    return f"found {line.strip()[:40]!r}"


def kind_of(line: str) -> str:
    """The kind of the positions below a line: `direct`, `cartesian`, or nothing certain."""
    found = re.match(r"\s*([A-Za-z]+)", line)
    word = found[1].lower() if found else ""
    if word == "d" or word.startswith("dir"):
        return "direct"
    if word == "konfig" and FRAME.match(line):  # of an old XDATCAR
        return "direct"
    return "cartesian" if word in ("c", "k") or word.startswith(("cart", "kart")) else ""
