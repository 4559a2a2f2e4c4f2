"""A real Chromium and the app in a process of its own. Pictures of what was seen are kept in
`test-output/`."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright
from test_sources import BINARIES, LEFT_OUT, OTHERS, entry
from test_sources import Server as Optimade

from crystalgan.runs.folder import SHIPPED, Run
from ui.databases import EXTRA

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ROOT / "test-output"
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]
SIZE = {"width": 1280, "height": 720}
SECONDS = 180_000  # ms that anything may take on a loaded machine
expect.set_options(timeout=SECONDS)


def chromium() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    pytest.fail(
        "No Chromium on this machine: install it with `apt-get install chromium`, then run the"
        " tests again."
    )


class Server:
    """The app on a free port, with runs of its own; of the checkout, or of what is `installed`."""

    def __init__(
        self,
        runs: Path,
        installed: tuple[Path | str, ...] = (sys.executable, "-m", "crystalgan"),
        cwd: Path = ROOT,
        **settings: str,
    ) -> None:
        self.runs = runs
        with socket.socket() as probe:
            probe.bind(("localhost", 0))
            port = probe.getsockname()[1]
        self.url = f"http://localhost:{port}"
        self.log = (runs.parent / "server.log").open("wb")
        command = [*installed, "app", "--port", str(port), "--headless", "--runs", str(runs)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"} | settings
        self.process = subprocess.Popen(
            command, cwd=cwd, env=environment, stdout=self.log, stderr=self.log
        )
        end = time.monotonic() + 300
        while True:
            try:
                urllib.request.urlopen(f"{self.url}/_stcore/health")
            except (urllib.error.URLError, ConnectionError):
                assert time.monotonic() < end, "the app did not start"
                time.sleep(0.1)
            else:
                return

    def workers(self) -> list[int]:
        """Processes that train or generate below this server's runs."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = path.read_bytes().split(b"\0")
            except OSError:
                continue
            if b"crystalgan" in words and any(
                word.startswith(str(self.runs).encode()) for word in words
            ):
                found.append(int(path.parent.name))
        return found

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()
        self.log.close()
        for worker in self.workers():
            os.kill(worker, signal.SIGKILL)


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """The app for all tests, which leave the shipped run as it is and find their own by its name.

    It may ask the reference server of OPTIMADE on loopback.
    """
    entries = [
        *(entry(i, s) for i, s in BINARIES.items()),
        *(e for e, _ in LEFT_OUT.values()),
        *OTHERS,
    ]
    optimade = Optimade(tmp_path_factory.mktemp("optimade"), entries)
    server = Server(tmp_path_factory.mktemp("app") / "runs", **{EXTRA: optimade.url})
    yield server
    server.close()
    optimade.stop()


@pytest.fixture
def run(server, request):
    """The shipped run in a folder of the test's own."""
    name = "run-" + "".join(c if c.isalnum() else "-" for c in request.node.name)[:40]
    return Run(shutil.copytree(SHIPPED / "Pd-Ni-H_shipped", server.runs / name))


@pytest.fixture(scope="session")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def visited(browser):
    """The context of visitors who have been here before: what the app is made of is in its cache."""
    context = browser.new_context(viewport=SIZE, accept_downloads=True, reduced_motion="reduce")
    context.set_default_timeout(SECONDS)
    yield context
    context.close()


@pytest.fixture
def new_page(browser, visited):
    """Opens a page, which is a session of its own; with `first`, in a browser that has never been
    here."""
    opened = []

    def open_page(scheme="light", first=False):
        if first:
            context = browser.new_context(viewport=SIZE, reduced_motion="reduce")
            context.set_default_timeout(SECONDS)
            opened.append(context)
            return context.new_page()
        page = visited.new_page()
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        opened.append(page)
        return page

    yield open_page
    for one in opened:
        one.close()


@pytest.fixture
def page(new_page):
    return new_page()
