"""Each equation of the paper against a plain reading of it in numpy, and by finite differences."""

import math

import numpy as np
import torch
from conftest import random_crystals, raw_cells
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

from crystalgan.crystal.distances import first_neighbours
from crystalgan.crystal.limits import limits_of
from crystalgan.crystal.rules import Rule, paper_rule
from crystalgan.model import losses

RUNS, BATCH = 2, 6


def sample(rule=None):
    cells = raw_cells(random_crystals(np.random.default_rng(8), RUNS * BATCH))
    rule = rule or paper_rule(("Pd", "Ni"))
    return cells, first_neighbours(cells), limits_of(rule, cells.species, torch.float64)


def judged_distances(near, limits):
    """Distances and limits of each cell as lists, only where the rule asks."""
    lower, upper = limits.of(near)
    cells = [[] for _ in range(RUNS * BATCH)]
    for cell, s, low, high in zip(
        near.cell.tolist(), near.distance.tolist(), lower.tolist(), upper.tolist(), strict=True
    ):
        if math.isfinite(low) or math.isfinite(high):
            cells[cell].append((s, low, high))
    return cells


def by_run(values):
    return torch.tensor(values, dtype=torch.float64).view(RUNS, BATCH).mean(-1)


def test_adversarial_and_discriminator_are_cross_entropies():
    real, fake = torch.randn(2, RUNS, BATCH, dtype=torch.float64) * 30
    ones, zeros = torch.ones_like(real), torch.zeros_like(real)
    mean = {"reduction": "none"}
    torch.testing.assert_close(losses.adversarial(fake), cross_entropy(fake, ones, **mean).mean(-1))
    both = cross_entropy(real, ones, **mean).mean(-1) + cross_entropy(fake, zeros, **mean).mean(-1)
    torch.testing.assert_close(losses.discriminator(real, fake), both)


def test_reconstruction_counts_only_what_exists():
    x, y = torch.randn(2, RUNS, BATCH, 10, dtype=torch.float64)
    there = torch.rand(RUNS, BATCH, 10) < 0.6
    expected = torch.stack([((x - y)[k][there[k]] ** 2).mean() for k in range(RUNS)])
    torch.testing.assert_close(losses.reconstruction(x, y, there.double()), expected)
    torch.testing.assert_close(losses.reconstruction(3 * x, 3 * y, there.double()), 9 * expected)


def test_literal_equations_as_printed():
    _, near, limits = sample()
    cells = judged_distances(near, limits)
    geo1 = by_run([min((s - low) ** 2 for s, low, _ in cell) for cell in cells])
    geo2 = by_run([-min((s - high) ** 2 for s, _, high in cell) for cell in cells])
    for mine, expected in zip(
        losses.geometric_literal(near, limits, RUNS, BATCH), (geo1, geo2), strict=True
    ):
        torch.testing.assert_close(mine, expected)


def test_literal_touches_one_distance_of_each_cell_and_term():
    cells, near, limits = sample()
    distance = near.distance.detach().requires_grad_()
    near = near.__class__(**{**near.__dict__, "distance": distance})
    geo1, _ = losses.geometric_literal(near, limits, RUNS, BATCH)
    geo1.sum().backward()
    for cell in range(len(cells)):
        touched = distance[(near.cell == cell) & (distance.grad != 0)].detach()
        assert len(touched) == 1


def test_interval_is_the_mean_excess_over_judged_distances():
    rule = Rule(
        "table",
        {"H-H": (1.9, math.inf), "H-Pd": (1.6, 1.9), "Pd-Pd": (2.5, 2.9), "Ni-Pd": (2.4, 2.5)},
    )
    _, near, limits = sample(rule)
    margin = 0.05
    short, long = [], []
    for cell in judged_distances(near, limits):
        insets = [min(margin, (high - low) / 4) for _, low, high in cell]
        count = max(1, len(cell))
        short.append(
            sum(max(0, low + i - s) ** 2 for (s, low, _), i in zip(cell, insets, strict=True))
            / count
        )
        long.append(
            sum(max(0, s - high + i) ** 2 for (s, _, high), i in zip(cell, insets, strict=True))
            / count
        )
    mine = losses.geometric_interval(near, limits, RUNS, BATCH, margin)
    torch.testing.assert_close(mine[0], by_run(short))
    torch.testing.assert_close(mine[1], by_run(long))


def test_interval_is_zero_without_gradient_inside_the_limits(palladium):
    cells = palladium.cells()
    lattice = cells.lattice.clone().requires_grad_()
    near = first_neighbours(cells.__class__(lattice, cells.frac, cells.mask, cells.species))
    limits = limits_of(
        Rule("wide", {"H-H": (0.1, 50.0), "H-Pd": (0.1, 50.0), "Pd-Pd": (0.1, 50.0)}),
        cells.species,
        torch.float64,
    )
    short, long = losses.geometric_interval(near, limits, 1, len(cells), 0.05)
    (short + long).sum().backward()
    assert float((short + long).detach()) == 0
    assert not lattice.grad.any()


def test_gradients_reach_lattice_and_positions_through_both_losses():
    cells, _, limits = sample()

    def total(lattice, frac):
        near = first_neighbours(cells.__class__(lattice, frac, cells.mask, cells.species))
        return torch.stack(
            losses.geometric_interval(near, limits, RUNS, BATCH, 0.05)
            + losses.geometric_literal(near, limits, RUNS, BATCH)
        )

    start = (cells.lattice[:, :].requires_grad_(), cells.frac.requires_grad_())
    grad = torch.autograd.grad(total(*start).sum(), start)
    assert all(g.abs().sum() > 0 for g in grad)
    rng = torch.Generator().manual_seed(0)
    steps = [torch.randn(x.shape, generator=rng, dtype=x.dtype) * 1e-6 for x in start]
    ahead, behind = (
        total(*(x + sign * h for x, h in zip(start, steps, strict=True))).sum() for sign in (1, -1)
    )
    slope = sum((g * h).sum() for g, h in zip(grad, steps, strict=True))
    torch.testing.assert_close((ahead - behind) / 2, slope, rtol=1e-4, atol=0)


def test_energy_is_the_mean_an_atom_over_both_domains():
    energies, mask = (
        torch.randn(RUNS, 2, BATCH, dtype=torch.float64),
        torch.rand(RUNS, 2, BATCH, 3, 4) < 0.5,
    )
    mask[..., 0, 0] = True
    by_atom = energies / mask.flatten(3).sum(-1)
    damped = torch.tensor(
        [
            [[x if x < 0 else math.log(1 + x) for x in row] for row in run]
            for run in by_atom.tolist()
        ]
    )
    expected = (damped[:, 0].mean(-1) + damped[:, 1].mean(-1)).double()
    torch.testing.assert_close(losses.energy(energies, mask), expected, rtol=1e-6, atol=1e-6)


def test_volume_is_the_square_of_the_logarithm_of_the_ratio():
    cells = torch.randn(RUNS, BATCH, 3, 3, dtype=torch.float64) + 4 * torch.eye(
        3, dtype=torch.float64
    )
    torch.testing.assert_close(losses.volume(cells, cells), torch.zeros(RUNS, dtype=torch.float64))
    grown = losses.volume(cells * 2 ** (1 / 3), cells)
    torch.testing.assert_close(grown, torch.full((RUNS,), math.log(2) ** 2, dtype=torch.float64))
    torch.testing.assert_close(losses.volume(cells / 2 ** (1 / 3), cells), grown)
