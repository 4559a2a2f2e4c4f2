"""The page, run without a browser: empty, finished, damaged, and a training started by its button."""

import io
import time
import zipfile
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from crystalgan import Config, InputError, generate, train
from crystalgan.runs import Run, list_runs
from ui import cached, work

APP = str(Path(__file__).parent.parent / "app.py")
WAIT = 60  # seconds


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with one finished run and its 20 candidates."""
    root = tmp_path_factory.mktemp("finished")
    run = train("Pd", "Ni", Config(epochs1=2, epochs2=2), runs=root)
    generate(run, 20)
    return run


def open_page(monkeypatch, root):
    monkeypatch.setenv("CRYSTALGAN_RUNS", str(root))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    page = AppTest.from_file(APP, default_timeout=30).run()
    assert not page.exception
    return page


def wait_for(done):
    end = time.monotonic() + WAIT
    while not done():
        assert time.monotonic() < end, f"not done within {WAIT} s"
        time.sleep(0.1)


def metrics(page):
    return {metric.label: metric.value for metric in page.metric}


def test_empty_workspace_says_what_to_do(monkeypatch, tmp_path):
    page = open_page(monkeypatch, tmp_path / "none yet")
    assert "press Train" in page.info[0].value
    assert (page.selectbox(key="a").value, page.selectbox(key="b").value) == ("Pd", "Ni")
    assert any(option.startswith("Palladium (Pd-H, ") for option in page.selectbox(key="a").options)
    assert not page.button(key="train").disabled
    assert not (tmp_path / "none yet").exists()


def test_same_metal_twice(monkeypatch, tmp_path):
    page = open_page(monkeypatch, tmp_path)
    page.selectbox(key="b").select("Pd").run()
    assert "two different metals" in page.warning[0].value
    assert page.button(key="train").disabled


def test_paper_preset_sets_epochs_and_rule(monkeypatch, tmp_path):
    page = open_page(monkeypatch, tmp_path)
    assert (page.number_input(key="epochs").value, page.selectbox(key="rule").value) == (200, "learned")
    page.selectbox(key="preset").select("paper").run()
    assert (page.number_input(key="epochs").value, page.selectbox(key="rule").value) == (1000, "paper")


def test_finished_run(monkeypatch, finished):
    page = open_page(monkeypatch, finished.folder.parent)
    table = page.dataframe[0].value
    assert len(table) == 20
    assert metrics(page)["Candidates"] == "20"
    assert metrics(page)["Keep learned"] == str(table["passed_learned"].sum())
    assert metrics(page)["Ternary"] == "20"
    assert any(text.value.startswith("**finished**, step 2 of 2, epoch 2 of 2") for text in page.markdown)
    assert any(table["formula"].iloc[0] in text.value for text in page.markdown)
    assert len(page.get("plotly_chart")) == 2
    assert any("the rule paper" in box.value for box in [*page.success, *page.warning])


def test_filter_shows_only_cells_that_keep_the_rule(monkeypatch, finished):
    page = open_page(monkeypatch, finished.folder.parent)
    wanted = page.dataframe[0].value["passed_learned"].sum()
    page.segmented_control(key="filter").set_value("Keep the run's rule").run()
    assert not page.exception
    assert len(page.dataframe[0].value) == wanted
    assert page.dataframe[0].value["passed_learned"].all()


def test_archive_holds_what_was_chosen(finished):
    names = zipfile.ZipFile(io.BytesIO(cached.archive(str(finished.folder), "all", "cif"))).namelist()
    assert len(names) == 22
    assert sum(name.endswith(".cif") for name in names) == 20
    with pytest.raises(InputError, match="holds no candidate"):
        cached.archive(str(finished.folder), "9999", "cif")


def copied(finished, root):
    """A run folder of its own, that a test may damage."""
    folder = root / finished.folder.name
    folder.mkdir(parents=True)
    for path in finished.folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def test_damaged_run_folder_is_named_and_the_rest_usable(monkeypatch, tmp_path, finished):
    copied(finished, tmp_path)
    for name, text in (("cut", '{"pair": ["Pd"'), ("empty", "{}")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(text)
    page = open_page(monkeypatch, tmp_path)
    warned = [box.value for box in page.warning if "left out" in box.value]
    assert len(warned) == 2
    assert any("cut/config.json: damaged" in text for text in warned)
    assert metrics(page)["Candidates"] == "20"


@pytest.mark.parametrize(
    ("name", "content"), [("candidates.db", b"no database" * 100), ("metrics.jsonl", b"no json\n"), ("status.json", b"{")]
)
def test_damaged_file_in_a_run_is_one_sentence(monkeypatch, tmp_path, finished, name, content):
    (copied(finished, tmp_path) / name).write_bytes(content)
    page = open_page(monkeypatch, tmp_path)
    said = [box.value for box in [*page.error, *page.warning]]
    assert any(name in text and "damaged" in text for text in said)
    assert page.button(key="train")


def test_failed_run_tells_why_and_can_be_resumed(monkeypatch, tmp_path, finished):
    Run(copied(finished, tmp_path)).set_status("failed", message="The loss geo1 is not finite.")
    page = open_page(monkeypatch, tmp_path)
    assert [box.value for box in page.error] == ["The loss geo1 is not finite."]
    assert page.button(key="resume")


@pytest.mark.parametrize(
    ("state", "share"),
    [
        ({"state": "running"}, 0),
        ({"state": "running", "epochs": [10, 30], "step": 1, "epoch": 5}, 1 / 8),
        ({"state": "stopped", "epochs": [10, 30], "step": 2, "epoch": 10}, 1 / 2),
        ({"state": "finished"}, 1),
    ],
)
def test_share_done(state, share):
    assert work.share_done(state) == pytest.approx(share)


@pytest.mark.slow
def test_train_and_generate_buttons_start_real_workers(monkeypatch, tmp_path):
    page = open_page(monkeypatch, tmp_path)
    page.number_input(key="epochs").set_value(2).run()
    page.number_input(key="seed").set_value(3).run()
    page.button(key="train").click().run()
    assert not page.exception
    assert page.button(key="stop")
    (run,) = list_runs(tmp_path)
    assert (run.config.epochs1, run.config.epochs2, run.config.seed) == (2, 2, 3)
    wait_for(lambda: run.status()["state"] == "finished")
    assert len(run.metrics()) == 4
    page.run()
    assert "Generate candidates" in page.info[0].value
    page.number_input(key="number").set_value(5)
    page.button(key="generate").click().run()
    assert not page.exception
    assert not page.metric
    wait_for(lambda: not work.is_generating(run))
    page.run()
    assert not page.error
    assert metrics(page)["Candidates"] == "5"
    assert len(page.dataframe[0].value) == 5


@pytest.mark.slow
def test_generating_that_fails_tells_why(monkeypatch, tmp_path, finished):
    folder = copied(finished, tmp_path)
    (folder / "step2.safetensors").write_bytes(b"damaged")
    page = open_page(monkeypatch, tmp_path)
    page.number_input(key="number").set_value(300)
    page.button(key="generate").click().run()
    wait_for(lambda: not work.is_generating(Run(folder)))
    page.run()
    assert "step2.safetensors: damaged" in page.error[0].value
