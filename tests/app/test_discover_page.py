"""The page Discover without a browser, and the other pages with the run of a search."""

import json
import shutil

import pytest
from test_app import AfterTheFirstVisit, open_page, said, wait_for, without_shipped

from crystalgan.discovery.record import RECORD, read_record
from crystalgan.runs.folder import Run
from crystalgan.runs.listing import list_runs
from crystalgan.stability.relaxations import relaxed_rows
from ui import work


@pytest.fixture(autouse=True)
def _not_the_first_visit(monkeypatch):
    monkeypatch.setattr("streamlit.testing.v1.app_test.PagesManager", AfterTheFirstVisit)


@pytest.fixture
def root(monkeypatch, tmp_path, searched_folder):
    """Runs with nothing but the search."""
    without_shipped(monkeypatch, tmp_path)
    shutil.copytree(searched_folder, tmp_path / "runs" / searched_folder.name)
    return tmp_path / "runs"


def the_run(root):
    (run,) = list_runs(root)
    return run


def converged(run):
    return {row.candidate for row in relaxed_rows(run) if row.state == "converged"} - {0}


def go(app, a="Pd", b="Ni", formula="", atoms=12, minutes=5.0):
    app.selectbox(key="discover_a_0").set_value(a)
    app.selectbox(key="discover_b_0").set_value(b)
    app.text_input(key="discover_formula").set_value(formula)
    app.number_input(key="discover_atoms").set_value(atoms)
    app.number_input(key="discover_minutes").set_value(minutes)
    app.run()
    return app.button(key="discover_go").click().run()


def test_no_search_yet(monkeypatch, tmp_path):
    without_shipped(monkeypatch, tmp_path)
    app = open_page(monkeypatch, tmp_path / "none yet", "discover")
    assert len(app.info) == 1
    assert app.info[0].value.startswith("No search yet.")
    assert app.button(key="discover_go").disabled


@pytest.mark.parametrize(
    ("wishes", "words"),
    [
        ({"formula": "PdNi"}, "'PdNi' is no formula of Pd, Ni and H; write one like PdNiH3."),
        ({"formula": "what"}, "'what' is no formula of Pd, Ni and H; write one like PdNiH3."),
        (
            {"formula": "PdNiH3", "atoms": 4},
            "PdNiH3 has 5 atoms, more than the 4 of the largest cell; allow more by *Most atoms*.",
        ),
        ({"b": "Pd"}, "Both metals are Pd. A ternary needs two different metals."),
    ],
)
def test_what_cannot_be_looked_for_is_one_sentence(monkeypatch, tmp_path, wishes, words):
    without_shipped(monkeypatch, tmp_path)
    app = go(open_page(monkeypatch, tmp_path, "discover"), **wishes)
    assert not app.exception
    assert [box.value for box in app.error] == [words]
    assert list_runs(tmp_path) == []


def test_phases_are_listed_the_lowest_first(monkeypatch, root):
    app = open_page(monkeypatch, root, "discover")
    assert not said(app)
    table = app.dataframe[0].value
    assert set(table["id"]) == converged(the_run(root))
    assert table["above_hull"].is_monotonic_increasing
    assert set(table["formula"]) == {"NiPdH"}
    # 1 g/mol of 1.008 + 58.69 + 106.42
    assert table["weight_percent"].round(2).unique().tolist() == [0.61]
    assert any(f"**{table['id'][0]}: NiPdH**" in box.value for box in app.markdown)
    (choice,) = app.selectbox(key="choose_search").options
    assert choice.startswith("Pd-Ni-H discovery, seed 0 (001) · PdNiH, at most 3 atoms")
    # the metals of the search are those of the next one
    assert app.selectbox(key="discover_a_1").value == "Pd"


def test_another_phase_is_shown(monkeypatch, root):
    app = open_page(monkeypatch, root, "discover")
    last = int(app.dataframe[0].value["id"].iloc[-1])
    app.query_params["run"], app.query_params["candidate"] = the_run(root).folder.name, str(last)
    app.session_state["arrived"] = True
    app.run()
    assert any(box.value.startswith(f"**{last}: NiPdH**") for box in app.markdown)
    for view in ("Energy", "Sources", "Hull"):
        app.segmented_control(key="discover_view").set_value(view).run()
        assert not app.exception


def without(name):
    def damage(path):
        about = json.loads(path.read_text())
        del about[name]
        path.write_text(json.dumps(about))

    return damage


def setting(**changes):
    def damage(path):
        about = json.loads(path.read_text())
        about["settings"] |= changes
        path.write_text(json.dumps(about))

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b'{"settings": {'),
        lambda path: path.write_bytes(b"[]"),
        lambda path: path.write_bytes(b"\xff"),
        without("settings"),
        without("cpu_seconds"),
        setting(max_atoms=10**9),
        setting(sources=["nowhere"]),
        setting(classes=[]),
        setting(wish=1),
    ],
)
def test_a_damaged_search_is_one_sentence(monkeypatch, root, searched_folder, damage):
    shutil.copytree(searched_folder, root / "broken")
    damage(root / "broken" / RECORD)
    app = open_page(monkeypatch, root, "discover", run="broken")
    app.session_state["run"] = "broken"
    app.run()
    assert not app.exception
    assert len(app.error) == 1
    assert "broken/discovery.json: damaged" in app.error[0].value
    assert str(root) not in app.error[0].value
    assert not app.button(key="discover_go").disabled
    app.selectbox(key="choose_search").set_value(searched_folder.name).run()
    assert not app.error
    assert len(app.dataframe[0].value)


def test_other_pages_say_what_a_search_is(monkeypatch, root):
    run = the_run(root)
    count = len(converged(run))
    train = open_page(monkeypatch, root, "train", run=run.folder.name)
    assert any("This run is a search for phases" in box.value for box in train.info)
    assert not [button for button in train.button if button.key == "resume"]
    explore = open_page(monkeypatch, root, "explore", run=run.folder.name)
    assert len(explore.dataframe[0].value) == count
    assert any(box.value.startswith("A search: each cell as it was") for box in explore.caption)
    stability = open_page(monkeypatch, root, "stability", run=run.folder.name)
    assert set(stability.dataframe[0].value["id"]) == converged(run)
    compare = open_page(monkeypatch, root, "compare")
    metrics = compare.dataframe[0].value.set_index("metric")
    assert metrics.loc["candidates"].tolist().count(count) == 1
    assert metrics.loc["training"].isna().any()
    export = open_page(monkeypatch, root, "export", run=run.folder.name)
    assert any(box.value.startswith("A search: cells as they were") for box in export.caption)
    positions = export.selectbox(key=f"positions_{run.folder.name}")
    assert (positions.value, positions.options[1]) == ("CHGNet", "as made")
    for app in (train, explore, stability, compare, export):
        assert not app.error


def test_a_search_without_phases_sends_to_discover(monkeypatch, root):
    run = the_run(root)
    for name in ("candidates.db", "relaxed.db", "discovery.safetensors"):
        (run.folder / name).unlink()
    found = [
        said(open_page(monkeypatch, root, page, run=run.folder.name))
        for page in ("discover", "explore", "stability")
    ]
    assert all(len(texts) == 1 for texts in found)
    assert all(texts[0].startswith("This search has found no") for texts in found)


def test_go_stop_and_go_on(monkeypatch, tmp_path):
    without_shipped(monkeypatch, tmp_path)
    app = go(open_page(monkeypatch, tmp_path, "discover"), formula="PdNiH", atoms=3, minutes=60.0)
    assert not said(app) or [text for text in said(app) if text.startswith("Nothing is found yet")]
    run = the_run(tmp_path)
    record = read_record(run)
    assert (record.wanted.formula, record.wanted.max_atoms) == ("PdNiH", 3)
    assert app.session_state["run"] == run.folder.name
    assert work.is_discovering(run)
    stability = open_page(monkeypatch, tmp_path, "stability", run=run.folder.name)
    assert not stability.exception
    app.button(key="discover_stop").click().run()
    wait_for(lambda: not work.is_held(run))
    app.run()
    assert not app.exception
    assert not app.error
    app.number_input(key="discover_more").set_value(60.0)
    app.button(key="discover_go_on").click().run()
    assert work.is_discovering(run)
    assert app.button(key="discover_stop")
    work.stop_discovering(run)
    wait_for(lambda: not work.is_held(run))
    assert work.problem(run, work.DISCOVER_LOG) is None
    assert [one.folder for one in list_runs(tmp_path)] == [run.folder]


def test_a_search_that_was_started_elsewhere_is_stopped(monkeypatch, root):
    run = the_run(root)
    with run.hold("generate"), run.hold("relax"):
        app = open_page(monkeypatch, root, "discover")
        app.button(key="discover_stop").click().run()
        assert not app.exception
        assert (run.folder / "stop").exists()
        stop = app.button(key="discover_stop")
        assert (stop.label, stop.disabled) == ("Stops after this round", True)
        stability = open_page(monkeypatch, root, "stability", run=run.folder.name)
        assert any("under way" in box.value for box in stability.info)
    # which the search looks for after each round (`tests/cli/test_discover.py`)
    (run.folder / "stop").unlink()
    app.run()
    assert not app.button(key="discover_go_on").disabled


def test_names_of_runs(root):
    from ui import state

    assert state.run_name(Run(the_run(root).folder)) == "Pd-Ni-H discovery, seed 0 (001)"
