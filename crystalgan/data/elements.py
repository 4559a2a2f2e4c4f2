"""Elements as files name them: `Pd`, `Pd2+`, `Pd1`, `Pd_pv`, `PD1`, and what is none.

A name that can mean two elements is decided by the other names of its list or by the formula, and
refused where both leave two.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

from crystalgan.data.files import Unreadable

if TYPE_CHECKING:
    from collections.abc import Sequence

ISOTOPES = ("D", "T")  # of hydrogen
# vacancies, water and dummies, whatever their first letter says
NO_ELEMENT = ("VA", "VAC", "WAT", "HOH", "DU", "XX")
MAX_NAME = 40  # characters
MAX_LETTERS = 3  # before the first number; more are a word
# what may stand behind the letters: numbers, charges, marks of a label
BEHIND = re.compile(r"[\w'\"*()\[\]#@^.+ -]*", re.ASCII)
# a decimal number that is no charge
SHARE = re.compile(r"(?<![\d.+-])(\d*\.\d+|\d+\.)(?![\d.]*[+-])")
BETWEEN = r"[,/|&:;+\s()\[\]{}-]+"  # what stands between the elements of a shared site


def element(name: str) -> str:
    """The element that a type symbol names; D and T stay what they are.

    Raises `Unreadable` for what is none or a shared site.

    >>> element("Pd2+"), element("NI")
    ('Pd', 'Ni')
    """
    return elements([name])[0]


def elements(names: Sequence[str], formula: str | None = None, labels: bool = False) -> list[str]:
    """The element of each of the type symbols of a cell, or of the labels of its sites (`labels`).

    Two capitals that are an element are it: `NI` is nickel. As the label of a site, though, `HF1`
    may also be the hydrogen at F; then `formula` decides, or the element H on its own beside it, as
    does the formula where a label goes on in letters (`Ha`, `OW`). `Unreadable` where two readings
    are left, and for what is no element, a shared or a partly filled site.
    """
    found = named(formula)
    different = dict.fromkeys(names)
    alone = {letters.upper() for name in different if len(letters := _letters(name)) == 1}
    meant = {name: _element(name, found, alone, labels) for name in different}
    return [meant[name] for name in names]


def named(formula: str | None) -> frozenset[str] | None:
    """The elements of a formula, D and T as H.

    None where it is missing, none, or in capitals that can be read in two ways.

    >>> sorted(named("Pd4 H2"))
    ['H', 'Pd']
    """
    words = re.findall("[A-Za-z]+", formula or "")
    symbols = [symbol for word in words for symbol in re.findall("[A-Z][a-z]*|[a-z]+", word)]
    shouted = not any(c.islower() for word in words for c in word) and any(
        len(word) > 1 for word in words
    )
    if not symbols or shouted or not all(symbol in _symbols() for symbol in symbols):
        return None
    return frozenset("H" if symbol in ISOTOPES else symbol for symbol in symbols)


def _element(name: str, formula: frozenset[str] | None, alone: set[str], label: bool) -> str:
    """The element of one name.

    `alone` holds the elements of one letter that the list names without another letter.
    """
    letters = _letters(name)
    shown = repr(name[:MAX_NAME])
    check_site(name)
    rest = name.strip()[len(letters) :]
    if (
        not letters
        or len(letters) > MAX_LETTERS
        or letters.upper() in NO_ELEMENT
        or not BEHIND.fullmatch(rest)
    ):
        raise Unreadable(f"holds {shown}, which is no element")
    if len(letters) == 1:
        symbol = letters.upper()
        # T1 of a silicate
        site = symbol in ISOTOPES and ("H" not in formula if formula else label and symbol == "T")
        if symbol in _symbols() and not site:
            return symbol
        raise Unreadable(f"holds {shown}, which is no element")
    certain, possible = _readings(letters)
    if formula is None:
        left = certain[:1] if len(certain) < 2 or not _doubtful(letters, alone, label) else certain
    elif certain:
        left = [symbol for symbol in certain if symbol in formula] if label else []
        left = left if len(left) == 2 and left[1] not in alone else left[:1] or certain[:1]
    else:
        left = [
            symbol for symbol, tail in possible.items() if symbol in formula and not tail & formula
        ]
    if len(left) == 1:
        return left[0]
    if not possible:
        raise Unreadable(f"holds {shown}, which is no element")
    both = (
        list(possible) if len(possible) > 1 else [*possible, *sorted(next(iter(possible.values())))]
    )
    if len(both) == 1:
        raise Unreadable(
            f"names an atom {shown}, which is no element; write {both[0]} if it is meant"
        )
    raise Unreadable(
        f"names an atom {shown}, which may be {' or '.join(both[:2])}; write the one that is meant"
    )


def _doubtful(letters: str, alone: set[str], label: bool) -> bool:
    """Whether two capitals that are an element may be the label of another.

    Such are `HO1` beside O, and `HF1` where no H is.
    """
    second = letters[1].upper()
    return label and (
        (second in alone and second not in ISOTOPES)
        or (letters[0].upper() == "H" and "H" not in alone)
    )


def _readings(letters: str) -> tuple[list[str], dict[str, frozenset[str]]]:
    """What two letters or more stand for.

    Elements of which nothing else speaks, the likely one first; and all with those elements that
    the other letters can spell.
    """
    shouted = letters.isupper() or letters.islower()
    letters = letters.upper() if shouted else letters
    two, one = letters[:2].capitalize(), letters[0]
    possible: dict[str, frozenset[str]] = {}
    if two in _symbols() and (shouted or letters[:2] == two):
        possible[two] = _spelt(letters[2:], shouted)
    marked = letters[0] == "H" and letters[2:].islower()  # `Hoc` may be the hydrogen in octahedra
    if one in _symbols() and one not in ISOTOPES and (shouted or marked or not possible):
        possible[one] = _spelt(letters[1:], shouted)
    if two in possible and not possible[two] and not marked:
        return list(possible), possible
    return [], possible


def _spelt(letters: str, shouted: bool) -> frozenset[str]:
    """The elements that letters can be spelt of, as `Ni` and `H` of `NiH`.

    None where something is left over.
    """
    flags = re.IGNORECASE if shouted else re.NOFLAG
    if not re.fullmatch(f"({_either()})+", letters, flags):
        return frozenset()
    return frozenset(symbol.capitalize() for symbol in re.findall(_either(), letters, flags))


def check_site(name: str) -> None:
    """Raise `Unreadable` for a site that several elements share, or that is filled in part."""
    shown = repr(name[:MAX_NAME])
    if len(name) > MAX_NAME:
        raise Unreadable(f"holds {shown}, which is no element")
    symbol = _either()
    parts = [re.match(rf"[\d.]*({symbol})(?![A-Za-z])", part) for part in re.split(BETWEEN, name)]
    found = [part[1] for part in parts if part]
    several = re.fullmatch(rf"\s*(({symbol})[\d.]*){{2,}}\s*", name)
    # `H1B` is a label
    apart = re.search(r"[a-z]|[\d.][A-Z]", name) and not re.fullmatch(
        r"\s*[A-Z][A-Za-z]?\d+[A-Z]\s*", name
    )
    # `Pd_Ni`, but not `Pd_pv` nor `H_T`
    behind = re.search(rf"_({symbol})(?<=[a-z])(?![a-z])", name)
    if (several and apart) or behind:
        found = re.findall(symbol, name)
    found = list(dict.fromkeys(found))
    if len(found) > 1:
        what = f"{', '.join(found[:-1])} and {found[-1]} ({shown})"
        raise Unreadable(
            f"has a site shared by {what}; make an ordered cell of it first, or name its one"
            " element"
        )
    if SHARE.search(name):
        raise Unreadable(
            f"has a partly filled site ({shown}); make an ordered cell of it first, or name its"
            " element alone"
        )


def _letters(name: str) -> str:
    found = re.match("[A-Za-z]*", name.strip())
    return found[0] if found else ""


@cache
def _symbols() -> frozenset[str]:
    """All elements, and the isotopes of hydrogen that have a letter."""
    from ase.data import chemical_symbols

    return frozenset((*chemical_symbols[1:], *ISOTOPES))


@cache
def _either() -> str:
    """A pattern of any of them, the longer ones first."""
    return "|".join(sorted(_symbols(), key=lambda symbol: (-len(symbol), symbol)))
