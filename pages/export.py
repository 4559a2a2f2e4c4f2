"""Take candidates along: POSCAR, CIF, extended XYZ or VASP inputs, with every verdict and where
they come from."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from crystalgan.crystal.lattice import TOLERANCE
from crystalgan.discovery.record import is_search
from crystalgan.errors import InputError
from crystalgan.runs.run_zip import known_files, known_folder, pack_run
from crystalgan.stability.relaxations import potentials_of, relaxed_rows
from crystalgan.stability.vasp import FAMILY, FOLDER
from ui import cached, state, work

if TYPE_CHECKING:
    from streamlit.delta_generator import DeltaGenerator

    from crystalgan.runs.folder import Run

FILE_FORMATS = {
    "POSCAR": "poscar",
    "CIF": "cif",
    "extended XYZ": "extxyz",
    "VASP inputs (POSCAR, INCAR, KPOINTS)": "vasp",
}
CELLS = {
    "Niggli-reduced": "reduced",
    "conventional": "conventional",
}
SMEARING = {  # in words -> `vasp.SMEARING`
    "Gaussian (ISMEAR 0): metal or not": "gaussian",
    "for metals (ISMEAR 1)": "metal",
    "as in MPRelaxSet (ISMEAR -5): not for metals": "mp",
}
MANY = 200  # VASP inputs take about 20 ms each


def choices(run: Run, table: pd.DataFrame) -> dict[str, tuple[str, list[int]]]:
    """What may be taken along: in words, and as ids."""
    good = table[f"passed_{run.rule.name}"].astype(bool)
    picked = (
        [i for i in st.session_state.get("picked", []) if i in set(table["id"])]
        if st.session_state.get("run") == run.folder.name
        else []
    )
    groups = {
        "kept": ("kept by you", table["id"][table["decision"] == "kept"].tolist()),
        "picked": ("selected on the page Explore", picked),
        "good": (f"keep the rule {run.rule.name}", table["id"][good].tolist()),
        "good_left": (
            f"keep the rule {run.rule.name} and are not rejected",
            table["id"][good & (table["decision"] != "rejected")].tolist(),
        ),
        "all": ("all", table["id"].tolist()),
    }
    return {name: (f"{words} ({len(ids)})", ids) for name, (words, ids) in groups.items() if ids}


def positions(run: Run, ids: list[int], place: DeltaGenerator) -> tuple[str, list[int]]:
    """The potential that cells are to be relaxed with, empty for cells as made; and which of the
    candidates there are of it."""
    known = potentials_of(run)
    if not known:
        return "", ids
    chosen = place.selectbox(
        "Positions",
        [*known, ""] if is_search(run) else ["", *known],
        format_func=lambda name: f"relaxed with {name}" if name else "as made",
        key=f"positions_{run.folder.name}",
        width=190,
        help="Relaxed: cell and positions as on the page Stability. As made: before it.",
    )
    if not chosen:
        return "", ids
    done = {row.candidate for row in relaxed_rows(run, chosen) if row.state != "failed"}
    there = [i for i in ids if i in done]
    if len(there) < len(ids):
        st.caption(
            f"{len(there)} of {len(ids)} are relaxed with {chosen}; the others are left out. Relax"
            " them on the page Stability."
        )
    return chosen, there


def export_form(run: Run, table: pd.DataFrame) -> None:
    groups = choices(run, table)
    row = st.container(horizontal=True)  # which breaks where the window is narrow
    which = row.selectbox(
        "Candidates",
        list(groups),
        format_func=lambda name: groups[name][0],
        key="which",
        width=190,
    )
    kind = row.selectbox(
        "Format",
        list(FILE_FORMATS),
        key="format",
        width=140,
        help=(
            "VASP inputs: the Materials Project's settings for a relaxation but for smearing and"
            " POTCARs, one folder each."
        ),
    )
    cell = row.selectbox(
        "Cell",
        list(CELLS),
        key="export_cell",
        width=150,
        help=(
            f"Conventional: of the symmetry found within {TOLERANCE} Å, every atom where it is, so"
            " the crystal is the same and not made more symmetric. Each file says which cell it"
            " holds; a triclinic one stays reduced."
        ),
    )
    relaxed, ids = positions(run, groups[which][1], row)
    smearing = "gaussian"
    if FILE_FORMATS[kind] == "vasp":
        smearing = SMEARING[
            st.selectbox(
                "Smearing",
                list(SMEARING),
                key="smearing",
                help=(
                    "MPRelaxSet's tetrahedron method gives wrong forces where bands are partly"
                    " filled, as in metals; Methfessel-Paxton smearing (ISMEAR 1) is for metals"
                    " only."
                ),
            )
        ]
        st.caption(
            f"POTCARs are named in `POTCAR.names`, of the family {FAMILY} ({FOLDER}), and never"
            " included: they come with your own VASP licence. `README.txt` says how to put them"
            " together."
        )
        if len(ids) > MANY:
            st.caption(f"{len(ids)} folders take about {work.in_words(len(ids) * 0.02)}.")
    st.download_button(
        f"Download {len(ids)} candidate{'s' * (len(ids) > 1)}",
        data=partial(
            cached.archive,
            str(run.folder),
            ",".join(map(str, ids)),
            FILE_FORMATS[kind],
            CELLS[cell],
            smearing,
            relaxed,
        ),
        file_name=f"{run.folder.name}_{which}.zip",
        mime="application/zip",
        on_click="ignore",
        type="primary",
        icon=":material/download:",
        help=(
            "A zip: one file or folder for each, candidates.csv with verdicts, decisions and notes,"
            " provenance.json."
        ),
        key="download",
        disabled=not ids,
    )
    shown = table[table["id"].isin(ids)][
        ["id", "formula", "atoms", "volume", "spacegroup_symbol", "decision", "note"]
    ]
    st.dataframe(
        shown,
        hide_index=True,
        height=300,
        placeholder="",
        column_config={
            "id": "no.",
            "volume": st.column_config.NumberColumn("Å³/atom", format="%.1f"),
            "spacegroup_symbol": "space group",
        },
    )


def whole_run(run: Run) -> None:
    st.markdown("**The whole run**")
    st.caption(
        "Settings, networks, losses, candidates, decisions and what they were compared with in one"
        " zip. A colleague loads it on the page Train."
    )
    if known_folder(run).exists() and not known_files(run):
        st.caption(
            "The known structures that it was compared with are too large for the zip and stay"
            " here."
        )
    st.download_button(
        "Download the run folder",
        data=partial(pack_run, run),
        file_name=f"{run.folder.name}.zip",
        mime="application/zip",
        on_click="ignore",
        icon=":material/folder_zip:",
        key="download_run",
    )
    with st.expander("Where it comes from"):
        st.json(work.in_app(json.dumps(run.about)), expanded=1)


@work.saying_errors()
def page() -> None:
    left, right = st.columns([5, 6], gap="medium", vertical_alignment="bottom")
    with left:
        state.header(
            "Export", "Cells as files for VESTA, VASP or a colleague, with where they come from."
        )
    runs = state.open_runs()
    run = state.choose_run(runs, right, "collapsed")
    if run is None:
        st.info(
            "No run yet. Choose two metals on the page Pair and train them; their ternary cells can"
            " be taken along from here."
        )
        st.page_link("pages/pair.py", label="To the page Pair", icon=":material/arrow_back:")
        return
    table = pd.DataFrame()
    try:
        table = cached.table(run)
    except InputError as error:
        st.error(work.in_app(error))
    left, right = st.columns([5, 3], gap="large")
    with left:
        if table.empty:
            st.info(
                "This run holds no candidates. Generate some on the page Explore; then take them"
                " along from here."
            )
            st.page_link(
                "pages/explore.py",
                label="To the page Explore",
                icon=":material/arrow_back:",
                query_params={"run": run.folder.name},
            )
        else:
            if is_search(run):
                st.caption(
                    "A search: cells as they were relaxed, or as they were proposed (as made); the"
                    " energies are in candidates.csv."
                )
            export_form(run, table)
    with right:
        whole_run(run)


state.through_app()
page()
