"""The 530 settings of the 230 space groups (spglib's table), found by the names in files.

A setting is a space group with its axes and origin, and so a list of operations. What a file says
of it (a Hermann-Mauguin symbol in short or full form, a Hall symbol, a number, a choice of origin
or axes) often leaves several; the metric of the cell and the atoms decide between those, see
`crystalgan.data.cif.symmetry`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING

import numpy as np

from crystalgan.data.files import Unreadable

if TYPE_CHECKING:
    from collections.abc import Sequence

SETTINGS = 530
AXES = ("", "ba-c", "cab", "-cba", "bca", "a-cb")  # orders of the axes of an orthorhombic cell
# Before 1992 a plane with two glides was named by one of them, which since then is `e`. In the
# order of `AXES`; International Tables A (1983), table 4.3.1.
OLD_SYMBOLS = {
    39: ("A b m 2", "B m a 2", "B 2 c m", "C 2 m b", "C m 2 a", "A c 2 m"),
    41: ("A b a 2", "B b a 2", "B 2 c b", "C 2 c b", "C c 2 a", "A c 2 a"),
    64: ("C m c a", "C c m b", "A b m a", "A c a m", "B b c m", "B m a b"),
    67: ("C m m a", "C m m b", "A b m m", "A c m m", "B m c m", "B m a m"),
    68: ("C c c a", "C c c b", "A b a a", "A c a a", "B b c b", "B b a b"),
}
CUBIC_WITH_BAR = (*range(200, 207), *range(221, 231))  # once written without it: F m 3 m
STRANGE_SPELLINGS = str.maketrans("−–‐₁₂₃₄₅₆", "---123456", "_~{}")
ICSD_CHOICES = {"S": "1", "Z": "2", "H": "H", "R": "R"}  # the ICSD's last letter: F d -3 m Z
CHOICE = re.compile(
    r"^(.*?)\s*(?::\s*(?:origin\s*)?([-\w]+)|\(?\s*origin\s*(?:choice)?\s*([12])\s*\)?)$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Setting:
    """A space group with a choice of axes and origin."""

    hall_number: int  # spglib's, from 1 to 530
    number: int  # of International Tables, from 1 to 230
    symbol: str  # such as "P 1 21/n 1"
    choice: str  # such as "b2", "2", "R" or "cab"
    hall: str
    schoenflies: str  # such as "Oh^5"

    @cached_property
    def operations(self) -> np.ndarray:
        """Rotations and translations, shape [m, 3, 4]."""
        import spglib

        found = spglib.get_symmetry_from_database(self.hall_number)
        assert found is not None
        return np.concatenate((found["rotations"], found["translations"][:, :, None]), axis=2)

    def __str__(self) -> str:
        chosen = self.choice[:1] in ("1", "2", "H", "R")
        return f"{self.symbol} :{self.choice}" if chosen else self.symbol


@cache
def settings() -> tuple[Setting, ...]:
    """All 530 in spglib's order.

    The first of a number is its standard setting, but for a second origin.

    >>> len(settings()), str(settings()[0])
    (530, 'P 1')
    """
    import spglib

    out = []
    for k in range(1, SETTINGS + 1):
        found = spglib.get_spacegroup_type(k)
        assert found is not None
        names = found.international.split("=")
        symbol = names[min(1, len(names) - 1)].strip().replace("_", "")
        out.append(
            Setting(k, found.number, symbol, found.choice, found.hall_symbol, found.schoenflies)
        )
    return tuple(out)


def find_settings(
    symbols: Sequence[str] = (),
    hall: str | None = None,
    number: str | None = None,
    code: str | None = None,
) -> tuple[Setting, ...]:
    """The settings that all names of a file mean together; none where it gives no name.

    `symbols` are Hermann-Mauguin symbols, `number` that of International Tables, `code` a choice of
    axes or origin as in `_space_group_IT_coordinate_system_code`. Raises Unreadable for a name that
    no table has, and for names that contradict each other.

    >>> [s.choice for s in find_settings(["P 21/n"], number="14")]
    ['b2', 'c2', 'a2']
    """
    meanings = [(symbol, _by_symbol(symbol)) for symbol in symbols]
    if hall is not None:
        meanings.append((hall, _by_hall(hall)))
    if number is not None:
        meanings.append((f"number {number}", _by_number(number)))
    if not meanings:
        return ()
    words = " and ".join(dict.fromkeys(name for name, _ in meanings))
    found = [s for s in meanings[0][1] if all(s in every for _, every in meanings[1:])]
    if not found:
        raise Unreadable(
            f"names its space group in ways that contradict each other: {words[:80]}; write one of"
            " them"
        )
    if code is not None:
        found = list(_chosen(code, found))
        if not found:
            raise Unreadable(
                f"gives {words[:80]} the coordinate system {code[:20]!r}, which that space group"
                " does not have"
            )
    return tuple(found)


def _key(symbol: str) -> str:
    """A symbol as it is compared: without blanks, subscripts and capitals."""
    plain = re.sub(r"\((\d)\)", r"\1", symbol.translate(STRANGE_SPELLINGS))
    return re.sub(r"\s", "", plain).casefold()


@cache
def _symbols() -> dict[str, tuple[Setting, ...]]:
    """All settings that a symbol may mean, by `_key`."""
    import spglib

    found: dict[str, list[Setting]] = defaultdict(list)
    for setting in settings():
        kind = spglib.get_spacegroup_type(setting.hall_number)
        assert kind is not None
        short = kind.international.split("=")
        names = {kind.international_full, *(short[1:] or short)}
        # the short symbol of a monoclinic group leaves its axis to the metric
        if 3 <= setting.number <= 15:
            names.add(" ".join(word for word in setting.symbol.split() if word != "1"))
        if setting.number in OLD_SYMBOLS:
            names.add(OLD_SYMBOLS[setting.number][AXES.index(setting.choice.lstrip("12"))])
        if setting.number in CUBIC_WITH_BAR:
            names |= {name.replace("-3", "3") for name in names}
        for key in {_key(name) for name in names}:
            found[key].append(setting)
    return {key: tuple(every) for key, every in found.items()}


def _by_symbol(symbol: str) -> tuple[Setting, ...]:
    """The settings that a Hermann-Mauguin symbol means.

    Its choice may stand behind a colon, or as the ICSD writes it.
    """
    if re.fullmatch("[0-9]+", symbol.strip()):
        return _by_number(symbol.strip())
    if known := _symbols().get(_key(symbol)):
        return known
    name, choice = symbol, ""
    if split := CHOICE.match(symbol.strip()):
        name, choice = split[1], split[2] or split[3]
    elif (letter := symbol.strip()[-1:].upper()) in ICSD_CHOICES:
        name, choice = symbol.strip()[:-1], ICSD_CHOICES[letter]
    known = _symbols().get(_key(name), ())
    found = _chosen(choice, known) if choice else ()
    if known and not found:
        raise Unreadable(
            f"names the space group {symbol[:40]!r}, whose choice {choice[:10]!r} no table has"
        )
    if not found:
        raise Unreadable(
            f"names the space group {symbol[:40]!r}, which no table has; write its symbol as in"
            " International Tables, or list its symmetry operations"
        )
    return found


def _by_hall(symbol: str) -> tuple[Setting, ...]:
    found = _halls().get(_hall_key(symbol))
    if not found:
        raise Unreadable(
            f"names the Hall symbol {symbol[:40]!r}, which is none of the 530; list its symmetry"
            " operations"
        )
    return found


def _hall_key(symbol: str) -> str:
    plain = symbol.replace("_", " ").translate(STRANGE_SPELLINGS).replace("''", '"')
    return " ".join(plain.split()).casefold()


@cache
def _halls() -> dict[str, tuple[Setting, ...]]:
    found: dict[str, list[Setting]] = defaultdict(list)
    for setting in settings():
        found[_hall_key(setting.hall)].append(setting)
    return {key: tuple(every) for key, every in found.items()}


def _by_number(number: str) -> tuple[Setting, ...]:
    wanted = int(number) if re.fullmatch("[0-9]{1,3}", number) else 0
    if not 1 <= wanted <= 230:
        raise Unreadable(f"names the space group number {number[:20]!r}; there are 1 to 230")
    return tuple(s for s in settings() if s.number == wanted)


def _chosen(choice: str, found: Sequence[Setting]) -> tuple[Setting, ...]:
    """The settings that a code such as `2`, `b1`, `R` or `cab` names, or those that it begins."""
    wanted = choice.casefold()
    wanted = wanted.replace("abc", "") if wanted.replace("abc", "") in ("", "1", "2") else wanted
    exact = tuple(s for s in found if s.choice.casefold() == wanted)
    begun = wanted in ("1", "2", "a", "b", "c")
    return exact or tuple(
        s for s in found if begun and s.choice.casefold().lstrip("-").startswith(wanted)
    )


def is_standard(setting: Setting) -> bool:
    """Whether a number alone means this setting.

    That is the first of its number, and its second origin or rhombohedral axes.
    """
    return setting.choice in ("2", "R") or setting is next(
        s for s in settings() if s.number == setting.number
    )


def misfit(operations: np.ndarray, lattice: np.ndarray) -> float:
    """The largest relative change that operations `[m, 3, 4]` make to the metric of a lattice.

    The lattice has rows in Å.

    A rotation W keeps the metric tensor G where W^T G W = G (International Tables A, section 5.2).
    """
    metric, rotations = lattice @ lattice.T, operations[:, :, :3]
    length = np.sqrt(np.diag(metric))
    changed = np.einsum("kia,ij,kjb->kab", rotations, metric, rotations) - metric
    return float(np.abs(changed / np.outer(length, length)).max())


def number_of(operations: np.ndarray, lattice: np.ndarray) -> int | None:
    """The number of the space group of these operations `[m, 3, 4]`, in whatever setting.

    None where they are of none.
    """
    import spglib

    rotations = operations[:, :, :3].astype(np.intc)
    translations = np.ascontiguousarray(operations[:, :, 3])
    found = spglib.get_spacegroup_type_from_symmetry(rotations, translations, lattice)
    return None if found is None else int(found.number)
