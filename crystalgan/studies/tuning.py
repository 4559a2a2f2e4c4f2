"""Settings by cross-validation: Optuna tries weights, learning rate and sizes, judged by cells from
parents that were held out.

A fold trains on the classes without some of their cells, and makes new cells from pairs of just
these. Trials are kept in an SQLite file, and a search that is started again goes on from there.
"""

from __future__ import annotations

import math
import random
import sqlite3
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from crystalgan.config import Config
from crystalgan.errors import InputError, Interrupted, TrainingError
from crystalgan.jobs import at_least_one, end_children, one_thread, spawning
from crystalgan.runs.filedb import refused
from crystalgan.runs.folder import Run
from crystalgan.storage import saying
from crystalgan.studies.stacks import ENDED, study_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import optuna

    from crystalgan.crystal.cells import Cells
    from crystalgan.data.classes import BinaryClass

FOLDER, FILE = "search", "trials.db"
CELLS = 250  # that a fold is scored by
VOLUMES = 1.25  # how many times larger or smaller than usual a good cell may be
WEIGHTS = (1e-3, 1e2)  # of every lambda
LEARNING_RATES = (1e-5, 1e-1)
# lowest, highest, step
SIZES = {"layers": (1, 8, 1), "width": (20, 400, 20), "batch": (5, 100, 5), "steps": (2, 16, 2)}


def search(
    a: BinaryClass,
    b: BinaryClass,
    config: Config,
    trials: int = 30,
    folds: int = 3,
    root: Path = Path("runs"),
    processes: int = 1,
    progress: Callable[[int, float], None] | None = None,
) -> dict[str, Any]:
    """Have `trials` trials of settings in this search, the first of them `config` itself; weights
    that are zero in it stay so.

    A trial's score is the mean over folds of `score_fold`. Returns the best `score` (0 to 1), its
    `settings`, how many `trials` there are, and how many `failed` since their training could not go
    on. `progress(trials, best)` is called after each trial.
    """
    try:
        import optuna
    except ImportError:
        raise InputError('Searching needs Optuna: pip install "crystalgan[search]".') from None
    at_least_one(trials, "trials")
    at_least_one(processes, "processes")
    smallest = min(len(a), len(b))
    if not 2 <= folds <= smallest // 2:
        raise InputError(
            f"{folds} folds were asked for; with {smallest} cells in the smaller class take 2 to"
            f" {smallest // 2}."
        )
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder = study_folder(root / FOLDER, a, b, config, {"folds": folds, "judged": "as made"})
    with saying(folder, "choose another with --runs", writing=True):
        folder.mkdir(parents=True, exist_ok=True)
    with _stored(folder / FILE):
        return _searched(a, b, config, trials, folds, folder, processes, progress)


@contextmanager
def _stored(path: Path) -> Iterator[None]:
    """Have what SQLite refuses below Optuna be an InputError."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (SQLAlchemyError, StorageInternalError) as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, sqlite3.DatabaseError):
            cause = getattr(cause, "orig", None) or cause.__cause__
        if cause is None:
            raise
        raise InputError(refused(path, cause, "move it away and search again")) from None


def _searched(
    a: BinaryClass,
    b: BinaryClass,
    config: Config,
    trials: int,
    folds: int,
    folder: Path,
    processes: int,
    progress: Callable[[int, float], None] | None,
) -> dict[str, Any]:
    import optuna

    study = optuna.create_study(
        storage=f"sqlite:///{(folder / FILE).resolve()}",
        study_name="settings",
        direction="maximize",
        load_if_exists=True,
    )
    study.sampler = optuna.samplers.TPESampler(
        seed=(config.seed + len(study.trials)) % 2**32
    )  # else a continued search repeats itself
    if not study.trials:
        study.enqueue_trial({name: getattr(config, name) for name in searched(config)})
    with ProcessPoolExecutor(processes, spawning(), one_thread) as pool:

        def objective(trial: optuna.Trial) -> float:
            tried = suggested(trial, config)
            with TemporaryDirectory(dir=folder) as temporary:
                one = partial(score_fold, a.cells(), b.cells(), tried, folds, Path(temporary))
                return sum(pool.map(one, range(folds))) / folds

        try:
            while len(done := _ended(study)) < trials:
                study.optimize(objective, n_trials=1, catch=(TrainingError,))
                if progress:
                    progress(len(done) + 1, _best(study))
        except BrokenProcessPool:
            raise TrainingError(ENDED) from None
        except (KeyboardInterrupt, Interrupted):
            end_children()  # else the pool would wait for them
            raise
    if not (scored := [trial for trial in done if trial.value is not None]):
        raise TrainingError(
            f"{folder}: none of the {len(done)} trials could be trained to its end."
        )
    return {
        "score": study.best_value,
        "settings": study.best_params,
        "trials": len(done),
        "failed": len(done) - len(scored),
    }


def searched(config: Config) -> list[str]:
    """The fields that are searched: every weight that is not zero, the learning rate, the sizes of
    what there is."""
    weights = [
        one.name
        for one in fields(Config)
        if one.name.startswith("lambda_") and getattr(config, one.name)
    ]
    return [
        *weights,
        "learning_rate",
        *(name for name in SIZES if name != "steps" or config.generator == "graph"),
    ]


def suggested(trial: optuna.Trial, config: Config) -> Config:
    """`config` with what a trial is to try."""
    values: dict[str, Any] = {}
    for name in searched(config):
        if name in SIZES:
            lowest, highest, step = SIZES[name]
            values[name] = trial.suggest_int(name, lowest, highest, step=step)
        else:
            values[name] = trial.suggest_float(
                name, *(LEARNING_RATES if name == "learning_rate" else WEIGHTS), log=True
            )
    return Config.of(asdict(config) | values)


def held_out(size: int, folds: int, fold: int) -> list[int]:
    """The rows of a class of this size that a fold keeps from training; every row is held out in
    one fold."""
    rows = list(range(size))
    random.Random(size).shuffle(rows)  # noqa: S311 - the same split wherever a search goes on
    return sorted(rows[fold::folds])


def score_fold(a: Cells, b: Cells, config: Config, folds: int, root: Path, fold: int) -> float:
    """The share of unique, good cells among 250 that are made from held-out parents with what was
    learned from the others.

    Good ones hold all three elements, keep the rule learned from both whole classes, and take up
    the volume of their atoms there within a quarter: all as the networks put them out, since
    `prerelax` and `repair` mend nearly whatever they are given, and would make all settings alike.
    The rule to train towards is learned without the held-out cells. The share is the product of the
    good ones' and the unique ones'.
    """
    import torch

    from crystalgan.crystal.cells import decode
    from crystalgan.crystal.limits import learned_rule
    from crystalgan.crystal.matching import StructureIndex
    from crystalgan.model.reference import reference_of
    from crystalgan.runs.loading import load_model
    from crystalgan.runs.metrics import valid
    from crystalgan.runs.training import resolve_rule, resume

    kept_out = held_out(len(a), folds, fold), held_out(len(b), folds, fold)
    left_a, left_b = (
        cells[[k for k in range(len(cells)) if k not in out]]
        for cells, out in zip((a, b), kept_out, strict=True)
    )
    rule = resolve_rule(config.rule, left_a, left_b)
    model = load_model(resume(Run.create(root, config, left_a, left_b, rule, {})))
    model = model.with_classes(a[kept_out[0]], b[kept_out[1]])
    # as the networks put cells out
    model = replace(model, config=replace(config, prerelax=0, repair=0), potential=None)
    cells = model.draw(0, config.seed).cells[:CELLS]
    usual = (cells.mask.sum(-1) * reference_of(a, b)[-1]).sum(-1)
    packed = (torch.linalg.det(cells.lattice).abs() / usual).log().abs() < math.log(VOLUMES)
    seen = StructureIndex[int]()
    unique = sum(
        seen.find_or_add(structure, k) is None for k, structure in enumerate(decode(cells))
    )
    return float((valid(cells, learned_rule(a, b)) & packed).double().mean()) * unique / len(cells)


def _ended(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    from optuna.trial import TrialState

    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.FAIL))


def _best(study: optuna.Study) -> float:
    return max((trial.value for trial in _ended(study) if trial.value is not None), default=0.0)


def as_words(settings: dict[str, Any]) -> str:
    """Settings as `crystalgan train` takes them."""
    return " ".join(f"--set {name}={value:.6g}" for name, value in settings.items())
