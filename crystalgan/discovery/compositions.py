"""The compositions that a search looks at: all small ones, or one that is asked for."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

import numpy as np

from crystalgan.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crystalgan.discovery.system import Counts

SMALLNESS = 2.0  # the power of its atoms by which a formula is looked at less often
IONIC, HOSTED = 0.4, 0.4  # shares of formulas whose charges balance, and of hosts of hydrogen
MOST_OF_A_METAL, MOST_SHARED, MOST_PER_METAL = 5, 12, 4  # atoms of a formula; hydrogen by metal
SMALLEST, LARGEST = 3, 60  # atoms of a cell


def check_size(most_atoms: int) -> None:
    """InputError for cells that a search cannot have."""
    if not SMALLEST <= most_atoms <= LARGEST:
        raise InputError(
            f"Cells of at most {most_atoms} atoms were asked for; ask for {SMALLEST} to {LARGEST}."
        )


def small_compositions(most_atoms: int) -> dict[Counts, tuple[Counts, ...]]:
    """Formulas of at most 5 atoms of each metal and 12 of hydrogen, and the cells of each.

    There are at most 4 hydrogen atoms for each metal atom.

    >>> small_compositions(6)[1, 1, 1]
    ((1, 1, 1), (2, 2, 2))
    """
    metals = range(1, MOST_OF_A_METAL + 1)
    formulas = [
        (h, a, b)
        for a in metals
        for b in metals
        for h in range(1, min(MOST_SHARED, MOST_PER_METAL * (a + b)) + 1)
        if math.gcd(h, a, b) == 1 and h + a + b <= most_atoms
    ]
    return {formula: cells_of_formula(formula, most_atoms) for formula in formulas}


def cells_of_formula(formula: Counts, most_atoms: int) -> tuple[Counts, ...]:
    """The cells of a formula with at most so many atoms."""
    h, a, b = formula
    return tuple((k * h, k * a, k * b) for k in range(1, most_atoms // sum(formula) + 1))


def oxidation_states(symbol: str) -> tuple[int, ...]:
    """The positive oxidation states that an element has in the ICSD, or else any that it can have.

    >>> oxidation_states("Pd")
    (2, 4)
    """
    from pymatgen.core import Element

    element = Element(symbol)
    every = element.icsd_oxidation_states, element.oxidation_states
    return next((found for states in every if (found := tuple(n for n in states if n > 0))), ())


def balanced(formula: Counts, species: Sequence[str]) -> bool:
    """Whether the metals, each in one of its oxidation states, balance hydride ions.

    >>> balanced((6, 2, 1), ("H", "K", "Pt")), balanced((5, 2, 1), ("H", "K", "Pt"))
    (True, False)
    """
    h, a, b = formula
    of_a, of_b = (oxidation_states(metal) for metal in species[1:])
    return any(m * a + n * b == h for m in of_a for n in of_b)


def prior(formulas: Sequence[Counts], ionic: Sequence[bool], hosted: Sequence[bool]) -> np.ndarray:
    """The share of each formula in proposals that know of no energy yet `[formulas]`.

    Small ones come more often, and so do those whose charges balance (`ionic`) and those that a
    compound of the metals would make when it takes up hydrogen (`hosted`): of the 75 known
    ternaries 51 are `ionic`, of all small formulas one in eleven.
    """
    small = np.array([float(sum(formula)) ** -SMALLNESS for formula in formulas])
    out = np.zeros(len(small))
    for share, kind in ((IONIC, ionic), (HOSTED, hosted), (1 - IONIC - HOSTED, True)):
        weights = small * kind
        # a kind that none is of leaves its share to all
        out += share * (weights / weights.sum() if weights.any() else small / small.sum())
    return out


def one_composition(
    formula: str, species: Sequence[str], most_atoms: int
) -> dict[Counts, tuple[Counts, ...]]:
    """The formula that was asked for, reduced, and its cells.

    Raises InputError where it is none of all three elements, or too large.

    >>> one_composition("ZrNiH3", ("H", "Zr", "Ni"), 12)
    {(3, 1, 1): ((3, 1, 1), (6, 2, 2))}
    """
    from pymatgen.core import Composition

    example = f"{species[1]}{species[2]}{species[0]}3"
    try:
        composition = Composition(formula) if re.search(r"[A-Z]", formula) else None
    except ValueError:
        composition = None
    if composition is None or {e.symbol for e in composition.elements} != set(species):
        raise InputError(
            f"{formula!r} is no formula of {species[1]}, {species[2]} and {species[0]}; write one"
            f" like {example}."
        )
    numbers = [composition[symbol] for symbol in species]
    if any(n != round(n) for n in numbers):
        raise InputError(f"{formula!r} has broken numbers of atoms; write one like {example}.")
    divisor = math.gcd(*map(round, numbers))
    h, a, b = (round(n) // divisor for n in numbers)
    cells = cells_of_formula((h, a, b), most_atoms)
    if not cells:
        raise InputError(
            f"{formula} has {h + a + b} atoms, more than the {most_atoms} of the largest cell;"
            " allow more by `max_atoms`."
        )
    return {(h, a, b): cells}
