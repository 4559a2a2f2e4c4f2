"""How far a command is, in a file: whole, not too often, and always the last word."""

import json

import pytest

from crystalgan.cli.common import Bar, bar
from crystalgan.errors import InputError
from crystalgan.progress import EVERY, VARIABLE, Progress, ProgressFile, read_progress


def test_a_file_is_written_at_most_twice_a_second_and_at_the_end(tmp_path):
    now = [0.0]
    path = tmp_path / "progress.json"
    file = ProgressFile(path, lambda: now[0])
    assert read_progress(path) is None
    file.tell(Progress(0, 4, "relaxed"))
    assert json.loads(path.read_text()) == {"done": 0, "of": 4, "what": "relaxed"}
    file.tell(Progress(1, 4, "relaxed"))
    assert read_progress(path).done == 0
    now[0] += EVERY
    file.tell(Progress(2, 4, "relaxed"))
    assert read_progress(path) == Progress(2, 4, "relaxed")
    file.tell(Progress(3, 4, "relaxed"))
    file.flush()
    assert read_progress(path).share == 0.75
    assert [p.name for p in tmp_path.iterdir()] == ["progress.json"]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"done": null, "of": 1, "what": ""}', "5"])
def test_what_is_no_progress_is_none_yet(tmp_path, text):
    (tmp_path / "progress.json").write_text(text)
    assert read_progress(tmp_path / "progress.json") is None


def test_a_folder_that_is_gone_does_not_end_the_work(tmp_path):
    ProgressFile(tmp_path / "gone" / "progress.json").tell(Progress(1, 2))


def test_a_bar_without_total_says_nothing_before_its_first_step(tmp_path, monkeypatch, capsys):
    path = tmp_path / "progress.json"
    monkeypatch.setenv(VARIABLE, str(path))
    with Bar("compared") as shown:
        assert read_progress(path) is None
        shown.to(1, 3)
        assert read_progress(path) == Progress(1, 3, "compared")
        shown.step("LaNi5")
    assert read_progress(path) == Progress(2, 3, "compared")
    with Bar("candidates", 5):
        assert read_progress(path) == Progress(0, 5, "candidates")
    assert capsys.readouterr().err == ""


def test_a_bar_is_drawn_on_stderr_where_no_file_is_named(capsys):
    with Bar("trained", 3) as shown:
        shown.step("Pd-Ni gan")
    err = capsys.readouterr().err
    assert "trained" in err
    assert "1/3" in err


def test_commands_write_the_file(tmp_path, monkeypatch, crystalgan, small_run):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "progress.json"))
    code, _, err = crystalgan("generate", small_run.folder, "-n", 40)
    assert (code, err) == (0, "")
    assert read_progress(tmp_path / "progress.json") == Progress(40, 40, "candidates")


def test_errors_within_a_bar_name_options():
    with pytest.raises(InputError, match="another --runs"), bar("trained", 2):
        raise InputError("choose another `root`.")
