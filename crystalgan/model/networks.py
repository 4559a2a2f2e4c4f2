"""Generators and discriminators: stacks of independent multi-layer perceptrons over the flattened
tensor.

A stack holds one perceptron for each run and each domain: both generators of a cross-domain GAN
have one shape, and so do both discriminators, so that each kind is one product where there would be
two, and one tensor for the optimizer.
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

    from crystalgan.config import Config
    from crystalgan.crystal.cells import Cells
    from crystalgan.crystal.symmetry import Symmetry

SMALL = 1e-2  # scale of a residual generator's first corrections


class MLP(nn.Module):
    """Perceptrons with ReLU hidden layers; weights are stacked `[runs, domains, in, out]`, biases
    `[runs, domains, 1, out]`."""

    def __init__(self, sizes: Sequence[int], rngs: Sequence[torch.Generator], domains: int) -> None:
        super().__init__()
        for i, (n, m) in enumerate(pairwise(sizes)):
            bound = 1 / math.sqrt(n)
            draws = (
                torch.stack([torch.rand(domains, n + 1, m, generator=rng) for rng in rngs])
                * 2
                * bound
                - bound
            )
            self.register_parameter(f"weight{i}", nn.Parameter(draws[..., :n, :].clone()))
            self.register_parameter(f"bias{i}", nn.Parameter(draws[..., n:, :].clone()))

    @property
    def layers(self) -> tuple[list[Tensor], list[Tensor]]:
        """Weights `[runs, domains, in, out]` and biases `[runs, domains, 1, out]` of the layers."""
        every: list[Tensor] = [tensor for tensor in self._parameters.values() if tensor is not None]
        return every[::2], every[1::2]

    def forward(self, x: Tensor) -> Tensor:
        """`[runs, domains, batch, in]` to `[runs, domains, batch, out]`."""
        weights, biases = self.layers
        y: Tensor = _Layers.apply(x, len(weights), *weights, *biases)
        return y


class _Layers(torch.autograd.Function):
    """x -> relu(... relu(x W1 + b1) ...) Wn + bn as one node of the graph.

    At the paper's sizes a node for every product and every ReLU costs as much as the products
    themselves.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, layers: int, *parameters: Tensor) -> Tensor:
        weights, biases = _flat(parameters[:layers]), _flat(parameters[layers:])
        y, inputs = _through(x, weights, biases)
        ctx.save_for_backward(*inputs, *weights)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        layers, lead = len(ctx.saved_tensors) // 2, grad.shape[:2]
        inputs, weights = ctx.saved_tensors[:layers], ctx.saved_tensors[layers:]
        of_input, of_parameters = ctx.needs_input_grad[0], ctx.needs_input_grad[2]
        by_input, _, by_parameters = _back(grad, inputs, weights, of_input, of_parameters)
        return (
            by_input,
            None,
            *([g.unflatten(0, lead) for g in by_parameters] or [None] * (2 * layers)),
        )


class _RoundTrip(torch.autograd.Function):
    """x -> (G(x), G(G(x) with its domains swapped)), as one node of the graph.

    Both times the padding is kept at zero, and changes are projected on those that keep the
    symmetry, where that is followed. The gradients of the weights from both ways are summed as they
    are made, not as two tensors afterwards.
    """

    @staticmethod
    def forward(  # torch's context comes first
        ctx: Any,
        x: Tensor,
        occupied: Tensor,
        residual: bool,
        symmetries: tuple[Symmetry, Symmetry] | None,
        layers: int,
        *parameters: Tensor,
    ) -> tuple[Tensor, Tensor]:
        weights, biases = _flat(parameters[:layers]), _flat(parameters[layers:])
        occupied_back, (symmetry, symmetry_back) = occupied.flip(1), symmetries or (None, None)
        new, inputs = _generated(x, occupied, residual, symmetry, weights, biases)
        back, inputs_back = _generated(
            new.flip(1), occupied_back, residual, symmetry_back, weights, biases
        )
        ctx.save_for_backward(occupied, occupied_back, *inputs, *inputs_back, *weights)
        ctx.residual, ctx.symmetries = residual, symmetries
        return new, back

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_new: Tensor, of_back: Tensor) -> tuple[Tensor | None, ...]:
        occupied, occupied_back, *rest = ctx.saved_tensors
        layers = len(rest) // 3
        inputs, inputs_back, weights = rest[:layers], rest[layers : 2 * layers], rest[2 * layers :]
        symmetry, symmetry_back = ctx.symmetries or (None, None)
        of_change = symmetry_back.project(of_back, transposed=True) if symmetry_back else of_back
        through, of_outputs, _ = _back(
            of_change * occupied_back, inputs_back, weights, of_input=True, of_parameters=False
        )
        assert through is not None
        total = of_new + (through.add_(of_back) if ctx.residual else through).flip(1)
        of_change = symmetry.project(total, transposed=True) if symmetry else total
        of_input, earlier = ctx.needs_input_grad[0], (inputs_back, of_outputs)
        by_input, _, by_parameters = _back(
            of_change * occupied, inputs, weights, of_input, True, earlier
        )
        if by_input is not None and ctx.residual:
            by_input = by_input.add_(total)
        return (
            by_input,
            None,
            None,
            None,
            None,
            *(g.unflatten(0, of_new.shape[:2]) for g in by_parameters),
        )


def _flat(parameters: Sequence[Tensor]) -> list[Tensor]:
    """Runs and domains as one axis, which batched products have."""
    return [parameter.flatten(0, 1) for parameter in parameters]


def _through(x: Tensor, weights: list[Tensor], biases: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """What the layers make of `[runs, domains, batch, in]`, and the input of each."""
    lead, inputs = x.shape[:2], []
    x = x.flatten(0, 1)
    for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        inputs.append(x)
        x = torch.baddbmm(bias, x, weight)
        if i < len(weights) - 1:
            x.relu_()
    return x.unflatten(0, lead), inputs


def _generated(
    x: Tensor,
    occupied: Tensor,
    residual: bool,
    symmetry: Symmetry | None,
    weights: list[Tensor],
    biases: list[Tensor],
) -> tuple[Tensor, list[Tensor]]:
    """What generators of these layers make of `[runs, domains, batch, features]`, and the input of
    each layer."""
    new, inputs = _through(x, weights, biases)
    new = new.mul_(occupied)
    new = symmetry.project(new) if symmetry else new
    return new.add_(x) if residual else new, inputs


def _back(
    grad: Tensor,
    inputs: Sequence[Tensor],
    weights: Sequence[Tensor],
    of_input: bool,
    of_parameters: bool,
    earlier: tuple[Sequence[Tensor], Sequence[Tensor]] | None = None,
) -> tuple[Tensor | None, list[Tensor], list[Tensor]]:
    """The gradients of the input, of what each layer puts out, and of weights and then biases,
    where they are asked for.

    `earlier`: inputs and gradients of another pass through the same layers, which count for the
    weights as well; each layer's are added while its sum is still in the processor's cache.
    """
    layers, lead = len(weights), grad.shape[:2]
    grad = grad.flatten(0, 1)
    of_outputs, by_weights, by_biases = [], [], []
    for i in reversed(range(layers)):
        of_outputs.append(grad)
        if of_parameters:
            by_weights.append(inputs[i].mT @ grad)
            by_biases.append(grad.sum(1, keepdim=True))
            if earlier:
                by_weights[-1].baddbmm_(earlier[0][i].mT, earlier[1][i])
                by_biases[-1].add_(earlier[1][i].sum(1, keepdim=True))
        if i or of_input:
            grad = grad @ weights[i].mT
        if i:
            torch.ops.aten.threshold_backward.grad_input(grad, inputs[i], 0, grad_input=grad)
    return (
        grad.unflatten(0, lead) if of_input else None,
        of_outputs[::-1],
        by_weights[::-1] + by_biases[::-1],
    )


class Generator(nn.Module):
    """Cells to cells of the same occupancy, a generator for each domain that cells come from."""

    def __init__(
        self,
        config: Config,
        slots: int,
        length: int,
        rngs: Sequence[torch.Generator],
        domains: int,
        residual: bool,
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

    def forward(self, cells: Cells) -> tuple[Cells, Cells | None]:
        """New cells from `[runs, domains, batch]`, and their way back where there are two domains;
        the padding stays zero.

        The symmetry of cells that have one to follow is kept, which only a residual generator can
        do.
        """
        if cells.mask.shape[1] == 1:
            made = self.mlp(cells.features) * cells.occupied
            return cells.with_features(cells.features + made if self.residual else made), None
        weights, biases = self.mlp.layers
        other = cells.swapped()
        symmetries = (cells.symmetry, other.symmetry) if cells.symmetry and other.symmetry else None
        new, back = _RoundTrip.apply(
            cells.features,
            cells.occupied,
            self.residual,
            symmetries,
            len(weights),
            *weights,
            *biases,
        )
        return cells.with_features(new), other.with_features(back)

    def one_way(self, cells: Cells, domain: int) -> Cells:
        """New cells from `[runs, 1, batch]` of one of two domains, without their way back."""
        weights, biases = (
            _flat([layer[:, domain : domain + 1] for layer in layers]) for layers in self.mlp.layers
        )
        new, _ = _generated(
            cells.features, cells.occupied, self.residual, cells.symmetry, weights, biases
        )
        return cells.with_features(new)


class Discriminator(nn.Module):
    """Flattened cells to logits, a discriminator for each domain; the sigmoid of a logit is the
    paper's D."""

    def __init__(
        self, config: Config, slots: int, length: int, rngs: Sequence[torch.Generator], domains: int
    ) -> None:
        super().__init__()
        sizes = [(1 + slots) * length * 3, *[config.width] * config.layers, 1]
        self.mlp = MLP(sizes, rngs, domains)

    def forward(self, cells: Cells) -> Tensor:
        """Logits `[runs, domains, batch]` of cells."""
        return self.mlp(cells.features).squeeze(-1)

    def both(self, real: Cells, fake: Cells) -> tuple[Tensor, Tensor]:
        """Logits of real cells, and of made ones without a way back to their generator, by one
        pass."""
        logits = self.mlp(torch.cat((real.features, fake.features.detach()), 2)).squeeze(-1)
        of_real, of_fake = logits.split(real.features.shape[2], 2)
        return of_real, of_fake
