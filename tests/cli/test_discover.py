"""`crystalgan discover`: a small search, killed and gone on with; refusals; what its run shows."""

from __future__ import annotations

import json
import os
import signal
import time
import zipfile
from pathlib import Path

import pytest
from processes import command

from crystalgan import hull, list_runs, open_run, phases_of_run, shipped
from crystalgan.data.prototypes import compounds_of
from crystalgan.discovery.record import RECORD
from crystalgan.errors import InputError
from crystalgan.runs.database import candidates_table
from crystalgan.runs.process import stop
from crystalgan.stability.relaxations import relaxed_rows

SMALL = ("discover", "Pd", "Ni", "--formula", "PdNiH", "--max-atoms", "6")


def _killed(root: Path, seconds: float) -> None:
    """The command, killed so many seconds after the end of a round."""
    process = command(*SMALL, "--minutes", 5, "--runs", root)
    before = _changed(root)
    process.wait_until(lambda: _changed(root) > before)
    assert process.poll() is None
    time.sleep(seconds)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def _changed(root: Path) -> float:
    """When a round ended last."""
    return max((path.stat().st_mtime for path in root.glob("*/discovery.safetensors")), default=0.0)


def _said(*words: object) -> dict:
    """What the command prints as JSON."""
    process = command(*SMALL, *words, "--json")
    assert process.wait() == 0, process.stderr
    return json.loads(process.stdout)


def _found(root: Path) -> list[tuple]:
    (run,) = list_runs(root)
    relaxed = [row for row in relaxed_rows(run) if row.candidate]
    rows = {row.candidate: row for row in relaxed}
    table = candidates_table(run)
    assert len(rows) == len(relaxed) == len(table)
    assert table["number"].tolist() == list(range(len(table)))
    return [
        (draw, source, rows[i].energy_per_atom, rows[i].steps)
        for i, draw, source in zip(table["id"], table["draw"], table["source"], strict=True)
    ]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    root = tmp_path_factory.mktemp("whole")
    return root, _said("--minutes", 0.25, "--runs", root)


def test_what_it_prints(whole: tuple[Path, dict]):
    root, said = whole
    (run,) = list_runs(root)
    assert Path(said["run"]) == run.folder
    assert said["cpu_minutes"] >= 0.25
    assert said["phases"]
    above = [phase["above_hull"] for phase in said["phases"]]
    assert above == sorted(above)
    for phase in said["phases"]:
        assert phase["formula"] == "NiPdH"
        assert 3 <= phase["atoms"] <= 6
    assert sum(said["sources"].values()) == len(said["phases"])
    # a search of one composition ends with the compounds of the metals
    assert "warnings" not in said
    assert {row.phase for row in relaxed_rows(run, candidate=0)} >= compounds_of("Pd", "Ni").keys()
    # as the other commands see the run
    assert set(hull(run)["id"]) >= {phase["id"] for phase in said["phases"]}
    assert len(phases_of_run(run).table) == len(said["phases"])
    assert "NiPdH" in phases_of_run(run)._repr_html_()


def test_its_relaxed_cells_are_exported(whole: tuple[Path, dict], tmp_path: Path, crystalgan):
    (run,) = list_runs(whole[0])
    for asked, by in (((), "CHGNet"), (("--relaxed", "no"), None)):
        out = tmp_path / f"{by}.zip"
        words = "export", run.folder, "--out", out, "--select", "all", "--format", "cif", *asked
        said = json.loads(crystalgan(*words, "--json")[1])
        assert said["relaxed_with"] == by
        with zipfile.ZipFile(out) as archive:
            cifs = [archive.read(n).decode() for n in archive.namelist() if n.endswith(".cif")]
        assert len(cifs) == said["exported"] > 0
        assert all(("relaxed_with=CHGNet" in cif) == bool(by) for cif in cifs)


def test_no_more_minutes_do_nothing(whole: tuple[Path, dict]):
    root, said = whole
    assert _said("--minutes", 0.25, "--runs", root) == said


def test_killed_and_gone_on_with_it_is_the_same(whole: tuple[Path, dict], tmp_path: Path):
    for seconds in (0.1, 1.3):
        _killed(tmp_path, seconds)
    (run,) = list_runs(tmp_path)
    spent = json.loads((run.folder / RECORD).read_text())["cpu_seconds"] / 60
    _said("--minutes", spent + 0.05, "--runs", tmp_path)
    ours, theirs = _found(tmp_path), _found(whole[0])
    both = min(len(ours), len(theirs))
    assert both
    assert ours[:both] == theirs[:both]


def test_stopped_on_request_it_ends_with_what_it_has(whole: tuple[Path, dict], tmp_path: Path):
    process = command(*SMALL, "--minutes", 50, "--runs", tmp_path, "--json")
    process.wait_until(lambda: _changed(tmp_path) > 0)
    (run,) = list_runs(tmp_path)
    stop(run)
    assert process.wait() == 0
    assert not (run.folder / "stop").exists()
    said = json.loads(process.stdout)
    assert 0 < said["cpu_minutes"] < 50
    ours, theirs = _found(tmp_path), _found(whole[0])
    both = min(len(ours), len(theirs))
    assert ours[:both] == theirs[:both]
    stop(run)  # of a search that has ended it hinders no next one
    more = _said("--minutes", said["cpu_minutes"] + 0.2, "--runs", tmp_path)
    assert more["cpu_minutes"] > said["cpu_minutes"]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (("--formula", "PdH"), "no formula of Pd, Ni and H"),
        (("--max-atoms", "2"), "ask for 3 to 60"),
        (("--minutes", "0"), "ask for more than none"),
        (("--sources", ""), "--sources names none"),
        (("--sources", "luck"), "there are random, transfer, hosts, heredity"),
        (("--potential", "nothing"), "is no potential"),
        (("--jobs", "0"), "ask for at least 1"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    changed: tuple[str, str], words: str, tmp_path: Path, crystalgan
):
    code, _, said = crystalgan("discover", "Pd", "Ni", *changed, "--runs", tmp_path)
    assert code == 2
    assert words in said
    assert "Traceback" not in said
    assert not list(tmp_path.iterdir())


def test_one_metal_is_not_enough(tmp_path: Path, crystalgan):
    code, _, said = crystalgan("discover", "Pd", "Pd", "--runs", tmp_path)
    assert code == 2
    assert "two different metals" in said


def test_one_word_is_a_folder_or_too_little(tmp_path: Path, crystalgan):
    code, _, said = crystalgan("discover", "Pd", "--runs", tmp_path)
    assert code == 2
    assert "give two metals, such as Pd Ni" in said


def test_a_run_of_no_search():
    with pytest.raises(InputError, match="no search was made"):
        phases_of_run(open_run(shipped()))
