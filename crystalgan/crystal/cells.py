"""`Cells`, a batch of crystals as tensors, and pymatgen structures to and from it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from crystalgan.crystal.canonical import canonical
from crystalgan.crystal.symmetry import Symmetry
from crystalgan.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pymatgen.core import Structure


@dataclass(slots=True)
class _Derived:
    """What follows from the tensors of some cells, kept once it is made."""

    features: Tensor | None = None
    occupied: Tensor | None = None
    swapped: Cells | None = None


@dataclass(frozen=True)
class Cells:
    """Crystals of one system, padded to a common length, with any leading axes (`[runs, batch]`).

    Slot 0 of the atoms is always the shared element, then come the metals; `species[s]` is the
    element of slot s. Where `mask` is False the coordinates are zero and mean nothing. ValueError
    for shapes that disagree.
    """

    lattice: Tensor  # [..., 3, 3], rows are the lattice vectors, Å
    frac: Tensor  # [..., slots, length, 3], fractional coordinates
    mask: Tensor  # [..., slots, length], True where there is an atom
    species: tuple[str, ...]
    symmetry: Symmetry | None = None  # operations that keep each cell, where they are followed
    derived: _Derived = field(default_factory=_Derived, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        lead, slots = self.lattice.shape[:-2], len(self.species)
        length = self.mask.shape[-1]
        if self.lattice.shape[-2:] != (3, 3):
            raise ValueError(f"lattice must end in (3, 3), not {tuple(self.lattice.shape)}")
        if self.mask.shape != (*lead, slots, length) or self.frac.shape != (
            *lead,
            slots,
            length,
            3,
        ):
            raise ValueError(
                f"shapes disagree: lattice {tuple(self.lattice.shape)}, frac"
                f" {tuple(self.frac.shape)}, mask {tuple(self.mask.shape)}, {slots} species"
            )
        if self.mask.dtype != torch.bool:
            raise ValueError(f"mask must be boolean, not {self.mask.dtype}")

    def __len__(self) -> int:
        return self.lattice.shape[0]

    def __getitem__(self, index: Any) -> Cells:
        symmetry = self.symmetry.map(lambda t: t[index]) if self.symmetry else None
        return Cells(
            self.lattice[index], self.frac[index], self.mask[index], self.species, symmetry
        )

    @property
    def features(self) -> Tensor:
        """The paper's tensor, flattened: `[..., (1 + slots) * length * 3]`.

        Slot 0 is the lattice, padded like the atoms' slots.
        """
        if self.derived.features is not None:
            return self.derived.features
        lattice = torch.nn.functional.pad(self.lattice, (0, 0, 0, self.mask.shape[-1] - 3))
        features = torch.cat((lattice.unsqueeze(-3), self.frac), -3).flatten(-3)
        # not kept with gradients: made where they are off, it would have none
        if not (self.lattice.requires_grad or self.frac.requires_grad):
            self.derived.features = features
        return features

    @property
    def occupied(self) -> Tensor:
        """1 where `features` holds an entry of the cell and 0 in its padding, in the same shape."""
        if self.derived.occupied is None:
            length = self.mask.shape[-1]
            rows = (torch.arange(length) < 3).expand(*self.mask.shape[:-2], 1, length)
            entries = torch.cat((rows, self.mask), -2).to(self.lattice.dtype)
            self.derived.occupied = entries.repeat_interleave(3, -1).flatten(-2)
        return self.derived.occupied

    @classmethod
    def from_features(
        cls,
        features: Tensor,
        mask: Tensor,
        species: tuple[str, ...],
        symmetry: Symmetry | None = None,
    ) -> Cells:
        """Cells of a given occupancy from `features`, of which lattice and positions are views."""
        stack = features.view(*mask.shape[:-2], 1 + mask.shape[-2], mask.shape[-1], 3)
        cells = cls(stack[..., 0, :3, :], stack[..., 1:, :, :], mask, species, symmetry)
        cells.derived.features = features  # what the property would put together again
        return cells

    @classmethod
    def cat(cls, every: Sequence[Cells], dim: int = 0) -> Cells:
        """Batches one after the other along the leading axis `dim`, with the species of the first.

        Symmetry is followed where it is followed in all of them.

        >>> lattice, frac = torch.eye(3).repeat(2, 1, 1), torch.zeros(2, 2, 3, 3)
        >>> cells = Cells(lattice, frac, torch.ones(2, 2, 3, dtype=torch.bool), ("H", "Pd"))
        >>> len(Cells.cat([cells, cells[:1]])), Cells.stack([cells, cells]).lattice.shape[:2]
        (3, torch.Size([2, 2]))
        """
        return _joined(every, lambda tensors: torch.cat(tensors, dim))

    @classmethod
    def stack(cls, every: Sequence[Cells], dim: int = 0) -> Cells:
        """Batches of one shape along a new leading axis `dim`, otherwise as `cat`."""
        return _joined(every, lambda tensors: torch.stack(tensors, dim))

    def with_features(self, features: Tensor) -> Cells:
        """Other cells of the same occupancy, and of the same symmetry where that is followed."""
        cells = Cells.from_features(features, self.mask, self.species, self.symmetry)
        cells.derived.occupied = self.occupied
        return cells

    def gathered(self, rows: Tensor) -> Cells:
        """Cells `[runs, ...]` of a pool `[runs, pool]`, by their rows `[runs, ...]`."""
        first = torch.arange(0, self.lattice.shape[1] * len(rows), self.lattice.shape[1])
        flat = (rows + first.view(-1, *[1] * (rows.ndim - 1))).flatten()

        def rows_of(tensor: Tensor) -> Tensor:
            return tensor.flatten(0, 1).index_select(0, flat).unflatten(0, rows.shape)

        symmetry = self.symmetry.map(rows_of) if self.symmetry else None
        cells = Cells.from_features(
            rows_of(self.features), rows_of(self.mask), self.species, symmetry
        )
        cells.derived.occupied = rows_of(self.occupied)
        return cells

    def swapped(self) -> Cells:
        """The domains of `[runs, domains, batch]` in reverse order; kept where it has no gradient.

        The names of the elements stay as they are.
        """
        if self.derived.swapped is not None:
            return self.derived.swapped
        symmetry = self.symmetry.map(lambda t: t.flip(1)) if self.symmetry else None
        other = Cells.from_features(
            self.features.flip(1), self.mask.flip(1), self.species, symmetry
        )
        other.derived.occupied = self.occupied.flip(1)
        if not other.features.requires_grad:
            self.derived.swapped = other
        return other

    def to(self, dtype: torch.dtype) -> Cells:
        """The same cells in another floating-point type."""
        symmetry = (
            replace(self.symmetry, lattice=self.symmetry.lattice.to(dtype))
            if self.symmetry
            else None
        )
        return replace(
            self, lattice=self.lattice.to(dtype), frac=self.frac.to(dtype), symmetry=symmetry
        )

    def flattened(self) -> Cells:
        """The same cells with one leading axis in place of all."""
        lead = self.lattice.ndim - 3
        symmetry = self.symmetry.map(lambda t: t.flatten(0, lead)) if self.symmetry else None
        return Cells.from_features(
            self.features.flatten(0, -2), self.mask.flatten(0, -3), self.species, symmetry
        )

    def padded(self, length: int) -> Cells:
        """The same cells with slots of `length` rows; never shorter than they are. Comes before
        symmetry, which counts rows."""
        extra = length - self.mask.shape[-1]
        if not extra:
            return self
        assert self.symmetry is None
        if extra < 0:
            raise ValueError(
                f"{length=} is shorter than the {self.mask.shape[-1]} rows that these cells need"
            )
        frac = torch.nn.functional.pad(self.frac, (0, 0, 0, extra))
        return replace(self, frac=frac, mask=torch.nn.functional.pad(self.mask, (0, extra)))


def _joined(every: Sequence[Cells], join: Callable[[list[Tensor]], Tensor]) -> Cells:
    """Batches as one: `join` is applied to each tensor of all of them."""
    symmetries = [cells.symmetry.tensors for cells in every if cells.symmetry]
    symmetry = None
    if len(symmetries) == len(every):
        symmetry = Symmetry(*(join(list(tensors)) for tensors in zip(*symmetries, strict=True)))
    features, mask = join([cells.features for cells in every]), join([c.mask for c in every])
    cells = Cells.from_features(features, mask, every[0].species, symmetry)
    known = [c.derived.occupied for c in every]
    occupied = [tensor for tensor in known if tensor is not None]
    if len(occupied) == len(every):
        cells.derived.occupied = join(occupied)
    return cells


def encode(structures: Sequence[Structure], species: tuple[str, ...], length: int = 0) -> Cells:
    """Structures as float64 `Cells` with one slot for each of `species`, each cell in its canonical
    description.

    `length` is the least number of rows; more are taken when a cell needs them, and never fewer
    than 3.
    """
    cells = [canonical(structure) for structure in structures]
    for cell in cells:
        strange = {site.specie.symbol for site in cell} - set(species)
        if strange:
            raise InputError(
                f"{cell.formula} holds {', '.join(sorted(strange))}, which has no place among"
                f" {', '.join(species)}."
            )
    slots = [
        [[s.frac_coords for s in cell if s.specie.symbol == symbol] for symbol in species]
        for cell in cells
    ]
    length = max(3, length, *(len(rows) for positions in slots for rows in positions))
    frac = torch.zeros(len(cells), len(species), length, 3, dtype=torch.float64)
    mask = torch.zeros(frac.shape[:-1], dtype=torch.bool)
    for i, positions in enumerate(slots):
        for j, rows in enumerate(positions):
            if rows:
                frac[i, j, : len(rows)] = torch.from_numpy(np.array(rows))
                mask[i, j, : len(rows)] = True
    lattice = torch.from_numpy(np.array([cell.lattice.matrix for cell in cells])).reshape(-1, 3, 3)
    return Cells(lattice, frac, mask, species)


def decode(cells: Cells) -> list[Structure]:
    """`Cells` with one leading axis as pymatgen structures; coordinates inside the cell, atoms in
    the order of the slots."""
    from pymatgen.core import Structure

    structures = []
    for lattice, frac, mask in zip(cells.lattice, cells.frac, cells.mask, strict=True):
        counts = mask.sum(-1).tolist()
        symbols = [
            symbol
            for symbol, count in zip(cells.species, counts, strict=True)
            for _ in range(count)
        ]
        coords = frac[mask].detach().double()
        structures.append(
            Structure(lattice.detach().double().numpy(), symbols, (coords - coords.floor()).numpy())
        )
    return structures
