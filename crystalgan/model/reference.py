"""Reference lengths and volumes of a ternary, taken from its two classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from crystalgan.crystal.distances import first_neighbours
from crystalgan.model.transfer import atomic_volumes

if TYPE_CHECKING:
    from crystalgan.crystal.cells import Cells

SHARED_LENGTH = 2.1  # Å, the Switendick distance: what shared atoms keep between them


def reference_of(a: Cells, b: Cells) -> Tensor:
    """Reference lengths and volumes in the slots of the ternary, `[1 + slots, slots]`.

    The first rows are the lengths (Å) for each pair of slots: the medians of the distances to the
    nearest metal, of both metals their mean, and the Switendick distance between shared atoms; the
    last one the volumes (Å³) of the atoms. `rescale` takes cells there.

    >>> from crystalgan import load_class
    >>> reference_of(load_class("Pd").cells(), load_class("Ni").cells()).shape
    torch.Size([4, 3])
    """
    lengths = []
    for cells in (a, b):
        near = first_neighbours(cells)
        metal = near.other_slot == 1
        lengths.append(
            [float(near.distance[metal & (near.center_slot == slot)].median()) for slot in (0, 1)]
        )
    volumes = [atomic_volumes(cells).tolist() for cells in (a, b)]
    (h_a, a_a), (h_b, b_b) = lengths
    a_b, shared = (a_a + b_b) / 2, (volumes[0][0] + volumes[1][0]) / 2
    rows = [
        [SHARED_LENGTH, h_a, h_b],
        [h_a, a_a, a_b],
        [h_b, a_b, b_b],
        [shared, volumes[0][1], volumes[1][1]],
    ]
    return torch.tensor(rows)
