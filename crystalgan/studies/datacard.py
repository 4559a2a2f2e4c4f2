"""What the built-in classes are worth: their cells against experiment, against DFT and against the
hydrides that are known.

`assets/known-hydrides.json` holds the lattice constants and where each was published. The report is
the lower part of `assets/data-card.md`.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crystalgan.data.classes import BinaryClass, builtin_classes, load_class
from crystalgan.data.prototypes import ELEMENTS, load_prototypes
from crystalgan.resources import resource
from crystalgan.stability.hull import above_hull
from crystalgan.storage import write_whole

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pymatgen.core import Lattice, Structure

    from crystalgan.data.readers import Cell

WITHIN, CLOSE = 3.0, 25.0  # percent, meV/atom
ASSETS = resource("assets")
MARK = "<!-- made by `crystalgan data-card --write`; what stands below is replaced -->"


@dataclass(frozen=True)
class Known:
    """A hydride that is known: its structure type, its conventional lattice (Å) where one is given,
    and who measured it."""

    metal: str
    prototype: str
    lattice: dict[str, float] | None
    source: str | None
    forms: str  # ambient, metastable, under pressure


def known_hydrides() -> list[Known]:
    """The table of known hydrides among the structure types that the classes hold."""
    return [Known(**row) for row in json.loads((ASSETS / "known-hydrides.json").read_text())]


def report(dft: Sequence[Path] = ()) -> dict[str, Any]:
    """Every figure of the data card; `dft` are `.mat` files of DFT cells to compare volumes
    with."""
    classes = {metal: load_class(metal) for metal in builtin_classes()}
    known = [row for row in known_hydrides() if row.metal in classes]
    return {
        "classes": [_counts(c) for c in classes.values()],
        "lattices": [_lattice_row(classes[row.metal], row) for row in known if row.lattice],
        "stable": [
            _stable_row(c, [row for row in known if row.metal == c.metal]) for c in classes.values()
        ],
        "dft": [_dft_row(path) for path in dft],
    }


def _dropped(metal: str) -> dict[str, str]:
    dropped: dict[str, str] = json.loads((ASSETS / "classes" / f"{metal}.dropped.json").read_text())
    return dropped


def _counts(c: BinaryClass) -> dict[str, Any]:
    dropped = _dropped(c.metal)
    return {
        "metal": c.metal,
        "kept": len(c),
        "dropped": dropped,
        "reasons": dict(Counter(map(_kind, dropped.values()))),
    }


def _kind(reason: str) -> str:
    for words, kind in (
        ("collapsed", "collapsed"),
        ("more than", "too large"),
        ("converged", "not converged"),
        ("shorter", "too close"),
    ):
        if words in reason:
            return kind
    return "failed"


def _find(c: BinaryClass, prototype: str) -> Cell | None:
    """The cell of this structure type, or the one that it collapsed into."""
    reason = _dropped(c.metal).get(prototype, "")
    for _ in range(len(c)):
        if not reason.startswith("collapsed into "):
            break
        prototype = reason.removeprefix("collapsed into ")
        reason = _dropped(c.metal).get(prototype, "")
    return next((entry for entry in c.entries if entry.info["prototype"] == prototype), None)


def _experimental(row: Known) -> tuple[Lattice, int]:
    """The conventional lattice of an experiment and the number of its metal atoms."""
    from pymatgen.core import Lattice

    table = {p["name"]: p for p in json.loads((ASSETS / "prototypes.json").read_text())}[
        row.prototype
    ]
    assert row.lattice is not None
    a = row.lattice["a"]
    angle = 120 if table["lattice"]["gamma"] == 120 else 90
    lattice = Lattice.from_parameters(
        a, row.lattice.get("b", a), row.lattice.get("c", a), 90, 90, angle
    )
    return lattice, table["n_metal"]


def _lattice_row(c: BinaryClass, row: Known) -> dict[str, Any]:
    """One comparison with experiment: the edges where both cells have the same setting, and the
    volume in any case."""
    from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

    lattice, metals = _experimental(row)
    out: dict[str, Any] = {"metal": row.metal, "prototype": row.prototype, "source": row.source}
    out["experiment"] = sorted(round(x, 3) for x in lattice.abc)
    cell = _find(c, row.prototype)
    if cell is None:
        return out | {"found": None, "reason": _dropped(row.metal).get(row.prototype)}
    if cell.info["prototype"] != row.prototype:
        out["found_as"] = cell.info["prototype"]
    ours = SpacegroupAnalyzer(cell.structure, 0.01).get_conventional_standard_structure()
    count = ours.composition[row.metal]
    out["found"] = sorted(round(x, 3) for x in ours.lattice.abc)
    out["volume_percent"] = round(100 * (ours.volume / count / (lattice.volume / metals) - 1), 2)
    length = 100 * ((1 + out["volume_percent"] / 100) ** (1 / 3) - 1)
    edges: list[float] = [
        100 * (x / y - 1)
        for x, y in zip(sorted(ours.lattice.abc), sorted(lattice.abc), strict=True)
    ]
    out["edges_percent"] = [round(x, 2) for x in edges] if count == metals else None
    out["worst_percent"] = round(float(max(edges, key=abs)) if count == metals else length, 2)
    return out


def _stable_row(c: BinaryClass, known: list[Known]) -> dict[str, Any]:
    """The cells of a class on its own hull with the elements, and how far from it the known
    hydrides are."""
    from ase.io import read

    elements = {str(atoms.symbols[0]): atoms for atoms in read(ASSETS / "classes" / ELEMENTS, ":")}
    phases = [
        (e.structure.formula, e.info["energy_per_atom"] * len(e.structure)) for e in c.entries
    ]
    phases += [(symbol, elements[symbol].info["energy_per_atom"]) for symbol in (c.metal, c.shared)]
    above = above_hull(*zip(*phases, strict=True))
    by_name = {
        e.info["prototype"]: round(1000 * x, 1) for e, x in zip(c.entries, above, strict=False)
    }
    lowest = min(c.entries, key=lambda e: e.info["formation_energy_per_atom"])
    rows = []
    for row in known:
        cell = _find(c, row.prototype)
        rows.append(
            {
                "prototype": row.prototype,
                "forms": row.forms,
                "above_hull_mev": by_name[cell.info["prototype"]] if cell else None,
            }
        )
    return {
        "metal": c.metal,
        "lowest": lowest.info["prototype"],
        "formation_energy_per_atom": round(lowest.info["formation_energy_per_atom"], 3),
        "on_hull": [name for name, x in by_name.items() if x < 0.1],
        "known": rows,
    }


def _dft_row(path: Path) -> dict[str, Any]:
    """Volumes of the built-in cells against those of a class of DFT cells, where StructureMatcher
    says that they are one."""
    import numpy as np
    from pymatgen.analysis.structure_matcher import StructureMatcher

    theirs = load_class(path, skip_bad=True)
    ours = load_class(theirs.metal).structures
    matcher = StructureMatcher()
    ratios = []
    for structure in theirs.structures:
        same = [
            s
            for s in ours
            if s.reduced_formula == structure.reduced_formula and matcher.fit(structure, s)
        ]
        if same:
            best = min(same, key=lambda s: _rms(matcher, structure, s))
            ratios.append(best.volume / len(best) / (structure.volume / len(structure)) - 1)
    percent = 100 * np.array(ratios)
    return {
        "file": path.name,
        "metal": theirs.metal,
        "cells": len(theirs),
        "matched": len(ratios),
        "mean_percent": round(float(percent.mean()), 2),
        "mean_absolute_percent": round(float(abs(percent).mean()), 2),
        "largest_percent": round(float(percent[abs(percent).argmax()]), 2),
    }


# pymatgen is imported where it is used
def _rms(matcher: Any, one: Structure, other: Structure) -> float:
    found = matcher.get_rms_dist(one, other)
    return float(found[0]) if found else float("inf")


def markdown(data: dict[str, Any]) -> str:
    """The report as the tables of the data card."""
    cells = sum(c["kept"] for c in data["classes"])
    fewest = min(data["classes"], key=lambda c: c["kept"])
    lattices = data["lattices"]
    near = sum(row["found"] is not None and abs(row["worst_percent"]) <= WITHIN for row in lattices)
    known = [k["above_hull_mev"] for row in data["stable"] for k in row["known"]]
    on, close = (sum(x is not None and x <= limit for x in known) for limit in (0.1, CLOSE))
    total, types = len(data["classes"]), len(load_prototypes())
    out = [
        (
            f"## Counts\n\n{cells} cells in {total} classes; {types} structure types were tried for"
            " each."
        ),
        f"The smallest is {fewest['metal']} with {fewest['kept']}.\n",
        (
            "| metal | kept | collapsed into another cell | left out for another reason"
            " |\n|---|---|---|---|"
        ),
        *(_counts_line(c) for c in data["classes"]),
        (
            f"\n## Lattice constants against experiment\n\n{near} of {len(lattices)} within"
            f" {WITHIN:g} % on every edge.\n"
        ),
        (
            "| hydride | type | experiment, Å | CHGNet, Å | edges, % | volume, % | source"
            " |\n|---|---|---|---|---|---|---|"
        ),
        *map(_lattice_line, lattices),
        "\n## The hydrides that are known\n",
        (
            f"Of {len(known)} known hydrides {on} lie on the hull of their class and the elements,"
            f" {close} within {CLOSE:g} meV/atom.\n"
        ),
        (
            "| metal | lowest formation energy, eV/atom | on the hull | known hydrides, meV/atom"
            " above the hull |\n|---|---|---|---|"
        ),
        *map(_stable_line, data["stable"]),
    ]
    if data["dft"]:
        out += ["\n## Volumes against the authors' DFT cells\n"]
        out += [
            (
                "| class | DFT cells | matched | mean, % | mean absolute, % | largest, %"
                " |\n|---|---|---|---|---|---|"
            )
        ]
        out += [
            f"| {d['metal']}-H ({d['file']}) | {d['cells']} | {d['matched']} |"
            f" {d['mean_percent']:+} | {d['mean_absolute_percent']} | {d['largest_percent']:+} |"
            for d in data["dft"]
        ]
    return "\n".join(out) + "\n"


def _counts_line(c: dict[str, Any]) -> str:
    collapsed = [name for name, reason in c["dropped"].items() if _kind(reason) == "collapsed"]
    others = [
        f"{name} ({reason})"
        for name, reason in c["dropped"].items()
        if _kind(reason) != "collapsed"
    ]
    return f"| {c['metal']} | {c['kept']} | {', '.join(collapsed)} | {'; '.join(others)} |"


def _lattice_line(row: dict[str, Any]) -> str:
    def lengths(values: list[float]) -> str:
        return " / ".join(f"{x:.3f}" for x in dict.fromkeys(values))

    name = f"{row['metal']} | {row['prototype']} | {lengths(row['experiment'])}"
    if row["found"] is None:
        return f"| {name} | left out: {row['reason']} | | | {row['source']} |"
    found = lengths(row["found"]) + (f" (as {row['found_as']})" if "found_as" in row else "")
    edges = (
        ", ".join(f"{x:+.1f}" for x in dict.fromkeys(row["edges_percent"]))
        if row["edges_percent"]
        else "another setting"
    )
    return f"| {name} | {found} | {edges} | {row['volume_percent']:+.1f} | {row['source']} |"


def _stable_line(row: dict[str, Any]) -> str:
    known = [
        f"{k['prototype']}{'' if k['forms'] == 'ambient' else ' (' + k['forms'] + ')'}: "
        + ("left out" if k["above_hull_mev"] is None else f"{k['above_hull_mev']:g}")
        for k in row["known"]
    ]
    return (
        f"| {row['metal']} | {row['formation_energy_per_atom']:+.3f} ({row['lowest']}) |"
        f" {', '.join(row['on_hull']) or 'none'} | {'; '.join(known) or 'none in these types'} |"
    )


def write(data: dict[str, Any]) -> Path:
    """Replace the lower part of `assets/data-card.md` by this report."""
    path = ASSETS / "data-card.md"
    upper = path.read_text(encoding="utf-8").split(MARK)[0]
    write_whole(path, f"{upper}{MARK}\n\n{markdown(data)}", "leave --write out")
    return path
