"""What a visitor does, in words that the tests share."""

from __future__ import annotations

import io
import re
from collections import Counter

import numpy as np
from PIL import Image
from playwright.sync_api import expect

from .conftest import PICTURES, SECONDS

IDLE = """() => document.querySelector('[data-testid=stApp]')?.getAttribute('data-test-script-state')
  === 'notRunning' && !document.querySelector('[data-testid=stSkeleton]')"""
ROW, HEAD = 29, 36  # pixels, of the candidates' table


def settled(page):
    """Wait until the page has been run to its end."""
    page.wait_for_selector("[data-testid=stApp]")
    page.wait_for_function(IDLE)
    assert page.get_by_test_id("stException").count() == 0, page.get_by_test_id(
        "stException"
    ).first.inner_text()


def listening(page, number):
    """Wait until the keys are for this candidate."""
    page.wait_for_function(f"document.body.dataset.candidate === '{number}'")
    settled(page)


def picture(page, name):
    PICTURES.mkdir(exist_ok=True)
    page.screenshot(path=PICTURES / f"{name}.png")


def go(page, title):
    page.get_by_role("link", name=title, exact=True).first.click()
    expect(page.get_by_role("heading", name=title, exact=True)).to_be_visible()
    settled(page)


def element(page, symbol):
    frame = page.frame_locator("iframe[title*=crystalgan_elements]")
    return frame.get_by_role("button").filter(has=frame.get_by_text(symbol, exact=True))


def viewer(page, k=0):
    """The canvas of the k-th cell in 3D, drawn."""
    canvas = (
        page.locator("iframe[title*=crystalgan_viewer]")
        .nth(k)
        .content_frame.locator("canvas")
        .first
    )
    canvas.wait_for()
    return canvas


def colours(page, k=0):
    """Colour -> pixels of what the k-th viewer shows."""
    holder = page.locator("iframe[title*=crystalgan_viewer]").nth(k).content_frame.locator("#scene")
    image = Image.open(io.BytesIO(holder.screenshot())).convert("RGB")
    return Counter(
        image.get_flattened_data() if hasattr(image, "get_flattened_data") else image.getdata()
    )


def until(page, look, otherwise):
    """What `look` returns once that is true; a frame that is being drawn anew has nothing to look
    at for a moment."""
    for _ in range(SECONDS // 200):
        if found := look():
            return found
        page.wait_for_timeout(200)
    raise AssertionError(otherwise)


def drawn(page, k=0):
    """Wait until the k-th viewer shows more than its background; returns its colours."""
    viewer(page, k)

    def more():
        found = colours(page, k)
        return (
            found if found.most_common(1)[0][1] < 0.98 * found.total() and len(found) > 50 else None
        )

    return until(page, more, "the canvas stayed blank")


def orange(found):
    """How many pixels have the hue of a lit bond."""
    return sum(n for (r, g, b), n in found.items() if r > 120 and 1.6 * g < r and 3 * b < r)


def click_row(page, row, table=0):
    """Tick a row of a table of the page, once the table is there and stands still."""
    frame = page.get_by_test_id("stDataFrame").nth(table)
    box = None
    for _ in range(100):
        frame.wait_for()
        # none while the table is taken off to be drawn anew
        before, box = box, frame.bounding_box()
        if box is not None and box == before:
            break
        page.wait_for_timeout(100)
    height = ROW if table == 0 else 35
    page.mouse.click(box["x"] + 18, box["y"] + HEAD + height * row + height / 2)


def click_an_atom(page):
    """Click in the middle of what has palladium's colour."""

    def palladium():
        red, green, blue = np.moveaxis(
            np.asarray(Image.open(io.BytesIO(viewer(page).screenshot())).convert("RGB")).astype(
                int
            ),
            -1,
            0,
        )
        inside = np.lib.stride_tricks.sliding_window_view(
            (blue > red + 50) & (green > red + 30), (9, 9)
        ).all((-1, -2))
        return np.argwhere(inside).tolist()

    places = until(page, palladium, "no atom has palladium's colour")
    y, x = places[len(places) // 2]
    box = viewer(page).bounding_box()
    page.mouse.click(box["x"] + x + 4, box["y"] + y + 4)
    said = page.get_by_text("click beside the cell for all")
    expect(said).to_be_visible()
    settled(page)
    return said.inner_text()


def choose(page, box, option):
    """Take an option, which its words may only hold, of the select box of this name."""
    page.get_by_role("combobox", name=box).click()
    page.get_by_role("option", name=option).click()
    settled(page)


def run_in_address(page):
    return re.search(r"run=([^&]+)", page.url)[1]


def candidate_in_address(page):
    return int(re.search(r"candidate=(\d+)", page.url)[1])


def curves(page):
    """The epochs of each curve in the chart of losses, by axis: x is step 1, x2 step 2, x3 the
    share of valid cells.

    Empty while a new frame has none.
    """
    frame = page.frame_locator("iframe[title*=crystalgan_chart]").locator("#figure")
    found = {}
    for axis, epochs in frame.evaluate("f => (f.data || []).map(t => [t.xaxis || 'x', [...t.x]])"):
        found.setdefault(axis, []).append(epochs)
    return found


def curves_have(page, points):
    """Wait until the longest curve of either step has this many points."""
    until(
        page,
        lambda: all(max(map(len, curves(page).get(axis, [[]]))) == points for axis in ("x", "x2")),
        f"the curves did not come to {points} points",
    )


def curve_grows(page, axis):
    """Wait until the curves of this axis reach further between two looks. Epochs count, not points:
    long curves are thinned."""

    def end():
        return max((epochs[-1] for epochs in curves(page).get(axis, []) if epochs), default=0)

    first = until(page, end, f"no curve of {axis}")
    until(page, lambda: end() > first, f"the curves of {axis} stayed at epoch {first}")


def set_epochs(page, first, second):
    for number, value in ((1, first), (2, second)):
        field = page.get_by_role("spinbutton", name=f"Epochs, step {number}")
        field.fill(str(value))
        field.press("Enter")
        settled(page)
