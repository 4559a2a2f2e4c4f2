"""What all commands share: the option `--json`, and printing what came out."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


def show(data: dict[str, Any], lines: list[str], as_json: bool) -> None:
    """Print a command's result: one JSON object, or lines in words."""
    print(json.dumps(data) if as_json else "\n".join(lines))
