"""A search in its folder: what it says of itself, going on, the way through a zip."""

import io
import json
import shutil

import pytest
from conftest import EnoughError
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from crystalgan.discovery.discover import discover, find_search, go_on
from crystalgan.discovery.phases import phases_of_run
from crystalgan.discovery.record import RECORD, Wanted, is_search, read_record
from crystalgan.errors import InputError
from crystalgan.runs.folder import SHIPPED, Run
from crystalgan.runs.run_zip import pack_run, unpack_run

WANTED = Wanted("PdNiH", 3, sources=("random",))


@pytest.fixture
def run(searched_folder, tmp_path):
    return Run(shutil.copytree(searched_folder, tmp_path / searched_folder.name))


def test_it_says_what_was_asked_for_and_done(run):
    record = read_record(run)
    assert run.folder.name == "Pd-Ni-H_discovery_seed0_001"
    assert record.wanted == WANTED
    assert record.asked == 600
    assert record.cpu_seconds > 0
    step = record.step
    assert step.minutes == pytest.approx(record.cpu_seconds / 60, abs=0.01)
    assert step.found == sum(step.sources.values()) == len(phases_of_run(run).table)
    assert step.screened > step.relaxed >= step.found > 0
    assert set(step.spent) == set(step.sources) == {"random"}
    assert step.spent["random"] > 0


def test_a_run_that_is_no_search():
    run = Run.open(SHIPPED / "Pd-Ni-H_shipped")
    assert not is_search(run)
    with pytest.raises(InputError, match="no search was made in this run"):
        read_record(run)


def test_a_search_is_found_by_its_wishes(run, palladium, nickel, tmp_path):
    assert find_search(palladium, nickel, WANTED, tmp_path).folder == run.folder
    assert find_search(palladium, nickel, Wanted("PdNiH", 6), tmp_path) is None
    broken = shutil.copytree(run.folder, tmp_path / "Zr-broken")
    (broken / RECORD).write_text("{")
    assert find_search(palladium, nickel, WANTED, tmp_path).folder == run.folder


def test_a_search_that_has_had_its_time_is_left_as_it_is(run, palladium, nickel, tmp_path):
    before = (run.folder / RECORD).read_bytes()
    begun = []
    spent = 0.9 * read_record(run).cpu_seconds / 60
    found = discover(palladium, nickel, spent, WANTED, tmp_path, begun=begun.append)
    assert begun == [run]
    assert found.run.folder == run.folder
    assert (run.folder / RECORD).read_bytes() == before


def test_one_from_elsewhere_goes_on(run, tmp_path):
    there = unpack_run(io.BytesIO(pack_run(run)), tmp_path / "there", "of a colleague.zip")
    assert read_record(there) == read_record(run)
    here, found = (str(phases_of_run(one).as_dict()) for one in (run, there))
    assert found.replace(str(there.folder), "") == here.replace(str(run.folder), "")
    before, steps = read_record(there).step, []

    def progress(step):
        steps.append(step)
        raise EnoughError

    with pytest.raises(EnoughError):
        go_on(there, 600, progress=progress)
    assert [step.rounds for step in steps] == [before.rounds + 1]
    assert read_record(there).step == steps[0]
    assert steps[0].screened > before.screened
    assert steps[0].minutes > before.minutes
    assert set(phases_of_run(run).table["id"]) <= set(phases_of_run(there).table["id"])


def test_a_zip_with_a_damaged_record_is_refused(run, tmp_path):
    about = json.loads((run.folder / RECORD).read_text())
    (run.folder / RECORD).write_text(json.dumps(about | {"cpu_seconds": -1}))
    with pytest.raises(InputError, match=r"discovery.json: damaged \(cpu_seconds"):
        unpack_run(io.BytesIO(pack_run(run)), tmp_path / "there", "of a stranger.zip")
    assert not list((tmp_path / "there").glob("[!.]*"))


@pytest.mark.parametrize("name", ["found", "made", "numbers"])
def test_a_damaged_search_is_one_sentence(run, name):
    path = run.folder / "discovery.safetensors"
    with safe_open(path, "np") as file:
        header = file.metadata()
    arrays = load_file(path)
    save_file(arrays | {name: arrays[name][:1]}, path, header)
    with pytest.raises(InputError, match=r"safetensors: damaged \(.*begin a new search"):
        go_on(run, 600)


def test_the_shell_goes_on_with_a_folder(run, crystalgan):
    code, out, err = crystalgan("discover", run.folder, "--minutes", "0.001", "--json")
    assert code == 0
    # a line of its own, whatever the bar writes: the app reads it
    assert f"run folder: {run.folder}" in err.splitlines()
    assert json.loads(out)["run"] == str(run.folder)
    code, _, err = crystalgan("discover", run.folder, "--formula", "PdNiH")
    assert code == 2
    assert "goes on as it was begun" in err
    code, _, err = crystalgan("discover", SHIPPED / "Pd-Ni-H_shipped")
    assert code == 2
    assert "no search was made in this run" in err
