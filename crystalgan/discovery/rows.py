"""What a search finds as rows of its run's databases, as `generate` and `relax` write them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from crystalgan.crystal.cells import decode, encode
from crystalgan.crystal.describe import symmetry
from crystalgan.crystal.lattice import reduced as reduced_cell
from crystalgan.discovery.found import structure_of
from crystalgan.discovery.record import SETTINGS
from crystalgan.discovery.search import RUNGS
from crystalgan.runs.checking import SYMPREC, Candidate, rules_of, verdicts_of
from crystalgan.runs.database import DECISIONS, note_compared, open_database
from crystalgan.runs.table import passed_key
from crystalgan.stability.hull import short
from crystalgan.stability.relaxations import write_relaxed
from crystalgan.stability.tasks import Outcome, Task, largest_displacement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymatgen.core import Structure

    from crystalgan.data.known import KnownStructures
    from crystalgan.discovery.found import Found
    from crystalgan.discovery.search import Proposal, Search
    from crystalgan.runs.folder import Run

NO_PARENT = -1


@dataclass
class Writer:
    """Writes what a search finds: the cell as it was proposed into `candidates.db`, the relaxed one
    into `relaxed.db`.

    A candidate is new when its relaxed cell matches no known structure.
    """

    run: Run
    potential: str
    version: str
    known: KnownStructures
    seed: int
    rules: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.rules = rules_of(self.run.rule, *self.run.classes())
        if not open_database(self.run).count():
            note_compared(self.run, self.known.report())

    def write(self, search: Search, new: Sequence[tuple[Found, Proposal]]) -> None:
        """Write what was found in a round; what is there already stays."""
        ternary = [f.id for f in search.found if all(f.counts)]
        for found, proposal in new:
            if all(found.counts):
                number = ternary.index(found.id)
                task = Task(self._candidate(found, proposal, number), "", found.structure)
            else:
                formula = short(found.structure.formula)
                task = Task(0, f"{formula} {proposal.id}", found.structure)
            write_relaxed(self.run, task, self._outcome(found, proposal))

    def _candidate(self, found: Found, proposal: Proposal, number: int) -> int:
        """The id of the row of a candidate, which is made where it is not there yet."""
        with (database := open_database(self.run, make=True)):
            for row in database.select(number=number, include_data=False):
                if row.seed == self.seed:
                    return int(row.id)
            made = structure_of(proposal.made)
            candidate = self._row(proposal, made)
            candidate.place(self.seed, number, proposal.id)
            candidate.compare(None, self.known.compare(found.structure))
            return candidate.write(database)

    def _row(self, proposal: Proposal, made: Structure) -> Candidate:
        cells = encode([made], self.run.species)
        (verdicts,) = verdicts_of(cells, self.rules)
        group = symmetry(made, SYMPREC)
        columns = {
            "spacegroup": group.number,
            "spacegroup_symbol": group.symbol,
            "ternary": True,
            "raw_passed": verdicts[self.run.rule.name].passed,
            "parent_a": NO_PARENT,
            "parent_b": NO_PARENT,
            "decision": DECISIONS[0],
            "source": proposal.source,
        }
        columns |= {passed_key(name): verdict.passed for name, verdict in verdicts.items()}
        details = {
            "verdicts": {name: asdict(one) | {"text": str(one)} for name, one in verdicts.items()},
            "shortest": verdicts["paper"].shortest,
            "note": "",
        }
        (structure,) = decode(cells)
        return Candidate(structure, reduced_cell(structure).to_ase_atoms(), columns, details)

    def _outcome(self, found: Found, proposal: Proposal) -> Outcome:
        """The columns and the first and last cell of a relaxation."""
        end, before, after = proposal.descent, proposal.made, proposal.descent.atoms
        group = symmetry(found.structure, SYMPREC)
        columns = {
            "state": "converged" if end.converged else "unfinished",
            "steps": end.steps,
            "force": end.force,
            "energy_per_atom": end.energy,
            "volume_change": 100 * (after.get_volume() / before.get_volume() - 1),
            "displacement": largest_displacement(structure_of(before), structure_of(after)),
            "spacegroup": group.number,
            "spacegroup_symbol": group.symbol,
            "potential": self.potential,
            "version": self.version,
            "settings": SETTINGS,
            "source": proposal.source,
        }
        data = {
            "reason": "",
            "energies": np.array([proposal.start_energy, *proposal.energies]),
            "steps": np.array([*RUNGS[: len(proposal.energies)], end.steps]),  # of the energies
            "frames": np.array([0, end.steps]),
            "lattices": np.array([before.cell.array, after.cell.array]),
            "positions": np.array([before.positions, after.positions], dtype=np.float32),
        }
        return Outcome(structure_of(after), columns, data)
