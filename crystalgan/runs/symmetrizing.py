"""Symmetrized cells of candidates as candidates of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from crystalgan.crystal.cells import Cells, decode
from crystalgan.crystal.describe import check_tolerance, symmetry
from crystalgan.data.known import KnownStructures, known_structures
from crystalgan.errors import InputError
from crystalgan.model.model import Batch
from crystalgan.runs.checking import Candidate, candidate_of, rules_of, verdicts_of
from crystalgan.runs.database import get_row, open_database, structure_of
from crystalgan.runs.folder import Run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ase.db.row import AtomsRow
    from pymatgen.core import Structure

    from crystalgan.runs.filedb import RunDatabase

NOT_DRAWN = -1  # the `seed` and `draw` of a candidate that was made from another one
# equal to about 0.01 Å
SAME_CELL = {"ltol": 0.005, "stol": 0.005, "angle_tol": 0.5, "scale": False}


def symmetrize(
    run: Run | Path | str,
    number: int,
    tolerance: float,
    known: KnownStructures | Sequence[Path | str] = (),
) -> int:
    """Add the symmetrized cell of candidate `number` as a candidate of its own; returns its id.

    `tolerance` in Å is how far an atom may be from its site (`describe.symmetry`). The new row is
    checked like all others and says where it comes from by `refined_from` and `refined_at` (Å).
    InputError where there is no symmetry, or the run holds this cell already.

    >>> symmetrize("runs/my_run", 3, tolerance=0.1)  # doctest: +SKIP
    201
    """
    from pymatgen.analysis.structure_matcher import StructureMatcher

    run = run if isinstance(run, Run) else Run.open(run)
    check_tolerance(tolerance)
    source = get_row(run, number)
    if not isinstance(known, KnownStructures):
        known = known_structures(run.species, known, run.config.known_ternaries)
    original = structure_of(source)
    new = _symmetrized(run, source, original, tolerance)
    with run.hold("generate"), (database := open_database(run)):
        _refuse_repeated(database, new, number, tolerance)
        new.place(NOT_DRAWN, database.count(seed=NOT_DRAWN), NOT_DRAWN)
        same = StructureMatcher().fit(original, new.structure)
        new.compare(source.number if same else None, known.compare(new.structure))
        new.columns |= {"refined_from": number, "refined_at": tolerance}
        return new.write(database)


def _symmetrized(run: Run, source: AtomsRow, original: Structure, tolerance: float) -> Candidate:
    """The symmetrized cell of a row, checked by the rules of the run."""
    found = symmetry(original, tolerance)
    if found.number == 1:
        raise InputError(
            f"Candidate {source.id} has no symmetry at {tolerance} Å: there is no symmetrized cell"
            " to take."
        )
    cells = _as_it_is(found.symmetrized, run.species)
    batch = Batch(cells, [source.parent_a], [source.parent_b], [bool(source.raw_passed)])
    rules = rules_of(run.rule, *run.classes())
    (structure,), (verdicts,) = decode(cells), verdicts_of(cells, rules)
    return candidate_of(batch, 0, structure, verdicts)


def _refuse_repeated(database: RunDatabase, new: Candidate, number: int, tolerance: float) -> None:
    """InputError where a candidate is the symmetrized cell of candidate `number` already."""
    from pymatgen.analysis.structure_matcher import StructureMatcher

    same, formula = StructureMatcher(**SAME_CELL), new.structure.composition.reduced_formula
    for row in database.select(include_data=False):
        other = structure_of(row)
        if other.composition.reduced_formula != formula or not same.fit(new.structure, other):
            continue
        if row.id == number:
            raise InputError(
                f"Candidate {number} is its own symmetrized cell at {tolerance} Å: its atoms are on"
                " their sites."
            )
        raise InputError(
            f"At {tolerance} Å the symmetrized cell of candidate {number} is the cell of candidate"
            f" {row.id}."
        )


def _as_it_is(structure: Structure, species: tuple[str, ...]) -> Cells:
    """One structure as `Cells`, atoms in the order of the slots, neither reduced nor moved."""
    sites = sorted(structure, key=lambda site: species.index(site.specie.symbol))
    counts = torch.tensor(
        [[sum(site.specie.symbol == symbol for site in sites)] for symbol in species]
    )
    mask = torch.arange(max(3, int(counts.max()))) < counts
    frac = torch.zeros(*mask.shape, 3, dtype=torch.float64)
    frac[mask] = torch.tensor(np.array([site.frac_coords for site in sites]))
    lattice = torch.tensor(structure.lattice.matrix.copy())
    return Cells(lattice[None], frac[None], mask[None], species)
