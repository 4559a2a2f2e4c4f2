"""Differentiable first-neighbour distances of batches of periodic crystals.

The nearest image is searched without gradients, exactly (`crystalgan.crystal.kernels.distances`);
the distance to it has a gradient, which is all that the derivative of a minimum needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from crystalgan.crystal.rules import pair_name

if TYPE_CHECKING:
    import numpy as np

    from crystalgan.crystal.cells import Cells


@dataclass(frozen=True)
class Neighbours:
    """Nearest neighbours of atoms, one row each; atoms are numbered through the batch.

    A row says: of all atoms of the group asked for (its own images included), `other`, shifted by
    `shift` lattice vectors, is the nearest to `center`.
    """

    center: Tensor  # [rows], atom
    other: Tensor  # [rows], atom
    shift: Tensor  # [rows, 3], whole lattice vectors added to `other`
    cell: Tensor  # [rows]
    center_slot: Tensor  # [rows]
    other_slot: Tensor  # [rows]
    distance: Tensor  # [rows], Å, differentiable through lattice and positions


def first_neighbours(cells: Cells, cross: bool = True) -> Neighbours:
    """The nearest neighbours that rules and losses ask about, of cells `[n]`.

    For every atom of the shared element the nearest of its kind; for every metal atom the nearest
    metal, whichever it is; and with `cross` for every atom of the shared element the nearest metal
    (no row in a cell without metal).
    """
    from crystalgan.crystal.kernels import distances as kernels

    lattice, frac, mask = (
        x.detach().contiguous().numpy() for x in (cells.lattice, cells.frac, cells.mask)
    )
    rows, shifts = kernels.first_neighbours(lattice, frac, mask, cross)
    distance = distances_of(cells.features, rows, shifts, mask.shape[-1])
    cell, center, center_slot, _, other, other_slot, _ = (
        torch.from_numpy(rows).T.contiguous().unbind()
    )
    return Neighbours(
        center, other, torch.from_numpy(shifts), cell, center_slot, other_slot, distance
    )


def distances_of(features: Tensor, rows: np.ndarray, shifts: np.ndarray, length: int) -> Tensor:
    """Distances `[rows]` (Å) of the kernel's first neighbours, with a gradient by features.

    Features are `[cells, features]`; rows and shifts are those of `kernels.first_neighbours`.
    """
    distances: Tensor = _Distances.apply(features, rows, shifts, length)
    return distances


class _Distances(torch.autograd.Function):
    """`distances_of` with its gradient."""

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, rows: np.ndarray, shifts: np.ndarray, length: int
    ) -> Tensor:
        from crystalgan.crystal.kernels import distances as kernels

        ctx.save_for_backward(features)
        ctx.rest = (rows, shifts, length)
        return torch.from_numpy(
            kernels.distances(features.detach().contiguous().numpy(), rows, shifts, length)
        ).to(features.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        from crystalgan.crystal.kernels import distances as kernels

        features = ctx.saved_tensors[0].contiguous().numpy()
        return (
            torch.from_numpy(
                kernels.distances_backward(features, *ctx.rest, grad.double().contiguous().numpy())
            ),
            None,
            None,
            None,
        )


def distances_by_pair(cells: Cells) -> dict[str, list[float]]:
    """First-neighbour distances (Å) of cells `[n]`, by pair of elements."""
    near = first_neighbours(cells.to(torch.float64))
    found: dict[str, list[float]] = {}
    for center, other, distance in zip(
        near.center_slot.tolist(), near.other_slot.tolist(), near.distance.tolist(), strict=True
    ):
        found.setdefault(pair_name(cells.species[center], cells.species[other]), []).append(
            distance
        )
    return found
