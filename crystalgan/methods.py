"""The four methods of Table II, side by side: what each trains, and which terms each sums.

Every `forward` takes the networks and two batches of cells `[runs, batch]` and returns what the generators make of them; every
`*_terms` returns named, unweighted losses, one value for each run. The weights are in `Config`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from crystalgan import losses
from crystalgan.cells import Cells, joined
from crystalgan.geometry import Limits, first_neighbours
from crystalgan.networks import Discriminator, Generator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crystalgan.config import Config

Terms = dict[str, Tensor]


@dataclass(frozen=True)
class Stage:
    """One adversarial training: step 1 or step 2 of a method.

    `domains`: "noise" for a generator fed with Gaussian noise; "binary" for the two classes; "ternary" for transferred cells.
    """

    number: int
    domains: Literal["noise", "binary", "ternary"]
    constrained: bool = False


METHODS: dict[str, tuple[Stage, ...]] = {
    "gan": (Stage(1, "noise"),),
    "discogan": (Stage(1, "binary"),),
    "unconstrained": (Stage(1, "binary"), Stage(2, "ternary")),
    "crystalgan": (Stage(1, "binary"), Stage(2, "ternary", constrained=True)),
}


class Networks(nn.Module):
    """The generators and discriminators of one stage.

    Cross-domain: `ab` maps domain A to B (G_AHB), `ba` back (G_BHA), `a` and `b` are D_AH and D_BH. From noise: `ab` and `b`.
    """

    def __init__(self, stage: Stage, config: Config, slots: int, length: int, rngs: Sequence[torch.Generator]) -> None:
        super().__init__()
        noise = stage.domains == "noise"
        residual = config.residual and not noise  # noise plus a correction would stay noise
        self.generators = nn.ModuleDict(
            {name: Generator(config, slots, length, rngs, residual) for name in (("ab",) if noise else ("ab", "ba"))}
        )
        self.discriminators = nn.ModuleDict(
            {name: Discriminator(config, slots, length, rngs) for name in (("b",) if noise else ("a", "b"))}
        )


@dataclass(frozen=True)
class Made:
    """What the generators make of two batches: x -> B and y -> A, and the round trips; None from noise."""

    b: Cells
    a: Cells | None = None
    x_back: Cells | None = None
    y_back: Cells | None = None


def forward(nets: Networks, x: Cells, y: Cells) -> Made:
    """Eqs. 1, 2 (step 1) and 15, 16 (step 2); from noise x alone becomes a cell."""
    ab = nets.generators["ab"]
    if "ba" not in nets.generators:
        return Made(ab(x))
    ba = nets.generators["ba"]
    b, a = ab(x), ba(y)
    return Made(b, a, ba(b), ab(a))


def discriminator_terms(nets: Networks, x: Cells, y: Cells, made: Made) -> Terms:
    """Eqs. 8, 9, 11 (step 1) and 23, 24, 26 (step 2)."""
    terms = {}
    for name, real, fake in (("b", y, made.b), ("a", x, made.a)):
        if fake is not None:
            both = torch.cat((real.features, fake.features.detach()), 1)
            logits = nets.discriminators[name](both).split(real.lattice.shape[1], 1)
            terms[f"discriminator_{name}"] = losses.discriminator(*logits)
    return terms


def generator_terms(nets: Networks, x: Cells, y: Cells, made: Made, config: Config, limits: Limits | None) -> Terms:
    """Eq. 10 (step 1) and eq. 25 (step 2, with `limits`): the terms of the full generative loss."""
    d = nets.discriminators
    terms = {"adversarial_b": losses.adversarial(d["b"](made.b.features))}
    if made.a is None or made.x_back is None or made.y_back is None:
        return terms
    terms["adversarial_a"] = losses.adversarial(d["a"](made.a.features))
    terms["reconstruction_a"] = losses.reconstruction(made.x_back.features, x.features, x.occupied)
    terms["reconstruction_b"] = losses.reconstruction(made.y_back.features, y.features, y.occupied)
    if limits is not None:
        terms["geo1"], terms["geo2"] = geometric_terms(made.b, made.a, config, limits)
        if config.lambda_volume:
            terms["volume"] = losses.volume(made.b.lattice, x.lattice) + losses.volume(made.a.lattice, y.lattice)
    return terms


def geometric_terms(b: Cells, a: Cells, config: Config, limits: Limits) -> tuple[Tensor, Tensor]:
    """L_geo1 and L_geo2 over both domains' new cells, `[runs]` each."""
    runs, batch = b.lattice.shape[0], b.lattice.shape[1] + a.lattice.shape[1]
    both = joined(b, a)
    near = first_neighbours(both.flattened(), limits.cross)
    if config.geometric_loss == "literal":
        return losses.geometric_literal(near, limits, runs, batch)
    return losses.geometric_interval(near, limits, runs, batch, config.margin)
