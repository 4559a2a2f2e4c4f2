"""Checkpoints of a stack of runs: networks, Adam's moments and random state, a file for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from crystalgan.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from crystalgan.model.learning import Learner
    from crystalgan.runs.folder import Run

CHECKPOINT = "checkpoint.safetensors"


def save_checkpoint(runs: Sequence[Run], learner: Learner, epoch: int, seconds: float) -> None:
    """Write the state of a stack after `epoch` epochs and so many seconds of a stage."""
    tensors = {f"nets.{k}": v for k, v in learner.nets.state_dict().items()}
    for name, optimizer in learner.optimizers.items():
        for part, each in optimizer.state.items():
            tensors |= {f"{name}.{i}.{part}": tensor for i, tensor in enumerate(each)}
    for k, run in enumerate(runs):
        mine = of_run({key: t for key, t in tensors.items() if t.ndim}, k)
        mine |= {key: t for key, t in tensors.items() if not t.ndim}
        mine["rng"] = learner.rngs[k].get_state()
        about = {"step": learner.stage.number, "epoch": epoch, "seconds": seconds}
        run.save(CHECKPOINT, mine, about)


def load_checkpoint(runs: Sequence[Run], learner: Learner) -> tuple[int, float]:
    """Load the checkpoint of this stage into place and return its epoch and seconds.

    Both are 0 where a run of the stack has none. Raises InputError for a file of other networks.
    """
    try:
        return _loaded(runs, learner)
    except InputError:
        raise
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[-1].strip()[:100]
        raise InputError(
            f"{runs[0].folder / CHECKPOINT}: does not fit this run ({reason}); delete this file and"
            " resume the run."
        ) from None


def _loaded(runs: Sequence[Run], learner: Learner) -> tuple[int, float]:
    stage = learner.stage.number
    found = [run.load(CHECKPOINT) for run in runs if (run.folder / CHECKPOINT).exists()]
    headers = [header for _, header in found]
    if len(found) < len(runs) or any(
        (h["step"], h["epoch"]) != (stage, headers[0]["epoch"]) for h in headers
    ):
        for run in runs:
            run.keep_metrics(stage, 0)
        return 0, 0.0
    tensors = {
        key: torch.cat([t[key] for t, _ in found]) if t0.ndim else t0
        for key, t0 in found[0][0].items()
        if key != "rng"
    }
    learner.nets.load_state_dict(
        {key.removeprefix("nets."): t for key, t in tensors.items() if key.startswith("nets.")}
    )
    for name, optimizer in learner.optimizers.items():
        for part, each in optimizer.state.items():
            for i, tensor in enumerate(each):
                stored = tensors[f"{name}.{i}.{part}"]
                if stored.shape != tensor.shape:  # which would be broadcast
                    raise ValueError(f"{name}.{i}.{part} is {tuple(stored.shape)}")
                tensor.copy_(stored)
    for rng, (mine, _) in zip(learner.rngs, found, strict=True):
        rng.set_state(mine["rng"])
    for run in runs:
        run.keep_metrics(stage, headers[0]["epoch"])
    return headers[0]["epoch"], headers[0]["seconds"]


def of_run(tensors: dict[str, Tensor], k: int) -> dict[str, Tensor]:
    """Run k of every stacked tensor, its leading axis kept."""
    return {key: tensor[k : k + 1] for key, tensor in tensors.items()}
