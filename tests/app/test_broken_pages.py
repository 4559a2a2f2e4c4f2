"""Every page beside more than 60 broken run folders: it renders, says which cannot be opened, and the
good run is usable."""

import os
import shutil
from pathlib import Path

import pytest
from broken_runs import FOLDERS, SHIPPED_RUN, broken
from streamlit.runtime.pages_manager import PagesManager
from streamlit.testing.v1 import AppTest

APP = str(Path(__file__).resolve().parents[2] / "app.py")
PAGES = ("pair", "discover", "train", "explore", "stability", "compare", "export")
NOT_OPENED = sum(case[1] in ("config.json", "status.json") for case in FOLDERS)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """All broken folders, and the good run, which is the oldest."""
    root = tmp_path_factory.mktemp("broken")
    good = shutil.copytree(SHIPPED_RUN, root / SHIPPED_RUN.name)
    os.utime(good / "config.json", (1, 1))
    assert len(FOLDERS) >= 40
    for _, file, damage, _ in FOLDERS:
        broken(root, file, damage)
    return root


class AfterTheFirstVisit(PagesManager):
    """As in `test_app`: a click goes to the page, not to `state.through_app`."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        PagesManager.uses_pages_directory = False


@pytest.mark.parametrize("page", PAGES)
def test_page_beside_broken_runs(monkeypatch, root, page):
    monkeypatch.setattr("streamlit.testing.v1.app_test.PagesManager", AfterTheFirstVisit)
    monkeypatch.setenv("CRYSTALGAN_RUNS", str(root))
    app = AppTest.from_file(APP, default_timeout=300)
    app.query_params["run"] = SHIPPED_RUN.name
    app.run()
    if page != "pair":
        app.switch_page(f"pages/{page}.py").run()
    assert not app.exception
    texts = [box.value for kind in (app.error, app.warning, app.info, app.caption) for box in kind]
    assert not [text for text in texts if str(root) in text]
    if page == "pair":
        return
    told = [box.value for box in app.warning if "cannot be opened" in box.value]
    assert len(told) == 1
    assert told[0].startswith(f"{NOT_OPENED} folders in runs/ cannot be opened. broken-")
    (others,) = [box for box in app.expander if box.label == "What is wrong with the others"]
    assert len(others.caption) == NOT_OPENED - 1
    if page == "compare":
        chooser = app.multiselect(key="compared")
        assert SHIPPED_RUN.name in chooser.value or chooser.set_value([SHIPPED_RUN.name]).run()
        assert not app.exception
        assert "candidates" in app.dataframe[0].value["metric"].tolist()
        return
    if page == "discover":
        assert any(box.value.startswith("No search yet") for box in app.info)
        return
    assert app.selectbox(key="choose_run").value == SHIPPED_RUN.name
    assert len(app.selectbox(key="choose_run").options) == len(FOLDERS) - NOT_OPENED + 1
    if page == "explore":
        assert len(app.dataframe[0].value) == 200
    assert not app.error
