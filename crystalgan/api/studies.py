"""Studies over many runs, as a notebook calls them: classes by their metals, and a bar."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from crystalgan.bars import reporting, reporting_each
from crystalgan.config import Config
from crystalgan.data.classes import load_class

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crystalgan.bars import Progress
    from crystalgan.data.classes import BinaryClass
    from crystalgan.studies.ablation import AblationResult
    from crystalgan.studies.benchmark import BenchmarkResult
    from crystalgan.studies.rediscovery import RediscoveryResult
    from crystalgan.studies.table2 import Table2Result
    from crystalgan.studies.tuning import TuningResult

    Class = BinaryClass | str


def _loaded(given: Class, config: Config) -> BinaryClass:
    return load_class(given, shared=config.shared) if isinstance(given, str) else given


def table2(
    pairs: Sequence[tuple[Class, Class]],
    config: Config | None = None,
    seeds: int = 10,
    root: Path | str = "runs",
    processes: int = 1,
    progress: Progress = False,
) -> list[Table2Result]:
    """Train the four methods of the paper on each pair of classes and count good candidates.

    >>> table2([("Pd", "Ni")], seeds=2, progress=True)  # doctest: +SKIP
    """
    from crystalgan.studies import table2 as study

    config = config or Config(rule="paper")
    loaded = [(_loaded(a, config), _loaded(b, config)) for a, b in pairs]
    report = reporting_each(progress, "trained", 4 * len(loaded))
    return study.table2(loaded, config, seeds, Path(root), processes, report)


def ablation(
    a: Class,
    b: Class,
    configs: dict[str, Config] | None = None,
    seeds: int = 3,
    root: Path | str = "runs",
    processes: int = 1,
    progress: Progress = False,
) -> AblationResult:
    """What each difference between the default and the paper's settings is worth, one at a time.

    `configs` are others to compare, by name.

    >>> ablation("Pd", "Ni", seeds=1, progress=True)  # doctest: +SKIP
    """
    from crystalgan.studies import ablation as study

    configs = study.variants() if configs is None else configs
    shared = next(iter(configs.values()))
    report = reporting_each(progress, "trained", len(configs))
    both = _loaded(a, shared), _loaded(b, shared)
    return study.ablation(*both, configs, seeds, Path(root), processes, report)


def tune(
    a: Class,
    b: Class,
    config: Config | None = None,
    trials: int = 30,
    root: Path | str = "runs",
    progress: Progress = False,
    **how: Any,
) -> TuningResult:
    """Search for better settings with Optuna, judged by cells of parents that were held out.

    `how` goes to `studies.tuning.tune`: `folds`, `processes`.

    >>> tune("Pd", "Ni", Config(epochs1=300, epochs2=300), trials=4)  # doctest: +SKIP
    """
    from crystalgan.studies import tuning as study

    config = config or Config()
    both = _loaded(a, config), _loaded(b, config)
    report = reporting(progress, "trials")

    def told(done: int, best: float) -> None:
        report(done, trials, f"best {best:.3f}")

    return study.tune(*both, config, trials, root=Path(root), progress=told, **how)


def benchmark(
    a: Class,
    b: Class,
    config: Config | None = None,
    root: Path | str = "runs",
    minutes: float = 10.0,
    seeds: int = 1,
    progress: Progress = False,
    **how: Any,
) -> BenchmarkResult:
    """Candidates of a run against random and substituted structures, in the same CPU minutes.

    `how` goes to `studies.benchmark.benchmark`: `processes`, `types`.

    >>> benchmark("Pd", "Ni", minutes=1, progress=True)  # doctest: +SKIP
    """
    from crystalgan.studies import benchmark as study
    from crystalgan.studies.baselines import SOURCES

    config = config or Config()
    both = _loaded(a, config), _loaded(b, config)
    report = reporting_each(progress, "trials", len(SOURCES) * seeds)
    return study.benchmark(*both, config, Path(root), minutes, seeds, progress=report, **how)


def rediscover(
    file: Path | str,
    config: Config | None = None,
    root: Path | str = "runs",
    minutes: float = 2.0,
    processes: int = 1,
    progress: Progress = False,
) -> RediscoveryResult:
    """Look for the known ternaries of a file among relaxed cells of their compositions.

    >>> rediscover("known.extxyz", minutes=0.5, progress=True)  # doctest: +SKIP
    """
    from crystalgan.studies import rediscovery as study

    config = config or Config()
    known = study.known_ternaries(Path(file), config.shared)
    report = reporting_each(progress, "looked for", len(known))
    return study.rediscover(known, config, Path(root), minutes, processes, report)
