"""Run uv with the indexes, folders of wheels, certificates and constraints that pip is set up with.

`.venv/bin/python tools/uv.py pip install ...`. uv reads none of pip's settings, and on machines
without the internet they say where packages are. What uv's own variables say goes first.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

TAKEN = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "cert": "SSL_CERT_FILE",
    "constraint": "UV_CONSTRAINT",
}


def settings() -> dict[str, str]:
    """What pip is set up with, as variables of uv."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    ).stdout
    found = {}
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        if variable := TAKEN.get(name.rpartition(".")[2]):
            words = ast.literal_eval(value).split()
            found[variable] = (" ", ",")[variable == "UV_FIND_LINKS"].join(words)
    return found


if __name__ == "__main__":
    # as pip: the best version of all indexes, not those of the first index that has any
    environment = {"UV_INDEX_STRATEGY": "unsafe-best-match", **settings(), **os.environ}
    environment["VIRTUAL_ENV"] = sys.prefix
    uv = Path(sys.executable).with_name("uv")
    sys.exit(subprocess.run([uv, *sys.argv[1:]], env=environment, check=False).returncode)
