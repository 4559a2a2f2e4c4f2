"""Where proposals come from: functions of a system, a composition and random numbers to crystals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from crystalgan.crystal.random_cells import random_cells, random_occupation
from crystalgan.crystal.repair import repair, satisfies

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms

    from crystalgan.crystal.cells import Cells
    from crystalgan.discovery.system import Counts, System

REPAIR_STEPS, REPAIR_MARGIN = 100, 0.1  # Å
RANDOM_TRIES = 3  # random cells of one occupation, of which the first that keeps the limits counts


class Source(Protocol):
    """Something that proposes crystals of a composition."""

    name: str

    def propose(self, system: System, counts: Counts, rng: np.random.Generator) -> Atoms | None:
        """One crystal of so many atoms, or None where the attempt came to nothing."""
        ...


def finished(cells: Cells, system: System) -> Atoms | None:
    """The first of cells `[n]` (float64) that keeps the limits of the system once it is repaired."""
    cells = repair(cells, system.limits, REPAIR_STEPS, REPAIR_MARGIN)
    fits = satisfies(cells, system.limits)
    return atoms_of(cells[fits][:1]) if fits.any() else None


def atoms_of(cells: Cells) -> Atoms:
    """The first of `cells` as ASE's atoms, in the order of the slots."""
    from ase import Atoms

    mask = cells.mask[0]
    symbols = [s for s, n in zip(cells.species, mask.sum(-1).tolist(), strict=True) for _ in range(n)]
    return Atoms(
        symbols,
        cell=cells.lattice[0].double().numpy(),
        scaled_positions=cells.frac[0][mask].double().numpy() % 1,
        pbc=True,
    )


@dataclass
class RandomSource:
    """Random cells with the symmetry of random space groups."""

    name: str = "random"

    def propose(self, system: System, counts: Counts, rng: np.random.Generator) -> Atoms | None:
        """One crystal of so many atoms, or None where the attempt came to nothing."""
        occupation = random_occupation(counts, rng)
        if occupation is None:
            return None
        tries = RANDOM_TRIES if occupation.freedom > 1 else 1
        volume = system.volume(counts)
        return finished(random_cells(occupation, system.species, volume, tries, rng), system)
