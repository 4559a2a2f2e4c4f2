"""What all readers of a format share: the contents of a file, the limits of a cell, and numbers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from crystalgan.data.files import Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pymatgen.core import Structure

    # place in the file, cell, what else is said of it
    Read = Iterator[tuple[str, Callable[[], Structure], dict[str, Any]]]

MAX_ATOMS = 500  # of one cell
MAX_CELLS = 10_000  # of one file
MAX_LINE = 10_000  # characters
NUMBER = r"[+-]?(?:(?:\d+(?:\.\d*)?|\.\d+)(?:[edED][+-]?\d+)?|nan|inf|infinity|NaN|Inf|Infinity)"


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
            raise Unreadable(
                f"not a text file (byte {error.start} is no UTF-8); save it as UTF-8"
            ) from None


def check_atoms(count: int) -> None:
    """Refuse an announced number of atoms that no cell may have."""
    if not 0 < count <= MAX_ATOMS:
        raise Unreadable(f"announces {count} atoms; a cell may have from 1 to {MAX_ATOMS}")


def number(word: str) -> float:
    """A number as Python or Fortran writes it, infinite or not; ValueError where it is none.

    >>> number("-1.5d0")
    -1.5
    """
    if not re.fullmatch(NUMBER, word):
        raise ValueError(word)
    return float(word.lower().replace("d", "e"))


def refuse(reason: str) -> NoReturn:
    """Raise `Unreadable`; a place that holds no cell has this as its function."""
    raise Unreadable(reason)
