"""The feature transfer: slots, volumes, origins and symmetry; pymatgen and spglib are the
judges."""

import numpy as np
import pytest
import torch
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from crystalgan.crystal.cells import decode
from crystalgan.crystal.distances import first_neighbours
from crystalgan.crystal.limits import learned_rule, limits_of
from crystalgan.model.batches import perturb
from crystalgan.model.transfer import (
    CROWDED,
    Host,
    Incoming,
    Parents,
    atomic_volumes,
    fitted_transfer,
    order_rng,
    paper_transfer,
)

SPECIES = ("H", "Pd", "Ni")


@pytest.fixture(scope="module")
def classes(palladium, nickel):
    a, b = palladium.cells(), nickel.cells()
    length = max(a.mask.shape[-1], b.mask.shape[-1])
    return a.padded(length), b.padded(length)


def pairs(classes, count=60):
    rng = torch.Generator().manual_seed(1)
    return tuple(torch.randint(len(c), (count,), generator=rng) for c in classes)


def fitted(classes, symmetry, trials=16, part="metal"):
    (a, b), (i, j) = (Parents.of(c, symmetry) for c in classes), pairs(classes)
    limits = limits_of(learned_rule(*classes), SPECIES, torch.float64)
    rng = torch.Generator().manual_seed(0)
    shifts = torch.rand(len(i), 16, 3, dtype=torch.float64, generator=rng)[:, :trials]
    host = Host.of(a.cells[i], a, i, 1, SPECIES)
    incoming = Incoming.of(b.cells[j], b, j, part)
    return fitted_transfer(host, incoming, limits, shifts, order_rng(shifts)), limits


def test_paper_transfer_puts_slots_together_as_they_are(classes):
    a, b = (c[:5] for c in classes)
    rows, (of_a, of_b) = torch.arange(5), (Parents.of(c, symmetry=False) for c in (a, b))
    host = Host.of(b, of_b, rows, 2, SPECIES)
    x = paper_transfer(host, Incoming.of(a, of_a, rows))
    whole = paper_transfer(host, Incoming.of(a, of_a, rows, "all"))
    assert torch.equal(x.features, whole.features)  # the paper takes the metal alone
    assert torch.equal(x.lattice, b.lattice)
    assert torch.equal(x.frac[:, 0], b.frac[:, 0])
    assert torch.equal(x.frac[:, 1], a.frac[:, 1])
    assert torch.equal(x.frac[:, 2], b.frac[:, 1])
    assert torch.equal(x.mask.sum(-1)[:, 1], a.mask.sum(-1)[:, 1])


def test_volumes_of_atoms_add_up_to_those_of_the_cells(classes):
    for cells in classes:
        volumes = atomic_volumes(cells)
        found = (cells.mask.sum(-1) * volumes).sum(-1) / torch.linalg.det(cells.lattice)
        assert (volumes > 0).all()
        assert found.mean() == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("symmetry", [False, True])
def test_fit_gives_every_atom_its_volume(classes, symmetry):
    x, _ = fitted(classes, symmetry)
    (shared_a, metal_a), (shared_b, metal_b) = (
        Parents.of(c, symmetry).volumes.tolist() for c in classes
    )
    shared, n_a, n_b = x.mask.sum(-1).double().T
    expected = (
        n_a * metal_a + n_b * metal_b + shared * (n_a * shared_a + n_b * shared_b) / (n_a + n_b)
    )
    torch.testing.assert_close(torch.linalg.det(x.lattice), expected)


@pytest.mark.parametrize("symmetry", [False, True])
def test_a_whole_parent_comes_in_with_its_hydrogen(classes, symmetry):
    x, _ = fitted(classes, symmetry, part="all")
    atoms_a, atoms_b = (
        c.mask.sum(-1)[rows] for c, rows in zip(classes, pairs(classes), strict=True)
    )
    shared, n_a, n_b = x.mask.sum(-1).T
    assert torch.equal(shared, atoms_a[:, 0] + atoms_b[:, 0])
    assert torch.equal(torch.stack((n_a, n_b)), torch.stack((atoms_a[:, 1], atoms_b[:, 1])))
    volumes = [Parents.of(c, symmetry).volumes for c in classes]
    expected = sum(
        (atoms * v).sum(-1) for atoms, v in zip((atoms_a, atoms_b), volumes, strict=True)
    )
    torch.testing.assert_close(torch.linalg.det(x.lattice), expected)
    # the other parent's atoms, moved as one
    incoming = x.frac[:, 0, classes[1].mask.shape[-1] :], x.frac[:, 2]
    own = classes[1].frac[pairs(classes)[1]]
    if not symmetry:
        for k, (hydrogen, metal) in enumerate(zip(*incoming, strict=True)):
            moves = [
                (now - before)[mask]
                for now, before, mask in zip(
                    (hydrogen, metal[: own.shape[2]]),
                    own[k],
                    classes[1].mask[pairs(classes)[1]][k],
                    strict=True,
                )
            ]
            torch.testing.assert_close(moves[0], moves[1][:1].expand_as(moves[0]))


def test_fit_takes_the_first_origin_that_puts_no_atoms_on_top_of_each_other(classes):
    def closest(cells):
        near = first_neighbours(cells)
        lower, _ = limits.of(near)
        return torch.full((len(cells),), torch.inf, dtype=torch.float64).scatter_reduce(
            0, near.cell, near.distance / lower, "amin"
        )

    one, limits = fitted(classes, symmetry=False, trials=1)  # the first of the eight
    taken, _ = fitted(classes, symmetry=False, trials=8)
    same = (taken.frac == one.frac).flatten(1).all(1)
    assert torch.equal(same, closest(one) > CROWDED)
    assert 0.1 < same.double().mean() < 0.9
    assert (closest(taken) > CROWDED).double().mean() > same.double().mean() + 0.1


@pytest.mark.parametrize("part", ["metal", "all"])
def test_most_samples_keep_operations_of_a_parent_and_spglib_finds_them(classes, part):
    x, _ = fitted(classes, symmetry=True, part=part)
    assert (x.symmetry.count > 1).double().mean() > 0.6
    for images, count in zip(x.symmetry.image.long(), x.symmetry.count.tolist(), strict=True):
        every = torch.arange(images.shape[-1]).expand(count, -1)
        assert torch.equal(images[:count].sort(-1).values, every)
    random, _ = fitted(classes, symmetry=False)
    assert (
        np.mean([SpacegroupAnalyzer(s, 0.01).get_space_group_number() > 1 for s in decode(random)])
        < 0.1
    )
    for structure, count in zip(decode(x), x.symmetry.count.tolist(), strict=True):
        assert len(SpacegroupAnalyzer(structure, 0.01).get_symmetry_operations()) >= count


def test_hosts_and_incoming_sublattices_check_themselves(classes):
    a, b = (Parents.of(c, symmetry=False) for c in classes)
    rows = torch.arange(5)
    host, incoming = Host.of(a.cells[:5], a, rows, 1, SPECIES), Incoming.of(b.cells[:5], b, rows)
    limits = limits_of(learned_rule(*classes), SPECIES, torch.float64)
    rng = torch.Generator()
    with pytest.raises(ValueError, match="slot must be 1 or 2, not 0"):
        Host.of(a.cells[:5], a, rows, 0, SPECIES)
    with pytest.raises(ValueError, match="two slots"):
        Host.of(paper_transfer(host, incoming), a, rows, 1, SPECIES)
    with pytest.raises(ValueError, match="rows"):
        Incoming(incoming.frac, incoming.mask[..., 1:], incoming.volumes, None)
    with pytest.raises(ValueError, match="as many cells"):
        fitted_transfer(host, Incoming.of(b.cells[:4], b, rows[:4]), limits, rows, rng)
    with pytest.raises(ValueError, match=r"shifts must be \[5, trials, 3\]"):
        fitted_transfer(host, incoming, limits, torch.zeros(5, 3), rng)


def test_noise_is_as_large_as_said_and_keeps_volume_and_symmetry(classes):
    rngs = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    bare = classes[0][None][[0, 0]]
    moved = perturb(bare, 0.2, rngs)
    steps = ((moved.frac - bare.frac) @ bare.lattice[..., None, :, :])[bare.mask]
    assert steps.std() == pytest.approx(0.2, rel=0.05)
    assert not moved.frac[~bare.mask].any()
    assert not torch.equal(moved.frac[0], moved.frac[1])
    strain = torch.linalg.solve(bare.lattice, moved.lattice) - torch.eye(3)
    assert strain.diagonal(dim1=-2, dim2=-1).std() == pytest.approx(0.2 / 3, rel=0.3)
    assert (
        torch.linalg.det(moved.lattice) / torch.linalg.det(bare.lattice) - 1
    ).abs().median() < 0.02

    x, _ = fitted(classes, symmetry=True)
    moved = perturb(x[None], 0.2, rngs[:1])[0]
    assert (moved.frac - x.frac).abs().max() > 0.02
    for structure, count in zip(decode(moved), x.symmetry.count.tolist(), strict=True):
        assert len(SpacegroupAnalyzer(structure, 0.01).get_symmetry_operations()) >= count
    assert perturb(x[None], 0.0, rngs[:1]).frac.equal(x[None].frac)
