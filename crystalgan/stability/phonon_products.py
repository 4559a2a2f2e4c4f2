"""Cells of the phases that a candidate leaves when all its hydrogen goes, for their phonons."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crystalgan.errors import InputError
from crystalgan.runs.database import structure_of
from crystalgan.stability.hull import diagram_of
from crystalgan.stability.references import builtin_references
from crystalgan.stability.relaxations import relaxed_rows
from crystalgan.stability.table import phases_of

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from crystalgan.runs.folder import Run


def product_structures(
    run: Run, potential: str, candidates: list[int]
) -> list[tuple[str, Structure]]:
    """Return name and cell of each phase that all hydrogen leaves of these relaxed candidates.

    None where nothing is known of what competes in this potential (`phases_of`).
    """
    from pymatgen.core import Composition

    try:
        diagram = diagram_of(phases_of(run, potential))
    except InputError:
        return []
    shared = run.species[0]
    rows = [row for row in relaxed_rows(run, potential) if row.state == "converged"]
    cells = {ref.name: ref.structure for ref in builtin_references(run.species)}
    cells |= {row.phase: structure_of(row) for row in rows if row.phase}
    wanted: dict[str, Structure] = {}
    for row in rows:
        if row.candidate not in candidates:
            continue
        metals = {e: n for e, n in Composition(row.formula).items() if e.symbol != shared}
        for entry in diagram.get_decomposition(Composition(metals)) if metals else ():
            if entry.name in cells:
                wanted[entry.name] = cells[entry.name]
    return list(wanted.items())
