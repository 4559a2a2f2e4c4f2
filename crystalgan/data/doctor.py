"""The data doctor: what a class of cells holds, what is odd about it, and what to leave out.

It changes nothing; `cleaned` writes a copy.
"""

from __future__ import annotations

import io
import math
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from crystalgan.data.classes import builtin_classes, sort_out
from crystalgan.data.diagnosis import (
    Close,
    Diagnosis,
    Findings,
    Large,
    Outlier,
    Remark,
    Shortest,
    Volumes,
)
from crystalgan.data.prototypes import MAX_ATOMS_PER_KIND, MIN_M_H
from crystalgan.data.readers import read_entries
from crystalgan.errors import InputError
from crystalgan.potentials.registry import untrained
from crystalgan.storage import check_target, saying, write_whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from crystalgan.crystal.cells import Cells
    from crystalgan.crystal.rules import Rule
    from crystalgan.data.readers import Cell

ANOTHER = "give another path with --cleaned"
OUTLIER = 5.0  # robust standard deviations from the class's own line of volume against composition
# of the median volume; a class of nearly equal volumes has no outliers within this
LEAST_SPREAD = 0.03


def examine(path: Path | str, metal: str | None = None, shared: str = "H") -> Diagnosis:
    """The report of the data doctor on a class, built-in (by its metal) or a user's.

    Raises InputError where there is nothing to read.

    >>> report = examine("Al")  # doctest: +SKIP
    >>> report  # doctest: +SKIP
    37 cells of Al-H: 0 left out, 3 proposals
    >>> report.findings.volume.median  # doctest: +SKIP
    9.872
    """
    path = _path_of(path)
    if not path.exists():
        raise InputError(f"{path}: there is no such file or folder.")
    entries, left_out = read_entries(path, metal, shared)
    metal, kept, strangers = sort_out(entries, metal, shared)
    findings = _findings(kept, metal, shared) if kept and metal is not None else None
    words = untrained("CHGNet", (shared, *([metal] if metal else [])))
    return Diagnosis(
        path=str(path),
        metal=metal,
        shared=shared,
        cells=len(kept),
        left_out=(*left_out, *strangers),
        remarks=tuple(Remark(entry.where, words) for entry in kept for words in entry.remarks),
        findings=findings,
        proposals=findings.proposals(str(metal)) if findings else (),
        warnings=(words,) if words else (),
    )


def _path_of(path: Path | str) -> Path:
    """The file of a built-in class, or the path that was given."""
    return builtin_classes().get(str(path), Path(path))


def _findings(kept: Sequence[Cell], metal: str, shared: str) -> Findings:
    """What is in the cells of a class."""
    from crystalgan.crystal.cells import encode
    from crystalgan.crystal.distances import distances_by_pair
    from crystalgan.crystal.repair import check
    from crystalgan.crystal.rules import paper_rule

    cells = encode([entry.structure for entry in kept], (shared, metal))
    rule = paper_rule([metal], shared)
    verdicts = check(cells, rule)
    shortest = [verdict.shortest for verdict in verdicts]
    volume, outliers = _volumes(kept, metal, shared)
    return Findings(
        duplicates=_duplicates(kept),
        close=_close(kept, shortest, metal, shared),
        shortest=_shortest(kept, shortest),
        keep_paper_rule=sum(verdict.passed for verdict in verdicts),
        large=_large(kept, cells),
        prototypes=_prototypes(kept, metal, shared),
        oxidation=_oxidation(kept),
        distances=distances_by_pair(cells),
        limits=_limits(cells, rule),
        volume=volume,
        outliers=outliers,
    )


def _limits(cells: Cells, rule: Rule) -> dict[str, dict[str, tuple[float, float]]]:
    """d1 and d2 (Å) by pair, of the paper and learned from these cells."""
    from crystalgan.crystal.limits import class_limits

    try:
        learned = class_limits(cells)
    except InputError:  # nothing can be learned from molecules; the proposals say of which cells
        learned = {}
    return {"paper": dict(rule.limits), "learned": dict(learned)}


def _duplicates(kept: Sequence[Cell]) -> tuple[tuple[str, str], ...]:
    """Pairs of places: the first cell of a kind, and one that repeats it."""
    from crystalgan.crystal.matching import StructureIndex

    seen = StructureIndex[str]()
    pairs = ((seen.find_or_add(entry.structure, entry.where), entry.where) for entry in kept)
    return tuple((first, second) for first, second in pairs if first is not None)


def _shortest(kept: Sequence[Cell], distances: list[dict[str, float]]) -> dict[str, Shortest]:
    """The shortest distance of each pair of elements in the class."""
    found: dict[str, Shortest] = {}
    for entry, by_pair in zip(kept, distances, strict=True):
        for pair, distance in by_pair.items():
            if distance < (found[pair].distance if pair in found else math.inf):
                found[pair] = Shortest(round(distance, 4), entry.where)
    return found


def _close(
    kept: Sequence[Cell], distances: list[dict[str, float]], metal: str, shared: str
) -> tuple[Close, ...]:
    """Cells with atoms closer than they can be: molecules, and shared atoms inside metal ones."""
    from crystalgan.crystal.limits import SHORTEST_SHARED
    from crystalgan.crystal.rules import pair_name

    least = {pair_name(shared, shared): SHORTEST_SHARED, pair_name(metal, shared): MIN_M_H}
    return tuple(
        Close(entry.where, pair, round(distance, 3), least[pair])
        for entry, by_pair in zip(kept, distances, strict=True)
        for pair, distance in by_pair.items()
        if distance < least.get(pair, 0.0)
    )


def _large(kept: Sequence[Cell], cells: Cells) -> tuple[Large, ...]:
    """Cells with more atoms of one kind than a built-in class may have."""
    most = cells.mask.sum(-1).amax(-1).tolist()
    return tuple(
        Large(entry.where, count)
        for entry, count in zip(kept, most, strict=True)
        if count > MAX_ATOMS_PER_KIND
    )


def _volumes(kept: Sequence[Cell], metal: str, shared: str) -> tuple[Volumes, tuple[Outlier, ...]]:
    """Volumes per atom, and the cells far from the class's line of volume per metal atom."""
    import numpy as np

    cells = [entry.structure for entry in kept]
    per_atom = np.array([cell.volume / len(cell) for cell in cells])
    ratio = np.array([cell.composition[shared] / cell.composition[metal] for cell in cells])
    volume = per_atom * (1 + ratio)
    expected = _line(ratio, volume)
    spread = 1.4826 * float(np.median(abs(volume - expected)))
    spread = max(spread, LEAST_SPREAD * float(np.median(volume)))
    far = np.flatnonzero(abs(volume - expected) > OUTLIER * spread)
    outliers = tuple(
        Outlier(kept[i].where, round(float(volume[i]), 2), round(float(expected[i]), 2))
        for i in far.tolist()
    )
    numbers = (per_atom.min(), np.median(per_atom), per_atom.max())
    return Volumes(*(round(float(x), 3) for x in numbers)), outliers


def _line(ratio: np.ndarray, volume: np.ndarray) -> np.ndarray:
    """The volumes that Theil and Sen's line through volume against composition expects."""
    import numpy as np
    from scipy.stats import theilslopes

    if np.ptp(ratio) == 0:
        return np.full(len(ratio), np.median(volume))
    slope, at_zero = theilslopes(volume, ratio)[:2]
    return at_zero + slope * ratio


def _prototypes(kept: Sequence[Cell], metal: str, shared: str) -> dict[str, str]:
    """The structure type of `assets/prototypes.json` that is nearest to each cell.

    Only those that match it, scaled, are compared; a cell that none matches is not in it.
    """
    from crystalgan.crystal.matching import StructureIndex
    from crystalgan.data.prototypes import load_prototypes

    types = StructureIndex[str]()
    for prototype in load_prototypes():
        types.add(prototype.structure(metal, shared), prototype.name)
    found = ((entry.where, types.nearest(entry.structure)) for entry in kept)
    return {where: name for where, name in found if name is not None}


def _oxidation(kept: Sequence[Cell]) -> dict[str, int]:
    """The formulas that no common oxidation states balance, with the number of their cells."""
    formulas = Counter(entry.structure.composition.reduced_composition for entry in kept)
    return {
        c.reduced_formula: n
        for c, n in formulas.items()
        if not any(
            all(float(state).is_integer() for state in guess.values())
            for guess in c.oxi_state_guesses()
        )
    }


def cleaned(path: Path | str, out: Path, metal: str | None = None, shared: str = "H") -> Diagnosis:
    """Write the cells of a class, but for those that the doctor proposes to leave out.

    They are written as extended XYZ; the class itself stays as it is. Raises InputError where `out`
    exists or nothing would be left.
    """
    from ase.io import write

    if out.exists():
        raise InputError(f"{out}: exists already; give the cleaned class a name of its own.")
    with saying(out.parent, ANOTHER, writing=True):
        out.parent.mkdir(parents=True, exist_ok=True)
    check_target(out, ANOTHER)
    report = examine(path, metal, shared)
    without = {x.where for x in report.proposals}
    entries, _ = read_entries(_path_of(path), metal, shared)
    belonging = sort_out(entries, report.metal, shared)[1]
    kept = [entry for entry in belonging if entry.where not in without]
    if not kept:
        raise InputError(
            f"{path}: no cell would be left after {len(without)} proposals; nothing is written."
        )
    images = []
    for entry in kept:
        plain = {key: x for key, x in entry.info.items() if isinstance(x, (str, int, float))}
        images.append(entry.structure.to_ase_atoms())
        images[-1].info = plain | {"from": entry.where}
    text = io.StringIO()
    write(text, images, format="extxyz")
    write_whole(out, text.getvalue(), ANOTHER)
    return report
