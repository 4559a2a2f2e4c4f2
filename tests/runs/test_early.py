"""Readers beside writers that are just being started: whoever is early hears that nothing is there
yet, and nothing else."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import ase.db
import pytest
from ase import Atoms
from processes import command

from crystalgan.config import Config
from crystalgan.errors import InputError
from crystalgan.runs.database import candidates_table, get_row, open_database
from crystalgan.runs.folder import SHIPPED, Run
from crystalgan.runs.listing import copy_shipped, find_runs, list_runs
from crystalgan.runs.run_zip import pack_run, unpack_run
from crystalgan.runs.training import new_run
from crystalgan.stability.relaxations import potentials_of
from crystalgan.stability.selection import select_rows
from ui.work import keep

SHIPPED_RUN = SHIPPED / "Pd-Ni-H_shipped"
EARLY = ("holds no candidates yet", "holds no candidate 1", "no candidate is selected")

# Writes as `generate` and `relax` do: makes the databases and one row each; the barrier is a file
# that appears.
WRITER = """
import os, sys, time
from pathlib import Path
from ase.build import bulk
from crystalgan.runs.database import open_database
from crystalgan.stability.relaxations import open_relaxed
from crystalgan.runs.folder import Run
run = Run.open(sys.argv[1])
COLUMNS = {"potential": "EMT", "version": "v1", "settings": "", "state": "failed", "candidate": 1,
           "phase": "", "decision": "kept", "seed": 0, "number": 0, "draw": 0, "spacegroup": 1,
           "spacegroup_symbol": "P1", "ternary": False, "raw_passed": False, "unique": True,
           "duplicate_of": -1, "parent_a": 0, "parent_b": 0, "passed_paper": True,
           "passed_learned": True}
DATA = {"shortest": {}, "note": "", "verdicts": {}, "reason": ""}
print("ready", flush=True)
for number in map(int, sys.stdin):  # each line a round
    for name, open_it in (("candidates.db", open_database), ("relaxed.db", open_relaxed)):
        with run.hold(name), (database := open_it(run, make=True)):
            database.write(bulk("Pd"), key_value_pairs=COLUMNS, data=DATA)
    print("done", flush=True)
"""


def look(run):
    """What every page and command looks at; the sentences that it is told."""
    told = []
    for reader in (
        lambda: Run.open(run.folder).status(),
        lambda: open_database(run).count(),
        lambda: candidates_table(run),
        lambda: get_row(run, 1),
        lambda: select_rows(run, "kept"),
        lambda: potentials_of(run),
        run.metrics,
        lambda: find_runs(run.folder.parent).broken and pytest.fail("a run was left out"),
    ):
        try:
            reader()
        except InputError as error:
            told.append(str(error))
    return told


def test_300_readers_beside_writers_being_started_are_told_nothing_wrong(tmp_path):
    """60 rounds: the databases are deleted, and a real process makes them again while 5 readers
    look at them without a pause."""
    run = Run(shutil.copytree(SHIPPED_RUN, tmp_path / "run"))
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(run.folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert writer.stdout.readline() == "ready\n"
    told, looks, failures = set(), 0, []

    def read(until):
        nonlocal looks
        try:
            while not until.is_set():
                told.update(look(run))
                looks += 1
        # whatever a reader meets is what the test is about
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    for number in range(60):
        for name in ("candidates.db", "relaxed.db"):
            (run.folder / name).unlink(missing_ok=True)
        done = threading.Event()
        readers = [threading.Thread(target=read, args=(done,)) for _ in range(5)]
        for reader in readers:
            reader.start()
        try:
            writer.stdin.write(f"{number}\n")
            writer.stdin.flush()
            assert writer.stdout.readline() == "done\n"
        finally:  # else the readers would go on for ever
            done.set()
            for reader in readers:
                reader.join()
        assert select_rows(run, "kept")
    writer.communicate()
    assert not failures
    assert looks >= 300
    assert {sentence for sentence in told if not any(words in sentence for words in EARLY)} == set()


def test_commands_started_beside_a_writer_are_told_nothing_wrong(tmp_path):
    run = Run(shutil.copytree(SHIPPED_RUN, tmp_path / "run"))
    (run.folder / "candidates.db").unlink()
    commands = [
        ("metrics", run.folder),
        ("export", run.folder, "--out", tmp_path / "x.zip", "--select", "kept"),
    ]
    commands += [("generate", run.folder, "-n", "5")]
    started = [command(*words) for words in commands]
    *read, (code, said) = [(process.wait(), process.stderr) for process in started]
    assert (code, "Traceback" in said) == (0, False)
    for code, said in read:
        assert code == 0 or any(words in said for words in EARLY), said
    assert len(candidates_table(run)) == 5


def test_a_reader_makes_no_file(tmp_path):
    run = Run(shutil.copytree(SHIPPED_RUN, tmp_path / "run", ignore=shutil.ignore_patterns("*.db")))
    before = sorted(path.name for path in run.folder.iterdir())
    assert len(candidates_table(run)) == 0
    with pytest.raises(InputError, match="holds no candidates yet; generate some"):
        get_row(run, 1)
    look(run)
    assert sorted(path.name for path in run.folder.iterdir()) == before


@pytest.mark.parametrize("tables", [0, 1, 5])
def test_a_database_that_a_killed_process_left_half_made_is_no_damaged_one(tmp_path, tables):
    """As ASE makes one: the file first, then its tables one by one."""
    from ase.db.sqlite import init_statements

    run = Run(shutil.copytree(SHIPPED_RUN, tmp_path / "run"))
    path = run.folder / "candidates.db"
    path.unlink()
    with sqlite3.connect(path) as connection:
        for statement in init_statements[:tables]:
            connection.execute(statement)
    connection.close()
    assert len(candidates_table(run)) == 0
    with open_database(run, make=True) as database:
        database.write(Atoms("H"), decision="kept")
    assert ase.db.connect(path).count(decision="kept") == 1


def test_a_lock_that_a_killed_process_left_keeps_nobody_waiting(tmp_path):
    """ASE's own would be waited for for ever."""
    run = Run(shutil.copytree(SHIPPED_RUN, tmp_path / "run"))
    (run.folder / "candidates.db.lock").touch()
    with open_database(run) as database:
        database.update(1, decision="kept")
    assert len(select_rows(run, "kept")) == 1


def test_a_deleted_run_does_not_come_back(tmp_path):
    from crystalgan.runs.candidates import generate
    from crystalgan.runs.database import decide
    from ui.work import start_generate, write_files

    run = Run.open(shutil.copytree(SHIPPED_RUN, tmp_path / "run"))
    shutil.rmtree(run.folder)
    for write in (
        lambda: generate(run, 300),
        lambda: decide(run, [1], "kept"),
        lambda: open_database(run, make=True),
        lambda: run.set_status("stopped"),
        lambda: start_generate(run, 300),
        lambda: write_files([("known.cif", b"")], run.folder / "known"),
        lambda: candidates_table(run) if len(candidates_table(run)) else get_row(run, 1),
    ):
        with pytest.raises(InputError):
            write()
        assert not run.folder.exists()


def test_run_folders_appear_complete(tmp_path, palladium, nickel):
    """New runs, copies of the shipped one and uploads, looked at without a pause while they are
    made."""
    packed = tmp_path / "packed.zip"
    packed.write_bytes(pack_run(Run(SHIPPED_RUN)))
    root, done, problems, seen = tmp_path / "runs", threading.Event(), set(), set()
    root.mkdir()

    def read():
        while not done.is_set():
            for run in list_runs(root):
                seen.add(run.folder.name)
                try:
                    Run.open(run.folder).status()
                    run.classes()
                # whatever a reader meets is what the test is about
                except Exception as error:  # noqa: BLE001
                    problems.add(repr(error))

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(15):
        new_run(palladium, nickel, Config(), root)
        unpack_run(packed, root, "from a colleague.zip")
        shutil.rmtree(root / "Pd-Ni-H_shipped", ignore_errors=True)
        copy_shipped(root)
    done.set()
    reader.join()
    assert {problem for problem in problems if SHIPPED_RUN.name not in problem} == set()
    # it was deleted while one looked
    assert all("missing" in problem or "no such run folder" in problem for problem in problems)
    assert seen
    assert len(list_runs(root)) == 15 + 15 + 1
    assert not [path for path in root.iterdir() if path.name.startswith(".")]


def test_a_training_that_ends_while_one_looks_is_not_said_to_be_killed(tmp_path, monkeypatch):
    """The state is read while it runs, and the lock is asked for after it has ended."""
    run = Run(shutil.copytree(SHIPPED_RUN, tmp_path / "run"))
    run.set_status("running")

    def ends(_):
        path = run.folder / "status.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"state": "finished"}))
        return False

    monkeypatch.setattr(Run, "is_held", ends)
    assert run.status().state == "finished"


def test_looking_whether_a_run_is_trained_keeps_nobody_from_training_it(tmp_path):
    run = Run(shutil.copytree(SHIPPED_RUN, tmp_path / "run"))
    assert not run.is_held()
    assert not (run.folder / ".train.lock").exists()
    with run.hold("train"):
        assert run.is_held()
        with pytest.raises(InputError, match="another process is at work"):
            _in_a_thread(lambda: run.hold("train").__enter__())
    done = threading.Event()

    def poll():
        while not done.is_set():
            assert not run.is_held() or held.is_set()

    held, pollers = threading.Event(), [threading.Thread(target=poll) for _ in range(4)]
    for poller in pollers:
        poller.start()
    for _ in range(20):
        held.set()
        with run.hold("train"):
            pass
        held.clear()
    done.set()
    for poller in pollers:
        poller.join()


def _in_a_thread(function):
    caught = []

    def run():
        try:
            function()
        except InputError as error:
            caught.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if caught:
        raise caught[0]


def test_uploads_appear_complete(tmp_path):
    files = [(f"{k}.vasp", os.urandom(200_000)) for k in range(20)]
    done, counts = threading.Event(), set()

    def read():
        while not done.is_set():
            counts.update(
                len(list(path.iterdir())) for path in (tmp_path / ".uploads").glob("[!.]*")
            )
            time.sleep(0)

    reader = threading.Thread(target=read)
    reader.start()
    folder = keep(files, tmp_path)
    done.set()
    reader.join()
    assert counts <= {20}
    assert sorted(path.name for path in Path(folder).iterdir()) == sorted(name for name, _ in files)
    assert keep(files, tmp_path) == folder
