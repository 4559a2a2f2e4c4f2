"""The race: a run's cells against what a chemist would do otherwise. Same pair, compositions,
relaxer and CPU time.

Making and relaxing both count; training does not, and is said beside it. Each method and seed has
one process and one result, which is kept: a race that is stopped goes on with those that are
missing.
"""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from crystalgan.errors import InputError
from crystalgan.jobs import at_least_one
from crystalgan.stability.hull import Phase, diagram_of
from crystalgan.stability.references import builtin_phases
from crystalgan.stability.tasks import Settings, Task, about_potential, relax_task
from crystalgan.stability.workers import Workers
from crystalgan.storage import read_json, write_json
from crystalgan.studies.baselines import METHODS, Field, compositions_of
from crystalgan.studies.stacks import Job, check_minutes, seeds_of, study_folder, trained

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pymatgen.core import Structure

    from crystalgan.config import Config
    from crystalgan.data.classes import BinaryClass
    from crystalgan.runs.folder import Run

FOLDER = "race"
POTENTIAL = "chgnet"  # the one that the built-in elements and binaries have energies from
HITS = (0.1, 0.05)  # eV/atom above the hull
COMPOSITIONS = 1000  # of the run's, which the other methods go through


def race(
    a: BinaryClass,
    b: BinaryClass,
    config: Config,
    root: Path,
    minutes: float = 10.0,
    seeds: int = 1,
    jobs: int = 1,
    types: Sequence[Structure] = (),
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Give each method the same CPU minutes a seed, and count what it found.

    The run is trained once, with `config`; seeds are those of cells. `types` are known ternary
    structures, whose metals are swapped as well. Returns `pair`, `minutes`, `seeds`,
    `training_minutes` and `methods`: for each the sums of `relaxed`, `converged`, `valid` (by the
    learned rule, as they were made), `unique` and `new` (relaxed), `hits_0.1` and `hits_0.05`
    (unique, new, converged ternaries so near the hull of elements, binaries and compounds of the
    two metals, eV/atom), `cpu_minutes`, and by reduced formula the `best` energy above the hull.
    The same is written into a file that `results` finds. `progress` hears of each result.
    """
    check_minutes(minutes)
    at_least_one(seeds, "seeds")
    base = replace(config, method="crystalgan", seed=0)
    folder = study_folder(
        root / FOLDER, a, b, base, {"types": [s.formula for s in types], "hull": "with compounds"}
    )
    started = time.process_time()
    (run,) = trained(Job(folder / "run", a, b, base, (0,), lambda _: {}))
    spent = time.process_time() - started
    path = folder / "training.json"
    if not path.exists():
        write_json(path, {"minutes": spent / 60})
    found: dict[str, list[dict[str, Any]]] = {method: [] for method in METHODS}
    with Workers(jobs) as workers:
        workers.call(about_potential, POTENTIAL, run.species)
        phases = builtin_phases(run.species) + compounds(run, folder, workers)
        pending = {}
        for seed in seeds_of(seeds):
            field = field_of(run, a, b, types, seed)
            for method in METHODS:
                file = folder / f"{method}-{minutes:g}-{seed}.json"
                if file.exists():
                    found[method].append(read_json(file))
                else:
                    pending[workers.pool.submit(spend, method, field, minutes)] = (
                        method,
                        seed,
                        file,
                    )
        for future, found_by_it in workers.pool.completed(pending):
            method, seed, file = pending[future]
            measured = counted(run, phases, *found_by_it)
            write_json(file, measured)
            found[method].append(measured)
            if progress:
                progress(
                    f"{method}, seed {seed}: {measured['relaxed']} relaxed, {measured['hits_0.1']}"
                    " hits"
                )
    result = {
        "pair": f"{a.metal}-{b.metal}",
        "shared": config.shared,
        "minutes": minutes,
        "seeds": seeds,
        "training_minutes": read_json(path)["minutes"],
        "config": asdict(base),
        "methods": {method: _sum(rows) for method, rows in found.items()},
    }
    write_json(folder / f"race-{minutes:g}-{seeds}.json", result)
    return result


def field_of(
    run: Run, a: BinaryClass, b: BinaryClass, types: Sequence[Structure], seed: int
) -> Field:
    """What the methods are given for one seed."""
    from crystalgan.model.transfer import atomic_volumes

    (shared_a, metal_a), (shared_b, metal_b) = (atomic_volumes(c.cells()).tolist() for c in (a, b))
    volumes = (shared_a + shared_b) / 2, metal_a, metal_b
    hosts = (*a.structures, *b.structures, *types)
    return Field(
        run.folder, run.species, compositions_of(run, COMPOSITIONS, seed), volumes, hosts, seed
    )


def ternary_types(
    paths: Sequence[Path],
    shared: str,
    metals: tuple[str, str],
    left: Callable[[str], None] | None = None,
) -> list[Structure]:
    """The structures in a user's files that hold the shared element and two other ones, which
    become the metals.

    `left` is told, in a sentence each, what of the files was left out. InputError for a file
    without any.
    """
    from crystalgan.data.known import read_known

    def is_ternary(structure: Structure) -> bool:
        return len(structure.symbol_set) == 3 and shared in structure.symbol_set

    out: list[Structure] = []
    for path in paths:
        file = read_known(path, is_ternary, "ternary structures")
        file.check("ternary structure", f"of {shared} and two metals")
        for cell in file.cells:
            others = sorted(set(cell.structure.symbol_set) - {shared})
            out.append(cell.structure.copy())
            out[-1].replace_species(dict(zip(others, metals, strict=True)))
        if left:
            for words in file.not_used(f"are not of {shared} and two metals"):
                left(words)
    return out


def spend(
    method: str, field: Field, minutes: float
) -> tuple[list[tuple[Structure, Structure, dict[str, Any]]], float]:
    """Make and relax cells until the CPU minutes are over, in a worker: cells before and after with
    columns, and minutes spent.

    What is under way at the end is finished, and counts.
    """
    rows = []
    started = time.process_time()
    for number, structure in enumerate(METHODS[method](field)):
        if structure is not None:
            outcome = relax_task(POTENTIAL, Settings(), Task(number, "", structure))
            rows.append((structure, outcome.structure, outcome.columns))
        if time.process_time() - started >= 60 * minutes:
            break
    return rows, (time.process_time() - started) / 60


def compounds(run: Run, folder: Path, workers: Workers) -> list[Phase]:
    """What competes besides elements and binaries: compounds of the two metals, relaxed once for a
    race."""
    from crystalgan.data.prototypes import compounds_of

    path = folder / "compounds.json"
    if not path.exists():
        tasks = [
            Task(0, name, structure) for name, structure in compounds_of(*run.species[1:]).items()
        ]
        found = {
            task.phase: [
                outcome.structure.formula.replace(" ", ""),
                outcome.columns["energy_per_atom"] * len(outcome.structure),
            ]
            for task, outcome in workers.run_tasks(
                partial(relax_task, POTENTIAL, Settings()), tasks
            )
            if outcome.columns["state"] == "converged"
        }
        write_json(path, found)
    return [Phase(name, formula, energy) for name, (formula, energy) in read_json(path).items()]


def counted(
    run: Run,
    phases: Sequence[Phase],
    rows: Sequence[tuple[Structure, Structure, dict[str, Any]]],
    minutes: float,
) -> dict[str, Any]:
    """One method's result of one seed."""
    from pymatgen.analysis.phase_diagram import PDEntry

    from crystalgan.crystal.cells import encode
    from crystalgan.crystal.matching import StructureIndex
    from crystalgan.crystal.repair import check
    from crystalgan.data.known import known_structures
    from crystalgan.runs.checking import rules_of

    rule, known, seen = (
        rules_of(run.rule, *run.classes())["learned"],
        known_structures(run.species),
        StructureIndex[int](),
    )
    diagram = diagram_of(phases)
    out: dict[str, Any] = dict.fromkeys(
        ("relaxed", "converged", "valid", "unique", "new", *(f"hits_{h}" for h in HITS)), 0
    )
    best: dict[str, float] = {}
    for k, (before, after, columns) in enumerate(rows):
        out["relaxed"] += columns["state"] != "failed"
        out["valid"] += check(encode([before], run.species), rule)[0].passed
        if columns["state"] != "converged":
            continue
        out["converged"] += 1
        if seen.find_or_add(after, k) is not None:
            continue
        out["unique"] += 1
        ternary = {site.specie.symbol for site in after} == set(run.species)
        if not ternary or known.find(after) is not None:
            continue
        out["new"] += 1
        entry = PDEntry(after.composition, columns["energy_per_atom"] * len(after))
        above = float(diagram.get_e_above_hull(entry, allow_negative=True))
        formula = after.composition.reduced_formula
        best[formula] = min(above, best.get(formula, above))
        for hit in HITS:
            out[f"hits_{hit}"] += above <= hit
    return out | {"cpu_minutes": minutes, "best": best}


def _sum(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The sums over seeds, and the lowest energy of each formula."""
    best: dict[str, float] = {}
    for row in rows:
        for formula, energy in row["best"].items():
            best[formula] = min(energy, best.get(formula, energy))
    return {name: sum(row[name] for row in rows) for name in rows[0] if name != "best"} | {
        "best": best,
        "by_seed": list(rows),
    }


def results(root: Path) -> list[dict[str, Any]]:
    """What `race` found in this folder of runs, the newest first."""
    paths = sorted(
        (root / FOLDER).glob("*/race-*.json"), key=lambda path: path.stat().st_mtime, reverse=True
    )
    found = {path: read_json(path) for path in paths}
    for path, result in found.items():
        if not {"pair", "minutes", "seeds", "methods"} <= result.keys():
            raise InputError(
                f"{path}: damaged (no result of a race); delete it and run the race again."
            )
    return list(found.values())


def title(result: dict[str, Any]) -> str:
    """What a result is of, in a few words."""
    seeds = f"{result['seeds']} seed{'s' * (result['seeds'] > 1)}"
    return (
        f"{result['pair']}-{result['shared']}, {result['minutes']:g} CPU minutes for each method"
        f" and {seeds}"
    )


def as_text(result: dict[str, Any]) -> list[str]:
    """A result in lines."""
    lines = [
        f"{title(result)}; the run took {result['training_minutes']:.1f} CPU minutes to train",
        (
            f"{'':14}{'relaxed':>8}{'valid':>7}{'unique':>7}{'new':>6}{'hits 0.1':>9}"
            f"{'hits 0.05':>10}{'0.1 a minute':>13}"
        ),
    ]
    for method, found in result["methods"].items():
        rate = found["hits_0.1"] / found["cpu_minutes"]
        lines.append(
            f"{method:14}{found['relaxed']:8}{found['valid']:7}{found['unique']:7}{found['new']:6}{found['hits_0.1']:9}"
            f"{found['hits_0.05']:10}{rate:13.2f}"
        )
    return lines
