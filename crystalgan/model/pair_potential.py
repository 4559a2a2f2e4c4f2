"""The pair potential of one A-B-H system: a table of energies for each pair of elements.

A two-body potential, a sum over pairs of atoms by their distance alone, given by cubic Hermite
tables. It costs microseconds a cell and has an exact gradient. It is a term of the loss of step 2,
and generated cells are relaxed in it before they are repaired. `pair_potential_fit` fits it to
CHGNet.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

if TYPE_CHECKING:
    from crystalgan.crystal.cells import Cells

# Å: first knot of a table, spacing of the knots, and where it ends
FIRST, WIDTH, CUTOFF = 0.5, 0.05, 5.0
PRERELAXED = 0.05  # eV/Å, the largest force at which a cell is relaxed


@dataclass(frozen=True)
class PairPotential:
    """A two-body potential for cells with as many slots as its tables have.

    The tables hold values (eV) and slopes times the spacing of the knots (eV), and both are zero at
    the cutoff.
    """

    tables: Tensor  # [slots * slots, knots, 2], float64; knots from FIRST to CUTOFF

    def __post_init__(self) -> None:
        slots, knots = round(len(self.tables) ** 0.5), round((CUTOFF - FIRST) / WIDTH) + 1
        if self.tables.shape != (slots * slots, knots, 2) or self.tables.dtype != torch.float64:
            raise ValueError(
                f"tables must be float64 [slots * slots, {knots}, 2], not {self.tables.dtype}"
                f" {tuple(self.tables.shape)}"
            )

    def __repr__(self) -> str:
        return f"PairPotential({round(len(self.tables) ** 0.5)} slots, cutoff {CUTOFF} Å)"

    def __call__(self, cells: Cells) -> Tensor:
        """Energies `[n]` (eV) of cells `[n]`, up to a constant for each element; differentiable."""
        energies: Tensor = _Energies.apply(cells.features, cells.mask.flatten(1), self.tables)
        return energies

    def prerelaxed(self, cells: Cells, steps: int) -> Cells:
        """Cells `[n]` after at most `steps` steps of FIRE in positions and lattice.

        A cell stops where no force is larger than 0.05 eV/Å. Symmetry is kept.
        """
        from crystalgan.crystal.kernels.pair_potential import prerelax

        before = cells.features.detach().double()
        after, mask = before.contiguous().clone(), cells.mask.flatten(1).contiguous().numpy()
        prerelax(
            after.numpy(),
            mask,
            self.tables.numpy(),
            len(cells.species),
            FIRST,
            WIDTH,
            steps,
            PRERELAXED,
        )
        if cells.symmetry:
            symmetry = replace(cells.symmetry, lattice=cells.symmetry.lattice.double())
            after = before + symmetry.project(after - before)
        return cells.with_features(after.to(cells.lattice.dtype))


class _Energies(torch.autograd.Function):
    """Energies of cells with their gradient by features, which the kernel gives with them."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, mask: Tensor, tables: Tensor) -> Tensor:
        from crystalgan.crystal.kernels.pair_potential import energies

        slots = round(len(tables) ** 0.5)
        arrays = (t.detach().contiguous().numpy() for t in (features, mask, tables))
        energy, gradient = energies(*arrays, slots, FIRST, WIDTH)
        ctx.save_for_backward(torch.from_numpy(gradient))
        return torch.from_numpy(energy).to(features.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return grad[:, None] * ctx.saved_tensors[0], None, None
