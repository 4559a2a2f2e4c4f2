"""How far a command is, in a file that another process may look at.

The environment of a command names the file (`VARIABLE`). It appears complete or not at all, so that
a reader that is early finds nothing yet, and never half a file.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from crystalgan.errors import InputError
from crystalgan.storage import write_whole

if TYPE_CHECKING:
    from collections.abc import Callable

VARIABLE = "CRYSTALGAN_PROGRESS"
EVERY = 0.5  # s, between two writings


@dataclass(frozen=True)
class Progress:
    """How much of some work is done.

    >>> Progress(3, 4, "relaxed").share
    0.75
    """

    done: int
    of: int | None  # None: it is not known how much there is
    what: str = ""

    @property
    def share(self) -> float:
        """The part that is done, 0 to 1; 0 where it is not known how much there is."""
        return min(1.0, self.done / self.of) if self.of else 0.0


class ProgressFile:
    """Writes the progress of a command, at most twice a second, and always how it ended."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._clock = path, clock
        self._written: float | None = None
        self._waiting: Progress | None = None

    def tell(self, progress: Progress) -> None:
        """Write this, or keep it for later where the last writing is less than half a second
        ago."""
        self._waiting = progress
        if self._written is None or self._clock() - self._written >= EVERY:
            self.flush()

    def flush(self) -> None:
        """Write what was told last.

        A disk that refuses it does not end the work; what the work itself writes says so better.
        """
        if self._waiting is not None:
            with suppress(InputError, OSError):
                write_whole(self._path, json.dumps(asdict(self._waiting)))
            self._written, self._waiting = self._clock(), None


def progress_file() -> ProgressFile | None:
    """The file that the environment names; None where it names none."""
    name = os.environ.get(VARIABLE)
    return ProgressFile(Path(name)) if name else None


def read_progress(path: Path) -> Progress | None:
    """How far the command is that writes this file; None before it has said so, or for another
    file.

    >>> read_progress(Path("not-there.json")) is None
    True
    """
    try:
        found = json.loads(path.read_bytes())
        return Progress(int(found["done"]), found["of"] and int(found["of"]), str(found["what"]))
    except (OSError, ValueError, TypeError, KeyError):
        return None
