"""The ternary phases that a search found, ranked by their energy above the hull."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crystalgan.discovery.record import read_record
from crystalgan.runs.database import candidates_table
from crystalgan.stability.hull import lacks_compounds
from crystalgan.stability.hydrogen import temperature
from crystalgan.stability.relaxations import potentials_of
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
    "weight_percent": "H (wt%)",
    "enthalpy": "release (kJ/mol H2)",
    "temperature": "T at 1 bar (K)",
    "products": "decomposes into",
    "source": "source",
    "known": "known",
}


@dataclass(frozen=True, repr=False)
class Phases:
    """Ternary phases of a search, the lowest above the hull first.

    `table` has a row for each relaxed candidate, all compositions together.

    >>> phases_of_run(open_run("runs/Zr-Ni-H_crystalgan_seed0_001")).table  # doctest: +SKIP
    """

    run: Run
    cpu_minutes: float
    table: pd.DataFrame
    sources: dict[str, int]  # how many each source found
    diagram: PhaseDiagram | None = None  # None before there is one
    potential: str = ""  # as relaxed cells carry it

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
        names = ("id", "formula", "atoms", "above_hull", "weight_percent", "source")
        rows = self.table.astype(object).where(self.table.notna(), None).to_dict("records")
        phases = [
            {name: row[name] for name in names if name in row}
            | {"spacegroup": row["spacegroup_symbol"], "known": row["known"] or None}
            for row in rows
        ]
        return {
            "run": str(self.run.folder),
            "cpu_minutes": round(self.cpu_minutes, 3),
            "phases": phases,
            "sources": self.sources,
        } | ({"warnings": [self.warning]} if self.warning else {})

    def lines(self, most: int = 20) -> list[str]:
        """The lowest phases in lines."""
        titles = f"{'no.':>5} {'formula':12} {'atoms':>5} {'space group':11} {'eV/atom':>8}"
        out = [repr(self)]
        if len(self.table):
            out.append(f"{titles} {'wt% H':>6} {'kJ/mol H2':>9} {'K':>5}  {'source':9} known")
        for row in self.table.head(most).itertuples():
            heat = "" if row.enthalpy is None else f"{row.enthalpy:.1f}"
            kelvin = "" if row.temperature is None else f"{row.temperature:.0f}"
            out.append(
                f"{row.id:5} {row.formula:12} {row.atoms:5} {row.spacegroup_symbol:11}"
                f" {row.above_hull:8.3f} {row.weight_percent:6.2f} {heat:>9} {kelvin:>5}"
                f"  {row.source:9} {row.known or 'new'}"
            )
        if len(self.table) > most:
            out.append(f"and {len(self.table) - most} more; `crystalgan stability` lists all")
        out.append(
            "found by " + ", ".join(f"{name} {count}" for name, count in self.sources.items())
        )
        out += [self.warning] * bool(self.warning)
        return out


def phases_of_run(run: Run) -> Phases:
    """The phases that the search of a run folder has found so far.

    Raises InputError for a run that is none of a search.

    >>> from crystalgan import open_run
    >>> phases_of_run(open_run("runs/Zr-Ni-H_crystalgan_seed0_001"))  # doctest: +SKIP
    12 ternary phases in 1.0 CPU minutes
    """
    import pandas as pd

    minutes = read_record(run).cpu_seconds / 60
    names = potentials_of(run)
    if not names:
        return Phases(run, minutes, pd.DataFrame(), {})
    diagram, table, problem = stability_of(run, names[0])
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
    return Phases(run, minutes, table.reset_index(drop=True), sources, diagram, names[0])
