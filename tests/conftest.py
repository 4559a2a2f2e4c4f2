"""What several test modules need: classes, a small trained run, crystals at random."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from filelock import FileLock
from processes import command
from pymatgen.core import Lattice, Structure

from crystalgan.__main__ import main
from crystalgan.config import Config
from crystalgan.crystal.cells import Cells
from crystalgan.data.classes import load_class

if TYPE_CHECKING:
    from crystalgan.runs.folder import Run

# the paper's own cells; not part of the project
AUTHORS_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

# settings without a pair potential, whose fit takes longer than a short training
NO_POTENTIAL = {"lambda_energy": 0, "prerelax": 0}
# the same as options of a command
WITHOUT_POTENTIAL = tuple(w for k, v in NO_POTENTIAL.items() for w in ("--set", f"{k}={v}"))

torch.set_num_threads(1)
# the servers that tests start are here, whatever proxy the user has
os.environ["no_proxy"] = "127.0.0.1"


@pytest.fixture(scope="session", autouse=True)
def caches(tmp_path_factory):
    """Caches of this session alone, shared by its workers: nothing is left from another."""
    own = tmp_path_factory.getbasetemp()
    root = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    os.environ["XDG_CACHE_HOME"] = str(root / "cache")


@pytest.fixture(scope="session")
def palladium():
    return load_class("Pd")


@pytest.fixture(scope="session")
def nickel():
    return load_class("Ni")


@pytest.fixture(scope="session")
def made_once(tmp_path_factory):
    """Return a function that makes a folder once for all workers: `made_once(name, make)`."""
    own = tmp_path_factory.getbasetemp()
    root = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own

    def once(name, make):
        folder = root / name
        with FileLock(root / f"{name}.lock"):
            if not folder.exists():
                shutil.rmtree(root / f"{name}.part", ignore_errors=True)
                (root / f"{name}.part").mkdir()
                make(root / f"{name}.part")
                (root / f"{name}.part").rename(folder)
        return folder

    return once


@pytest.fixture(scope="session")
def trained_folder(made_once, palladium, nickel):
    """The folder of a run of 3 + 3 epochs with 40 candidates, made once; tests take copies."""
    from crystalgan.runs.candidates import generate
    from crystalgan.runs.training import train

    def make(folder):
        config = Config(epochs1=3, epochs2=3, rule="paper")
        generate(train(palladium, nickel, config, folder), 40)

    (folder,) = made_once("trained", make).glob("*/config.json")
    return folder.parent


@pytest.fixture(scope="session")
def default_folder(made_once, palladium, nickel):
    """The folder of a run of 2 + 2 epochs with the default settings, 20 candidates, made once."""
    from crystalgan.runs.candidates import generate
    from crystalgan.runs.training import train

    def make(folder):
        generate(train(palladium, nickel, Config(epochs1=2, epochs2=2), folder), 20)

    (folder,) = made_once("default", make).glob("*/config.json")
    return folder.parent


class EnoughError(Exception):
    """A search that a test ends after a round, whatever its CPU time."""


@pytest.fixture(scope="session")
def searched_folder(made_once, palladium, nickel):
    """The folder of a search of PdNiH by random cells of 3 atoms, ended with two phases, made once;
    tests take copies."""
    from crystalgan.discovery.discover import discover
    from crystalgan.discovery.record import Wanted

    def progress(step):
        if step.found >= 2:
            raise EnoughError

    def make(folder):
        wanted = Wanted("PdNiH", 3, sources=("random",))
        with pytest.raises(EnoughError):
            discover(palladium, nickel, 600, wanted, folder, progress=progress)

    (folder,) = made_once("searched", make).glob("*/config.json")
    return folder.parent


@pytest.fixture(scope="module")
def small_run(trained_folder, tmp_path_factory):
    """A run of 3 + 3 epochs with 40 candidates, a copy for each module."""
    from crystalgan.runs.folder import Run

    root = tmp_path_factory.mktemp("runs")
    return Run.open(shutil.copytree(trained_folder, root / trained_folder.name))


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


def in_a_shell(*words: object) -> subprocess.CompletedProcess[str]:
    """What a command says in a process of its own, as in a shell."""
    process = command(*words)
    code = process.wait()
    return subprocess.CompletedProcess(list(words), code, process.stdout, process.stderr)


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
