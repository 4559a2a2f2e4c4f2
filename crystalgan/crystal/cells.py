"""`Cells`, a batch of crystals as tensors; pymatgen structures to and from it; the feature transfer
between the two steps."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from crystalgan.crystal.canonical import canonical
from crystalgan.crystal.symmetry import Symmetry, joined
from crystalgan.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymatgen.core import Structure


@dataclass(frozen=True)
class Cells:
    """Crystals of one system, padded to a common length, with leading axes of any number (`[runs,
    batch]`, `[n]`).

    Slot 0 of the atoms is always the shared element, then come the metals; `species[s]` is the
    element of slot s. Where `mask` is False the coordinates are zero and mean nothing.
    """

    lattice: Tensor  # [..., 3, 3], rows are the lattice vectors, Å
    frac: Tensor  # [..., slots, length, 3], fractional coordinates
    mask: Tensor  # [..., slots, length], True where there is an atom
    species: tuple[str, ...]
    symmetry: Symmetry | None = None  # operations that keep each cell, where they are followed

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
        """The paper's tensor, flattened: slot 0 the lattice, padded like the others; `[..., (1 +
        slots) * length * 3]`."""
        if "features" not in self.__dict__:
            lattice = torch.nn.functional.pad(self.lattice, (0, 0, 0, self.mask.shape[-1] - 3))
            features = torch.cat((lattice.unsqueeze(-3), self.frac), -3).flatten(-3)
            if self.lattice.requires_grad or self.frac.requires_grad:
                return features  # not kept: made where gradients are off, it would have none
            self.__dict__["features"] = features
        return self.__dict__["features"]

    @cached_property
    def occupied(self) -> Tensor:
        """1 where `features` holds an entry of the cell and 0 in its padding, in the same shape."""
        length = self.mask.shape[-1]
        rows = (torch.arange(length) < 3).expand(*self.mask.shape[:-2], 1, length)
        return (
            torch.cat((rows, self.mask), -2)
            .to(self.lattice.dtype)
            .repeat_interleave(3, -1)
            .flatten(-2)
        )

    @classmethod
    def from_features(
        cls,
        features: Tensor,
        mask: Tensor,
        species: tuple[str, ...],
        symmetry: Symmetry | None = None,
    ) -> Cells:
        """Cells of a given occupancy from their `features`; lattice and coordinates are views of
        them."""
        stack = features.view(*mask.shape[:-2], 1 + mask.shape[-2], mask.shape[-1], 3)
        cells = cls(stack[..., 0, :3, :], stack[..., 1:, :, :], mask, species, symmetry)
        cells.__dict__["features"] = features  # what the property would put together again
        return cells

    def with_features(self, features: Tensor) -> Cells:
        """Other cells of the same occupancy, and of the same symmetry where that is followed."""
        cells = Cells.from_features(features, self.mask, self.species, self.symmetry)
        cells.__dict__["occupied"] = self.occupied
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
        cells.__dict__["occupied"] = rows_of(self.occupied)
        return cells

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


def stacked(domains: Sequence[Cells]) -> Cells:
    """Batches `[runs, batch]` of one shape as `[runs, domains, batch]`; the names of the elements
    are those of the first."""
    every = [
        torch.stack([getattr(cells, name) for cells in domains], 1)
        for name in ("features", "mask", "occupied")
    ]
    symmetries = [cells.symmetry for cells in domains if cells.symmetry]
    symmetry = (
        joined(symmetries, lambda tensors: torch.stack(tensors, 1))
        if len(symmetries) == len(domains)
        else None
    )
    cells = Cells.from_features(every[0], every[1], domains[0].species, symmetry)
    cells.__dict__["occupied"] = every[2]
    return cells


def swapped(cells: Cells) -> Cells:
    """The domains of `[runs, domains, batch]` in reverse order; kept with cells that have no
    gradient."""
    if "swapped" in cells.__dict__:
        kept: Cells = cells.__dict__["swapped"]
        return kept
    symmetry = cells.symmetry.map(lambda t: t.flip(1)) if cells.symmetry else None
    other = Cells.from_features(cells.features.flip(1), cells.mask.flip(1), cells.species, symmetry)
    other.__dict__["occupied"] = cells.occupied.flip(1)
    if not other.features.requires_grad:
        cells.__dict__["swapped"] = other
    return other
