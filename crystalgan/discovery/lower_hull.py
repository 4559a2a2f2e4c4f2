"""The lower convex hull of energies over the compositions of a ternary system."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class LowerHull:
    """Planes `[facets, 3]` of the hull; a composition's energy is that of the highest of them."""

    planes: np.ndarray

    @classmethod
    def of(cls, counts: Sequence[Sequence[int]], energies: Sequence[float]) -> LowerHull:
        """The hull of phases with so many atoms of three elements each, and energies in eV/atom.

        The elements must be among them.

        >>> hull = LowerHull.of([(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1)], [0, 0, 0, -0.3])
        >>> float(hull.above([(2, 1, 1)], [-0.1])[0].round(3))
        0.125
        """
        from scipy.spatial import ConvexHull

        where = _coordinates(counts)
        heights = np.asarray(energies, float)
        # a point above the triangle of the elements closes the hull where all lies in one plane
        top = [1 / 3, 1 / 3, heights.max() + 1]
        points = np.vstack([np.column_stack([where, heights]), top])
        normals = np.unique(ConvexHull(points).equations.round(12), axis=0)
        lower = normals[normals[:, 2] < -1e-9]
        # n . (x, y, e) + d = 0, so e = -(n_x x + n_y y + d) / n_e
        return cls(-lower[:, [3, 0, 1]] / lower[:, 2:3])

    def energy(self, counts: Sequence[Sequence[int]] | np.ndarray) -> np.ndarray:
        """The energy of the hull at each composition, eV/atom."""
        where = _coordinates(counts)
        ones = np.ones((len(where), 1))
        return (np.hstack([ones, where]) @ self.planes.T).max(1)

    def above(
        self, counts: Sequence[Sequence[int]] | np.ndarray, energies: Sequence[float] | np.ndarray
    ) -> np.ndarray:
        """How far energies (eV/atom) lie above the hull; negative where they would lower it."""
        return np.asarray(energies) - self.energy(counts)


def _coordinates(counts: Sequence[Sequence[int]] | np.ndarray) -> np.ndarray:
    numbers = np.asarray(counts, float).reshape(-1, 3)
    return (numbers / numbers.sum(1, keepdims=True))[:, 1:]
