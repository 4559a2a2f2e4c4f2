"""A new user's way through the app, and what must hold on it."""

import itertools
import os
import signal
import zipfile

import pytest
from playwright.sync_api import expect
from pymatgen.core import Structure

from crystalgan.data.classes import builtin_sizes
from crystalgan.runs.database import candidates_table
from crystalgan.runs.folder import SHIPPED, Run

from .steps import (
    candidate_in_address,
    choose,
    click_an_atom,
    click_row,
    colours,
    curve_grows,
    curves_have,
    drawn,
    element,
    go,
    orange,
    picture,
    run_in_address,
    set_epochs,
    settled,
    until,
)

pytestmark = pytest.mark.slow
AXIS = "f => [...f.layout.xaxis.range]"


def choose_pair_and_train(page, server, first, second, settings="default"):
    page.goto(server.url)
    element(page, "Pd").click()
    expect(element(page, "Pd")).to_have_attribute("aria-pressed", "true")
    element(page, "Ni").click()
    expect(element(page, "Ni")).to_have_attribute("aria-pressed", "true")
    settled(page)
    page.get_by_role("button", name="Train this pair").click()
    expect(page.get_by_role("heading", name="Train", exact=True)).to_be_visible()
    settled(page)
    if settings != "default":
        choose(page, "Settings", settings)
    set_epochs(page, first, second)
    page.get_by_role("button", name="Train Pd-Ni-H").click()


def newest(page, server):
    """The run that the page has just started."""
    page.wait_for_url("**run=Pd-Ni-H_crystalgan_seed0*")
    return Run.open(server.runs / run_in_address(page))


def test_the_whole_journey(page, server, tmp_path):
    choose_pair_and_train(page, server, 5, 5)
    expect(page.get_by_text("finished", exact=True)).to_be_visible()
    settled(page)
    expect(page.get_by_text("5 + 5 epochs")).to_be_visible()
    curves_have(page, 5)
    run = newest(page, server)
    assert run.status().state == "finished"

    page.get_by_role("button", name="Explore its cells").click()
    page.get_by_role("button", name="Generate").first.click()
    field = page.get_by_role("spinbutton", name="New cells")
    field.fill("20")
    field.press("Enter")
    settled(page)
    page.get_by_role("button", name="Generate", exact=True).last.click()
    expect(page.get_by_text("0 of 20 decided")).to_be_visible()
    settled(page)

    page.get_by_role("button", name="Sort").click()
    page.get_by_role("combobox", name="Sort by").click()
    page.get_by_role("option", name="volume").click()
    settled(page)
    page.keyboard.press("Escape")
    click_row(page, 0)
    table = candidates_table(run)
    smallest = int(table.sort_values("volume", kind="stable")["id"].iloc[0])
    page.wait_for_url(f"**candidate={smallest}")
    settled(page)
    before = orange(drawn(page))

    assert "Neighbours of" in click_an_atom(page)
    click_row(page, 0, table=1)
    settled(page)
    until(page, lambda: orange(colours(page)) > before + 20, "the pair was not lit")
    picture(page, "explore-neighbours")

    first = candidate_in_address(page)
    page.keyboard.press("k")
    expect(page.get_by_text("1 of 20 decided: 1 kept, 0 rejected")).to_be_visible()
    settled(page)
    second = candidate_in_address(page)
    page.keyboard.press("x")
    expect(page.get_by_text("2 of 20 decided: 1 kept, 1 rejected")).to_be_visible()
    page.reload()
    expect(page.get_by_text("2 of 20 decided: 1 kept, 1 rejected")).to_be_visible()
    decisions = candidates_table(run).set_index("id")["decision"]
    assert (decisions[first], decisions[second]) == ("kept", "rejected")

    go(page, "Export")
    export_and_check(page, tmp_path, "kept by you", 1)
    export_and_check(page, tmp_path, "all", 20)


def export_and_check(page, folder, which, count):
    page.get_by_role("combobox", name="Candidates").click()
    page.get_by_role("option", name=which, exact=False).last.click()
    settled(page)
    # its name tells that the page has followed
    button = page.get_by_role("button", name=f"Download {count} candidate")
    expect(button).to_be_visible()
    with page.expect_download() as event:
        button.click()
    path = folder / f"{count}.zip"
    event.value.save_as(path)
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith(".vasp")]
        assert len(names) == count
        for name in names:
            assert set(Structure.from_str(archive.read(name).decode(), "poscar").symbol_set) == {
                "Pd",
                "Ni",
                "H",
            }
        assert "provenance.json" in archive.namelist()


def test_training_outlives_the_browser_and_a_killed_worker_is_resumed(new_page, server):
    page = new_page(first=True)
    choose_pair_and_train(page, server, 3000, 20_000, "paper")
    expect(page.get_by_text("training", exact=True)).to_be_visible()
    curve_grows(page, "x")
    run = newest(page, server)
    page.context.close()

    page = new_page()
    page.goto(f"{server.url}/train?run={run.folder.name}")
    expect(page.get_by_text("training", exact=True)).to_be_visible()
    settled(page)
    curve_grows(page, "x2")
    zoom_survives(page)
    for worker in server.workers():
        os.kill(worker, signal.SIGKILL)
    expect(page.get_by_text("stopped", exact=True)).to_be_visible()
    expect(page.get_by_text("ended before it was done")).to_be_visible()
    expect(page.get_by_text("What the training said last")).to_be_visible()
    picture(page, "train-killed")
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_text("training", exact=True)).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_text("stopped", exact=True)).to_be_visible()
    assert Run(run.folder).status().state == "stopped"


def zoom_survives(page):
    """Drag over the curves, wait for new ones, find the same part of the axis."""
    frame = page.frame_locator("iframe[title*=crystalgan_chart]")
    plot = frame.locator(".xy .nsewdrag, .draglayer .xy rect.nsewdrag").first
    plot.wait_for()
    figure = frame.locator("#figure")
    whole = figure.evaluate(AXIS)
    box = plot.bounding_box()
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 0.2 * box["width"], y)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.6 * box["width"], y, steps=5)
    page.mouse.up()
    zoomed = until(
        page, lambda: (now := figure.evaluate(AXIS)) != whole and now, "dragging did not zoom"
    )
    curve_grows(page, "x2")
    assert figure.evaluate(AXIS) == pytest.approx(zoomed)


def tick_until_beside(page, row):
    """Tick a row of the table; it is drawn anew after the way to select has changed, and may not
    hear the first click."""
    frames = page.locator("iframe[title*=crystalgan_viewer]")
    for _ in range(5):
        click_row(page, row)
        for _ in range(30):
            if frames.count() > 1:
                return
            page.wait_for_timeout(100)
    raise AssertionError("no second cell was shown")


def is_in(page, scheme):
    """Turn to this scheme, and wait until the page has it."""
    page.emulate_media(color_scheme=scheme)
    page.wait_for_function(
        """(dark) => {
          const app = getComputedStyle(document.querySelector("[data-testid=stApp]"));
          const [r, g, b] = app.backgroundColor.match(/[0-9]+/g).map(Number);
          return (r + g + b < 384) === dark;
        }""",
        arg=scheme == "dark",
    )
    settled(page)


def has_background(page, dark, k=0):
    """Wait until the k-th viewer shows a cell on the background of the scheme."""
    until(
        page,
        lambda: (sum(drawn(page, k).most_common(1)[0][0]) < 384) == dark,
        "the viewer kept the other background",
    )


def test_every_page_with_the_shipped_run_in_both_schemes_and_in_small_windows(page, server):
    turns = itertools.cycle((("light", "dark"), ("dark", "light")))

    def seen(name, viewers=0):
        for scheme in next(turns):
            is_in(page, scheme)
            for k in range(viewers):
                has_background(page, scheme == "dark", k)
            picture(page, f"{name}-{scheme}")

    def fits(name):
        for width, height in ((820, 1180), (1024, 768), (1280, 720)):
            page.set_viewport_size({"width": width, "height": height})
            page.wait_for_function(f"window.innerWidth === {width}")
            settled(page)
            until(
                page,
                lambda: page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"),
                f"{name} runs out of a window of {width} pixels",
            )
            picture(page, f"size-{width}-{name}")

    page.goto(f"{server.url}/?a=Pd&b=Ni")
    expect(page.locator("[data-testid=stPlotlyChart] .main-svg").first).to_be_visible()
    settled(page)
    seen("pair")
    fits("pair")
    page.get_by_text("Cells in 3D", exact=True).click()
    drawn(page, 1)
    seen("pair-cells", 2)
    go(page, "Train")
    page.frame_locator("iframe[title*=crystalgan_chart]").locator(".scatterlayer").first.wait_for()
    seen("train")
    fits("train")
    page.goto(f"{server.url}/explore?run=Pd-Ni-H_shipped&candidate=4")
    drawn(page)
    settled(page)
    seen("explore", 1)
    fits("explore")
    for detail in ("Distances", "Powder pattern", "Symmetry", "Map"):
        page.get_by_text(detail, exact=True).click()
        settled(page)
        if detail != "Symmetry":
            expect(page.locator("[data-testid=stPlotlyChart] .main-svg").first).to_be_visible()
        seen(f"explore-{detail.split()[0].lower()}")
    page.get_by_text("Several", exact=True).click()
    settled(page)
    tick_until_beside(page, 5)
    drawn(page, 1)
    seen("explore-compare", 2)
    go(page, "Export")
    seen("export")
    fits("export")


def shipped_formula(number):
    return candidates_table(SHIPPED / "Pd-Ni-H_shipped").set_index("id")["formula"][number]


def test_a_supercell_changes_the_picture_only_which_is_saved_as_png(page, server):
    page.goto(f"{server.url}/explore?run=Pd-Ni-H_shipped&candidate=4")
    plain = drawn(page)
    settled(page)
    page.get_by_role("button", name="View").click()
    field = page.get_by_role("spinbutton", name="along a")
    field.fill("2")
    field.press("Enter")
    frame = page.frame_locator("iframe[title*=crystalgan_viewer]")
    expect(frame.get_by_text("2×1×1 cells, view only")).to_be_visible()
    until(page, lambda: drawn(page) != plain, "the picture stayed as it was")
    expect(page.get_by_text(f"4: {shipped_formula(4)}")).to_be_visible()
    settled(page)
    page.keyboard.press("Escape")  # the settings of the view lie over the button
    with page.expect_download() as event:
        page.frame_locator("iframe[title*=crystalgan_viewer]").get_by_role(
            "button", name="Save PNG"
        ).click()
    assert event.value.suggested_filename == f"{shipped_formula(4)}_4.png"
    assert event.value.path().read_bytes()[:4] == b"\x89PNG"


def test_keyboard_walks_the_periodic_table(page, server):
    page.goto(server.url)
    element(page, "Ti").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(element(page, "V")).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_text(f"{builtin_sizes()['V']} cells of V-H")).to_be_visible()


QUICK = """(table) => new Promise((done) => {
  const button = (name) => [...table.querySelectorAll("button")]
    .find((b) => b.title.startsWith(name + ":"));
  new MutationObserver((_, observer) => {
    if (button("Palladium").getAttribute("aria-pressed") !== "true") return;
    observer.disconnect();
    button("Nickel").click();
    done();
  }).observe(table, { attributes: true, subtree: true });
  button("Palladium").click();
})"""


def test_a_visitor_quicker_than_the_page(page, server):
    page.goto(server.url)
    element(page, "Pd").wait_for()
    settled(page)
    page.frame_locator("iframe[title*=crystalgan_elements]").locator("#table").evaluate(QUICK)
    for symbol in ("Pd", "Ni"):
        expect(element(page, symbol)).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_role("button", name="Train this pair")).to_be_enabled()


def test_keys_work_from_the_picture_and_not_while_a_note_is_typed(page, server, run):
    page.goto(f"{server.url}/explore?run={run.folder.name}&candidate=30")
    drawn(page)
    settled(page)
    box = page.locator("iframe[title*=crystalgan_viewer]").bounding_box()
    # beside the cell; the frame has the keyboard now
    page.mouse.click(box["x"] + 15, box["y"] + 60)
    settled(page)
    page.keyboard.press("n")
    page.wait_for_url("**candidate=31")
    settled(page)
    note = page.get_by_role("textbox", name="Note")
    note.fill("")
    note.press_sequentially("kxn <b>zu</b>")
    note.press("Enter")
    for _ in range(100):
        row = candidates_table(run).set_index("id").loc[31]
        if row["note"]:
            break
        page.wait_for_timeout(100)
    assert (row["decision"], row["note"]) == ("undecided", "kxn <b>zu</b>")
    assert page.url.endswith("candidate=31")
    page.reload()
    expect(page.get_by_role("textbox", name="Note")).to_have_value("kxn <b>zu</b>")
