"""What a stage trains on: the two classes, their union, or transferred cells made by step 1; and
the batches drawn from it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from crystalgan.config import mixed
from crystalgan.crystal.cells import Cells
from crystalgan.crystal.distances import first_neighbours
from crystalgan.crystal.limits import learned_rule, limits_of
from crystalgan.errors import InputError
from crystalgan.model import methods
from crystalgan.model.methods import METHODS, Networks, Stage
from crystalgan.model.transfer import (
    Host,
    Incoming,
    Parents,
    atomic_volumes,
    fitted_transfer,
    order_rng,
    paper_transfer,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from crystalgan.config import Config
    from crystalgan.crystal.rules import Rule
    from crystalgan.runs.folder import Run


SHARED_LENGTH = 2.1  # Å, the Switendick distance: what shared atoms keep between them


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


def stage_data(runs: list[Run], stage: Stage, config: Config) -> Data:
    """The pools of a stage for a stack of runs on the same classes; step 2 needs step 1's
    networks."""
    a, b = class_tensors(runs[0])
    larger = max(len(a), len(b))
    if stage.domains == "ternary":
        pools = []
        for run in runs:
            rng = torch.Generator().manual_seed(mixed(run.config.seed * 8))
            order = pair_order(len(a), len(b), rng)
            pools.append(_pool(run, order[torch.arange(larger) % len(order)], rng))
        x, y = (Cells.stack(pool) for pool in zip(*pools, strict=True))
        return Data(x, y, larger, perturbation=config.noise)
    if stage.domains == "noise":
        both = union(a, b)
        return Data(_repeat(both, len(runs)), _repeat(both, len(runs)), len(both), noise=True)
    return Data(_repeat(a, len(runs)), _repeat(b, len(runs)), larger)


def reference_of(a: Cells, b: Cells) -> Tensor:
    """Usual lengths and volumes of two classes in the slots of the ternary, `[1 + slots, slots]`:
    what cells are packed to.

    The first rows are the lengths (Å) for each pair of slots: the medians of the distances to the
    nearest metal, of both metals their mean, and the Switendick distance between shared atoms; the
    last one the volumes (Å³) of the atoms.
    """
    lengths = []
    for cells in (a, b):
        near = first_neighbours(cells)
        metal = near.other_slot == 1
        lengths.append(
            [float(near.distance[metal & (near.center_slot == slot)].median()) for slot in (0, 1)]
        )
    volumes = [atomic_volumes(cells).tolist() for cells in (a, b)]
    (h_a, a_a), (h_b, b_b) = lengths
    a_b, shared = (a_a + b_b) / 2, (volumes[0][0] + volumes[1][0]) / 2
    rows = [
        [SHARED_LENGTH, h_a, h_b],
        [h_a, a_a, a_b],
        [h_b, a_b, b_b],
        [shared, volumes[0][1], volumes[1][1]],
    ]
    return torch.tensor(rows)


def class_tensors(run: Run) -> tuple[Cells, Cells]:
    """Both classes of a run as the networks take them: float32, padded to one length, with their
    symmetry if that is followed."""
    a, b = parents(run)
    return a.cells, b.cells


def parents(run: Run) -> tuple[Parents, Parents]:
    """Both classes of a run, ready for step 1 and the transfer; kept, for they are asked for with
    every block of candidates."""
    follows = run.config.symmetry and (run.config.residual or run.config.generator == "graph")
    return _parents(run.folder, follows, (run.folder / "classes.safetensors").stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _parents(folder: Path, symmetry: bool, _stamp: int) -> tuple[Parents, Parents]:
    from crystalgan.runs.folder import Run

    a, b = Run.open(folder).classes()
    length = max(a.mask.shape[-1], b.mask.shape[-1])
    of_a, of_b = (
        replace(p, cells=p.cells.to(torch.float32))
        for p in (Parents.of(c.padded(length), symmetry) for c in (a, b))
    )
    return of_a, of_b


def completed(run: Run) -> Rule:
    """The run's rule, with the learned limits for pairs of elements that it says nothing of."""
    return replace(run.rule, limits=learned_rule(*run.classes()).limits | run.rule.limits)


def union(a: Cells, b: Cells) -> Cells:
    """Both classes in the slots of the ternary, each with the other's metal slot empty."""
    species = (*a.species, b.species[1])
    frac = torch.cat((torch.nn.functional.pad(a.frac, (0, 0, 0, 0, 0, 1)), b.frac[:, [0, 1, 1]]))
    mask = torch.cat((torch.nn.functional.pad(a.mask, (0, 0, 0, 1)), b.mask[:, [0, 1, 1]]))
    frac[len(a) :, 1], mask[len(a) :, 1] = 0, False
    return Cells(torch.cat((a.lattice, b.lattice)), frac, mask, species)


@torch.no_grad()
def transferred(
    run: Run, pairs: Tensor, origins: Tensor, to_b: Tensor, whole: bool | None = None
) -> tuple[Cells, Cells]:
    """Transferred cells: AHB_g of the pairs of parents that are `to_b`, and BHA_g of the others;
    they have gone through step 1.

    Pairs are rows of both classes `[n, 2]`; `origins` `[n, k, 3]` are random fractional shifts that
    `fit` chooses from. `whole` overrules whether the run puts the second parent in whole.
    """
    (a, b), nets, species = parents(run), load_networks(run, 1), run.species
    i, j = pairs.T
    in_b, in_a = methods.one_way(nets, a.cells[i], 0), methods.one_way(nets, b.cells[j], 1)
    fitted = run.config.transfer == "fitted"
    limits = limits_of(completed(run), species)
    whole = run.config.incoming == "all" if whole is None else whole

    def put(
        own: Cells,
        other: Cells,
        classes: tuple[Parents, Parents],
        rows: Tensor,
        slot: int,
        chosen: Tensor,
    ) -> Cells:
        host = Host.of(own[chosen], classes[0], rows[chosen, 0], slot, species)
        part = "all" if whole else "metal"
        incoming = Incoming.of(other[chosen], classes[1], rows[chosen, 1], part)
        if not fitted:
            return paper_transfer(host, incoming)
        shifts = origins[chosen]
        return fitted_transfer(host, incoming, limits, shifts, order_rng(shifts))

    return put(in_b, in_a, (a, b), pairs, 2, to_b), put(in_a, in_b, (b, a), pairs.flip(1), 1, ~to_b)


def _pool(run: Run, pairs: Tensor, rng: torch.Generator) -> tuple[Cells, Cells]:
    """What step 2 of a run trains on: both ways of transferring each pair of parents."""
    shifts = torch.rand(2, len(pairs), run.config.origins, 3, generator=rng)
    to_b = torch.arange(2 * len(pairs)) < len(pairs)
    return transferred(run, pairs.repeat(2, 1), shifts.flatten(0, 1), to_b)


def pair_order(a: int, b: int, rng: torch.Generator) -> Tensor:
    """All pairs of a row of two classes of these sizes in random order, `[pairs, 2]`."""
    order = torch.randperm(a * b, generator=rng)
    return torch.stack((order // b, order % b), -1)


def load_networks(run: Run, step: int) -> Networks:
    """The networks of a step, their generators trained and ready to make cells, of other classes
    too where these see crystals."""
    stage = METHODS[run.config.method][step - 1]
    a, b = run.classes()
    slots, length = 2 if stage.domains == "binary" else 3, max(a.mask.shape[-1], b.mask.shape[-1])
    if stage.domains == "ternary" and run.config.incoming == "all":
        length *= 2
    name = f"step{step}.safetensors"
    tensors, _ = run.load(name)
    nets = Networks(stage, run.config, slots, length, [torch.Generator()])
    part = "generators."
    try:
        nets.generators.load_state_dict(
            {key.removeprefix(part): t for key, t in tensors.items() if key.startswith(part)}
        )
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()[:100]
        raise InputError(
            f"{run.folder / name}: does not fit config.json ({reason}); train the pair again."
        ) from None
    return nets.eval().requires_grad_(False)


def _repeat(cells: Cells, runs: int) -> Cells:
    return cells[None][[0] * runs]
