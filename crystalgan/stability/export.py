"""Selected candidates as POSCAR, CIF, extended XYZ or VASP inputs in a zip, with all verdicts in a
table and their provenance."""

from __future__ import annotations

import csv
import io
import json
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crystalgan import __version__
from crystalgan.crystal.lattice import CELLS, setting
from crystalgan.errors import InputError
from crystalgan.potentials.registry import untrained
from crystalgan.runs.database import LARGEST_ID, open_database, passed_key, rule_names, structure_of
from crystalgan.runs.folder import Run
from crystalgan.runs.run_zip import member
from crystalgan.stability.vasp import check_smearing, inputs, readme
from crystalgan.storage import check_target, write_whole

if TYPE_CHECKING:
    from ase.db.row import AtomsRow

    from crystalgan.crystal.lattice import Setting

ANOTHER = "give another path with --out"
# --format -> ending of the file
FORMATS = {"poscar": "POSCAR.vasp", "cif": "cif", "extxyz": "extxyz", "vasp": ""}


def select(run: Run, which: str, rule: str | None = None) -> list[AtomsRow]:
    """Rows by "good" (keeps `rule`, by default the run's own), "kept", "all", or ids such as
    "3,17"."""
    database, rule = open_database(run), rule or run.rule.name
    if which == "good":
        if rule not in rule_names(run):
            raise InputError(
                f"There is no rule {rule!r} in {run.folder}; it has {', '.join(rule_names(run))}."
            )
        return list(database.select(f"{passed_key(rule)}=1"))
    if which == "kept":
        return list(database.select(decision="kept"))
    if which == "all":
        return list(database.select())
    words = [word.strip() for word in which.split(",")]
    if not all(word.isascii() and word.isdigit() for word in words):
        raise InputError(f"{which!r} selects nothing; give good, kept, all or ids such as 3,17.")
    if any(len(word) > len(str(LARGEST_ID)) for word in words):
        raise InputError(
            f"{run.folder / 'candidates.db'}: holds no candidate {max(words, key=len)[:40]}."
        )
    wanted = {int(word) for word in words}
    rows = [row for row in database.select() if row.id in wanted]
    if len(rows) < len(wanted):
        missing = ", ".join(map(str, sorted(wanted - {row.id for row in rows})))
        raise InputError(f"{run.folder / 'candidates.db'}: holds no candidate {missing}.")
    return rows


def export(
    run: Run | Path | str,
    out: Path | str,
    select_by: str = "good",
    rule: str | None = None,
    file_format: str = "poscar",
    cell: str = "reduced",
    smearing: str = "gaussian",
) -> int:
    """Write a zip with one file for each selected candidate; returns how many.

    `candidates.csv` holds every verdict, `provenance.json` where they come from; VASP inputs are a
    folder each.

    `cell` is `reduced` (Niggli) or `conventional` (`lattice.conventional`), and each file says
    which it holds; `smearing` is that of VASP inputs (`vasp.SMEARING`). The archive replaces `out`
    whole, so an export that fails leaves an older one as it was.

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
    rows = select(run, select_by, rule)
    if not rows:
        raise InputError(
            f"{run.folder}: no candidate is selected by {select_by!r}; generate some, or select"
            " otherwise."
        )
    out, packed = Path(out), io.BytesIO()
    check_target(out, ANOTHER)  # before the work
    cells = [setting(structure_of(row), cell) for row in rows]
    with zipfile.ZipFile(packed, "w") as archive:
        names = [f"{row.formula}_{row.id:05d}.{FORMATS[file_format]}".rstrip(".") for row in rows]
        for name, row, chosen in zip(names, rows, cells, strict=True):
            for path, text in _texts(run, row, chosen, name, file_format, smearing).items():
                archive.writestr(member(path), text)
        if file_format == "vasp":
            archive.writestr(member("README.txt"), readme(smearing))
        archive.writestr(member("candidates.csv"), _csv(run, rows, names, cells))
        archive.writestr(
            member("provenance.json"), json.dumps(_provenance(run, rows, cells), indent=1) + "\n"
        )
    write_whole(out, packed.getvalue(), ANOTHER)
    return len(rows)


def _texts(
    run: Run, row: AtomsRow, chosen: Setting, name: str, file_format: str, smearing: str
) -> dict[str, str]:
    """The file of a candidate, or the files of its folder, by path."""
    about = {"id": row.id, "run": run.folder.name} | _origin(row) | _of_cell(chosen)
    title = " ".join([row.formula, *(f"{key}={value}" for key, value in about.items())])
    if file_format == "vasp":
        return {
            f"{name}/{file}": text
            for file, text in inputs(chosen.structure, title, smearing).items()
        }
    if file_format == "poscar":
        from pymatgen.io.vasp import Poscar

        return {
            name: (
                Poscar(chosen.structure, comment=title, sort_structure=False).get_str(
                    significant_figures=12
                )
            )
        }
    if file_format == "cif":
        from pymatgen.io.cif import CifWriter

        return {name: f"# {title}\n{CifWriter(chosen.structure, significant_figures=10)}"}
    from ase.io import write

    atoms: Any = chosen.structure.to_ase_atoms()
    atoms.info = {"formula": row.formula} | about
    text = io.StringIO()
    write(text, atoms, format="extxyz")
    return {name: text.getvalue()}


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


def _provenance(run: Run, rows: list[AtomsRow], cells: list[Setting]) -> dict[str, Any]:
    """Where the exported candidates come from: `config.json` of the run and what was taken."""
    return run.about | {
        "run": run.folder.name,
        "exported": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "exported_with": __version__,
        "candidates": [
            {"id": row.id, "number": row.number} | _origin(row) | _of_cell(chosen)
            for row, chosen in zip(rows, cells, strict=True)
        ],
    }


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


def _energies(run: Run) -> dict[int, dict[str, Any]]:
    """What every potential says of each relaxed candidate, by id; the column names end with the
    potential."""
    from crystalgan.stability.hull import stability_of
    from crystalgan.stability.relaxations import potentials_of

    out: dict[int, dict[str, Any]] = {}
    for potential in potentials_of(run):
        _, table, _ = stability_of(run, potential)
        warning = untrained(potential, run.species)
        for line in table.to_dict("records"):
            named = {f"energy_warning_{potential}": warning} if warning else {}
            named |= {
                f"{title}_{potential}": line[name]
                for name, title in ENERGIES.items()
                if name in line
            }
            rounded = {
                name: f"{value:.6g}" if isinstance(value, float) else value
                for name, value in named.items()
            }
            out.setdefault(int(line["id"]), {}).update(
                {n: "" if v == "nan" else v for n, v in rounded.items()}
            )
    return out


def _csv(run: Run, rows: list[AtomsRow], names: list[str], cells: list[Setting]) -> str:
    text = io.StringIO()
    shortest = sorted({pair for row in rows for pair in row.data["shortest"]})
    rules = rule_names(run)
    columns = [
        "id",
        "file",
        "cell",
        "atoms_in_file",
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
    ]
    columns += [passed_key(rule) for rule in rules] + [f"shortest_{pair}_A" for pair in shortest]
    energies = _energies(run)
    columns += list(dict.fromkeys(name for line in energies.values() for name in line))
    columns += [
        "decision",
        "note",
        "parent_a",
        "parent_b",
        "run",
        "seed",
        "number",
        "refined_from",
        "refined_at_A",
    ] + [f"verdict_{rule}" for rule in rules]
    writer = csv.DictWriter(text, columns, extrasaction="ignore")
    writer.writeheader()
    for name, row, chosen in zip(names, rows, cells, strict=True):
        details = {f"shortest_{pair}_A": f"{d:.4f}" for pair, d in row.data["shortest"].items()}
        details |= {f"verdict_{rule}": row.data["verdicts"][rule]["text"] for rule in rules}
        details |= energies.get(row.id, {})
        fixed = {
            "id": row.id,
            "file": name,
            "formula": row.formula,
            "atoms": row.natoms,
            "volume_A3": f"{row.volume:.4f}",
        }
        fixed |= {"cell": str(chosen), "atoms_in_file": len(chosen.structure)}
        writer.writerow(
            row.key_value_pairs
            | details
            | fixed
            | {
                "run": run.folder.name,
                "note": row.data["note"],
                "matches": row.data.get("matches", ""),
            }
            | {"refined_at_A": row.get("refined_at")}
        )
    return text.getvalue()
