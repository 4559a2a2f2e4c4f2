"""What the sources propose: compositions, distances, voids; which compositions parents reach."""

from __future__ import annotations

import math

import numpy as np
import pytest
from ase.neighborlist import neighbor_list

from crystalgan.data.classes import load_class
from crystalgan.data.known_ternaries import builtin_ternaries
from crystalgan.discovery.compositions import (
    HOSTED,
    IONIC,
    SMALLNESS,
    balanced,
    one_composition,
    prior,
    small_compositions,
)
from crystalgan.discovery.found import Found, reduced, structure_of
from crystalgan.discovery.hosts import HostSource, filled, voids_of
from crystalgan.discovery.mutation import MutationSource
from crystalgan.discovery.sources import (
    RandomSource,
    Request,
    Source,
    atoms_of,
    cell_of,
    finished,
)
from crystalgan.discovery.surrogate import Surrogate
from crystalgan.discovery.system import Counts, System
from crystalgan.discovery.transfers import TransferSource
from crystalgan.errors import InputError
from crystalgan.stability.references import builtin_phases

MOST_ATOMS = 24


def _system(metal_a: str, metal_b: str) -> System:
    species = ("H", metal_a, metal_b)
    a, b = load_class(metal_a).cells(), load_class(metal_b).cells()
    return System.of(species, a, b, builtin_phases(species, known_ternaries=False))


@pytest.fixture(scope="module")
def zr_ni() -> System:
    return _system("Zr", "Ni")


def _proposed(source: Source, system: System, counts: Counts, found: list[Found], tries: int = 60):
    """Finished crystals, each checked against the limits by ASE's neighbour lists."""
    rng, out = np.random.default_rng(0), []
    surrogate = Surrogate(system.species, system.limits.lower)
    for _ in range(tries):
        cells = source.propose(Request(system, counts, found), rng)
        one = None if cells is None else finished(cells, system, surrogate)
        if one is None:
            continue
        atoms = atoms_of(one[0])
        symbols = atoms.get_chemical_symbols()
        assert tuple(symbols.count(s) for s in system.species) == counts
        slots = np.array([system.species.index(s) for s in symbols])
        i, j, distance = neighbor_list("ijd", atoms, 6.0)
        lower = system.limits.lower.numpy()[slots[i], slots[j]]
        for k in range(len(atoms)):  # the limits are those of first neighbours
            mine = (i == k) & np.isfinite(lower)
            for slot in range(3):
                near = mine & (slots[j] == slot)
                if slots[k] and slot and near.any():
                    first = distance[(i == k) & (slots[j] > 0)].min()
                    assert first > min(lower[(i == k) & (slots[j] > 0)]) - 1e-6
        out.append(atoms)
    return out


def test_random_cells_of_a_composition(zr_ni: System):
    assert len(_proposed(RandomSource(), zr_ni, (3, 1, 1), [])) >= 10


def test_a_random_source_goes_on_where_it_was(zr_ni: System):
    one, other = RandomSource(), RandomSource()
    rng = np.random.default_rng(0)
    for _ in range(10):
        one.propose(Request(zr_ni, (3, 1, 1)), rng)
    other.restore(one.state())
    first, second = (
        source.propose(Request(zr_ni, (3, 1, 1)), np.random.default_rng(1))
        for source in (one, other)
    )
    assert first is not None
    assert second is not None
    assert first.frac.equal(second.frac)


def test_transfers_of_a_composition(zr_ni: System):
    assert len(_proposed(TransferSource(zr_ni, MOST_ATOMS), zr_ni, (6, 2, 2), [], 30)) >= 5


@pytest.mark.parametrize(
    ("metals", "counts"),
    [(("La", "Ni"), (6, 1, 5)), (("Ti", "Fe"), (2, 1, 1)), (("Zr", "Ni"), (6, 2, 2))],
)
def test_hosts_give_the_hydrides_that_are_made_of_them(metals: tuple[str, str], counts: Counts):
    system = _system(*metals)
    cells = _proposed(HostSource(system, MOST_ATOMS), system, counts, [], 80)
    assert cells
    for atoms in cells:
        hydrogen = [k for k, s in enumerate(atoms.symbols) if s == "H"]
        i, j, distance = neighbor_list("ijd", atoms, 2.1)
        both = np.isin(i, hydrogen) & np.isin(j, hydrogen)
        assert distance[both].min(initial=9.0) > 1.5


def test_atoms_are_in_the_order_of_the_slots(zr_ni: System):
    # forces are learned in this order
    starts = HostSource(zr_ni, MOST_ATOMS).starts()
    assert len(starts) >= 18
    for (h, a, b), atoms in starts:
        assert atoms.get_chemical_symbols() == ["H"] * h + ["Zr"] * a + ["Ni"] * b
    for atoms in _proposed(RandomSource(), zr_ni, (3, 1, 1), [], 5):
        assert atoms.get_chemical_symbols() == ["H"] * 3 + ["Zr", "Ni"]


def test_voids_of_a_cubic_close_packing():
    a = 4.0
    metals = np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    voids = voids_of(np.eye(3) * a, (metals, np.zeros((0, 3))), (1.0, 1.0))
    found = {tuple(np.round(point * 4).astype(int) % 4) for point in voids.points}
    octahedral = {(2, 2, 2), (2, 0, 0), (0, 2, 0), (0, 0, 2)}
    tetrahedral = {(i, j, k) for i in (1, 3) for j in (1, 3) for k in (1, 3)}
    assert found == octahedral | tetrahedral
    sizes = sorted(np.bincount(voids.orbit)[np.unique(voids.orbit)].tolist())
    assert sizes == [4, 8]
    # an octahedral void is a / 2 from its metals, a tetrahedral one a * sqrt(3) / 4
    wide = voids_of(np.eye(3) * a, (metals, np.zeros((0, 3))), (a * math.sqrt(3) / 4 + 0.01, 1.0))
    assert len(wide.points) == 4
    rng = np.random.default_rng(0)
    assert filled(wide, 4, True, rng) is not None
    assert filled(wide, 3, True, rng) is None
    assert filled(wide, 5, False, rng) is None
    # two tetrahedral voids are 2 Å apart, an octahedral one 1.73 Å from them: never both
    for _ in range(10):
        chosen = filled(voids, 8, True, rng)
        assert chosen is None or set(np.round(chosen * 4).astype(int).flatten() % 2) == {1}


def test_heredity_of_what_was_found(zr_ni: System):
    made = _proposed(RandomSource(), zr_ni, (3, 1, 1), [], 20)
    found = [
        Found(k, "random", (3, 1, 1), structure_of(atoms), -4.0 + 0.01 * k, True)
        for k, atoms in enumerate(made[:4])
    ]
    source = MutationSource()
    for counts in ((3, 1, 1), (6, 2, 2), (2, 1, 1), (4, 1, 1)):
        assert _proposed(source, zr_ni, counts, found, 30), counts
    assert not _proposed(source, zr_ni, (3, 2, 1), found, 10)  # of other metals


def test_parents_reach_the_compositions_of_known_ternaries():
    reached, sources, classes = 0, {}, {}
    for cell in builtin_ternaries():
        composition = cell.structure.composition
        metals = tuple(sorted(e.symbol for e in composition.elements if e.symbol != "H"))
        if metals not in sources:
            for metal in metals:
                classes[metal] = classes.get(metal) or load_class(metal).cells()
            a, b = (classes[metal] for metal in metals)
            system = System.of(("H", *metals), a, b, [])
            pairings = TransferSource(system, MOST_ATOMS).pairings
            sources[metals] = {reduced(counts) for counts in pairings}
        wanted = tuple(int(composition[s]) for s in ("H", *metals))
        reached += reduced(wanted) in sources[metals]
    assert len(builtin_ternaries()) == 75
    assert reached >= 68


def test_compositions():
    assert all(sum(c) <= 10 for cells in small_compositions(10).values() for c in cells)
    assert one_composition("Zr2Ni2H6", ("H", "Zr", "Ni"), 12) == {(3, 1, 1): ((3, 1, 1), (6, 2, 2))}
    for formula, words in (
        ("ZrNi", "no formula of Zr, Ni and H"),
        ("zrnih", "no formula of"),
        ("ZrNiH2.5", "broken numbers"),
        ("ZrNiH30", "more than the 24"),
        ("LaNi5H6", "no formula of"),
    ):
        with pytest.raises(InputError, match=words):
            one_composition(formula, ("H", "Zr", "Ni"), 24)


def test_charges_that_balance():
    for formula, species, answer in (
        ((6, 2, 1), ("H", "Mg", "Fe"), True),  # Mg2FeH6: 2 x 2 + 2
        ((4, 1, 2), ("H", "Li", "Al"), False),
        ((4, 1, 1), ("H", "Li", "Al"), True),  # LiAlH4: 1 + 3
        ((3, 1, 1), ("H", "Na", "Mg"), True),
        ((1, 1, 5), ("H", "La", "Ni"), False),
    ):
        assert balanced(formula, species) == answer
    known = [ternary.structure.composition.reduced_composition for ternary in builtin_ternaries()]
    count = 0
    for composition in known:
        species = ("H", *sorted(e.symbol for e in composition if e.symbol != "H"))
        h, a, b = (int(composition[symbol]) for symbol in species)
        count += balanced((h, a, b), species)
    assert count == 51  # as the docstring of `prior` says


def test_shares_before_anything_is_known():
    formulas = list(small_compositions(24))
    ionic = [balanced(f, ("H", "La", "Ni")) for f in formulas]
    hosted = [5 * f[1] == f[2] for f in formulas]
    shares = prior(formulas, ionic, hosted)
    assert shares.sum() == pytest.approx(1)
    assert shares.min() > 0
    assert shares[hosted].sum() > HOSTED
    assert shares[ionic].sum() > IONIC
    none = prior(formulas, [False] * len(formulas), [False] * len(formulas))
    sizes = np.array([sum(f) for f in formulas])
    assert none * sizes**SMALLNESS == pytest.approx(none[0] * sizes[0] ** SMALLNESS)


def test_a_cell_is_the_same_as_atoms(zr_ni: System):
    atoms = _proposed(RandomSource(), zr_ni, (3, 1, 1), [], 20)[0]
    again = atoms_of(cell_of(atoms, zr_ni.species))
    assert again.get_all_distances(mic=True) == pytest.approx(
        atoms.get_all_distances(mic=True), abs=1e-6
    )
