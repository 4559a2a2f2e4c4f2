"""What several test modules need: classes, a small trained run, crystals at random."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from pymatgen.core import Lattice, Structure

from crystalgan.__main__ import main
from crystalgan.config import Config
from crystalgan.crystal.cells import Cells
from crystalgan.data.classes import load_class

if TYPE_CHECKING:
    from crystalgan.runs.folder import Run

# the paper's own cells; not part of the project
AUTHORS_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

torch.set_num_threads(1)
# the servers that tests start are here, whatever proxy the user has
os.environ["no_proxy"] = "127.0.0.1"


@pytest.fixture(scope="session")
def palladium():
    return load_class("Pd")


@pytest.fixture(scope="session")
def nickel():
    return load_class("Ni")


@pytest.fixture(scope="module")
def small_run(tmp_path_factory, palladium, nickel):
    """A run of 3 + 3 epochs with 40 candidates."""
    from crystalgan.runs.candidates import generate
    from crystalgan.runs.training import train

    run = train(
        palladium,
        nickel,
        Config(epochs1=3, epochs2=3, rule="paper"),
        tmp_path_factory.mktemp("runs"),
    )
    generate(run, 40)
    return run


@pytest.fixture(scope="session")
def studied(tmp_path_factory):
    """Table II of Pd-Ni with two seeds of 2 + 2 epochs: the folder of runs, the one of the study in
    it, and the result."""
    from crystalgan.studies.stacks import load_pair
    from crystalgan.studies.table2 import table2

    root = tmp_path_factory.mktemp("studied")
    (result,) = table2([load_pair("Pd-Ni")], Config(epochs1=2, epochs2=2, rule="paper"), 2, root)
    (folder,) = root.glob("table2/*")
    return root, folder, result


@pytest.fixture(scope="session")
def studied_run(studied):
    """A finished run of it with 40 candidates, to look at and not to change."""
    from crystalgan.runs.candidates import generate
    from crystalgan.runs.folder import list_runs

    (run,) = [run for run in list_runs(studied[1] / "crystalgan") if run.config.seed == 0]
    generate(run, 40)
    return run


@pytest.fixture
def crystalgan(monkeypatch, capsys):
    """Run a command in this process; returns exit code, stdout and stderr."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["crystalgan", *map(str, words)])
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = ended.code or 0
        out = capsys.readouterr()
        return code, out.out, out.err

    return run


def random_crystals(
    rng: np.random.Generator, count: int, atoms: int | None = None
) -> list[Structure]:
    """Crystals of H, Pd and Ni with angles from 30 to 150 degrees and 1 to 20 atoms, H first; few
    are reduced, many are flat."""
    out = []
    while len(out) < count:
        lattice = Lattice.from_parameters(*rng.uniform(2, 8, 3), *rng.uniform(30, 150, 3))
        if not np.isfinite(lattice.matrix).all() or lattice.volume < 0.5:
            continue
        n = atoms or int(rng.integers(1, 21))
        kinds = sorted(rng.integers(0, 3, n))
        out.append(
            Structure(lattice, [("H", "Pd", "Ni")[k] for k in kinds], rng.uniform(-1, 2, (n, 3)))
        )
    return out


def raw_cells(structures: list[Structure], dtype: torch.dtype = torch.float64) -> Cells:
    """Structures as tensors exactly as they are, neither reduced nor reordered."""
    species = ("H", "Pd", "Ni")
    frac = torch.zeros(len(structures), 3, 24, 3, dtype=dtype)
    mask = torch.zeros(frac.shape[:-1], dtype=torch.bool)
    for i, structure in enumerate(structures):
        for j, symbol in enumerate(species):
            rows = [s.frac_coords for s in structure if s.specie.symbol == symbol]
            if rows:
                frac[i, j, : len(rows)] = torch.tensor(np.array(rows), dtype=dtype)
                mask[i, j, : len(rows)] = True
    lattice = torch.tensor(np.array([s.lattice.matrix for s in structures]), dtype=dtype)
    return Cells(lattice, frac, mask, species)


def nearly_symmetric(shift: float = 0.03) -> tuple[Structure, Structure]:
    """A tetragonal cell of PdNiH2, P4/mmm, and the same with every atom off its site by `shift`
    Å."""
    exact = Structure.from_spacegroup(
        "P4/mmm",
        Lattice.tetragonal(2.8, 7.4),
        ["Pd", "Ni", "H"],
        [[0, 0, 0], [0.5, 0.5, 0.5], [0, 0, 0.25]],
    )
    steps = np.random.default_rng(1).normal(size=(len(exact), 3))
    steps *= shift / np.linalg.norm(steps, axis=1, keepdims=True)
    return exact, Structure(
        exact.lattice, exact.species, exact.cart_coords + steps, coords_are_cartesian=True
    )


def put_in(run: Run, number: int, structure: Structure) -> None:
    """Make this the cell of a candidate, verdicts left as they are."""
    from crystalgan.runs.database import open_database

    open_database(run).update(number, atoms=structure.to_ase_atoms())
