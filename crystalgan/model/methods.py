"""The four methods of Table II, side by side: what each trains, and which terms each sums.

Batches are `[runs, domains, batch]`. Domain 0 is the way from A to B: G_AHB starts from x, a cell
of A, and D_BH tells its cells from y, a cell of B; domain 1 is the way back. So the real
cells of the domains are the starting ones swapped. Every `*_terms` returns named, unweighted
losses, one value for each run. The weights are in `Config`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from crystalgan.crystal.distances import first_neighbours
from crystalgan.model import losses
from crystalgan.model.graph import GraphGenerator
from crystalgan.model.networks import Discriminator, Generator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crystalgan.config import Config
    from crystalgan.crystal.cells import Cells
    from crystalgan.crystal.limits import Limits
    from crystalgan.model.pair_potential import PairPotential

Terms = dict[str, Tensor]


@dataclass(frozen=True)
class Stage:
    """One adversarial training: step 1 or step 2 of a method.

    `domains`: "noise" for a generator fed with Gaussian noise; "binary" for the two classes;
    "ternary" for transferred cells.
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


def needs_pair_potential(config: Config) -> bool:
    """Whether settings ask for a pair potential: in the loss of step 2, or to prerelax new cells.

    >>> from crystalgan import Config
    >>> needs_pair_potential(Config()), needs_pair_potential(Config.paper())
    (True, False)
    """
    asked = bool(config.lambda_energy or config.prerelax)
    return asked and METHODS[config.method][-1].constrained


class Networks(nn.Module):
    """The generators and discriminators of one stage, one of each for each domain; from noise there
    is domain 0 alone.

    Cells have `slots` slots of `length` rows; there is one stack of networks for each of `rngs`.
    """

    def __init__(
        self, stage: Stage, config: Config, slots: int, length: int, rngs: Sequence[torch.Generator]
    ) -> None:
        super().__init__()
        # noise has no neighbours, and stays noise where a correction is added to it
        noise = stage.domains == "noise"
        domains = 1 if noise else 2
        if noise or config.generator == "mlp":
            self.generators: Generator | GraphGenerator = Generator(
                config, slots, length, rngs, domains, config.residual and not noise
            )
        else:
            self.generators = GraphGenerator(config, slots, rngs, domains)
        self.discriminators = Discriminator(config, slots, length, rngs, domains)

    @classmethod
    def trained(
        cls, stage: Stage, config: Config, length: int, tensors: dict[str, Tensor]
    ) -> Networks:
        """Networks whose generators have these trained weights, without gradients, for parents of
        `length` rows.

        RuntimeError, torch's, where the tensors are not those of the settings.
        """
        slots = 2 if stage.domains == "binary" else 3
        if stage.domains == "ternary" and config.incoming == "all":
            length *= 2
        nets, part = cls(stage, config, slots, length, [torch.Generator()]), "generators."
        nets.generators.load_state_dict(
            {key.removeprefix(part): t for key, t in tensors.items() if key.startswith(part)}
        )
        return nets.eval().requires_grad_(False)


@dataclass(frozen=True)
class Prior:
    """Prior knowledge that constrains step 2: limits of first-neighbour distances and, where it is
    asked for, an energy."""

    limits: Limits
    energy: PairPotential | None = None


@dataclass(frozen=True)
class Translated:
    """A batch translated by the generators, and translated back.

    Domain 0 of `back` is y again; None from noise.
    """

    new: Cells
    back: Cells | None

    @property
    def b(self) -> Cells:
        """Cells translated into domain B, `[runs, batch]`."""
        return self.new[:, 0]

    @property
    def a(self) -> Cells:
        """Cells translated into domain A, `[runs, batch]`; there are none from noise."""
        return self.new[:, 1]


def forward(nets: Networks, start: Cells) -> Translated:
    """Eqs. 1, 2 (step 1) and 15, 16 (step 2); from noise x alone becomes a cell."""
    return Translated(*nets.generators(start))


def one_way(nets: Networks, cells: Cells, domain: int) -> Cells:
    """Cells `[n]` of one domain translated into the other, by networks of one run and two
    domains."""
    made: Cells = nets.generators.one_way(cells[None, None], domain)
    return made[0, 0]


def discriminator_terms(nets: Networks, real: Cells, made: Translated) -> Terms:
    """Eqs. 8, 9, 11 (step 1) and 23, 24, 26 (step 2)."""
    return _named("discriminator", losses.discriminator(*nets.discriminators.both(real, made.new)))


def generator_terms(
    nets: Networks, start: Cells, real: Cells, made: Translated, config: Config, prior: Prior | None
) -> Terms:
    """Eq. 10 (step 1) and eq. 25 (step 2, with `prior`): the terms of the full generative loss."""
    terms = _named("adversarial", losses.adversarial(nets.discriminators(made.new)))
    if made.back is not None:
        terms |= _named(
            "reconstruction",
            losses.reconstruction(made.back.features, real.features, real.occupied),
        )
    if prior is not None:
        terms["geo1"], terms["geo2"] = geometric_terms(made.new, config, prior.limits)
        if config.lambda_volume:
            terms["volume"] = losses.volume(made.new.lattice, start.lattice).sum(-1)
        if prior.energy and config.lambda_energy:
            terms["energy"] = losses.energy(
                prior.energy(made.new.flattened()).view(made.new.mask.shape[:3]), made.new.mask
            )
    return terms


def _named(term: str, by_domain: Tensor) -> Terms:
    """The values `[runs, domains]` of a term by the domain that they are of."""
    return {
        f"{term}_{name}": value for name, value in zip("ba", by_domain.unbind(-1), strict=False)
    }


def geometric_terms(cells: Cells, config: Config, limits: Limits) -> tuple[Tensor, Tensor]:
    """L_geo1 and L_geo2 over both domains' new cells, `[runs]` each."""
    runs, batch = cells.lattice.shape[0], cells.lattice.shape[1] * cells.lattice.shape[2]
    near = first_neighbours(cells.flattened(), limits.cross)
    if config.geometric_loss == "literal":
        return losses.geometric_literal(near, limits, runs, batch)
    return losses.geometric_interval(near, limits, runs, batch, config.margin)
