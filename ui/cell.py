"""A cell in the 3D viewer, with what a chemist sets about the view. Cells themselves are never
changed here."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import streamlit as st

from crystalgan.crystal import describe, lattice
from crystalgan.plot.scene import AXIS_COLOURS, build_scene, legend
from ui import components

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from crystalgan.crystal.rules import Rule


@dataclass(frozen=True)
class View:
    """How cells are drawn."""

    size: tuple[int, int, int] = (1, 1, 1)
    images: bool = True
    polyhedra: bool = False
    # longest bonds that were set by hand, Å
    cutoffs: dict[str, float] = field(default_factory=dict)
    conventional: bool = False  # the conventional cell in place of the reduced one


def view_settings(structure: Structure, rule: Rule | None, key: str) -> View:
    """The popover that sets a view."""
    with st.popover(
        "View",
        icon=":material/tune:",
        help="Conventional cell, supercell, atoms on faces, polyhedra, longest bonds.",
    ):
        st.caption("For looking only: the page Export has a choice of its own.")
        conventional = st.toggle(
            "Conventional cell",
            key=f"{key}_conventional",
            help=(
                f"Of the symmetry found within {lattice.TOLERANCE} Å, atoms where they are, instead"
                " of the Niggli-reduced cell. Copies of one atom carry one name; a click on any"
                " shows the same neighbours. A triclinic cell stays as it is."
            ),
        )
        size = [
            column.number_input(
                f"along {axis}", 1, 3, key=f"{key}_{axis}", help="Cells drawn along this axis."
            )
            for axis, column in zip("abc", st.columns(3), strict=True)
        ]
        images = st.toggle("Atoms on opposite faces too", value=True, key=f"{key}_images")
        polyhedra = st.toggle(
            "Polyhedra around metals",
            key=f"{key}_polyhedra",
            help="Hulls of the bonded non-metal atoms.",
        )
        st.markdown("Longest bonds / Å")
        cutoffs = {}
        columns = st.columns(3)
        for i, (pair, value) in enumerate(bond_cutoffs(structure, rule).items()):
            cutoffs[pair] = columns[i % 3].number_input(
                pair,
                0.0,
                6.0,
                round(value, 2),
                0.05,
                key=f"{key}_{pair}",
                help="0 draws no bonds of this pair.",
            )
    return View(
        (int(size[0]), int(size[1]), int(size[2])), images, polyhedra, cutoffs, conventional
    )


def bond_cutoffs(structure: Structure, rule: Rule | None) -> dict[str, float]:
    """Longest bond of every pair: a rule's upper limit where it has one for a metal and a
    non-metal; 0 for other pairs."""
    from crystalgan.crystal.rules import pair_name

    symbols = sorted({site.specie.symbol for site in structure})
    bonded = describe.default_cutoffs(structure)
    out = {}
    for i, a in enumerate(symbols):
        for b in symbols[i:]:
            pair = pair_name(a, b)
            upper = rule.limits.get(pair, (0.0, math.inf))[1] if rule else math.inf
            out[pair] = (upper if math.isfinite(upper) else bonded[pair]) if pair in bonded else 0.0
    return out


def show(
    structure: Structure,
    identity: str,
    key: str,
    view: View | None = None,
    *,
    height: int = 400,
    name: str = "cell",
    lit: tuple[int, int, tuple[int, int, int]] | None = None,
    rule: Rule | None = None,
    label: str = "",
) -> int | None:
    """Draw a cell; returns the number of the atom clicked last, by the atoms of `structure` in a
    conventional cell too."""
    view = view or View()
    cutoffs = bond_cutoffs(structure, rule) | view.cutoffs
    drawn, numbers, notes = structure, None, []
    if view.conventional:
        chosen = lattice.conventional(structure)
        drawn, numbers, notes = chosen.structure, chosen.atoms, [in_words(chosen)]
        lit = chosen.pair(structure, lit) if lit else None
    if view.size != (1, 1, 1):
        notes.append(f"{'×'.join(map(str, view.size))} cells, view only")
    return components.viewer(
        build_scene(
            lattice.upright(drawn), cutoffs, view.size, view.images, view.polyhedra, lit, numbers
        ),
        legend(structure),
        AXIS_COLOURS,
        identity,
        name=name,
        key=key,
        note="; ".join(notes),
        label=label or f"Cell of {structure.composition.reduced_formula} in 3D",
        height=height,
    )


def in_words(chosen: lattice.Setting) -> str:
    """Which cell is drawn, its size and its edges."""
    if chosen.kind == "reduced":
        return "no conventional cell but the reduced one"
    a, b, c = chosen.structure.lattice.abc
    alpha, beta, gamma = chosen.structure.lattice.angles
    return (
        f"conventional cell, {chosen.symbol}, {len(chosen.structure)} atoms: "
        f"{a:.2f}, {b:.2f}, {c:.2f} Å; {alpha:.0f}°, {beta:.0f}°, {gamma:.0f}°"
    )
