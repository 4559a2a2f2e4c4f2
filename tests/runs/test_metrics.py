"""Metrics on cells whose answers are known, and on a run against what its own table says."""

import math

import numpy as np
import pandas as pd
import pytest
from conftest import raw_cells
from pymatgen.core import Lattice, Structure

from crystalgan.config import Config
from crystalgan.crystal.rules import Rule, paper_rule
from crystalgan.errors import InputError
from crystalgan.runs import metrics
from crystalgan.runs.candidates import generate
from crystalgan.runs.database import candidates_table
from crystalgan.runs.metrics import (
    complete,
    coverage,
    distances_to_parents,
    keeps_cdvae,
    measure,
    metric,
    valid,
    wasserstein,
)
from crystalgan.runs.training import new_run

METALS = paper_rule(("Pd", "Ni"), "H")


def line_of_atoms(symbols, positions, length=20.0):
    """Atoms on a line in a cell that is 2.5 Å wide: every atom has its own images at 2.5 Å."""
    return Structure(
        Lattice.orthorhombic(length, 2.5, 2.5), symbols, [[x / length, 0, 0] for x in positions]
    )


def test_valid_counts_what_holds_all_elements_and_keeps_the_rule():
    cells = raw_cells(
        [
            line_of_atoms(["H", "Pd", "Ni"], [0, 5, 7.4]),  # good: 2.4 and 2.5 Å
            line_of_atoms(["H", "Pd", "Ni"], [0, 5, 6.7]),  # Pd-Ni 1.7 Å
            line_of_atoms(["H", "Pd", "Pd"], [0, 5, 7.4]),  # no Ni
            line_of_atoms(["Pd", "Ni"], [5, 7.4]),  # no H
            line_of_atoms(["H", "H", "Pd", "Ni"], [0, 1.0, 5, 7.4]),  # H-H 1.0 Å
        ]
    )
    assert complete(cells).tolist() == [True, True, False, False, True]
    assert valid(cells, METALS).tolist() == [True, False, False, False, False]
    wider = Rule("wide", {"Ni-Pd": (1.6, 3.0), "H-H": (0.9, 3.0)})
    assert valid(cells, wider).tolist() == [True, True, False, False, True]


def test_cdvae_asks_for_half_an_angstrom_and_a_volume():
    table = pd.DataFrame(
        {
            "shortest H-H": [0.51, 0.49, math.nan, math.nan],
            "shortest H-Pd": [1.6, 1.6, 0.4, math.nan],
            "volume": [10.0, 10.0, 10.0, 0.04],
            "atoms": [4, 4, 4, 2],
        }
    )
    assert keeps_cdvae(table).tolist() == [True, False, False, False]


def test_the_shortest_first_neighbours_hold_the_shortest_distance(small_run):
    """So CDVAE's rule can be asked of the table alone; pymatgen finds the same in every cell."""
    from crystalgan.runs.database import open_database, structure_of

    table = candidates_table(small_run)
    shortest = table[[name for name in table if name.startswith("shortest ")]].min(axis=1)
    for row, found in zip(open_database(small_run).select(), shortest, strict=True):
        structure = structure_of(row)
        distances = structure.distance_matrix + 1e9 * np.eye(len(structure))
        assert found == pytest.approx(
            min(distances.min(), *structure.lattice.get_niggli_reduced_lattice().abc), rel=1e-6
        )


def test_wasserstein_is_how_far_a_distribution_is_moved():
    rng = np.random.default_rng(0)
    values = rng.normal(2.5, 0.3, 500)
    assert wasserstein(values, values) == 0
    assert wasserstein(values + 0.25, values) == pytest.approx(0.25)
    assert wasserstein([1.0, 3.0], [2.0, 2.0]) == pytest.approx(1.0)
    assert wasserstein([], values) is None


def test_distances_to_parents_of_a_stretched_class():
    """Every distance of the parents grows by a tenth: so far are the distributions apart, in each
    pair."""
    parents = [line_of_atoms(["H", "Pd"], [0, 1.7]), line_of_atoms(["H", "Pd"], [0, 1.9])]
    stretched = [
        Structure(Lattice(1.1 * s.lattice.matrix), s.species, s.frac_coords) for s in parents
    ]
    found = distances_to_parents(stretched, (parents, []))
    assert found == pytest.approx({"H-H": 0.25, "H-Pd": 0.18, "Pd-Pd": 0.25})
    assert set(distances_to_parents(parents, (parents, [])).values()) == {0.0}
    assert distances_to_parents([], (parents, []))["H-Pd"] is None


def test_coverage_counts_each_parent_once():
    assert coverage([0, 0, 3, -1], 4) == 50
    assert coverage([], 4) == 0


def test_measure_agrees_with_the_table(small_run):
    found, table = measure(small_run), candidates_table(small_run)
    assert found["candidates"] == len(table) == 40
    assert found["valid paper"] == pytest.approx(100 * table["passed_paper"].mean())
    good = table["passed_paper"] & table["unique"]
    assert good.any()
    assert found["valid learned"] < 100
    assert found["good"] == pytest.approx(100 * (good & table["new"] & table["ternary"]).mean())
    assert found["coverage Pd-H"] == pytest.approx(
        100 * table["parent_a"][good].nunique() / len(small_run.classes()[0])
    )
    assert found["symmetric"] >= found["high symmetry"]
    assert found["training"] == pytest.approx(
        sum(small_run.load(f"step{k}.safetensors")[1]["seconds"] for k in (1, 2))
    )
    assert found["volume"] > 0
    for name, value in found.items():
        assert metric(name).definition, name
        assert "{" not in metric(name).title + metric(name).definition
        assert value is None or 0 <= value <= 100 or metric(name).unit != "%", name


def test_time_is_that_of_all_candidates(small_run):
    before = measure(small_run)["making"]
    assert before > 0
    generate(small_run, 30)  # they are there: nothing is made, and no time added
    assert measure(small_run)["making"] == before
    noted = metrics.making_seconds(small_run, 0.5)
    assert metrics.making_seconds(small_run, 0.25) == pytest.approx(2 * noted)
    assert metrics.making_seconds(small_run, 0.0) is None


def test_a_run_without_candidates_says_what_to_do(tmp_path, palladium, nickel):
    run = new_run(palladium, nickel, Config(), tmp_path)
    with pytest.raises(InputError, match="crystalgan generate"):
        measure(run)
