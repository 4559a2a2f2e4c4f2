"""How far a run is: the content of `status.json` as a value."""

from __future__ import annotations

import time
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

State = Literal["created", "starting", "running", "stopped", "failed", "finished"]
START_SECONDS = 60  # that a new process may take to import what it needs


@dataclass(frozen=True)
class Status:
    """State of a run's training.

    >>> status = Status("running", epochs=(10, 30), step=1, epoch=5)
    >>> status.share_done
    0.125
    """

    state: State
    message: str = ""  # what is done now, or why it ended
    updated: float = 0.0  # seconds since 1970
    epochs: tuple[int, ...] = ()  # of each step; empty before the first training
    step: int | None = None  # 1 or 2
    epoch: int | None = None  # of this step, done
    seconds: float | None = None  # that this step has taken

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Self:
        """The status from a checked `status.json`; what it does not name is left out."""
        named = {f.name: stored[f.name] for f in fields(cls) if stored.get(f.name) is not None}
        return cls(**named | {"epochs": tuple(named.get("epochs", ()))})

    @property
    def is_training(self) -> bool:
        """Whether a process trains the run, or is about to."""
        return self.state in {"starting", "running"}

    @property
    def is_overdue(self) -> bool:
        """Whether the run's lock must be held by now: it trains, or has been starting for longer
        than a process takes to start."""
        if self.state == "starting":
            return time.time() - self.updated >= START_SECONDS
        return self.state == "running"

    @property
    def share_done(self) -> float:
        """How much of all epochs of both steps is done, 0 to 1."""
        if self.state == "finished":
            return 1.0
        done = sum(self.epochs[: (self.step or 1) - 1]) + (self.epoch or 0)
        return min(1.0, done / max(1, sum(self.epochs)))
