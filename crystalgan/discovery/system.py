"""What is known of a ternary system before a search: classes, limits, volumes, competing phases."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from crystalgan.crystal.limits import learned_rule, limits_of
from crystalgan.model.transfer import atomic_volumes
from crystalgan.stability.references import builtin_phases

if TYPE_CHECKING:
    from crystalgan.crystal.cells import Cells
    from crystalgan.crystal.limits import Limits

Counts = tuple[int, int, int]  # atoms of the shared element and of both metals


@dataclass(frozen=True)
class System:
    """Two metals and the shared element: what the sources make cells from and what competes."""

    species: tuple[str, str, str]
    classes: tuple[Cells, Cells]
    limits: Limits  # that cells must keep, in float64
    volumes: tuple[float, float, float]  # of an atom of each species, Å³
    phases: tuple[tuple[Counts, float], ...]  # what competes from the start, eV/atom

    @classmethod
    def of(
        cls, species: tuple[str, str, str], a: Cells, b: Cells, known_ternaries: bool = True
    ) -> System:
        """The system of two classes of binaries; the built-in known ternaries compete, or not."""
        from pymatgen.core import Composition

        limits = limits_of(learned_rule(a, b), species, torch.float64)
        (shared_a, metal_a), (shared_b, metal_b) = (atomic_volumes(c).tolist() for c in (a, b))
        phases = []
        for phase in builtin_phases(species, known_ternaries):
            composition = Composition(phase.formula)
            h, m, n = (int(composition[symbol]) for symbol in species)
            phases.append(((h, m, n), phase.energy / (h + m + n)))
        volumes = (shared_a + shared_b) / 2, metal_a, metal_b
        return cls(species, (a, b), limits, volumes, tuple(phases))

    def volume(self, counts: Counts) -> float:
        """The volume of so many atoms, Å³."""
        return float(np.dot(counts, self.volumes))

    def symbols(self, counts: Counts) -> list[str]:
        """The elements of so many atoms, one after the other."""
        return [s for s, n in zip(self.species, counts, strict=True) for _ in range(n)]

    def with_volumes(self, volumes: tuple[float, float, float]) -> System:
        """The same system with other volumes of its atoms."""
        return replace(self, volumes=volumes)
