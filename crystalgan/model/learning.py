"""One epoch of a stage: gradients of the losses, and steps of Adam down them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.optim.adam import adam

from crystalgan.config import mixed
from crystalgan.model import methods
from crystalgan.model.methods import Networks

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from torch import Tensor

    from crystalgan.config import Config
    from crystalgan.crystal.cells import Cells
    from crystalgan.model.batches import Data
    from crystalgan.model.methods import Prior, Stage, Terms, Translated


class Adam:
    """`torch.optim.Adam` by torch's own function of it: the class imports torch's compiler first,
    for two seconds of each process that trains."""

    def __init__(
        self, parameters: Iterable[Tensor], rate: float, betas: tuple[float, float]
    ) -> None:
        self.parameters = list(parameters)
        self.rate, self.betas = rate, betas
        # a tensor of each parameter, by the names of torch.optim.Adam
        self.state = {
            "exp_avg": [torch.zeros_like(parameter) for parameter in self.parameters],
            "exp_avg_sq": [torch.zeros_like(parameter) for parameter in self.parameters],
            "step": [torch.zeros(()) for _ in self.parameters],
        }

    @torch.no_grad()
    def step(self, gradients: Iterable[Tensor]) -> None:
        """One step down these gradients, one of each parameter."""
        adam(
            self.parameters,
            list(gradients),
            self.state["exp_avg"],
            self.state["exp_avg_sq"],
            [],
            self.state["step"],
            fused=True,
            amsgrad=False,
            beta1=self.betas[0],
            beta2=self.betas[1],
            lr=self.rate,
            weight_decay=0.0,
            eps=1e-8,
            maximize=False,
        )


@dataclass(frozen=True)
class Learner:
    """What changes while a stage of a stack of runs is trained."""

    stage: Stage
    nets: Networks
    optimizers: dict[str, Adam]  # of "generators" and "discriminators"
    rngs: list[torch.Generator]  # one for each run


def new_learner(stage: Stage, data: Data, configs: Sequence[Config]) -> Learner:
    """Networks, optimizers and random state of a stage before its first epoch, one of each run's
    settings."""
    config = configs[0]
    rngs = [torch.Generator().manual_seed(mixed(c.seed * 8 + stage.number)) for c in configs]
    nets = Networks(stage, config, len(data.x.species), data.x.mask.shape[-1], rngs)
    optimizers = {
        name: Adam(getattr(nets, name).parameters(), config.learning_rate, (config.beta1, 0.999))
        for name in ("generators", "discriminators")
    }
    return Learner(stage, nets, optimizers, rngs)


def learn_epoch(
    learner: Learner, data: Data, config: Config, prior: Prior | None
) -> tuple[dict[str, list[float]], Translated]:
    """One epoch: the mean of each loss by run, and the last batch translated."""
    sums: Terms = {}
    for batch in data.batches(learner.rngs, config.batch):
        terms, made = _learn(learner, batch, config, prior)
        sums = {name: sums.get(name, 0) + term for name, term in terms.items()}
    means = (torch.stack(tuple(sums.values())) / data.updates(config.batch)).tolist()
    return dict(zip(sums, means, strict=True)), made


def _learn(
    learner: Learner, batch: tuple[Cells, Cells], config: Config, prior: Prior | None
) -> tuple[Terms, Translated]:
    """One step of the discriminators and one of the generators; the losses before them, and the
    translated batch."""
    (start, real), nets, optimizers = batch, learner.nets, learner.optimizers
    made = methods.forward(nets, start)
    terms = methods.discriminator_terms(nets, real, made)
    _update(optimizers["discriminators"], terms.values(), [1.0] * len(terms), config.clip)
    critics = optimizers["discriminators"].parameters
    for parameter in critics:
        parameter.requires_grad_(False)
    of_generators = methods.generator_terms(nets, start, real, made, config, prior)
    weights = [config.weight(learner.stage.number, name) for name in of_generators]
    _update(optimizers["generators"], of_generators.values(), weights, config.clip)
    for parameter in critics:
        parameter.requires_grad_(True)
    return {name: term.detach() for name, term in (terms | of_generators).items()}, made


def _update(
    optimizer: Adam,
    terms: Collection[Tensor],
    weights: Sequence[float],
    clip: float,
) -> None:
    """One step down the weighted sum over terms and runs: the runs' weights are separate, and so
    are their gradients.

    With `clip` the gradient of each run is no longer than that.
    """
    by_terms = [torch.full_like(term, weight) for term, weight in zip(terms, weights, strict=True)]
    gradients = torch.autograd.grad(tuple(terms), optimizer.parameters, by_terms)
    if clip:
        square = sum(g.flatten(1).square().sum(1) for g in gradients)
        scale = (clip / torch.as_tensor(square).sqrt().clamp_min(1e-12)).clamp_max(1.0)
        for g in gradients:
            g.mul_(scale.view(-1, *[1] * (g.ndim - 1)))
    optimizer.step(gradients)
