"""`Symmetry`: operations that cells keep on their way through networks and transfer.

Generators put out any change; its projection keeps every operation of the cell
(`Symmetry.project`). The feature transfer keeps those operations of one parent that also map the
other's metals onto each other, and looks for origins with such operations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_OPERATIONS = 48  # of a point group, and so of a primitive cell


@dataclass(frozen=True)
class Symmetry:
    """Operations x -> R x + t of fractional coordinates that keep cells; atom i becomes image[i].

    Atoms are numbered through all rows of all slots; those in the padding stay where they are.
    """

    rotation: Tensor  # [..., ops, 3, 3]
    image: Tensor  # [..., ops, slots * length], int16
    count: Tensor  # [...], how many of the operations are there
    lattice: Tensor  # [..., 3, 3], of the cells that were found to have them, Å

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """All four, in the order of the fields."""
        return self.rotation, self.image, self.count, self.lattice

    def map(self, change: Callable[[Tensor], Tensor]) -> Symmetry:
        """The same with every tensor changed in its leading axes."""
        return Symmetry(*map(change, self.tensors))

    def project(self, x: Tensor, transposed: bool = False) -> Tensor:
        """The part of changes `[..., features]` of `Cells.features` that keeps all operations.

        This is a linear projection.
        No gradient of its own; `transposed` is the adjoint map, which takes gradients back.
        """
        from crystalgan.crystal.kernels.projection import project

        lead = x.shape[:-1]
        flat = self.map(
            lambda tensor: (
                tensor.flatten(0, len(lead) - 1).contiguous()
                if len(lead) > 1
                else tensor.contiguous()
            )
        )
        arrays = (t.numpy() for t in (flat.rotation, flat.image, flat.count, flat.lattice))
        out = project(x.detach().reshape(-1, x.shape[-1]).contiguous().numpy(), *arrays, transposed)
        return torch.from_numpy(out).view(x.shape)
