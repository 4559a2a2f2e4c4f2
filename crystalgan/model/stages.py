"""What a stage trains on: the two classes, their union, or transferred cells of step 1."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from crystalgan.config import mixed
from crystalgan.crystal.cells import Cells
from crystalgan.model.batches import Data, pair_order, union

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crystalgan.model.methods import Stage
    from crystalgan.model.model import Model


def stage_data(models: Sequence[Model], stage: Stage) -> Data:
    """The pools of a stage for a stack of models on the same classes; step 2 needs step 1's
    networks."""
    first, count = models[0], len(models)
    a, b = (p.cells for p in first.parents)
    larger = max(len(a), len(b))
    if stage.domains == "ternary":
        pools = [_transferred_pools(model, larger) for model in models]
        x, y = (Cells.stack(pool) for pool in zip(*pools, strict=True))
        return Data(x, y, larger, perturbation=first.config.noise)
    if stage.domains == "noise":
        both = union(a, b)
        return Data(_repeat(both, count), _repeat(both, count), len(both), noise=True)
    return Data(_repeat(a, count), _repeat(b, count), larger)


@torch.no_grad()
def _transferred_pools(model: Model, size: int) -> tuple[Cells, Cells]:
    """Both ways of transferring each of `size` pairs of parents."""
    rng = torch.Generator().manual_seed(mixed(model.config.seed * 8))
    a, b = model.classes
    order = pair_order(len(a), len(b), rng)
    pairs = order[torch.arange(size) % len(order)]
    origins = torch.rand(2, size, model.config.origins, 3, generator=rng)
    to_b = torch.arange(2 * size) < size
    return model.transferred(pairs.repeat(2, 1), origins.flatten(0, 1), to_b)


def _repeat(cells: Cells, runs: int) -> Cells:
    return cells[None][[0] * runs]
