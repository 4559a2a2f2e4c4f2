"""Generators on the neighbour graph: edges of pymatgen, gradients of autograd, equivariance."""

from collections import Counter

import numpy as np
import pytest
import torch
from conftest import random_crystals, raw_cells

from crystalgan.config import Config
from crystalgan.crystal.cells import Cells, decode
from crystalgan.crystal.operations import find_symmetry
from crystalgan.model.batches import union
from crystalgan.model.graph import CUTOFF, Edges, GraphGenerator, _Step, plain_step
from crystalgan.model.reference import reference_of


def rngs(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@pytest.fixture(scope="module")
def start(palladium, nickel):
    """Cells of both classes in the slots of the ternary, `[1, 2, 30]`."""
    both = union(*(c.cells().padded(10) for c in (palladium, nickel)))
    return Cells.stack([both[:30][None], both[40:70][None]], 1)


def generator(scale=0.3, **settings):
    net = GraphGenerator(Config(**settings), 3, rngs(0), 2).double()
    with torch.no_grad():
        net.tables.mul_(scale / 1e-3)  # well beyond what it starts with
    return net


@pytest.mark.parametrize("cutoff", [2.5, 4.0, 6.0])
def test_edges_are_pymatgens_neighbours(cutoff):
    structures = random_crystals(np.random.default_rng(3), 120)
    cells = raw_cells(structures)
    edges = Edges.of(cells.features[None, None], Cells.stack([cells[None]], 1), cutoff)
    found = Counter(edges.who[:, 0].tolist())
    tested = 0
    for c, structure in enumerate(structures):
        reduced = structure.get_reduced_structure()
        thin = 1 / np.linalg.norm(reduced.lattice.inv_matrix, axis=0).max()
        if thin < cutoff / 3.9:  # thinner cells have their images cut off
            continue
        tested += 1
        assert 2 * found[c] == len(structure.get_neighbor_list(cutoff, numerical_tol=1e-8)[0])
    assert tested > 20


def test_a_collapsed_cell_has_no_edges_and_the_others_keep_theirs(start):
    features = start.features.clone()
    features[0, 1, 3, :9] *= 0.2
    whole = Counter(Edges.of(start.features, start, 3.6).who[:, 0].tolist())
    left = Counter(Edges.of(features, start, 3.6).who[:, 0].tolist())
    assert whole.pop(30 + 3) > 0
    assert left == whole


@pytest.mark.parametrize("runs", [1, 2])
def test_a_step_and_its_gradients_are_those_of_plain_torch(start, runs):
    cells, rng = Cells.cat([start] * runs)[:, :, :12], rngs(4)[0]
    edges = Edges.of(cells.features, cells, CUTOFF)
    tables = torch.randn(runs, 2, 2, 9, 21, generator=rng, dtype=torch.float64) * 0.1
    weight = torch.randn(cells.features.shape, generator=rng, dtype=torch.float64)

    def outcome(step):
        inputs = cells.features.clone().requires_grad_(), tables.clone().requires_grad_()
        out = step(*inputs, edges)
        return out.detach(), *torch.autograd.grad((out * weight).sum(), inputs)

    expected = outcome(plain_step)
    assert len(edges.who) > 100
    assert (expected[0] - cells.features).abs().max() > 0.01
    for found, wanted in zip(outcome(_Step.apply), expected, strict=True):
        scale = float(wanted.abs().max())
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12 * scale)


def test_gradients_of_two_steps_by_finite_differences(start):
    few = start[:, :, :3]
    net = generator(steps=2)

    def run(features, tables):
        return torch.func.functional_call(net, {"tables": tables}, (few.with_features(features),))[
            0
        ].features

    tables = net.tables.detach().clone().requires_grad_()
    features = few.features.clone().requires_grad_()
    weight = (
        torch.randn(few.features.shape, dtype=torch.float64, generator=rngs(5)[0]) * few.occupied
    )
    by_features, by_tables = torch.autograd.grad(
        (run(features, tables) * weight).sum(), (features, tables)
    )
    for value, gradient in ((features, by_features), (tables, by_tables)):
        change = torch.randn(value.shape, dtype=torch.float64, generator=rngs(6)[0])
        change = change * few.occupied if value is features else change
        with torch.no_grad():
            ends = [
                (
                    run(
                        *(v + sign * 1e-7 * change if v is value else v for v in (features, tables))
                    )
                    * weight
                ).sum()
                for sign in (1, -1)
            ]
        assert (gradient * change).sum().item() == pytest.approx(
            ((ends[0] - ends[1]) / 2e-7).item(), rel=1e-4
        )


def described_otherwise(cells, rng):
    """The same crystals turned, moved, in another basis and with their atoms in another order
    within the slots."""
    turn = torch.from_numpy(np.linalg.qr(rng.normal(size=(3, 3)))[0])
    basis = torch.tensor([[1.0, 1, 0], [0, 1, 0], [0, -1, 1]], dtype=torch.float64)
    frac = (
        cells.frac @ torch.linalg.inv(basis) + torch.from_numpy(rng.uniform(size=3))
    ) * cells.mask[..., None]
    return Cells(basis @ cells.lattice @ turn, frac, cells.mask, cells.species), turn, basis


def test_generator_is_equivariant(start):
    # at 12 such steps rounding alone grows to 1e-5
    rng, net = np.random.default_rng(0), generator(steps=6)
    other, turn, basis = described_otherwise(start, rng)
    new, again = net(start)[0], net(other)[0]
    assert (new.lattice - start.lattice).abs().max() > 0.01
    torch.testing.assert_close(again.lattice, basis @ new.lattice @ turn, rtol=1e-9, atol=1e-9)
    for one, two in zip(decode(new.flattened()), decode(again.flattened()), strict=True):
        np.testing.assert_allclose(
            np.sort(one.distance_matrix.ravel()), np.sort(two.distance_matrix.ravel()), atol=1e-8
        )


def test_one_way_is_the_first_half_of_the_round_trip(start):
    net = generator()
    new = net(start)[0]
    for domain in (0, 1):
        alone = net.one_way(start[:, domain : domain + 1], domain)
        torch.testing.assert_close(alone.features[:, 0], new.features[:, domain])


def test_generator_keeps_symmetry_and_run_k_is_what_it_is_alone(palladium):
    cells = find_symmetry(palladium.cells(), 0.05)
    both = Cells.stack([cells[None], cells[None]], 1)
    net = GraphGenerator(Config(), 2, rngs(1), 2).double()
    with torch.no_grad():
        net.tables.mul_(300)
    new = net(both)[0]
    change = (new.features - both.features)[0, 0]
    assert change.abs().max() > 0.05
    torch.testing.assert_close(cells.symmetry.project(change), change, rtol=0, atol=1e-9)


def test_reference_lengths_and_volumes(palladium, nickel):
    reference = reference_of(palladium.cells(), nickel.cells())
    assert reference.shape == (4, 3)
    assert 1.6 < reference[0, 1] < 2.0  # Pd-H
    assert 2.6 < reference[1, 1] < 3.2  # Pd-Pd
    assert reference[1, 2] == pytest.approx(float(reference[[1, 2], [1, 2]].mean()), abs=1e-6)
    assert 12 < reference[3, 1] < 18  # Å³ of a palladium atom, 14.7 in the metal
