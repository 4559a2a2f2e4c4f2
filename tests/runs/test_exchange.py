"""Run folders as zips, the database of candidates shared by several, and the parents read without
tensors."""

import io
import multiprocessing
import shutil
import zipfile

import numpy as np
import pytest

from crystalgan.crystal.cells import decode
from crystalgan.errors import InputError
from crystalgan.runs.database import (
    DECISIONS,
    ChangedMeanwhileError,
    candidates_table,
    decide,
    get_row,
    history,
    refreshed_table,
    take_back,
    write_note,
)
from crystalgan.runs.folder import SHIPPED, Run
from crystalgan.runs.listing import copy_shipped
from crystalgan.runs.parents import class_structures
from crystalgan.runs.run_zip import known_folder, pack_run, unpack_run


@pytest.fixture
def shipped(tmp_path):
    copy_shipped(tmp_path)
    return Run.open(tmp_path / "Pd-Ni-H_shipped")


def test_shipped_runs_are_copied_once(shipped):
    decide(shipped, [3], "kept")
    copy_shipped(shipped.folder.parent)
    assert get_row(shipped, 3).decision == "kept"
    assert get_row(Run(SHIPPED / "Pd-Ni-H_shipped"), 3).decision == "undecided"
    assert sum(path.stat().st_size for path in SHIPPED.rglob("*")) < 10_000_000
    assert len(candidates_table(shipped)) == 200
    assert shipped.status().state == "finished"


def test_a_packed_run_is_the_same_run(shipped, tmp_path):
    decide(shipped, [5], "rejected", "too flat")
    run = unpack_run(io.BytesIO(pack_run(shipped)), tmp_path / "there", "../from a colleague.zip")
    assert run.folder.parent == tmp_path / "there"
    assert run.about == shipped.about
    assert (get_row(run, 5).decision, get_row(run, 5).data["note"]) == ("rejected", "too flat")
    assert (
        unpack_run(
            io.BytesIO(pack_run(shipped)), tmp_path / "there", "../from a colleague.zip"
        ).folder
        != run.folder
    )


def test_known_structures_go_along(shipped, tmp_path, monkeypatch):
    known_folder(shipped).mkdir()
    (known_folder(shipped) / "Pd-Ni-H MP.cif").write_text("data_a")
    (known_folder(shipped) / "b.extxyz").write_text("")
    run = unpack_run(io.BytesIO(pack_run(shipped)), tmp_path / "in", "a.zip")
    assert {path.name: path.read_text() for path in known_folder(run).iterdir()} == {
        "Pd-Ni-H MP.cif": "data_a",
        "b.extxyz": "",
    }
    monkeypatch.setattr("crystalgan.runs.run_zip.MOST_KNOWN", 5)
    assert not known_folder(
        unpack_run(io.BytesIO(pack_run(shipped)), tmp_path / "in", "a.zip")
    ).exists()


def zipped(files):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out


def test_nothing_is_written_outside_or_besides(shipped, tmp_path):
    config = (shipped.folder / "config.json").read_text()
    status = (shipped.folder / "status.json").read_text()
    files = {
        "run/config.json": config,
        "run/status.json": status,
        "run/../../evil.py": "x",
        "/etc/evil": "x",
        "run/run.sh": "x",
    }
    files |= {
        f"run/known/{name}": "x"
        for name in ("../evil.py", "..", ".bashrc", "a/b.cif", "good.cif", "x" * 300)
    }
    run = unpack_run(zipped(files), tmp_path / "in", "x.zip")
    assert sorted(
        path.name
        for path in (tmp_path / "in").rglob("*")
        if path.is_file() and "lock" not in path.name
    ) == [
        "config.json",
        "good.cif",
        "status.json",
    ]
    assert run.species == ("H", "Pd", "Ni")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (io.BytesIO(b"PK no zip"), "damaged"),
        (zipped({"readme.txt": "x"}), "0 files config.json"),
        (zipped({"a/config.json": "{}", "b/config.json": "{}"}), "2 files config.json"),
        (zipped({"a/config.json": "{}"}), "damaged"),
    ],
)
def test_what_is_no_run_is_refused_and_leaves_nothing(tmp_path, content, words):
    with pytest.raises(InputError, match=words):
        unpack_run(content, tmp_path / "in", "x.zip")
    assert not list((tmp_path / "in").glob("*/*"))


def test_too_large_a_run_is_refused(tmp_path, monkeypatch, shipped):
    monkeypatch.setattr("crystalgan.runs.run_zip.MOST_BYTES", 1000)
    with pytest.raises(InputError, match="a run may have"):
        unpack_run(io.BytesIO(pack_run(shipped)), tmp_path / "in", "x.zip")


def test_parents_read_without_tensors_are_the_classes(shipped):
    for structures, cells in zip(class_structures(shipped), shipped.classes(), strict=True):
        expected = decode(cells)
        assert [s.formula for s in structures] == [s.formula for s in expected]
        for mine, theirs in zip(structures, expected, strict=True):
            assert np.allclose(mine.distance_matrix, theirs.distance_matrix)


def test_refreshed_table_reads_what_changed(shipped):
    import pandas as pd

    table, when = refreshed_table(shipped, pd.DataFrame(), 0.0)
    pd.testing.assert_frame_equal(table, candidates_table(shipped))
    decide(shipped, [7, 9], "kept", "fine")
    new, later = refreshed_table(shipped, table, when)
    assert later > when
    pd.testing.assert_frame_equal(new, candidates_table(shipped))
    assert new.set_index("id").loc[[7, 9], "decision"].tolist() == ["kept", "kept"]


def test_decide_keeps_the_note_and_the_history(shipped):
    decide(shipped, [4], "kept", "nice")
    assert decide(shipped, [4], "rejected") == [(4, "kept", "nice")]
    row = get_row(shipped, 4)
    assert [entry["decision"] for entry in row.data["history"]] == ["kept", "rejected"]
    assert row.data["note"] == "nice"
    with pytest.raises(InputError, match="'maybe' is not one of"):
        decide(shipped, [4], "maybe")


def vet(folder, offset):
    run = Run.open(folder)
    for number in range(1, 21):
        decide(run, [number], DECISIONS[1 + (number + offset) % 2], f"by {offset}")


@pytest.mark.slow
def test_no_decision_of_two_processes_is_lost(shipped):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=vet, args=(shipped.folder, k)) for k in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    for number in range(1, 21):
        entries = history(shipped, number)
        assert sorted(entry.note for entry in entries) == ["by 0", "by 1"]
        assert get_row(shipped, number).decision == entries[-1].decision


def test_a_decision_on_what_was_not_seen_is_refused(shipped):
    decide(shipped, [3], "kept", by="a-1")
    with pytest.raises(ChangedMeanwhileError) as error:
        decide(shipped, [2, 3], "rejected", seen=["undecided", "undecided"], by="b-1")
    assert (error.value.number, error.value.entry.decision, error.value.entry.by) == (
        3,
        "kept",
        "a-1",
    )
    # all or none
    assert [str(get_row(shipped, number).decision) for number in (2, 3)] == ["undecided", "kept"]
    decide(shipped, [3], "kept", seen=["undecided"], by="b-2")  # the same is no conflict
    decide(shipped, [3], "rejected", seen=["kept"], by="b-3")
    write_note(shipped, 3, "flat", seen="", by="b-4")
    with pytest.raises(ChangedMeanwhileError) as error:
        write_note(shipped, 3, "round", seen="", by="a-2")
    assert (error.value.entry.note, error.value.entry.by) == ("flat", "b-4")
    assert [(entry.what, entry.by) for entry in history(shipped, 3)] == [
        ("decision", "a-1"),
        ("decision", "b-2"),
        ("decision", "b-3"),
        ("note", "b-4"),
    ]


def test_one_act_is_done_once_and_taken_back_only_by_whom_it_is(shipped):
    for _ in range(2):  # a browser that has heard nothing says it again
        decide(shipped, [8], "kept", seen=["undecided"], by="a-1")
    assert len(history(shipped, 8)) == 1
    write_note(shipped, 8, "theirs", by="b-1")  # a note stands in nobody's way
    take_back(shipped, 8, "undecided", written="a-1", mine=["a-"], by="a-2")
    decide(shipped, [8], "kept", seen=["undecided"], by="a-1")  # late
    row = get_row(shipped, 8)
    assert (row.decision, row.data["note"]) == ("undecided", "theirs")
    decide(shipped, [8], "kept", by="a-3")
    decide(shipped, [8], "kept", by="b-2")
    with pytest.raises(ChangedMeanwhileError):
        take_back(shipped, 8, "undecided", written="a-3", mine=["a-"], by="a-4")
    assert get_row(shipped, 8).decision == "kept"


def test_nothing_is_written_where_a_run_was(shipped):
    shutil.rmtree(shipped.folder)
    for write in (lambda: decide(shipped, [1], "kept"), lambda: write_note(shipped, 1, "x")):
        with pytest.raises(InputError, match="no longer here"):
            write()
    assert not shipped.folder.exists()
