"""Benchmark: a run's cells against baselines, with the same compositions, relaxation and CPU time.

Making and relaxing both count; training does not, and is said beside it. Each source of candidates
and seed is one trial with one result, which is kept: a benchmark that is stopped goes on with the
trials that are missing.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crystalgan.jobs import at_least_one
from crystalgan.stability.hull import Phase
from crystalgan.stability.references import builtin_phases
from crystalgan.stability.tasks import about_potential
from crystalgan.storage import read_json, write_json
from crystalgan.studies.baselines import SOURCES
from crystalgan.studies.results import StudyResult, read_results
from crystalgan.studies.stacks import check_minutes, seeds_of, study_folder, train_one
from crystalgan.studies.trials import (
    POTENTIAL,
    TrialCounts,
    TrialTask,
    count_trial,
    relaxed_cell,
    run_trial,
    task_of,
    trial_pool,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pymatgen.core import Structure

    from crystalgan.config import Config
    from crystalgan.data.classes import BinaryClass
    from crystalgan.jobs import Pool
    from crystalgan.runs.folder import Run

STUDY = "benchmark"
STUDIES = (STUDY, "race")  # folders whose results are read; "race" is of 0.1.0
DAMAGED = "no result of a benchmark); delete it and run the benchmark again"


@dataclass(frozen=True)
class SourceResult:
    """What one source of candidates found: in all its trials, and seed by seed."""

    total: TrialCounts
    by_seed: tuple[TrialCounts, ...] = ()

    @classmethod
    def of(cls, found: dict[str, Any]) -> SourceResult:
        """The result that JSON holds."""
        return cls(TrialCounts.of(found), tuple(map(TrialCounts.of, found.get("by_seed", ()))))

    def as_dict(self) -> dict[str, Any]:
        """What JSON holds of it."""
        return self.total.as_dict() | {"by_seed": [counts.as_dict() for counts in self.by_seed]}


@dataclass(frozen=True, repr=False)
class BenchmarkResult(StudyResult):
    """What every source of candidates found in the same CPU minutes."""

    pair: str
    shared: str
    minutes: float  # of each source and seed
    seeds: int
    training_minutes: float  # of the run, beside these
    config: dict[str, Any]
    methods: dict[str, SourceResult]

    @classmethod
    def of(cls, found: dict[str, Any]) -> BenchmarkResult:
        """The result that a file holds, also one of an earlier version."""
        names = ("pair", "shared", "minutes", "seeds", "training_minutes")
        methods = {name: SourceResult.of(values) for name, values in found["methods"].items()}
        fields = {name: found[name] for name in names}
        return cls(**fields, config=found.get("config", {}), methods=methods)

    @property
    def title(self) -> str:
        """What the result is of, in a few words."""
        seeds = f"{self.seeds} seed{'s' * (self.seeds > 1)}"
        return (
            f"{self.pair}-{self.shared}, {self.minutes:g} CPU minutes for each method and {seeds}"
        )

    def rows(self) -> list[dict[str, Any]]:
        """A row for each method."""
        return [
            {"method": method}
            | {name: n for name, n in found.total.as_dict().items() if name != "best"}
            for method, found in self.methods.items()
        ]

    def as_dict(self) -> dict[str, Any]:
        """What JSON holds of it."""
        methods = {method: found.as_dict() for method, found in self.methods.items()}
        return vars(self) | {"methods": methods}

    def lines(self) -> list[str]:
        """The result in lines."""
        training = f"the run took {self.training_minutes:.1f} CPU minutes to train"
        heads = (
            f"{'':14}{'relaxed':>8}{'valid':>7}{'unique':>7}{'new':>6}{'hits 0.1':>9}"
            f"{'hits 0.05':>10}{'0.1 a minute':>13}"
        )
        out = [f"{self.title}; {training}", heads]
        for method, found in self.methods.items():
            n = found.total
            out.append(
                f"{method:14}{n.relaxed:8}{n.valid:7}{n.unique:7}{n.new:6}{n.hits[0.1]:9}"
                f"{n.hits[0.05]:10}{n.rate():13.2f}"
            )
        return out


def benchmark(
    a: BinaryClass,
    b: BinaryClass,
    config: Config,
    root: Path = Path("runs"),
    minutes: float = 10.0,
    seeds: int = 1,
    processes: int = 1,
    types: Sequence[Structure] = (),
    progress: Callable[[str], None] | None = None,
) -> BenchmarkResult:
    """Give each source of candidates the same CPU minutes a seed, and count what it found.

    The run is trained once, with `config`; seeds are those of cells. `types` are known ternary
    structures, whose metals are swapped as well. The hull is of elements, binaries, built-in
    known ternaries (`config.known_ternaries`) and compounds of the two metals. What was done before
    in this `root` is kept, and the result is written into a file that `results` finds. `progress`
    hears of each trial.
    """
    check_minutes(minutes)
    at_least_one(seeds, "seeds")
    at_least_one(processes, "processes")
    base = replace(config, method="crystalgan", seed=0)
    what = {"types": [s.formula for s in types], "hull": "with compounds"}
    folder = study_folder(root / STUDY, a, b, base, what)
    run, training_minutes = _trained(a, b, base, folder)
    files = {
        folder / f"{source}-{minutes:g}-{seed}.json": (source, seed)
        for seed in seeds_of(seeds)
        for source in SOURCES
    }
    counts = {file: TrialCounts.of(read_json(file)) for file in files if file.exists()}
    missing = {file: of for file, of in files.items() if file not in counts}
    if missing:
        given = {seed: task_of(run, a, b, types, seed) for seed in {s for _, s in missing.values()}}
        tasks = {
            file: TrialTask(source, given[seed], minutes)
            for file, (source, seed) in missing.items()
        }
        with trial_pool(processes) as pool:
            pool.submit(about_potential, POTENTIAL, run.species).result()  # may refuse
            phases = builtin_phases(run.species, run.config.known_ternaries)
            phases += compounds(run, folder, pool)
            counts |= _counts(tasks, run, phases, pool, progress)
    result = BenchmarkResult(
        f"{a.metal}-{b.metal}",
        config.shared,
        minutes,
        seeds,
        training_minutes,
        asdict(base),
        summarise([(source, counts[file]) for file, (source, _) in files.items()]),
    )
    write_json(folder / f"{STUDY}-{minutes:g}-{seeds}.json", result.as_dict())
    return result


def summarise(trials: Iterable[tuple[str, TrialCounts]]) -> dict[str, SourceResult]:
    """The result of each source, from the counts of its trials."""
    by_source: dict[str, list[TrialCounts]] = {}
    for source, counts in trials:
        by_source.setdefault(source, []).append(counts)
    return {
        source: SourceResult(TrialCounts.total(found), tuple(found))
        for source, found in by_source.items()
    }


def _trained(a: BinaryClass, b: BinaryClass, config: Config, folder: Path) -> tuple[Run, float]:
    """The trained run, and the CPU minutes that this took when it was done."""
    started = time.process_time()
    run = train_one(folder / "run", a, b, config)
    spent = time.process_time() - started
    path = folder / "training.json"
    if not path.exists():
        write_json(path, {"minutes": spent / 60})
    return run, float(read_json(path)["minutes"])


def _counts(
    tasks: Mapping[Path, TrialTask],
    run: Run,
    phases: Sequence[Phase],
    pool: Pool,
    progress: Callable[[str], None] | None,
) -> dict[Path, TrialCounts]:
    """Run each trial and keep its counts in its file."""
    found = {}
    pending = {pool.submit(run_trial, task): file for file, task in tasks.items()}
    for future, trial in pool.completed(pending):
        file = pending[future]
        found[file] = counts = count_trial(trial, run, phases)
        write_json(file, counts.as_dict())
        if progress:
            task = tasks[file]
            progress(
                f"{task.source}, seed {task.given.seed}: {counts.relaxed} relaxed,"
                f" {counts.hits[0.1]} hits"
            )
    return found


def compounds(run: Run, folder: Path, pool: Pool) -> list[Phase]:
    """Compounds of the two metals, which compete besides elements and binaries.

    They are relaxed once for a folder.
    """
    from crystalgan.data.prototypes import compounds_of

    path = folder / "compounds.json"
    if not path.exists():
        cells = compounds_of(*run.species[1:])
        relaxed = zip(cells, pool.map(relaxed_cell, cells.values()), strict=True)
        found = {
            name: [cell.relaxed.formula.replace(" ", ""), cell.energy * len(cell.relaxed)]
            for name, cell in relaxed
            if cell.state == "converged" and cell.energy is not None
        }
        write_json(path, found)
    return [Phase(name, formula, energy) for name, (formula, energy) in read_json(path).items()]


def ternary_types(
    paths: Sequence[Path],
    shared: str,
    metals: tuple[str, str],
    left: Callable[[str], None] | None = None,
) -> list[Structure]:
    """The ternary structures in a user's files, with these metals in place of their own.

    They hold the shared element and two others. `left` is told, in a sentence each, what of the
    files was left out. Raises InputError for a file without any.
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


def results(root: Path) -> list[BenchmarkResult]:
    """What `benchmark` found in this folder of runs, the newest first; also by its old name."""
    paths = [path for study in STUDIES for path in (root / study).glob(f"*/{study}-*.json")]
    return read_results(paths, BenchmarkResult.of, DAMAGED)
