"""Stability of cells against the phases that compete with them: the convex hull of pymatgen."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def above_hull(formulas: Sequence[str], energies: Sequence[float]) -> list[float]:
    """Energy above the convex hull of these same phases, eV/atom, one for each; 0 is stable.

    `formulas` are those of whole cells, such as `Ti2H4`, and `energies` theirs in eV. The pure elements must be among them.
    """
    from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
    from pymatgen.core import Composition

    entries = [PDEntry(Composition(formula), energy) for formula, energy in zip(formulas, energies, strict=True)]
    diagram = PhaseDiagram(entries)
    return [float(diagram.get_e_above_hull(entry)) for entry in entries]
