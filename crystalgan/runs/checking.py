"""New cells as rows of a database: verdicts of the rules, space group, parents."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from crystalgan.crystal.canonical import space_group
from crystalgan.crystal.lattice import reduced
from crystalgan.crystal.limits import learned_rule
from crystalgan.crystal.repair import check
from crystalgan.crystal.rules import paper_rule
from crystalgan.runs.database import DECISIONS, details_of
from crystalgan.runs.table import passed_key

if TYPE_CHECKING:
    from ase import Atoms
    from pymatgen.core import Structure

    from crystalgan.crystal.cells import Cells
    from crystalgan.crystal.rules import Rule, Verdict
    from crystalgan.data.known import Likeness
    from crystalgan.model.model import Batch
    from crystalgan.runs.filedb import RunDatabase

SYMPREC = 0.1  # Å, tolerance of the space group before any relaxation


@dataclass
class Candidate:
    """A new cell with what is known of it: the columns and the details of its row.

    Atoms of `structure` are in the order that its verdicts count in.
    """

    structure: Structure
    atoms: Atoms  # in the Niggli-reduced cell
    columns: dict[str, Any]
    data: dict[str, Any]

    def place(self, seed: int, number: int, draw: int) -> None:
        """Note that this is candidate `number` of a seed, found in this draw."""
        self.columns |= {"seed": seed, "number": number, "draw": draw}

    def compare(self, duplicate_of: int | None, likeness: Likeness) -> None:
        """Note the candidate that this one repeats, and the known structure or type."""
        self.columns |= {
            "unique": duplicate_of is None,
            "duplicate_of": -1 if duplicate_of is None else duplicate_of,
            "new": likeness.match is None,
        }
        self.data |= details_of(likeness)

    def write(self, database: RunDatabase) -> int:
        """Add the row to a database; returns its id."""
        return int(database.write(self.atoms, key_value_pairs=self.columns, data=self.data))


def rules_of(rule: Rule, a: Cells, b: Cells) -> dict[str, Rule]:
    """The rules that candidates of two classes are checked by: `paper`, `learned`, and the run's
    own."""
    learned = rule if rule.name == "learned" else learned_rule(a, b)
    paper = paper_rule((a.species[1], b.species[1]), a.species[0])
    return {"paper": paper, "learned": learned} | {rule.name: rule}


def verdicts_of(cells: Cells, rules: dict[str, Rule]) -> list[dict[str, Verdict]]:
    """The verdict of every rule, by its name, on each cell."""
    by_rule = [check(cells, rule) for rule in rules.values()]
    return [dict(zip(rules, row, strict=True)) for row in zip(*by_rule, strict=True)]


def candidate_of(
    batch: Batch, row: int, structure: Structure, verdicts: dict[str, Verdict]
) -> Candidate:
    """A row of a batch as a candidate, given its structure and the verdicts on it."""
    number, symbol = space_group(structure, SYMPREC)
    columns = {
        "spacegroup": number,
        "spacegroup_symbol": symbol,
        "ternary": {s.specie.symbol for s in structure} == set(batch.cells.species),
        "raw_passed": batch.raw[row],
        "parent_a": batch.parent_a[row],
        "parent_b": batch.parent_b[row],
        "decision": DECISIONS[0],
    }
    columns |= {passed_key(name): verdict.passed for name, verdict in verdicts.items()}
    details = {
        "verdicts": {name: asdict(one) | {"text": str(one)} for name, one in verdicts.items()},
        "shortest": verdicts["paper"].shortest,
        "note": "",
    }
    return Candidate(structure, reduced(structure).to_ase_atoms(), columns, details)
