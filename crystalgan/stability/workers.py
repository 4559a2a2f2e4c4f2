"""Processes that relax one structure each, and what becomes of a task whose process ends."""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import FIRST_COMPLETED, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Any, Self

from crystalgan.errors import InputError
from crystalgan.jobs import Pool
from crystalgan.stability.tasks import Task, failed_outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from crystalgan.stability.tasks import Outcome

KILLED = "the process that relaxed it ended, perhaps for lack of memory"


class Workers:
    """A `jobs.Pool` that is replaced when one of its processes crashes.

    Each process keeps the potential that it has loaded. Several processes see no GPU, which they
    would only wait for. Leaving the `with` block ends them at once.
    """

    def __init__(self, processes: int) -> None:
        self.processes = processes
        self.pool = self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.end()

    def _start(self) -> Pool:
        return Pool(self.processes, hide_gpu if self.processes > 1 else None)

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return what a function returns in a process, or raise what it raises there.

        Raises InputError where the process ended.
        """
        try:
            return self.pool.submit(function, *arguments).result()
        except BrokenProcessPool:
            raise InputError(
                "The process that loads the potential ended; there may be too little memory."
            ) from None

    def run_tasks(
        self, function: Callable[[Task], Outcome], tasks: Sequence[Task]
    ) -> Iterator[tuple[Task, Outcome]]:
        """Yield each task with its outcome, as soon as it is there.

        When a process ends, so do the others. Tasks that were under way are tried once more, one at
        a time, so that only the one that ends its process again fails.
        """
        waiting, alone, under_way = deque(tasks), deque[Task](), dict[Any, Task]()
        while waiting or alone or under_way:
            try:
                queue, most = (alone, 1) if alone else (waiting, self.processes)
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
                    yield suspects[0], failed_outcome(suspects[0], KILLED)
                else:
                    alone.extend(suspects)


def hide_gpu() -> None:
    """Have this process compute on the processor."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
