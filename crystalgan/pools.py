"""What a stage trains on: the two classes, their union, or transferred cells made by step 1; and the batches drawn from it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from crystalgan import InputError, methods
from crystalgan.cells import Cells, stacked, transfer
from crystalgan.methods import METHODS, Networks, Stage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from crystalgan.config import Config
    from crystalgan.runs import Run


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
        """One epoch of starting and real cells, `[runs, domains, batch]`: of x and y, or of noise and y.

        Drawn independently for each run and each pool, every cell once before any twice.
        """
        updates, batch = self.updates(batch), min(batch, self.larger)
        x_index, y_index = (
            torch.stack([shuffled(pool.lattice.shape[1], updates * batch, rng) for rng in rngs]) for pool in (self.x, self.y)
        )
        for i in range(updates):
            part = slice(i * batch, (i + 1) * batch)
            x, y = self.x.gathered(x_index[:, part]), self.y.gathered(y_index[:, part])
            if self.noise:
                yield stacked([noise(x, rngs)]), stacked([y])
            else:
                yield stacked([x, y]), stacked([y, x])


def shuffled(size: int, count: int, rng: torch.Generator) -> Tensor:
    """`count` rows of `size` in random order, every row once before any twice."""
    return torch.cat([torch.randperm(size, generator=rng) for _ in range(math.ceil(count / size))])[:count]


def noise(cells: Cells, rngs: Sequence[torch.Generator]) -> Cells:
    """Gaussian noise in the occupancy of these cells: the input of the standard GAN."""
    lattice = torch.stack([torch.randn(cells.lattice.shape[1:], generator=rng) for rng in rngs])
    frac = torch.stack([torch.randn(cells.frac.shape[1:], generator=rng) for rng in rngs])
    return replace(cells, lattice=lattice, frac=frac * cells.mask.unsqueeze(-1))


def stage_data(runs: list[Run], stage: Stage, config: Config) -> Data:
    """The pools of a stage for a stack of runs on the same classes; step 2 needs step 1's networks."""
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
            made = methods.forward(nets, stacked([a[i][None], b[j][None]]))
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
