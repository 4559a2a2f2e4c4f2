"""The one training loop: step 1, feature transfer, step 2, for a stack of runs at once; and its exact continuation."""

from __future__ import annotations

import json
import math
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from crystalgan import InputError, methods
from crystalgan.cells import Cells, transfer
from crystalgan.config import Config
from crystalgan.geometry import keeps, learned_rule, paper_rule, read_rule
from crystalgan.methods import METHODS, Networks, Stage
from crystalgan.runs import Run, Stopped, TrainingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from crystalgan.classes import BinaryClass
    from crystalgan.geometry import Rule

    Progress = Callable[[int, int, int, dict[str, float]], None]  # step, epoch, epochs, terms

WATCH_EVERY = 10  # epochs between two looks at the share of new cells that keep the rule
STATUS_SECONDS = 0.5


def train(
    a: BinaryClass | str,
    b: BinaryClass | str,
    config: Config | None = None,
    runs: Path | str = "runs",
    progress: Progress | None = None,
) -> Run:
    """Train both steps on two classes (built-in ones by their metals) and return the finished run."""
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
    """Train one run for each seed, all at once as one stack; each ends as it would alone, up to rounding."""
    stack = [new_run(a, b, replace(config, seed=seed), runs) for seed in seeds]
    _train(stack, progress)
    return stack


def resume(run: Run | Path | str, progress: Progress | None = None) -> Run:
    """Train a run from where it is to its end; a finished one is left as it is."""
    run = run if isinstance(run, Run) else Run.open(run)
    _train([run], progress)
    return run


def new_run(a: BinaryClass | str, b: BinaryClass | str, config: Config, runs: Path | str = "runs") -> Run:
    """The folder of a run that has not been trained yet."""
    from crystalgan.classes import load_class

    a, b = (load_class(c, shared=config.shared) if isinstance(c, str) else c for c in (a, b))
    if a.metal == b.metal:
        raise InputError(f"Both classes are of {a.metal}; a ternary needs two different metals.")
    if len({a.shared, b.shared, config.shared}) > 1:
        raise InputError(f"The classes share no element: {a.metal}-{a.shared} and {b.metal}-{b.shared} for {config.shared}.")
    cells = a.cells(), b.cells()
    sources = {name: c.provenance() for name, c in (("a", a), ("b", b))}
    return Run.create(Path(runs), config, *cells, resolve_rule(config.rule, *cells), sources)


def resolve_rule(name: str, a: Cells, b: Cells) -> Rule:
    """The rule of that name for these classes: `paper`, `learned` or the path of a table."""
    if name == "paper":
        return paper_rule((a.species[1], b.species[1]), a.species[0])
    return learned_rule(a, b) if name == "learned" else read_rule(Path(name))


def _train(runs: list[Run], progress: Progress | None) -> None:
    """Every stage of the runs' method, one after the other. All runs share pair and settings but for the seed."""
    config = runs[0].config
    stages = METHODS[config.method]
    total = [epochs(config, stage) for stage in stages]
    with ExitStack() as stack:
        for run in runs:
            stack.enter_context(run.hold("train"))
            (run.folder / "stop").unlink(missing_ok=True)
            if run.status().get("state") != "finished":
                run.set_status("running", message="", epochs=total)
        try:
            for stage in stages:
                _train_stage(runs, stage, config, progress)
        except Stopped:
            _set_all(runs, "stopped", message="Stopped on request; resume goes on from here.")
            raise
        except Exception as error:
            _set_all(runs, "failed", message=str(error))
            raise
        _set_all(runs, "finished", message="")


def _train_stage(runs: list[Run], stage: Stage, config: Config, progress: Progress | None) -> None:
    if all((run.folder / f"step{stage.number}.safetensors").exists() for run in runs):
        return
    data = _data(runs, stage, config)
    rngs = [torch.Generator().manual_seed(run.config.seed * 8 + stage.number) for run in runs]
    nets = Networks(stage, config, len(data.x.species), data.x.mask.shape[-1], rngs)
    optimizers = {name: _adam(getattr(nets, name), config) for name in ("generators", "discriminators")}
    limits = runs[0].rule.for_slots(data.x.species)
    epoch, before = _load_checkpoint(runs, stage, nets, optimizers, rngs)
    last, started, shown = epochs(config, stage), time.monotonic(), 0.0

    def seconds() -> float:
        return before + time.monotonic() - started

    while epoch < last:
        sums: methods.Terms = {}
        for x, y in data.batches(rngs, config.batch):
            made = methods.forward(nets, x, y)
            terms = methods.discriminator_terms(nets, x, y, made)
            _update(optimizers["discriminators"], terms.values())
            nets.discriminators.requires_grad_(False)
            generator = methods.generator_terms(nets, x, y, made, config, limits if stage.constrained else None)
            _update(optimizers["generators"], [config.weight(stage.number, name) * term for name, term in generator.items()])
            nets.discriminators.requires_grad_(True)
            terms |= generator
            sums = {k: sums.get(k, 0) + v.detach() for k, v in terms.items()}
        means = {k: (v / data.updates(config.batch)).tolist() for k, v in sums.items()}
        if stage.number == 2 and epoch % WATCH_EVERY == 0:
            means["valid"] = keeps(made.b.flattened(), limits).view(len(runs), -1).double().mean(-1).tolist()
        _check_finite(means, stage, epoch, config)
        epoch += 1
        for k, run in enumerate(runs):
            line = {"step": stage.number, "epoch": epoch} | {name: values[k] for name, values in means.items()}
            with (run.folder / "metrics.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")
        asked = any((run.folder / "stop").exists() for run in runs)
        if epoch % config.checkpoint_every == 0 or asked:
            _save_checkpoint(runs, stage, epoch, seconds(), nets, optimizers, rngs)
        if time.monotonic() - shown > STATUS_SECONDS or epoch == last:
            _set_all(runs, "running", step=stage.number, epoch=epoch, seconds=seconds())
            shown = time.monotonic()
        if progress:
            progress(stage.number, epoch, last, {name: values[0] for name, values in means.items()})
        if asked:
            raise Stopped
    for k, run in enumerate(runs):
        run.save(f"step{stage.number}.safetensors", _slice(nets.state_dict(), k), {"seconds": seconds(), "epochs": epoch})
        (run.folder / "checkpoint.safetensors").unlink(missing_ok=True)


def epochs(config: Config, stage: Stage) -> int:
    """The number of epochs of a stage."""
    return config.epochs1 if stage.number == 1 else config.epochs2


@dataclass(frozen=True)
class Data:
    """What a stage trains on: two pools of cells `[runs, pool]`; the size of the larger class sets the length of an epoch."""

    x: Cells
    y: Cells
    larger: int
    noise: bool

    def updates(self, batch: int) -> int:
        """Batches in one epoch."""
        return math.ceil(self.larger / min(batch, self.larger))

    def batches(self, rngs: Sequence[torch.Generator], batch: int) -> Iterator[tuple[Cells, Cells]]:
        """One epoch of pairs of batches, drawn independently for each run and each pool, every cell once before any twice."""
        updates, batch = self.updates(batch), min(batch, self.larger)
        x_index, y_index = (
            torch.stack([shuffled(pool.lattice.shape[1], updates * batch, rng) for rng in rngs]) for pool in (self.x, self.y)
        )
        rows = torch.arange(len(rngs))[:, None]
        for i in range(updates):
            part = slice(i * batch, (i + 1) * batch)
            x, y = self.x[rows, x_index[:, part]], self.y[rows, y_index[:, part]]
            yield (noise(x, rngs) if self.noise else x), y


def shuffled(size: int, count: int, rng: torch.Generator) -> Tensor:
    """`count` rows of `size` in random order, every row once before any twice."""
    return torch.cat([torch.randperm(size, generator=rng) for _ in range(math.ceil(count / size))])[:count]


def noise(cells: Cells, rngs: Sequence[torch.Generator]) -> Cells:
    """Gaussian noise in the occupancy of these cells: the input of the standard GAN."""
    lattice = torch.stack([torch.randn(cells.lattice.shape[1:], generator=rng) for rng in rngs])
    frac = torch.stack([torch.randn(cells.frac.shape[1:], generator=rng) for rng in rngs])
    return replace(cells, lattice=lattice, frac=frac * cells.mask.unsqueeze(-1))


def _data(runs: list[Run], stage: Stage, config: Config) -> Data:
    a, b = class_tensors(runs[0])
    larger = max(len(a), len(b))
    if stage.domains == "ternary":
        size = config.transfer_pool or larger
        pools = []
        for run in runs:
            rng = torch.Generator().manual_seed(run.config.seed * 8)
            order = pair_order(a, b, config.favour_large, rng)
            pools.append(Pool.draw(run, order[torch.arange(size) % len(order)], rng))
        x, y = (_stack([getattr(pool, name) for pool in pools]) for name in ("x", "y"))
        return Data(x, y, larger, noise=False)
    if stage.domains == "noise":
        both = union(a, b)
        return Data(_repeat(both, len(runs)), _repeat(both, len(runs)), len(both), noise=True)
    return Data(_repeat(a, len(runs)), _repeat(b, len(runs)), larger, noise=False)


def class_tensors(run: Run) -> tuple[Cells, Cells]:
    """Both classes of a run as the networks take them: float32, padded to one length."""
    a, b = (cells.to(torch.float32) for cells in run.classes())
    length = max(a.mask.shape[-1], b.mask.shape[-1])
    return a.padded(length), b.padded(length)


def union(a: Cells, b: Cells) -> Cells:
    """Both classes in the slots of the ternary, each with the other's metal slot empty."""
    species = (*a.species, b.species[1])
    frac = torch.cat((torch.nn.functional.pad(a.frac, (0, 0, 0, 0, 0, 1)), b.frac[:, [0, 1, 1]]))
    mask = torch.cat((torch.nn.functional.pad(a.mask, (0, 0, 0, 1)), b.mask[:, [0, 1, 1]]))
    frac[len(a) :, 1], mask[len(a) :, 1] = 0, False
    return Cells(torch.cat((a.lattice, b.lattice)), frac, mask, species)


@dataclass(frozen=True)
class Pool:
    """Transferred cells and the parents that each came from."""

    x: Cells  # AHB_g, [n]
    y: Cells  # BHA_g, [n]
    parent_a: Tensor  # [n], row of class A
    parent_b: Tensor  # [n], row of class B

    @classmethod
    def draw(cls, run: Run, pairs: Tensor, rng: torch.Generator) -> Pool:
        """Pairs of parents, rows of both classes `[n, 2]`, through step 1 and the feature transfer."""
        config = run.config
        a, b = class_tensors(run)
        nets = load_networks(run, 1)
        (i, j), size = pairs.T, len(pairs)
        with torch.no_grad():
            made = methods.forward(nets, a[i][None], b[j][None])
        assert made.a is not None
        in_b, in_a = made.b[0], made.a[0]
        origins = [torch.rand(size, config.origins, 3, generator=rng) if config.transfer == "fit" else None for _ in range(2)]
        species = run.species
        return cls(transfer(in_b, in_a, 2, species, origins[0]), transfer(in_a, in_b, 1, species, origins[1]), i, j)


def pair_order(a: Cells, b: Cells, favour_large: float, rng: torch.Generator) -> Tensor:
    """All pairs of a row of `a` and a row of `b` in random order, `[pairs, 2]`; larger ones tend to come first.

    A weighted permutation (Efraimidis and Spirakis, Inf. Process. Lett. 97, 181 (2006)) with the number of atoms to the power
    `favour_large` as weight: two small cells can be put together in few distinct ways, and every pair in one way that is best.
    """
    weight = (a.mask.sum((1, 2))[:, None] + b.mask.sum((1, 2))).double().pow(favour_large).flatten()
    order = (torch.rand(len(weight), generator=rng, dtype=torch.float64).log() / weight).argsort(descending=True)
    return torch.stack((order // len(b), order % len(b)), -1)


def load_networks(run: Run, step: int) -> Networks:
    """The trained networks of a step, ready to make cells."""
    stage = METHODS[run.config.method][step - 1]
    a, b = run.classes()
    slots, length = 2 if stage.domains == "binary" else 3, max(a.mask.shape[-1], b.mask.shape[-1])
    name = f"step{step}.safetensors"
    tensors, _ = run.load(name)
    nets = Networks(stage, run.config, slots, length, [torch.Generator()])
    try:
        nets.load_state_dict(tensors)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()[:100]
        raise InputError(f"{run.folder / name}: does not fit config.json ({reason}); train the pair again.") from None
    return nets.eval().requires_grad_(False)


def _repeat(cells: Cells, runs: int) -> Cells:
    return replace(
        cells,
        lattice=cells.lattice.expand(runs, *cells.lattice.shape),
        frac=cells.frac.expand(runs, *cells.frac.shape),
        mask=cells.mask.expand(runs, *cells.mask.shape),
    )


def _stack(cells: Sequence[Cells]) -> Cells:
    lattice, frac, mask = (torch.stack([getattr(c, name) for c in cells]) for name in ("lattice", "frac", "mask"))
    return Cells(lattice, frac, mask, cells[0].species)


def _adam(module: torch.nn.Module, config: Config) -> torch.optim.Adam:
    return torch.optim.Adam(module.parameters(), config.learning_rate, (config.beta1, 0.999), fused=True)


def _update(optimizer: torch.optim.Optimizer, terms: Iterable[Tensor]) -> None:
    """One step down the sum over terms and runs: the runs' weights are separate, and so are their gradients."""
    optimizer.zero_grad()
    torch.stack(tuple(terms)).sum().backward()
    optimizer.step()


def _check_finite(means: dict[str, list[float]], stage: Stage, epoch: int, config: Config) -> None:
    for name, values in means.items():
        if not all(math.isfinite(value) for value in values):
            raise TrainingError(
                f"The loss {name} of step {stage.number} is not finite at epoch {epoch + 1} ({values}); what was written before "
                f"is kept. Lower the learning rate ({config.learning_rate}) or the weight of this term."
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
            tensors |= {f"{name}.{i}.{key}": state[key] for key in ("exp_avg", "exp_avg_sq", "step")}
    for k, run in enumerate(runs):
        mine = _slice({key: t for key, t in tensors.items() if t.ndim}, k)
        mine |= {key: t for key, t in tensors.items() if not t.ndim} | {"rng": rngs[k].get_state()}
        run.save("checkpoint.safetensors", mine, {"step": stage.number, "epoch": epoch, "seconds": seconds})


def _load_checkpoint(
    runs: list[Run], stage: Stage, nets: Networks, optimizers: dict[str, torch.optim.Adam], rngs: list[torch.Generator]
) -> tuple[int, float]:
    """Epoch and seconds of the checkpoint of this stage, loaded into place; (0, 0) where a run of the stack has none."""
    name = "checkpoint.safetensors"
    found = [run.load(name) for run in runs if (run.folder / name).exists()]
    headers = [header for _, header in found]
    if len(found) < len(runs) or any((h["step"], h["epoch"]) != (stage.number, headers[0]["epoch"]) for h in headers):
        for run in runs:
            run.keep_metrics(stage.number, 0)
        return 0, 0.0
    tensors = {key: torch.cat([t[key] for t, _ in found]) if t0.ndim else t0 for key, t0 in found[0][0].items() if key != "rng"}
    nets.load_state_dict({key.removeprefix("nets."): t for key, t in tensors.items() if key.startswith("nets.")})
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


def _set_all(runs: list[Run], state: str, **more: Any) -> None:  # noqa: ANN401 - what JSON holds
    for run in runs:
        run.set_status(state, **more)
