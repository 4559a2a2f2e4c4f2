"""A folder that may only be read, a disk that is full, another user: one sentence for every
command, and nothing is lost.

What each command writes is here once. The folder is a small disk of its own, mounted for the test;
where that is not allowed, or one is not root, the tests say so by being skipped.
"""

import errno
import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import zipfile
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from conftest import nearly_symmetric, put_in

from crystalgan.config import Config
from crystalgan.errors import InputError
from crystalgan.runs.database import candidates_table, decide
from crystalgan.runs.folder import SHIPPED, Run
from crystalgan.runs.run_zip import pack_run, unpack_run
from crystalgan.runs.training import new_run, resume
from crystalgan.storage import problem, write_whole
from crystalgan.studies import datacard, datacard_text

NOBODY = 65534
EMT = "ase.calculators.emt.EMT"
SMALL = ("--epochs", 1, "--seeds", 1, "--jobs", 1)

# What each command that writes is asked for, `place` being where it writes.
WRITING = {
    "train": lambda place: ("train", "Pd", "Ni", "--epochs", 1, "--runs", place / "runs"),
    "resume": lambda place: ("resume", place / "new"),
    "step2": lambda place: ("step2", place / "run", "--runs", place / "runs"),
    "generate": lambda place: ("generate", place / "run", "-n", 8),
    "novelty": lambda place: ("novelty", place / "run"),
    "symmetrize": lambda place: ("symmetrize", place / "run", 3, "--tolerance", 0.1),
    "relax": lambda place: (
        "relax",
        place / "run",
        "--select",
        "1",
        "--potential",
        EMT,
        "--steps",
        1,
    ),
    "export": lambda place: ("export", place / "run", "--select", "1", "--out", place / "x.zip"),
    "check --figure": lambda place: ("check", "Ni", "--figure", place / "x.html"),
    "check --cleaned": lambda place: ("check", "Ni", "--cleaned", place / "x.extxyz"),
    "fetch --out": lambda place: (
        "fetch",
        "Pd",
        "H",
        "--from",
        "mp",
        "--cache",
        place / "cache",
        "--out",
        place / "x.extxyz",
    ),
    "table2": lambda place: ("table2", "Pd-Ni", *SMALL, "--runs", place / "runs"),
    "ablation": lambda place: ("ablation", *SMALL, "--runs", place / "runs"),
    "search": lambda place: (
        "search",
        "--trials",
        1,
        "--epochs",
        1,
        "--jobs",
        1,
        "--runs",
        place / "runs",
    ),
    "race": lambda place: (
        "race",
        "Pd",
        "Ni",
        "--minutes",
        0.01,
        "--epochs",
        1,
        "--runs",
        place / "runs",
    ),
    "rediscover": lambda place: (
        "rediscover",
        place / "known.vasp",
        "--minutes",
        0.01,
        "--epochs",
        1,
        "--runs",
        place / "runs",
    ),
    "build-classes": lambda place: (
        "build-classes",
        "Ni",
        "--work",
        place / "work",
        "--out",
        place / "classes",
    ),
    "data-card": lambda _: ("data-card", "--write"),
}
READING = {
    "metrics": lambda place: ("metrics", place / "run"),
    "export": lambda place: (
        "export",
        place / "run",
        "--select",
        "1",
        "--out",
        place.parent / "elsewhere.zip",
    ),
}
PD_NI_H = (
    "PdNiH2\n1.0\n2.8 0 0\n0 2.8 0\n0 0 7.4\nH Pd Ni\n2 1 1\nDirect\n0 0 .25\n0 0 .75\n0 0 0\n.5 .5"
    " .5\n"
)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """What lies in the folder before anything is asked for."""
    folder = tmp_path_factory.mktemp("source")
    shutil.copytree(SHIPPED / "Pd-Ni-H_shipped", folder / "run")
    with sqlite3.connect(folder / "run" / "candidates.db") as connection:
        for table in ("species", "keys", "text_key_values", "number_key_values", "systems"):
            connection.execute(f"DELETE FROM {table} WHERE id > 6")
    connection.execute("VACUUM")
    connection.close()
    put_in(Run(folder / "run"), 3, nearly_symmetric()[1])
    new_run("Pd", "Ni", Config.paper(epochs1=2, epochs2=1), folder / "made").folder.rename(
        folder / "new"
    )
    (folder / "made").rmdir()
    (folder / "known.vasp").write_text(PD_NI_H)
    (folder / "work").mkdir()
    (folder / "work" / "H.jsonl").write_text(
        '{"metal": "H", "prototype": "none"}\n{"metal": "H", "proto'
    )  # cut by a kill: to be mended first of all
    (folder / "runs").mkdir()
    (folder / "data-card.md").write_text("the card\n")
    answered(folder / "cache")
    return folder


def answered(cache):
    """An answer of a database in the cache, so that none is asked."""
    import hashlib
    from urllib.parse import urlsplit

    from crystalgan.data.providers import base_url

    url = base_url("mp")
    folder = cache / f"{urlsplit(url).hostname}-{hashlib.sha256(url.encode()).hexdigest()[:8]}"
    folder.mkdir(parents=True)
    path = folder / "H-Pd_upto100atoms.extxyz"
    path.write_text(
        '1\nLattice="3 0 0 0 3 0 0 0 3" Properties=species:S:1:pos:R:3 pbc="T T T"\nPd 0 0 0\n'
    )
    about = {
        "system": "H-Pd",
        "provider": "x",
        "licence": "x",
        "url": url,
        "retrieved": "x",
        "structures": 1,
        "left_out": [],
    }
    about |= {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    path.with_suffix(".json").write_text(json.dumps(about))


@pytest.fixture
def disk(tmp_path, source):
    """A small disk of its own that holds what `source` does."""
    place = tmp_path / "disk"
    place.mkdir()
    if (
        os.geteuid()
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", place], check=False
        ).returncode
    ):
        pytest.skip("no disk may be mounted here")
    shutil.copytree(source, place, dirs_exist_ok=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


@pytest.fixture
def read_only(disk):
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    return disk


def fill(disk):
    """Take all the room that is left."""
    with (disk / "filler").open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            with suppress(OSError):
                while file.write(b"\0" * size):
                    pass
    assert not shutil.disk_usage(disk).free


@contextmanager
def another_user():
    if os.geteuid():
        pytest.skip("only root can be another user")
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def assert_one_sentence(answer, name, place, *words):
    code, out, err = answer
    last = err.replace("\r", "\n").strip().splitlines()[-1]
    assert code == 2, (name, code, err)
    assert not out, (name, out)
    assert "Traceback" not in err, (name, err)
    assert last.startswith("crystalgan: "), (name, err)
    assert last.endswith("."), (name, last)
    assert str(place) in last, (name, last)
    assert any(word in last for word in words), (name, last)
    assert "damaged" not in last, (name, last)


def put_card_in(folder, monkeypatch):
    monkeypatch.setattr(datacard_text, "resource", lambda name: folder / Path(name).name)


@pytest.fixture(autouse=True)
def card(monkeypatch, tmp_path):
    """The report of the data card takes long, and here matters only where it is written."""
    put_card_in(tmp_path, monkeypatch)  # never the one of the project
    monkeypatch.setattr(datacard, "report", lambda _: datacard.DataCard([], [], [], []))
    monkeypatch.setattr(datacard_text, "markdown", lambda _: "the report")


def test_a_folder_that_may_only_be_read_is_one_sentence_for_every_command(
    crystalgan, read_only, monkeypatch
):
    put_card_in(read_only, monkeypatch)
    for name, words in WRITING.items():
        assert_one_sentence(crystalgan(*words(read_only)), name, read_only, "may only be read")
    for name, words in READING.items():
        assert crystalgan(*words(read_only))[0] == 0, name


def test_a_full_disk_is_one_sentence_for_every_command_and_nothing_is_lost(
    crystalgan, disk, monkeypatch
):
    fill(disk)
    put_card_in(disk, monkeypatch)
    for name, words in WRITING.items():
        assert_one_sentence(crystalgan(*words(disk)), name, disk, "disk is full")
        assert not [path for path in disk.rglob(".*") if path.is_file() and path.stat().st_size], (
            name
        )
    for name, words in READING.items():
        assert crystalgan(*words(disk))[0] == 0, name
    (disk / "filler").unlink()
    assert len(candidates_table(Run.open(disk / "run"))) == 6
    assert json.loads(crystalgan(*WRITING["generate"](disk), "--json")[1])["candidates"] == 8
    assert crystalgan(*WRITING["resume"](disk))[0] == 0
    assert Run.open(disk / "new").status().state == "finished"


def test_a_disk_that_fills_up_stops_a_training_which_goes_on_when_there_is_room(disk):
    """In the middle, where the lines of every epoch are written."""
    run = Run.open(disk / "new")
    with pytest.raises(InputError, match=r"the disk is full\); make room"):
        resume(run, lambda step, epoch, *_: fill(disk) if (step, epoch) == (1, 1) else None)
    assert run.status().state in {"failed", "stopped"}
    (disk / "filler").unlink()
    whole = resume(run)
    assert whole.status().state == "finished"
    assert [(line["step"], line["epoch"]) for line in whole.metrics()] == [(1, 1), (1, 2), (2, 1)]


@pytest.fixture
def common(source):
    """A folder that everybody may enter, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        place = Path(shutil.copytree(source, Path(folder) / "place"))
        place.chmod(0o755)
        yield place


def test_another_user_may_look_and_is_told_whose_the_folder_is(
    crystalgan, common, read_only, monkeypatch
):
    # what is imported late could not be found by another user
    for words in (WRITING | READING).values():
        crystalgan(*words(read_only))
    put_card_in(common, monkeypatch)
    for name, words in WRITING.items():
        words = words(common)  # noqa: PLW2901
        with another_user():
            answer = crystalgan(*words)
        assert_one_sentence(answer, name, common, "no permission to write")
        assert "its owner root" in answer[2], name
    elsewhere = common.parent / "elsewhere"
    elsewhere.mkdir()
    elsewhere.chmod(0o777)
    with another_user():
        assert crystalgan("metrics", common / "run")[0] == 0
        assert (
            crystalgan("export", common / "run", "--select", "1", "--out", elsewhere / "x.zip")[0]
            == 0
        )
        assert Run.open(common / "run").status().state == "finished"
        with pytest.raises(InputError, match="no permission to write"):
            decide(Run.open(common / "run"), [1], "kept")


@pytest.mark.parametrize(
    "file",
    ["config.json", "status.json", "classes.safetensors", "step2.safetensors", "candidates.db"],
)
def test_a_file_that_may_not_be_read_is_not_damaged(common, file):
    Run.open(common / "run").load("classes.safetensors")  # imports what another user could not find
    candidates_table(Run.open(common / "run"))
    (common / "run" / file).chmod(0o600)

    def use():
        run = Run.open(common / "run")
        run.status()
        run.load("classes.safetensors")
        run.load("step2.safetensors")
        candidates_table(run)

    with another_user(), pytest.raises(InputError) as error:
        use()
    assert f"{file}: no permission to read it; its owner root can give it (chmod a+r)." in str(
        error.value
    )


def test_everything_has_the_mode_that_new_files_have(crystalgan, tmp_path, source):
    """Here one that lets the group write, as in a folder of a group."""
    from crystalgan.stability.relaxations import open_relaxed
    from ui.work import keep

    mask = 0o002
    before = os.umask(mask)
    try:
        run = resume(
            new_run(
                "Pd",
                "Ni",
                Config.paper(epochs1=1, epochs2=1, checkpoint_every=1),
                tmp_path / "runs",
            )
        )
        crystalgan("generate", run.folder, "-n", 2)
        open_relaxed(run, make=True)
        decide(run, [1], "kept")
        crystalgan("export", run.folder, "--select", "1", "--out", tmp_path / "x.zip")
        crystalgan(
            "check", "Ni", "--figure", tmp_path / "x.html", "--cleaned", tmp_path / "x.extxyz"
        )
        crystalgan(*WRITING["fetch --out"](source)[:-1], tmp_path / "fetched.extxyz")
        keep([("a.cif", b"a"), ("b.cif", b"b")], tmp_path)
        (run.folder / "step2.safetensors").chmod(0o600)  # as older ones were written
        unpacked = unpack_run(write(tmp_path / "run.zip", pack_run(run)), tmp_path / "runs")
    finally:
        os.umask(before)
    assert (unpacked.folder / "step2.safetensors").stat().st_mode & 0o777 == 0o666 & ~mask
    (run.folder / "step2.safetensors").chmod(0o666 & ~mask)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {
        "step1.safetensors",
        "candidates.db",
        "relaxed.db",
        ".vet.lock",
        "x.zip",
        "a.cif",
    }
    assert {path for path in files if path.stat().st_mode & 0o777 != 0o666 & ~mask} == set()
    assert {
        path
        for path in tmp_path.rglob("*")
        if path.is_dir() and path.stat().st_mode & 0o777 != 0o777 & ~mask
    } == set()
    for name in ("x.zip", "run.zip"):
        with zipfile.ZipFile(tmp_path / name) as archive:
            assert {stat.S_IMODE(member.external_attr >> 16) for member in archive.infolist()} == {
                0o644
            }


def write(path, data):
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("target", ["folder", "device", "nowhere", "no name"])
def test_what_no_file_can_be_is_refused_before_anything_is_written(tmp_path, target):
    path = {
        "folder": tmp_path,
        "device": Path(os.devnull),
        "nowhere": tmp_path / "a" / "b",
        "no name": Path(),
    }[target]
    with pytest.raises(InputError, match="cannot be written"):
        write_whole(path, "words")
    assert not list(tmp_path.iterdir())
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)


@pytest.mark.parametrize(
    "number",
    [errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ELOOP, 0],
)
@pytest.mark.parametrize("path", ["here", None, "x" * 300, "a\nb"])
def test_whatever_the_system_refuses_is_a_sentence(tmp_path, number, path):
    sentence = problem(OSError(number, os.strerror(number)), path and tmp_path / path)
    assert sentence.endswith(".")
    assert path is None or str(tmp_path) in sentence


NO_HOME = """
import __future__, importlib, os, pathlib, pwd, typing  # another user finds nothing below /root
os.setgroups([]); os.setgid(12345); os.setuid(12345)
del os.environ["HOME"]
import crystalgan
print(pathlib.Path.home(), os.path.expanduser("~"))
"""


def test_a_user_without_home_and_name_has_a_home_for_whoever_asks():
    """ASE asks on import, and what it raises would be taken for a fault of the file that is read
    with it."""
    if os.geteuid():
        pytest.skip("only root can be another user")
    answer = subprocess.run(
        [sys.executable, "-c", NO_HOME], capture_output=True, text=True, check=False
    )
    assert (answer.stdout, answer.stderr) == ("/nonexistent /nonexistent\n", "")
