"""What the page Stability shows of a candidate's phonons: the verdict, the bands, the cell that an
imaginary mode leads to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from crystalgan.plot.phonons import bands_figure
from crystalgan.stability.hull import short
from ui import cached, cell, relaxed, work

if TYPE_CHECKING:
    from ase.db.row import AtomsRow

    from crystalgan.runs.folder import Run
    from crystalgan.stability.phonon_rows import CandidatePhonons

PLAIN = {"displaylogo": False}


def show(run: Run, row: AtomsRow, potential: str | None) -> None:
    """Phonons of a relaxed candidate, or the button that computes them.

    `potential` is the name that `crystalgan phonons` takes; without one there is no button.
    """
    number = int(row.candidate)
    found = cached.phonons(run, row.potential, number)
    if found is None:
        _offer(run, row, potential)
        return
    if found.phonons is None:
        st.warning(f"The phonons of candidate {number} are not known: {found.reason}.")
        return
    verdict, icon = (
        ("**Stable**", "verified") if found.phonons.stable else ("**Unstable**", "warning")
    )
    st.markdown(f":material/{icon}: {verdict}: {str(found).partition(', ')[2]}.")
    st.plotly_chart(bands_figure(found.phonons), key="bands", config=PLAIN)
    st.caption(_energies(found))
    if found.followed and found.followed.leads:
        end = found.followed
        name = f"{short(row.formula)}_{number}_mode_followed"
        cell.show(
            end.structure,
            f"{run.folder.name}-{row.potential}-{number}-followed",
            "followed_view",
            height=300,
            name=name,
        )
        relaxed.download(end.structure, name, "Download this cell (POSCAR)", "take_followed")


def _offer(run: Run, row: AtomsRow, potential: str | None) -> None:
    if row.state != "converged":
        st.info("It is not relaxed to the end: it has no phonons.")
        return
    st.caption(
        "Phonons say whether the cell holds together, or where it goes: seconds for a few atoms of"
        " high symmetry, a minute for 12 atoms without any."
    )
    if potential and st.button(
        "Compute phonons",
        icon=":material/graphic_eq:",
        key="phonons",
        disabled=work.is_relaxing(run),
    ):
        with work.saying_errors():
            work.start_phonons(run, int(row.candidate), potential)
            st.rerun()


def _energies(found: CandidatePhonons) -> str:
    """What is known beside the bands, and what the verdict is of."""
    made = found.phonons
    assert made is not None
    what = (
        f"At {len(made.q_points)} commensurate points, by {made.displacements} displacements in a"
        f" supercell; imaginary below {made.tolerance:g} THz does not count. Between them bands are"
        " interpolated."
    )
    if made.zero_point is None or made.free_energy is None:
        return f"{what} No harmonic free energy: a mode is imaginary."
    return (
        f"{what} Zero-point energy {1000 * made.zero_point:.0f}, free energy of the vibrations at"
        f" 300 K {1000 * made.free_energy:.0f} meV/atom."
    )
