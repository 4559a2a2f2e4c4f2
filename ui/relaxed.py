"""What the page Stability shows of one relaxed candidate: its way there, before and after, the
hydrogen that it stores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from crystalgan.plot.stability import relaxation_figure
from crystalgan.runs.database import structure_of
from crystalgan.stability import hydrogen
from crystalgan.stability.hull import in_words, products, short
from crystalgan.stability.relaxations import frame_of, symmetric_of
from crystalgan.stability.table import agree, trust_in_words
from ui import cached, cell

if TYPE_CHECKING:
    from ase.db.row import AtomsRow
    from pymatgen.analysis.phase_diagram import PhaseDiagram
    from pymatgen.core import Structure

    from crystalgan.runs.folder import Run

PLAIN = {"displaylogo": False}
CELSIUS = 273.15


def way(run: Run, row: AtomsRow, structure: Structure) -> None:
    """The cell at a step of its relaxation, chosen by a slider, and the energy along it; a failed
    one is shown as it was."""
    number, name = int(row.candidate), short(row.formula)
    identity = f"{run.folder.name}-{row.potential}-{number}"
    if row.state == "failed":
        st.warning(f"Candidate {number} could not be relaxed: {row.data['reason']}.")
        cell.show(
            structure, identity, "relaxed_view", height=330, name=f"{name}_{number}", rule=run.rule
        )
        return
    frames = [int(k) for k in row.data["frames"]]
    step = frames[-1]
    if len(set(frames)) > 1:
        step = st.select_slider(
            "Step",
            frames,
            frames[-1],
            key=f"step_{identity}",
            help=(
                "0: as it was made. All steps have the lattice vectors of the relaxed cell, which"
                " is Niggli-reduced."
            ),
        )
    chosen = frame_of(row, frames.index(step))
    cell.show(
        chosen,
        f"{identity}-{step}",
        "relaxed_view",
        height=330,
        name=f"{name}_{number}_step{step}",
        rule=run.rule,
    )
    energies = list(row.data["energies"])
    steps = [int(k) for k in row.data.get("steps", range(len(energies)))]
    if step in steps:
        figure = relaxation_figure(energies, step, steps)
        st.plotly_chart(figure, key="relaxation", config=PLAIN)
    download(
        structure_of(row),
        f"{name}_{number}_relaxed",
        "Download the relaxed cell (POSCAR)",
        "take_relaxed",
    )
    higher_symmetry(run, row)


def outcome(row: AtomsRow) -> None:
    """How a relaxation ended, in one line."""
    state = "converged" if row.state == "converged" else "not converged"
    st.markdown(
        f"**{row.candidate}: {short(row.formula)}** · {state} in {row.steps} steps, {row.force:.3f}"
        f" eV/Å left · {row.spacegroup_symbol} · volume {row.volume_change:+.0f} %, largest"
        f" displacement {row.displacement:.2f} Å"
    )
    st.caption(f"{row.potential} {row.version}, {row.settings}; {row.energy_per_atom:.3f} eV/atom.")


def trust(table: pd.DataFrame, number: int) -> None:
    """Whether the potentials that a candidate was relaxed with agree, where there are two."""
    said = table[table["id"] == number].iloc[0]
    if "apart" not in table or pd.isna(said["apart"]):
        return
    verdict = said["apart"], bool(said["same_cell"])
    st.caption(
        f":material/{'verified' if agree(*verdict) else 'warning'}: {trust_in_words(*verdict)}."
    )


def higher_symmetry(run: Run, row: AtomsRow) -> None:
    """What came of the search for a higher symmetry, and the symmetric cell where it is worth
    having."""
    refined = row.data.get("refined")
    if not refined:
        return
    st.caption(f":material/grid_4x4: {refined['text']}.")
    if "lattice" not in refined:
        return
    structure, number = symmetric_of(row), int(row.candidate)
    name = f"{short(row.formula)}_{number}_{refined['spacegroup_symbol'].replace('/', '')}"
    if st.toggle(
        "Show the symmetric cell", key=f"symmetric_{run.folder.name}_{row.potential}_{number}"
    ):
        cell.show(
            structure,
            f"{run.folder.name}-{row.potential}-{number}-symmetric",
            "symmetric_view",
            height=300,
            name=name,
        )
    download(structure, name, "Download the symmetric cell (POSCAR)", "take_symmetric")


def download(structure: Structure, name: str, label: str, key: str) -> None:
    """A button that downloads a cell as POSCAR."""
    from pymatgen.io.vasp import Poscar

    st.download_button(
        label,
        data=lambda: Poscar(structure, comment=f"{name} cell=reduced", sort_structure=True).get_str(
            significant_figures=12
        ),
        file_name=f"{name}.vasp",
        on_click="ignore",
        icon=":material/download:",
        key=key,
    )


def storage(run: Run, row: AtomsRow, diagram: PhaseDiagram | None) -> None:
    """The hydrogen card."""
    shared = run.species[0]
    made = hydrogen.card(structure_of(row), row.energy_per_atom * row.natoms, diagram, shared)
    columns = st.columns(3)
    columns[0].metric("hydrogen", f"{made.weight_percent:.2f} wt%")
    columns[1].metric("in the crystal", f"{made.grams_per_litre:.0f} g/L")
    columns[2].metric(
        "shortest H-H", "none below 5 Å" if made.shortest is None else f"{made.shortest:.2f} Å"
    )
    if made.shortest is not None and made.shortest < hydrogen.SWITENDICK:
        st.warning(
            f"H-H is shorter than {hydrogen.SWITENDICK} Å, which is rare in hydrides (Switendick)."
        )
    if diagram:
        st.caption(f"Decomposes into {in_words(products(diagram, short(row.formula)))}.")
    for title, release in (("All hydrogen", made.whole), ("First step on the hull", made.first)):
        if release:
            left = f"{in_words(release.products)} and {release.hydrogen:.3g} H2"
            st.markdown(f"**{title}**: {release.enthalpy:.0f} kJ/mol H2, leaves {left}")
            st.caption(heat(release.enthalpy))
        if release and release is made.whole:
            known = cached.vibrations(run, row.potential)
            warm = hydrogen.with_vibrations(release, short(row.formula), known)
            st.caption(with_phonons(warm))
    mass, volume = hydrogen.TARGETS["2025"]
    st.caption(
        f"Measured: {', '.join(_known(h) for h in hydrogen.KNOWN)}. {hydrogen.TARGET_NOTE} (2025:"
        f" {mass} wt%, {volume:.0f} g/L). The potential has no zero-point motion, and phases of the"
        " two metals with each other compete only where you gave them."
    )


def with_phonons(warm: hydrogen.WarmRelease | None) -> str:
    """What vibrations make of a release, where they are known of all that takes part."""
    if warm is None:
        return (
            "Without zero-point energies; phonons of the cell (view *Phonons*), where they are"
            " stable, add them."
        )
    return (
        f"With zero-point energies {warm.enthalpy:.0f} kJ/mol H2; free energy of the release at"
        f" 300 K and 1 bar {warm.free_energy:+.0f} kJ/mol H2 (phonons of the crystals; H2 measured:"
        " Irikura 2007, JANAF)."
    )


def _known(hydride: hydrogen.KnownHydride) -> str:
    heat_of = "" if hydride.enthalpy is None else f", {hydride.enthalpy} kJ/mol H2"
    return f"{hydride.formula} {hydride.weight_percent} wt%{heat_of}"


def _bar(pressure: float) -> str:
    return f"{pressure:,.0f}" if 10 <= pressure < 1e5 else f"{pressure:.2g}"


def heat(enthalpy: float) -> str:
    """What an enthalpy of release (kJ/mol H2) means: where 1 bar is reached and the pressure at 25
    °C, with their bands."""
    if enthalpy <= 0:
        return "Gives off heat: at any temperature hydrogen goes by itself."
    low, high = hydrogen.ENTROPIES
    kelvin = hydrogen.temperature(enthalpy)
    coldest, hottest = hydrogen.temperature(enthalpy, high), hydrogen.temperature(enthalpy, low)
    pressures = [hydrogen.pressure(enthalpy, entropy) for entropy in (low, high)]
    return (
        f"1 bar at about {kelvin - CELSIUS:.0f} °C ({coldest - CELSIUS:.0f} to"
        f" {hottest - CELSIUS:.0f} °C); at 25 °C {_bar(pressures[0])} to {_bar(pressures[1])} bar."
        f" Bands: an entropy of {1000 * low:.0f} to {1000 * high:.0f} J/(mol K)."
    )
