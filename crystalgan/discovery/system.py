"""What is known of a ternary system before a search: classes, limits, volumes, competing phases."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from crystalgan.crystal.limits import learned_rule, limits_of
from crystalgan.model.transfer import atomic_volumes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crystalgan.crystal.cells import Cells
    from crystalgan.crystal.limits import Limits
    from crystalgan.stability.hull import Phase

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
        cls, species: tuple[str, str, str], a: Cells, b: Cells, phases: Sequence[Phase]
    ) -> System:
        """The system of two classes of binaries, and of what competes."""
        from pymatgen.core import Composition

        limits = limits_of(learned_rule(a, b), species, torch.float64)
        (shared_a, metal_a), (shared_b, metal_b) = (atomic_volumes(c).tolist() for c in (a, b))
        competing = []
        for phase in phases:
            composition = Composition(phase.formula)
            h, m, n = (int(composition[symbol]) for symbol in species)
            competing.append(((h, m, n), phase.energy / (h + m + n)))
        volumes = (shared_a + shared_b) / 2, metal_a, metal_b
        return cls(species, (a, b), limits, volumes, tuple(competing))

    def volume(self, counts: Counts) -> float:
        """The volume of so many atoms, Å³."""
        return float(np.dot(counts, self.volumes))

    def symbols(self, counts: Counts) -> list[str]:
        """The elements of so many atoms, one after the other."""
        return [s for s, n in zip(self.species, counts, strict=True) for _ in range(n)]

    def with_volumes(self, volumes: tuple[float, float, float]) -> System:
        """The same system with other volumes of its atoms."""
        return replace(self, volumes=volumes)
