"""A model as a value: the order of pairs, the best of several, other parents, what is missing."""

from dataclasses import replace

import pytest
import torch

from crystalgan.config import Config
from crystalgan.crystal.cells import Cells
from crystalgan.crystal.repair import satisfies
from crystalgan.crystal.rules import paper_rule
from crystalgan.errors import InputError
from crystalgan.model.model import Model
from crystalgan.runs.folder import SHIPPED
from crystalgan.runs.loading import load_model


@pytest.fixture(scope="module")
def shipped():
    return load_model(SHIPPED / "Pd-Ni-H_shipped")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_every_pair_comes_once_before_any_again_by_the_other_generator(shipped):
    count = len(shipped.classes[0]) * len(shipped.classes[1])
    blocks = [shipped.pairs(block, 3, 100) for block in range(-(-2 * count // 100))]
    pairs = torch.cat([rows for rows, _ in blocks])
    to_b = torch.cat([way for _, way in blocks])
    assert len(pairs[:count].unique(dim=0)) == count
    assert torch.equal(pairs[:count], pairs[count : 2 * count])
    assert torch.equal(to_b[:count], ~to_b[count : 2 * count])
    assert not torch.equal(shipped.pairs(0, 4, 100)[0], pairs[:100])


def test_blocks_of_a_seed_do_not_depend_on_what_was_drawn_before(shipped):
    first, second = (shipped.draw(block, 7, size=4).cells for block in (0, 1))
    again = shipped.draw(1, 7, size=4).cells
    assert torch.equal(again.features, second.features)
    assert not torch.equal(first.lattice, second.lattice)
    assert not torch.equal(shipped.draw(1, 8, size=4).cells.lattice, second.lattice)


def test_the_best_of_three_has_the_lowest_energy_of_those_that_satisfy_the_limits(shipped):
    pairs, to_b = shipped.pairs(0, 1, 8)
    best = shipped.sample(pairs, to_b, seeded(), best_of=3)
    tries = (pairs.repeat_interleave(3, 0), to_b.repeat_interleave(3))
    every = shipped.sample(*tries, seeded(), best_of=1).cells
    energies = (shipped.potential(every) / every.mask.sum((-2, -1))).view(-1, 3)
    energies[~satisfies(every, shipped.limits).view(-1, 3)] += 1e6
    chosen = torch.arange(8) * 3 + energies.argmin(1)
    assert len(set((chosen % 3).tolist())) > 1
    torch.testing.assert_close(best.cells.features, every[chosen].features)
    assert (best.parent_a, best.parent_b) == (pairs[:, 0].tolist(), pairs[:, 1].tolist())


def test_other_parents_give_cells_of_their_atoms(shipped):
    a, b = shipped.classes
    other = shipped.with_classes(a[5:9], b[7:10])
    assert (other.networks, other.rule, other.potential) == (
        shipped.networks,
        shipped.rule,
        shipped.potential,
    )
    pairs, to_b = other.pairs(0, 0, 12)
    batch = other.sample(pairs, to_b, seeded())
    metals = torch.stack(
        (b.mask.sum(-1)[7:10][pairs[:, 1], 1], a.mask.sum(-1)[5:9][pairs[:, 0], 1])
    )
    assert torch.equal(batch.cells.mask.sum(-1)[:, 1:], metals.T)


def test_a_perceptron_takes_parents_that_fit_its_inputs(palladium, nickel):
    a, b = palladium.cells(), nickel.cells()
    model = Model.of(Config.paper(), paper_rule(("Pd", "Ni")), a, b)
    few = a[(a.mask.sum(-1) <= 3).all(-1)]
    small = Cells(few.lattice, few.frac[..., :3, :], few.mask[..., :3], few.species)
    assert 0 < len(small) < len(a)
    assert model.with_classes(small, small).length == model.length > 3
    with pytest.raises(InputError, match=f"at most {model.length} atoms of one element"):
        model.with_classes(a.padded(model.length + 1), b)
    graph = replace(model, config=Config())
    assert graph.with_classes(small, small).length == 3


def test_steps_that_are_missing_are_named(shipped):
    for networks, step in ((), 2), (shipped.networks[:1], 2):
        with pytest.raises(InputError, match=f"Step {step} of this model is not trained yet"):
            replace(shipped, networks=networks).draw(0, 0, size=2)


def test_a_model_says_what_it_is_in_a_line(shipped):
    a, b = map(len, shipped.classes)
    assert repr(shipped) == (
        f"Model(Pd-Ni-H, crystalgan, {a} + {b} parents, 2 of 2 steps trained, pair potential)"
    )
