"""Rediscovery: known ternaries are looked for among cells of their own composition, and pymatgen
says what is found."""

import itertools
import json
from collections import Counter
from dataclasses import replace

import pytest
from conftest import WITHOUT_POTENTIAL, in_a_shell
from monty.json import MontyEncoder
from pymatgen.core import Lattice, Structure

from crystalgan.errors import InputError
from crystalgan.studies.baselines import SOURCES
from crystalgan.studies.rediscovery import impossible, known_ternaries, matched
from crystalgan.studies.trials import RelaxedCell, Trial, task_of

PEROVSKITE = (
    ["Pd", "Ni", "H", "H", "H"],
    [
        [0, 0, 0],
        [0.5, 0.5, 0.5],
        [0.5, 0.5, 0],
        [0.5, 0, 0.5],
        [0, 0.5, 0.5],
    ],
)


def perovskite(a=3.8):
    return Structure(Lattice.cubic(a), *PEROVSKITE)


def atoms_of(c):
    return c.cells().mask.sum(-1).tolist()


def test_the_run_makes_cells_of_one_composition_and_says_where_it_cannot(
    small_run, palladium, nickel
):
    task = task_of(small_run, palladium, nickel, (), 0)
    wanted = task.compositions[0]
    only = replace(task, compositions=(wanted,), only=True)
    for method in SOURCES:
        if impossible(method, only, atoms_of(palladium), atoms_of(nickel)):
            continue
        for structure in itertools.islice(filter(None, SOURCES[method](only)), 5):
            counts = Counter(site.specie.symbol for site in structure)
            found = tuple(counts[symbol] for symbol in task.species)
            assert any(tuple(k * n for n in found) == wanted for k in (1, 2, 3, 4))
            assert found == wanted or method == "pyxtal"
    assert impossible("crystalgan", only, atoms_of(palladium), atoms_of(nickel)) is None
    far = replace(only, compositions=((1, 1, 17),))
    assert not list(SOURCES["crystalgan"](far))
    for method in ("crystalgan", "substitution"):
        assert "numbers of" in impossible(method, far, atoms_of(palladium), atoms_of(nickel))


def test_rank_counts_different_cells_of_lower_energy():
    target = perovskite()
    other = Structure(Lattice.tetragonal(3.0, 6.5), *PEROVSKITE)
    close = target.copy().perturb(0.05, seed=0).apply_strain(0.02)

    def row(cell, energy, state="converged"):
        return RelaxedCell(cell, cell, state, None if state == "failed" else energy)

    rows = (
        row(close, -3.0),
        row(other, -4.0),
        row(other.copy().apply_strain(0.01), -3.9),
        row(target, -9, "failed"),
    )
    found = matched(target, Trial(rows, 2.0))
    assert (found.found, found.rank, found.relaxed, found.cpu_minutes) == (True, 2, 3, 2.0)
    assert 0 < found.rmsd < 0.1
    assert matched(target, Trial((row(other, -1.0),), 1.5)).as_dict() == {
        "relaxed": 1,
        "found": False,
        "rank": None,
        "rmsd": None,
        "cpu_minutes": 1.5,
    }


def write(path, *structures):
    path.write_text(
        json.dumps([{"structure": structure} for structure in structures], cls=MontyEncoder)
    )
    return path


def test_structures_that_cannot_be_asked_for_say_why(tmp_path):
    binary = Structure(Lattice.cubic(4), ["Pd", "H"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    strange = perovskite().replace_species({"Ni": "Xe"})
    known = known_ternaries(write(tmp_path / "known.json", perovskite(), binary, strange), "H")
    assert [one.reason for one in known] == [
        "",
        "not of H and two metals",
        "no built-in class of Xe",
    ]
    assert known[0].metals == ("Ni", "Pd")
    with pytest.raises(InputError, match="nothing-here"):
        known_ternaries(tmp_path / "nothing-here.json", "H")


@pytest.mark.slow
def test_rediscovery_in_a_shell(crystalgan, tmp_path):
    file = write(
        tmp_path / "known.json",
        perovskite(),
        Structure(Lattice.cubic(4), ["Pd", "H"], [[0, 0, 0], [0.5, 0.5, 0.5]]),
    )
    words = [
        "rediscover",
        str(file),
        "--minutes",
        "0.01",
        "--epochs",
        "2",
        *WITHOUT_POTENTIAL,
        "--jobs",
        "2",
        "--runs",
        str(tmp_path),
        "--json",
    ]
    done = in_a_shell(*words)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["asked"] == 1
    row, left_out = result["rows"]
    assert set(row["methods"]) == set(SOURCES)
    assert row["methods"]["crystalgan"]["relaxed"] + row["methods"]["ase"]["relaxed"] > 0
    assert "two metals" in left_out["reason"]
    assert json.loads(crystalgan(*words)[1]) == result
