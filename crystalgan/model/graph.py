"""Equivariant generators: they take a few steps along the edges of the periodic neighbour graph.

What they put out turns, moves and permutes with the cell, whatever basis it is described in, and
keeps its symmetry. A step and its gradient are compiled (`crystal.kernels.graph`); `plain_step` is
the same step in torch, from which autograd derives the gradient that tests hold the compiled one
to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from crystalgan.config import Config
    from crystalgan.crystal.cells import Cells
    from crystalgan.crystal.symmetry import Symmetry

CUTOFF = 3.6  # Å, of the edges that a generator steps along
FIRST, WIDTH = 0.6, 0.15  # Å: the first knot of a table, and the spacing of the knots
# Å and strain that one edge gives in one step: what no step can leave is a cell
MOST_MOVE, MOST_STRAIN = 0.15, 0.015
REBUILD = 3  # steps along one list of edges


@dataclass(frozen=True)
class Edges:
    """The neighbour graph of some cells, with what the kernels ask about it."""

    who: np.ndarray  # [edges, 3]: cell, one atom, the other
    shifts: np.ndarray  # [edges, 3], lattice vectors that the other is shifted by
    slots: int
    per_net: int  # cells of one run and domain
    atoms: np.ndarray  # [cells], how many each holds

    @classmethod
    def of(cls, features: Tensor, cells: Cells, cutoff: float) -> Edges:
        """Of cells `[runs, domains, batch]` with these features."""
        from crystalgan.crystal.kernels.graph import edges_of

        mask = cells.mask.flatten(-2).flatten(0, 2).contiguous().numpy()
        who, shifts = edges_of(features.detach().flatten(0, 2).contiguous().numpy(), mask, cutoff)
        return cls(
            who, shifts, len(cells.species), cells.mask.shape[2], mask.sum(1).astype("float64")
        )


class _Step(torch.autograd.Function):
    """The compiled step, with its gradients by features `[runs, domains, batch, features]` and by
    tables `[runs, domains, 2, slots * slots, knots]`."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, tables: Tensor, edges: Edges) -> Tensor:
        from crystalgan.crystal.kernels.graph import step

        ctx.save_for_backward(features, tables)
        ctx.edges = edges
        return torch.from_numpy(step(*_arguments(features, tables, edges))).view(features.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        from crystalgan.crystal.kernels.graph import step_backward

        features, tables = ctx.saved_tensors
        flat = grad.flatten(0, 2).contiguous().numpy()
        by_features, by_tables = step_backward(*_arguments(features, tables, ctx.edges), flat)
        return (
            torch.from_numpy(by_features).view(features.shape),
            torch.from_numpy(by_tables).view(tables.shape),
            None,
        )


def _arguments(features: Tensor, tables: Tensor, edges: Edges) -> tuple[Any, ...]:
    flat = (
        features.detach().flatten(0, 2).contiguous().numpy(),
        tables.detach().flatten(0, 1).contiguous().numpy(),
    )
    return (
        flat[0],
        edges.who,
        edges.shifts,
        flat[1],
        edges.slots,
        edges.per_net,
        edges.atoms,
        FIRST,
        WIDTH,
    )


def plain_step(features: Tensor, tables: Tensor, edges: Edges) -> Tensor:
    """The step of `GraphGenerator` in plain torch, differentiable by autograd; slow.

    Features are `[runs, domains, batch, features]`; the tables `[runs, domains, 2, slots * slots,
    knots]` hold displacements (Å) and strains, linear between knots.
    """
    x, flat = features.flatten(0, 2), tables.flatten(0, 1)
    length, knots = x.shape[1] // 3 // (1 + edges.slots), tables.shape[-1]
    rows = x.unflatten(1, (-1, 3))
    lattice, frac = rows[:, :3], rows[:, length:]
    cell, i, j = torch.from_numpy(edges.who).long().unbind(1)
    step = frac[cell, j] - frac[cell, i] + torch.from_numpy(edges.shifts)
    vector = (step[:, None] @ lattice[cell])[:, 0]
    distance = vector.norm(dim=1)
    along = ((distance - FIRST) / WIDTH).clamp(0, knots - 1)
    knot = along.detach().long().clamp_max(knots - 2)

    def read(which: int, kind: Tensor) -> Tensor:
        low, high = (flat[cell // edges.per_net, which, kind, knot + n] for n in (0, 1))
        return low + (high - low) * (along - knot)

    forth = i // length * edges.slots + j // length
    back = j // length * edges.slots + i // length
    moves = (read(0, forth) / distance)[:, None] * step, (read(0, back) / distance)[:, None] * step
    moved = frac.index_put((cell, i), moves[0], accumulate=True)
    moved = moved.index_put((cell, j), -moves[1], accumulate=True)
    share = (read(1, forth) + read(1, back)) / distance**2 / torch.from_numpy(edges.atoms)[cell]
    products = share[:, None, None] * vector[:, :, None] * vector[:, None]
    strain = torch.zeros_like(lattice).index_add(0, cell, products)
    out = torch.cat((lattice + lattice @ strain, rows[:, 3:length], moved), 1)
    return out.flatten(1).view(features.shape)


class _Project(torch.autograd.Function):
    """`Symmetry.project` with its gradient."""

    @staticmethod
    def forward(ctx: Any, change: Tensor, symmetry: Symmetry) -> Tensor:
        ctx.symmetry = symmetry
        return symmetry.project(change)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return ctx.symmetry.project(grad, transposed=True), None


class GraphGenerator(nn.Module):
    """Steps along the edges of the neighbour graph, by tables of each step for each pair of
    elements; all start near zero.

    Atom i moves by the sum of table(d) v / d over its edges v, the lattice L by L sum of table(d) v
    (x) v / d^2 / atoms. This is equivariant, linear in what it learns, and as cheap as a step of
    gradient descent on first neighbours.
    """

    def __init__(
        self, config: Config, slots: int, rngs: Sequence[torch.Generator], domains: int
    ) -> None:
        super().__init__()
        knots = round((CUTOFF - FIRST) / WIDTH)
        draws = [
            torch.randn(domains, config.steps, 2, slots * slots, knots, generator=rng) * 1e-3
            for rng in rngs
        ]
        # [runs, domains, steps, 2, slots * slots, knots], Å and strain
        self.tables = nn.Parameter(torch.stack(draws))

    def forward(self, cells: Cells) -> tuple[Cells, Cells]:
        """New cells from `[runs, domains, batch]`, and their way back."""
        new = _along(cells, self.tables)
        return new, _along(new.swapped(), self.tables)

    def one_way(self, cells: Cells, domain: int) -> Cells:
        """New cells from `[runs, 1, batch]` of one domain, without their way back."""
        return _along(cells, self.tables[:, domain : domain + 1])


def _along(cells: Cells, tables: Tensor) -> Cells:
    """Cells `[runs, domains, batch]` after all steps, by raw tables."""
    features = cells.features
    most = torch.tensor([MOST_MOVE, MOST_STRAIN]).view(2, 1, 1)
    tables = torch.nn.functional.pad(most * (tables / most).tanh(), (0, 1))  # nothing at the cutoff
    for k, table in enumerate(tables.unbind(2)):
        if k % REBUILD == 0:
            edges = Edges.of(features, cells, CUTOFF)
        features = _Step.apply(features, table, edges)
    # kept but for rounding, and for edges at the very cutoff that one twin has and the other has
    # not
    if cells.symmetry:
        features = cells.features + _Project.apply(features - cells.features, cells.symmetry)
    return cells.with_features(features)
