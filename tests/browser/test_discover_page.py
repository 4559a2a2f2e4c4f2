"""The page Discover in a real browser: a click on a row shows another cell, and the way to Stability
keeps it."""

import re
import shutil

from playwright.sync_api import expect

from crystalgan.discovery.phases import phases_of_run
from crystalgan.runs.folder import Run

from .steps import click_row, drawn, picture, settled


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
