"""Batches of a stage of training, and the random draws that cells and batches begin with."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from crystalgan.crystal.cells import Cells

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@dataclass(frozen=True)
class Data:
    """What a stage trains on: two pools of cells `[runs, pool]`; the size of the larger class sets
    the length of an epoch."""

    x: Cells
    y: Cells
    larger: int
    noise: bool = False
    perturbation: float = 0.0  # Å, see `perturb`

    def updates(self, batch: int) -> int:
        """Batches in one epoch."""
        return math.ceil(self.larger / min(batch, self.larger))

    def batches(self, rngs: Sequence[torch.Generator], batch: int) -> Iterator[tuple[Cells, Cells]]:
        """One epoch of starting cells and real ones, `[runs, domains, batch]`.

        They are x and y, or noise and y. They are drawn independently for each run and each pool,
        every cell once before any twice.
        """
        updates, batch = self.updates(batch), min(batch, self.larger)
        sizes, count = [pool.lattice.shape[1] for pool in (self.x, self.y)], updates * batch
        of_x, of_y = (
            torch.stack([shuffled(size, count, rng) for rng in rngs])[:, None] for size in sizes
        )
        for i in range(updates):
            part = slice(i * batch, (i + 1) * batch)
            if self.noise:
                yield (
                    noise(self.x.gathered(of_x[..., part]), rngs),
                    self.y.gathered(of_y[..., part]),
                )
            else:
                rows = torch.cat((of_x[..., part], of_y[..., part] + sizes[0]), 1)
                start = perturb(self._both.gathered(rows), self.perturbation, rngs)
                yield start, start.swapped()

    @cached_property
    def _both(self) -> Cells:
        """The cells of x and then those of y: one pool to draw both from at once."""
        return Cells.cat((self.x, self.y), 1)


def shuffled(size: int, count: int, rng: torch.Generator) -> Tensor:
    """`count` rows of `size` in random order, every row once before any twice."""
    if count <= size:
        return torch.randperm(size, generator=rng)[:count]
    return torch.cat([torch.randperm(size, generator=rng) for _ in range(math.ceil(count / size))])[
        :count
    ]


def noise(cells: Cells, rngs: Sequence[torch.Generator]) -> Cells:
    """Gaussian noise in the occupancy of these cells: the input of the standard GAN."""
    lattice = torch.stack([torch.randn(cells.lattice.shape[1:], generator=rng) for rng in rngs])
    frac = torch.stack([torch.randn(cells.frac.shape[1:], generator=rng) for rng in rngs])
    return replace(cells, lattice=lattice, frac=frac * cells.mask.unsqueeze(-1))


def perturb(cells: Cells, amount: float, rngs: Sequence[torch.Generator]) -> Cells:
    """Cells `[runs, ..., batch]` with Gaussian displacements of `amount` Å and Gaussian strains of
    a third of that number.

    Volumes stay but for second order, and so does the symmetry of cells that have one to follow.
    """
    if not amount:
        return cells
    shapes = (cells.frac.shape[1:], cells.lattice.shape[1:])
    draws = (
        torch.stack([torch.randn(shape, generator=rng) for rng in rngs]) * amount
        for shape in shapes
    )
    moves, strains = (draw.to(cells.lattice.dtype) for draw in draws)
    strains = strains / 3
    strains = (strains + strains.mT) / 2
    strains = strains - strains.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None] * torch.eye(3)
    frac = (moves @ torch.linalg.inv(cells.lattice)[..., None, :, :]) * cells.mask[..., None]
    change = replace(cells, lattice=cells.lattice @ strains, frac=frac, symmetry=None).features
    return cells.with_features(
        cells.features + (cells.symmetry.project(change) if cells.symmetry else change)
    )


def union(a: Cells, b: Cells) -> Cells:
    """Both classes in the slots of the ternary, each with the other's metal slot empty."""
    species = (*a.species, b.species[1])
    frac = torch.cat((torch.nn.functional.pad(a.frac, (0, 0, 0, 0, 0, 1)), b.frac[:, [0, 1, 1]]))
    mask = torch.cat((torch.nn.functional.pad(a.mask, (0, 0, 0, 1)), b.mask[:, [0, 1, 1]]))
    frac[len(a) :, 1], mask[len(a) :, 1] = 0, False
    return Cells(torch.cat((a.lattice, b.lattice)), frac, mask, species)


def pair_order(a: int, b: int, rng: torch.Generator) -> Tensor:
    """All pairs of a row of two classes of these sizes in random order, `[pairs, 2]`."""
    order = torch.randperm(a * b, generator=rng)
    return torch.stack((order // b, order % b), -1)
