"""Candidates: make cells with a trained run, judge them, find duplicates and symmetry, keep them in
an ASE database.

Candidate k of a seed is the same however many are asked for: cells are drawn in blocks, each with
random numbers of its own. They are judged as they are drawn, and kept in the Niggli-reduced cell of
the same crystal.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from crystalgan.config import check_seed, mixed
from crystalgan.crystal.canonical import space_group
from crystalgan.crystal.cells import Cells, decode
from crystalgan.crystal.describe import check_tolerance, symmetry
from crystalgan.crystal.lattice import reduced
from crystalgan.crystal.limits import learned_rule, limits_of
from crystalgan.crystal.matching import StructureIndex
from crystalgan.crystal.repair import check, repair, rescale, satisfies
from crystalgan.crystal.rules import Rule, Verdict, paper_rule
from crystalgan.data.known import Known, known_structures
from crystalgan.errors import InputError
from crystalgan.model import methods
from crystalgan.model.batches import (
    class_tensors,
    load_networks,
    noise,
    pair_order,
    perturb,
    reference_of,
    shuffled,
    transferred,
    union,
)
from crystalgan.model.methods import METHODS
from crystalgan.model.pair_potential import load as load_energy
from crystalgan.model.pair_potential import wanted as energy_wanted
from crystalgan.runs.database import (
    DECISIONS,
    compared_with,
    get_row,
    note_compared,
    note_matches,
    open_database,
    passed_key,
    structure_of,
    timed,
)
from crystalgan.runs.folder import Run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pymatgen.core import Structure

    from crystalgan.crystal.limits import Limits
    from crystalgan.model.pair_potential import PairPotential

BLOCK = 250
BREAKING = 1e6  # eV/atom, for a cell that breaks its rule: any that keeps it is better
MOST_CANDIDATES = 10_000_000
MOST_DRAWS = 4  # a candidate, before repeated ones are taken too
SYMPREC = 0.1  # Å, tolerance of the space group before any relaxation
NOT_DRAWN = -1  # the `seed` and `draw` of a candidate that was made from another one
# equal to about 0.01 Å
SAME_CELL = {"ltol": 0.005, "stol": 0.005, "angle_tol": 0.5, "scale": False}


Verdicts = dict[str, list[Verdict]]  # on every cell of a batch, by the rule's name


@dataclass(frozen=True)
class Batch:
    """New cells, the rows of the classes that they come from (-1: none), and whether each kept the
    rule before `repair`."""

    cells: Cells
    parent_a: list[int]
    parent_b: list[int]
    raw: list[bool]


def make(run: Run, block: int, seed: int, choose: int | None = None) -> Batch:
    """One block of new cells of a finished run's method, float64; `choose` as in `make_from`."""
    rng = torch.Generator().manual_seed(mixed(seed * 1_000_003 + block))
    if METHODS[run.config.method][-1].domains == "noise":
        return _batch(run, _from_noise(run, rng), torch.full((BLOCK, 2), -1))
    a, b = run.classes()
    order = pair_order(len(a), len(b), torch.Generator().manual_seed(seed))
    numbers = torch.arange(block * BLOCK, (block + 1) * BLOCK)
    # both generators in turn, and the other one when a pair comes again
    to_b = (numbers + numbers // len(order)) % 2 == 0
    return make_from(run, order[numbers % len(order)], to_b, rng, choose)


def make_from(
    run: Run,
    pairs: Tensor,
    to_b: Tensor,
    rng: torch.Generator,
    choose: int | None = None,
    whole: bool | None = None,
) -> Batch:
    """New cells of a finished run of cells with two domains, float64, from rows of both classes
    `[n, 2]`.

    They are made by the generator from A to B where `to_b`, and by the other one elsewhere; each is
    chosen from as many as the run's settings or `choose` say, and `whole` is as in
    `pools.transferred`.
    """
    tries = (choose or run.config.best_of) if energy_wanted(run) else 1
    pairs_of_all, to_b = pairs.repeat_interleave(tries, 0), to_b.repeat_interleave(tries)
    if METHODS[run.config.method][-1].domains == "ternary":
        return _batch(run, _ternary(run, pairs_of_all, to_b, rng, whole), pairs)
    return _batch(run, _binary(run, pairs_of_all, to_b), pairs)


def _batch(run: Run, cells: Cells, pairs: Tensor) -> Batch:
    """Cells as they are finished, of several made from the same parents one after the other the
    best (`_preferred`)."""
    cells = cells.to(torch.float64)
    limits = limits_of(run.rule, cells.species, torch.float64)
    raw = satisfies(cells, limits)
    if METHODS[run.config.method][-1].constrained:
        energy = load_energy(run)
        cells = finished(run, cells, limits, energy)
        if energy and len(cells) > len(pairs):
            chosen = _preferred(cells, limits, energy, len(cells) // len(pairs))
            cells, raw = cells[chosen], raw[chosen]
    parent_a, parent_b = pairs.T.tolist()
    return Batch(cells, parent_a, parent_b, raw.tolist())


def finished(run: Run, cells: Cells, limits: Limits, energy: PairPotential | None) -> Cells:
    """What becomes of a generator's cells (one leading axis, float64): packed, settled and refined,
    as far as the run says."""
    config = run.config
    if config.prerelax and energy:
        usual = reference_of(*class_tensors(run))
        cells = energy.prerelaxed(rescale(cells, limits, usual, config.margin), config.prerelax)
    return repair(cells, limits, config.repair, config.margin) if config.repair else cells


def _preferred(cells: Cells, limits: Limits, energy: PairPotential, tries: int) -> Tensor:
    """The rows of those that have the lowest energy of `tries` one after the other; those that
    break the limits come last."""
    with torch.no_grad():
        broken = (~satisfies(cells, limits)).double()
        order = energy(cells) / cells.mask.sum((-2, -1)) + broken * BREAKING
    return order.view(-1, tries).argmin(-1) + torch.arange(len(cells) // tries) * tries


def _ternary(
    run: Run, pairs: Tensor, to_b: Tensor, rng: torch.Generator, whole: bool | None
) -> Cells:
    origins = torch.rand(len(pairs), run.config.origins, 3, generator=rng)
    nets = load_networks(run, 2)
    starts = [
        perturb(start[None], run.config.noise, [rng])[0]
        for start in transferred(run, pairs, origins, to_b, whole)
    ]
    return _merged(
        to_b, *(methods.one_way(nets, start, domain) for domain, start in enumerate(starts))
    )


def _binary(run: Run, pairs: Tensor, to_b: Tensor) -> Cells:
    """Pseudo-binaries of step 1, each with the metal of the domain that it was translated into."""
    a, b = class_tensors(run)
    nets = load_networks(run, 1)
    in_b = replace(methods.one_way(nets, a[pairs[to_b, 0]], 0), species=b.species)
    in_a = replace(methods.one_way(nets, b[pairs[~to_b, 1]], 1), species=a.species)
    return _merged(to_b, union(a[:0], in_b), union(in_a, b[:0]))


def _from_noise(run: Run, rng: torch.Generator) -> Cells:
    both = union(*class_tensors(run))
    start = noise(both[shuffled(len(both), BLOCK, rng)][None], [rng])
    return methods.forward(load_networks(run, 1), Cells.stack([start], 1)).b[0]


def _merged(to_b: Tensor, b: Cells, a: Cells) -> Cells:
    """The cells of `b` where `to_b`, and those of `a` elsewhere, each in their order."""
    order = torch.cat((to_b.nonzero(), (~to_b).nonzero())).squeeze(-1).argsort()
    return Cells.cat((b, a))[order]


def rules_of(run: Run) -> dict[str, Rule]:
    """The rules that every candidate of a run is judged by: `paper`, `learned`, and the run's own
    table if it has one."""
    rules = {"paper": paper_rule(run.species[1:], run.species[0])}
    rules["learned"] = run.rule if run.rule.name == "learned" else learned_rule(*run.classes())
    return rules | {run.rule.name: run.rule}


def generate(
    run: Run | Path | str,
    n: int = 1000,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    known: Sequence[Path | str] = (),
) -> dict[str, Any]:
    """Have `n` candidates of this seed in the run's database, making those that are not there yet.

    A draw that repeats an earlier candidate is skipped, unless nearly all do. A candidate is new
    when it matches neither a built-in cell nor one in the files `known`. `progress(done, n)` is
    called after each candidate. Returns counts over these `n`: candidates, passed and
    passed_before_refine (by rule), unique, new, ternary, and drawn: how many cells were drawn for
    them; and `known`: what they were compared with (`matching.Known.report`).
    """
    run = run if isinstance(run, Run) else Run.open(run)
    if not 1 <= n <= MOST_CANDIDATES:
        raise InputError(f"{n} candidates were asked for; ask for 1 to {MOST_CANDIDATES:,}.")
    check_seed(seed)
    last = len(METHODS[run.config.method])
    if not (run.folder / f"step{last}.safetensors").exists():
        raise InputError(
            f"{run.folder}: not trained to the end yet; run `crystalgan resume {run.folder}` first."
        )
    with run.hold("generate"), timed(run):
        reference = known_structures(run.species, known)
        _note_compared(run, n, seed, reference.report())
        _generate(run, n, seed, reference, progress)
    return summary(run, n, seed) | {"known": reference.report()}


def _note_compared(run: Run, n: int, seed: int, report: dict[str, Any]) -> None:
    """Note what candidates that are to be made will be compared with, or what those there were,
    where that is less."""
    database, before = open_database(run), compared_with(run)
    if database.count() == 0:
        note_compared(run, report)
    elif before is not None and database.count(seed=seed) < n:
        note_compared(
            run, min(before, report, key=lambda known: (known["ternary"], known["structures"]))
        )


def compare_with_known(
    run: Run | Path | str,
    known: Sequence[Path | str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Say again of every candidate of a run whether it is new, for known structures that were added
    later.

    `progress(done, of)` is called after each candidate. Returns counts: candidates, new; and
    `known`, as `generate` does.
    """
    run = run if isinstance(run, Run) else Run.open(run)
    with run.hold("generate"):
        reference = known_structures(run.species, known)
        matches, rows = {}, list(open_database(run).select(include_data=False))
        for row in rows:
            matches[row.id] = reference.find(structure_of(row))
            if progress:
                progress(len(matches), len(rows))
        note_matches(run, matches)
        note_compared(run, reference.report())
    new = sum(match is None for match in matches.values())
    return {"candidates": len(matches), "new": new, "known": reference.report()}


def symmetrize(
    run: Run | Path | str, number: int, tolerance: float, known: Known | Sequence[Path | str] = ()
) -> int:
    """Add the refined cell of candidate `number` as a candidate of its own, judged like all others;
    returns its id.

    `tolerance` in Å is how far an atom may be from its site (`describe.symmetry`). The new row says
    where it comes from by `refined_from` and `refined_at` (Å). InputError where there is no
    symmetry, or the run holds this cell already.
    """
    from pymatgen.analysis.structure_matcher import StructureMatcher

    run = run if isinstance(run, Run) else Run.open(run)
    check_tolerance(tolerance)
    source, reference = (
        get_row(run, number),
        (known if isinstance(known, Known) else known_structures(run.species, known)),
    )
    original = structure_of(source)
    found = symmetry(original, tolerance)
    if found.number == 1:
        raise InputError(
            f"Candidate {number} has no symmetry at {tolerance} Å: there is no refined cell to"
            " take."
        )
    batch = Batch(
        _as_it_is(found.symmetrized, run.species),
        [source.parent_a],
        [source.parent_b],
        [bool(source.raw_passed)],
    )
    (structure,) = decode(batch.cells)
    columns, data = _described(run, batch, 0, structure, _verdicts(batch.cells, rules_of(run)))
    with run.hold("generate"), (database := open_database(run)):
        same, formula = StructureMatcher(**SAME_CELL), structure.composition.reduced_formula
        for row in database.select(include_data=False):
            other = structure_of(row)
            if other.composition.reduced_formula == formula and same.fit(structure, other):
                if row.id == number:
                    raise InputError(
                        f"Candidate {number} is its own refined cell at {tolerance} Å: its atoms"
                        " are on their sites."
                    )
                raise InputError(
                    f"At {tolerance} Å the refined cell of candidate {number} is the cell of"
                    f" candidate {row.id}."
                )
        unique, match = not StructureMatcher().fit(original, structure), reference.find(structure)
        columns |= {
            "seed": NOT_DRAWN,
            "number": database.count(seed=NOT_DRAWN),
            "draw": NOT_DRAWN,
            "new": match is None,
        }
        columns |= {"unique": unique, "duplicate_of": -1 if unique else source.number}
        columns |= {"refined_from": number, "refined_at": tolerance}
        data["matches"] = match or ""
        return int(
            database.write(reduced(structure).to_ase_atoms(), key_value_pairs=columns, data=data)
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
    return Cells(
        torch.tensor(structure.lattice.matrix.copy())[None], frac[None], mask[None], species
    )


def _generate(
    run: Run,
    n: int,
    seed: int,
    reference: StructureIndex[str],
    progress: Callable[[int, int], None] | None,
) -> None:
    rules, database, duplicates = (
        rules_of(run),
        open_database(run, make=True),
        StructureIndex[int](),
    )
    # ASE's are floats
    there = [
        row
        for row in database.select(seed=seed, sort="number", include_data=False)
        if row.seed == seed
    ]
    number, draw = len(there), (there[-1].draw + 1 if there else 0)
    for row in there if number < n else ():
        duplicates.find_or_add(structure_of(row), row.number)
    while number < n:
        block, first = divmod(draw, BLOCK)
        batch = make(run, block, seed)
        verdicts = _verdicts(batch.cells, rules)
        rows: list[tuple[Structure, dict[str, Any], dict[str, Any]]] = []
        for row, structure in enumerate(decode(batch.cells[first:]), first):
            twin = duplicates.find_or_add(structure, number)
            draw += 1
            if twin is not None and draw < MOST_DRAWS * number + BLOCK:
                continue
            columns, data = _described(run, batch, row, structure, verdicts)
            columns |= {"seed": seed, "number": number, "draw": draw - 1}
            match = reference.find(structure)
            columns |= {
                "unique": twin is None,
                "duplicate_of": -1 if twin is None else twin,
                "new": match is None,
            }
            data["matches"] = match or ""
            rows.append((reduced(structure), columns, data))
            number += 1
            if progress:
                progress(number, n)
            if number == n:
                break
        with database:  # one transaction a block, and a short one: others vet meanwhile
            for structure, columns, data in rows:
                database.write(structure.to_ase_atoms(), key_value_pairs=columns, data=data)


def _verdicts(cells: Cells, rules: dict[str, Rule]) -> Verdicts:
    return {name: check(cells, rule) for name, rule in rules.items()}


def _described(
    run: Run, batch: Batch, row: int, structure: Structure, verdicts: Verdicts
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Columns and details of a row of a batch, given its structure and the verdicts on all rows."""
    shared, *metals = run.species
    number, symbol = space_group(structure, SYMPREC)
    columns = {
        "spacegroup": number,
        "spacegroup_symbol": symbol,
        "ternary": {s.specie.symbol for s in structure} == {shared, *metals},
        "raw_passed": batch.raw[row],
        "parent_a": batch.parent_a[row],
        "parent_b": batch.parent_b[row],
        "decision": DECISIONS[0],
    } | {passed_key(name): every[row].passed for name, every in verdicts.items()}
    data = {
        "verdicts": {
            name: asdict(every[row]) | {"text": str(every[row])} for name, every in verdicts.items()
        },
        "shortest": verdicts["paper"][row].shortest,
        "note": "",
    }
    return columns, data


def summary(run: Run, n: int, seed: int) -> dict[str, Any]:
    """The counts over the first `n` candidates of a seed."""
    rows = [
        row
        for row in open_database(run).select(f"number<{n}", seed=seed, include_data=False)
        if row.seed == seed
    ]
    return {
        "candidates": len(rows),
        "passed": {
            name: sum(bool(row[passed_key(name)]) for row in rows) for name in rules_of(run)
        },
        "passed_before_refine": {run.rule.name: sum(bool(row.raw_passed) for row in rows)},
        "unique": sum(bool(row.unique) for row in rows),
        "new": sum(bool(row.get("new", True)) for row in rows),
        "ternary": sum(bool(row.ternary) for row in rows),
        "drawn": 1 + max((row.draw for row in rows), default=-1),
    }
