"""The loop: the same in one piece and in many, with one process and with two."""

from __future__ import annotations

import json

import pytest
from pymatgen.analysis.structure_matcher import StructureMatcher

import crystalgan.discovery.search as search_module
from crystalgan.config import Config
from crystalgan.data.classes import load_class
from crystalgan.discovery.checkpoint import FILE, packed, restore
from crystalgan.discovery.compositions import small_compositions
from crystalgan.discovery.discover import Wanted, search_of, sources_of
from crystalgan.discovery.evaluation import Evaluation
from crystalgan.discovery.search import RUNGS, UNREASONED, VISIT, Search
from crystalgan.discovery.system import System
from crystalgan.errors import InputError
from crystalgan.jobs import Pool
from crystalgan.runs.folder import Run
from crystalgan.runs.training import new_run
from crystalgan.stability.hull import Phase

SPECIES = ("H", "Pd", "Ni")
EMT = "ase.calculators.emt.EMT"  # any energies do, and these cost a millisecond
ROUNDS = 5


def _search(evaluation: Evaluation | None = None, seed: int = 0) -> Search:
    phases = [Phase(symbol, symbol, 0.0) for symbol in SPECIES]
    a, b = load_class("Pd").cells(), load_class("Ni").cells()
    system = System.of(SPECIES, a, b, phases)
    sources = sources_of(system, ("random", "transfer", "hosts", "heredity"), 8)
    compositions = small_compositions(8)
    return Search(
        system, sources.every, evaluation or Evaluation(EMT), compositions, sources.starts[:3], seed
    )


def _done(search: Search) -> list[tuple]:
    return [(f.id, f.source, f.counts, f.energy, f.converged) for f in search.found]


@pytest.fixture(scope="module", autouse=True)
def _small_rounds():
    """Fewer proposals a round than people wait for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search_module, "PROPOSALS", 50)
        yield


@pytest.fixture(scope="module")
def whole(_small_rounds) -> Search:
    search = _search()
    for _ in range(ROUNDS):
        search.step()
    return search


def test_a_search_finds_different_relaxed_crystals(whole: Search):
    assert len(whole.found) >= 5
    assert {f.source for f in whole.found} > {"compounds"}
    assert len({f.id for f in whole.found}) == len(whole.found)
    matcher = StructureMatcher()
    for k, one in enumerate(whole.found):
        assert sum(one.counts) == len(one.structure)
        for other in whole.found[:k]:
            if one.formula == other.formula:
                assert not matcher.fit(one.structure, other.structure)
    assert all(0 < p.rung < len(RUNGS) - 1 or not p.energies for p in whole.waiting)


def test_the_hull_holds_what_was_found(whole: Search):
    converged = [f for f in whole.found if f.converged]
    above = whole.hull.above([f.counts for f in converged], [f.energy for f in converged])
    assert above.min() > -1e-9


def test_hosts_are_compounds_near_the_hull(whole: Search):
    metals = {f[1:] for f in whole.best if not f[0]}
    hosted = {(a, b) for _, a, b in whole.hosted}
    assert hosted
    assert all(any(a * n == b * m for m, n in metals) for a, b in hosted)
    plain = next(f for f in whole.compositions if f not in whole.hosted and f not in whole.ionic)
    visits = whole.visits[plain]
    assert whole.penalty(plain) == pytest.approx(UNREASONED + VISIT * visits)


def test_a_search_in_pieces_is_the_same(whole: Search, tmp_path):
    run, search = Run(tmp_path), _search()
    for _ in range(ROUNDS):
        search.step()
        run.save("search.safetensors", *packed(search))
        search = _search()
        restore(search, *run.load("search.safetensors"))
    assert _done(search) == _done(whole)
    assert search.tally == whole.tally
    assert [p.id for p in search.waiting] == [p.id for p in whole.waiting]
    assert search.shares().tolist() == whole.shares().tolist()
    json.dumps(search.tally)


def test_two_processes_find_the_same(whole: Search):
    with Pool(2) as pool:
        evaluation = Evaluation(EMT, pool, 2)
        search = _search(evaluation)
        for _ in range(2):
            search.step()
    assert evaluation.seconds > 0
    ours = _done(search)
    assert ours == _done(whole)[: len(ours)]


def test_another_seed_goes_another_way(whole: Search):
    search = _search(seed=1)
    search.step()
    search.step()
    assert _done(search)[:40] != _done(whole)[:40]


def test_a_damaged_checkpoint_is_one_sentence(whole: Search, tmp_path):
    run = new_run("Pd", "Ni", Config(), tmp_path)
    tensors, header = packed(whole)
    state = header["search"]
    broken = [
        (tensors, {}),
        (tensors, {"search": {}}),
        (tensors, {"search": state | {"waiting": [{"id": 1}]}}),
        (tensors, {"search": state | {"sources": []}}),
        (tensors | {"found": tensors["found"][:5]}, header),
        ({name: t for name, t in tensors.items() if name != "made"}, header),
    ]
    wanted = Wanted(max_atoms=8)
    for arrays, about in broken:
        run.save(FILE, arrays, about)
        with pytest.raises(InputError, match=r"discovery\.safetensors: .*(damaged|afresh)"):
            search_of(run, wanted, Evaluation("chgnet"))
    run.save(FILE, tensors, header)
    assert _done(search_of(run, wanted, Evaluation("chgnet"))) == _done(whole)
