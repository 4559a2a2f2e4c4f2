"""Networks: the hand-written backward pass, stacking, residual start."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from conftest import random_crystals, raw_cells

from crystalgan.config import Config
from crystalgan.crystal.cells import Cells
from crystalgan.model.methods import METHODS, Networks
from crystalgan.model.networks import MLP, Generator


def rngs(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_forward_is_a_plain_perceptron():
    mlp = MLP([6, 8, 7, 3], rngs(0, 1), 2).double()
    x = torch.randn(2, 2, 5, 6, dtype=torch.float64)
    for place in product(range(2), range(2)):
        y = x[place]
        for i, (w, b) in enumerate(zip(*mlp.layers, strict=True)):
            y = y @ w[place] + b[place]
            y = y.relu() if i < 2 else y
        torch.testing.assert_close(mlp(x)[place], y)


def test_backward_by_finite_differences():
    mlp = MLP([4, 6, 5, 2], rngs(0, 1), 2).double()
    x = torch.randn(2, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    names, values = zip(*mlp.named_parameters(), strict=True)

    def run(x, *parameters):
        return torch.func.functional_call(mlp, dict(zip(names, parameters, strict=True)), (x,))

    assert torch.autograd.gradcheck(run, (x, *values))


def test_frozen_weights_still_pass_gradients_to_the_input():
    mlp = MLP([4, 6, 2], rngs(0), 1).requires_grad_(False)
    x = torch.randn(1, 1, 3, 4, requires_grad=True)
    mlp(x).sum().backward()
    assert x.grad.abs().sum() > 0


def test_run_k_of_a_stack_is_what_it_is_alone():
    config = Config()
    stage = METHODS["crystalgan"][1]
    stack = Networks(stage, config, 3, 20, rngs(3, 4, 5))
    alone = Networks(stage, config, 3, 20, rngs(4))
    for (name, many), (_, one) in zip(
        stack.state_dict().items(), alone.state_dict().items(), strict=True
    ):
        assert torch.equal(many[1:2], one), name


def test_residual_generator_starts_near_its_input_and_keeps_the_padding():
    cells = raw_cells(random_crystals(np.random.default_rng(0), 8), torch.float32)[None, None]
    made = Generator(Config.paper(), 3, 24, rngs(0), 1, residual=True)(cells)[0]
    assert (made.lattice - cells.lattice).abs().max() < 0.05
    assert not made.features[made.occupied == 0].any()
    plain = Generator(Config.paper(), 3, 24, rngs(0), 1, residual=False)(cells)[0]
    assert not plain.features[plain.occupied == 0].any()
    assert (plain.lattice - cells.lattice).abs().max() > 1


@pytest.mark.parametrize("residual", [True, False])
def test_the_round_trip_is_two_generators_one_after_the_other(residual):
    """Values and every gradient against plain torch, generator 0 from A to B and 1 back."""
    cells = raw_cells(random_crystals(np.random.default_rng(1), 12))
    start = Cells.stack([cells[:6][None], cells[6:][None]], 1)
    generator = Generator(replace(Config(), width=20), 3, 24, rngs(3), 2, residual).double()
    parameters = list(generator.parameters())

    def plain(domain, x, occupied):
        weights, biases = generator.mlp.layers
        y = x
        for i, (w, b) in enumerate(zip(weights, biases, strict=True)):
            y = y @ w[:, domain] + b[:, domain]
            y = y.relu() if i < len(weights) - 1 else y
        return y * occupied + (x if residual else 0)

    x, occupied = start.features.clone().requires_grad_(), start.occupied
    b, a = plain(0, x[:, 0], occupied[:, 0]), plain(1, x[:, 1], occupied[:, 1])
    y_back, x_back = plain(0, a, occupied[:, 1]), plain(1, b, occupied[:, 0])
    expected = torch.stack((b, a), 1), torch.stack((y_back, x_back), 1)
    own = start.with_features(start.features.clone().requires_grad_())
    new, back = generator(own)
    torch.testing.assert_close(new.features, expected[0])
    torch.testing.assert_close(back.features, expected[1])
    assert torch.equal(back.mask, start.mask.flip(1))
    for domain in (0, 1):
        torch.testing.assert_close(
            generator.one_way(start[:, domain : domain + 1], domain).features[:, 0],
            expected[0][:, domain],
        )

    weights = [torch.randn_like(y) for y in expected]
    wanted = torch.autograd.grad(
        sum((w * y).sum() for w, y in zip(weights, expected, strict=True)), [x, *parameters]
    )
    found = torch.autograd.grad(
        (weights[0] * new.features).sum() + (weights[1] * back.features).sum(),
        [own.features, *parameters],
    )
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other)
