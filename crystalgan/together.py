"""Relaxations side by side: each runs in a thread as it would alone, and what all of them ask a potential for is one batch.

An optimizer asks for one crystal at a time. Where a potential gives many at once for little more than one, as on a GPU, its
calculators here wait until every relaxation under way has asked.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from ase.calculators.calculator import Calculator, all_changes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ase import Atoms

    from crystalgan.potentials import Potential

T = TypeVar("T")
R = TypeVar("R")


@dataclass
class Request:
    """A crystal whose energy, forces and stress are asked for, and the answer or the error."""

    atoms: Atoms
    results: dict[str, Any] = field(default_factory=dict)
    error: Exception | None = None
    done: bool = False


class Collector:
    """Holds requests until all relaxations that take part have made one; the last one's thread has all of them evaluated."""

    def __init__(self, evaluate: Callable[[Sequence[Atoms]], list[dict[str, Any]]], taking_part: int) -> None:
        self.evaluate, self.left = evaluate, taking_part
        self.waiting: list[Request] = []
        self.ready = threading.Condition()

    def ask(self, atoms: Atoms) -> dict[str, Any]:
        """Energy, forces and stress of one crystal, as ASE names them; what went wrong for this one is raised."""
        request = Request(atoms)
        with self.ready:
            self.waiting.append(request)
            self._answer_if_all_wait()
            self.ready.wait_for(lambda: request.done)
        if request.error:
            raise request.error
        return request.results

    @contextmanager
    def one_of_all(self) -> Iterator[None]:
        """While a relaxation runs; however it ends, the others no longer wait for it."""
        try:
            yield
        finally:
            with self.ready:
                self.left -= 1
                self._answer_if_all_wait()

    def _answer_if_all_wait(self) -> None:
        if not self.waiting or len(self.waiting) < self.left:
            return
        requests, self.waiting = self.waiting, []
        try:
            for request, results in zip(requests, self.evaluate([r.atoms for r in requests]), strict=True):
                request.results = results
        except Exception:  # noqa: BLE001 - whatever it is, it is the fault of one, and the others have done no wrong
            for request in requests:
                self._answer_alone(request)
        for request in requests:
            request.done = True
        self.ready.notify_all()

    def _answer_alone(self, request: Request) -> None:
        try:
            (request.results,) = self.evaluate([request.atoms])
        except Exception as error:  # noqa: BLE001 - it is raised where it was asked for
            request.error = error


class Waiting(Calculator):
    """An ASE calculator that asks a collector."""

    implemented_properties: ClassVar = ["energy", "free_energy", "forces", "stress"]

    def __init__(self, collector: Collector) -> None:
        super().__init__()
        self.collector = collector

    def calculate(  # noqa: D102 - ASE's own
        self, atoms: Atoms | None = None, properties: Sequence[str] = ("energy",), system_changes: Sequence[str] = all_changes
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        assert atoms is not None
        self.results = dict(self.collector.ask(atoms.copy()))


def side_by_side(function: Callable[[Potential, T], R], potential: Potential, tasks: Sequence[T]) -> list[R]:
    """What a function makes of each task, a thread for each, with a potential that evaluates what they ask for together."""
    if potential.evaluate is None or len(tasks) == 1:
        return [function(potential, task) for task in tasks]
    collector = Collector(potential.evaluate, len(tasks))

    def one(task: T) -> R:
        with collector.one_of_all():
            return function(replace(potential, calculator=Waiting(collector)), task)

    with ThreadPoolExecutor(len(tasks)) as pool:
        return list(pool.map(one, tasks))
