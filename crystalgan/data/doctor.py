"""The data doctor: what a class of cells holds, what is odd about it, and what it proposes to leave
out. It changes nothing."""

from __future__ import annotations

import io
import math
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crystalgan.data.classes import builtin_classes, sort_out
from crystalgan.data.readers import read_entries
from crystalgan.errors import InputError
from crystalgan.potentials.registry import untrained
from crystalgan.storage import check_target, saying, write_whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crystalgan.crystal.cells import Cells
    from crystalgan.data.readers import Cell

ANOTHER = "give another path with --cleaned"
MAX_ATOMS_PER_KIND = 18  # a larger cell enlarges every tensor of its class
OUTLIER = 5.0  # robust standard deviations from the class's own line of volume against composition
# of the median volume; a class of nearly equal volumes has no outliers within this
LEAST_SPREAD = 0.03


def examine(path: Path | str, metal: str | None = None, shared: str = "H") -> dict[str, Any]:
    """What is in a class, built-in or a user's: the report of the data doctor.

    Keys: `path`, `metal`, `shared`, `cells`; `left_out` (where, reason); `remarks` (where, remark:
    what was read otherwise than written); `duplicates` (pairs of places); `shortest` (distance in Å
    and place, by pair of elements); `keep_paper_rule`; `volume` (Å³ per atom: lowest, median,
    highest); `close` (cells with atoms nearer than they can be), `outliers` of volume, `large`
    cells; `prototypes` (place -> structure type); `oxidation` (formulas that no common oxidation
    states balance, with counts: a note, as in interstitial hydrides none has to); `distances`
    (first neighbours, Å, by pair) and `limits` (d1 and d2, Å, by rule and pair); `proposals`
    (where, why); `warnings` where the energies of the class will mean nothing. Raises InputError
    where there is nothing to read.
    """
    path = builtin_classes().get(str(path), Path(path))
    if not path.exists():
        raise InputError(f"{path}: there is no such file or folder.")
    entries, left_out = read_entries(path, metal, shared)
    metal, kept, strangers = sort_out(entries, metal, shared)
    report: dict[str, Any] = {
        "path": str(path),
        "metal": metal,
        "shared": shared,
        "cells": len(kept),
        "left_out": [{"where": x.where, "reason": x.reason} for x in [*left_out, *strangers]],
        "remarks": [
            {"where": entry.where, "remark": remark} for entry in kept for remark in entry.remarks
        ],
        "duplicates": [],
        "shortest": {},
        "keep_paper_rule": 0,
        "proposals": [],
    }
    if words := untrained("CHGNet", (shared, *([metal] if metal else []))):
        report["warnings"] = [words]
    if kept and metal is not None:
        report |= _cells(kept, metal, shared)
        report["proposals"] = _proposals(report)
    return report


def _cells(kept: Sequence[Cell], metal: str, shared: str) -> dict[str, Any]:
    from crystalgan.crystal.cells import encode
    from crystalgan.crystal.distances import distances_by_pair
    from crystalgan.crystal.limits import class_limits
    from crystalgan.crystal.repair import check
    from crystalgan.crystal.rules import paper_rule

    cells = encode([entry.structure for entry in kept], (shared, metal))
    rule = paper_rule([metal], shared)
    verdicts = check(cells, rule)
    limits = {"paper": {pair: list(ends) for pair, ends in rule.limits.items()}}
    try:
        limits["learned"] = {pair: list(ends) for pair, ends in class_limits(cells).items()}
    except InputError:  # nothing can be learned from molecules; the proposals say of which cells
        limits["learned"] = {}
    shortest = [verdict.shortest for verdict in verdicts]
    return {
        "duplicates": _duplicates(kept),
        "close": _close(kept, shortest, metal, shared),
        "shortest": _closest_cells(kept, shortest),
        "keep_paper_rule": sum(verdict.passed for verdict in verdicts),
        "large": _large(kept, cells),
        "prototypes": _prototypes(kept, metal, shared),
        "oxidation": _oxidation(kept),
        "distances": distances_by_pair(cells),
        "limits": limits,
    } | _volumes(kept, metal, shared)


def _duplicates(kept: Sequence[Cell]) -> list[list[str]]:
    from crystalgan.crystal.matching import StructureIndex

    seen = StructureIndex[str]()
    pairs = ((seen.find_or_add(entry.structure, entry.where), entry.where) for entry in kept)
    return [[first, second] for first, second in pairs if first is not None]


def _closest_cells(kept: Sequence[Cell], distances: list[dict[str, float]]) -> dict[str, Any]:
    """The cell with the shortest first-neighbour distance of each pair of elements."""
    found: dict[str, Any] = {}
    for entry, by_pair in zip(kept, distances, strict=True):
        for pair, distance in by_pair.items():
            if distance < found.get(pair, {"distance": math.inf})["distance"]:
                found[pair] = {"distance": round(distance, 4), "where": entry.where}
    return found


def _close(
    kept: Sequence[Cell], distances: list[dict[str, float]], metal: str, shared: str
) -> list[dict[str, Any]]:
    """Cells with atoms closer than they can be: molecules, and shared atoms inside metal ones."""
    from crystalgan.crystal.limits import SHORTEST_SHARED
    from crystalgan.crystal.rules import pair_name
    from crystalgan.studies.builtin import MIN_M_H

    least = {pair_name(shared, shared): SHORTEST_SHARED, pair_name(metal, shared): MIN_M_H}
    return [
        {"where": entry.where, "pair": pair, "distance": round(distance, 3), "least": least[pair]}
        for entry, by_pair in zip(kept, distances, strict=True)
        for pair, distance in by_pair.items()
        if distance < least.get(pair, 0.0)
    ]


def _large(kept: Sequence[Cell], cells: Cells) -> list[dict[str, Any]]:
    most = cells.mask.sum(-1).amax(-1).tolist()
    return [
        {"where": e.where, "atoms_of_one_kind": n}
        for e, n in zip(kept, most, strict=True)
        if n > MAX_ATOMS_PER_KIND
    ]


def _volumes(kept: Sequence[Cell], metal: str, shared: str) -> dict[str, Any]:
    """Volumes, and the cells far from the class's line of volume per metal atom against composition
    (Theil and Sen's)."""
    import numpy as np
    from scipy.stats import theilslopes

    per_atom = np.array([entry.structure.volume / len(entry.structure) for entry in kept])
    metals = np.array([entry.structure.composition[metal] for entry in kept])
    ratio = np.array([entry.structure.composition[shared] for entry in kept]) / metals
    volume = per_atom * (1 + ratio)
    slope, at_zero = (
        theilslopes(volume, ratio)[:2] if np.ptp(ratio) > 0 else (0.0, float(np.median(volume)))
    )
    expected = at_zero + slope * ratio
    spread = max(
        1.4826 * float(np.median(abs(volume - expected))), LEAST_SPREAD * float(np.median(volume))
    )
    far = np.flatnonzero(abs(volume - expected) > OUTLIER * spread)
    numbers = {"lowest": per_atom.min(), "median": np.median(per_atom), "highest": per_atom.max()}
    return {
        "volume": {name: round(float(x), 3) for name, x in numbers.items()},
        "outliers": [
            {
                "where": kept[i].where,
                "volume": round(float(volume[i]), 2),
                "expected": round(float(expected[i]), 2),
            }
            for i in far.tolist()
        ],
    }


def _prototypes(kept: Sequence[Cell], metal: str, shared: str) -> dict[str, str]:
    """The structure type of `assets/prototypes.json` that is nearest to each cell among those that
    match it, scaled."""
    from pymatgen.analysis.structure_matcher import StructureMatcher

    from crystalgan.data.prototypes import load_prototypes

    matcher = StructureMatcher()
    types: dict[str, list[tuple[str, Any]]] = {}
    for prototype in load_prototypes():
        structure = prototype.structure(metal, shared)
        types.setdefault(structure.reduced_formula, []).append((prototype.name, structure))
    found = {}
    for entry in kept:
        same = [
            (matcher.get_rms_dist(entry.structure, s), name)
            for name, s in types.get(entry.structure.reduced_formula, [])
        ]
        close = [(rms[0], name) for rms, name in same if rms is not None]
        if close:
            found[entry.where] = min(close)[1]
    return found


def _oxidation(kept: Sequence[Cell]) -> dict[str, int]:
    formulas = Counter(entry.structure.composition.reduced_composition for entry in kept)
    return {
        c.reduced_formula: n
        for c, n in formulas.items()
        if not any(
            all(float(state).is_integer() for state in guess.values())
            for guess in c.oxi_state_guesses()
        )
    }


def _proposals(report: dict[str, Any]) -> list[dict[str, str]]:
    """What the doctor would leave out, each place once."""
    metal = report["metal"]
    large = "atoms of one kind enlarge every tensor of the class"
    reasons = {second: f"repeats {first}" for first, second in report["duplicates"]}
    reasons |= {x["where"]: f"{x['atoms_of_one_kind']} {large}" for x in report["large"]}
    reasons |= {
        x[
            "where"
        ]: f"{x['volume']} Å³ per {metal} atom, {x['expected']} expected at this composition"
        for x in report["outliers"]
    }
    reasons |= {
        x["where"]: f"{x['pair']} {x['distance']} Å, closer than {x['least']} Å"
        for x in report["close"]
    }
    return [{"where": where, "why": why} for where, why in reasons.items()]


def cleaned(
    path: Path | str, out: Path, metal: str | None = None, shared: str = "H"
) -> dict[str, Any]:
    """Write the cells of a class without those that the doctor proposes to leave out, as extended
    XYZ; returns the report.

    The class itself stays as it is. Raises InputError where `out` exists or nothing would be left.
    """
    from ase.io import write

    if out.exists():
        raise InputError(f"{out}: exists already; give the cleaned class a name of its own.")
    with saying(out.parent, ANOTHER, writing=True):
        out.parent.mkdir(parents=True, exist_ok=True)
    check_target(out, ANOTHER)
    report = examine(path, metal, shared)
    without = {x["where"] for x in report["proposals"]}
    entries, _ = read_entries(builtin_classes().get(str(path), Path(path)), metal, shared)
    kept = [
        entry
        for entry in sort_out(entries, report["metal"], shared)[1]
        if entry.where not in without
    ]
    if not kept:
        raise InputError(
            f"{path}: no cell would be left after {len(without)} proposals; nothing is written."
        )
    images = []
    for entry in kept:
        images.append(entry.structure.to_ase_atoms())
        images[-1].info = {
            key: x for key, x in entry.info.items() if isinstance(x, (str, int, float))
        } | {"from": entry.where}
    text = io.StringIO()
    write(text, images, format="extxyz")
    write_whole(out, text.getvalue(), ANOTHER)
    return report
