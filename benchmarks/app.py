"""How quickly the app answers, in a real Chromium: `python -m benchmarks.app` prints JSON, seconds
throughout.

One of ten visitors trains while all open the same run; a run of 10,000 candidates is made of copies
of the shipped ones.
"""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from browser.conftest import FLAGS, SECONDS, Server, chromium
from browser.steps import drawn, go, settled
from playwright.sync_api import Page, sync_playwright
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ClientState_pb2 import ClientState
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.asyncio.client import connect

from crystalgan.runs.folder import SHIPPED
from ui.work import start_training

if TYPE_CHECKING:
    from collections.abc import Callable

REPEATS = 5
VISITORS = 10
LARGE = 10_000


def large_run(runs: Path) -> str:
    """The shipped run with its candidates repeated until there are 10,000."""
    source = SHIPPED / "Pd-Ni-H_shipped"
    folder = runs / "Pd-Ni-H_large"
    shutil.copytree(source, folder)
    with closing(sqlite3.connect(folder / "candidates.db")) as db:
        (count,) = db.execute("SELECT count(*) FROM systems").fetchone()
        columns = [
            row[1]
            for row in db.execute("PRAGMA table_info(systems)")
            if row[1] not in ("id", "unique_id")
        ]
        names = ", ".join(columns)
        for copy in range(1, LARGE // count):
            values = f"id + {copy * count}, unique_id || '{copy}', {names}"
            db.execute(
                f"INSERT INTO systems (id, unique_id, {names}) SELECT {values} FROM systems WHERE"
                f" id <= {count}"
            )
        db.commit()
    return folder.name


def timed(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def median(action: Callable[[], object]) -> float:
    return round(statistics.median(timed(action) for _ in range(REPEATS)), 2)


def first_page(page: Page, url: str) -> float:
    def open_it() -> None:
        page.goto(url)
        page.frame_locator("iframe[title*=crystalgan_elements]").get_by_role("button").filter(
            has_text="Pd"
        ).wait_for()
        settled(page)

    return round(timed(open_it), 2)


def page_changes(page: Page) -> dict[str, float]:
    """Medians, until the page has been run to its end and nothing of it is still a placeholder; for
    Explore also its canvas."""
    titles = ("Train", "Explore", "Export", "Pair")
    times: dict[str, list[float]] = {title: [] for title in (*titles, "Explore, its cell drawn")}
    for turn in range(1 + REPEATS):
        for title in titles:
            started = time.perf_counter()
            go(page, title)
            taken = {title: time.perf_counter() - started}
            if title == "Explore":
                drawn(page)
                taken[f"{title}, its cell drawn"] = time.perf_counter() - started
            # the first round reads what is cached afterwards
            for name, seconds in taken.items() if turn else ():
                times[name].append(seconds)
    return {name: round(statistics.median(values), 2) for name, values in times.items()}


def next_candidate(page: Page) -> float:
    """Until the canvas of the next candidate shows something, software rendering included."""

    def step() -> None:
        before = page.url
        page.keyboard.press("n")
        page.wait_for_function("url => location.href !== url", arg=before)
        settled(page)
        drawn(page)

    return median(step)


def filtering(page: Page) -> float:
    words = iter(["Keep rule", "All", "Undecided", "All", "Keep rule"])

    def step() -> None:
        page.get_by_test_id("stButtonGroup").get_by_text(next(words), exact=True).first.click()
        settled(page)

    return median(step)


def scrolling(page: Page) -> float:
    box = page.get_by_test_id("stDataFrame").first.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 200, box["y"] + 150)

    def step() -> None:
        page.mouse.wheel(0, 20_000)
        page.evaluate(
            "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
        )

    return median(step)


async def visitors(url: str) -> tuple[float, float]:
    """Ten sessions at once change pages and candidates every few seconds: median and slowest
    answer.

    Over the app's own websocket: ten browsers on this machine would measure themselves.
    """
    answers = await asyncio.gather(*(session(url, k) for k in range(VISITORS)))
    times = [t for one in answers for t in one]
    return round(statistics.median(times), 2), round(max(times), 2)


async def session(url: str, k: int) -> list[float]:
    times, rng = [], random.Random(k)
    pages = ("", "train", "explore", "export")
    async with connect(
        f"{url.replace('http', 'ws')}/_stcore/stream",
        subprotocols=["streamlit"],  # type: ignore[list-item]
        max_size=None,
    ) as socket:
        for turn in range(8):
            await asyncio.sleep(rng.uniform(1, 4))  # what a visitor looks at the page
            query = f"run=Pd-Ni-H_shipped&a=Pd&b=Ni&candidate={1 + 10 * k + turn}"
            started = time.perf_counter()
            asked = BackMsg(
                rerun_script=ClientState(query_string=query, page_name=pages[(turn + k) % 4])
            )
            await socket.send(asked.SerializeToString())
            async for message in socket:
                forward = ForwardMsg.FromString(
                    message if isinstance(message, bytes) else message.encode()
                )
                if forward.WhichOneof("type") == "script_finished":
                    break
            times.append(time.perf_counter() - started)
    return times


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        runs = Path(temporary) / "runs"
        runs.mkdir()
        name = large_run(runs)
        server = Server(runs)
        result: dict[str, Any] = {}
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
            page = browser.new_page(viewport={"width": 1280, "height": 720})
            page.set_default_timeout(SECONDS)
            result["first page"] = first_page(page, server.url)
            result["first page again"] = first_page(page, server.url)
            page.goto(f"{server.url}/explore?run=Pd-Ni-H_shipped")
            drawn(page)
            result["page changes"] = page_changes(page)
            page.goto(f"{server.url}/explore?run=Pd-Ni-H_shipped")
            drawn(page)
            result["next candidate's cell"] = next_candidate(page)
            started = time.perf_counter()
            page.goto(f"{server.url}/explore?run={name}")
            drawn(page)
            result[f"{LARGE} candidates"] = {"opened": round(time.perf_counter() - started, 2)}
            result[f"{LARGE} candidates"] |= {
                "filter": filtering(page),
                "scroll": scrolling(page),
                "next": next_candidate(page),
            }
            browser.close()
        start_training(["train", "Pd", "Ni"], runs)
        middle, slowest = asyncio.run(visitors(server.url))
        result[f"answers to {VISITORS} sessions at once while one trains"] = {
            "median": middle,
            "slowest": slowest,
        }
        server.close()
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
