"""A cell in the 3D viewer, with what a chemist sets about the view. Cells themselves are never changed here."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import streamlit as st

from crystalgan import describe
from crystalgan.scene import AXIS_COLOURS, build_scene, legend
from ui import components

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from crystalgan.rules import Rule


@dataclass(frozen=True)
class View:
    """How cells are drawn."""

    size: tuple[int, int, int] = (1, 1, 1)
    images: bool = True
    polyhedra: bool = False
    cutoffs: dict[str, float] = field(default_factory=dict)  # longest bonds that were set by hand, Å


def view_settings(structure: Structure, rule: Rule | None, key: str) -> View:
    """The popover that sets a view."""
    with st.popover("View", icon=":material/tune:", help="Supercell, atoms on faces, polyhedra, longest bonds."):
        st.caption("For looking only: what is exported stays the cell itself.")
        size = [
            column.number_input(f"along {axis}", 1, 3, key=f"{key}_{axis}", help="Cells drawn along this axis.")
            for axis, column in zip("abc", st.columns(3), strict=True)
        ]
        images = st.toggle("Atoms on opposite faces too", value=True, key=f"{key}_images")
        polyhedra = st.toggle("Polyhedra around metals", key=f"{key}_polyhedra", help="Hulls of the bonded non-metal atoms.")
        st.markdown("Longest bonds / Å")
        cutoffs = {}
        columns = st.columns(3)
        for i, (pair, value) in enumerate(bond_cutoffs(structure, rule).items()):
            cutoffs[pair] = columns[i % 3].number_input(
                pair, 0.0, 6.0, round(value, 2), 0.05, key=f"{key}_{pair}", help="0 draws no bonds of this pair."
            )
    return View((int(size[0]), int(size[1]), int(size[2])), images, polyhedra, cutoffs)


def bond_cutoffs(structure: Structure, rule: Rule | None) -> dict[str, float]:
    """Longest bond of every pair: a rule's upper limit where it has one for a metal and a non-metal; 0 for other pairs."""
    from crystalgan.rules import pair_name

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
    """Draw a cell; returns the number of the atom clicked last."""
    view = view or View()
    cutoffs = bond_cutoffs(structure, rule) | view.cutoffs
    size = "×".join(map(str, view.size))
    return components.viewer(
        build_scene(structure, cutoffs, view.size, view.images, view.polyhedra, lit),
        legend(structure),
        AXIS_COLOURS,
        identity,
        name=name,
        key=key,
        note="" if view.size == (1, 1, 1) else f"{size} cells, view only",
        label=label or f"Cell of {structure.composition.reduced_formula} in 3D",
        height=height,
    )
