"""The benchmark: every source makes what it is asked for, and is counted by the same rules."""

import itertools
import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from conftest import WITHOUT_POTENTIAL
from pymatgen.core import Lattice, Structure

from crystalgan.data.prototypes import compounds_of
from crystalgan.errors import InputError
from crystalgan.stability.hull import Phase, diagram_of
from crystalgan.stability.references import builtin_phases
from crystalgan.studies.baselines import SOURCES
from crystalgan.studies.benchmark import benchmark, results, summarise, ternary_types
from crystalgan.studies.trials import (
    RelaxedCell,
    Trial,
    TrialCounts,
    TrialTask,
    count_trial,
    run_trial,
    task_of,
)


@pytest.fixture(scope="module")
def task(small_run, palladium, nickel):
    return task_of(small_run, palladium, nickel, (), 0)


def composition(structure, species):
    counts = Counter(site.specie.symbol for site in structure)
    return tuple(counts[symbol] for symbol in species)


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_makes_ternaries_of_the_runs_compositions(task, source):
    made = list(itertools.islice(filter(None, SOURCES[source](task)), 6))
    again = list(itertools.islice(filter(None, SOURCES[source](task)), 6))
    for structure, other in zip(made, again, strict=True):
        counts = composition(structure, task.species)
        assert all(counts)
        # the primitive cell of a random one may be smaller
        repeats = [tuple(k * n for n in counts) for k in (1, 2, 3, 4)]
        assert set(repeats) & set(task.compositions)
        distances = structure.distance_matrix[~np.eye(len(structure), dtype=bool)]
        # Å; PyXtal asks for half the covalent radii, 0.31 for H-H
        assert source == "crystalgan" or distances.min() > 0.3
        np.testing.assert_allclose(structure.distance_matrix, other.distance_matrix, atol=1e-9)
    if source == "pyxtal":
        assert all(structure.get_space_group_info(0.1)[1] > 1 for structure in made)
    if source == "substitution":
        assert all(
            s.volume == pytest.approx(task.volume(composition(s, task.species))) for s in made
        )


@pytest.mark.parametrize("source", ["crystalgan", "substitution"])
def test_a_source_that_makes_nothing_ends_with_its_time(task, source):
    nothing = replace(task, compositions=((1, 1, 17),), hosts=(), only=True)
    trial = run_trial(TrialTask(source, nothing, 0.001))
    assert trial.cells == ()
    assert trial.cpu_minutes < 0.1


def test_hits_are_new_unique_converged_ternaries_near_the_hull(small_run, palladium):
    diagram = diagram_of(builtin_phases(small_run.species))

    def row(structure, above, state="converged"):
        energy = diagram.get_hull_energy_per_atom(structure.composition) + above
        return RelaxedCell(structure, structure, state, None if state == "failed" else energy)

    one = Structure(
        Lattice.tetragonal(2.8, 7.4), ["Pd", "Ni", "H"], [[0, 0, 0], [0.5, 0.5, 0.5], [0, 0, 0.25]]
    )
    two = Structure(
        Lattice.cubic(4.2),
        ["Pd", "Ni", "Ni", "H"],
        [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0.5, 0.5, 0.5]],
    )
    binary = palladium.structures[0]
    rows = [
        row(one, 0.08),
        row(one.copy().apply_strain(0.01), 0.01),
        row(two, 0.04),
        row(two, 0.3, "failed"),
        row(binary, 0.0),
    ]
    phases = builtin_phases(small_run.species)
    trial = Trial(tuple(rows), 2.0)
    found = count_trial(trial, small_run, phases)
    assert (found.relaxed, found.converged, found.unique, found.new) == (4, 4, 3, 2)
    assert (found.hits, found.rate()) == ({0.1: 2, 0.05: 1}, 1.0)
    assert TrialCounts.of(json.loads(json.dumps(found.as_dict()))) == found
    formulas = [cell.composition.reduced_formula for cell in (one, two)]
    assert found.best == pytest.approx(dict(zip(formulas, (0.08, 0.04), strict=True)), abs=1e-6)
    competing = count_trial(trial, small_run, [*phases, Phase("NiPd CsCl", "NiPd", -20.0)])
    assert (competing.new, competing.hits[0.1]) == (2, 0)


def test_trials_of_a_source_are_summed_and_the_lowest_energies_kept():
    def counts(n, **best):
        return TrialCounts(n, n, n, n, n, {0.1: n, 0.05: 0}, 2.0, best)

    trials = [("ase", counts(1, PdH=0.2)), ("ase", counts(3, PdH=0.1, NiH=0.5))]
    found = summarise([*trials, ("pyxtal", counts(5))])
    assert list(found) == ["ase", "pyxtal"]
    total = found["ase"].total
    assert (total.relaxed, total.hits, total.cpu_minutes) == (4, {0.1: 4, 0.05: 0}, 4.0)
    assert (total.rate(), total.best) == (1.0, {"PdH": 0.1, "NiH": 0.5})
    assert found["ase"].by_seed == tuple(one for _, one in trials)


def test_a_users_ternaries_take_the_two_metals(tmp_path):
    lanthanum = Structure(
        Lattice.cubic(4.0), ["La", "Co", "H"], [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0, 0]]
    )
    lanthanum.to_file(str(tmp_path / "LaCoH.vasp"), fmt="poscar")
    (cell,) = ternary_types([tmp_path / "LaCoH.vasp"], "H", ("Pd", "Ni"))
    assert {site.specie.symbol for site in cell} == {"Pd", "Ni", "H"}
    with pytest.raises(InputError, match="nothing-here"):
        ternary_types([tmp_path / "nothing-here"], "H", ("Pd", "Ni"))
    Structure(Lattice.cubic(4.0), ["La", "H"], [[0, 0, 0], [0.5, 0.5, 0.5]]).to_file(
        str(tmp_path / "LaH.vasp"), fmt="poscar"
    )
    with pytest.raises(InputError, match="no ternary structure"):
        ternary_types([tmp_path / "LaH.vasp"], "H", ("Pd", "Ni"))


@pytest.mark.slow
def test_the_benchmark_by_its_command(crystalgan, monkeypatch, tmp_path):
    # two real compounds of the 32 that compete
    few = {name: compounds_of("Pd", "Ni")[name] for name in ("NiPd CsCl", "NiPd CuAu")}
    monkeypatch.setattr("crystalgan.data.prototypes.compounds_of", lambda *_: few)
    words = [
        "benchmark",
        "Pd",
        "Ni",
        "--minutes",
        "0.01",
        "--epochs",
        "2",
        *WITHOUT_POTENTIAL,
        "--jobs",
        "1",
        "--runs",
        str(tmp_path),
        "--json",
    ]
    code, out, err = crystalgan(*words)
    assert code == 0, err
    result = json.loads(out)
    assert set(result["methods"]) == {"crystalgan", "pyxtal", "substitution", "ase"}
    for found in result["methods"].values():
        assert found["cpu_minutes"] >= 0.01
        assert found["relaxed"] >= found["hits_0.1"] >= found["hits_0.05"]
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*-0.01-0.json")}
    assert len(before) == 4
    again = crystalgan("race", *words[1:])
    assert "crystalgan race is called crystalgan benchmark now" in again[2]
    assert json.loads(again[1])["methods"] == result["methods"]
    assert before == {path: path.stat().st_mtime_ns for path in before}
    (kept,) = results(tmp_path)
    assert kept.as_dict() == result
    assert "Pd-Ni-H, 0.01 CPU minutes" in repr(kept)
    assert "<td>pyxtal</td>" in kept._repr_html_()
    old = tmp_path / "race" / "some"
    old.mkdir(parents=True)
    (old / "race-3-1.json").write_text(json.dumps(result | {"minutes": 3}))
    assert [one.minutes for one in results(tmp_path)] == [3, 0.01]
    (compounds,) = tmp_path.rglob("compounds.json")
    assert "NiPd CsCl" in json.loads(compounds.read_text())


def test_a_benchmark_of_no_time_says_so(palladium, nickel, tmp_path):
    from crystalgan.config import Config

    with pytest.raises(InputError, match="more than none"):
        benchmark(palladium, nickel, Config(), tmp_path, minutes=0)
