"""The report of the data doctor on one class of cells, in words and as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crystalgan.data.readers import LeftOut


@dataclass(frozen=True)
class Remark:
    """What of a cell was read otherwise than written."""

    where: str
    remark: str


@dataclass(frozen=True)
class Shortest:
    """The shortest distance (Å) between two kinds of atoms, and the cell that has it."""

    distance: float
    where: str


@dataclass(frozen=True)
class Close:
    """A cell with atoms nearer than they can be, Å."""

    where: str
    pair: str
    distance: float
    least: float


@dataclass(frozen=True)
class Outlier:
    """A cell far from the line of volume against composition, Å³ per metal atom."""

    where: str
    volume: float
    expected: float


@dataclass(frozen=True)
class Large:
    """A cell with so many atoms of one kind that it enlarges every tensor of its class."""

    where: str
    atoms_of_one_kind: int


@dataclass(frozen=True)
class Volumes:
    """Volumes per atom of a class, Å³."""

    lowest: float
    median: float
    highest: float


@dataclass(frozen=True)
class Proposal:
    """A cell that the doctor would leave out, and why."""

    where: str
    why: str


@dataclass(frozen=True)
class Findings:
    """What is in the cells of a class; the places of cells are those of `Cell.where`.

    `duplicates` are pairs of places. `shortest` and `distances` (first neighbours, Å) are by pair
    of elements, `limits` (d1 and d2, Å) by rule and pair. `prototypes` maps places to structure
    types. `oxidation` counts the formulas that no common oxidation states balance: a note, as in
    interstitial hydrides none has to.
    """

    duplicates: tuple[tuple[str, str], ...]
    close: tuple[Close, ...]
    shortest: dict[str, Shortest]
    keep_paper_rule: int
    large: tuple[Large, ...]
    prototypes: dict[str, str]
    oxidation: dict[str, int]
    distances: dict[str, list[float]]
    limits: dict[str, dict[str, tuple[float, float]]]
    volume: Volumes
    outliers: tuple[Outlier, ...]

    def proposals(self, metal: str) -> tuple[Proposal, ...]:
        """What the doctor would leave out, each place once with its last reason."""
        whys = {second: f"repeats {first}" for first, second in self.duplicates}
        for large in self.large:
            whys[large.where] = (
                f"{large.atoms_of_one_kind} atoms of one kind enlarge every tensor of the class"
            )
        for odd in self.outliers:
            whys[odd.where] = (
                f"{odd.volume} Å³ per {metal} atom, {odd.expected} expected at this composition"
            )
        for close in self.close:
            whys[close.where] = f"{close.pair} {close.distance} Å, closer than {close.least} Å"
        return tuple(Proposal(where, why) for where, why in whys.items())


@dataclass(frozen=True, repr=False)
class Diagnosis:
    """The report of the data doctor on a class, built-in or a user's.

    `left_out` and `remarks` say what was not read, or otherwise than written; `warnings` where the
    energies of the class will mean nothing; `proposals` which cells the doctor would leave out.
    `findings` is None where no cell can be used.
    """

    path: str
    metal: str | None
    shared: str
    cells: int
    left_out: tuple[LeftOut, ...]
    remarks: tuple[Remark, ...]
    findings: Findings | None = None
    proposals: tuple[Proposal, ...] = ()
    warnings: tuple[str, ...] = field(default=())

    def __repr__(self) -> str:
        counts = f"{len(self.left_out)} left out, {len(self.proposals)} proposals"
        return f"{self.cells} cells of {self.metal}-{self.shared}: {counts}"

    def _repr_html_(self) -> str:
        return "<br>".join(map(escape, self.lines()))

    def as_dict(self) -> dict[str, Any]:
        """The same for JSON, the findings beside the rest."""
        data = asdict(self)
        del data["findings"], data["warnings"]
        data["left_out"] = [{"where": x.where, "reason": x.reason} for x in self.left_out]
        data |= {"duplicates": [], "shortest": {}, "keep_paper_rule": 0}
        if self.warnings:
            data["warnings"] = list(self.warnings)
        if self.findings:
            data |= asdict(self.findings)
        return data

    def lines(self) -> list[str]:
        """The same in words, a line each."""
        lines = [f"{self.path}: {self.cells} cells of {self.metal}-{self.shared}"]
        lines += [f"note      {words}" for words in self.warnings]
        lines += [f"left out  {x}" for x in self.left_out]
        lines += [f"note      {x.where}: {x.remark}" for x in self.remarks]
        if self.findings:
            lines += _lines_of(self.findings, self.cells)
        return lines + [f"proposed  leave out {x.where}: {x.why}" for x in self.proposals]


def _lines_of(found: Findings, cells: int) -> list[str]:
    """The findings in words."""
    lines = [
        f"shortest  {pair} {x.distance:.3f} Å in {x.where}" for pair, x in found.shortest.items()
    ]
    volume, types = found.volume, sorted(set(found.prototypes.values()))
    lines.append(
        f"volume    {volume.lowest:.2f} to {volume.highest:.2f} Å³ per atom, median"
        f" {volume.median:.2f}"
    )
    for rule, limits in found.limits.items():
        ends = (f"{pair} {d1:.2f}-{d2:.2f} Å" for pair, (d1, d2) in limits.items())
        lines.append(f"limits    {rule}: {', '.join(ends)}")
    lines.append(
        f"rule      {found.keep_paper_rule} of {cells} keep the rule paper: H-H and metal-metal"
        " within 1.8-3.0 Å"
    )
    lines.append(f"types     {len(found.prototypes)} cells recognised: {', '.join(types)}")
    if found.oxidation:
        lines.append(
            f"note      no common oxidation states balance {', '.join(found.oxidation)}"
            " (nothing odd in a metallic hydride)"
        )
    return lines
