"""The page Discover in a real browser: a click on a row shows another cell, and the way to Stability
keeps it."""

import io
import re
import shutil
import zipfile

import ase.io
import pytest
from playwright.sync_api import expect

from crystalgan.discovery.phases import phases_of_run
from crystalgan.runs.folder import Run
from crystalgan.stability.relaxations import relaxed_rows

from .steps import choose, click_row, drawn, picture, settled


def test_a_click_on_a_row_opens_the_cell(server, page, searched_folder):
    run = Run(shutil.copytree(searched_folder, server.runs / "Pd-Ni-H_discovery_seed0_browser"))
    first, second = phases_of_run(run).table["id"][:2]
    page.goto(f"{server.url}/discover?run={run.folder.name}")
    settled(page)
    expect(page.get_by_text(re.compile(rf"^{first}: NiPdH"))).to_be_visible()
    drawn(page)
    click_row(page, 1)
    expect(page.get_by_text(re.compile(rf"^{second}: NiPdH"))).to_be_visible()
    drawn(page)
    picture(page, "discover")
    page.get_by_role("link", name="Hydrogen and phonons").click()
    expect(page.get_by_role("heading", name="Stability", exact=True)).to_be_visible()
    settled(page)
    expect(page.get_by_text(re.compile(rf"^{second}: NiPdH"))).to_be_visible()


def test_its_export_holds_the_relaxed_cells(server, page, searched_folder, tmp_path):
    run = Run(shutil.copytree(searched_folder, server.runs / "Pd-Ni-H_discovery_seed0_export"))
    page.goto(f"{server.url}/export?run={run.folder.name}")
    settled(page)
    choose(page, "Candidates", "all")
    expect(page.get_by_role("combobox", name="Positions")).to_have_value("relaxed with CHGNet")
    choose(page, "Format", "extended XYZ")
    picture(page, "export-relaxed")
    with page.expect_download() as event:
        page.get_by_role("button", name="Download").first.click()
    event.value.save_as(tmp_path / "x.zip")
    rows = {row.candidate: row for row in relaxed_rows(run, "CHGNet")}
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        names = [name for name in archive.namelist() if name.endswith(".extxyz")]
        cells = [ase.io.read(io.StringIO(archive.read(n).decode()), format="extxyz") for n in names]
    assert cells
    for cell in cells:
        relaxed = rows[cell.info["id"]]
        assert cell.get_volume() == pytest.approx(relaxed.volume, rel=1e-6)
