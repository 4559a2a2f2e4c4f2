"""Settings by cross-validation: Optuna tries weights, learning rate and sizes, judged by cells from
parents that were held out.

A fold trains on the classes without some of their cells, and makes new cells from pairs of just
these. Trials are kept in an SQLite file, and tuning that is started again goes on from there.
"""

from __future__ import annotations

import math
import random
import sqlite3
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from crystalgan.config import Config
from crystalgan.errors import InputError, TrainingError
from crystalgan.jobs import ENDED, Pool, at_least_one
from crystalgan.runs.filedb import refused
from crystalgan.runs.folder import Run
from crystalgan.storage import saying
from crystalgan.studies.results import StudyResult
from crystalgan.studies.stacks import study_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import optuna

    from crystalgan.crystal.cells import Cells
    from crystalgan.data.classes import BinaryClass

STUDY, FILE = "search", "trials.db"
CELLS = 250  # that a fold is scored by
VOLUMES = 1.25  # how many times larger or smaller than usual a good cell may be
WEIGHTS = (1e-3, 1e2)  # of every lambda
LEARNING_RATES = (1e-5, 1e-1)
# lowest, highest, step
SIZES = {"layers": (1, 8, 1), "width": (20, 400, 20), "batch": (5, 100, 5), "steps": (2, 16, 2)}


@dataclass(frozen=True, repr=False)
class TuningResult(StudyResult):
    """The best settings of all trials.

    `score` is between 0 and 1; `failed` of the `trials` had a training that could not go on.
    """

    score: float
    settings: dict[str, Any]
    trials: int
    failed: int

    @property
    def title(self) -> str:
        """What the result is of, in a few words."""
        return (
            f"{self.score:.3f} is the best score of {self.trials} trials, of which {self.failed}"
            " failed"
        )

    @property
    def words(self) -> str:
        """The settings as `crystalgan train` takes them."""
        return " ".join(f"--set {name}={value:.6g}" for name, value in self.settings.items())

    def rows(self) -> list[dict[str, Any]]:
        """A row for each setting."""
        return [{"setting": name, "best": value} for name, value in self.settings.items()]

    def as_dict(self) -> dict[str, Any]:
        """What JSON holds of it."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The result in lines."""
        return [self.title, self.words]


def tune(
    a: BinaryClass,
    b: BinaryClass,
    config: Config,
    trials: int = 30,
    folds: int = 3,
    root: Path = Path("runs"),
    processes: int = 1,
    progress: Callable[[int, float], None] | None = None,
) -> TuningResult:
    """Try settings until there are `trials` trials, the first of them `config` itself.

    A trial's score is the mean over folds of `score_fold`. Weights that are zero in `config` stay
    so. `progress(trials, best)` is called after each trial. Raises InputError for numbers that
    cannot be, and TrainingError where no trial could be trained to its end.
    """
    try:
        import optuna
    except ImportError:
        raise InputError('Tuning needs Optuna: pip install "crystalgan[search]".') from None
    at_least_one(trials, "trials")
    at_least_one(processes, "processes")
    smallest = min(len(a), len(b))
    if not 2 <= folds <= smallest // 2:
        raise InputError(
            f"{folds} folds were asked for; with {smallest} cells in the smaller class take 2 to"
            f" {smallest // 2}."
        )
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder = study_folder(root / STUDY, a, b, config, {"folds": folds, "judged": "as made"})
    with saying(folder, "choose another `root`", writing=True):
        folder.mkdir(parents=True, exist_ok=True)
    with _stored(folder / FILE):
        study = _study(folder, config)
        with Pool(processes) as pool:
            try:
                _try(study, config, trials, partial(_score, pool, a, b, folds, folder), progress)
            except BrokenProcessPool:
                raise TrainingError(ENDED) from None
        done = _ended(study)
        scored = [trial for trial in done if trial.value is not None]
        if not scored:
            raise TrainingError(
                f"{folder}: none of the {len(done)} trials could be trained to its end."
            )
        return TuningResult(study.best_value, study.best_params, len(done), len(done) - len(scored))


@contextmanager
def _stored(path: Path) -> Iterator[None]:
    """Make an InputError of what SQLite refuses below Optuna."""
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
        raise InputError(refused(path, cause, "move it away and tune again")) from None


def _study(folder: Path, config: Config) -> optuna.Study:
    """Optuna's study in this folder, whose first trial is `config`."""
    import optuna

    study = optuna.create_study(
        storage=f"sqlite:///{(folder / FILE).resolve()}",
        study_name="settings",
        direction="maximize",
        load_if_exists=True,
    )
    # else a study that goes on would repeat itself
    seed = (config.seed + len(study.trials)) % 2**32
    study.sampler = optuna.samplers.TPESampler(seed=seed)
    if not study.trials:
        study.enqueue_trial({name: getattr(config, name) for name in tuned(config)})
    return study


def _try(
    study: optuna.Study,
    config: Config,
    trials: int,
    score: Callable[[Config], float],
    progress: Callable[[int, float], None] | None,
) -> None:
    """Add trials to a study until it has so many."""
    while len(_ended(study)) < trials:
        study.optimize(
            lambda trial: score(suggested(trial, config)), n_trials=1, catch=(TrainingError,)
        )
        if progress:
            progress(len(_ended(study)), _best(study))


def _score(
    pool: Pool, a: BinaryClass, b: BinaryClass, folds: int, folder: Path, config: Config
) -> float:
    """The mean of `score_fold` over folds, which are trained at once; their runs are not kept."""
    with TemporaryDirectory(dir=folder) as temporary:
        one = partial(score_fold, a.cells(), b.cells(), config, folds, Path(temporary))
        return sum(pool.map(one, range(folds))) / folds


def tuned(config: Config) -> list[str]:
    """The settings that are tuned: weights that are not zero, the learning rate, the sizes.

    >>> tuned(Config())[-1]
    'steps'
    """
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
    """`config` with the values that Optuna suggests for a trial."""
    values: dict[str, Any] = {}
    for name in tuned(config):
        if name in SIZES:
            lowest, highest, step = SIZES[name]
            values[name] = trial.suggest_int(name, lowest, highest, step=step)
        else:
            values[name] = trial.suggest_float(
                name, *(LEARNING_RATES if name == "learning_rate" else WEIGHTS), log=True
            )
    return Config.of(asdict(config) | values)


def held_out(size: int, folds: int, fold: int) -> list[int]:
    """The rows of a class of this size that a fold keeps from training; each is held out once.

    >>> sorted(held_out(4, 2, 0) + held_out(4, 2, 1))
    [0, 1, 2, 3]
    """
    rows = list(range(size))
    random.Random(size).shuffle(rows)  # noqa: S311 - the same split wherever tuning goes on
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
