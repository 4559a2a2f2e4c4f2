"""A pool of processes that work for this one: how they start, how they end, how many there may be.

`Pool` is the one way to run functions in other processes. `at_least_one` checks a number that the
user gave.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import parent_process
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import TYPE_CHECKING, Any, TypeVar

from crystalgan.errors import InputError, TrainingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future
    from types import TracebackType

Result = TypeVar("Result")

MOST = 1000  # seeds or processes
ENDED = (
    "A process that worked for this command was ended from outside, perhaps for lack of memory;"
    " the same again goes on from what is done."
)


def at_least_one(count: int, what: str) -> None:
    """Raise InputError for fewer than one, or for more than any machine would get through.

    >>> at_least_one(2, "processes")
    """
    if not 1 <= count <= MOST:
        raise InputError(f"{count} {what} were asked for; ask for at least 1 and at most {MOST:,}.")


class Pool(ProcessPoolExecutor):
    """Processes of one thread each that run functions for this one.

    It is the standard library's executor with these guarantees. Processes are spawned, since a
    fork would inherit the threads of torch. Ctrl-C reaches this process only, which ends the
    others: at once where an error or a stop leaves the `with` block, after their work otherwise.
    They also end when this process is killed. What they print goes to stderr (stdout belongs to
    `--json`), and their warnings nowhere.

    `initializer(*initargs)` runs once in each process, before its first function. Raises InputError
    for fewer than one process. `submit` and `map` are those of `concurrent.futures`, and raise
    BrokenProcessPool for a process that ended; `completed` makes a sentence of it.

    >>> with Pool(2) as pool:  # doctest: +SKIP
    ...     list(pool.map(abs, [-1, -2]))
    [1, 2]
    """

    def __init__(
        self,
        processes: int = 1,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
    ) -> None:
        at_least_one(processes, "processes")
        self._spawned = _Spawning()
        super().__init__(processes, self._spawned, _start, (initializer, initargs))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self.shutdown()
        else:
            self.end()

    def completed(
        self, pending: Iterable[Future[Result]]
    ) -> Iterator[tuple[Future[Result], Result]]:
        """Yield each submitted future with its result, as soon as it is there.

        Raises what a function raised, and TrainingError where a process ended from outside.
        """
        for future in as_completed(pending):
            try:
                yield future, future.result()
            except BrokenProcessPool:
                raise TrainingError(ENDED) from None

    def end(self) -> None:
        """End the processes at once, whatever they are doing."""
        self.shutdown(wait=False, cancel_futures=True)
        for process in self._spawned.processes:
            if process.is_alive():
                process.terminate()


def _start(initializer: Callable[..., object] | None, initargs: tuple[Any, ...]) -> None:
    """Make a new process quiet, of one thread, and end with its parent; then initialize it."""
    import warnings

    parent = parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)  # an orphan would wait for work for ever

    threading.Thread(target=follow, daemon=True).start()
    warnings.simplefilter("ignore")
    sys.stdout = sys.stderr  # packages that greet on loading
    one_thread()
    if initializer:
        initializer(*initargs)


def one_thread() -> None:
    """Have this process use one thread for tensors: the matrices are small, and more only wait."""
    os.environ["OMP_NUM_THREADS"] = "1"  # which torch reads when it is imported
    os.environ["RAYON_NUM_THREADS"] = "1"  # phonopy's
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(1)


class _Quiet(SpawnProcess):
    """A process that Ctrl-C in a terminal does not reach; the one that started it ends it."""

    def start(self) -> None:
        # the new process takes the mask over
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            super().start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Spawning(SpawnContext):
    """How to start quiet processes; it remembers those that it made."""

    def __init__(self) -> None:
        self.processes: list[SpawnProcess] = []

    def Process(self, *args: Any, **options: Any) -> SpawnProcess:  # type: ignore[override]  # noqa: N802
        process = _Quiet(*args, **options)
        self.processes.append(process)
        return process
