"""Commands in processes of their own, forked from a server that has imported what they need.

A process that is started from nothing imports torch and pymatgen for some seconds first. These are
processes as real (their own memory, locks, signals and exit code), and begin at once.
"""

from __future__ import annotations

import io
import os
import sys
import time
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

PRELOADED = (
    "torch",
    "scipy.stats",
    "scipy.optimize",
    "ase.db",
    "ase.io",
    "ase.build",
    "pandas",
    "pymatgen.core",
    "pymatgen.analysis.structure_matcher",
    "pymatgen.symmetry.analyzer",
    "spglib",
    "crystalgan.__main__",
    "crystalgan.runs.training",
    "crystalgan.runs.candidates",
    "crystalgan.stability.relaxations",
)
CONTEXT = get_context("forkserver")
CONTEXT.set_forkserver_preload(list(PRELOADED))


class Forked:
    """A function in a forked process: its exit code, and what it says so far and in all."""

    def __init__(self, function: Callable[..., object], *arguments: Any) -> None:
        self._folder = TemporaryDirectory()
        self._said = [Path(self._folder.name) / name for name in ("out", "err")]
        for path in self._said:
            path.touch()
        place = (dict(os.environ), Path.cwd(), *self._said)
        self.process = CONTEXT.Process(target=_begin, args=(place, function, arguments))
        self.process.start()
        self.pid = self.process.pid

    @property
    def stdout(self) -> str:
        """What it has printed so far."""
        return self._said[0].read_text()

    @property
    def stderr(self) -> str:
        """What it has said on stderr so far."""
        return self._said[1].read_text()

    def poll(self) -> int | None:
        """The exit code (negative: the signal), None while it runs."""
        return self.process.exitcode

    def wait(self, seconds: float = 300) -> int:
        """The exit code, once it has ended."""
        self.process.join(seconds)
        assert self.process.exitcode is not None, f"still running after {seconds} s"
        return self.process.exitcode

    def wait_until(self, done: Callable[[], object], seconds: float = 300) -> None:
        """Wait for something that this process brings about; stop early where it has ended."""
        end = time.monotonic() + seconds
        while self.poll() is None and not done():
            assert time.monotonic() < end, f"not done within {seconds} s"
            time.sleep(0.005)


def command(*words: object) -> Forked:
    """A command in a process, which leads a process group of its own, as in a shell."""
    return Forked(_command, list(map(str, words)))


def _begin(
    place: tuple[dict[str, str], Path, Path, Path],
    function: Callable[..., object],
    arguments: tuple[Any, ...],
) -> None:
    environment, folder, out, err = place
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), number)
    sys.stdout = io.TextIOWrapper(os.fdopen(1, "wb", closefd=False), encoding="utf-8")
    sys.stderr = io.TextIOWrapper(
        os.fdopen(2, "wb", closefd=False), encoding="utf-8", line_buffering=True
    )
    torch.set_num_threads(1)
    function(*arguments)


def _command(words: list[str]) -> None:
    from crystalgan.__main__ import main

    sys.argv = ["crystalgan", *words]
    main()
