"""The third step: what its discriminator sees, what its generator learns, and that it goes on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import make_supercell
from ase.neighborlist import neighbor_list

import crystalgan.discovery.learned as learned
import crystalgan.discovery.search as search_module
from crystalgan.crystal.cells import Cells
from crystalgan.data.classes import load_class
from crystalgan.discovery.checkpoint import packed, restore
from crystalgan.discovery.compositions import small_compositions
from crystalgan.discovery.discover import _step
from crystalgan.discovery.evaluation import Evaluation
from crystalgan.discovery.learned import LearnedSource, aligned, misfit
from crystalgan.discovery.lower_hull import LowerHull
from crystalgan.discovery.record import Wanted
from crystalgan.discovery.search import Search
from crystalgan.discovery.sources import RandomSource, Request, cell_of
from crystalgan.discovery.system import System
from crystalgan.model.discriminator import (
    CENTRES,
    CUTOFF,
    FIRST,
    WIDTH,
    Discriminator,
    discriminator_loss,
    fingerprints,
)
from crystalgan.runs.folder import Run
from crystalgan.stability.hull import Phase

SPECIES = ("H", "Pd", "Ni")
VOLUMES = (5.0, 15.0, 11.0)
HULL = LowerHull.of(np.eye(3, dtype=int).tolist(), [0.0, 0.0, 0.0])


@pytest.fixture(scope="module")
def system() -> System:
    a, b = load_class("Pd").cells(), load_class("Ni").cells()
    return System.of(SPECIES, a, b, [Phase(symbol, symbol, 0.0) for symbol in SPECIES])


def _crystal(rng: np.random.Generator, symbols: str = "H3PdNi") -> Atoms:
    """A random skewed cell, not denser than crystals are."""
    cell = np.eye(3) * 3.6 + rng.normal(0, 0.4, (3, 3))
    count = len(Atoms(symbols))
    grid = np.argwhere(np.ones((2, 2, 2)))[rng.permutation(8)[:count]] / 2
    scaled = (grid + rng.normal(0, 0.05, (count, 3))) % 1
    return Atoms(symbols, cell=cell, scaled_positions=scaled, pbc=True)


def _prints(atoms: Atoms) -> torch.Tensor:
    in_slots = atoms[np.argsort([SPECIES.index(s) for s in atoms.symbols], kind="stable")]
    return fingerprints(cell_of(in_slots, SPECIES), VOLUMES)[0]


def test_the_discriminator_sees_the_crystal_and_not_its_cell():
    rng = np.random.default_rng(0)
    atoms, other = _crystal(rng), _crystal(rng)
    ours = _prints(atoms)
    for matrix in (
        [[1, 1, 0], [0, 1, 0], [0, 0, 1]],
        [[1, 0, 0], [-1, 1, 0], [1, 1, 1]],
        [[2, 0, 0], [0, 1, 0], [0, 0, 1]],
        [[1, 1, 0], [-1, 1, 0], [0, 0, 2]],
    ):
        assert _prints(make_supercell(atoms, matrix)).numpy() == pytest.approx(
            ours.numpy(), abs=1e-6
        )
    turned = atoms.copy()
    turned.rotate(33, (1, 2, 3), rotate_cell=True)
    turned.translate([0.3, 1.1, -0.2])
    assert _prints(turned[[2, 0, 1, 4, 3]]).numpy() == pytest.approx(ours.numpy(), abs=1e-6)
    assert (_prints(other) - ours).abs().max() > 0.01


def test_fingerprints_against_ase():
    atoms = _crystal(np.random.default_rng(1))
    i, j, distance = neighbor_list("ijd", atoms, CUTOFF)
    symbols = np.array(atoms.get_chemical_symbols())
    centres = np.linspace(FIRST, CUTOFF, CENTRES)
    expected = []
    for s, one in enumerate(SPECIES):
        for other in SPECIES[s:]:
            both = (symbols[i] == one) & (symbols[j] == other)
            # of like atoms each pair is there from both ends
            d = distance[both][:, None]
            smeared = np.exp(-(((d - centres) / WIDTH) ** 2) / 2) * (1 + np.cos(np.pi * d / CUTOFF))
            expected.append(smeared.sum(0) / (2 if one == other else 1) / len(atoms))
    volume = atoms.get_volume() / (3 * VOLUMES[0] + VOLUMES[1] + VOLUMES[2])
    ours = _prints(atoms).numpy()
    assert ours[:-1] == pytest.approx(np.log1p(np.concatenate(expected)), abs=1e-6)
    assert ours[-1] == pytest.approx(5 * np.log(volume), abs=1e-9)


def test_fingerprints_have_gradients():
    cell = cell_of(_crystal(np.random.default_rng(2)), SPECIES)

    def prints(lattice: torch.Tensor, frac: torch.Tensor) -> torch.Tensor:
        return fingerprints(Cells(lattice, frac, cell.mask, SPECIES), VOLUMES)

    # what comes in at the cutoff comes in at zero
    given = cell.lattice.clone().requires_grad_(), cell.frac.clone().requires_grad_()
    assert torch.autograd.gradcheck(prints, given, atol=1e-4)


def test_the_discriminator_learns_what_can_be_told_apart():
    rng, discriminator = (
        torch.Generator().manual_seed(0),
        Discriminator(3, torch.Generator().manual_seed(1)),
    )
    optimizer = learned.Adam(discriminator.parameters(), 1e-2, (0.5, 0.99))
    size = 6 * CENTRES + 1
    rights = []
    for _ in range(60):
        real, fake = torch.randn(64, size, generator=rng), torch.randn(64, size, generator=rng)
        loss, right = discriminator_loss(discriminator, real + 0.5, fake, 0.1)
        optimizer.step(torch.autograd.grad(loss, optimizer.parameters))
        rights.append(right)
    assert abs(rights[0] - 0.5) < 0.2
    assert rights[-1] > 0.9
    points = torch.randn(8, size, generator=rng).requires_grad_()
    loss, _ = discriminator_loss(discriminator, points, points, 1.0)
    bare, _ = discriminator_loss(discriminator, points, points, 0.0)
    (slopes,) = torch.autograd.grad(discriminator(points).sum(), points)
    expected = float(slopes.square().sum(-1).mean() / 2)
    assert float((loss - bare).detach()) == pytest.approx(expected, rel=1e-5)


def test_misfit_is_of_crystals():
    rng = np.random.default_rng(3)
    atoms = _crystal(rng)
    start, end = aligned(atoms, atoms, SPECIES)
    moved = atoms.copy()
    moved.rotate(20, (1, 1, 0), rotate_cell=True)
    moved.positions += 0.4  # as a whole
    turned, _ = aligned(moved, atoms, SPECIES)
    assert float(misfit(turned, end)) == pytest.approx(0, abs=1e-9)
    shift = np.zeros((5, 3))
    shift[0], shift[1] = [0.1, 0, 0], [-0.1, 0, 0]
    moved = atoms.copy()
    moved.positions += shift
    start, _ = aligned(moved, atoms, SPECIES)
    assert float(misfit(start, end)) == pytest.approx(2 * 0.01 / 5, rel=1e-6)
    # an atom that crosses the border of its cell comes from the image that it was
    crossed = atoms.copy()
    crossed.positions[0] += atoms.cell.array[0] - 2 * atoms.cell.array[2]
    assert float(misfit(*aligned(atoms, crossed, SPECIES))) == pytest.approx(0, abs=1e-9)
    assert float(misfit(*aligned(crossed, atoms, SPECIES))) == pytest.approx(0, abs=1e-9)


def test_the_generator_learns_where_relaxations_go(system: System, monkeypatch):
    """All cells were made too small: what is learned of some holds for others."""
    monkeypatch.setattr(learned, "MOST_NOISE", 0.05)
    rng, pairs = np.random.default_rng(0), []
    for _ in range(60):
        end = _crystal(rng)
        start = end.copy()
        start.set_cell(0.95 * end.cell.array, scale_atoms=True)
        pairs.append((start, end))
    source = LearnedSource(system, 8)
    source.learn(pairs[:48], [0.0] * 48, HULL, rng)
    for _ in range(8):
        source.learn([], [], HULL, rng)
    assert not source.errors
    source.learn(pairs[48:], [0.0] * 12, HULL, rng)
    (before, after), *_ = source.errors
    assert after < 0.6 * before
    assert len(source.accuracies) == 10
    assert all(0 <= right <= 1 for right in source.accuracies)


def _search(system: System) -> Search:
    sources = [RandomSource(), LearnedSource(system, 6)]
    evaluation = Evaluation("ase.calculators.emt.EMT")
    return Search(system, sources, evaluation, small_compositions(6))


def test_a_search_that_learns_goes_on_where_it_was(system: System, monkeypatch, tmp_path):
    monkeypatch.setattr(search_module, "PROPOSALS", 16)
    monkeypatch.setattr(search_module, "FIRST_PROPOSALS", 46)
    monkeypatch.setattr(learned, "ENOUGH", 2)
    monkeypatch.setattr(learned, "UPDATES", 2)
    whole, run = _search(system), Run(tmp_path)
    for round_ in range(4):
        whole.step()
        if round_ in (1, 2):  # before it has learned, and after
            run.save(f"{round_}.safetensors", *packed(whole))
    one = whole.sources[1]
    assert isinstance(one, LearnedSource)
    learned_in = [len(one.accuracies)]
    for round_ in (2, 1):
        pieces = _search(system)
        restore(pieces, *run.load(f"{round_}.safetensors"))
        other = pieces.sources[1]
        assert isinstance(other, LearnedSource)
        learned_in.append(len(other.accuracies))
        while pieces.rounds < whole.rounds:
            pieces.step()
        assert one.accuracies == other.accuracies
        tensors = one.tensors()
        assert all(tensors[name].equal(t) for name, t in other.tensors().items())
        assert [f.energy for f in whole.found] == [f.energy for f in pieces.found]
        assert whole.spent == pieces.spent
    assert learned_in[0] > learned_in[1] > 0
    step = _step(whole, 1.0, Wanted(sources=("random", "learned")))
    assert step.accuracies == one.accuracies
    # training is paid for, and there is none where nothing was found
    before = whole.spent["learned"]
    whole.teach([], np.random.default_rng(0))
    assert whole.spent["learned"] > before + learned.UPDATES * learned.UPDATE_WORK
    fresh = _search(system)
    fresh.teach([], np.random.default_rng(0))
    assert fresh.spent["learned"] == 0


def test_moved_cells_differ_by_their_noise_alone(system: System):
    source = LearnedSource(system, 8)
    start = next(
        cells
        for k in range(50)
        if (cells := source.propose(Request(system, (2, 1, 1)), np.random.default_rng(k)))
    )
    one, same, other = (source.moved(start, np.random.default_rng(k)) for k in (0, 0, 1))
    assert one.frac.equal(same.frac)
    assert not one.frac.equal(other.frac)
    assert one.mask.equal(start.mask)
