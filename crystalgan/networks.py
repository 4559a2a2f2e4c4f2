"""Generators and discriminators: stacks of independent multi-layer perceptrons over the flattened tensor.

A stack holds one perceptron for each run and each domain: both generators of a cross-domain GAN have one shape, and so do both
discriminators, so that each kind is one product where there would be two, and one tensor for the optimizer.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crystalgan.cells import Cells
    from crystalgan.config import Config

SMALL = 1e-2  # scale of a residual generator's first corrections


class MLP(nn.Module):
    """Perceptrons with ReLU hidden layers; weights are stacked `[runs, domains, in, out]`, biases `[runs, domains, 1, out]`."""

    def __init__(self, sizes: Sequence[int], rngs: Sequence[torch.Generator], domains: int, spectral_norm: bool = False) -> None:
        super().__init__()
        self.spectral_norm = spectral_norm
        for i, (n, m) in enumerate(pairwise(sizes)):
            bound = 1 / math.sqrt(n)
            draws = torch.stack([torch.rand(domains, n + 1, m, generator=rng) for rng in rngs]) * 2 * bound - bound
            self.register_parameter(f"weight{i}", nn.Parameter(draws[..., :n, :].clone()))
            self.register_parameter(f"bias{i}", nn.Parameter(draws[..., n:, :].clone()))
            if spectral_norm:
                start = torch.stack([torch.randn(domains, 1, n, generator=rng) for rng in rngs])
                self.register_buffer(f"left{i}", start / start.norm(dim=-1, keepdim=True))

    @property
    def layers(self) -> tuple[list[Tensor], list[Tensor]]:
        """Weights `[runs, domains, in, out]` and biases `[runs, domains, 1, out]` of the layers."""
        every: list[Tensor] = [tensor for tensor in self._parameters.values() if tensor is not None]
        return every[::2], every[1::2]

    def forward(self, x: Tensor) -> Tensor:
        """`[runs, domains, batch, in]` to `[runs, domains, batch, out]`."""
        weights, biases = self.layers
        if self.spectral_norm:
            weights = [weight / self._sigma(i, weight) for i, weight in enumerate(weights)]
        return _Layers.apply(x, len(weights), *weights, *biases)

    def _sigma(self, layer: int, weight: Tensor) -> Tensor:
        """The largest singular value, `[runs, domains, 1, 1]`, by one power iteration a call (Miyato et al., ICLR 2018)."""
        left = self.get_buffer(f"left{layer}")  # [runs, domains, 1, in]
        with torch.no_grad():
            right = left @ weight
            right = right / right.norm(dim=-1, keepdim=True).clamp_min(1e-12)
            if self.training:
                turned = right @ weight.mT
                left.copy_(turned / turned.norm(dim=-1, keepdim=True).clamp_min(1e-12))
        return left.clone() @ weight @ right.mT


class _Layers(torch.autograd.Function):
    """x -> relu(... relu(x W1 + b1) ...) Wn + bn as one node of the graph.

    At the paper's sizes a node for every product and every ReLU costs as much as the products themselves.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, layers: int, *parameters: Tensor) -> Tensor:  # noqa: ANN401 - torch's context
        lead = x.shape[:2]
        weights, biases = ([p.flatten(0, 1) for p in part] for part in (parameters[:layers], parameters[layers:]))
        x, inputs = x.flatten(0, 1), []
        for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            inputs.append(x)
            x = torch.baddbmm(bias, x, weight)
            if i < layers - 1:
                x.relu_()
        ctx.save_for_backward(*inputs, *weights)
        return x.unflatten(0, lead)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 - torch's context
        layers, lead = len(ctx.saved_tensors) // 2, grad.shape[:2]
        inputs, weights = ctx.saved_tensors[:layers], ctx.saved_tensors[layers:]
        of_input, of_parameters = ctx.needs_input_grad[0], ctx.needs_input_grad[2]
        by_weights: list[Tensor | None] = [None] * layers
        by_biases: list[Tensor | None] = [None] * layers
        grad = grad.flatten(0, 1)
        for i in reversed(range(layers)):
            if of_parameters:
                by_weights[i] = (inputs[i].mT @ grad).unflatten(0, lead)
                by_biases[i] = grad.sum(1, keepdim=True).unflatten(0, lead)
            if i or of_input:
                grad = grad @ weights[i].mT
            if i:
                grad = torch.ops.aten.threshold_backward(grad, inputs[i], 0)
        return (grad.unflatten(0, lead) if of_input else None, None, *by_weights, *by_biases)


class Generator(nn.Module):
    """Cells to cells of the same occupancy, a generator for each domain that cells come from."""

    def __init__(
        self, config: Config, slots: int, length: int, rngs: Sequence[torch.Generator], domains: int, residual: bool
    ) -> None:
        super().__init__()
        size = (1 + slots) * length * 3
        self.mlp = MLP([size, *[config.width] * config.layers, size], rngs, domains)
        self.residual = residual
        if residual:
            with torch.no_grad():
                weights, biases = self.mlp.layers
                weights[-1].mul_(SMALL)
                biases[-1].zero_()

    def forward(self, cells: Cells) -> Cells:
        """Cells `[runs, domains, batch]`; the padding stays zero."""
        made = self.mlp(cells.features) * cells.occupied
        return cells.with_features(cells.features + made if self.residual else made)


class Discriminator(nn.Module):
    """Flattened cells to logits, a discriminator for each domain; the sigmoid of a logit is the paper's D."""

    def __init__(self, config: Config, slots: int, length: int, rngs: Sequence[torch.Generator], domains: int) -> None:
        super().__init__()
        sizes = [(1 + slots) * length * 3, *[config.width] * config.layers, 1]
        self.mlp = MLP(sizes, rngs, domains, config.spectral_norm)

    def forward(self, features: Tensor) -> Tensor:
        """Logits `[runs, domains, batch]` of flattened cells `[runs, domains, batch, features]`."""
        return self.mlp(features).squeeze(-1)
