"""The feature transfer between the two steps (section III.B.2): two pseudo-binaries become one
ternary sample."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from crystalgan.crystal.cells import Cells
from crystalgan.crystal.distances import first_neighbours
from crystalgan.crystal.operations import find_symmetry, special_points
from crystalgan.crystal.symmetry import Symmetry

if TYPE_CHECKING:
    from crystalgan.crystal.limits import Limits

# Å, of the parents: relaxed cells that spread no more than that are made exactly symmetric
SYMPREC = 0.05
# of a lower limit: atoms so near are on top of each other, and have no direction to be moved apart
# in
CROWDED = 0.5


@dataclass(frozen=True)
class Parents:
    """A class as the transfer needs it: cells, volumes of atoms, and special points where symmetry
    is followed."""

    cells: Cells
    volumes: Tensor  # [2], of an atom of the shared element and of the metal, Å³
    points: tuple[Tensor, Tensor] | None  # of the cells
    metal_points: tuple[Tensor, Tensor] | None  # of their metals alone

    @classmethod
    def of(cls, cells: Cells, symmetry: bool) -> Parents:
        """`cells` `[n]`, padded to the length that both classes have."""
        if not symmetry:
            return cls(cells, atomic_volumes(cells), None, None)
        cells = find_symmetry(cells, SYMPREC)
        points = (special_points(cells, metals_only, SYMPREC) for metals_only in (False, True))
        return cls(cells, atomic_volumes(cells), *points)


def atomic_volumes(cells: Cells) -> Tensor:
    """Volumes `[2]` (Å³) of a shared atom and of a metal atom that add up to those of the cells, by
    least squares."""
    from scipy.optimize import nnls

    volume = torch.linalg.det(cells.lattice.double()).abs()
    return torch.from_numpy(nnls(cells.mask.sum(-1).double().numpy(), volume.numpy())[0]).to(
        cells.lattice.dtype
    )


def paper_transfer(into: Cells, other: Cells, slot: int, species: tuple[str, str, str]) -> Cells:
    """The slots as they are: `into`'s lattice, shared atoms and metal, with `other`'s metal
    positions added.

    Both are pseudo-binaries of two slots with one leading axis and of one length, row by row;
    `slot` (1 or 2) is where `into`'s own metal goes among `species`, the other metal takes the
    remaining one.
    """
    return _put_together(into, into.lattice, other.frac[:, 1:], other.mask[:, 1:], slot, species)


def _put_together(
    into: Cells,
    lattice: Tensor,
    frac: Tensor,
    mask: Tensor,
    slot: int,
    species: tuple[str, str, str],
    symmetry: Symmetry | None = None,
) -> Cells:
    """Sublattices `[cells, sublattices, rows, 3]` put into cells: the other metal, and shared atoms
    where they come too."""
    slots = [0, slot, 3 - slot]
    fracs, masks = (
        torch.cat((own, new[:, :1]), 1)[:, slots]
        for own, new in ((into.frac, frac), (into.mask, mask))
    )
    if frac.shape[1] > 1:
        fracs, masks = (torch.cat((t, torch.zeros_like(t)), 2) for t in (fracs, masks))
        rows = into.mask.shape[-1]
        fracs[:, 0, rows:], masks[:, 0, rows:] = frac[:, 1], mask[:, 1]
    return Cells(lattice, fracs, masks, species, symmetry)


def fit_transfer(
    into: Cells,
    other: Cells,
    slot: int,
    species: tuple[str, str, str],
    parents: tuple[Parents, Parents],
    rows: tuple[Tensor, Tensor],
    limits: Limits,
    shifts: Tensor,
    whole: bool = False,
) -> Cells:
    """As `paper_transfer`, but the lattice takes the volume of its atoms in both classes, and the
    sublattice another origin.

    The origin of the incoming sublattice is arbitrary in a crystal. Of `shifts` `[cells, k, 3]`,
    fractional and random, it takes the first that puts no atoms on top of each other, or the one
    that breaks `limits` least. Where symmetry is followed, shifts that bring special points of both
    parents together, and so keep operations of `into`, come in the place of random ones. `parents`
    and their `rows` are of `into` and of `other`. A `whole` parent comes in with its shared atoms
    too, for which the shared slot gets as many rows again.
    """
    incoming = [1, 0] if whole else [1]
    frac, mask = other.frac[:, incoming], other.mask[:, incoming]
    lattice = into.lattice * _growth(into, mask, parents)[:, None, None]
    if into.symmetry and len(into):
        shifts = _symmetric_shifts(into, into.symmetry, frac, mask, parents, rows, shifts)
    count, trials, _ = shifts.shape
    repeated = torch.arange(count).repeat_interleave(trials)
    trial = (frac[repeated] + shifts.flatten(0, 1)[:, None, None]) * mask[repeated, ..., None]
    put = _put_together(
        replace(into, symmetry=None)[repeated],
        lattice[repeated],
        trial,
        mask[repeated],
        slot,
        species,
    )
    best = _preference(put, limits, trials)
    shift = shifts[torch.arange(count), best]
    symmetry = (
        _kept(into, into.symmetry, frac, mask, shift, slot, lattice) if into.symmetry else None
    )
    return _put_together(
        into,
        lattice,
        (frac + shift[:, None, None]) * mask[..., None],
        mask,
        slot,
        species,
        symmetry,
    )


def _growth(into: Cells, mask: Tensor, parents: tuple[Parents, Parents]) -> Tensor:
    """By what every length grows, `[cells]`: atoms have the volumes of their parents.

    Shared ones have the mean of their two volumes, weighted by the metals, where none comes in.
    """
    shared, own, new = into.mask[:, 0].sum(-1), into.mask[:, 1].sum(-1), mask[:, 0].sum(-1)
    (shared_own, volume_own), (shared_new, volume_new) = (p.volumes for p in parents)
    if mask.shape[1] > 1:
        of_shared = shared * shared_own + mask[:, 1].sum(-1) * shared_new
    else:
        of_shared = shared * (own * shared_own + new * shared_new) / (own + new)
    wanted = own * volume_own + new * volume_new + of_shared
    return (
        (wanted / torch.linalg.det(into.lattice).abs().clamp_min(1e-3))
        .pow(1 / 3)
        .to(into.lattice.dtype)
    )


def _preference(cells: Cells, limits: Limits, trials: int) -> Tensor:
    """The number of the trial to take, `[cells]`: the first without atoms on top of each other,
    else the one that breaks least.

    Cells are `trials` in a row of each. The one that breaks least of all is often the same: taking
    it costs variety, and what a first one breaks is mended later.
    """
    with torch.no_grad():
        near = first_neighbours(cells, limits.cross)
        short, long, _ = limits.excess(near, 0.0)
        broken = short.new_zeros(len(cells)).index_add(0, near.cell, short.square() + long.square())
        closest = short.new_full((len(cells),), torch.inf)
        closest = closest.scatter_reduce(
            0, near.cell, near.distance / limits.of(near)[0].clamp_min(1e-3), "amin"
        )
    order = torch.arange(trials, dtype=broken.dtype).repeat(len(cells) // trials) / trials
    return torch.where(closest > CROWDED, order, 1 + broken).view(-1, trials).argmin(-1)


def _symmetric_shifts(
    into: Cells,
    symmetry: Symmetry,
    frac: Tensor,
    mask: Tensor,
    parents: tuple[Parents, Parents],
    rows: tuple[Tensor, Tensor],
    shifts: Tensor,
) -> Tensor:
    """`shifts` with those in front replaced that bring special points together, as many as there
    are."""
    from crystalgan.crystal.kernels.symmetry import symmetric_shifts

    host, incoming = parents
    assert host.points is not None
    of_incoming = incoming.metal_points if frac.shape[1] == 1 else incoming.points
    assert of_incoming is not None
    host_points, points = (
        [t[row] for t in p] for p, row in zip((host.points, of_incoming), rows, strict=True)
    )
    trials = host_points[0].shape[1] * (points[0].shape[1] + frac.shape[2])
    # the caller's random numbers, spun out
    own = torch.Generator().manual_seed(int(shifts[0, 0, 0] * 2**30))
    order = torch.rand(len(shifts), trials, generator=own).argsort(-1)
    out = shifts.double().clone()
    arguments = (
        *_of_host(into, symmetry),
        frac.double(),
        mask.sum(-1),
        *host_points,
        *points,
        order,
        out,
    )
    symmetric_shifts(*(t.contiguous().numpy() for t in arguments))
    return out.to(shifts.dtype)


def _of_host(into: Cells, symmetry: Symmetry) -> tuple[Tensor, ...]:
    """What the kernels ask of the host: operations, images, how many, coordinates, and the number
    of an atom."""
    first = into.mask.flatten(1).to(torch.int8).argmax(-1)
    return (
        symmetry.rotation,
        symmetry.image,
        symmetry.count,
        into.frac.flatten(1, 2).double(),
        first,
    )


def _kept(
    into: Cells,
    symmetry: Symmetry,
    frac: Tensor,
    mask: Tensor,
    shift: Tensor,
    slot: int,
    lattice: Tensor,
) -> Symmetry:
    """The operations of the host that also keep the incoming sublattices, those that are left
    first."""
    from crystalgan.crystal.kernels.symmetry import common_operations

    arguments = (*_of_host(into, symmetry), frac.double(), mask.sum(-1), shift.double())
    kept, incoming = (
        torch.from_numpy(x) for x in common_operations(*(t.contiguous().numpy() for t in arguments))
    )
    rows = mask.shape[-1]
    length, ops = rows * mask.shape[1], kept.shape[1]
    image = torch.arange(3 * length, dtype=torch.int16).repeat(len(kept), ops, 1)
    shared, own = symmetry.image.split(rows, -1)
    image[..., :rows] = shared
    for first, images in ((slot * length, own - rows), ((3 - slot) * length, incoming[:, :, 0])):
        image[..., first : first + rows] = images + first
    if mask.shape[1] > 1:
        image[..., rows:length] = incoming[:, :, 1] + rows
    order = kept.to(torch.int8).argsort(dim=-1, descending=True, stable=True)
    rotation = symmetry.rotation.gather(1, order[..., None, None].expand_as(symmetry.rotation))
    return Symmetry(
        rotation, image.gather(1, order[..., None].expand_as(image)), kept.sum(-1), lattice
    )
