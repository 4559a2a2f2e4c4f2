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

import torch
from torch import Tensor

from crystalgan.config import Config, mixed
from crystalgan.crystal.limits import learned_rule, limits_of
from crystalgan.crystal.repair import satisfies
from crystalgan.crystal.rules import paper_rule, read_rule
from crystalgan.errors import InputError, Stopped, TrainingError
from crystalgan.model import methods
from crystalgan.model import pair_potential as energy
from crystalgan.model.batches import stage_data
from crystalgan.model.methods import METHODS, Networks, Prior, Stage
from crystalgan.runs.folder import Run
from crystalgan.storage import COPY, problem, saying, write_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from crystalgan.crystal.cells import Cells
    from crystalgan.crystal.rules import Rule
    from crystalgan.data.classes import BinaryClass

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
    a: BinaryClass | str, b: BinaryClass | str, config: Config, runs: Path | str = "runs"
) -> Run:
    """The folder of a run that has not been trained yet."""
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
    return Run.create(Path(runs), config, *cells, resolve_rule(config.rule, *cells), sources)


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
    tensors, header = source.load("step1.safetensors")
    config = replace(config, **{name: getattr(source.config, name) for name in STEP1_FIELDS})
    cells = source.classes()
    sources = source.about["classes"] | {"step1": {"run": source.folder.name}}
    lines = [json.dumps(line) + "\n" for line in source.metrics() if line["step"] == 1]

    def add(run: Run) -> None:
        run.save("step1.safetensors", tensors, header)
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
            if run.status().get("state") != "finished":
                run.set_status("running", message="", epochs=total)
        try:
            for stage in stages:
                _train_stage(runs, stage, config, progress)
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


def _train_stage(runs: list[Run], stage: Stage, config: Config, progress: Progress | None) -> None:
    if all((run.folder / f"step{stage.number}.safetensors").exists() for run in runs):
        return
    data = stage_data(runs, stage, config)
    rngs = [
        torch.Generator().manual_seed(mixed(run.config.seed * 8 + stage.number)) for run in runs
    ]
    nets = Networks(stage, config, len(data.x.species), data.x.mask.shape[-1], rngs)
    optimizers = {
        name: _adam(getattr(nets, name), config) for name in ("generators", "discriminators")
    }
    limits = limits_of(runs[0].rule, data.x.species)
    prior = Prior(limits, energy.prepared(runs)) if stage.constrained else None
    stops = [str(run.folder / "stop") for run in runs]
    epoch, before = _load_checkpoint(runs, stage, nets, optimizers, rngs)
    last, started, shown = epochs(config, stage), time.monotonic(), 0.0

    def seconds() -> float:
        return before + time.monotonic() - started

    with ExitStack() as stack:
        files = [stack.enter_context((run.folder / "metrics.jsonl").open("a")) for run in runs]
        while epoch < last:
            sums: methods.Terms = {}
            for batch in data.batches(rngs, config.batch):
                terms, made = _learn(nets, optimizers, batch, stage, config, prior)
                sums = {k: sums.get(k, 0) + v for k, v in terms.items()}
            means = dict(
                zip(
                    sums,
                    (torch.stack(tuple(sums.values())) / data.updates(config.batch)).tolist(),
                    strict=True,
                )
            )
            if stage.number == 2 and epoch % WATCH_EVERY == 0:
                means["valid"] = (
                    satisfies(made.b.flattened(), limits)
                    .view(len(runs), -1)
                    .double()
                    .mean(-1)
                    .tolist()
                )
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
                _save_checkpoint(runs, stage, epoch, seconds(), nets, optimizers, rngs)
            if due:
                _set_all(runs, "running", step=stage.number, epoch=epoch, seconds=seconds())
                shown = time.monotonic()
            if progress:
                progress(
                    stage.number, epoch, last, {name: values[0] for name, values in means.items()}
                )
            if asked:
                raise Stopped
    for k, run in enumerate(runs):
        run.save(
            f"step{stage.number}.safetensors",
            _slice(nets.state_dict(), k),
            {"seconds": seconds(), "epochs": epoch},
        )
        (run.folder / "checkpoint.safetensors").unlink(missing_ok=True)


def _learn(
    nets: Networks,
    optimizers: dict[str, torch.optim.Adam],
    batch: tuple[Cells, Cells],
    stage: Stage,
    config: Config,
    prior: Prior | None,
) -> tuple[methods.Terms, methods.Made]:
    """One step of the discriminators and one of the generators; the losses before them, and what
    was made of the batch."""
    start, real = batch
    made = methods.forward(nets, start)
    terms = methods.discriminator_terms(nets, real, made)
    _update(optimizers["discriminators"], terms.values(), [1.0] * len(terms), config.clip)
    judges = optimizers["discriminators"].param_groups[0]["params"]
    for parameter in judges:
        parameter.requires_grad_(False)
    of_generators = methods.generator_terms(nets, start, real, made, config, prior)
    weights = [config.weight(stage.number, name) for name in of_generators]
    _update(optimizers["generators"], of_generators.values(), weights, config.clip)
    for parameter in judges:
        parameter.requires_grad_(True)
    return {name: term.detach() for name, term in (terms | of_generators).items()}, made


def epochs(config: Config, stage: Stage) -> int:
    """The number of epochs of a stage."""
    return config.epochs1 if stage.number == 1 else config.epochs2


def _adam(module: torch.nn.Module, config: Config) -> torch.optim.Adam:
    return torch.optim.Adam(
        module.parameters(), config.learning_rate, (config.beta1, 0.999), fused=True
    )


def _update(
    optimizer: torch.optim.Optimizer,
    terms: Collection[Tensor],
    weights: Sequence[float],
    clip: float,
) -> None:
    """One step down the weighted sum over terms and runs: the runs' weights are separate, and so
    are their gradients.

    With `clip` the gradient of each run is no longer than that.
    """
    parameters = optimizer.param_groups[0]["params"]
    by_terms = [torch.full_like(term, weight) for term, weight in zip(terms, weights, strict=True)]
    gradients = torch.autograd.grad(tuple(terms), parameters, by_terms)
    if clip:
        square = sum(g.flatten(1).square().sum(1) for g in gradients)
        scale = (clip / torch.as_tensor(square).sqrt().clamp_min(1e-12)).clamp_max(1.0)
        for g in gradients:
            g.mul_(scale.view(-1, *[1] * (g.ndim - 1)))
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    optimizer.step()


def _check_finite(means: dict[str, list[float]], stage: Stage, epoch: int, config: Config) -> None:
    for name, values in means.items():
        if not math.isfinite(sum(values)):
            raise TrainingError(
                f"The loss {name} of step {stage.number} is not finite at epoch {epoch + 1}"
                f" ({values}); what was written before is kept. Lower the learning rate"
                f" ({config.learning_rate}) or the weight of this term."
            )


def _save_checkpoint(
    runs: list[Run],
    stage: Stage,
    epoch: int,
    seconds: float,
    nets: Networks,
    optimizers: dict[str, torch.optim.Adam],
    rngs: list[torch.Generator],
) -> None:
    tensors = {f"nets.{k}": v for k, v in nets.state_dict().items()}
    for name, optimizer in optimizers.items():
        for i, state in optimizer.state_dict()["state"].items():
            tensors |= {
                f"{name}.{i}.{key}": state[key] for key in ("exp_avg", "exp_avg_sq", "step")
            }
    for k, run in enumerate(runs):
        mine = _slice({key: t for key, t in tensors.items() if t.ndim}, k)
        mine |= {key: t for key, t in tensors.items() if not t.ndim} | {"rng": rngs[k].get_state()}
        run.save(
            "checkpoint.safetensors",
            mine,
            {"step": stage.number, "epoch": epoch, "seconds": seconds},
        )


def _load_checkpoint(
    runs: list[Run],
    stage: Stage,
    nets: Networks,
    optimizers: dict[str, torch.optim.Adam],
    rngs: list[torch.Generator],
) -> tuple[int, float]:
    """Epoch and seconds of the checkpoint of this stage, loaded into place; (0, 0) where a run of
    the stack has none."""
    name = "checkpoint.safetensors"
    found = [run.load(name) for run in runs if (run.folder / name).exists()]
    headers = [header for _, header in found]
    if len(found) < len(runs) or any(
        (h["step"], h["epoch"]) != (stage.number, headers[0]["epoch"]) for h in headers
    ):
        for run in runs:
            run.keep_metrics(stage.number, 0)
        return 0, 0.0
    tensors = {
        key: torch.cat([t[key] for t, _ in found]) if t0.ndim else t0
        for key, t0 in found[0][0].items()
        if key != "rng"
    }
    nets.load_state_dict(
        {key.removeprefix("nets."): t for key, t in tensors.items() if key.startswith("nets.")}
    )
    for name, optimizer in optimizers.items():
        state: dict[int, dict[str, Tensor]] = {}
        for key, t in tensors.items():
            if key.startswith(f"{name}."):
                _, i, part = key.split(".")
                state.setdefault(int(i), {})[part] = t
        optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
    for rng, (mine, _) in zip(rngs, found, strict=True):
        rng.set_state(mine["rng"])
    for run in runs:
        run.keep_metrics(stage.number, headers[0]["epoch"])
    return headers[0]["epoch"], headers[0]["seconds"]


def _slice(tensors: dict[str, Tensor], k: int) -> dict[str, Tensor]:
    """Run k of every stacked tensor, its leading axis kept."""
    return {key: tensor[k : k + 1] for key, tensor in tensors.items()}


def _set_all(runs: list[Run], state: str, **more: Any) -> None:
    for run in runs:
        run.set_status(state, **more)


def _set_failed(runs: list[Run], error: Exception) -> None:
    # the disk that is full, or the folder that is gone, may be why it failed
    with suppress(InputError):
        _set_all(runs, "failed", message=str(error))
