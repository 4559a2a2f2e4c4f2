"""Elements that a potential gives numbers for but was hardly trained on: which they are, and where
it is said."""

import csv
import io
import json
import math
import shutil
import zipfile

import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Element, Lattice, Structure
from test_app import _not_the_first_visit, open_page  # noqa: F401 - a fixture of every test

from crystalgan.potentials.registry import LEFT_OUT, untrained
from crystalgan.runs.database import load_candidate
from crystalgan.runs.fitting import untrained_warning
from crystalgan.runs.folder import SHIPPED, Run
from crystalgan.stability.export import export
from crystalgan.stability.relaxations import Relaxations, open_relaxed
from ui import cached

WORDS = "CHGNet was hardly trained on Ra: its energies mean nothing."


def test_they_are_the_ones_whose_embeddings_are_as_they_were_drawn():
    """A vector of 64 normal numbers is 8.0 ± 0.7 long; training has made all others longer by
    far."""
    from chgnet.model import CHGNet

    weights = (
        CHGNet.load(verbose=False, use_device="cpu")
        .atom_embedding.embedding.weight.detach()
        .numpy()
    )
    assert weights.shape == (94, 64)
    norms = {
        Element.from_Z(z + 1).symbol: float(norm)
        for z, norm in enumerate(np.linalg.norm(weights, axis=1))
    }
    drawn = [
        symbol for symbol, norm in norms.items() if abs(norm - math.sqrt(64)) < 3 * math.sqrt(0.5)
    ]
    assert sorted(drawn) == sorted(LEFT_OUT)
    assert (
        min(norm for symbol, norm in norms.items() if symbol not in (*LEFT_OUT, "Ne", "Ar")) > 17.9
    )


@pytest.mark.parametrize(
    ("potential", "species", "words"),
    [
        ("chgnet", ("H", "Ra", "Pd"), WORDS),
        ("CHGNet", ("H", "Ra", "Ra"), WORDS),
        (
            "SevenNet",
            ("H", "Po", "Fr"),
            "SevenNet was hardly trained on Po and Fr: its energies mean nothing.",
        ),
        ("CHGNet", ("H", "Pd", "Ni"), ""),
        ("EMT", ("H", "Ra"), ""),  # nothing is known of it
    ],
)
def test_one_sentence_names_them(potential, species, words):
    assert untrained(potential, species) == words


def of_radium(path):
    """The shipped run, as if its palladium were radium."""
    run = Run(shutil.copytree(SHIPPED / "Pd-Ni-H_shipped", path))
    config = run.folder / "config.json"
    about = json.loads(config.read_text())
    text = json.dumps(about).replace('"Pd"', '"Ra"')
    config.write_text(text)
    from ase.db import connect

    rows = connect(run.folder / "candidates.db")
    for row in list(rows.select("id<=2")):
        atoms = row.toatoms()
        atoms.symbols[[symbol == "Pd" for symbol in atoms.symbols]] = "Ra"
        rows.update(row.id, atoms=atoms)
    return Run(run.folder)


def test_it_is_said_before_anything_is_relaxed_and_beside_what_comes_out(
    crystalgan, tmp_path, monkeypatch
):
    run = of_radium(tmp_path / "run")
    assert run.species == ("H", "Ra", "Ni")

    def relax(*words):
        words[8](1, 1, "1: converged")  # its progress
        return Relaxations(1, 1, 0)

    monkeypatch.setattr("crystalgan.stability.relaxations.relax_candidates", relax)
    _, out, err = crystalgan("relax", run.folder, "--select", "1", "--json")
    assert f"warning: {WORDS}" in err
    assert err.index(WORDS) < err.index("relaxed")  # the bar comes after
    assert json.loads(out)["warnings"] == [WORDS]
    _, out, err = crystalgan("stability", run.folder)
    assert WORDS in err
    assert untrained_warning(run).startswith(WORDS)
    _, out, err = crystalgan("relax", SHIPPED / "Pd-Ni-H_shipped", "--select", "1", "--json")
    assert "warning" not in err + out


def as_if_relaxed(run, number):
    """A row as CHGNet would leave it."""
    cell = load_candidate(run, number)
    columns = {
        "candidate": number,
        "phase": "",
        "potential": "CHGNet",
        "version": "0.3.0 (chgnet)",
        "settings": "300 steps",
        "steps": 1,
    }
    columns |= {
        "state": "converged",
        "force": 0.01,
        "energy_per_atom": -4.0,
        "volume_change": 0.0,
        "displacement": 0.0,
    }
    columns |= {"spacegroup": 1, "spacegroup_symbol": "P1"}
    lattices, positions = cell.lattice.matrix[None], cell.cart_coords[None]
    data = {
        "reason": "",
        "energies": [-4.0],
        "frames": [0],
        "lattices": lattices,
        "positions": positions,
    }
    open_relaxed(run, make=True).write(cell.to_ase_atoms(), key_value_pairs=columns, data=data)


def test_it_stands_in_the_table_of_an_export(tmp_path):
    run = of_radium(tmp_path / "run")
    as_if_relaxed(run, 1)
    export(run, tmp_path / "out.zip", "1,2")
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        lines = list(csv.DictReader(io.StringIO(archive.read("candidates.csv").decode())))
    assert [line["energy_warning_CHGNet"] for line in lines] == [WORDS, ""]


def test_it_stands_on_the_pages(tmp_path, monkeypatch):
    """Before the button that relaxes, beside the energies and the hydrogen, and in the name of
    Explore's column."""
    run = of_radium(tmp_path / "radium")
    app = open_page(monkeypatch, tmp_path, "stability", run="radium")
    assert [box.value for box in app.warning] == [WORDS]
    as_if_relaxed(run, 1)
    app.run()
    app.segmented_control(key="relaxed_show").set_value("Hydrogen").run()
    assert not app.exception
    assert sum(box.value == WORDS for box in app.warning) == 2
    table = pd.DataFrame({"id": [1, 2]})
    monkeypatch.setattr(
        cached, "stability", lambda *_: (None, pd.DataFrame({"id": [1], "above_hull": [0.1]}), "")
    )
    assert list(cached.with_energies(run, table)) == ["id", f"e_above_hull ({WORDS})"]


def test_the_doctor_says_so_of_a_class(crystalgan, tmp_path):
    for k, a in enumerate((6.0, 6.2)):
        cell = Structure.from_spacegroup(
            "Fm-3m", Lattice.cubic(a), ["Ra", "H"], [[0, 0, 0], [0.25, 0.25, 0.25]]
        )
        (tmp_path / f"{k}.vasp").write_text(cell.get_primitive_structure().to(fmt="poscar"))
    _, out, _ = crystalgan("check", tmp_path)
    assert f"note      {WORDS}" in out
