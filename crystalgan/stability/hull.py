"""Convex hull of phases with energies from one potential, by pymatgen: pure functions, no files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymatgen.analysis.phase_diagram import PhaseDiagram


@dataclass(frozen=True)
class Phase:
    """A phase that competes for the hull."""

    name: str
    formula: str  # of the whole cell
    energy: float  # eV per cell
    candidate: int = 0  # that it is, or 0


def diagram_of(phases: Sequence[Phase]) -> PhaseDiagram:
    """Return pymatgen's phase diagram of these phases.

    Each entry carries the name of its phase and, as `attribute`, the candidate that it is, or 0.

    >>> len(diagram_of([Phase("Ti fcc", "Ti", 0.0), Phase("gas", "H2", 0.0)]).stable_entries)
    2
    """
    from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
    from pymatgen.core import Composition

    return PhaseDiagram(
        [
            PDEntry(Composition(p.formula), p.energy, name=p.name, attribute=p.candidate)
            for p in phases
        ]
    )


def above_hull(formulas: Sequence[str], energies: Sequence[float]) -> list[float]:
    """Return the energy above the convex hull of these same phases, eV/atom, one for each.

    `formulas` are those of whole cells, such as `Ti2H4`, and `energies` theirs in eV. The pure
    elements must be among them. A phase at 0 is stable.

    >>> above_hull(["Ti", "H2", "Ti2H4", "TiH"], [0.0, 0.0, -3.0, -0.7])
    [0.0, 0.0, 0.0, 0.15]
    """
    from pymatgen.analysis.phase_diagram import PDEntry
    from pymatgen.core import Composition

    diagram = diagram_of(
        [
            Phase(formula, formula, energy)
            for formula, energy in zip(formulas, energies, strict=True)
        ]
    )
    entries = [
        PDEntry(Composition(formula), energy)
        for formula, energy in zip(formulas, energies, strict=True)
    ]
    return [float(diagram.get_e_above_hull(entry)) for entry in entries]


def products(diagram: PhaseDiagram, formula: str) -> list[tuple[str, float]]:
    """Return what a composition decomposes into on the hull: reduced formulas and their amounts.

    Amounts are those of one `formula`, the largest first.

    >>> elements = diagram_of([Phase("Pd fcc", "Pd", 0.0), Phase("gas", "H2", 0.0)])
    >>> products(elements, "PdH")
    [('Pd', 1.0), ('H2', 0.5)]
    """
    from pymatgen.core import Composition

    composition = Composition(formula)
    named = {
        short(entry.composition.formula): share
        for entry, share in diagram.get_decomposition(composition).items()
    }
    out = [
        (name, float(share * composition.num_atoms / Composition(name).num_atoms))
        for name, share in named.items()
    ]
    return sorted(out, key=lambda item: (-round(item[1], 6), item[0]))


def lacks_compounds(diagram: PhaseDiagram, species: tuple[str, ...]) -> str:
    """Warn, in a sentence, where no compound of the two metals competes; else empty.

    `species` begins with the shared element.

    >>> alone = diagram_of([Phase(symbol, symbol, 0.0) for symbol in ("H", "Pd", "Ni")])
    >>> lacks_compounds(alone, ("H", "Pd", "Ni")).partition(":")[0]
    'No compound of Pd with Ni is among what competes'
    """
    metals = set(species[1:])
    if any(
        {element.symbol for element in entry.composition} == metals for entry in diagram.all_entries
    ):
        return ""
    return (
        f"No compound of {' with '.join(species[1:])} is among what competes: a cell may look more"
        " stable than it is."
    )


def short(formula: str) -> str:
    """Return the reduced formula, metals first; a gas by its molecule.

    >>> short("H4Pd2Ni2"), short("H4")
    ('NiPdH2', 'H2')
    """
    from ase.formula import Formula
    from pymatgen.core import Composition

    composition = Composition(formula)
    if len(composition) == 1:
        return str(composition.reduced_formula)
    return str(Formula(composition.formula.replace(" ", "")).reduce()[0].format("metal"))


def in_words(parts: Sequence[tuple[str, float]]) -> str:
    """Return products as a chemist writes them.

    >>> in_words([("Pd2H", 0.5), ("Ni", 1.0)])
    '0.5 Pd2H + Ni'
    """
    return " + ".join(
        name if abs(amount - 1) < 5e-3 else f"{amount:.3g} {name}" for name, amount in parts
    )
