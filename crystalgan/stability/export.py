"""Selected candidates as POSCAR, CIF, extended XYZ or VASP inputs in a zip, with all verdicts in a
table and their provenance."""

from __future__ import annotations

import io
import json
import math
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crystalgan import __version__
from crystalgan.crystal.lattice import CELLS, setting
from crystalgan.errors import InputError
from crystalgan.potentials.registry import untrained
from crystalgan.runs.database import structure_of
from crystalgan.runs.folder import Run
from crystalgan.runs.run_zip import member
from crystalgan.runs.table import passed_key
from crystalgan.stability.relaxations import potentials_of, relaxed_rows
from crystalgan.stability.selection import select_rows
from crystalgan.stability.table import stability_of
from crystalgan.stability.vasp import check_smearing, inputs, readme
from crystalgan.storage import check_target, write_whole

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd
    from ase.db.row import AtomsRow
    from pymatgen.core import Structure

    from crystalgan.crystal.lattice import Setting

ANOTHER = "give another path with `out`"
# format -> ending of the file
FORMATS = {"poscar": "POSCAR.vasp", "cif": "cif", "extxyz": "extxyz", "vasp": ""}


def export(
    run: Run | Path | str,
    out: Path | str,
    select: str = "good",
    rule: str | None = None,
    file_format: str = "poscar",
    cell: str = "reduced",
    smearing: str = "gaussian",
    relaxed: str = "",
) -> int:
    """Write the selected candidates into a zip; return how many there are.

    The zip holds one file for each candidate (`file_format`: poscar, cif, extxyz) or a folder of
    VASP inputs (vasp), `candidates.csv` with every verdict and energy, and `provenance.json`.
    `select` and `rule` are those of `select_rows`. With `relaxed`, the name of a potential such as
    "CHGNet", each cell is the one that it was relaxed to, else as it was made. `cell` is "reduced"
    (Niggli) or "conventional" (`lattice.conventional`), and each file says which it holds;
    `smearing` is that of VASP inputs (`vasp.SMEARING`). The zip replaces `out` whole, so an export
    that fails leaves an older one as it was. Raises InputError for what cannot be used.

    >>> import tempfile; from crystalgan import shipped
    >>> with tempfile.TemporaryDirectory() as place:
    ...     export(shipped(), Path(place, "three.zip"), "1,2,3")
    3
    """
    run = run if isinstance(run, Run) else Run.open(run)
    if file_format not in FORMATS:
        raise InputError(f"{file_format!r} is not one of {', '.join(FORMATS)}.")
    if cell not in CELLS:
        raise InputError(f"The cell {cell!r} is not one of {', '.join(CELLS)}.")
    check_smearing(smearing)
    rows = select_rows(run, select, rule)
    if not rows:
        raise InputError(
            f"{run.folder}: no candidate is selected by {select!r}; generate some, or select"
            " otherwise."
        )
    out, packed = Path(out), io.BytesIO()
    check_target(out, ANOTHER)  # before the work
    structures = _relaxed(run, rows, relaxed) if relaxed else [structure_of(row) for row in rows]
    cells = [setting(structure, cell) for structure in structures]
    with zipfile.ZipFile(packed, "w") as archive:
        names = [f"{row.formula}_{row.id:05d}.{FORMATS[file_format]}".rstrip(".") for row in rows]
        for name, row, chosen in zip(names, rows, cells, strict=True):
            origin = _origin(row) | ({"relaxed_with": relaxed} if relaxed else {})
            about = {"id": row.id, "run": run.folder.name} | origin | _of_cell(chosen)
            for path, text in _texts(row.formula, about, chosen, name, file_format, smearing):
                archive.writestr(member(path), text)
        if file_format == "vasp":
            archive.writestr(member("README.txt"), readme(smearing))
        archive.writestr(member("candidates.csv"), _csv(run, rows, names, cells, relaxed))
        provenance = json.dumps(_provenance(run, rows, cells, relaxed), indent=1) + "\n"
        archive.writestr(member("provenance.json"), provenance)
    write_whole(out, packed.getvalue(), ANOTHER)
    return len(rows)


def _relaxed(run: Run, rows: list[AtomsRow], potential: str) -> list[Structure]:
    """What candidates were relaxed to with a potential; InputError where one was not."""
    done = {
        row.candidate: structure_of(row)
        for row in relaxed_rows(run, potential)
        if row.state != "failed"
    }
    if left := [row.id for row in rows if row.id not in done]:
        some = ", ".join(map(str, left[:5])) + (", ..." if len(left) > 5 else "")
        known = " or ".join(potentials_of(run))
        there = (
            f"There are relaxed cells of {known}." if known else "No cell of this run is relaxed."
        )
        raise InputError(
            f"{run.folder}: {len(left)} of the selected candidates ({some}) are not relaxed with"
            f" {potential}. {there} Relax the others first, or export cells as they were made"
            " (--relaxed no)."
        )
    return [done[row.id] for row in rows]


def _texts(
    formula: str,
    about: dict[str, Any],
    chosen: Setting,
    name: str,
    file_format: str,
    smearing: str,
) -> Iterable[tuple[str, str]]:
    """The file of a candidate, or the files of its folder, by path; `about` is said in each."""
    title = " ".join([formula, *(f"{key}={value}" for key, value in about.items())])
    if file_format == "vasp":
        files = inputs(chosen.structure, title, smearing)
        return [(f"{name}/{file}", text) for file, text in files.items()]
    if file_format == "poscar":
        from pymatgen.io.vasp import Poscar

        poscar = Poscar(chosen.structure, comment=title, sort_structure=False)
        return [(name, poscar.get_str(significant_figures=12))]
    if file_format == "cif":
        from pymatgen.io.cif import CifWriter

        return [(name, f"# {title}\n{CifWriter(chosen.structure, significant_figures=10)}")]
    from ase.io import write

    atoms: Any = chosen.structure.to_ase_atoms()
    atoms.info = {"formula": formula} | about
    text = io.StringIO()
    write(text, atoms, format="extxyz")
    return [(name, text.getvalue())]


def _of_cell(chosen: Setting) -> dict[str, str | float]:
    """Which cell of a candidate it is; of a conventional one also of which symmetry, and within how
    many Å that was found."""
    if chosen.kind == "reduced":
        return {"cell": chosen.kind}
    return {"cell": chosen.kind, "spacegroup": chosen.symbol, "within": chosen.tolerance}


def _origin(row: AtomsRow) -> dict[str, int | float]:
    """Where a candidate comes from: the seed that it was drawn by, or the candidate that it refines
    and the tolerance, Å."""
    if "refined_from" in row:
        return {"refined_from": row.refined_from, "refined_at": row.refined_at}
    return {"seed": row.seed}


def _provenance(
    run: Run, rows: list[AtomsRow], cells: list[Setting], relaxed: str
) -> dict[str, Any]:
    """Where the exported candidates come from: `config.json` of the run and what was taken."""
    return run.about | {
        "run": run.folder.name,
        "exported": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "exported_with": __version__,
        **({"relaxed_with": relaxed} if relaxed else {}),
        "candidates": [
            {"id": row.id, "number": row.number} | _origin(row) | _of_cell(chosen)
            for row, chosen in zip(rows, cells, strict=True)
        ],
    }


# columns of candidates.csv before and after verdicts, distances and energies
FIRST = (
    "id",
    "file",
    "cell",
    "atoms_in_file",
    "relaxed_with",
    "formula",
    "atoms",
    "volume_A3",
    "spacegroup",
    "spacegroup_symbol",
    "ternary",
    "unique",
    "duplicate_of",
    "new",
    "matches",
    "type",
)
LAST = (
    "decision",
    "note",
    "parent_a",
    "parent_b",
    "run",
    "seed",
    "number",
    "refined_from",
    "refined_at_A",
)
ENERGIES = {  # column of a relaxed candidate -> of candidates.csv
    "state": "relaxation",
    "steps": "relaxation_steps",
    "force": "force_left_eV_per_A",
    "energy_per_atom": "energy_eV_per_atom",
    "formation_energy": "formation_energy_eV_per_atom",
    "above_hull": "above_hull_eV_per_atom",
    "products": "decomposes_into",
    "volume_change": "volume_change_percent",
    "displacement": "largest_displacement_A",
    "spacegroup_symbol": "relaxed_spacegroup",
    "weight_percent": "hydrogen_wt_percent",
    "enthalpy": "release_kJ_per_mol_H2",
    "version": "potential_version",
    "apart": "formation_energies_of_potentials_apart_eV_per_atom",
    "reason": "relaxation_failed_because",
}


def _energies(run: Run) -> pd.DataFrame:
    """What every potential says of the relaxed candidates, by id; each column ends with the
    potential's name."""
    import pandas as pd

    parts = [pd.DataFrame(index=pd.Index([], name="id"))]
    for potential in potentials_of(run):
        _, table, _ = stability_of(run, potential)
        if table.empty:
            continue
        known = {name: title for name, title in ENERGIES.items() if name in table}
        said = table.set_index("id")[list(known)].rename(columns=known)
        if warning := untrained(potential, run.species):
            said.insert(0, "energy_warning", warning)
        parts.append(said.add_suffix(f"_{potential}"))
    return pd.concat(parts, axis=1)


def _csv(
    run: Run, rows: list[AtomsRow], names: list[str], cells: list[Setting], relaxed: str
) -> str:
    """The table of the exported candidates: one line each, with every verdict and energy.

    Verdicts, volume and space group are those of the cell as it was made.
    """
    import pandas as pd

    rules = run.rule_names()
    shortest = sorted({pair for row in rows for pair in row.data["shortest"]})
    energies = _energies(run)
    lines = []
    for name, row, chosen in zip(names, rows, cells, strict=True):
        lines.append(
            row.key_value_pairs
            | {f"shortest_{p}_A": f"{d:.4f}" for p, d in row.data["shortest"].items()}
            | {f"verdict_{rule}": row.data["verdicts"][rule]["text"] for rule in rules}
            | {
                "id": row.id,
                "file": name,
                "cell": str(chosen),
                "atoms_in_file": len(chosen.structure),
                "relaxed_with": relaxed,
                "formula": row.formula,
                "atoms": row.natoms,
                "volume_A3": f"{row.volume:.4f}",
                "matches": row.data.get("matches", ""),
                "type": row.data.get("type", ""),
                "note": row.data["note"],
                "run": run.folder.name,
                "refined_at_A": row.get("refined_at"),
            }
        )
    # objects: a whole number stays one where another line has none
    table = pd.DataFrame(lines, dtype=object).set_index("id", drop=False)
    columns = [*FIRST, *map(passed_key, rules), *(f"shortest_{pair}_A" for pair in shortest)]
    columns += [*energies.columns, *LAST, *(f"verdict_{rule}" for rule in rules)]
    table = table.join(energies.astype(object).map(_rounded).astype(object))
    return table.reindex(columns=columns).to_csv(index=False, lineterminator="\r\n")


def _rounded(value: object) -> object:
    """A number with six digits, nothing for what is none, anything else as it is."""
    if not isinstance(value, float):
        return value
    return "" if math.isnan(value) else f"{value:.6g}"
