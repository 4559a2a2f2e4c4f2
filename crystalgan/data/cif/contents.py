"""What a block of a CIF announces of its contents: formula, Z and density."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from crystalgan.data.cif.block import known, number_in
from crystalgan.data.elements import ISOTOPES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crystalgan.data.cif.block import Block
    from crystalgan.data.cif.unfold import Unfolded

DENSITY = "_exptl_crystal_density_diffrn"
DALTON = 1.66054  # of one dalton in Å³, in g/cm³


@dataclass(frozen=True)
class Announced:
    """What a block says of the contents of its cell: its formula by element, and Z."""

    text: str
    formula: dict[str, float]
    units: int | None
    density: float | None  # g/cm³

    @classmethod
    def of(cls, block: Block) -> Announced:
        """The formula, D and T as H, and Z; empty and None where they are missing or none."""
        text = next(iter(known(block, ["_chemical_formula_sum"])), "")
        units = next(iter(known(block, ["_cell_formula_units_z"])), "")
        density = number_in(block, DENSITY) if known(block, [DENSITY]) else None
        return cls(
            text[:40],
            _formula(text),
            int(units) if re.fullmatch("[1-9][0-9]{0,3}", units) else None,
            density,
        )

    def problem(self, cell: Unfolded, volume: float) -> str:
        """What speaks against a cell of this volume (Å³), in words."""
        return self._of_formula(cell) or self._of_density(cell, volume)

    def _of_density(self, cell: Unfolded, volume: float) -> str:
        from pymatgen.core import Composition

        if self.density is None or (self.formula and self.units):
            return ""
        density = Composition(Counter(cell.symbols)).weight * DALTON / volume
        if math.isclose(density, self.density, rel_tol=0.1):
            return ""
        return (
            f"comes to {density:.3g} g/cm³ where it says {self.density:.3g}; mend its space group"
            " and operations, or the density"
        )

    def _of_formula(self, cell: Unfolded) -> str:
        found = Counter("H" if symbol in ISOTOPES else symbol for symbol in cell.symbols)
        total, announced = sum(found.values()), sum(self.formula.values())
        if not announced and self.units and math.gcd(*found.values()) % self.units:
            return (
                f"comes to {_in_words(found)}, which are not Z {self.units} units; mend its Z, or"
                " its symmetry"
            )
        if not announced:
            return ""
        if any(
            abs(found[e] / total - self.formula.get(e, 0) / announced) > 0.01
            for e in {*found, *self.formula}
        ):
            return f"lists atoms of {_in_words(found)} where its formula is {self.text}"
        # pymatgen writes the whole cell as formula
        units = math.gcd(*(round(count) for count in self.formula.values()))
        if self.units is None or abs(self.units * announced - total) < 0.05:
            return ""
        if self.units == units and abs(announced - total) < 0.05:
            return ""
        wanted = {element: self.units * count for element, count in self.formula.items()}
        return (
            f"comes to {_in_words(found)} where its formula {self.text} and Z {self.units} announce"
            f" {_in_words(wanted)}; mend its Z, or its space group and operations"
        )

    def confirms(self, cell: Unfolded) -> bool:
        """Whether formula and Z are given and the atoms add up to them."""
        return bool(self.formula) and self.units is not None and not self._of_formula(cell)


def _formula(text: str) -> dict[str, float]:
    """How often each element is in a formula, D and T as H; empty where it is none."""
    from pymatgen.core import Composition

    words = [re.fullmatch(r"([A-Za-z]{1,2})(\d*\.?\d*)(?:\(\d+\))?", word) for word in text.split()]
    plain = " ".join(f"{word[1].capitalize()}{word[2]}" for word in words if word)
    try:  # a word for each element: then capitals leave no doubt
        found = Composition(
            plain if len(words) == len(plain.split()) else text[:200]
        ).get_el_amt_dict()
    except (TypeError, ValueError):
        return {}
    counts: Counter[str] = Counter()
    for symbol, amount in found.items():
        counts["H" if symbol in ISOTOPES else symbol] += amount
    return dict(counts) if all(math.isfinite(count) for count in counts.values()) else {}


def _in_words(counts: Mapping[str, float]) -> str:
    return " ".join(
        f"{symbol}{count:g}" if count != 1 else symbol for symbol, count in sorted(counts.items())
    )
