"""Rules for first-neighbour distances, and verdicts in words; no tensors."""

from __future__ import annotations

import tomllib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from crystalgan.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


@dataclass(frozen=True)
class Rule:
    """Limits of first-neighbour distances (Å) for pairs of elements named like "H-Pd".

    It asks about every shared atom and its nearest of the same element, every metal atom and its
    nearest metal, and every shared atom and its nearest metal; a pair without limits may have any
    distance.

    >>> Rule("own", {"H-H": (1.8, 3.0)}).limits["H-H"]
    (1.8, 3.0)
    """

    name: str
    limits: dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Broken:
    """One first-neighbour distance outside its limits; atoms are numbered from 0."""

    pair: str
    atom: int  # in the order of the decoded structure
    other: int
    distance: float  # Å
    limit: float  # Å, the one that is broken


@dataclass(frozen=True)
class Verdict:
    """Whether one cell satisfies a rule, and which distances break it."""

    rule: str
    passed: bool
    broken: tuple[Broken, ...]
    shortest: dict[str, float]  # pair -> shortest first-neighbour distance, Å

    def __str__(self) -> str:
        if self.passed:
            return f"keeps the rule {self.rule}"
        parts = Counter(
            f"{b.pair} {b.distance:.2f} Å {'<' if b.distance < b.limit else '>'} {b.limit:.2f} Å"
            for b in self.broken
        )
        words = "; ".join(
            text if times == 1 else f"{times} x {text}" for text, times in parts.items()
        )
        return f"breaks the rule {self.rule}: {words}"


def pair_name(a: str, b: str) -> str:
    """The name of a pair of elements, the same whichever comes first.

    >>> pair_name("Pd", "H")
    'H-Pd'
    """
    return f"{min(a, b)}-{max(a, b)}"


def paper_rule(metals: Iterable[str], shared: str = "H", d1: float = 1.8, d2: float = 3.0) -> Rule:
    """The rule of section IV.B: H-H, A-A, B-B and A-B first neighbours from d1 to d2 (Å).

    It asks nothing of A-H and B-H.

    >>> sorted(paper_rule(["Pd", "Ni"]).limits)
    ['H-H', 'Ni-Ni', 'Ni-Pd', 'Pd-Pd']
    """
    pairs = {pair_name(a, b) for a in metals for b in metals} | {pair_name(shared, shared)}
    return Rule("paper", dict.fromkeys(sorted(pairs), (d1, d2)))


def read_rule(path: Path) -> Rule:
    """A rule from a TOML file with `[limits]` and lines such as `"H-Pd" = [1.5, 2.2]` (Å).

    `inf` is no limit. InputError for a file that is none.

    >>> import tempfile; from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as place:
    ...     path = Path(place, "mine.toml")
    ...     _ = path.write_text('[limits]\\n"H-Pd" = [1.5, 2.2]')
    ...     read_rule(path).limits
    {'H-Pd': (1.5, 2.2)}
    """
    from pymatgen.core import Element

    try:
        table = tomllib.loads(path.read_text(encoding="utf-8")).get("limits")
    except OSError as error:
        raise InputError(
            f"{path}: this rule cannot be read ({error.strerror}); give paper, learned or a TOML"
            " file."
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a TOML file ({error}).") from None
    if not isinstance(table, dict) or not table:
        raise InputError(
            f'{path}: no [limits] table; write lines such as "H-H" = [1.8, 3.0] below a line'
            " [limits]."
        )
    limits = {}
    for pair, ends in table.items():
        elements = pair.split("-")
        if len(elements) != 2 or not all(Element.is_valid_symbol(e) for e in elements):
            raise InputError(f'{path}: {pair!r} is not a pair of elements; write it as "H-Pd".')
        numbers = (
            isinstance(ends, list)
            and len(ends) == 2
            and all(isinstance(x, (int, float)) for x in ends)
        )
        if not numbers or not 0 <= ends[0] < ends[1]:
            raise InputError(
                f"{path}: the limits of {pair} must be two distances in Å, the smaller first, not"
                f" {ends}."
            )
        limits[pair_name(*elements)] = (float(ends[0]), float(ends[1]))
    return Rule(path.stem, limits)
