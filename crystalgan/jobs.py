"""Processes that work for this one: how they are started and ended, and how many there may be."""

from __future__ import annotations

import signal
from multiprocessing import active_children
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import TYPE_CHECKING

from crystalgan.errors import InputError

if TYPE_CHECKING:
    Values = dict[str, float]

MOST = 1000  # seeds or processes


def at_least_one(count: int, what: str) -> None:
    """InputError for fewer than one, or for more than any machine would get through."""
    if not 1 <= count <= MOST:
        raise InputError(f"{count} {what} were asked for; ask for at least 1 and at most {MOST:,}.")


class _Quiet(SpawnProcess):
    """Ctrl-C in a terminal goes to every process. This one does not hear it: the one that started
    it ends it."""

    def start(self) -> None:
        # which the new process takes over
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            super().start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Spawning(SpawnContext):
    Process = _Quiet


def spawning() -> SpawnContext:
    """How to start processes that work for this one."""
    return _Spawning()


def end_children() -> None:
    """End the processes that this one started."""
    for process in active_children():
        process.terminate()


def one_thread() -> None:
    """Have this process use one thread for tensors."""
    import torch

    torch.set_num_threads(1)  # the matrices are small: more only wait
