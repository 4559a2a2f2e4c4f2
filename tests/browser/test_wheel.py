"""The wheel, installed into an empty environment and used from an empty folder: the commands, the
library's data, the app in a browser."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zipfile

import pytest
from playwright.sync_api import expect
from pymatgen.core import Structure

from .conftest import ROOT, Server
from .steps import candidate_in_address, element, go, picture, settled, viewer

ELSEWHERE = {
    name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}
} | {"OMP_NUM_THREADS": "1"}


def done(*command, cwd, **changed):
    """The output of a command that must succeed, without this checkout on its path."""
    ended = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=ELSEWHERE | changed,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, f"{command}\n{ended.stdout}\n{ended.stderr}"
    return ended.stdout


# The commands of one process, which starts up once for all: what each of them said.
COMMANDS = """
import contextlib, io, json, sys
from crystalgan.__main__ import main
answers = []
for words in sys.argv[1:]:
    sys.argv = ["crystalgan", *words.split()]
    with contextlib.redirect_stdout(io.StringIO()) as said:
        try:
            main()
        except SystemExit as ended:
            if ended.code:
                raise
    answers.append(said.getvalue())
print(json.dumps(answers))
"""


def in_one_process(environment, cwd, *commands):
    return json.loads(done(environment / "python", "-c", COMMANDS, *commands, cwd=cwd))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    done(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=ROOT)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """The `bin` folder of an environment that held nothing before."""
    folder = tmp_path_factory.mktemp("environment")
    done(sys.executable, "-m", "venv", "--without-pip", folder, cwd=ROOT)
    target = ["--python", folder / "bin" / "python"]
    locked = ["-c", ROOT / "requirements.txt", wheel]
    # what the wheel asks for, in the versions of the lock
    done(sys.executable, ROOT / "tools" / "uv.py", "pip", "install", *target, *locked, cwd=ROOT)
    return folder / "bin"


@pytest.fixture(scope="module")
def nowhere(tmp_path_factory):
    return tmp_path_factory.mktemp("nowhere")


def test_holds_library_data_and_app_and_no_more(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    bundled = {name.removeprefix("crystalgan/bundle/") for name in names if "/bundle/" in name}
    tracked = subprocess.run(
        ["git", "ls-files", "app.py", "pages", "ui", "assets", ".streamlit"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert bundled == set(tracked)
    assert {name.split("/")[0] for name in names} == {
        "crystalgan",
        f"{wheel.name.split('-py3')[0]}.dist-info",
    }
    assert "crystalgan/py.typed" in names
    assert not [name for name in names if "test" in name.lower() or "__pycache__" in name]


@pytest.mark.slow
def test_from_two_metals_to_a_zip(environment, nowhere):
    command = environment / "crystalgan"
    place = done(
        environment / "python", "-c", "import crystalgan; print(crystalgan.__file__)", cwd=nowhere
    )
    assert place.startswith(str(environment.parent))
    classes = json.loads(done(command, "classes", "--json", cwd=nowhere))
    assert {"Pd", "Ni"} <= {found["metal"] for found in classes["classes"]}
    # the paper's settings need no potential and few compiled functions, which are slow at first
    name = "Pd-Ni-H_crystalgan_seed0_001"
    run, made = in_one_process(
        environment,
        nowhere,
        "train Pd Ni --preset paper --epochs 2 --json",
        f"generate runs/{name} -n 10 --json",
        f"export runs/{name} --select all --out cells.zip",
    )[:2]
    assert json.loads(run)["epochs"] == [2, 2]
    assert json.loads(made)["candidates"] == 10
    with zipfile.ZipFile(nowhere / "cells.zip") as written:
        (one, *others) = [name for name in written.namelist() if name.endswith(".vasp")]
        cell = Structure.from_str(io.TextIOWrapper(written.open(one)).read(), fmt="poscar")
    assert len(others) == 9
    assert {"Pd", "Ni", "H"} == {site.specie.symbol for site in cell}
    assert {path.name for path in nowhere.iterdir()} == {"runs", "cells.zip"}


def test_the_app_opens(environment, nowhere, new_page):
    server = Server(nowhere / "runs", (environment / "crystalgan",), nowhere, PYTHONPATH="")
    try:
        page = new_page(first=True)
        # a first visitor, of a server that has shown no page yet, may come by a link
        page.goto(f"{server.url}/explore?run=Pd-Ni-H_shipped&candidate=4")
        expect(page.get_by_role("heading", name="Explore", exact=True)).to_be_visible()
        expect(page.get_by_role("link", name="Export", exact=True).first).to_be_visible()
        settled(page)
        assert candidate_in_address(page) == 4
        assert page.title() == "CrystalGAN"
        viewer(page)  # of the run that comes along
        go(page, "Pair")
        expect(element(page, "Pd")).to_be_visible()
        settled(page)
        picture(page, "wheel")
    finally:
        server.close()
