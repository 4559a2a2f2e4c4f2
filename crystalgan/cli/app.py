"""The command that opens the app, in a checkout and in an installed wheel alike."""

from __future__ import annotations

import os
import sys
from pathlib import Path  # noqa: TC003 - Typer reads it
from typing import Annotated

import typer

from crystalgan.cli.common import path_of
from crystalgan.resources import resource

app = typer.Typer()


@app.command("app")
def serve(
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="By default the first free from 8501 on.")
    ] = None,
    runs: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            parser=path_of,
            help="Where run folders lie; else CRYSTALGAN_RUNS, or runs in this folder.",
        ),
    ] = None,
    headless: Annotated[
        bool, typer.Option("--headless", help="Open no browser; the address is printed.")
    ] = False,
) -> None:
    """Open the app in a browser; it answers on this machine only. Ctrl-C ends it."""
    command = streamlit_command(port, headless)
    changed = {"CRYSTALGAN_RUNS": str(runs)} if runs else {}
    os.execve(command[0], command, os.environ | changed)  # noqa: S606 - our own interpreter


def streamlit_command(port: int | None = None, headless: bool = False) -> list[str]:
    """The command that serves the app; Streamlit reads `.streamlit/config.toml` beside `app.py`.

    >>> streamlit_command(port=8600)[-1]
    '--server.port=8600'
    """
    options = ["--server.address=localhost"]
    options += ["--server.headless=true"] if headless else []
    options += [f"--server.port={port}"] if port else []
    return [sys.executable, "-m", "streamlit", "run", str(resource("app.py")), *options]
