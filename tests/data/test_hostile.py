"""Broken and hostile files beside good ones: each is refused with file and reason, and the good
ones are read.

`python -m benchmarks.hostile` measures how long each takes and how much memory; here a bound of 10
s and 400 MB catches what has no limit at all.
"""

import os
import resource
import signal
import tempfile
import zipfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.hostile import cases, verdict
from benchmarks.hostile_files import GOOD, POSCAR
from crystalgan.data.classes import load_class
from crystalgan.data.readers import read_entries
from crystalgan.errors import InputError

CASES = cases()


@contextmanager
def bounded(seconds: int = 10, megabytes: int = 400):
    """An alarm, and an end to what memory can be had."""

    def late(*_):
        raise TimeoutError(f"not done after {seconds} s")

    with open("/proc/self/statm", encoding="ascii") as statm:
        used = int(statm.read().split()[0]) * resource.getpagesize()
    limits, before = resource.getrlimit(resource.RLIMIT_AS), signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    resource.setrlimit(resource.RLIMIT_AS, (used + megabytes * 1_000_000, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module", autouse=True)
def _imported(tmp_path_factory):
    """What the first read imports takes memory that is no file's."""
    folder = tmp_path_factory.mktemp("good")
    for case in ("lattice0.json", "cell4.db", "lattice0.xyz"):
        next(c for c in CASES if c.name == case).make(folder)
    assert len(read_entries(folder)[0]) == len(GOOD)


def test_there_are_more_than_200_over_all_formats():
    assert len(CASES) > 200
    for ending in ("vasp", "cif", "xyz", "json", "mat", "db", "gz"):
        assert sum(case.name.endswith(ending) for case in CASES) >= 5
    assert sum(case.place == "zip" for case in CASES) > 20


@pytest.mark.parametrize(
    "case",
    CASES,
    ids=[f"{case.place}-{case.name[:40].encode('unicode_escape').decode()}" for case in CASES],
)
def test_a_bad_file_is_refused_and_good_files_beside_it_are_read(tmp_path, case):
    path = case.make(tmp_path)
    before = sorted(tmp_path.iterdir())
    with bounded():
        assert verdict(case, path) == ""
        bad = path if case.place == "whole" else tmp_path / case.name
        if case.place != "zip" and bad.is_file() and not bad.is_symlink():
            with pytest.raises(InputError) as error:
                load_class(bad)
            assert bad.name in str(error.value)
            assert len(str(error.value).splitlines()) == 1
    assert sorted(tmp_path.iterdir()) == before


@pytest.fixture
def open_folder():
    """A folder that every user may enter; pytest's own are closed to others."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_what_may_not_be_read_is_named(open_folder):
    folder = open_folder
    (folder / "good.vasp").write_text(POSCAR)
    (folder / "locked.vasp").write_text(POSCAR)
    (folder / "locked.vasp").chmod(0)
    (folder / "cells").mkdir(mode=0)
    user = os.geteuid()
    try:
        if user == 0:  # whom no permission stops
            os.seteuid(65534)
        entries, left_out = read_entries(folder)
    finally:
        os.seteuid(user)
        (folder / "cells").chmod(0o755)
    assert [entry.where for entry in entries] == [str(folder / "good.vasp")]
    assert {str(x) for x in left_out} == {
        f"{folder / name}: cannot be read (Permission denied)" for name in ("cells", "locked.vasp")
    }


def test_a_link_that_stays_in_the_folder_is_read(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "good.vasp").write_text(POSCAR)
    (tmp_path / "b.vasp").symlink_to("a/good.vasp")
    (tmp_path / "c").symlink_to("a")
    entries, left_out = read_entries(tmp_path)
    assert [entry.where for entry in entries] == [
        str(tmp_path / "a" / "good.vasp"),
        str(tmp_path / "b.vasp"),
    ]
    assert not left_out


def test_a_folder_of_very_many_files_is_refused(tmp_path):
    for i in range(10_001):
        (tmp_path / str(i)).touch()
    with bounded(), pytest.raises(InputError, match="holds more than 10000 files"):
        read_entries(tmp_path)


def test_a_zip_leaves_out_a_climbing_path_and_reads_the_rest(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("../../x.vasp", POSCAR)
        archive.writestr("good.vasp", POSCAR)
        archive.writestr("also.vasp", POSCAR)
    kept = load_class(tmp_path / "x.zip", skip_bad=True)
    assert len(kept) == 2
    assert [str(x) for x in kept.left_out] == [
        f"{tmp_path}/x.zip/../../x.vasp: has a path that leads out of the archive"
    ]
    assert [file.name for file in tmp_path.iterdir()] == ["x.zip"]
