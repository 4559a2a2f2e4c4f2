"""Tables of relaxed candidates: energy above the hull, decomposition, stored hydrogen, and whether
potentials agree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crystalgan.errors import InputError
from crystalgan.runs.database import structure_of
from crystalgan.stability import references
from crystalgan.stability.hull import Phase, diagram_of, in_words, products, short
from crystalgan.stability.hydrogen import release_all, weight_percent
from crystalgan.stability.relaxations import potentials_of, relaxed_rows

if TYPE_CHECKING:
    import pandas as pd
    from pymatgen.analysis.phase_diagram import PhaseDiagram

    from crystalgan.runs.folder import Run

AGREE = 0.05  # eV/atom; how far apart the formation energies of potentials that agree may be


def phases_of(run: Run, potential: str) -> list[Phase]:
    """Return all that a potential gave an energy for.

    These are elements, binaries, known ternaries (unless the run leaves them out), compounds, a
    user's phases and the run's converged candidates.
    `potential` is the name that relaxed cells carry. Raises InputError where nothing was relaxed
    with this potential, or the elements were not.
    """
    rows = [row for row in relaxed_rows(run, potential) if row.state != "failed"]
    if not rows:
        raise InputError(
            f"{run.folder}: nothing is relaxed with {potential} yet; relax its candidates first."
        )
    version = rows[-1].version
    # Energies of two versions are those of two potentials, and one that is still falling says
    # nothing of what competes.
    rows = [row for row in rows if row.version == version and row.state == "converged"]
    own = [
        Phase(
            r.phase or f"candidate {r.candidate}",
            r.formula,
            r.energy_per_atom * r.natoms,
            r.candidate,
        )
        for r in rows
    ]
    builtin = references.builtin_references(run.species, run.config.known_ternaries)
    named = {phase.name for phase in own}
    known = [
        one.phase
        for one in builtin
        if (one.potential, one.version) == (potential, version) and one.name not in named
    ]
    phases = known + own
    elements = [one.name for one in builtin[: len(run.species)]]
    if missing := [name for name in elements if name not in {phase.name for phase in phases}]:
        raise InputError(
            f"{run.folder}: the phases {', '.join(missing)} are not relaxed with {potential}"
            f" {version}; for energies above the hull relax with this potential and `references`."
        )
    return phases


def stability_of(run: Run, potential: str) -> tuple[PhaseDiagram | None, pd.DataFrame, str]:
    """Return the phase diagram of a run in a potential, its table, and what hinders a diagram.

    The table is that of `with_trust`. The last is a sentence, empty where there is a diagram.
    """
    try:
        diagram, problem = diagram_of(phases_of(run, potential)), ""
    except InputError as error:
        diagram, problem = None, str(error)
    return diagram, with_trust(run, potential, table_of(run, potential, diagram)), problem


def with_trust(run: Run, potential: str, table: pd.DataFrame) -> pd.DataFrame:
    """Return `table_of` a potential with what other potentials say of the same candidates.

    Where candidates have converged in two potentials, columns are added: `apart`, the largest
    difference of the formation energy in any other potential from this one's (eV/atom), and
    `same_cell`, whether all relaxed to the same structure (StructureMatcher).
    """
    from pymatgen.analysis.structure_matcher import StructureMatcher

    if "formation_energy" not in table:
        return table
    here = dict(zip(table["id"], table["formation_energy"], strict=True))
    cells = {
        row.candidate: structure_of(row)
        for row in relaxed_rows(run, potential)
        if row.state == "converged"
    }
    apart: dict[int, float] = {}
    same: dict[int, bool] = {}
    for other in potentials_of(run):
        if other == potential:
            continue
        try:
            found = table_of(run, other, diagram_of(phases_of(run, other)))
        except InputError:  # without elements and binaries in it there is nothing to compare
            continue
        there = dict(zip(found["id"], found["formation_energy"], strict=True))
        for row in relaxed_rows(run, other):
            i = row.candidate
            if i in cells and i in there and row.state == "converged":
                apart[i] = max(apart.get(i, 0.0), abs(there[i] - here[i]))
                same[i] = same.get(i, True) and StructureMatcher().fit(cells[i], structure_of(row))
    return (
        table.assign(apart=table["id"].map(apart), same_cell=table["id"].map(same))
        if apart
        else table
    )


def agree(apart: float, same_cell: bool) -> bool:
    """Whether potentials agree whose formation energies are so far `apart`, eV/atom.

    >>> agree(0.02, same_cell=True), agree(0.02, same_cell=False)
    (True, False)
    """
    return same_cell and apart <= AGREE


def trust_in_words(apart: float, same_cell: bool) -> str:
    """Return in words whether potentials agree on a candidate.

    >>> trust_in_words(0.2, same_cell=True).partition(":")[0]
    'The potentials do not agree'
    """
    verdict, cells = (
        "agree" if agree(apart, same_cell) else "do not agree",
        ("the same cell" if same_cell else "different cells"),
    )
    return (
        f"The potentials {verdict}: formation energies {1000 * apart:.0f} meV/atom apart, relaxed"
        f" to {cells}"
    )


def table_of(run: Run, potential: str, diagram: PhaseDiagram | None) -> pd.DataFrame:
    """Return one row for each relaxed candidate, the lowest above the hull first.

    Columns: `id`, `formula` (reduced), `atoms`, `potential`, `version`, `settings`, `state`
    (converged, unfinished or failed, with its `reason`), `steps`, `force` (largest left, eV/Å),
    `energy_per_atom` (eV), `volume_change` (%), `displacement` (largest, Å), `spacegroup` and
    `spacegroup_symbol`, `weight_percent` (of the shared element). With a diagram also
    `formation_energy` and `above_hull` (eV/atom), `products` (in words), and `enthalpy` (of the
    release of all hydrogen, kJ/mol H2); without one (`phases_of` says why) these are missing.
    """
    import pandas as pd
    from pymatgen.analysis.phase_diagram import PDEntry
    from pymatgen.core import Composition

    rows = []
    for row in relaxed_rows(run, potential):
        if not row.candidate:
            continue
        reduced = short(row.formula)
        line: dict[str, Any] = {
            "id": row.candidate,
            "formula": reduced,
            "atoms": row.natoms,
        } | row.key_value_pairs
        line["reason"] = row.data["reason"]
        if diagram:
            line |= dict.fromkeys(("formation_energy", "above_hull", "products", "enthalpy"))
        if row.state != "failed" and diagram:
            energy = row.energy_per_atom * row.natoms
            entry = PDEntry(Composition(row.formula), energy)
            line["formation_energy"] = float(diagram.get_form_energy_per_atom(entry))
            line["above_hull"] = float(diagram.get_e_above_hull(entry, allow_negative=True))
            line["products"] = in_words(products(diagram, reduced))
            release = release_all(diagram, row.formula, energy, run.species[0])
            line["enthalpy"] = release.enthalpy if release else None
        line["weight_percent"] = weight_percent(row.formula, run.species[0])
        rows.append(line)
    table = pd.DataFrame(rows)
    return table.sort_values("above_hull", ignore_index=True) if "above_hull" in table else table
