"""First-neighbour distances, rules and verdicts against pymatgen, numpy and finite differences."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import random_crystals, raw_cells

from crystalgan.crystal.cells import decode
from crystalgan.crystal.distances import first_neighbours
from crystalgan.crystal.kernels.distances import reduce_basis
from crystalgan.crystal.limits import learned_rule, limits_of
from crystalgan.crystal.repair import check, repair, rescale, satisfies
from crystalgan.crystal.rules import Rule, paper_rule, read_rule
from crystalgan.errors import InputError
from crystalgan.model.batches import perturb
from crystalgan.model.reference import reference_of


def by_pymatgen(structure, reach):
    """For every atom the distance to its nearest H and its nearest metal, inf beyond `reach`."""
    hydrogen = np.array([s.specie.symbol == "H" for s in structure])
    center, other, _, distance = structure.get_neighbor_list(reach)
    table = np.full((len(structure), 2), np.inf)
    for i, j, d in zip(center, other, distance, strict=True):
        k = 0 if hydrogen[j] else 1
        table[i, k] = min(table[i, k], d)
    return table


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 2e-4)])
def test_agrees_with_pymatgen_on_random_cells(dtype, tolerance):
    rng = np.random.default_rng(7)
    structures = random_crystals(rng, 1000) + random_crystals(rng, 30, atoms=1)
    near = first_neighbours(raw_cells(structures, dtype))
    rows = [[] for _ in structures]
    for cell, center, slot, other, d in zip(
        near.cell.tolist(), near.center.tolist(), near.center_slot.tolist(),
        near.other_slot.tolist(), near.distance.tolist(),
        strict=True,
    ):  # fmt: skip
        rows[cell].append((center, slot, other, d))
    first = 0
    for structure, mine in zip(structures, rows, strict=True):
        hydrogens = sum(s.specie.symbol == "H" for s in structure)
        metals = len(structure) - hydrogens
        assert len(mine) == len(structure) + (hydrogens if metals else 0)
        table = by_pymatgen(structure, max(d for *_, d in mine) + 0.01)
        for center, slot, other, d in mine:
            assert abs(table[center - first, int(other > 0)] - d) < tolerance
            assert (slot == 0) == (center - first < hydrogens)
        first += len(structure)


def test_without_cross_the_rows_of_shared_and_metal_are_left_out():
    cells = raw_cells(random_crystals(np.random.default_rng(3), 40))
    every, within = first_neighbours(cells), first_neighbours(cells, cross=False)
    same = (every.center_slot > 0) == (every.other_slot > 0)
    torch.testing.assert_close(every.distance[same], within.distance)


def test_gradients_of_lattice_and_positions():
    cells = raw_cells(random_crystals(np.random.default_rng(11), 12))

    def distances(lattice, frac):
        return first_neighbours(cells.__class__(lattice, frac, cells.mask, cells.species)).distance

    assert torch.autograd.gradcheck(
        distances, (cells.lattice.requires_grad_(), cells.frac.requires_grad_())
    )


def test_coinciding_atoms_have_a_finite_gradient():
    cells = raw_cells(random_crystals(np.random.default_rng(5), 1, atoms=2))
    frac = cells.frac.clone()
    frac[:] = 0
    frac.requires_grad_()
    first_neighbours(
        cells.__class__(cells.lattice, frac, cells.mask, cells.species)
    ).distance.sum().backward()
    assert torch.isfinite(frac.grad).all()


def test_a_flat_lattice_ends_the_reduction():
    for flat in ([[1.0, 2, 0], [2, 4, 0], [0.3, 0.1, 0]], np.zeros((3, 3))):
        change = np.empty((3, 3))
        reduce_basis(np.array(flat), change)
        assert np.isfinite(change).all()


def independent_paper_verdict(structure):
    """Section IV.B by pymatgen's neighbour lists."""
    hydrogen = [s.specie.symbol == "H" for s in structure]
    for i, around in enumerate(structure.get_all_neighbors(3.0 + 1e-9)):
        same = [n.nn_distance for n in around if hydrogen[n.index] == hydrogen[i]]
        if not same or min(same) < 1.8:
            return False
    return True


def test_paper_verdicts_agree_with_pymatgen_and_with_satisfies(palladium):
    cells = palladium.cells()
    rule = paper_rule(["Pd"])
    verdicts = check(cells, rule)
    assert [v.passed for v in verdicts] == [independent_paper_verdict(s) for s in decode(cells)]
    assert satisfies(cells, limits_of(rule, cells.species, torch.float64)).tolist() == [
        v.passed for v in verdicts
    ]
    assert 0 < sum(v.passed for v in verdicts) < len(verdicts)


def test_a_verdict_names_rule_pair_distance_and_limit(palladium):
    cells = palladium.cells()
    verdict = next(v for v in check(cells, paper_rule(["Pd"])) if not v.passed)
    broken = verdict.broken[0]
    assert broken.pair in {"H-H", "Pd-Pd"}
    assert (broken.distance > broken.limit == 3.0) or (broken.distance < broken.limit == 1.8)
    assert str(verdict).startswith("breaks the rule paper: ")
    assert f"{broken.pair} {broken.distance:.2f} Å" in str(verdict)


def test_learned_limits_are_percentiles_of_the_classes_distances(palladium, nickel):
    rule = learned_rule(palladium.cells(), nickel.cells())
    ends, hydrogens = {}, []
    for cls in (palladium, nickel):
        metal_metal, metal_hydrogen = [], []
        for structure in cls.structures:
            hydrogen = np.array([s.specie.symbol == "H" for s in structure])
            table = by_pymatgen(structure, 12.0)
            if table[hydrogen, 0].min() < 1.5:
                continue
            metal_metal += list(table[~hydrogen, 1])
            metal_hydrogen += list(table[hydrogen, 1])
            hydrogens += list(table[hydrogen, 0])
        for pair, values in (
            (f"{cls.metal}-{cls.metal}", metal_metal),
            (f"H-{cls.metal}", metal_hydrogen),
        ):
            low, high = np.percentile(values, [5, 95])
            ends[pair] = (0.95 * low, 1.05 * high)
    ends["Ni-Pd"] = tuple((x + y) / 2 for x, y in zip(ends["Pd-Pd"], ends["Ni-Ni"], strict=True))
    ends["H-H"] = (0.95 * np.percentile(hydrogens, 5), math.inf)
    assert set(rule.limits) == set(ends)
    for pair, expected in ends.items():
        np.testing.assert_allclose(rule.limits[pair], expected, rtol=1e-4)


def test_a_table_of_the_users_own(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('[limits]\n"Pd-H" = [1.5, 2.2]\n"H-H" = [2.1, inf]\n')
    assert read_rule(path) == Rule("mine", {"H-Pd": (1.5, 2.2), "H-H": (2.1, math.inf)})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no .limits. table"),
        ("[limits]\n", "no .limits. table"),
        ('[limits]\n"Pd" = [1, 2]', "not a pair of elements"),
        ('[limits]\n"Xx-H" = [1, 2]', "not a pair of elements"),
        ('[limits]\n"Pd-H" = [3, 2]', "smaller first"),
        ('[limits]\n"Pd-H" = 2', "smaller first"),
        ("[limits", "not a TOML file"),
    ],
)
def test_a_bad_table_is_named(tmp_path, text, words):
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=words) as error:
        read_rule(path)
    assert str(path) in str(error.value)


def test_repair_mends_broken_cells_and_leaves_good_ones(palladium):
    cells, rule = palladium.cells(), paper_rule(["Pd"])
    limits = limits_of(rule, cells.species, torch.float64)
    before = satisfies(cells, limits)
    after = repair(cells, limits, steps=50, margin=0.02)
    assert satisfies(after, limits).sum() > before.sum()
    good = satisfies(cells, limits_of(rule, cells.species, torch.float64)) & torch.tensor(
        [
            all(1.82 <= d <= 2.98 for d in v.shortest.values() if d)
            for v in check(cells, paper_rule(["Pd"], d1=1.82, d2=2.98))
        ]
    )
    inside = torch.tensor([v.passed for v in check(cells, paper_rule(["Pd"], d1=1.82, d2=2.98))])
    assert inside.any()
    assert torch.equal(after.lattice[inside & good], cells.lattice[inside & good])


def test_rescaled_cells_have_nearly_their_reference_volume_and_distances(palladium):
    cells, reference = (
        palladium.cells(),
        reference_of(palladium.cells(), palladium.cells())[[0, 1, 3], :2],
    )
    # asks nothing of Pd-H
    limits = limits_of(paper_rule(["Pd"], d1=1.6, d2=4.5), cells.species, torch.float64)
    swollen = perturb(
        replace(cells, lattice=1.3 * cells.lattice)[None], 0.3, [torch.Generator().manual_seed(0)]
    )[0]
    rescaled = rescale(swollen, limits, reference, 0.1)

    def volume(cells):
        return torch.linalg.det(cells.lattice).abs() / (cells.mask.sum(-1) * reference[-1]).sum(-1)

    def nearest(cells):
        near = first_neighbours(cells)
        return (near.distance / reference[near.center_slot, near.other_slot]).double()

    squeezed = replace(swollen, lattice=swollen.lattice / volume(swollen).pow(1 / 3)[:, None, None])
    assert float(volume(swollen).median()) > 2
    assert 0.95 < float(volume(rescaled).median()) < 1.1
    assert (nearest(rescaled) < 0.9).double().mean() < 0.5 * (
        nearest(squeezed) < 0.9
    ).double().mean()
    assert satisfies(repair(rescaled, limits, 100, 0.1), limits).all()


def test_a_cell_that_is_not_finite_keeps_no_rule(palladium):
    cells, rule = (
        palladium.cells()[:3],
        Rule("wide", {"H-H": (0.0, 50.0), "Pd-Pd": (0.0, 50.0), "H-Pd": (0.0, 50.0)}),
    )
    lattice, frac = cells.lattice.clone(), cells.frac.clone()
    lattice[0], frac[1, 0, 0, 0] = math.nan, math.inf
    broken = cells.__class__(lattice, frac, cells.mask, cells.species)
    assert satisfies(broken, limits_of(rule, cells.species, torch.float64)).tolist() == [
        False,
        False,
        True,
    ]
    assert [v.passed for v in check(broken, rule)] == [False, False, True]
