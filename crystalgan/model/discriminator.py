"""The discriminator of the third step, on what every description of a crystal shares.

It sees how many neighbours of each pair of elements an atom has at each distance, and the volume of
an atom: the same for any choice of the cell, any supercell, any order of the atoms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.functional import silu, softplus

from crystalgan.crystal.kernels.graph import edges_of
from crystalgan.model.networks import MLP

if TYPE_CHECKING:
    from torch import Tensor

    from crystalgan.crystal.cells import Cells

CUTOFF = 5.0  # Å
CENTRES, WIDTH = 12, 0.3  # Gaussians from 1 Å to the cutoff, and their standard deviation, Å
FIRST = 1.0  # Å, the centre of the first
HIDDEN = (64, 64)
OF_VOLUME = 5.0  # the weight of the logarithm of the volume among the features


def fingerprints(cells: Cells, volumes: tuple[float, ...]) -> Tensor:
    """Features `[n, pairs * CENTRES + 1]` of cells `[n]`, differentiable by lattice and positions.

    For each pair of elements log(1 + neighbours of an atom) under Gaussians of the distance, then
    the logarithm of the volume by that of the atoms, of which `volumes` (Å³) has one a slot.
    """
    slots, length = cells.mask.shape[-2:]
    mask, counts = cells.mask.flatten(1), cells.mask.sum(-1).to(cells.lattice.dtype)
    features = cells.features.detach().contiguous().numpy()
    who, shifts = edges_of(features, mask.contiguous().numpy(), CUTOFF)
    cell, i, j = torch.from_numpy(who).long().unbind(1)
    frac = cells.frac.flatten(1, 2)
    step = frac[cell, j] - frac[cell, i] + torch.from_numpy(shifts)
    distance = (step[:, None] @ cells.lattice[cell])[:, 0].norm(dim=1).clamp_max(CUTOFF)
    centres = torch.linspace(FIRST, CUTOFF, CENTRES, dtype=distance.dtype)
    near = torch.exp(-((distance[:, None] - centres) / WIDTH).square() / 2)
    near = near * (1 + torch.cos(torch.pi * distance / CUTOFF))[:, None]  # none at the cutoff
    numbers = torch.zeros(slots, slots, dtype=torch.long)
    upper = torch.triu_indices(slots, slots)
    numbers[upper[0], upper[1]] = torch.arange(upper.shape[1])
    pair = (numbers + numbers.T - numbers.diagonal().diag())[i // length, j // length]
    pairs = upper.shape[1]
    sums = near.new_zeros(len(cells) * pairs, CENTRES).index_add(0, cell * pairs + pair, near)
    by_atom = sums.view(len(cells), -1) / counts.sum(-1, keepdim=True)
    usual = counts @ torch.tensor(volumes, dtype=counts.dtype)
    ratio = torch.linalg.det(cells.lattice).abs().clamp_min(1e-3) / usual
    return torch.cat((by_atom.log1p(), OF_VOLUME * ratio.log()[:, None]), 1)


class Discriminator(nn.Module):
    """A perceptron from fingerprints `[n, features]` to logits `[n]`."""

    def __init__(self, slots: int, rng: torch.Generator) -> None:
        super().__init__()
        size = slots * (slots + 1) // 2 * CENTRES + 1
        self.mlp = MLP([size, *HIDDEN, 1], [rng], 1)

    def forward(self, features: Tensor) -> Tensor:
        """Logits: above zero for what is taken to be real."""
        x = features
        # in plain torch, since the penalty is a derivative that has one itself
        weights, biases = self.mlp.layers
        for k, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            x = (silu(x) if k else x) @ weight[0, 0] + bias[0, 0]
        return x.squeeze(-1)


def discriminator_loss(
    discriminator: Discriminator, real: Tensor, fake: Tensor, penalty: float
) -> tuple[Tensor, float]:
    """Eqs. 23, 24 with a gradient penalty on real samples, and the discriminator's accuracy.

    L_D = -E[log D(y)] - E[log(1 - D(G(x)))] + penalty / 2 E[|dl/dy|^2] with logits l (Mescheder,
    Geiger and Nowozin 2018, R1). Fingerprints `[n, features]` of both.
    """
    real = real.detach().requires_grad_()
    of_real, of_fake = discriminator(real), discriminator(fake.detach())
    (slope,) = torch.autograd.grad(of_real.sum(), real, create_graph=True)
    loss = softplus(-of_real).mean() + softplus(of_fake).mean()
    right = ((of_real > 0).double().mean() + (of_fake < 0).double().mean()) / 2
    return loss + penalty / 2 * slope.square().sum(-1).mean(), float(right)
