"""The ternary phases that a search found, ranked by their energy above the hull."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from crystalgan.discovery.record import SETTINGS, read_record
from crystalgan.errors import InputError
from crystalgan.runs.database import candidates_table
from crystalgan.stability.hull import lacks_compounds
from crystalgan.stability.hydrogen import temperature
from crystalgan.stability.relaxations import potentials_of, relaxed_rows
from crystalgan.stability.table import stability_of

if TYPE_CHECKING:
    import pandas as pd
    from pymatgen.analysis.phase_diagram import PhaseDiagram

    from crystalgan.runs.folder import Run

COLUMNS = {
    "id": "id",
    "formula": "formula",
    "atoms": "atoms",
    "spacegroup_symbol": "space group",
    "above_hull": "above hull (eV/atom)",
    "above_hull_verified": "verified (eV/atom)",
    "weight_percent": "H (wt%)",
    "enthalpy": "release (kJ/mol H2)",
    "temperature": "T at 1 bar (K)",
    "products": "decomposes into",
    "source": "source",
    "known": "known",
}


@dataclass(frozen=True)
class Verified:
    """The potential that the lowest phases were relaxed with once more, and how many have an energy
    above its hull."""

    potential: str
    version: str
    phases: int


@dataclass(frozen=True, repr=False)
class Phases:
    """Ternary phases of a search, the lowest above the hull first.

    `table` has a row for each relaxed candidate, all compositions together; where another potential
    was asked, `above_hull_verified` is the energy above its own hull, eV/atom, NaN where unknown.

    >>> phases_of_run(open_run("runs/Zr-Ni-H_crystalgan_seed0_001")).table  # doctest: +SKIP
    """

    run: Run
    cpu_minutes: float
    table: pd.DataFrame
    sources: dict[str, int]  # how many each source found
    diagram: PhaseDiagram | None = None  # None before there is one
    potential: str = ""  # as relaxed cells carry it
    verified: Verified | None = None

    def __repr__(self) -> str:
        return f"{len(self.table)} ternary phases in {self.cpu_minutes:.1f} CPU minutes"

    @property
    def warning(self) -> str:
        """What the energies above the hull leave out, in a sentence; empty where nothing."""
        missing = lacks_compounds(self.diagram, self.run.species) if self.diagram else ""
        way = f"`crystalgan relax {self.run.folder} --references` adds them."
        return missing and f"{missing} {way}"

    def _repr_html_(self) -> str:
        html: str = self.shown().head(30).to_html(index=False, border=0)
        return f"<p>{self!r}</p>{html}"

    def shown(self) -> pd.DataFrame:
        """The table under the names that people read."""
        there = {name: title for name, title in COLUMNS.items() if name in self.table}
        shown: pd.DataFrame = self.table[list(there)].rename(columns=there).round(3)
        return shown

    def as_dict(self) -> dict[str, Any]:
        """What JSON holds of it."""
        names = ["id", "formula", "atoms", "above_hull", "above_hull_verified"]
        names += ["weight_percent", "source"]
        rows = self.table.astype(object).where(self.table.notna(), None).to_dict("records")
        phases = [
            {name: row[name] for name in names if name in row}
            | {"spacegroup": row["spacegroup_symbol"], "known": row["known"] or None}
            for row in rows
        ]
        return (
            {
                "run": str(self.run.folder),
                "cpu_minutes": round(self.cpu_minutes, 3),
                "phases": phases,
                "sources": self.sources,
            }
            | ({"verified": asdict(self.verified)} if self.verified else {})
            | ({"warnings": [self.warning]} if self.warning else {})
        )

    def lines(self, most: int = 20) -> list[str]:
        """The lowest phases in lines."""
        titles = f"{'no.':>5} {'formula':12} {'atoms':>5} {'space group':11} {'eV/atom':>8}"
        titles += f" {'verified':>9}" if self.verified else ""
        out = [repr(self)]
        if len(self.table):
            out.append(f"{titles} {'wt% H':>6} {'kJ/mol H2':>9} {'K':>5}  {'source':9} known")
        for row in self.table.head(most).itertuples():
            heat = "" if row.enthalpy is None else f"{row.enthalpy:.1f}"
            kelvin = "" if row.temperature is None else f"{row.temperature:.0f}"
            out.append(
                f"{row.id:5} {row.formula:12} {row.atoms:5} {row.spacegroup_symbol:11}"
                f" {row.above_hull:8.3f}{self._second(row)} {row.weight_percent:6.2f}"
                f" {heat:>9} {kelvin:>5}  {row.source:9} {row.known or 'new'}"
            )
        if self.verified:
            out.append(
                f"verified: relaxed with {self.verified.potential} {self.verified.version}, above"
                " its own hull; * became another cell"
            )
        if len(self.table) > most:
            out.append(f"and {len(self.table) - most} more; `crystalgan stability` lists all")
        out.append(
            "found by " + ", ".join(f"{name} {count}" for name, count in self.sources.items())
        )
        out += [self.warning] * bool(self.warning)
        return out

    def _second(self, row: Any) -> str:
        """The energy above the hull of the second potential, as a column."""
        if not self.verified:
            return ""
        if math.isnan(row.above_hull_verified):
            return f" {'':9}"
        other = getattr(row, "same_cell", True) is False
        return f" {row.above_hull_verified:8.3f}{'*' if other else ' '}"


def phases_of_run(run: Run, verified: str = "") -> Phases:
    """The phases that the search of a run folder has found so far.

    `verified` is another potential, by the name that relaxed cells carry, whose energies are to
    stand beside the search's (`verify`). Raises InputError for a run that is none of a search, and
    where there are no energies above the hull of that potential.

    >>> from crystalgan import open_run
    >>> phases_of_run(open_run("runs/Zr-Ni-H_crystalgan_seed0_001"))  # doctest: +SKIP
    12 ternary phases in 1.0 CPU minutes
    """
    import pandas as pd

    minutes = read_record(run).cpu_seconds / 60
    name = potential_of(run)
    if not name:
        return Phases(run, minutes, pd.DataFrame(), {})
    diagram, table, problem = stability_of(run, name)
    if problem or table.empty:
        return Phases(run, minutes, pd.DataFrame(), {})
    candidates = candidates_table(run).set_index("id")
    table = table[table["state"] == "converged"].copy()
    table["known"] = table["id"].map(candidates["matches"]).fillna("")
    table["source"] = table["id"].map(candidates["source"])
    heat = [None if pd.isna(e) else float(e) for e in table["enthalpy"]]
    table["enthalpy"] = pd.Series(heat, table.index, dtype=object)
    kelvin = [None if e is None or e <= 0 else temperature(e) for e in heat]
    table["temperature"] = pd.Series(kelvin, table.index, dtype=object)
    sources = dict(Counter(table["source"]).most_common())
    table = table.reset_index(drop=True)
    second = _verified(run, verified, table) if verified else None
    return Phases(run, minutes, table, sources, diagram, name, second)


def potential_of(run: Run) -> str:
    """The potential of a search, as relaxed cells carry it; empty before the first."""
    names = potentials_of(run)
    own = {row.potential for row in relaxed_rows(run) if row.settings == SETTINGS}
    return next((name for name in names if name in own), names[0] if names else "")


def _verified(run: Run, potential: str, table: pd.DataFrame) -> Verified:
    """Add what another potential says to the table of phases."""
    _, second, problem = stability_of(run, potential)
    if problem:
        raise InputError(problem)
    second = second[second["state"] == "converged"].set_index("id")
    table.insert(
        table.columns.get_loc("above_hull") + 1,
        "above_hull_verified",
        table["id"].map(second["above_hull"]).astype(float),
    )
    known = int(table["above_hull_verified"].notna().sum())
    return Verified(potential, second["version"].iloc[0] if known else "", known)
