"""The pair potential of a search: fitted anew to every energy and relaxation so far.

It costs a millisecond where the real potential takes tens: proposals are relaxed in it, and those
that it ranks low are not looked at. Within a composition its rank correlation with CHGNet's energy
of the same random cells is 0.9 and more once a hundred of them are known.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from crystalgan.model.pair_potential import CUTOFF, FIRST, WIDTH, PairPotential
from crystalgan.model.pair_potential_fit import (
    FEW,
    MOST_FORCE,
    PER_ATOM,
    PER_STRESS,
    SHORTEST,
    SPLINES,
    VOIGT,
    design_matrix,
    edges_of_cells,
    ridge,
    splines,
    walled,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms
    from torch import Tensor

    from crystalgan.crystal.cells import Cells

ENOUGH = 40  # cells, before which nothing is fitted
SHORT = 4 * FEW  # shortest distances that are remembered of each pair


@dataclass(frozen=True)
class Label:
    """What the real potential says of a crystal: energy in eV and, where they were computed, forces
    (eV/Å) and virial (eV). Atoms are in the order of the slots."""

    atoms: Atoms
    energy: float
    forces: np.ndarray | None = None  # [atoms, 3]
    virial: np.ndarray | None = None  # [3, 3]


@dataclass
class Surrogate:
    """Normal equations of a pair potential, which grow with every label.

    `closest` `[slots, slots]` (Å) is where the wall of a pair begins at the latest.
    """

    species: tuple[str, ...]
    closest: Tensor
    square: np.ndarray = field(init=False)
    right: np.ndarray = field(init=False)
    shortest: np.ndarray = field(init=False)  # [pairs, SHORT], Å
    labels: int = 0
    potential: PairPotential | None = None

    def __post_init__(self) -> None:
        slots = len(self.species)
        self.pairs = [(s, t) for s in range(slots) for t in range(s, slots)]
        columns = slots + len(self.pairs) * SPLINES
        self.square, self.right = np.zeros((columns, columns)), np.zeros(columns)
        self.shortest = np.full((len(self.pairs), SHORT), np.inf)

    def learn(self, labels: Sequence[Label], cells: Sequence[Cells]) -> None:
        """Take labels in, each with its crystal as one cell `[1]`, and fit the potential anew."""
        for label, cell in zip(labels, cells, strict=True):
            if not np.isfinite(label.energy):
                continue
            if label.forces is not None and np.abs(label.forces).max() > MOST_FORCE:
                continue
            self._add(label, cell)
            self.labels += 1
        if self.labels >= ENOUGH:
            self.potential = self._fitted()

    def _add(self, label: Label, cell: Cells) -> None:
        (one,) = edges_of_cells(cell, self.pairs)
        n = len(label.atoms)
        matrix = design_matrix(one, cell.mask[0].sum(-1).numpy(), len(self.pairs))
        if label.forces is None or label.virial is None:
            matrix, target = matrix[:1] * (PER_ATOM / n), np.array([label.energy * PER_ATOM / n])
        else:
            target = np.concatenate(([label.energy], label.forces.ravel(), label.virial[VOIGT]))
            weight = np.concatenate(
                ([PER_ATOM / n], np.ones(3 * n), np.full(6, PER_STRESS / n**0.5))
            )
            matrix, target = matrix * weight[:, None], target * weight
        self.square += matrix.T @ matrix
        self.right += matrix.T @ target
        distance = np.linalg.norm(one.vector, axis=1)
        for p in range(len(self.pairs)):
            near = np.concatenate([self.shortest[p], distance[one.pair == p]])
            self.shortest[p] = np.sort(near)[:SHORT]

    def _fitted(self) -> PairPotential:
        slots = len(self.species)
        solution = ridge(self.square, self.right)
        self.constants = solution[:slots]
        weights = solution[slots:].reshape(len(self.pairs), SPLINES)
        knots = np.arange(FIRST, CUTOFF + WIDTH / 2, WIDTH)
        values, slopes = splines(knots)
        tables = np.zeros((slots * slots, len(knots), 2))
        for p, ((s, t), weight) in enumerate(zip(self.pairs, weights, strict=True)):
            seen = float(self.shortest[p, FEW])
            short = max(float(self.closest[s, t]), seen if np.isfinite(seen) else SHORTEST)
            table = walled(values @ weight, slopes @ weight, knots, short)
            tables[s * slots + t] = tables[t * slots + s] = table
        return PairPotential(torch.from_numpy(tables))

    def energies(self, cells: Cells) -> np.ndarray:
        """The energy of each of `cells` `[n]`, eV/atom, the elements' constants included."""
        assert self.potential is not None
        counts = cells.mask.sum(-1).numpy()
        pair = self.potential(cells.to(torch.float64)).numpy()
        out: np.ndarray = (pair + counts @ self.constants) / counts.sum(1)
        return out

    def state(self) -> dict[str, np.ndarray]:
        """What it has learned, for a checkpoint."""
        return {
            "square": self.square,
            "right": self.right,
            "shortest": np.minimum(self.shortest, 1e9),
            "labels": np.array(self.labels),
        }

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Go on with what was learned."""
        self.square, self.right = state["square"], state["right"]
        self.shortest = np.where(state["shortest"] < 1e9, state["shortest"], np.inf)
        self.labels = int(state["labels"])
        if self.labels >= ENOUGH:
            self.potential = self._fitted()
