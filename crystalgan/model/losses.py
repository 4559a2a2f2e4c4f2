"""The losses of the paper, one pure function for each equation, unweighted: a value for each run,
or each run and domain.

Where a shape begins with `...`, these are the axes that stay.

Discriminators put out logits l with D = sigmoid(l), so that -log D = softplus(-l) and -log(1 - D) =
softplus(l) stay finite.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import softplus

if TYPE_CHECKING:
    from crystalgan.crystal.distances import Neighbours
    from crystalgan.crystal.limits import Limits


def adversarial(fake: Tensor) -> Tensor:
    """Eqs. 5, 6, 19, 20: L_GAN = -E[log D(G(x))]. Logits `[..., batch]`; returns `[...]`.

    >>> adversarial(torch.zeros(2, 5))  # log 2, where a discriminator cannot tell
    tensor([0.6931, 0.6931])
    """
    return softplus(-fake).mean(-1)


def discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Eqs. 8, 9, 23, 24: L_D = -E[log D(y)] - E[log(1 - D(G(x)))]. Logits as in `adversarial`;
    returns `[...]`."""
    return softplus(-real).mean(-1) + softplus(fake).mean(-1)


def reconstruction(returned: Tensor, original: Tensor, occupied: Tensor) -> Tensor:
    """Eqs. 3, 4, 17, 18: L_R = d(G'(G(x)), x), d the mean squared error over the entries that
    exist.

    Tensors `[..., batch, features]`, `occupied` 1 where there is an entry and 0 in the padding;
    returns `[...]`.
    """
    return ((returned - original).square() * occupied).sum((-2, -1)) / occupied.sum((-2, -1))


def geometric_literal(
    near: Neighbours, limits: Limits, runs: int, batch: int
) -> tuple[Tensor, Tensor]:
    """Eqs. 12, 13 as printed: L_geo1 = 1/m sum_i min_i |d1 - s_i|^2, L_geo2 = -1/m sum_i min_i |d2
    - s_i|^2.

    The inner minimum leaves one distance of each cell, which d1 attracts and d2 repels: nothing
    else has a gradient. Kept for comparison with `geometric_interval`. Cells are numbered run by
    run; returns two tensors `[runs]`, Å².
    """
    lower, upper = limits.of(near)

    def least(limit: Tensor) -> Tensor:
        # which row is the least has no derivative; the first where several are equal
        with torch.no_grad():
            value = (limit - near.distance).square()
            best = value.new_full((runs * batch,), torch.inf).scatter_reduce_(
                0, near.cell, value, "amin"
            )
            hit = (
                ((value == best.index_select(0, near.cell)) & limit.isfinite())
                .nonzero()
                .squeeze(-1)
            )
            row = hit.new_full((runs * batch,), len(value)).scatter_reduce_(
                0, near.cell.index_select(0, hit), hit, "amin"
            )
            cell = (row < len(value)).nonzero().squeeze(-1)
            row = row.index_select(0, cell)
        square = (limit.index_select(0, row) - near.distance.index_select(0, row)).square()
        return square.new_zeros(runs * batch).index_add(0, cell, square).view(runs, batch).mean(-1)

    return least(lower), -least(upper)


def geometric_interval(
    near: Neighbours, limits: Limits, runs: int, batch: int, margin: float
) -> tuple[Tensor, Tensor]:
    """Eqs. 12, 13 as meant: means over atoms of relu(d1 + margin - s)^2 and of relu(s - d2 +
    margin)^2.

    d1 and d2 are the limits of each pair, `margin` in Å (at most a quarter of the interval).
    Returns two tensors `[runs]`, Å².
    """
    short, long, limited = limits.excess(near, margin)
    atoms = (
        short.new_zeros(runs * batch).index_add(0, near.cell, limited.to(short.dtype)).clamp_min(1)
    )

    def mean(excess: Tensor) -> Tensor:
        cells = excess.new_zeros(runs * batch).index_add(0, near.cell, excess.square())
        return (cells / atoms).view(runs, batch).mean(-1)

    return mean(short), mean(long)


def energy(energies: Tensor, mask: Tensor) -> Tensor:
    """Not in the paper, but prior knowledge in its sense: E[f(energy of a cell / its atoms)],
    summed over the domains.

    f(e) is e below zero and log(1 + e) above, so that the few cells whose atoms are on top of each
    other, which growing helps at once, do not outweigh all others. Energies `[runs, domains,
    batch]` (eV), mask `[runs, domains, batch, slots, length]`; returns `[runs]`, eV/atom.
    """
    by_atom = energies / mask.sum((-2, -1))
    return torch.where(by_atom < 0, by_atom, by_atom.clamp_min(0).log1p()).mean(-1).sum(-1)


def volume(made: Tensor, original: Tensor) -> Tensor:
    """Not in the paper: E[(log V - log V0)^2], V the volume of the generated cell and V0 that of
    the transferred one.

    A generator that may grow its cells takes atoms apart so, whatever that leaves of voids.
    Lattices `[..., batch, 3, 3]`, Å; returns `[...]`.

    >>> volume(2 * torch.eye(3)[None], torch.eye(3)[None])  # (log 8)^2
    tensor(4.3241)
    """
    ratio = torch.linalg.det(made) / torch.linalg.det(original)
    return ratio.abs().clamp_min(1e-6).log().square().mean(-1)
