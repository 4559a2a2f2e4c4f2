"""Ways beside the journey: a class from a database, a cleaned copy, known structures, a symmetrized
cell."""

import io
import os
import re
import zipfile

import ase.io
import pytest
from conftest import nearly_symmetric, put_in
from playwright.sync_api import expect
from test_sources import BINARIES, LEFT_OUT

from crystalgan.data.classes import builtin_classes, builtin_sizes, load_class
from crystalgan.runs.database import candidates_table, load_candidate
from crystalgan.runs.folder import Run
from crystalgan.runs.run_zip import pack_run

from .steps import choose, drawn, go, listening, picture, run_in_address, set_epochs, settled

pytestmark = pytest.mark.slow


FEW = 8  # cells of an uploaded class
ONE = "Ni H\n1.0\n2.9 0 0\n0 2.9 0\n0 0 2.9\nNi H\n1 1\nDirect\n0 0 0\n0.5 0.5 0.5\n"


def upload(page, file):
    page.get_by_test_id("stFileUploader").locator("input").set_input_files(file)


def test_own_classes_own_rule_and_a_colleagues_run(page, server, tmp_path):
    page.goto(f"{server.url}/?b=Ni")
    settled(page)
    class_from_a_database(page)
    one_cell_is_no_class(page)
    own_cells(page, tmp_path)
    page.get_by_role("button", name="Train this pair").click()
    expect(page.get_by_role("heading", name="Train", exact=True)).to_be_visible()
    settled(page)
    choose(page, "Settings", "paper")
    set_epochs(page, 2, 2)
    choose(page, "Distance rule", "my own table")
    expect(page.get_by_text("Limits of first-neighbour distances")).to_be_visible()
    settled(page)
    picture(page, "train-own-rule")
    page.get_by_role("button", name="Train Pd-Ni-H").click()
    expect(page.get_by_text("2 + 2 epochs")).to_be_visible()
    run = Run.open(server.runs / run_in_address(page))
    assert run.status().state == "finished"
    assert run.rule.name == "own"
    assert run.rule.limits["H-H"] == (1.8, 3.0)
    classes = run.about["classes"]
    assert (classes["a"]["cells"], classes["b"]["cells"]) == (len(BINARIES), FEW)
    assert classes["b"]["source"].endswith("Ni.extxyz")

    path = tmp_path / "from Marie.zip"
    path.write_bytes(pack_run(run))
    page.get_by_text("Zip from a colleague", exact=True).click()
    upload(page, path)
    expect(page.get_by_test_id("stSelectbox").get_by_role("combobox", name="Run")).to_have_value(
        re.compile(r"^from-Marie_001 \(Pd-Ni-H, seed 0\) · own, 2 \+ 2 epochs, 0 cells, ")
    )
    page.wait_for_url("**run=from-Marie_001*")
    assert Run.open(server.runs / "from-Marie_001").rule == run.rule


def class_from_a_database(page):
    """Take class A from the server's own database."""
    page.get_by_text("Database", exact=True).first.click()
    expect(page.get_by_role("button", name="Fetch")).to_be_disabled()
    settled(page)
    page.get_by_role("combobox", name="Metal A").fill("Pd")
    page.get_by_role("option", name="Pd · Palladium").click()
    expect(page.get_by_text("Press Fetch for the cells of Pd-H")).to_be_visible()
    settled(page)
    expect(page.get_by_role("button", name="Train this pair")).to_be_disabled()
    page.get_by_role("button", name="Fetch").click()
    expect(page.get_by_text(f"{len(BINARIES)} cells of Pd-H from Example provider")).to_be_visible()
    settled(page)
    said = page.get_by_text(f"{len(LEFT_OUT)} left out", exact=True)
    said.click()
    expect(page.get_by_test_id("stExpanderDetails").first).to_be_visible()
    settled(page)
    picture(page, "pair-database")
    said.click()


def one_cell_is_no_class(page):
    page.get_by_text("Upload", exact=True).last.click()
    settled(page)
    upload(page, {"name": "NiH.vasp", "mimeType": "text/plain", "buffer": ONE.encode()})
    said = page.get_by_text("a class needs at least 2")
    expect(said).to_be_visible()
    settled(page)
    picture(page, "pair-one-cell")
    assert "/" not in said.inner_text()
    expect(page.get_by_role("button", name="Train this pair")).to_be_disabled()
    go(page, "Train")
    expect(said).to_be_visible()
    assert os.sep not in page.get_by_test_id("stAlert").first.inner_text()
    go(page, "Pair")


def own_cells(page, folder):
    """Make the first cells of a built-in class those of class B, and look at what the doctor says
    of them."""
    path = folder / "Ni.extxyz"
    ase.io.write(path, ase.io.read(builtin_classes()["Ni"], f":{FEW}"))
    upload(page, path)
    expect(page.get_by_text(f"{FEW} cells of Ni-H; 0 left out")).to_be_visible()
    settled(page)
    page.get_by_text("Data doctor", exact=True).click()
    expect(page.get_by_text("Keep the paper's rule").first).to_be_visible()
    settled(page)
    picture(page, "pair-upload")


def test_a_cleaned_copy_is_taken_and_given_back(page, server):
    cells = builtin_sizes()["Pd"]
    page.goto(f"{server.url}/?a=Pd&b=Ni")
    settled(page)
    page.get_by_text("Data doctor", exact=True).click()
    said = page.get_by_text(re.compile(r"The doctor would leave out \d+")).first
    expect(said).to_be_visible()
    left = cells - int(said.inner_text().split()[-1])
    settled(page)
    picture(page, "pair-doctor")
    page.get_by_role("button", name="Use a copy without").first.click()
    expect(page.get_by_text(f"{left} of {cells} cells of Pd-H: a copy")).to_be_visible()
    expect(page.get_by_text("The doctor would keep every cell")).to_be_visible()
    settled(page)
    picture(page, "pair-cleaned")
    (copy,) = server.runs.glob(".uploads/*/Pd-H_cleaned.extxyz")
    assert len(load_class(str(copy), "Pd")) == left < cells
    page.get_by_role("button", name="Take the whole class again").click()
    expect(page.get_by_text(f"{cells} cells of Pd-H, prototypes relaxed")).to_be_visible()


def test_candidates_are_compared_with_known_structures_that_go_along(page, server, run):
    page.goto(f"{server.url}/explore?run={run.folder.name}&candidate=3")
    expect(page.get_by_text("Not compared with known ternaries of Pd-Ni-H yet")).to_be_visible()
    settled(page)
    page.get_by_role("button", name="Known").click()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("theirs/of a colleague.cif", load_candidate(run, 3).to(fmt="cif"))
    file = {"name": "known.zip", "mimeType": "application/zip", "buffer": packed.getvalue()}
    page.get_by_test_id("stFileUploader").locator("input").set_input_files(file)
    compare = page.get_by_role("button", name="Compare with these files")
    expect(compare).to_be_enabled()
    settled(page)
    picture(page, "explore-known")
    compare.click()
    expect(
        page.get_by_text(re.compile(r"Reading what is known|\d+%: \d+ of 200 compared"))
    ).to_be_visible()
    picture(page, "explore-comparing")
    expect(page.get_by_text(re.compile("Known: matches .*of a colleague.cif"))).to_be_visible()
    settled(page)
    table = candidates_table(run).set_index("id")
    assert not table["new"][3]
    assert table["matches"][3].endswith("of a colleague.cif")
    page.keyboard.press("Escape")
    go(page, "Export")
    with page.expect_download() as event:
        page.get_by_role("button", name="Download the run folder").click()
    with zipfile.ZipFile(io.BytesIO(event.value.path().read_bytes())) as archive:
        assert archive.read(f"{run.folder.name}/known/known.zip") == packed.getvalue()


def test_a_symmetrized_cell_is_added_once_and_rejected_like_any_other(page, server, run):
    page.goto(f"{server.url}/explore?run={run.folder.name}&candidate=40")
    settled(page)
    put_in(run, 41, nearly_symmetric()[1])
    count = len(candidates_table(run))
    page.get_by_text("Symmetry", exact=True).click()
    settled(page)
    page.keyboard.press("n")
    listening(page, 41)
    expect(page.get_by_text("Space group P4/mmm")).to_be_visible()
    page.get_by_text("Show the symmetrized cell", exact=True).click()
    drawn(page)
    settled(page)
    add = page.get_by_role("button", name="Add the symmetrized cell to the candidates")
    add.click()
    page.wait_for_url(f"**candidate={count + 1}")
    expect(page.get_by_text(f"Candidate {count + 1} is the symmetrized cell.")).to_be_visible()
    expect(page.get_by_text("The symmetrized cell of candidate 41, at 0.1 Å")).to_be_visible()
    drawn(page)
    settled(page)
    picture(page, "explore-symmetrized")
    add.click()
    expect(page.get_by_text(f"Candidate {count + 1} is its own symmetrized cell")).to_be_visible()
    page.mouse.move(1, 1)  # no words over the page
    settled(page)
    picture(page, "explore-symmetrized-twice")
    page.keyboard.press("x")
    expect(page.get_by_text(f"1 of {count + 1} decided: 0 kept, 1 rejected")).to_be_visible()
    settled(page)
    page.keyboard.press("z")
    expect(page.get_by_text(f"0 of {count + 1} decided")).to_be_visible()
    table = candidates_table(run).set_index("id")
    assert len(table) == count + 1
    assert (table["refined_from"][count + 1], table["decision"][count + 1]) == (41, "undecided")
