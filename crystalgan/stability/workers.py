"""Processes that relax, one thread each or many structures side by side, and what becomes of a task
whose process ends."""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, as_completed, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import count
from multiprocessing import parent_process
from typing import TYPE_CHECKING, Any, Self

from crystalgan.errors import InputError, TrainingError
from crystalgan.jobs import ENDED, at_least_one, end_children, spawning
from crystalgan.stability.tasks import Task, advance, failure

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
    from concurrent.futures import Future

    from crystalgan.stability.tasks import Outcome


class Workers:
    """Processes that relax, one thread each, and end with this one however it ends.

    `gpu` lets them see a GPU: one process can fill it, and several of one structure each would only
    wait for it.
    """

    def __init__(self, jobs: int, gpu: bool = False) -> None:
        at_least_one(jobs, "processes")
        self.jobs, self.gpu = jobs, gpu
        self.pool = self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown(wait=False, cancel_futures=True)
        end_children()

    def _start(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(self.jobs, spawning(), start_worker, (self.gpu,))

    # whatever it returns
    def ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What a function returns or raises in a worker."""
        try:
            return self.pool.submit(function, *arguments).result()
        except BrokenProcessPool:
            raise InputError(
                "The process that loads the potential ended; there may be too little memory."
            ) from None

    def as_completed(self, pending: Iterable[Future[Any]]) -> Iterator[tuple[Future[Any], Any]]:
        """What was submitted to the pool with its result, as soon as it is there."""
        for future in as_completed(pending):
            try:
                yield future, future.result()
            except BrokenProcessPool:
                raise TrainingError(ENDED) from None

    def carry_out(
        self, function: Callable[[Task], Outcome], tasks: Sequence[Task], at_once: int = 1
    ) -> Iterator[tuple[Task, Outcome]]:
        """Each task with its outcome as soon as it is there; a task whose process ends is tried
        once more, alone.

        With `at_once` above 1 the one process works on so many side by side.
        """
        if at_once > 1:
            tasks = yield from self._side_by_side(function, deque(tasks), at_once)
        waiting, alone, under_way = deque(tasks), deque[Task](), dict[Any, Task]()
        while waiting or alone or under_way:
            try:
                queue, most = (alone, 1) if alone else (waiting, self.jobs)
                while queue and len(under_way) < most:
                    future = self.pool.submit(function, queue[0])
                    under_way[future] = queue.popleft()
                for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                    outcome = future.result()
                    yield under_way.pop(future), outcome
            except BrokenProcessPool:
                self.pool = self._start()
                suspects, under_way = list(under_way.values()), {}
                if len(suspects) == 1:
                    yield (
                        suspects[0],
                        failure(
                            suspects[0],
                            "the process that relaxed it ended, perhaps for lack of memory",
                        ),
                    )
                alone.extend(suspects if len(suspects) > 1 else ())

    def _side_by_side(
        self, function: Callable[[Task], Outcome], waiting: deque[Task], at_once: int
    ) -> Generator[tuple[Task, Outcome], None, list[Task]]:
        """Outcomes as `carry_out` gives them; returns the tasks that were under way when the
        process ended."""
        assert self.jobs == 1, "only one process can be told from the others"
        numbers, suspects, under_way = count(), list[Task](), dict[int, Task]()
        while waiting or under_way:
            new = {
                next(numbers): waiting.popleft()
                for _ in range(min(at_once - len(under_way), len(waiting)))
            }
            under_way |= new
            try:
                done = self.pool.submit(advance, function, new).result()
            except BrokenProcessPool:
                self.pool = self._start()
                suspects += under_way.values()
                under_way = {}
            else:
                for number, outcome in done.items():
                    yield under_way.pop(number), outcome
        return suspects


def start_worker(gpu: bool) -> None:
    """One thread, and an end with the process that asked: an orphan would wait for work for
    ever."""
    import warnings

    os.environ["OMP_NUM_THREADS"] = "1"  # cells are small: more threads only wait
    if not gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    warnings.simplefilter("ignore")
    sys.stdout = sys.stderr  # packages that greet on loading; stdout belongs to --json
    parent = parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
