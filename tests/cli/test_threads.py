"""A command takes one thread unless it is told otherwise."""

import os
import subprocess
import sys

import pytest

from crystalgan import __version__
from crystalgan.cli.threads import READ_BY_LIBRARIES, VARIABLE, threads_of

LOOK = (
    "import sys; from crystalgan.__main__ import main; sys.argv[1:] = {words}\n"
    "try: main()\n"
    "except SystemExit as ended: assert not ended.code, ended.code\n"
    "import torch; print(torch.get_num_threads(), file=sys.stderr)"
)


@pytest.mark.parametrize(("words", "count"), [((), 1), (("--threads", "2"), 2)])
def test_torch_takes(words, count):
    without = {*READ_BY_LIBRARIES, VARIABLE}
    environment = {name: value for name, value in os.environ.items() if name not in without}
    ended = subprocess.run(
        [sys.executable, "-c", LOOK.format(words=[*words, "train", "--help"])],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(ended.stderr.split()[-1]) == count


@pytest.mark.parametrize(
    ("asked", "variables", "count"),
    [
        (2, {"CRYSTALGAN_THREADS": "3"}, 2),
        (None, {"CRYSTALGAN_THREADS": "2", "OMP_NUM_THREADS": "3"}, 2),
        (None, {"OMP_NUM_THREADS": "2"}, 2),
        (None, {}, 1),
    ],
)
def test_what_is_said_first_goes_first(monkeypatch, asked, variables, count):
    for name in (*READ_BY_LIBRARIES, VARIABLE):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert threads_of(asked) == count


def test_what_is_no_number_is_said(crystalgan, monkeypatch):
    monkeypatch.setenv(VARIABLE, "many")
    code, _, said = crystalgan("classes", "--json")
    assert code == 2
    assert said.strip().endswith(
        "CRYSTALGAN_THREADS=many: write a whole number of threads, 1 or more."
    )


def test_the_version_is_said(crystalgan):
    assert crystalgan("--version") == (0, f"crystalgan {__version__}\n", "")
