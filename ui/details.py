"""What Explore shows below a cell: its neighbours, distances against the parents, powder pattern,
symmetry, others beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from crystalgan.crystal import describe
from crystalgan.plot.classes import distance_figure, map_figure, pairs_of, pattern_figure
from ui import cached, cell, vet, work
from ui.clicks import clicked_point

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from crystalgan.crystal.rules import Rule
    from crystalgan.runs.folder import Run

PLAIN = {"displaylogo": False}
TOLERANCES = [0.001, 0.01, 0.03, 0.1, 0.2, 0.3, 0.4, 0.5]  # Å
# Background and text: told apart with any colour vision, and the word stands beside the colour.
VERDICT_STYLE = {
    "keeps": "background-color: #0072B226",
    "too short": "background-color: #D55E0055; font-weight: 600",
    "too long": "background-color: #E69F0055; font-weight: 600",
}
KINDS = {"all": "All", "XX": "{0}-{0}", "MM": "metal-metal", "MX": "metal-{0}"}


@dataclass(frozen=True)
class Drawn:
    """The cell to draw, what tells it from others, and the pair of atoms to light."""

    structure: Structure
    identity: str
    lit: tuple[int, int, tuple[int, int, int]] | None = None


def neighbour_rows(
    structure: Structure, rule: Rule, shared: str, radius: float, atom: int | None, kind: str
) -> list[describe.Neighbour]:
    """The neighbours to list: of one atom or of all, of one kind of pair or of all."""
    symbols = [site.specie.symbol for site in structure]

    def wanted(n: describe.Neighbour) -> bool:
        of_shared = (symbols[n.center] == shared) + (symbols[n.other] == shared)
        return kind == "all" or of_shared == {"XX": 2, "MM": 0, "MX": 1}[kind]

    found = describe.neighbours(structure, radius, rule, shared)
    return [n for n in found if (atom is None or n.center == atom) and wanted(n)]


def neighbours(
    structure: Structure, rule: Rule, shared: str, identity: str, atom: int | None
) -> describe.Neighbour | None:
    """The neighbour table; returns the pair whose row is selected."""
    names = describe.atom_names(structure)
    row = st.container(horizontal=True, vertical_alignment="bottom")
    kind = row.segmented_control(
        "Pairs",
        list(KINDS),
        format_func=lambda k: KINDS[k].format(shared),
        default="all",
        key="pair_kind",
        required=True,
        label_visibility="collapsed",
    )
    radius = row.selectbox(
        "Up to / Å",
        [2.0, 2.5, 3.2, 4.0, 5.0],
        2,
        format_func=lambda r: f"up to {r} Å",
        key="radius",
        width=130,
        label_visibility="collapsed",
    )
    found = neighbour_rows(structure, rule, shared, radius, atom, kind or "all")
    if atom is None:
        st.caption("Click a row to light the pair, an atom for its own neighbours.")
    else:
        st.caption(f"Neighbours of **{names[atom]}**; click beside the cell for all.")
    table = pd.DataFrame(
        [
            {
                "atom": names[n.center],
                "neighbour": (
                    names[n.other] + ("" if not any(n.image) else f" {n.image}".replace(",", ""))
                ),
                "pair": n.pair,
                "distance / Å": n.distance,
                "rule": n.verdict,
            }
            for n in found
        ],
        columns=["atom", "neighbour", "pair", "distance / Å", "rule"],
    )
    event: Any = st.dataframe(
        table.style.map(lambda v: VERDICT_STYLE.get(v, ""), subset=["rule"]).format(
            {"distance / Å": "{:.3f}"}
        ),
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        height=290,
        key=f"neighbours_{identity}_{atom}_{kind}_{radius}",
        placeholder="",
    )
    rows = event["selection"]["rows"]
    return found[rows[0]] if rows and rows[0] < len(found) else None


def distances(run: Run, structure: Structure, count: int) -> None:
    """First-neighbour distances of this cell and this run against both parent classes, with the
    rule's limits."""
    shared, a, b = run.species
    of_a, of_b = cached.parent_distances(str(run.folder))
    series = {
        f"{a}-{shared} class": of_a,
        f"{b}-{shared} class": of_b,
        "candidates": cached.run_distances(str(run.folder), count),
    }
    marked = describe.first_distances([structure], shared)
    figure = distance_figure(series, pairs_of(shared, a, b), run.rule.limits, marked)
    st.plotly_chart(figure, key="distances", config=PLAIN)
    st.caption(
        f"d1 and d2 are the limits of the rule {run.rule.name}; triangles are the cell that is"
        " shown."
    )


def powder(structure: Structure, identity: str, name: str, shared: str) -> None:
    """The simulated powder pattern."""
    source = st.segmented_control(
        "Radiation", ["CuKa", "MoKa", "CoKa"], default="CuKa", key="radiation", required=True
    )
    pattern = cached.powder(structure, identity, source or "CuKa")
    st.plotly_chart(pattern_figure({name: pattern}), key="powder", config=PLAIN)
    weak = " Hydrogen scatters X-rays hardly at all." if shared == "H" else ""
    st.caption(f"Simulated by pymatgen for the cell as it is, no thermal motion.{weak}")


def symmetry(run: Run, number: int, structure: Structure, identity: str, name: str) -> Drawn:
    """Symmetry with a tolerance slider; returns the cell to draw: as made, or symmetrized."""
    tolerance = st.select_slider(
        "Tolerance / Å",
        TOLERANCES,
        0.1,
        key="tolerance",
        help="How far an atom may be from its site.",
    )
    found = cached.symmetry(structure, identity, tolerance)
    moved = "" if found.number > 1 else " No symmetry at this tolerance: nothing to symmetrize."
    st.markdown(f"Space group **{found.symbol}** (No. {found.number}), {found.system}.{moved}")
    symmetrized = st.toggle(
        "Show the symmetrized cell",
        key="symmetrized",
        disabled=found.number == 1,
        help=(
            "The conventional cell with every atom moved onto its site. The candidate itself stays"
            " as it was made."
        ),
    )
    row = st.container(horizontal=True)
    pressed = row.button(
        "Add the symmetrized cell to the candidates",
        icon=":material/add:",
        key="take_symmetrized",
        disabled=found.number == 1 or work.is_generating(run),
        help=(
            "As a candidate of its own, checked by the same rules; keep or reject it like any"
            " other. This one stays as it is."
        ),
    )
    drawn = (
        Drawn(found.symmetrized, f"{identity}-symmetrized")
        if symmetrized and found.number > 1
        else Drawn(structure, identity)
    )
    row.download_button(
        "Download this cell (POSCAR)",
        data=lambda: _poscar(
            drawn.structure,
            f"{name} cell={'reduced' if drawn.structure is structure else 'conventional'}",
        ),
        file_name=f"{name}{drawn.identity.removeprefix(identity)}.vasp",
        on_click="ignore",
        icon=":material/download:",
        key="take_cell",
    )
    if pressed:
        with work.saying_errors():
            take_symmetrized(run, number, tolerance)
    return drawn


def take_symmetrized(run: Run, number: int, tolerance: float) -> None:
    """Add the symmetrized cell of a candidate to the run and show it."""
    with st.spinner("Checking the symmetrized cell ..."):
        arguments = [
            "symmetrize",
            str(run.folder),
            str(number),
            "--tolerance",
            str(tolerance),
            "--json",
        ]
        answer = work.carried_out([*arguments, *work.known_option(run)])
    st.session_state["added"] = int(answer["candidate"])
    vet.show_candidate(st.session_state["added"])
    st.rerun()


def _poscar(structure: Structure, title: str) -> str:
    from pymatgen.io.vasp import Poscar

    return Poscar(structure, comment=title, sort_structure=True).get_str(significant_figures=12)


def compare(run: Run, ids: list[int], table: pd.DataFrame, view: cell.View) -> None:
    """Two to four candidates side by side."""
    rows = table.set_index("id")
    columns = st.columns(2)
    for k, number in enumerate(ids[:4]):
        structure, _ = cached.candidate_of(run, number)
        with columns[k % 2]:
            row = rows.loc[number]
            st.markdown(
                f"**{number}: {row['formula']}**, {row['atoms']} atoms, {row['spacegroup_symbol']},"
                f" {row['decision']}"
            )
            cell.show(
                structure,
                f"{run.folder.name}-{number}",
                f"compare_{k}",
                view,
                height=300,
                name=f"{row['formula']}_{number}",
                rule=run.rule,
            )


def scatter(shown: pd.DataFrame, current: int) -> None:
    """The map of candidates; a click on a point shows it."""
    axes = {"volume / (Å³/atom)": "volume", "atoms": "atoms"} | {
        f"{c} / Å": c for c in shown if c.startswith("shortest ")
    }
    axes |= {c: c for c in shown if c.startswith(("energy", "e_"))}
    names = list(axes)
    row = st.container(horizontal=True)
    x = row.selectbox("Across", names, 0, key="map_x")
    y = row.selectbox("Up", names, min(2, len(names) - 1), key="map_y")
    table = shown.rename(columns={column: name for name, column in axes.items()})
    if x == y:
        st.info("Choose two different columns.")
        return
    event: Any = st.plotly_chart(
        map_figure(table, x, y, current),
        key="map",
        on_select="rerun",
        selection_mode="points",
        config=PLAIN,
    )
    if (number := clicked_point(event, "map")) is not None:
        vet.show_candidate(number)
        st.rerun()
