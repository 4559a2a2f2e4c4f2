"""The data card of the built-in classes: their cells against experiment, DFT and known hydrides.

`assets/known-hydrides.json` holds the lattice constants and where each was published. The card is
the lower part of `assets/data-card.md`; `crystalgan.studies.datacard_text` writes it.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from crystalgan.data.classes import BinaryClass, builtin_classes, load_class
from crystalgan.data.known import builtin_elements
from crystalgan.resources import resource
from crystalgan.stability.hull import above_hull

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pymatgen.analysis.structure_matcher import StructureMatcher
    from pymatgen.core import Lattice, Structure

    from crystalgan.data.readers import Cell

WITHIN, CLOSE = 3.0, 25.0  # percent, meV/atom
KINDS = {  # words of a reason -> its kind
    "collapsed": "collapsed",
    "more than": "too large",
    "converged": "not converged",
    "shorter": "too close",
}


@dataclass(frozen=True)
class KnownHydride:
    """A hydride that is known: its structure type, and its conventional lattice (Å) where given.

    `source` says who measured the lattice.
    """

    metal: str
    prototype: str
    lattice: dict[str, float] | None
    source: str | None
    forms: str  # ambient, metastable, under pressure


@dataclass(frozen=True)
class Counts:
    """How many structure types a class holds, which were left out why, and how often each kind."""

    metal: str
    kept: int
    dropped: dict[str, str]
    reasons: dict[str, int]

    def names_of(self, collapsed: bool) -> list[str]:
        """The types that collapsed into another cell, or those that were left out otherwise."""
        return [n for n, why in self.dropped.items() if (kind_of(why) == "collapsed") == collapsed]


@dataclass(frozen=True)
class LatticeRow:
    """One lattice against experiment, Å and percent.

    `found` is None where the class has no such cell, for this `reason`; `found_as` names the type
    that the cell collapsed into. `edges_percent` is None where both cells have another setting.
    """

    metal: str
    prototype: str
    source: str | None
    experiment: list[float]
    found: list[float] | None = None
    reason: str | None = None
    found_as: str | None = None
    volume_percent: float = 0.0
    edges_percent: list[float] | None = None
    worst_percent: float = 0.0


@dataclass(frozen=True)
class KnownRow:
    """A known hydride, and how far above the hull its cell is: None where the class has none."""

    prototype: str
    forms: str
    above_hull_mev: float | None


@dataclass(frozen=True)
class StableRow:
    """The lowest cell of a class, its cells on the hull with the elements, and known hydrides."""

    metal: str
    lowest: str
    formation_energy_per_atom: float
    on_hull: list[str]
    known: list[KnownRow]


@dataclass(frozen=True)
class DftRow:
    """Volumes of built-in cells against those of a class of DFT cells, percent."""

    file: str
    metal: str
    cells: int
    matched: int
    mean_percent: float
    mean_absolute_percent: float
    largest_percent: float


@dataclass(frozen=True, repr=False)
class DataCard:
    """Every figure of the data card."""

    classes: list[Counts]
    lattices: list[LatticeRow]
    stable: list[StableRow]
    dft: list[DftRow]

    @property
    def cells(self) -> int:
        """How many cells all classes hold."""
        return sum(row.kept for row in self.classes)

    def __repr__(self) -> str:
        return f"DataCard({self.cells} cells in {len(self.classes)} classes)"

    def as_dict(self) -> dict[str, Any]:
        """The same for JSON."""
        return asdict(self)


def known_hydrides() -> list[KnownHydride]:
    """The table of known hydrides among the structure types that the classes hold.

    >>> known_hydrides()[0].metal
    'Li'
    """
    rows = json.loads(resource("assets/known-hydrides.json").read_text())
    return [KnownHydride(**row) for row in rows]


def report(dft: Sequence[Path] = ()) -> DataCard:
    """Every figure of the data card; `dft` are `.mat` files of DFT cells to compare with."""
    classes = {metal: load_class(metal) for metal in builtin_classes()}
    known = [row for row in known_hydrides() if row.metal in classes]
    return DataCard(
        classes=[_counts(c) for c in classes.values()],
        lattices=[_lattice_row(classes[row.metal], row) for row in known if row.lattice],
        stable=[
            _stable_row(c, [row for row in known if row.metal == c.metal]) for c in classes.values()
        ],
        dft=[_dft_row(path) for path in dft],
    )


def kind_of(reason: str) -> str:
    """The kind of a reason for which a structure type was left out."""
    return next((kind for words, kind in KINDS.items() if words in reason), "failed")


def _dropped(metal: str) -> dict[str, str]:
    """The structure types that the class of a metal does not hold, and why."""
    path = resource(f"assets/classes/{metal}.dropped.json")
    dropped: dict[str, str] = json.loads(path.read_text())
    return dropped


def _counts(c: BinaryClass) -> Counts:
    dropped = _dropped(c.metal)
    return Counts(c.metal, len(c), dropped, dict(Counter(map(kind_of, dropped.values()))))


def _find(c: BinaryClass, prototype: str) -> Cell | None:
    """The cell of this structure type, or the one that it collapsed into."""
    dropped = _dropped(c.metal)
    for _ in range(len(c)):
        reason = dropped.get(prototype, "")
        if not reason.startswith("collapsed into "):
            break
        prototype = reason.removeprefix("collapsed into ")
    return next((entry for entry in c.entries if entry.info["prototype"] == prototype), None)


def _experimental(row: KnownHydride) -> tuple[Lattice, int]:
    """The conventional lattice of an experiment and the number of its metal atoms."""
    from pymatgen.core import Lattice

    types = json.loads(resource("assets/prototypes.json").read_text())
    table = next(p for p in types if p["name"] == row.prototype)
    assert row.lattice is not None
    a = row.lattice["a"]
    b, c = row.lattice.get("b", a), row.lattice.get("c", a)
    angle = 120 if table["lattice"]["gamma"] == 120 else 90
    return Lattice.from_parameters(a, b, c, 90, 90, angle), table["n_metal"]


def _lattice_row(c: BinaryClass, row: KnownHydride) -> LatticeRow:
    """One comparison with experiment: edges where both cells have one setting, and the volume."""
    from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

    lattice, metals = _experimental(row)
    experiment = sorted(round(x, 3) for x in lattice.abc)
    cell = _find(c, row.prototype)
    if cell is None:
        reason = _dropped(row.metal).get(row.prototype)
        return LatticeRow(row.metal, row.prototype, row.source, experiment, reason=reason)
    ours = SpacegroupAnalyzer(cell.structure, 0.01).get_conventional_standard_structure()
    count = ours.composition[row.metal]
    volume = round(100 * (ours.volume / count / (lattice.volume / metals) - 1), 2)
    pairs = zip(sorted(ours.lattice.abc), sorted(lattice.abc), strict=True)
    edges: list[float] = [100 * (x / y - 1) for x, y in pairs]
    same_setting, found_as = count == metals, cell.info["prototype"]
    length = 100 * ((1 + volume / 100) ** (1 / 3) - 1)
    return LatticeRow(
        row.metal,
        row.prototype,
        row.source,
        experiment,
        found=sorted(round(x, 3) for x in ours.lattice.abc),
        found_as=found_as if found_as != row.prototype else None,
        volume_percent=volume,
        edges_percent=[round(x, 2) for x in edges] if same_setting else None,
        worst_percent=round(float(max(edges, key=abs)) if same_setting else length, 2),
    )


def _stable_row(c: BinaryClass, known: list[KnownHydride]) -> StableRow:
    """The cells of a class on its own hull with the elements, and how far known hydrides are."""
    cells = [*c.entries, *(builtin_elements()[symbol] for symbol in (c.metal, c.shared))]
    formulas = [cell.structure.formula for cell in cells]
    energies = [cell.info["energy_per_atom"] * len(cell.structure) for cell in cells]
    above = above_hull(formulas, energies)[: len(c)]
    by_name = {
        e.info["prototype"]: round(1000 * x, 1) for e, x in zip(c.entries, above, strict=True)
    }
    lowest = min(c.entries, key=lambda e: e.info["formation_energy_per_atom"])
    rows = []
    for row in known:
        cell = _find(c, row.prototype)
        above_mev = by_name[cell.info["prototype"]] if cell else None
        rows.append(KnownRow(row.prototype, row.forms, above_mev))
    return StableRow(
        metal=c.metal,
        lowest=lowest.info["prototype"],
        formation_energy_per_atom=round(lowest.info["formation_energy_per_atom"], 3),
        on_hull=[name for name, x in by_name.items() if x < 0.1],
        known=rows,
    )


def _dft_row(path: Path) -> DftRow:
    """Volumes of the built-in cells against those of DFT cells that match."""
    import numpy as np
    from pymatgen.analysis.structure_matcher import StructureMatcher

    theirs = load_class(path, skip_bad=True)
    ours = load_class(theirs.metal).structures
    matcher = StructureMatcher()
    ratios = []
    for cell in theirs.structures:
        of_formula = [s for s in ours if s.reduced_formula == cell.reduced_formula]
        same = [s for s in of_formula if matcher.fit(cell, s)]
        if same:
            best = min(same, key=lambda s: _rms(matcher, cell, s))
            ratios.append(best.volume / len(best) / (cell.volume / len(cell)) - 1)
    percent = 100 * np.array(ratios)
    return DftRow(
        file=path.name,
        metal=theirs.metal,
        cells=len(theirs),
        matched=len(ratios),
        mean_percent=round(float(percent.mean()), 2),
        mean_absolute_percent=round(float(abs(percent).mean()), 2),
        largest_percent=round(float(percent[abs(percent).argmax()]), 2),
    )


def _rms(matcher: StructureMatcher, one: Structure, other: Structure) -> float:
    """pymatgen's distance of two structures; infinite where they do not match."""
    found = matcher.get_rms_dist(one, other)
    return float(found[0]) if found else float("inf")
