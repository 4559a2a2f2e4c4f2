"""Where proposals come from: from a composition and random numbers to crystals."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from crystalgan.crystal.cells import Cells
from crystalgan.crystal.random_cells import random_cells, random_occupation
from crystalgan.crystal.repair import repair, satisfies

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms

    from crystalgan.discovery.found import Found
    from crystalgan.discovery.surrogate import Surrogate
    from crystalgan.discovery.system import Counts, System

PRERELAX_STEPS = 60
REPAIR_STEPS, REPAIR_MARGIN = 100, 0.1  # Å
REDRAWS, REPEATS = 10, 3
LARGEST = 3.0  # volume of a cell by that of its atoms; beyond it atoms flew apart in the surrogate
RANDOM_TRIES = 3  # random cells of one occupation, of which the first that keeps the limits counts


@dataclass(frozen=True)
class Request:
    """What a source is asked for: crystals of a system with so many atoms.

    `found` is what the search has found so far.
    """

    system: System
    counts: Counts
    found: Sequence[Found] = ()


class Source(Protocol):
    """Something that proposes crystals of a composition."""

    name: str

    def propose(self, request: Request, rng: np.random.Generator) -> Cells | None:
        """Cells `[n]` (float64) to choose one from; None where the attempt came to nothing."""
        ...

    def state(self) -> dict[str, int]:
        """What it remembers of its proposals, for a checkpoint."""
        ...

    def restore(self, state: dict[str, int]) -> None:
        """Go on with what was remembered."""
        ...


class Forgetful:
    """A source whose proposals depend on nothing that it proposed before."""

    def state(self) -> dict[str, int]:
        """Nothing is remembered."""
        return {}

    def restore(self, state: dict[str, int]) -> None:
        """Nothing was remembered."""


def finished(cells: Cells, system: System, surrogate: Surrogate) -> tuple[Cells, float] | None:
    """The best of cells `[n]` (float64) that keeps the limits of the system, as one cell `[1]`.

    They are relaxed in the surrogate, where it has learned enough, and the lowest goes first; a
    cell that does not keep the limits is repaired, one that flew apart is left out. With it comes
    its energy in the surrogate, eV/atom, NaN without one. None where no cell is left.
    """
    order, energies = list(range(len(cells))), np.full(len(cells), np.nan)
    if surrogate.potential is not None:
        cells = surrogate.potential.prerelaxed(cells, PRERELAX_STEPS)
        energies = surrogate.energies(cells)
        order = energies.argsort(kind="stable").tolist()
    most = LARGEST * system.volume(tuple(cells.mask[0].sum(-1).tolist()))
    for k in order:
        one, energy = cells[k : k + 1], float(energies[k])
        if not abs(float(torch.linalg.det(one.lattice[0]))) < most:
            continue
        if not satisfies(one, system.limits)[0]:
            one = repair(one, system.limits, REPAIR_STEPS, REPAIR_MARGIN)
            if not satisfies(one, system.limits)[0]:
                continue
            if surrogate.potential is not None:
                energy = float(surrogate.energies(one)[0])
        return one, energy
    return None


def cell_of(atoms: Atoms, species: tuple[str, ...]) -> Cells:
    """ASE's atoms, in the order of the slots, as one cell `[1]` (float64)."""
    symbols = np.array(atoms.get_chemical_symbols())
    frac = atoms.get_scaled_positions()
    return cells_of(atoms.cell.array, [frac[symbols == s] for s in species], species)


def atoms_of(cells: Cells) -> Atoms:
    """The first of `cells` as ASE's atoms, in the order of the slots."""
    from ase import Atoms

    mask = cells.mask[0]
    numbers = mask.sum(-1).tolist()
    symbols = [s for s, n in zip(cells.species, numbers, strict=True) for _ in range(n)]
    return Atoms(
        symbols,
        cell=cells.lattice[0].double().numpy(),
        scaled_positions=cells.frac[0][mask].double().numpy() % 1,
        pbc=True,
    )


class RandomSource:
    """Random cells with the symmetry of random space groups.

    Of the same positions in the same group more cells are made where more coordinates are free.
    """

    name = "random"

    def __init__(self) -> None:
        self.drawn: Counter[str] = Counter()

    def propose(self, request: Request, rng: np.random.Generator) -> Cells | None:
        """Cells that were asked for, or None where the attempt came to nothing."""
        for _ in range(REDRAWS):
            occupation = random_occupation(request.counts, rng)
            if occupation is None:
                return None
            key = occupation.key
            if self.drawn[key] < REPEATS ** (occupation.freedom - 1):
                break
        else:
            return None
        self.drawn[key] += 1
        tries = RANDOM_TRIES if occupation.freedom > 1 else 1
        volume = request.system.volume(request.counts)
        return random_cells(occupation, request.system.species, volume, tries, rng)

    def state(self) -> dict[str, int]:
        """How often each occupation was drawn."""
        return dict(self.drawn)

    def restore(self, state: dict[str, int]) -> None:
        """Go on with what was remembered."""
        self.drawn = Counter(state)


def cells_of(lattice: np.ndarray, slots: Sequence[np.ndarray], species: tuple[str, ...]) -> Cells:
    """One cell `[1]` (float64) of these atoms, without symmetry."""
    rows = max(3, *map(len, slots))
    frac = torch.zeros(1, len(slots), rows, 3, dtype=torch.float64)
    mask = torch.zeros(frac.shape[:-1], dtype=torch.bool)
    for slot, atoms in enumerate(slots):
        frac[0, slot, : len(atoms)] = torch.from_numpy(np.asarray(atoms))
        mask[0, slot, : len(atoms)] = True
    upright = torch.from_numpy(np.linalg.cholesky(lattice @ lattice.T))
    return Cells(upright[None], frac, mask, species)
