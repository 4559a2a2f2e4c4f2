"""Symmetry of cells and the projection on what keeps it; spglib is the judge."""

import pytest
import torch
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from crystalgan.crystal.cells import Cells, decode
from crystalgan.crystal.limits import limits_of
from crystalgan.crystal.operations import find_symmetry, special_points
from crystalgan.crystal.repair import repair, rescale, satisfies
from crystalgan.crystal.rules import paper_rule
from crystalgan.model.reference import reference_of


@pytest.fixture(scope="module")
def cells(palladium):
    return find_symmetry(palladium.cells(), 0.05)


def groups(cells, tolerance=1e-3):
    return [SpacegroupAnalyzer(s, tolerance).get_space_group_number() for s in decode(cells)]


def test_finds_all_operations_and_hardly_moves_the_cells(palladium, cells):
    before = palladium.cells()
    for structure, exact, count in zip(
        decode(before), decode(cells), cells.symmetry.count.tolist(), strict=True
    ):
        assert count == len(SpacegroupAnalyzer(structure, 0.05).get_symmetry_operations())
        assert structure.matches(exact, ltol=0.01, stol=0.02, angle_tol=0.5)
    assert groups(cells, 1e-5) == groups(before, 0.05)


def test_images_are_where_operations_take_atoms(cells):
    frac = cells.frac.flatten(1, 2)
    there = cells.mask.flatten(1)
    for c in range(len(cells)):
        turns, images = (
            x[c, : cells.symmetry.count[c]] for x in (cells.symmetry.rotation, cells.symmetry.image)
        )
        for turn, image in zip(turns.double(), images.long(), strict=True):
            moved = frac[c] @ turn.T
            offset = (frac[c][image] - moved)[there[c]]
            offset = offset - offset[0]
            assert (offset - offset.round()).abs().max() < 1e-9  # one translation for all atoms


def test_projection_is_its_own_square_and_its_adjoint_is_one(cells):
    rng = torch.Generator().manual_seed(0)
    x, y = (
        torch.randn(cells.features.shape, generator=rng, dtype=torch.float64) * cells.occupied
        for _ in range(2)
    )
    once = cells.symmetry.project(x)
    torch.testing.assert_close(cells.symmetry.project(once), once)
    torch.testing.assert_close(
        (once * y).sum(), (x * cells.symmetry.project(y, transposed=True)).sum()
    )
    assert not once[cells.occupied == 0].any()


def test_projected_changes_keep_the_space_group(cells):
    change = (
        torch.randn(
            cells.features.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64
        )
        * 0.1
    )
    change = change * cells.occupied
    kept = cells.with_features(cells.features + cells.symmetry.project(change))
    assert (kept.features - cells.features).abs().max() > 0.05
    for before, after, plain in zip(
        groups(cells),
        groups(kept),
        groups(cells.with_features(cells.features + change)),
        strict=True,
    ):
        assert after >= min(before, 2)
        assert plain <= after
    operations = [len(SpacegroupAnalyzer(s, 1e-3).get_symmetry_operations()) for s in decode(kept)]
    assert all(n >= k for n, k in zip(operations, cells.symmetry.count.tolist(), strict=True))


def test_repair_keeps_symmetry(cells):
    limits = limits_of(paper_rule(["Pd"], d1=2.0, d2=2.9), cells.species, torch.float64)
    free = Cells(cells.lattice, cells.frac, cells.mask, cells.species)
    done, without = (repair(c, limits, 200, 0.0) for c in (cells, free))
    moved = (done.features - cells.features).abs().amax(-1) > 0.01
    kept, kept_without = (
        torch.tensor(
            [len(SpacegroupAnalyzer(s, 1e-3).get_symmetry_operations()) for s in decode(c)]
        )
        >= cells.symmetry.count
        for c in (done, without)
    )
    assert (kept & moved).sum() > 10  # those that cannot keep the limits with it go on without
    assert (kept & moved).sum() > (kept_without & moved).sum() + 3
    assert satisfies(done, limits).sum() >= satisfies(without, limits).sum()


def test_rescaling_keeps_symmetry(cells):
    limits = limits_of(paper_rule(["Pd"]), cells.species, torch.float64)
    rescaled = rescale(cells, limits, 1.1 * reference_of(cells, cells)[[0, 1, 3], :2], 0.0)
    assert (rescaled.features - cells.features).abs().amax(-1).median() > 0.05
    found = [len(SpacegroupAnalyzer(s, 1e-3).get_symmetry_operations()) for s in decode(rescaled)]
    assert all(n >= k for n, k in zip(found, cells.symmetry.count.tolist(), strict=True))


def test_special_points_are_fixed_points(cells):
    points, count = special_points(cells, metals_only=False, symprec=0.05)
    assert (count > 0).all()
    for structure, mine, n in zip(decode(cells), points, count.tolist(), strict=True):
        operations = SpacegroupAnalyzer(structure, 0.05).get_symmetry_operations()
        for point in mine[:n].numpy():
            moved = [op.operate(point) - point for op in operations]
            assert sum(abs(d - d.round()).max() < 5e-3 for d in moved) > 1
