"""The pages, run without a browser: empty, with the shipped run, with damaged folders, and a
training started by its button."""

import io
import json
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from conftest import NO_POTENTIAL, nearly_symmetric, put_in
from pymatgen.core import Composition, Element, Lattice, Structure
from streamlit.runtime.pages_manager import PagesManager
from streamlit.testing.v1 import AppTest
from test_sources import BINARIES, LEFT_OUT, OTHERS, Server, entry

from crystalgan import Config
from crystalgan.data.known import Likeness
from crystalgan.errors import InputError
from crystalgan.progress import Progress, ProgressFile
from crystalgan.runs.database import (
    decide,
    get_row,
    load_candidate,
    note_likenesses,
    open_database,
)
from crystalgan.runs.folder import SHIPPED, Run
from crystalgan.runs.listing import list_runs
from crystalgan.runs.run_zip import known_folder
from crystalgan.stability.relaxations import relaxed_rows
from crystalgan.studies import table2
from crystalgan.studies.stacks import load_pair
from ui import cached, databases, known, state, work

ROOT = Path(__file__).resolve().parents[2]
APP = str(ROOT / "app.py")
PAGES = ("pair", "discover", "train", "explore", "stability", "compare", "export")
WAIT = 300  # seconds that anything may take on a loaded machine


@pytest.fixture(scope="module")
def finished(default_folder, tmp_path_factory):
    """A finished run with its 20 candidates, a copy for this module."""
    root = tmp_path_factory.mktemp("finished")
    return Run.open(shutil.copytree(default_folder, root / default_folder.name))


class AfterTheFirstVisit(PagesManager):
    """AppTest makes each run that of a server which has not run `app.py` yet; then a click would go
    to `state.through_app`."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        PagesManager.uses_pages_directory = False


@pytest.fixture(autouse=True)
def _not_the_first_visit(monkeypatch):
    monkeypatch.setattr("streamlit.testing.v1.app_test.PagesManager", AfterTheFirstVisit)


def open_page(monkeypatch, root, page="pair", **address):
    monkeypatch.setenv("CRYSTALGAN_RUNS", str(root))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    app = AppTest.from_file(APP, default_timeout=300)
    for name, value in address.items():
        app.query_params[name] = value
    app.run()
    if page != "pair":
        app.switch_page(f"pages/{page}.py").run()
    assert not app.exception
    return app


def without_shipped(monkeypatch, tmp_path):
    monkeypatch.setattr("crystalgan.runs.listing.SHIPPED", tmp_path / "nothing")


def wait_for(done):
    end = time.monotonic() + WAIT
    while not done():
        assert time.monotonic() < end, f"not done within {WAIT} s"
        time.sleep(0.1)


def said(app):
    return [box.value for kind in (app.error, app.warning, app.info) for box in kind]


def copied(finished, root):
    """A run folder of its own, that a test may damage."""
    folder = root / finished.folder.name
    folder.mkdir(parents=True)
    for path in finished.folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("pair", "Click two metals"),
        ("discover", "No search yet"),
        ("train", "Choose two metals on the page Pair"),
        ("explore", "No run yet"),
        ("stability", "No run yet"),
        ("compare", "No run yet"),
        ("export", "No run yet"),
    ],
)
def test_empty_workspace_says_what_to_do(monkeypatch, tmp_path, page, words):
    without_shipped(monkeypatch, tmp_path)
    app = open_page(monkeypatch, tmp_path / "none yet", page)
    assert any(words in text for text in said(app))


@pytest.mark.parametrize("page", PAGES)
def test_shipped_run_is_there_at_the_first_start(monkeypatch, tmp_path, page):
    app = open_page(monkeypatch, tmp_path / page, page)
    assert not app.error
    if page == "compare":
        assert app.multiselect(key="compared").value == ["Pd-Ni-H_shipped"]
    elif page not in ("pair", "discover"):
        assert app.selectbox(key="choose_run").value == "Pd-Ni-H_shipped"
    if page == "explore":
        assert len(app.dataframe[0].value) == 200


@pytest.mark.parametrize("page", PAGES)
def test_damaged_run_folders_are_named_and_the_rest_usable(monkeypatch, tmp_path, finished, page):
    without_shipped(monkeypatch, tmp_path)
    copied(finished, tmp_path)
    for name, text in (("cut", '{"pair": ["Pd"'), ("empty", "{}")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(text)
    app = open_page(monkeypatch, tmp_path, page)
    if page == "pair":
        return
    (warned,) = [box.value for box in app.warning if "cannot be opened" in box.value]
    assert warned.startswith("2 folders in runs/ cannot be opened. ")
    (others,) = [box for box in app.expander if box.label == "What is wrong with the others"]
    assert any("cut/config.json: damaged" in text for text in (warned, others.caption[0].value))
    if page == "compare":
        assert app.multiselect(key="compared").value == [finished.folder.name]
    elif page == "discover":
        assert any(box.value.startswith("No search yet") for box in app.info)
    else:
        assert app.selectbox(key="choose_run").value == finished.folder.name


@pytest.mark.parametrize(
    ("page", "name", "content"),
    [
        ("explore", "candidates.db", b"no database" * 100),
        ("stability", "candidates.db", b"no database" * 100),
        ("stability", "relaxed.db", b"no database" * 100),
        ("compare", "candidates.db", b"no database" * 100),
        ("compare", "classes.safetensors", b"{"),
        ("export", "candidates.db", b"no database" * 100),
        ("train", "metrics.jsonl", b"no json\n"),
        ("explore", "status.json", b"{"),
    ],
)
def test_damaged_file_in_a_run_is_one_sentence(
    monkeypatch, tmp_path, finished, page, name, content
):
    without_shipped(monkeypatch, tmp_path)
    (copied(finished, tmp_path) / name).write_bytes(content)
    app = open_page(monkeypatch, tmp_path, page)
    assert any(name in text and "damaged" in text for text in said(app))


def test_several_runs_side_by_side_and_table2(monkeypatch, tmp_path, finished):
    without_shipped(monkeypatch, tmp_path)
    copied(finished, tmp_path)
    empty = copied(finished, tmp_path / "other").rename(tmp_path / "without_candidates_002")
    (empty / "candidates.db").unlink()
    app = open_page(monkeypatch, tmp_path, "compare")
    table = app.dataframe[0].value
    assert list(table.columns) == ["metric", "unit", "Pd-Ni-H, seed 0 (001)", "definition"]
    assert any("crystalgan generate" in text for text in said(app))
    assert (
        dict(zip(table["metric"], table["Pd-Ni-H, seed 0 (001)"], strict=True))["candidates"] == 20
    )
    assert any("crystalgan table2" in text.value for text in app.caption)
    assert len(app.get("plotly_chart")) == 2
    app.multiselect(key="compared").set_value([]).run()
    assert not app.exception
    pair = load_pair("Pd-Ni")
    table2.table2([pair], Config(epochs1=1, epochs2=1, rule="paper", **NO_POTENTIAL), 1, tmp_path)
    app.run()
    assert app.dataframe[-1].value["paper"].tolist() == [0, 0, 4, 9]
    assert "1 seed of 1 + 1 epochs" in app.selectbox(key="table2").options[0]
    assert any("crystalgan benchmark" in text.value for text in app.caption)
    counts = {
        "relaxed": 9,
        "converged": 8,
        "valid": 7,
        "unique": 6,
        "new": 5,
        "hits_0.1": 4,
        "hits_0.05": 3,
        "cpu_minutes": 2.0,
    }
    result = {
        "pair": "Pd-Ni",
        "shared": "H",
        "minutes": 2,
        "seeds": 1,
        "training_minutes": 1.5,
        "methods": {"pyxtal": counts},
    }
    (tmp_path / "race" / "some").mkdir(parents=True)
    (tmp_path / "race" / "some" / "race-2-1.json").write_text(json.dumps(result))
    app.run()
    assert app.dataframe[-1].value["hits_0.1"].tolist() == [4]
    assert "2 CPU minutes" in app.selectbox(key="benchmark").options[0]
    (tmp_path / "race" / "some" / "race-2-1.json").write_text("{}")
    app.run()
    assert any("race-2-1.json: damaged" in box.value for box in app.error)
    (found,) = tmp_path.glob("table2/*/table2.json")
    for text in ("{", "{}"):
        found.write_text(text)
        app.run()
        assert any("table2.json: damaged" in box.value for box in app.error)


def test_the_app_never_imports_what_is_heavy(monkeypatch, tmp_path):
    monkeypatch.setenv("CRYSTALGAN_RUNS", str(tmp_path))
    code = (
        f"import sys; from streamlit.testing.v1 import AppTest\napp = AppTest.from_file({APP!r},"
        f" default_timeout=300).run(); assert not app.exception\nfor page in {PAGES[1:]}:"
        " app.switch_page(f'pages/{page}.py').run(); assert not app.exception\nfor detail in"
        " ('Distances', 'Powder pattern', 'Symmetry', 'Map'):\n   "
        " app.switch_page('pages/explore.py').run()\n   "
        " app.segmented_control(key='detail').set_value(detail).run(); assert not"
        " app.exception\nprint([m for m in ('torch', 'chgnet', 'crystal_toolkit') if m in"
        " sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def metal_field(app, which):
    return next(box for box in app.selectbox if box.label == f"Metal {which.upper()}")


def test_pair_in_the_address_and_same_metal_twice(monkeypatch, tmp_path):
    app = open_page(monkeypatch, tmp_path, a="Pd", b="Ni")
    assert (metal_field(app, "a").value, metal_field(app, "b").value) == ("Pd", "Ni")
    assert app.get("plotly_chart")
    metal_field(app, "b").select("Pd").run()
    assert any("two different metals" in box.value for box in app.warning)
    app.button(key="clear").click().run()
    assert metal_field(app, "a").value is None


@pytest.fixture(scope="module")
def optimade(tmp_path_factory):
    """The reference server of OPTIMADE on loopback."""
    entries = [
        *(entry(i, s) for i, s in BINARIES.items()),
        *(e for e, _ in LEFT_OUT.values()),
        *OTHERS,
    ]
    server = Server(tmp_path_factory.mktemp("optimade"), entries)
    yield server
    server.stop()


def ask_database(monkeypatch, tmp_path, address, metal, source=None):
    """The Pair page after class A was asked for from a database."""
    monkeypatch.setenv(databases.EXTRA, address)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    app = open_page(monkeypatch, tmp_path / "runs", b="Ni")
    app.segmented_control(key="source_a").set_value("Database").run()
    metal_field(app, "a").select(metal)
    app.selectbox(key="database_a").select(source or address).run()
    assert app.button(key="train_pair").disabled
    app.button(key="fetch_a").click().run()
    assert not app.exception
    return app


@pytest.mark.slow
def test_class_from_a_database(monkeypatch, tmp_path, optimade):
    app = ask_database(monkeypatch, tmp_path, optimade.url, "Pd")
    assert not app.error
    assert any(
        f"{len(BINARIES)} cells of Pd-H from Example provider" in text.value for text in app.caption
    )
    left_out = next(frame.value for frame in app.dataframe if "reason" in frame.value)
    assert set(left_out["where"]) == LEFT_OUT.keys()
    assert any("128 atoms" in reason for reason in left_out["reason"])
    path = app.session_state["own_a"]["path"]
    assert cached.class_cells(path, "Pd", "H")[0] == list(BINARIES.values())
    asked = optimade.requests()
    app.button(key="fetch_a").click().run()
    assert optimade.requests() > asked  # asked again, not from the cache
    path = app.session_state["own_a"]["path"]  # another file: each cell says when it was asked for
    app.switch_page("pages/train.py").run()
    app.switch_page("pages/pair.py").run()
    assert app.segmented_control(key="source_a").value == "Database"
    assert app.session_state["own_a"]["path"] == path
    assert not app.button(key="train_pair").disabled
    metal_field(app, "a").select("Ti").run()
    assert app.session_state["own_a"] is None
    assert app.button(key="train_pair").disabled
    app.switch_page("pages/train.py").run()
    assert any("Choose two metals" in text for text in said(app))


@pytest.mark.slow
def test_candidates_are_compared_with_a_database(monkeypatch, tmp_path, finished, optimade):
    run = Run(copied(finished, tmp_path))
    monkeypatch.setenv(databases.EXTRA, optimade.url)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    app = open_page(monkeypatch, tmp_path, "explore", run=run.folder.name)
    app.button(key="fetch_known").click().run()
    assert not app.exception
    assert not app.error
    wait_for(lambda: not work.is_generating(run))
    assert work.problem(run) is None
    (file,) = known_folder(run).iterdir()
    assert file.name == "Pd-Ni-H Example provider.extxyz"
    app.run()
    assert any(file.name in text.value for text in app.caption)


@pytest.mark.slow
def test_database_that_has_nothing_or_gives_no_answer_says_so(monkeypatch, tmp_path, optimade):
    app = ask_database(monkeypatch, tmp_path, optimade.url, "Cr")
    assert any("has no structure that holds exactly Cr and H" in box.value for box in app.warning)
    app = ask_database(monkeypatch, tmp_path, "http://127.0.0.1:9", "Pd")
    assert any("cannot be reached" in box.value for box in app.error)
    monkeypatch.delenv("MP_API_KEY", raising=False)
    app = ask_database(monkeypatch, tmp_path, optimade.url, "Pd", "mp-api")
    assert any("asks for a key" in box.value for box in app.error)


def test_a_visitor_names_no_host():
    offered = databases.names("")
    assert {"mp", "mp-api", "oqmd", "alexandria", "cod", "odbx"} <= set(offered)
    assert not any("://" in name for name in offered)
    assert databases.names("http://127.0.0.1:5000")[0] == "http://127.0.0.1:5000"


def test_key_goes_to_the_process_only_and_into_no_message(monkeypatch):
    asked = {}

    def refuse(arguments, _show, environment):
        asked.update(arguments=arguments, environment=environment)
        raise InputError("The key s3cret is refused.")

    monkeypatch.setattr(work, "carried_out", refuse)
    with pytest.raises(InputError) as error:
        databases.fetch(["Pd", "H"], "mp-api", "s3cret", refresh=False)
    assert "s3cret" not in f"{error.value} {asked['arguments']}"
    assert asked["environment"] == {"MP_API_KEY": "s3cret"}


@pytest.mark.slow
def test_doctor_proposes_and_a_cleaned_copy_is_used_only_when_asked(monkeypatch, tmp_path):
    app = open_page(monkeypatch, tmp_path, a="Pd", b="Ni")
    app.segmented_control(key="pair_view").set_value("Data doctor").run()
    assert not app.exception
    report = work.doctor("Pd", "Pd", "H")
    proposed = len(report["proposals"])
    assert proposed
    assert "own_a" not in app.session_state
    app.button(key="clean_a").click().run()
    assert not app.exception
    assert not app.error
    own = app.session_state["own_a"]
    assert len(cached.class_cells(own["path"], "Pd", "H")[0]) == report["cells"] - proposed
    assert any(
        f"{report['cells'] - proposed} of {report['cells']} cells" in text.value
        for text in app.caption
    )
    app.switch_page("pages/train.py").run()
    app.switch_page("pages/pair.py").run()
    assert app.session_state["own_a"] == own
    app.button(key="whole_a").click().run()
    assert app.session_state["own_a"] is None
    assert metal_field(app, "a").value == "Pd"


@pytest.mark.slow
def test_limits_are_the_papers_or_the_classes(monkeypatch, tmp_path):
    app = open_page(monkeypatch, tmp_path, a="Pd", b="Ni")

    def lines():
        layout = json.loads(app.get("plotly_chart")[0].proto.spec)["layout"]
        return {note["text"] for note in layout["annotations"] if note["text"].startswith("d")}

    assert lines() == {"d1 1.80", "d2 3.00"}
    app.segmented_control(key="whose_limits").set_value("learned from each class").run()
    low, high = work.doctor("Pd", "Pd", "H")["limits"]["learned"]["Pd-Pd"]
    assert {f"d1 {low:.2f}", f"d2 {high:.2f}"} <= lines()


def test_paper_preset_fills_every_field(monkeypatch, tmp_path):
    app = open_page(monkeypatch, tmp_path, a="Pd", b="Ni").switch_page("pages/train.py").run()
    assert (app.number_input(key="set_epochs1").value, app.selectbox(key="set_rule").value) == (
        1000,
        "learned",
    )
    app.selectbox(key="preset").select("paper").run()
    paper = Config.paper()
    assert app.selectbox(key="set_rule").value == "paper"
    assert app.number_input(key="set_learning_rate").value == pytest.approx(paper.learning_rate)
    assert app.toggle(key="set_residual").value is paper.residual
    app.text_input(key="seeds").set_value("0, x").run()
    assert any("Seeds are" in box.value for box in app.error)
    assert app.button(key="train").disabled


def test_link_opens_a_candidate_and_a_wrong_link_says_so(monkeypatch, tmp_path, finished):
    copied(finished, tmp_path)
    app = open_page(monkeypatch, tmp_path, "explore", run=finished.folder.name, candidate="7")
    assert any(text.value.startswith("**7: ") for text in app.markdown)
    app = open_page(monkeypatch, tmp_path, "explore", run="nowhere", candidate="99999")
    assert any("not here" in box.value for box in app.warning)
    assert any(text.value.startswith("**1: ") for text in app.markdown)


def test_filters_and_sorting(monkeypatch, tmp_path, finished):
    copied(finished, tmp_path)
    app = open_page(monkeypatch, tmp_path, "explore", run=finished.folder.name)
    app.selectbox(key="sort").select("volume").run()
    volumes = app.dataframe[0].value["volume"].tolist()
    assert volumes == sorted(volumes)
    app.toggle(key="sort_down").set_value(True).run()
    assert app.dataframe[0].value["volume"].tolist() == sorted(volumes, reverse=True)
    app.segmented_control(key="filter").set_value("Kept").run()
    assert any("No candidate is left" in text for text in said(app))


@pytest.mark.slow
def test_candidates_are_compared_with_ones_own_known_structures(monkeypatch, tmp_path, finished):
    run = Run(copied(finished, tmp_path))
    table = cached.table(run)
    third = load_candidate(run, int(table["id"].iloc[2]))
    assert table["new"].iloc[2]
    app = open_page(monkeypatch, tmp_path, "explore", run=run.folder.name, candidate="3")
    assert any(
        "Not compared with known ternaries of Pd-Ni-H yet" in text.value for text in app.caption
    )
    app.file_uploader(key="known_files").upload("mine.txt.cif", b"no cif", "text/plain").run()
    app.button(key="compare").click().run()
    assert any("None of these files holds a structure" in box.value for box in app.error)
    assert not known_folder(run).exists()
    app.file_uploader(key="known_files").upload(
        "mine.cif", third.to(fmt="cif").encode(), "text/plain"
    ).run()
    app.button(key="compare").click().run()
    assert not app.exception
    wait_for(lambda: not work.is_generating(run))
    app.run()
    assert not app.error
    table = cached.table(run)
    assert table["matches"].iloc[2] == "mine.cif"
    assert not table["new"].iloc[2]
    assert any("Known: matches" in text.value and "mine.cif" in text.value for text in app.caption)
    app.toggle(key="only_new").set_value(True).run()
    assert set(app.dataframe[0].value["id"]) == set(table["id"][table["new"]])
    app.button(key="forget").click().run()
    wait_for(lambda: not work.is_generating(run))
    assert cached.table(run)["new"].iloc[2]


def say_progress(path, done, of, what):
    ProgressFile(path).tell(Progress(done, of, what))


def test_comparing_says_how_far_it_is(monkeypatch, tmp_path, finished):
    run = Run(copied(finished, tmp_path))
    worker = subprocess.Popen(["/bin/sh", "-c", "sleep 60", "novelty"])
    try:
        monkeypatch.setitem(work._processes(), str(run.folder / work.LOG), worker)
        app = open_page(monkeypatch, tmp_path, "explore", run=run.folder.name)
        assert app.get("progress")[0].proto.text == "Reading what is known ..."
        say_progress(work.progress_of(run), 9, 20, "compared")
        app.run()
        bar = app.get("progress")[0].proto
        assert (bar.text, bar.value) == ("45%: 9 of 20 compared", 45)
    finally:
        worker.kill()
        worker.wait()


def test_a_symmetrized_cell_is_added_shown_and_rejected_like_any_other(
    monkeypatch, tmp_path, finished
):
    folder = copied(finished, tmp_path)
    for number in (2, 3):
        put_in(Run(folder), number, nearly_symmetric()[1])
    app = open_page(monkeypatch, tmp_path, "explore", run=folder.name, candidate="2")
    app.segmented_control(key="detail").set_value("Symmetry").run()
    app.select_slider(key="tolerance").set_value(0.001).run()
    assert app.button(key="take_symmetrized").disabled
    app.select_slider(key="tolerance").set_value(0.1)
    app.button(key="next").click().run()
    app.button(key="take_symmetrized").click().run()
    assert not app.exception
    assert not app.error
    assert any(text.value.startswith("**21: ") and "P4/mmm" in text.value for text in app.markdown)
    assert [note.value for note in app.toast] == ["Candidate 21 is the symmetrized cell."]
    assert any(
        "The symmetrized cell of candidate 3, at 0.1 Å" in text.value for text in app.caption
    )
    app.button(key="take_symmetrized").click().run()
    assert "Candidate 21 is its own symmetrized cell" in app.error[0].value
    app.button(key="decide_rejected").click().run()
    assert decisions(folder) == {21: "rejected"}
    app.button(key="undo").click().run()
    assert decisions(folder) == {}
    assert len(app.dataframe[0].value) == 21


def decisions(folder):
    table = cached.table(Run(folder))
    return {
        int(i): d for i, d in zip(table["id"], table["decision"], strict=True) if d != "undecided"
    }


def test_vetting_moves_on_and_undo_comes_back(monkeypatch, tmp_path, finished):
    folder = copied(finished, tmp_path)
    app = open_page(monkeypatch, tmp_path, "explore", run=folder.name)
    app.button(key="decide_kept").click().run()
    app.button(key="decide_rejected").click().run()
    assert decisions(folder) == {1: "kept", 2: "rejected"}
    assert any(text.value.startswith("**3: ") for text in app.markdown)
    app.text_input(key=f"note_{folder.name}_3").set_value("<b>odd</b>").run()
    app.button(key="undo").click().run()
    assert decisions(folder) == {1: "kept"}
    assert any(text.value.startswith("**2: ") for text in app.markdown)
    assert cached.table(Run(folder))["note"].tolist()[2] == "<b>odd</b>"


def test_two_sessions_vet_one_run(monkeypatch, tmp_path, finished):
    folder = copied(finished, tmp_path)
    one, two = (open_page(monkeypatch, tmp_path, "explore", run=folder.name) for _ in range(2))
    one.button(key="decide_kept").click().run()
    two.button(key="next").click().run()
    two.button(key="decide_rejected").click().run()
    assert decisions(folder) == {1: "kept", 2: "rejected"}
    two.button(key="prev").click().run()
    two.button(key="prev").click().run()
    two.button(key="decide_rejected").click().run()
    one.button(key="undo").click().run()  # somebody else's decision came later: it stays
    assert decisions(folder) == {1: "rejected", 2: "rejected"}


def test_a_decision_that_the_other_session_has_not_seen_is_not_written_over(
    monkeypatch, tmp_path, finished
):
    folder = copied(finished, tmp_path)
    one, two = (open_page(monkeypatch, tmp_path, "explore", run=folder.name) for _ in range(2))
    one.button(key="decide_kept").click().run()
    two.button(key="decide_rejected").click().run()
    assert decisions(folder) == {1: "kept"}
    assert any("Candidate 1 was kept by another session at" in box.value for box in two.warning)
    assert any(text.value.startswith("**2: ") for text in two.markdown)
    two.button(key="refused_show_1").click().run()
    assert any(text.value.startswith("**1: ") for text in two.markdown)
    two.button(key="decide_rejected").click().run()
    assert decisions(folder) == {1: "rejected"}
    assert not two.warning
    two.button(key="undo").click().run()
    assert decisions(folder) == {1: "kept"}


def test_a_note_is_kept_whole_and_comes_back(monkeypatch, tmp_path, finished):
    folder = copied(finished, tmp_path)
    one, two = (open_page(monkeypatch, tmp_path, "explore", run=folder.name) for _ in range(2))
    key, words = f"note_{folder.name}_1", "é" * 2000
    one.text_input(key=key).set_value(words).run()
    one.button(key="next").click().run()
    one.button(key="prev").click().run()
    assert one.text_input(key=key).value == words
    two.text_input(key=key).set_value("not seen").run()
    assert get_row(Run(folder), 1).data["note"] == words
    assert two.text_input(key=key).value == "not seen"
    two.button(key="note_mine").click().run()
    assert get_row(Run(folder), 1).data["note"] == two.text_input(key=key).value == "not seen"
    two.text_input(key=key).set_value(words + "!").run()
    assert any(
        "has 2,001 characters, and 2,000 are kept at most" in box.value for box in two.warning
    )
    two.button(key="note_theirs").click().run()
    assert two.text_input(key=key).value == "not seen"
    assert not two.warning


def test_labels_of_runs_tell_them_apart(tmp_path, finished):
    names = [
        finished.folder.name,
        "001",
        "Pd-Ni-H_001",
        "Pd-Ni-H_shipped",
        "Pd-Ni-H_crystalgan_seed1_001",
        "run_001",
        "run_001_001",
    ]
    runs = [Run(shutil.copytree(finished.folder, tmp_path / name)) for name in names]
    assert len({state.run_name(run) for run in runs}) == len(names)
    label = state.run_label(runs[0])
    assert label.startswith("Pd-Ni-H, seed 0 (001) · learned, 2 + 2 epochs, 20 cells, ")


def test_a_run_that_is_gone_is_said_and_not_made_again(monkeypatch, tmp_path, finished):
    folder, other = (
        copied(finished, tmp_path),
        copied(finished, tmp_path / "x").rename(tmp_path / "other"),
    )
    app = open_page(monkeypatch, tmp_path, "explore", run=folder.name)
    shutil.rmtree(folder)
    app.button(key="decide_kept").click().run()
    assert not app.exception
    assert any(f"The run {folder.name} is no longer here" in box.value for box in app.error)
    assert not folder.exists()
    app.selectbox(key="choose_run").select("other").run()
    assert not app.error
    assert any(text.value.startswith("**1: ") for text in app.markdown)
    assert decisions(other) == {}


def test_another_run_of_the_same_name_gets_no_decision_that_was_not_meant_for_it(
    monkeypatch, tmp_path, finished
):
    folder = copied(finished, tmp_path)
    app = open_page(monkeypatch, tmp_path, "explore", run=folder.name)
    shutil.rmtree(folder)
    copied(finished, tmp_path)
    app.button(key="decide_kept").click().run()
    assert any("are others than those that were shown" in box.value for box in app.warning)
    assert decisions(folder) == {}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("{root}/cut/config.json: damaged (x)", "cut/config.json: damaged (x)"),
        ("{root}/.uploads/0a1b/Pd H.cif: holds no cells", "Pd H.cif: holds no cells"),
        ("{root}: no run can be kept here", "{name}: no run can be kept here"),
        (
            "[Errno 13] Permission denied: '/srv/data/a b.cif'",
            "[Errno 13] Permission denied: 'a b.cif'",
        ),
        ("see (/home/me/x/y.vasp) and ~/.cache/z.json", "see (y.vasp) and z.json"),
        (
            "Pd/Ni in P4/mmm, 0.2 eV/atom, https://optimade.org/v1/x",
            "Pd/Ni in P4/mmm, 0.2 eV/atom, https://optimade.org/v1/x",
        ),
    ],
)
def test_messages_name_no_folder_of_the_server(monkeypatch, tmp_path, words, said):
    root = tmp_path / "my runs"
    monkeypatch.setenv("CRYSTALGAN_RUNS", str(root))
    assert work.in_app(words.format(root=root)) == said.format(name=root.name)


def test_new_says_what_was_compared(tmp_path, finished):
    run = Run(copied(finished, tmp_path))
    assert known.novelty(run).startswith("Not compared with known ternaries of Pd-Ni-H yet")
    assert "none is built in" in known.novelty(run)
    database = open_database(run)
    for ternary, built_in, words in (
        (0, 0, "Not compared with known ternaries"),
        (1, 0, "not the one known"),
        (7, 0, "none of 7 known ternaries"),
        (7, 0, "(0 built in, 7 of yours)"),
        (7, 2, "(2 built in, 5 of yours)"),
    ):
        database.metadata = database.metadata | {
            "known": {
                "structures": 90,
                "ternary": ternary,
                "files": [],
                "not_compared": [],
                "builtin_ternary": built_in,
            }
        }
        assert words in known.novelty(run)


def test_a_run_from_before_is_offered_the_built_in_known_ternaries(tmp_path, finished, monkeypatch):
    run = Run(copied(finished, tmp_path))
    assert known.not_compared_yet(run) == 0  # of Pd-Ni-H none is built in
    monkeypatch.setattr(known, "ternaries_of", lambda species: [*species])
    assert known.not_compared_yet(run) == 3
    assert "Not compared with 3 built-in known ternaries of Pd-Ni-H" in known.novelty(run)
    app = open_page(monkeypatch, tmp_path, "explore", run=run.folder.name)
    assert app.button(key="compare_builtin").label == "Compare with 3 built-in known ternaries too"


def test_the_type_of_a_known_ternary_stands_beside_the_cell_and_in_the_table(
    tmp_path, finished, monkeypatch
):
    run = Run(copied(finished, tmp_path))
    number = int(cached.table(run)["id"].iloc[1])
    note_likenesses(run, {number: Likeness(None, "SrPdH3 (mp-1207079)")})
    app = open_page(monkeypatch, tmp_path, "explore", run=run.folder.name, candidate=str(number))
    assert any("; the type of `SrPdH3 (mp-1207079)`" in text.value for text in app.caption)
    assert set(app.dataframe[0].value["type"]) == {"", "SrPdH3 (mp-1207079)"}


def test_known_files_are_given_one_by_one_where_a_zip_is_among_them(tmp_path, finished):
    run = Run(copied(finished, tmp_path))
    assert work.known_option(run) == []
    folder = known_folder(run)
    work.write_files([("a.cif", b"")], folder)
    assert work.known_option(run) == ["--known", str(folder)]
    work.write_files([("b.ZIP", b"")], folder)
    assert work.known_option(run) == [
        "--known",
        str(folder / "a.cif"),
        "--known",
        str(folder / "b.ZIP"),
    ]


def test_one_cell_cannot_be_trained_on(monkeypatch, tmp_path):
    one = Structure(Lattice.cubic(2.9), ["Pd", "H"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    (tmp_path / "PdH.cif").write_text(one.to(fmt="cif"))
    app = open_page(monkeypatch, tmp_path / "runs", b="Ni")
    app.session_state["kind_a"], app.session_state["a"] = "Upload", "Pd"
    app.session_state["own_a"] = {"path": str(tmp_path / "PdH.cif"), "about": "1 cell of Pd-H"}
    app.run()
    assert app.button(key="train_pair").disabled
    assert any(
        "PdH.cif: only 1 cell of Pd-H; a class needs at least 2" in box.value for box in app.error
    )
    app.switch_page("pages/train.py").run()
    assert any("a class needs at least 2" in box.value for box in app.error)
    assert not any(button.key == "train" for button in app.button)
    assert not any(str(tmp_path) in box.value for box in app.error)


def test_archive_holds_what_was_chosen(finished):
    names = zipfile.ZipFile(
        io.BytesIO(cached.archive(str(finished.folder), "3,7", "cif"))
    ).namelist()
    assert sorted(names)[-2:] == ["candidates.csv", "provenance.json"]
    assert sum(name.endswith(".cif") for name in names) == 2
    with pytest.raises(InputError, match="holds no candidate"):
        cached.archive(str(finished.folder), "9999", "cif")


def test_failed_run_tells_why_and_can_be_resumed(monkeypatch, tmp_path, finished):
    folder = copied(finished, tmp_path)
    (folder / "worker.log").write_text("step 1: 10%|#  | 1/10\nMemoryError: no more\n")
    Run(folder).set_status("failed", message="The loss geo1 is not finite.")
    app = open_page(monkeypatch, tmp_path, "train", run=folder.name)
    assert "The loss geo1 is not finite." in said(app)
    assert [block.value for block in app.code] == ["MemoryError: no more"]
    assert app.button(key="resume")


def test_metrics_are_read_on_from_where_they_ended(tmp_path, finished):
    run = Run(copied(finished, tmp_path))
    path = run.folder / "metrics.jsonl"
    assert cached.metrics(run) == run.metrics()
    with path.open("a") as file:
        file.write('{"step": 2, "epoch": 3, "geo1": 0.5}\n{"step": 2, "epo')
    assert cached.metrics(run) == run.metrics()
    assert len(cached.metrics(run)) == 5
    with path.open("a") as file:
        file.write('ch": 4, "geo1": 0.25}\n')
    assert cached.metrics(run)[-1] == {"step": 2, "epoch": 4, "geo1": 0.25}
    before = json.loads(cached.losses(run, 1))
    run.keep_metrics(2, 1)  # as a resumed training does
    assert cached.metrics(run) == run.metrics()
    assert len(cached.metrics(run)) == 3
    assert json.loads(cached.losses(run, 1)) != before


def test_every_class_is_in_the_periodic_table_at_a_place_of_its_own():
    table = cached.element_table()
    assert set(cached.class_sizes()) <= {element["symbol"] for element in table}
    places = {(element["x"], element["y"]) for element in table}
    assert len(places) == len(table)
    assert {
        e["symbol"]: (e["x"], e["y"]) for e in table if e["symbol"] in ("Pd", "La", "Lu", "U")
    } == {
        "Pd": (10, 5),
        "La": (3, 8),
        "Lu": (17, 8),
        "U": (6, 9),
    }


def test_uploads_keep_to_their_folder(tmp_path):
    class File:
        def __init__(self, name):
            self.name = name

        def getvalue(self):
            return b"x"

    folder = work.keep_upload(
        [File("../../evil.cif"), File("..\\also.cif"), File(".hidden")], tmp_path
    )
    assert sorted(path.name for path in folder.iterdir()) == ["also.cif", "evil.cif", "hidden"]
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == set(folder.iterdir())


@pytest.mark.slow
def test_doctor_looks_at_uploaded_cells(monkeypatch, tmp_path):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    report = work.doctor("Pd", None, "H")
    assert report["cells"] == cached.class_sizes()["Pd"]
    with pytest.raises(InputError, match="no such file"):
        work.doctor(str(tmp_path / "gone"), None, "H")


@pytest.mark.slow
def test_train_and_generate_buttons_start_real_workers(monkeypatch, tmp_path):
    without_shipped(monkeypatch, tmp_path)
    app = open_page(monkeypatch, tmp_path, a="Pd", b="Ni").switch_page("pages/train.py").run()
    app.number_input(key="set_epochs1").set_value(2)
    app.number_input(key="set_epochs2").set_value(3)
    app.text_input(key="seeds").set_value("3").run()
    app.button(key="train").click().run()
    assert not app.exception
    assert not app.error
    (run,) = list_runs(tmp_path)
    assert (run.config.epochs1, run.config.epochs2, run.config.seed) == (2, 3, 3)
    wait_for(lambda: run.status().state == "finished")
    assert len(run.metrics()) == 5
    app.run()
    app.switch_page("pages/explore.py").run()
    assert any("Press Generate" in text for text in said(app))
    app.number_input(key="more").set_value(5)
    app.button(key="generate").click().run()
    assert not app.exception
    wait_for(lambda: not work.is_generating(run))
    app.run()
    assert not app.error
    assert len(app.dataframe[0].value) == 5


@pytest.mark.slow
def test_step2_anew_on_the_shipped_step1(monkeypatch, tmp_path):
    app = open_page(monkeypatch, tmp_path, "train")
    app.selectbox(key="base").select("Pd-Ni-H_shipped").run()
    app.number_input(key="set_epochs2").set_value(2).run()
    app.button(key="train").click().run()
    assert not app.error
    run = next(r for r in list_runs(tmp_path) if r.folder.name != "Pd-Ni-H_shipped")
    wait_for(lambda: run.status().state == "finished")
    taken, given = (r.load("step1.safetensors")[0] for r in (run, Run(SHIPPED / "Pd-Ni-H_shipped")))
    assert taken.keys() == given.keys()
    assert all(taken[name].equal(given[name]) for name in given)
    assert [line["epoch"] for line in run.metrics() if line["step"] == 2] == [1, 2]
    assert json.loads((run.folder / "config.json").read_text())["classes"]["step1"] == {
        "run": "Pd-Ni-H_shipped"
    }


@pytest.mark.slow
def test_generating_that_fails_tells_why(monkeypatch, tmp_path, finished):
    folder = copied(finished, tmp_path)
    (folder / "step2.safetensors").write_bytes(b"damaged")
    app = open_page(monkeypatch, tmp_path, "explore", run=folder.name)
    app.number_input(key="more").set_value(300)
    app.button(key="generate").click().run()
    wait_for(lambda: not work.is_generating(Run(folder)))
    app.run()
    assert "step2.safetensors: damaged" in app.error[0].value


@pytest.fixture(scope="module")
def relaxed_root(tmp_path_factory):
    """A runs folder with the shipped run, two of whose candidates are relaxed in a quick potential,
    one in vain."""
    from crystalgan.stability.relaxations import relax_candidates
    from crystalgan.stability.tasks import Settings

    root = tmp_path_factory.mktemp("relaxed")
    run = Run(shutil.copytree(SHIPPED / "Pd-Ni-H_shipped", root / "Pd-Ni-H_shipped"))
    relax_candidates(run, "1,3", "ase.calculators.emt.EMT", Settings(steps=5))
    relax_candidates(run, "2", "faulty.NotANumber")
    return root


def test_stability_invites_to_relax(monkeypatch, tmp_path):
    app = open_page(monkeypatch, tmp_path, "stability")
    assert any("Press Relax" in text for text in said(app))
    assert app.selectbox(key="relax_which").options[0].startswith("the first ten good ones")


def test_relaxed_candidates_are_shown_with_their_way(monkeypatch, relaxed_root):
    app = open_page(monkeypatch, relaxed_root, "stability", candidate="3")
    assert app.segmented_control(key="energies_of").options == ["EMT", "NotANumber"]
    assert app.dataframe[0].value["id"].tolist() == [1, 3]
    assert any("not relaxed with EMT" in text for text in said(app))
    assert any(
        "**3: " in text.value and "** · not converged in 10 steps" in text.value
        for text in app.markdown
    )
    slider = app.select_slider(key="step_Pd-Ni-H_shipped-EMT-3")
    slider.set_value(slider.options[0]).run()
    assert not app.exception
    app.segmented_control(key="relaxed_show").set_value("Hydrogen").run()
    cell = Composition(open_database(Run(relaxed_root / "Pd-Ni-H_shipped")).get(3).formula)
    percent = 100 * cell["H"] * Element("H").atomic_mass / cell.weight
    assert {metric.label: metric.value for metric in app.metric}["hydrogen"] == f"{percent:.2f} wt%"
    app.segmented_control(key="energies_of").set_value("NotANumber").run()
    assert not app.exception
    assert any("could not be relaxed" in text and "not finite" in text for text in said(app))


def test_phonons_are_offered_and_shown_where_they_are_known(monkeypatch, tmp_path):
    from crystalgan.stability.phonon_rows import compute_phonons
    from crystalgan.stability.relaxations import relax_candidates

    run = Run(shutil.copytree(SHIPPED / "Pd-Ni-H_shipped", tmp_path / "Pd-Ni-H_shipped"))
    places = [[0, 0, 0], [0.5] * 3]
    put_in(run, 1, Structure(Lattice.tetragonal(2.65, 3.75), ["Pd", "Ni"], places))
    put_in(run, 2, Structure(Lattice.cubic(2.9), ["Pd", "Ni"], places))
    relax_candidates(run, "1,2", "ase.calculators.emt.EMT")
    app = open_page(monkeypatch, tmp_path, "stability", candidate="2")
    app.segmented_control(key="relaxed_show").set_value("Phonons").run()
    assert any("Phonons say whether the cell holds together" in box.value for box in app.caption)
    compute_phonons(run, "1,2", "ase.calculators.emt.EMT")
    app.run()
    assert not app.exception
    assert any(
        "**Unstable**" in text.value and "i THz at q =" in text.value for text in app.markdown
    )
    assert app.get("plotly_chart")
    app = open_page(monkeypatch, tmp_path, "stability", candidate="1")
    app.segmented_control(key="relaxed_show").set_value("Phonons").run()
    assert any("**Stable**" in text.value for text in app.markdown)
    assert any("Zero-point energy" in box.value for box in app.caption)


def test_relaxing_says_how_far_it_is_and_what_went_wrong(monkeypatch, tmp_path):
    app = open_page(monkeypatch, tmp_path, "stability")
    run = Run(tmp_path / "Pd-Ni-H_shipped")
    worker = subprocess.Popen(["/bin/sh", "-c", "read line; exit 2"], stdin=subprocess.PIPE)
    monkeypatch.setitem(work._processes(), str(run.folder / work.RELAX_LOG), worker)
    app.run()
    assert app.get("progress")[0].proto.text == "Loading the potential ..."
    say_progress(work.progress_of(run, work.RELAX_LOG), 1, 4, "relaxed")
    app.run()
    assert app.get("progress")[0].proto.text == "1 of 4 relaxed"
    worker.communicate(b"\n")
    (run.folder / work.RELAX_LOG).write_text(
        "crystalgan: CHGNet gives no energy for Xx; choose another potential.\n"
    )
    app.run()
    assert [box.value for box in app.error] == [
        "CHGNet gives no energy for Xx; choose another potential."
    ]


def test_energies_go_along_in_the_export(relaxed_root, tmp_path):
    import pandas as pd

    from crystalgan.stability.export import export

    export(relaxed_root / "Pd-Ni-H_shipped", tmp_path / "x.zip", "1,2,4")
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        table = pd.read_csv(io.BytesIO(archive.read("candidates.csv"))).set_index("id")
    assert table["relaxation_EMT"].fillna("").tolist() == ["unfinished", "", ""]
    assert table["energy_eV_per_atom_EMT"].notna().tolist() == [True, False, False]
    assert "not finite" in table["relaxation_failed_because_NotANumber"][2]


@pytest.mark.slow
def test_relax_button_starts_a_worker_and_shows_the_hull(monkeypatch, tmp_path):
    app = open_page(monkeypatch, tmp_path, "stability")
    run = Run(tmp_path / "Pd-Ni-H_shipped")
    decide(run, [3], "kept")
    app.run()
    assert app.selectbox(key="relax_which").options[0] == "kept by you (1)"
    app.selectbox(key="relax_which").set_value("kept").run()
    alloy = Structure(Lattice.tetragonal(2.7, 3.6), ["Pd", "Ni"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    app.file_uploader(key="relax_phases").upload(
        "iron.cif", alloy.copy().replace_species({"Ni": "Fe"}).to(fmt="cif").encode()
    ).run()
    app.button(key="relax").click().run()
    assert any("holds no phase that competes" in box.value for box in app.error)
    assert not work.is_relaxing(run)
    app.file_uploader(key="relax_phases").set_value(
        ("alloy.cif", alloy.to(fmt="cif").encode(), "text/plain")
    ).run()
    app.button(key="relax").click().run()
    assert not app.exception
    wait_for(lambda: not work.is_relaxing(run))
    app.run()
    assert not said(app)
    assert "alloy.cif NiPd" in {row.phase for row in relaxed_rows(run)}
    assert app.dataframe[0].value["id"].tolist() == [3]
    assert 0 <= app.dataframe[0].value["above_hull"][0] < 0.2  # eV/atom
    assert len(app.get("plotly_chart")) == 2
    app.segmented_control(key="stability_view").set_value("Storage").run()
    assert not app.exception
    app.switch_page("pages/explore.py").run()
    assert app.dataframe[0].value["e_above_hull"].notna().sum() == 1


@pytest.mark.slow
def test_relaxing_is_stopped_by_its_button(monkeypatch, tmp_path):
    app = open_page(monkeypatch, tmp_path, "stability")
    run = Run(tmp_path / "Pd-Ni-H_shipped")
    app.button(key="relax").click().run()
    assert work.is_relaxing(run)
    work.stop_relaxing(run)
    wait_for(lambda: not work.is_relaxing(run))
    app.run()
    assert not app.error
    assert not app.exception
