"""Generators and discriminators: stacks of independent multi-layer perceptrons, one for each run, over the flattened tensor."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from crystalgan.cells import Cells

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crystalgan.config import Config

SMALL = 1e-2  # scale of a residual generator's first corrections


class MLP(nn.Module):
    """`runs` perceptrons with ReLU hidden layers; weights are stacked `[runs, in, out]`, biases `[runs, 1, out]`."""

    def __init__(self, sizes: Sequence[int], rngs: Sequence[torch.Generator], spectral_norm: bool = False) -> None:
        super().__init__()
        self.spectral_norm = spectral_norm
        for i, (n, m) in enumerate(pairwise(sizes)):
            bound = 1 / math.sqrt(n)
            draws = torch.stack([torch.rand(n + 1, m, generator=rng) for rng in rngs]) * 2 * bound - bound
            self.register_parameter(f"weight{i}", nn.Parameter(draws[:, :n].clone()))
            self.register_parameter(f"bias{i}", nn.Parameter(draws[:, n:].clone()))
            if spectral_norm:
                start = torch.stack([torch.randn(1, n, generator=rng) for rng in rngs])
                self.register_buffer(f"left{i}", start / start.norm(dim=-1, keepdim=True))

    @property
    def layers(self) -> tuple[list[Tensor], list[Tensor]]:
        """Weights `[runs, in, out]` and biases `[runs, 1, out]` of the layers."""
        every: list[Tensor] = [tensor for tensor in self._parameters.values() if tensor is not None]
        return every[::2], every[1::2]

    def forward(self, x: Tensor) -> Tensor:
        """`[runs, batch, in]` to `[runs, batch, out]`."""
        weights, biases = self.layers
        if self.spectral_norm:
            weights = [weight / self._sigma(i, weight) for i, weight in enumerate(weights)]
        return _Layers.apply(x, len(weights), *weights, *biases)

    def _sigma(self, layer: int, weight: Tensor) -> Tensor:
        """The largest singular value, `[runs, 1, 1]`, by one power iteration a call in training (Miyato et al., ICLR 2018)."""
        left = self.get_buffer(f"left{layer}")  # [runs, 1, in]
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
        weights, biases = parameters[:layers], parameters[layers:]
        inputs = []
        for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            inputs.append(x)
            x = torch.baddbmm(bias, x, weight)
            if i < layers - 1:
                x.relu_()
        ctx.save_for_backward(*inputs, *weights)
        return x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 - torch's context
        layers = len(ctx.saved_tensors) // 2
        inputs, weights = ctx.saved_tensors[:layers], ctx.saved_tensors[layers:]
        of_input, of_parameters = ctx.needs_input_grad[0], ctx.needs_input_grad[2]
        by_weights: list[Tensor | None] = [None] * layers
        by_biases: list[Tensor | None] = [None] * layers
        for i in reversed(range(layers)):
            if of_parameters:
                by_weights[i], by_biases[i] = inputs[i].mT @ grad, grad.sum(1, keepdim=True)
            if i or of_input:
                grad = grad @ weights[i].mT
            if i:
                grad = torch.ops.aten.threshold_backward(grad, inputs[i], 0)
        return (grad if of_input else None, None, *by_weights, *by_biases)


class Generator(nn.Module):
    """Cells to cells of the same occupancy."""

    def __init__(self, config: Config, slots: int, length: int, rngs: Sequence[torch.Generator], residual: bool) -> None:
        super().__init__()
        size = (1 + slots) * length * 3
        self.mlp = MLP([size, *[config.width] * config.layers, size], rngs)
        self.residual = residual
        if residual:
            with torch.no_grad():
                weights, biases = self.mlp.layers
                weights[-1].mul_(SMALL)
                biases[-1].zero_()

    def forward(self, cells: Cells) -> Cells:
        """Cells `[runs, batch]`; the padding stays zero."""
        made = self.mlp(cells.features) * cells.occupied
        return Cells.from_features(cells.features + made if self.residual else made, cells.mask, cells.species)


class Discriminator(nn.Module):
    """Flattened cells to logits `[runs, batch]`; the sigmoid of a logit is the paper's D."""

    def __init__(self, config: Config, slots: int, length: int, rngs: Sequence[torch.Generator]) -> None:
        super().__init__()
        sizes = [(1 + slots) * length * 3, *[config.width] * config.layers, 1]
        self.mlp = MLP(sizes, rngs, config.spectral_norm)

    def forward(self, features: Tensor) -> Tensor:
        """Logits of flattened cells `[runs, batch, features]`, one for each cell."""
        return self.mlp(features).squeeze(-1)
