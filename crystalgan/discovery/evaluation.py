"""Energies and relaxations of a search in this process or others, and the CPU time they take."""

from __future__ import annotations

import math
import time
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from crystalgan.discovery.descent import advance
from crystalgan.discovery.surrogate import Label
from crystalgan.stability.tasks import Settings, loaded_potential, relax_task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ase import Atoms

    from crystalgan.discovery.descent import Descent
    from crystalgan.jobs import Pool
    from crystalgan.stability.tasks import Outcome, Task

Given = TypeVar("Given")
Result = TypeVar("Result")


class Evaluation:
    """A potential, in this process or in those of a pool; `seconds` of CPU time count up there."""

    def __init__(self, potential: str, pool: Pool | None = None, jobs: int = 1) -> None:
        self.potential, self.pool, self.jobs = potential, pool, jobs
        self.seconds = 0.0

    def labels(self, crystals: Sequence[Atoms], derivatives: bool = False) -> list[Label]:
        """What the potential says of each crystal; where it says nothing, an energy is NaN."""
        return self._all(partial(_labels, self.potential, derivatives), crystals)

    def advance(self, descents: Sequence[tuple[Descent, int]]) -> list[Descent]:
        """Each relaxation with so many steps more."""
        return self._all(partial(_advanced, self.potential), descents)

    def relaxed(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        """The outcome of each relaxation to its end, one after the other."""
        work = partial(_relaxed, self.potential)
        for outcome, seconds in (
            map(work, tasks) if self.pool is None else self.pool.map(work, tasks)
        ):
            self.seconds += seconds if self.pool else 0.0
            yield outcome

    def _all(
        self, work: Callable[[Sequence[Given]], tuple[list[Result], float]], given: Sequence[Given]
    ) -> list[Result]:
        if self.pool is None:
            return work(given)[0]
        chunks = [given[k :: self.jobs] for k in range(self.jobs)]
        out: list[Any] = [None] * len(given)
        for k, (results, seconds) in enumerate(self.pool.map(work, chunks)):
            out[k :: self.jobs] = results
            self.seconds += seconds
        return out


def _relaxed(potential: str, task: Task) -> tuple[Outcome, float]:
    started = time.process_time()
    return relax_task(potential, Settings(), task), time.process_time() - started


def _labels(
    potential: str, derivatives: bool, crystals: Sequence[Atoms]
) -> tuple[list[Label], float]:
    started, calculator = time.process_time(), loaded_potential(potential).calculator
    return [_label(crystal, calculator, derivatives) for crystal in crystals], (
        time.process_time() - started
    )


def _label(crystal: Atoms, calculator: Any, derivatives: bool) -> Label:
    atoms: Any = crystal.copy()
    atoms.calc = calculator
    try:
        if not derivatives:
            return Label(crystal, float(atoms.get_potential_energy()))
        forces, volume = atoms.get_forces(), atoms.get_volume()
        virial = atoms.get_stress(voigt=False) * volume
        return Label(crystal, float(atoms.get_potential_energy()), forces, virial)
    except Exception:  # noqa: BLE001 - each potential fails in its own way on some cells
        return Label(crystal, math.nan)


def _advanced(
    potential: str, descents: Sequence[tuple[Descent, int]]
) -> tuple[list[Descent], float]:
    started, calculator = time.process_time(), loaded_potential(potential).calculator
    out = [advance(descent, calculator, steps) for descent, steps in descents]
    return out, time.process_time() - started
