"""Ways beside the journey: a class from a database, a cleaned copy, known structures, a symmetrized
cell."""

import io
import re
import zipfile

import pytest
from conftest import nearly_symmetric, put_in
from playwright.sync_api import expect
from test_sources import BINARIES, LEFT_OUT, OTHERS, entry
from test_sources import Server as Optimade

from crystalgan.data.classes import load_class
from crystalgan.data.doctor import examine
from crystalgan.runs.database import candidates_table, load_candidate
from crystalgan.runs.folder import Run
from crystalgan.runs.listing import list_runs
from ui.databases import EXTRA

from .conftest import Server
from .steps import drawn, go, picture, set_epochs, settled

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The app, which may ask the reference server of OPTIMADE on loopback."""
    folder = tmp_path_factory.mktemp("app")
    entries = [
        *(entry(i, s) for i, s in BINARIES.items()),
        *(e for e, _ in LEFT_OUT.values()),
        *OTHERS,
    ]
    optimade = Optimade(tmp_path_factory.mktemp("optimade"), entries)
    server = Server(
        folder / "runs", **{EXTRA: optimade.url, "XDG_CACHE_HOME": str(folder / "cache")}
    )
    yield server
    server.close()
    optimade.stop()


def test_a_class_from_a_database_is_trained_on(page, server):
    page.goto(f"{server.url}/?b=Ni")
    settled(page)
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
    page.get_by_text(f"{len(LEFT_OUT)} left out", exact=True).click()
    page.wait_for_timeout(500)
    picture(page, "pair-database")
    page.get_by_role("button", name="Train this pair").click()
    expect(page.get_by_role("heading", name="Train", exact=True)).to_be_visible()
    settled(page)
    set_epochs(page, 2, 2)
    page.get_by_role("button", name="Train Pd-Ni-H").click()
    expect(page.get_by_text("2 + 2 epochs")).to_be_visible()
    run = list_runs(server.runs)[0]
    assert run.about["classes"]["a"]["cells"] == len(BINARIES)
    assert run.status().state == "finished"


def test_a_cleaned_copy_is_taken_and_given_back(page, server):
    report = examine("Pd")
    left = report.cells - len(report.proposals)
    page.goto(f"{server.url}/?a=Pd&b=Ni")
    settled(page)
    page.get_by_text("Data doctor", exact=True).click()
    expect(
        page.get_by_text(f"The doctor would leave out {len(report.proposals)}").first
    ).to_be_visible()
    settled(page)
    picture(page, "pair-doctor")
    page.get_by_role("button", name="Use a copy without").first.click()
    expect(page.get_by_text(f"{left} of {report.cells} cells of Pd-H: a copy")).to_be_visible()
    expect(page.get_by_text("The doctor would keep every cell")).to_be_visible()
    settled(page)
    picture(page, "pair-cleaned")
    (copy,) = server.runs.glob(".uploads/*/Pd-H_cleaned.extxyz")
    assert len(load_class(str(copy), "Pd")) == left
    page.get_by_role("button", name="Take the whole class again").click()
    expect(page.get_by_text(f"{report.cells} cells of Pd-H, prototypes relaxed")).to_be_visible()


def test_candidates_are_compared_with_known_structures_that_go_along(page, server):
    page.goto(f"{server.url}/explore?run=Pd-Ni-H_shipped&candidate=3")
    expect(page.get_by_text("Not compared with known ternaries of Pd-Ni-H yet")).to_be_visible()
    settled(page)
    run = Run.open(server.runs / "Pd-Ni-H_shipped")
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
        assert archive.read("Pd-Ni-H_shipped/known/known.zip") == packed.getvalue()


def test_a_symmetrized_cell_is_added_once_and_rejected_like_any_other(page, server):
    page.goto(f"{server.url}/explore?run=Pd-Ni-H_shipped&candidate=40")
    settled(page)
    run = Run.open(server.runs / "Pd-Ni-H_shipped")
    put_in(run, 41, nearly_symmetric()[1])
    count = len(candidates_table(run))
    page.get_by_text("Symmetry", exact=True).click()
    settled(page)
    page.keyboard.press("n")
    expect(page.get_by_text("Space group P4/mmm")).to_be_visible()
    settled(page)
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
