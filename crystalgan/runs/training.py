"""The one training loop: step 1, feature transfer, step 2, for a stack of runs at once; and its
exact continuation."""

from __future__ import annotations

import json
import math
import os
import time
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crystalgan.config import Config
from crystalgan.crystal.limits import learned_rule, limits_of
from crystalgan.crystal.repair import satisfies
from crystalgan.crystal.rules import paper_rule, read_rule
from crystalgan.errors import InputError, Stopped, TrainingError
from crystalgan.model.learning import learn_epoch, new_learner
from crystalgan.model.methods import METHODS, Prior
from crystalgan.model.model import Model
from crystalgan.model.stages import stage_data
from crystalgan.runs.checkpoint import CHECKPOINT, load_checkpoint, of_run, save_checkpoint
from crystalgan.runs.fitting import pair_potential_of
from crystalgan.runs.folder import Run
from crystalgan.runs.loading import load_networks, step_file
from crystalgan.storage import COPY, problem, saying, write_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from crystalgan.crystal.cells import Cells
    from crystalgan.crystal.rules import Rule
    from crystalgan.data.classes import BinaryClass
    from crystalgan.model.methods import Stage

    Progress = Callable[[int, int, int, dict[str, float]], None]  # step, epoch, epochs, terms

WATCH_EVERY = 10  # epochs between two looks at the share of new cells that keep the rule
STATUS_SECONDS = 0.5
STEP1_FIELDS = (
    "shared",
    "epochs1",
    "layers",
    "width",
    "residual",
    "symmetry",
    "generator",
    "steps",
    "lambda_adversarial1",
    "lambda_reconstruction1",
)


def train(
    a: BinaryClass | str,
    b: BinaryClass | str,
    config: Config | None = None,
    runs: Path | str = "runs",
    progress: Progress | None = None,
) -> Run:
    """Train both steps on two classes (built-in ones by their metals) and return the finished
    run."""
    run = new_run(a, b, config or Config(), runs)
    return resume(run, progress)


def train_seeds(
    a: BinaryClass | str,
    b: BinaryClass | str,
    config: Config,
    seeds: Sequence[int],
    runs: Path | str = "runs",
    progress: Progress | None = None,
) -> list[Run]:
    """Train one run for each seed, all at once as one stack; each ends as it would alone, up to
    rounding."""
    stack = [new_run(a, b, replace(config, seed=seed), runs) for seed in seeds]
    _train(stack, progress)
    return stack


def resume(run: Run | Path | str, progress: Progress | None = None) -> Run:
    """Train a run from where it is to its end; a finished one is left as it is."""
    run = run if isinstance(run, Run) else Run.open(run)
    _train([run], progress)
    return run


def resume_stack(runs: Sequence[Run], progress: Progress | None = None) -> None:
    """Train runs that differ in nothing but the seed as one stack, from where they are to their
    end."""
    _train(list(runs), progress)


def new_run(
    a: BinaryClass | str,
    b: BinaryClass | str,
    config: Config,
    runs: Path | str = "runs",
    add: Callable[[Run], None] | None = None,
    name: str = "",
) -> Run:
    """The folder of a run that has not been trained yet, with what `add` puts there; its name has
    `name` in place of the method."""
    from crystalgan.data.classes import load_class

    a, b = (load_class(c, shared=config.shared) if isinstance(c, str) else c for c in (a, b))
    if a.metal == b.metal:
        raise InputError(f"Both classes are of {a.metal}; a ternary needs two different metals.")
    if len({a.shared, b.shared, config.shared}) > 1:
        raise InputError(
            f"The classes share no element: {a.metal}-{a.shared} and {b.metal}-{b.shared} for"
            f" {config.shared}."
        )
    cells = a.cells(), b.cells()
    sources = {name: c.provenance().as_dict() for name, c in (("a", a), ("b", b))}
    rule = resolve_rule(config.rule, *cells)
    return Run.create(Path(runs), config, *cells, rule, sources, add, name)


def new_step2(source: Run, config: Config, runs: Path | str = "runs") -> Run:
    """The folder of a run that takes step 1 from another, trained one, and has step 2 still to
    train, with `config`.

    What shapes step 1 is taken from the source's settings, whatever `config` says. DiscoGAN is a
    step 1 alone and will do.
    """
    if (
        METHODS[config.method][-1].domains != "ternary"
        or METHODS[source.config.method][0].domains != "binary"
    ):
        raise InputError(
            f"{source.folder}: only the methods of two steps have a step 2 to train anew."
        )
    tensors, header = source.load(step_file(1))
    config = replace(config, **{name: getattr(source.config, name) for name in STEP1_FIELDS})
    if not source.config.known_ternaries:
        config = replace(config, known_ternaries=False)
    cells = source.classes()
    sources = source.about["classes"] | {"step1": {"run": source.folder.name}}
    lines = [json.dumps(line) + "\n" for line in source.metrics() if line["step"] == 1]

    def add(run: Run) -> None:
        run.save(step_file(1), tensors, header)
        write_whole(run.folder / "metrics.jsonl", "".join(lines))

    return Run.create(Path(runs), config, *cells, resolve_rule(config.rule, *cells), sources, add)


def resolve_rule(name: str, a: Cells, b: Cells) -> Rule:
    """The rule of that name for these classes: `paper`, `learned` or the path of a table."""
    if name == "paper":
        return paper_rule((a.species[1], b.species[1]), a.species[0])
    return learned_rule(a, b) if name == "learned" else read_rule(Path(name))


def _train(runs: list[Run], progress: Progress | None) -> None:
    """Every stage of the runs' method, one after the other. All runs share pair and settings but
    for the seed."""
    config = runs[0].config
    stages = METHODS[config.method]
    total = [epochs(config, stage) for stage in stages]
    with ExitStack() as stack:
        for run in runs:
            stack.enter_context(run.hold("train"))
            with saying(run.folder, COPY, writing=True):
                (run.folder / "stop").unlink(missing_ok=True)
            if run.status().state != "finished":
                run.set_status("running", message="", epochs=total)
        try:
            _train_stages(runs, stages, progress)
        except Stopped:
            _set_all(runs, "stopped", message="Stopped on request; resume goes on from here.")
            raise
        except OSError as error:
            refused = InputError(
                problem(
                    error,
                    error.filename or runs[0].folder,
                    COPY,
                    writing=True,
                    again="resume the run",
                )
            )
            _set_failed(runs, refused)
            raise refused from None
        except Exception as error:
            _set_failed(runs, error)
            raise
        _set_all(runs, "finished", message="")


def _train_stages(runs: list[Run], stages: Sequence[Stage], progress: Progress | None) -> None:
    files = {stage: step_file(stage.number) for stage in stages}
    left = [s for s in stages if not all((run.folder / files[s]).exists() for run in runs)]
    if not left:
        return
    model = Model.of(runs[0].config, runs[0].rule, *runs[0].classes())
    for stage in left:
        models = [
            replace(model, config=run.config, networks=load_networks(run, model.length))
            for run in runs
        ]
        prior = None
        if stage.constrained:
            limits = limits_of(model.rule, model.species)
            prior = Prior(limits, pair_potential_of(runs, model))
        _train_stage(runs, models, stage, prior, progress)


def _train_stage(
    runs: list[Run],
    models: list[Model],
    stage: Stage,
    prior: Prior | None,
    progress: Progress | None,
) -> None:
    config, data = models[0].config, stage_data(models, stage)
    learner = new_learner(stage, data, [run.config for run in runs])
    limits = limits_of(models[0].rule, data.x.species)
    stops = [str(run.folder / "stop") for run in runs]
    epoch, before = load_checkpoint(runs, learner)
    last, started, shown = epochs(config, stage), time.monotonic(), 0.0

    def seconds() -> float:
        return before + time.monotonic() - started

    with ExitStack() as stack:
        files = [stack.enter_context((run.folder / "metrics.jsonl").open("a")) for run in runs]
        while epoch < last:
            means, made = learn_epoch(learner, data, config, prior)
            if stage.number == 2 and epoch % WATCH_EVERY == 0:
                kept = satisfies(made.b.flattened(), limits)
                means["valid"] = kept.view(len(runs), -1).double().mean(-1).tolist()
            _check_finite(means, stage, epoch, config)
            epoch += 1
            for k, file in enumerate(files):
                line = {"step": stage.number, "epoch": epoch} | {
                    name: values[k] for name, values in means.items()
                }
                file.write(json.dumps(line) + "\n")
            asked = any(map(os.path.exists, stops))
            due = time.monotonic() - shown > STATUS_SECONDS or epoch == last
            saving = epoch % config.checkpoint_every == 0 or asked
            # no checkpoint without the lines before it: a kill may come at any time
            if due or saving:
                for file in files:
                    file.flush()
            if saving:
                save_checkpoint(runs, learner, epoch, seconds())
            if due:
                _set_all(runs, "running", step=stage.number, epoch=epoch, seconds=seconds())
                shown = time.monotonic()
            if progress:
                first = {name: values[0] for name, values in means.items()}
                progress(stage.number, epoch, last, first)
            if asked:
                raise Stopped
    about = {"seconds": seconds(), "epochs": epoch}
    for k, run in enumerate(runs):
        run.save(step_file(stage.number), of_run(learner.nets.state_dict(), k), about)
        (run.folder / CHECKPOINT).unlink(missing_ok=True)


def epochs(config: Config, stage: Stage) -> int:
    """The number of epochs of a stage."""
    return config.epochs1 if stage.number == 1 else config.epochs2


def _check_finite(means: dict[str, list[float]], stage: Stage, epoch: int, config: Config) -> None:
    for name, values in means.items():
        if not math.isfinite(sum(values)):
            raise TrainingError(
                f"The loss {name} of step {stage.number} is not finite at epoch {epoch + 1}"
                f" ({values}); what was written before is kept. Lower the learning rate"
                f" ({config.learning_rate}) or the weight of this term."
            )


def _set_all(runs: list[Run], state: str, **more: Any) -> None:
    for run in runs:
        run.set_status(state, **more)


def _set_failed(runs: list[Run], error: Exception) -> None:
    # the disk that is full, or the folder that is gone, may be why it failed
    with suppress(InputError):
        _set_all(runs, "failed", message=str(error))
