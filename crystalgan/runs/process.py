"""Training in a process of its own, which outlives the one that starts it: start and stop. A
search stops as it does."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from crystalgan.storage import COPY, saying

if TYPE_CHECKING:
    from crystalgan.runs.folder import Run


def start(run: Run) -> None:
    """Train or resume in a process of its own, which outlives this one; its output goes to
    `worker.log`."""
    run.set_status("starting", message="")
    with saying(run.folder, COPY, writing=True), (run.folder / "worker.log").open("ab") as log:
        subprocess.Popen(  # noqa: S603 - our own interpreter and a path
            [sys.executable, "-m", "crystalgan", "resume", str(run.folder)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            # small matrices: more only wait
            env=os.environ | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")},
        )


def stop(run: Run) -> None:
    """Ask the process that trains or searches to write a checkpoint and end; it looks once an epoch
    or a round."""
    with saying(run.folder, COPY, writing=True):
        (run.folder / "stop").touch()
