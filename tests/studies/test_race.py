"""The race: every method makes what it is asked for, and is counted by the same rules."""

import itertools
import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from crystalgan.errors import InputError
from crystalgan.stability.hull import Phase, diagram_of
from crystalgan.stability.references import builtin_phases
from crystalgan.studies.baselines import METHODS
from crystalgan.studies.benchmark import counted, field_of, race, results, spend, ternary_types


@pytest.fixture(scope="module")
def field(small_run, palladium, nickel):
    return field_of(small_run, palladium, nickel, (), 0)


def composition(structure, species):
    counts = Counter(site.specie.symbol for site in structure)
    return tuple(counts[symbol] for symbol in species)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_makes_ternaries_of_the_runs_compositions(field, method):
    made = list(itertools.islice(filter(None, METHODS[method](field)), 30))
    again = list(itertools.islice(filter(None, METHODS[method](field)), 30))
    for structure, other in zip(made, again, strict=True):
        counts = composition(structure, field.species)
        assert all(counts)
        # the primitive cell of a random one may be smaller
        repeats = [tuple(k * n for n in counts) for k in (1, 2, 3, 4)]
        assert set(repeats) & set(field.compositions)
        distances = structure.distance_matrix[~np.eye(len(structure), dtype=bool)]
        # Å; PyXtal asks for half the covalent radii, 0.31 for H-H
        assert method == "crystalgan" or distances.min() > 0.3
        np.testing.assert_allclose(structure.distance_matrix, other.distance_matrix, atol=1e-9)
    if method == "pyxtal":
        assert all(structure.get_space_group_info(0.1)[1] > 1 for structure in made)
    if method == "substitution":
        assert all(
            s.volume == pytest.approx(field.volume(composition(s, field.species))) for s in made
        )


@pytest.mark.parametrize("method", ["crystalgan", "substitution"])
def test_a_method_that_makes_nothing_ends_with_its_time(field, method):
    nothing = replace(field, compositions=((1, 1, 17),), hosts=(), only=True)
    rows, spent = spend(method, nothing, 0.001)
    assert rows == []
    assert spent < 0.1


def test_hits_are_new_unique_converged_ternaries_near_the_hull(small_run, palladium):
    diagram = diagram_of(builtin_phases(small_run.species))

    def row(structure, above, state="converged"):
        energy = diagram.get_hull_energy_per_atom(structure.composition) + above
        return structure, structure, {"state": state, "energy_per_atom": energy}

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
    found = counted(small_run, phases, rows, 2.0)
    assert [found[name] for name in ("relaxed", "converged", "unique", "new")] == [4, 4, 3, 2]
    assert (found["hits_0.1"], found["hits_0.05"], found["cpu_minutes"]) == (2, 1, 2.0)
    formulas = [cell.composition.reduced_formula for cell in (one, two)]
    assert found["best"] == pytest.approx(dict(zip(formulas, (0.08, 0.04), strict=True)), abs=1e-6)
    competing = counted(small_run, [*phases, Phase("NiPd CsCl", "NiPd", -20.0)], rows, 2.0)
    assert (competing["new"], competing["hits_0.1"]) == (2, 0)


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
def test_the_race_in_a_shell(tmp_path):
    words = [
        "race",
        "Pd",
        "Ni",
        "--minutes",
        "0.01",
        "--epochs",
        "2",
        "--jobs",
        "2",
        "--runs",
        str(tmp_path),
        "--json",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "crystalgan", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert set(result["methods"]) == {"crystalgan", "pyxtal", "substitution", "ase"}
    for found in result["methods"].values():
        assert found["cpu_minutes"] >= 0.01
        assert found["relaxed"] >= found["hits_0.1"] >= found["hits_0.05"]
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*-0.01-0.json")}
    assert len(before) == 4
    again = subprocess.run(
        [sys.executable, "-m", "crystalgan", *words], capture_output=True, text=True, check=False
    )
    assert json.loads(again.stdout)["methods"] == result["methods"]
    assert before == {path: path.stat().st_mtime_ns for path in before}
    (kept,) = results(tmp_path)
    assert kept["pair"] == "Pd-Ni"
    (compounds,) = tmp_path.rglob("compounds.json")
    assert "NiPd CsCl" in json.loads(compounds.read_text())


def test_a_race_of_no_time_says_so(palladium, nickel, tmp_path):
    from crystalgan.config import Config

    with pytest.raises(InputError, match="more than none"):
        race(palladium, nickel, Config(), tmp_path, minutes=0)
