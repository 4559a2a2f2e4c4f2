"""Decisions and notes land where they were meant: quick keys, runs of one label, two sessions,
sorting, Back, runs that go."""

import itertools
import json
import multiprocessing
import shutil
import sqlite3
from contextlib import closing, contextmanager

import pytest
from playwright.sync_api import expect

from crystalgan.runs.database import candidates_table
from crystalgan.runs.folder import Run
from crystalgan.runs.run_zip import pack_run, unpack_run
from ui.state import run_name

from .steps import (
    HEAD,
    ROW,
    candidate_in_address,
    click_row,
    go,
    listening,
    picture,
    settled,
    until,
)

pytestmark = pytest.mark.slow
EXPLORE = "explore?run={}&candidate={}"
KEY_THEN_TAB = """([tab, milliseconds]) => {
  document.body.dispatchEvent(new KeyboardEvent("keydown", {key: "n", bubbles: true}));
  const tabs = document.querySelectorAll("[role=radiogroup][aria-label=Details] [role=radio]");
  setTimeout(() => tabs[tab].click(), milliseconds);
}"""
COUNT = 200  # candidates of the shipped run


def rows(run):
    """Candidate -> decision and details, read from the file itself."""
    with closing(
        sqlite3.connect(f"file:{run.folder / 'candidates.db'}?mode=ro", uri=True)
    ) as connection:
        found = connection.execute(
            "SELECT id, key_value_pairs, data FROM systems ORDER BY id"
        ).fetchall()
    return {
        i: (json.loads(pairs)["decision"], json.loads(data[int.from_bytes(data[:8], "little") :]))
        for i, pairs, data in found
    }


def decided(run):
    return {i: decision for i, (decision, _) in rows(run).items() if decision != "undecided"}


def becomes(page, run, wanted):
    """Wait until exactly these are decided, and say what there is otherwise."""
    for _ in range(300):
        if decided(run) == wanted:
            return
        page.wait_for_timeout(200)
    assert decided(run) == wanted


def open_at(page, server, run, number):
    page.goto(f"{server.url}/{EXPLORE.format(run.folder.name, number)}")
    settled(page)
    listening(page, number)


def _spin():
    while True:
        pass


@contextmanager
def busy():
    """Both cores have other work."""
    workers = [
        multiprocessing.get_context("spawn").Process(target=_spin, daemon=True) for _ in range(2)
    ]
    for worker in workers:
        worker.start()
    try:
        yield
    finally:
        for worker in workers:
            worker.kill()
            worker.join()


def press(page, keys, milliseconds):
    for key in keys:
        page.keyboard.press(key)
        page.wait_for_timeout(milliseconds)


def test_forty_decisions_at_ten_a_second_on_a_busy_machine(page, server, run):
    open_at(page, server, run, 11)
    keys = [key for key, _ in zip(itertools.cycle("kxkkx"), range(40), strict=False)]
    with busy():
        press(page, keys, 100)
        expected = {11 + i: {"k": "kept", "x": "rejected"}[key] for i, key in enumerate(keys)}
        becomes(page, run, expected)
    listening(page, 51)
    page.wait_for_url("**candidate=51")
    expect(page.get_by_text(f"40 of {COUNT} decided: 24 kept, 16 rejected")).to_be_visible()
    found = rows(run)
    assert all(len(found[i][1]["history"]) == 1 for i in expected)  # none was written twice
    picture(page, "decisions-forty")


def test_keys_quicker_than_any_page_keep_their_order(page, server, run):
    open_at(page, server, run, 7)
    press(page, "kkxk", 50)
    wanted = {7: "kept", 8: "kept", 9: "rejected", 10: "kept"}
    becomes(page, run, wanted)
    listening(page, 11)
    press(page, "knxz", 0)  # 11 kept, 12 passed by, 13 rejected and taken back
    listening(page, 13)
    becomes(page, run, wanted | {11: "kept"})
    press(page, "ppu", 0)  # back to 11, undecided again
    becomes(page, run, wanted)
    listening(page, 11)
    page.keyboard.down("k")  # held down: repeated by the keyboard, decided once
    for _ in range(5):
        page.keyboard.down("k")
    page.keyboard.up("k")
    becomes(page, run, wanted | {11: "kept"})
    listening(page, 12)
    for key in ("Control+k", "Alt+x", "Meta+k"):
        page.keyboard.press(key)
    press(page, "k" * 20, 50)
    becomes(page, run, wanted | {11: "kept"} | dict.fromkeys(range(12, 32), "kept"))


def test_keys_follow_the_order_that_is_on_the_screen(page, server, run):
    table = candidates_table(run)
    smallest = [int(i) for i in table.sort_values("volume", kind="stable")["id"][:12]]
    open_at(page, server, run, smallest[0])
    page.get_by_role("button", name="Sort").click()
    page.get_by_role("combobox", name="Sort by").click()
    page.get_by_role("option", name="volume").click()
    settled(page)
    page.keyboard.press("Escape")
    # what is decided leaves the table
    page.get_by_test_id("stButtonGroup").get_by_text("Undecided", exact=True).click()
    settled(page)
    listening(page, smallest[0])
    press(page, "kxkxkxkx", 60)
    expected = dict(zip(smallest, ["kept", "rejected"] * 4, strict=False))
    becomes(page, run, expected)
    listening(page, smallest[8])
    # the second click is for a cell that nobody has seen
    page.get_by_role("button", name="Keep").dblclick()
    becomes(page, run, expected | {smallest[8]: "kept"})
    listening(page, smallest[9])
    page.get_by_role("button", name="Undo").click()
    becomes(page, run, expected)
    listening(page, smallest[8])


def test_a_key_after_a_click_on_a_row_is_for_that_row(page, server, run):
    page.goto(f"{server.url}/{EXPLORE.format(run.folder.name, 90)}")
    page.locator(".st-key-decide_kept button").first.wait_for()
    press(page, "kx", 0)  # as early as the bar is there
    becomes(page, run, {90: "kept", 91: "rejected"})
    listening(page, 92)
    click_row(page, 2)
    page.keyboard.press("k")  # before the page has followed
    becomes(page, run, {90: "kept", 91: "rejected", 3: "kept"})
    listening(page, 4)
    box = page.get_by_test_id("stDataFrame").first.bounding_box()
    for row in (4, 5):
        page.mouse.click(box["x"] + 18, box["y"] + HEAD + ROW * (row + 0.5))
        page.keyboard.press("x")
    expect(page.get_by_text("the keys between are not written")).to_be_visible()
    becomes(page, run, {90: "kept", 91: "rejected", 3: "kept", 6: "rejected"})
    listening(page, 7)


def header(page, x):
    """Click the header of the candidates' table, so many pixels from its left end."""
    settled(page)
    box = page.get_by_test_id("stDataFrame").first.bounding_box()
    page.mouse.click(box["x"] + x, box["y"] + 18)


def test_a_click_on_a_header_sorts_what_next_and_keep_follow(page, server, run):
    table = candidates_table(run)
    open_at(page, server, run, 5)
    header(page, 290)  # atoms
    page.get_by_role("button", name="Sort").click()
    expect(page.get_by_role("combobox", name="Sort by")).to_have_value("atoms")
    page.keyboard.press("Escape")
    listening(page, 5)
    order = [int(i) for i in table.sort_values("atoms", kind="stable")["id"]]
    after = order[order.index(5) + 1]
    page.keyboard.press("k")
    listening(page, after)
    becomes(page, run, {5: "kept"})
    header(page, 290)  # the other way round
    page.get_by_role("button", name="Sort").click()
    expect(page.get_by_role("switch", name="Largest first")).to_be_checked()
    page.keyboard.press("Escape")
    largest = [int(i) for i in table.sort_values("atoms", ascending=False, kind="stable")["id"]]
    settled(page)
    click_row(page, 0)
    listening(page, largest[0])
    picture(page, "decisions-sorted")
    press(page, "nx", 0)
    becomes(page, run, {5: "kept", largest[1]: "rejected"})
    listening(page, largest[2])
    box = page.get_by_test_id("stDataFrame").first.bounding_box()
    page.mouse.move(box["x"] + 250, box["y"] + 18)
    page.mouse.click(box["x"] + 250, box["y"] + 18)  # the header's own menu
    menu = page.get_by_test_id("stDataFrameColumnMenu")
    expect(menu.get_by_text("Hide column")).to_be_visible()
    for words in ("Sort ascending", "Sort descending"):
        expect(menu.get_by_text(words)).to_be_hidden()


def test_a_colleagues_zip_of_the_same_run_is_another_run(page, server, run):
    page.goto(f"{server.url}/export?run={run.folder.name}")
    settled(page)
    with page.expect_download() as event:
        page.get_by_role("button", name="Download the run folder").click()
    zipped = event.value.path().read_bytes()
    go(page, "Train")
    page.get_by_text("Zip from a colleague", exact=True).click()
    settled(page)
    upload = {"name": f"{run.folder.name}.zip", "mimeType": "application/zip", "buffer": zipped}
    page.get_by_test_id("stFileUploader").locator("input").set_input_files(upload)
    other = Run(server.runs / f"{run.folder.name}_001")
    page.wait_for_url(f"**run={other.folder.name}*")
    settled(page)
    go(page, "Explore")
    listening(page, 1)
    press(page, "nnk", 0)
    becomes(page, other, {3: "kept"})
    listening(page, 4)
    assert f"run={other.folder.name}&" in page.url
    assert decided(run) == {}

    chooser = page.get_by_role("combobox", name="Run")
    assert chooser.input_value().startswith(run_name(other))
    chooser.click()
    options = page.get_by_role("option").all_inner_texts()
    assert len(options) == len(set(options))
    assert all(
        sum(text.startswith(f"{run_name(one)} ·") for text in options) == 1 for one in (run, other)
    )
    picture(page, "decisions-runs")
    page.get_by_role("option", name=f"{run_name(run)} ·").click()
    page.wait_for_url(f"**run={run.folder.name}&*")
    listening(page, 1)  # not the other run's candidate
    # the field of the runs has the keyboard until then
    page.get_by_role("heading", name="Explore").click()
    page.keyboard.press("x")
    becomes(page, run, {1: "rejected"})
    page.keyboard.press("z")
    becomes(page, run, {})
    assert decided(other) == {3: "kept"}
    go(page, "Compare")
    page.get_by_test_id("stMultiSelect").get_by_role("combobox").click()
    offered = page.get_by_role("option").all_inner_texts()
    assert len(offered) == len(set(offered))


def test_a_note_is_what_the_database_says(page, server, run):
    open_at(page, server, run, 20)
    field = page.get_by_role("textbox", name="Note")
    field.fill("one to look at again")
    field.press("Enter")
    until(page, lambda: rows(run)[20][1]["note"] == "one to look at again", "the note was not kept")
    settled(page)
    page.get_by_role("button", name="Next").click()
    listening(page, 21)
    expect(field).to_have_value("")
    page.get_by_role("button", name="Prev").click()
    listening(page, 20)
    expect(field).to_have_value("one to look at again")

    field.fill("typed, and then kept by a click")  # no Enter
    page.get_by_role("button", name="Keep").click()
    becomes(page, run, {20: "kept"})
    listening(page, 21)
    assert [rows(run)[i][1]["note"] for i in (20, 21)] == ["typed, and then kept by a click", ""]

    long = "x" * 800
    field.fill(long)
    field.press("Enter")
    until(page, lambda: rows(run)[21][1]["note"] == long, "a note of 800 characters was not kept")
    settled(page)
    field.fill("y" * 2345)
    field.press("Enter")
    expect(
        page.get_by_text("This note has 2,345 characters, and 2,000 are kept at most.")
    ).to_be_visible()
    settled(page)
    picture(page, "decisions-long-note")
    page.get_by_role("button", name="Next").click()
    listening(page, 22)
    page.get_by_role("button", name="Prev").click()
    listening(page, 21)
    expect(field).to_have_value("y" * 2345)  # nothing that was typed is lost
    assert rows(run)[21][1]["note"] == long
    page.get_by_role("button", name="Drop mine").click()
    expect(field).to_have_value(long)


def test_two_sessions_vet_one_run_in_turn_and_write_one_note(new_page, server, run):
    one, two = new_page(), new_page("dark")
    open_at(one, server, run, 30)
    open_at(two, server, run, 30)
    press(one, "kk", 0)  # 30, 31
    becomes(one, run, {30: "kept", 31: "kept"})
    press(two, "xx", 0)  # the same two, whose keeping it has not seen
    said = two.get_by_text("Candidate 31 was kept by another session at")
    expect(said).to_be_visible()
    expect(two.get_by_text("Candidate 30 was kept by another session at")).to_be_visible()
    assert decided(run) == {30: "kept", 31: "kept"}
    listening(two, 32)
    settled(two)
    picture(two, "decisions-conflict")
    press(one, "k", 0)  # 32
    becomes(one, run, {30: "kept", 31: "kept", 32: "kept"})
    two.get_by_role("button", name="Next").click()
    listening(two, 33)
    press(two, "x", 0)  # 33
    becomes(two, run, {30: "kept", 31: "kept", 32: "kept", 33: "rejected"})

    two.get_by_role("button", name="Show 31").click()
    listening(two, 31)
    two.keyboard.press("x")  # now on purpose
    becomes(two, run, {30: "kept", 31: "rejected", 32: "kept", 33: "rejected"})
    expect(said).to_be_hidden()
    press(one, "zz", 50)  # 32 is its own still, 31 is not
    becomes(one, run, {30: "kept", 31: "rejected", 33: "rejected"})
    expect(one.get_by_text("Candidate 31 was rejected by another session")).to_be_visible()

    listening(one, 31)
    one.get_by_role("button", name="History").click()
    expect(one.get_by_text("History", exact=True).first).to_be_visible()
    settled(one)
    picture(one, "decisions-history")
    assert [entry["decision"] for entry in rows(run)[31][1]["history"]] == ["kept", "rejected"]

    one.keyboard.press("Escape")
    press(one, "nnn", 0)
    press(two, "nn", 0)
    for page in (one, two):
        listening(page, 34)
    first, second = (page.get_by_role("textbox", name="Note") for page in (one, two))
    first.fill("too dense")
    first.press("Enter")
    until(one, lambda: rows(run)[34][1]["note"] == "too dense", "the note was not kept")
    second.fill("just right")
    second.press("Enter")
    expect(two.get_by_text("Another note was written here by another session at")).to_be_visible()
    settled(two)
    expect(second).to_have_value("just right")
    assert rows(run)[34][1]["note"] == "too dense"
    two.get_by_role("button", name="Replace it with mine").click()
    until(two, lambda: rows(run)[34][1]["note"] == "just right", "the note was not replaced")
    assert [entry["note"] for entry in rows(run)[34][1]["history"]] == ["too dense", "just right"]


def test_a_click_that_cuts_a_key_short_does_not_bring_the_former_candidate_back(page, server, run):
    open_at(page, server, run, 40)
    page.get_by_role("radiogroup", name="Details").get_by_role("radio").first.wait_for()
    for k in range(16):  # the run that the key starts takes some tenths of a second
        page.evaluate(KEY_THEN_TAB, [1 + k % 2, 20 + 5 * k])
        page.wait_for_timeout(500)
        listening(page, 41 + k)


def test_clicks_to_and_fro_between_two_rows_are_followed(page, server, run):
    open_at(page, server, run, 1)
    for row in (1, 2, 1, 2, 0, 1):
        click_row(page, row)  # as soon as the page stands still
        listening(page, 1 + row)


def test_back_goes_to_the_page_before(page, server):
    page.goto(f"{server.url}/?a=Pd&b=Ni")
    settled(page)
    page.get_by_role("button", name="Train this pair").click()
    expect(page.get_by_role("heading", name="Train", exact=True)).to_be_visible()
    settled(page)
    go(page, "Explore")
    page.wait_for_function("document.body.dataset.candidate !== ''")
    first = int(page.evaluate("document.body.dataset.candidate"))
    press(page, "nnn", 50)
    listening(page, first + 3)
    go(page, "Export")
    page.go_back()
    expect(page.get_by_role("heading", name="Explore", exact=True)).to_be_visible()
    listening(page, first + 3)
    page.go_back()
    expect(page.get_by_role("heading", name="Train", exact=True)).to_be_visible()
    settled(page)
    page.go_back()
    expect(page.get_by_role("heading", name="Pair", exact=True)).to_be_visible()
    settled(page)
    page.go_forward()
    expect(page.get_by_role("heading", name="Train", exact=True)).to_be_visible()
    settled(page)
    page.go_forward()
    listening(page, first + 3)
    assert candidate_in_address(page) == first + 3


def test_what_gets_lost_is_sent_again_and_arrives_though_the_page_is_left(page, server, run):
    """A message to the server that comes while the page changes may be dropped: here one is."""
    open_at(page, server, run, 60)
    (frame,) = (frame for frame in page.frames if "crystalgan_keys" in frame.url)
    frame.evaluate("() => { const real = page.value; page.value = () => { page.value = real; }; }")
    press(page, "k", 0)
    becomes(page, run, {60: "kept"})
    listening(page, 61)
    press(page, "xkk", 0)
    page.get_by_role("link", name="Export", exact=True).first.click()
    becomes(page, run, {60: "kept", 61: "rejected", 62: "kept", 63: "kept"})
    expect(page.get_by_role("heading", name="Export", exact=True)).to_be_visible()


def test_a_key_is_for_the_run_that_was_shown_and_one_that_goes_is_not_written_again(
    page, server, run, tmp_path
):
    open_at(page, server, run, 80)
    packed = pack_run(run)
    shutil.rmtree(run.folder)
    (tmp_path / "again.zip").write_bytes(packed)
    unpack_run(tmp_path / "again.zip", tmp_path).folder.rename(run.folder)
    page.keyboard.press("k")
    expect(page.get_by_text("are others than those that were shown")).to_be_visible()
    assert decided(run) == {}

    open_at(page, server, run, 70)
    page.keyboard.press("k")
    becomes(page, run, {70: "kept"})
    listening(page, 71)
    shutil.rmtree(run.folder)
    press(page, "kxk", 50)
    expect(page.get_by_text(f"The run {run.folder.name} is no longer here")).to_be_visible()
    settled(page)
    picture(page, "decisions-gone")
    assert not run.folder.exists()
    page.get_by_role("combobox", name="Run").click()
    page.get_by_role("option", name="Pd-Ni-H, seed 0 (shipped)").click()
    page.wait_for_url("**run=Pd-Ni-H_shipped*")
    listening(page, 1)
    assert decided(Run(server.runs / "Pd-Ni-H_shipped")) == {}
    assert not run.folder.exists()
