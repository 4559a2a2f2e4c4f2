"""Stability of cells against the phases that compete with them: the convex hull of pymatgen, all
energies from one potential."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from crystalgan.data.known import builtin_binaries, builtin_elements, read_known
from crystalgan.errors import InputError
from crystalgan.runs.database import structure_of
from crystalgan.stability.relaxations import potentials_of, relaxed_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import pandas as pd
    from pymatgen.analysis.phase_diagram import PhaseDiagram
    from pymatgen.core import Structure

    from crystalgan.runs.folder import Run

AGREE = 0.05  # eV/atom; how far apart the formation energies of potentials that agree may be
ON_HULL = 1e-4  # eV/atom; what is closer than this lies on it


@dataclass(frozen=True)
class Phase:
    """What competes: its name, the formula of its whole cell, its energy (eV per cell), the
    candidate that it is or 0."""

    name: str
    formula: str
    energy: float
    candidate: int = 0


def above_hull(formulas: Sequence[str], energies: Sequence[float]) -> list[float]:
    """Energy above the convex hull of these same phases, eV/atom, one for each; 0 is stable.

    `formulas` are those of whole cells, such as `Ti2H4`, and `energies` theirs in eV. The pure
    elements must be among them.
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


def diagram_of(phases: Sequence[Phase]) -> PhaseDiagram:
    """pymatgen's phase diagram; each entry carries the name of its phase and, as `attribute`, the
    candidate."""
    from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
    from pymatgen.core import Composition

    return PhaseDiagram(
        [
            PDEntry(Composition(p.formula), p.energy, name=p.name, attribute=p.candidate)
            for p in phases
        ]
    )


@cache
def _builtin(species: tuple[str, ...]) -> list[tuple[str, Structure, dict[str, Any]]]:
    """Name, structure and what is known of each built-in element and binary of these elements (the
    shared one first)."""
    elements = builtin_elements()
    if missing := [symbol for symbol in species if symbol not in elements]:
        raise InputError(
            f"There is no built-in phase of {', '.join(missing)}: no energy above the hull can be"
            " said."
        )
    named = [(f"{s} {elements[s].info['prototype']}", elements[s]) for s in species]
    for c in builtin_binaries(species):
        named += [(f"{c.metal}-{c.shared} {cell.info['prototype']}", cell) for cell in c.entries]
    return [(name, cell.structure, cell.info) for name, cell in named]


def builtin_phases(species: tuple[str, ...]) -> list[Phase]:
    """The built-in elements and binaries of these elements, with the energies of the potential that
    they were made with."""
    known = _builtin(species)
    return [
        Phase(name, s.formula.replace(" ", ""), info["energy_per_atom"] * len(s))
        for name, s, info in known
    ]


def reference_structures(
    species: tuple[str, ...], potential: str, version: str
) -> dict[str, Structure]:
    """What competes in every run of these elements and has no energy of this potential yet, by
    name.

    These are the built-in elements and binaries, and compounds of the two metals
    (`build.compounds_of`), of which none is built in. InputError where there is no built-in cell of
    an element.
    """
    from crystalgan.data.prototypes import compounds_of

    known = {
        name: s
        for name, s, info in _builtin(species)
        if (info["potential"], info["version"]) != (potential, version)
    }
    return known | compounds_of(*species[1:])


def other_structures(
    species: tuple[str, ...], paths: Sequence[Path | str], left: Callable[[str], None] | None = None
) -> dict[str, Structure]:
    """The structures in a user's files that hold no other elements, by file; InputError for a file
    without any.

    `left` is told, in a sentence each, what of the files was left out.
    """
    system = "-".join(species)
    out: dict[str, Structure] = {}
    for path in paths:
        file = read_known(
            path, lambda structure: set(structure.symbol_set) <= set(species), "phases"
        )
        file.check("phase that competes", f"of {system} alone")
        out |= {
            f"{file.place(c.where)} {short(c.structure.formula)}": c.structure for c in file.cells
        }
        for words in file.not_used(f"hold other elements than {system}") if left else ():
            left(words)
    return out


def phases_of(run: Run, potential: str) -> list[Phase]:
    """All that a potential gave an energy for: elements, binaries, a user's phases, and the run's
    converged candidates.

    InputError where nothing was relaxed with this potential, or elements and binaries were not.
    """
    rows = [row for row in relaxed_rows(run, potential) if row.state != "failed"]
    if not rows:
        raise InputError(
            f"{run.folder}: nothing is relaxed with {potential} yet; run `crystalgan relax"
            f" {run.folder}` first."
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
    known = _builtin(run.species)
    named = {phase.name for phase in own}
    builtin = [
        Phase(name, s.formula.replace(" ", ""), info["energy_per_atom"] * len(s))
        for name, s, info in known
        if (info["potential"], info["version"]) == (potential, version) and name not in named
    ]
    phases = builtin + own
    if missing := [
        name for name, *_ in known[: len(run.species)] if name not in {p.name for p in phases}
    ]:
        raise InputError(
            f"The phases {', '.join(missing)} are not relaxed with {potential} {version}; run"
            f" `crystalgan relax {run.folder} --references` with this potential for energies above"
            " the hull."
        )
    return phases


def lacks_compounds(diagram: PhaseDiagram, species: tuple[str, ...]) -> str:
    """A sentence where no compound of the two metals is among what competes, or nothing."""
    metals = set(species[1:])
    if any(
        {element.symbol for element in entry.composition} == metals for entry in diagram.all_entries
    ):
        return ""
    return (
        f"No compound of {' with '.join(species[1:])} is among what competes: a cell may look more"
        " stable than it is."
    )


def products(diagram: PhaseDiagram, formula: str) -> list[tuple[str, float]]:
    """What a composition decomposes into on the hull: reduced formulas, and how many of each for
    one `formula`."""
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


def short(formula: str) -> str:
    """The reduced formula, metals first: `PdNiH2`; a gas by its molecule, `H2`."""
    from ase.formula import Formula
    from pymatgen.core import Composition

    composition = Composition(formula)
    if len(composition) == 1:
        return str(composition.reduced_formula)
    return str(Formula(composition.formula.replace(" ", "")).reduce()[0].format("metal"))


def in_words(parts: Sequence[tuple[str, float]]) -> str:
    """Products as a chemist writes them: `0.5 Pd2H + Ni`."""
    return " + ".join(
        name if abs(amount - 1) < 5e-3 else f"{amount:.3g} {name}" for name, amount in parts
    )


def stability_of(run: Run, potential: str) -> tuple[PhaseDiagram | None, pd.DataFrame, str]:
    """The phase diagram of a run in a potential, `table_of` its relaxed candidates, and what
    hinders a diagram, in words."""
    try:
        diagram, problem = diagram_of(phases_of(run, potential)), ""
    except InputError as error:
        diagram, problem = None, str(error)
    return diagram, with_trust(run, potential, table_of(run, potential, diagram)), problem


def with_trust(run: Run, potential: str, table: pd.DataFrame) -> pd.DataFrame:
    """`table_of` a potential with what others say of the same candidates, where they have converged
    in two.

    Columns `apart`: how far the formation energies of any other potential lie from this one's at
    most, eV/atom; `same_cell`: whether all of them end in the same structure (StructureMatcher).
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
    """Whether potentials whose formation energies are so far apart (eV/atom) agree on a
    candidate."""
    return same_cell and apart <= AGREE


def trust_in_words(apart: float, same_cell: bool) -> str:
    """What potentials that agree, or do not, say of a candidate."""
    verdict, cells = (
        "agree" if agree(apart, same_cell) else "do not agree",
        ("the same cell" if same_cell else "different cells"),
    )
    return (
        f"The potentials {verdict}: formation energies {1000 * apart:.0f} meV/atom apart, relaxed"
        f" to {cells}"
    )


def table_of(run: Run, potential: str, diagram: PhaseDiagram | None) -> pd.DataFrame:
    """One row for each relaxed candidate, the lowest above the hull first: energies in eV/atom,
    changes, storage.

    Without a diagram (`phases_of` says why there is none) what needs one is missing.
    """
    import pandas as pd
    from pymatgen.analysis.phase_diagram import PDEntry
    from pymatgen.core import Composition

    from crystalgan.stability.hydrogen import release_all, weight_percent

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
