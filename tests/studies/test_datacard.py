"""The data card: figures against independent counts, and the hull against hand calculation."""

import json

import pytest
from pymatgen.core import Lattice

from crystalgan.data.classes import builtin_classes, load_class
from crystalgan.data.prototypes import load_prototypes
from crystalgan.resources import resource
from crystalgan.stability.hull import above_hull
from crystalgan.studies import datacard, datacard_text


@pytest.fixture(scope="module")
def report():
    return datacard.report()


def test_the_hull_is_the_tangent_below_all_phases():
    formulas, energies = (
        ["Ti1", "H1", "Ti1H2", "Ti1H1"],
        [
            -2.0,
            -1.0,
            -4.0 - 3 * 0.5,
            -3.0 - 2 * 0.1,
        ],
    )
    # TiH lies at -0.1 eV/atom where the tie line from Ti to TiH2 (-0.5 eV/atom at x = 2/3) passes
    # -0.375 at x = 1/2
    assert above_hull(formulas, energies) == pytest.approx([0, 0, 0, 0.275])


def test_every_class_is_counted_with_what_was_left_out(report):
    assert [row.metal for row in report.classes] == list(builtin_classes())
    for row in report.classes:
        assert row.kept == len(load_class(row.metal))
        assert row.kept + len(row.dropped) == len(load_prototypes())
        assert sum(row.reasons.values()) == len(row.dropped)
        assert "failed" not in row.reasons


def test_lattices_are_compared_edge_by_edge(report):
    rows = {(row.metal, row.prototype): row for row in report.lattices}
    pd = rows["Pd", "MH_NaCl"]
    cell = next(e.structure for e in load_class("Pd").entries if e.info["prototype"] == "MH_NaCl")
    a = (4 * cell.volume) ** (1 / 3)  # the primitive cell of fcc
    assert pd.found == [round(a, 3)] * 3
    assert pd.worst_percent == pytest.approx(100 * (a / 4.09 - 1), abs=0.01)
    assert pd.volume_percent == pytest.approx(100 * ((a / 4.09) ** 3 - 1), abs=0.02)
    mg = rows["Mg", "MH2_rutile"]
    assert mg.experiment == [3.020, 4.517, 4.517]
    assert abs(mg.worst_percent) < 3


def test_the_table_of_known_hydrides_is_of_types_that_exist():
    types = {p["name"]: p for p in json.loads(resource("assets/prototypes.json").read_text())}
    for row in datacard.known_hydrides():
        assert row.prototype in types
        assert row.forms in {"ambient", "metastable", "under pressure"}
        assert bool(row.lattice) == bool(row.source)
        if row.lattice:
            lattice, metals = datacard._experimental(row)
            assert isinstance(lattice, Lattice)
            assert 8 < lattice.volume / metals < 100, row  # Å³ for each metal atom


def test_volumes_against_dft_are_those_of_matching_cells(tmp_path, palladium):
    import ase.io

    chosen = palladium.structures[:6]
    ase.io.write(
        tmp_path / "dft.extxyz",
        [s.copy().scale_lattice(s.volume * 0.95).to_ase_atoms() for s in chosen],
        format="extxyz",
    )
    row = datacard._dft_row(tmp_path / "dft.extxyz")
    assert (row.cells, row.matched) == (6, 6)
    assert row.mean_percent == pytest.approx(100 * (1 / 0.95 - 1), abs=0.02)


def test_the_card_holds_what_the_command_says(report):
    text = resource("assets/data-card.md").read_text()
    upper, lower = text.split(datacard_text.MARK)
    assert "not DFT" in upper
    cells = sum(row.kept for row in report.classes)
    assert f"{cells} cells in {len(report.classes)} classes" in lower
    ours = datacard_text.markdown(report).splitlines()
    missing = [line for line in ours if line not in lower]
    assert not missing
