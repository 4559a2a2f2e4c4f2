"""The pair potential: sums over pymatgen's neighbours, fits to a potential of pairs, minima."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase.calculators.lj import LennardJones
from conftest import random_crystals, raw_cells
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from crystalgan.config import Config
from crystalgan.crystal.cells import decode
from crystalgan.crystal.limits import learned_rule, limits_of
from crystalgan.crystal.repair import rescale
from crystalgan.data.classes import BinaryClass, load_class
from crystalgan.errors import InputError
from crystalgan.model import pair_potential as energy
from crystalgan.model.batches import perturb, union
from crystalgan.model.model import Model
from crystalgan.model.pair_potential import CUTOFF, FIRST, WIDTH, PairPotential
from crystalgan.model.pair_potential_fit import (
    SHORTEST,
    SPLINES,
    Labelled,
    fit,
    splines,
    transferred_starts,
)
from crystalgan.potentials.registry import load_chgnet
from crystalgan.runs import fitting
from crystalgan.runs.loading import load_model
from crystalgan.runs.training import new_run

KNOTS = np.arange(FIRST, CUTOFF + WIDTH / 2, WIDTH)


def morse(distance, depth, at):
    """A smooth pair function that is zero, with its slope, at the cutoff."""
    fade = (1 - np.minimum(distance / CUTOFF, 1) ** 2) ** 3
    return depth * (np.exp(-5 * (distance - at)) - 2 * np.exp(-2.5 * (distance - at))) * fade


@pytest.fixture(scope="module")
def depths():
    return np.array([[0.1, 0.2, 0.3], [0.2, 0.4, 0.5], [0.3, 0.5, 0.6]])


@pytest.fixture(scope="module")
def known(depths):
    """Tables of `morse`, one for each pair of three slots."""
    step = 1e-6
    values = [morse(KNOTS, d, 1.5 + d) for d in depths.ravel()]
    slopes = [
        (morse(KNOTS + step, d, 1.5 + d) - morse(KNOTS - step, d, 1.5 + d)) / (2 * step)
        for d in depths.ravel()
    ]
    return PairPotential(torch.from_numpy(np.stack((values, np.array(slopes) * WIDTH), -1)))


@pytest.fixture(scope="module")
def model(palladium, nickel):
    """The model of both classes before any training."""
    classes = palladium.cells(), nickel.cells()
    return Model.of(Config(), learned_rule(*classes), *classes)


@pytest.fixture(scope="module")
def cells(model):
    both = union(*(p.cells for p in model.parents)).to(torch.float64)
    return perturb(both[None], 0.1, [torch.Generator().manual_seed(1)])[0]


def test_energy_is_the_sum_over_pairs_that_pymatgen_finds(known, depths):
    cells = raw_cells(random_crystals(np.random.default_rng(3), 20))  # skewed cells among them
    for structure, found in zip(decode(cells), known(cells).tolist(), strict=True):
        center, other, _, distance = structure.get_neighbor_list(CUTOFF)
        kind = np.array([cells.species.index(site.specie.symbol) for site in structure])
        seen = distance > FIRST + WIDTH  # nearer than the first knot the tables are straight
        if not seen.all():
            continue
        depth = depths[kind[center], kind[other]]
        assert found == pytest.approx(
            sum(morse(distance, depth, 1.5 + depth)) / 2, abs=1e-5 * len(distance)
        )


def test_gradients_of_the_energy(known, cells):
    some = replace(cells[::9], symmetry=None)
    features = some.features.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: known(some.with_features(x)), features, atol=1e-6)


def test_the_way_down_ends_where_nothing_pulls(known, cells):
    settled = known.prerelaxed(cells[::5], 2000)
    features = settled.features.clone().requires_grad_()
    known(settled.with_features(features)).sum().backward()
    lattice = settled.lattice.double()
    by_position = (
        features.grad.view(len(settled), -1, settled.mask.shape[-1], 3)[:, 1:]
        @ torch.linalg.inv(lattice).mT[:, None]
    )
    assert (known(settled) < known(cells[::5])).all()
    assert float(by_position.norm(dim=-1).max()) < 1.05 * energy.PRERELAXED


def test_the_way_down_keeps_symmetry(known, model):
    cells = model.parents[0].cells.to(torch.float64)
    both = PairPotential(known.tables.view(3, 3, len(KNOTS), 2)[:2, :2].flatten(0, 1).contiguous())
    settled = both.prerelaxed(cells, 150)
    assert float((settled.features - cells.features).abs().amax(-1).median()) > 0.02
    found = [len(SpacegroupAnalyzer(s, 1e-3).get_symmetry_operations()) for s in decode(settled)]
    assert all(n >= k for n, k in zip(found, cells.symmetry.count.tolist(), strict=True))


def test_a_fit_finds_a_potential_that_is_a_sum_over_pairs(cells):
    sigma, depth = 1.3, 0.2
    shown = Labelled.of(
        cells, LennardJones(epsilon=depth, sigma=sigma, rc=CUTOFF, smooth=True, ro=4.0)
    )
    tables = fit([shown], torch.full((3, 3), 0.8)).tables.numpy()[:, :, 0]
    expected = 4 * depth * ((sigma / KNOTS) ** 12 - (sigma / KNOTS) ** 6)
    # H-H, H-Pd and Pd-Pd, from where the cells have enough of them
    for pair, seen in ((0, 1.6), (1, 1.7), (4, 2.8)):
        there = (seen < KNOTS) & (KNOTS < 4.0)
        np.testing.assert_allclose(tables[pair, there], expected[there], atol=0.012)


def test_the_splines_are_those_of_a_textbook_and_end_smoothly():
    """The recursion of de Boor, and its derivative."""

    def basis(k, degree, x):
        left, right = SHORTEST + width * (k - 3), SHORTEST + width * (k + degree - 2)
        if degree == 0:
            return ((left <= x) & (x < right)).astype(float)
        rising, falling = basis(k, degree - 1, x), basis(k + 1, degree - 1, x)
        return ((x - left) * rising + (right - x) * falling) / (degree * width)

    width, x = (CUTOFF - SHORTEST) / SPLINES, np.linspace(SHORTEST, CUTOFF - 1e-9, 300)
    values, slopes = splines(x)
    for k in range(SPLINES):
        np.testing.assert_allclose(values[:, k], basis(k, 3, x), atol=1e-12)
        expected = (basis(k, 2, x) - basis(k + 1, 2, x)) / width
        np.testing.assert_allclose(slopes[:, k], expected, atol=1e-10)
    assert not np.abs(splines(np.array([CUTOFF, 9.0]))).max() > 1e-12


def test_tables_of_another_shape_are_no_potential(known):
    with pytest.raises(ValueError, match="slots"):
        PairPotential(known.tables[:, :-1])
    with pytest.raises(ValueError, match="float64"):
        PairPotential(known.tables.float())


def test_walls_push_apart(cells):
    shown = Labelled.of(cells, LennardJones(epsilon=0.2, sigma=1.3, rc=CUTOFF, smooth=True, ro=4.0))
    tables = fit([shown], torch.full((3, 3), 1.2)).tables.numpy()
    assert (np.diff(tables[:, KNOTS < 1.2, 0], axis=1) < 0).all()
    np.testing.assert_array_equal(tables[1], tables[3])  # A-H is H-A


def test_what_is_fitted_to_chgnet_leads_to_cells_that_it_likes_better(model):
    found, about = fitting.fit_to_chgnet(model)
    assert about["cells"] > 200
    assert about["potential"].startswith("CHGNet")
    limits = limits_of(model.rule, model.species)
    rng = torch.Generator().manual_seed(9)  # not that of the fit
    starts = transferred_starts(model.parents, limits, model.config, rng)[:30]
    starts = rescale(starts, model.limits, model.reference, 0.1)
    settled, calculator = found.prerelaxed(starts, 150), load_chgnet().calculator

    def by_chgnet(cells):
        return np.array(
            [calculator.get_potential_energy(s.to_ase_atoms()) / len(s) for s in decode(cells)]
        )

    gain = by_chgnet(starts) - by_chgnet(settled)
    assert np.median(gain) > 0.03
    assert (gain > 0).mean() > 0.8


def test_an_element_that_the_potential_does_not_know_is_a_sentence(tmp_path):
    palladium = load_class("Pd")

    def of(metal):
        cells = [
            entry.structure.copy().replace_species({"Pd": metal}) for entry in palladium.entries
        ]
        entries = (
            replace(entry, structure=cell)
            for entry, cell in zip(palladium.entries, cells, strict=True)
        )
        return BinaryClass(metal, "H", tuple(entries), "test")

    run = new_run(of("Fm"), load_class("Ni"), Config(), tmp_path)
    with pytest.raises(InputError, match="no energy for Fm; train without energies"):
        fitting.pair_potential_of([run], load_model(run))
