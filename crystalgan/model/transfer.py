"""The feature transfer between the two steps (section III.B.2 of the paper).

Two pseudo-binaries of step 1 become one ternary cell: a `Host` gives the lattice, its shared atoms
and its metal; the sublattice of the other metal comes in (`Incoming`). `paper_transfer` takes slots
as they are. `fitted_transfer` gives atoms the volumes that they have in the classes and moves the
incoming sublattice to another origin, for which it prefers those that keep symmetry of the host.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from crystalgan.crystal.cells import Cells
from crystalgan.crystal.distances import first_neighbours
from crystalgan.crystal.operations import find_symmetry, special_points
from crystalgan.crystal.symmetry import Symmetry

if TYPE_CHECKING:
    from crystalgan.crystal.kernels.symmetry import Hosts, Points, Sublattices
    from crystalgan.crystal.limits import Limits

# Å, of the parents: relaxed cells that spread no more than that are made exactly symmetric
SYMPREC = 0.05
# of a lower limit: atoms so near are on top of each other, and have no direction to be moved apart
CROWDED = 0.5

SpecialPoints = tuple[Tensor, Tensor]  # [cells, most, 3] fractional, and [cells] how many


@dataclass(frozen=True)
class Parents:
    """A class with what the transfer needs of it: volumes of atoms, and special points.

    Special points are there where symmetry is followed.
    """

    cells: Cells
    volumes: Tensor  # [2], of an atom of the shared element and of the metal, Å³
    points: SpecialPoints | None  # of the cells
    metal_points: SpecialPoints | None  # of their metals alone

    @classmethod
    def of(cls, cells: Cells, symmetry: bool) -> Parents:
        """`cells` `[n]`, padded to the length that both classes have."""
        if not symmetry:
            return cls(cells, atomic_volumes(cells), None, None)
        cells = find_symmetry(cells, SYMPREC)
        points = (special_points(cells, metals_only, SYMPREC) for metals_only in (False, True))
        return cls(cells, atomic_volumes(cells), *points)


def atomic_volumes(cells: Cells) -> Tensor:
    """Volumes `[2]` (Å³) of a shared atom and of a metal atom, by non-negative least squares.

    Their sums over the atoms are the volumes of the cells `[n]`.
    """
    from scipy.optimize import nnls

    volume = torch.linalg.det(cells.lattice.double()).abs()
    return torch.from_numpy(nnls(cells.mask.sum(-1).double().numpy(), volume.numpy())[0]).to(
        cells.lattice.dtype
    )


@dataclass(frozen=True)
class Host:
    """Pseudo-binaries whose lattice, shared atoms and metal are kept. ValueError for other cells.

    `slot` (1 or 2) is where their metal goes among `species`, those of the ternary; the incoming
    metal takes the remaining one.
    """

    cells: Cells  # [n], two slots
    volumes: Tensor  # [2], of an atom of the shared element and of the metal, Å³
    points: SpecialPoints | None  # where symmetry is followed
    slot: int
    species: tuple[str, str, str]

    def __post_init__(self) -> None:
        _check_binaries(self.cells)
        if self.slot not in {1, 2}:
            raise ValueError(f"slot must be 1 or 2, not {self.slot}")
        if len(self.species) != 3:
            raise ValueError(f"a ternary has three elements, not {self.species}")

    @classmethod
    def of(
        cls,
        cells: Cells,
        parents: Parents,
        rows: Tensor,
        slot: int,
        species: tuple[str, str, str],
    ) -> Host:
        """`cells` `[n]` made from these rows of a class."""
        return cls(cells, parents.volumes, _rows_of(parents.points, rows), slot, species)

    def __len__(self) -> int:
        return len(self.cells)

    def repeated(self, times: int) -> Host:
        """Each cell so many times in a row, without what symmetry needs."""
        rows = torch.arange(len(self)).repeat_interleave(times)
        return replace(self, cells=replace(self.cells, symmetry=None)[rows], points=None)


@dataclass(frozen=True)
class Incoming:
    """Sublattices that are put into hosts, moved as one; ValueError for shapes that disagree.

    The first is the metal; the second, where whole pseudo-binaries come in, their shared atoms.
    """

    frac: Tensor  # [n, sublattices, rows, 3]
    mask: Tensor  # [n, sublattices, rows]
    volumes: Tensor  # [2], of an atom of the shared element and of the metal, Å³
    points: SpecialPoints | None  # of these sublattices, where symmetry is followed

    def __post_init__(self) -> None:
        if self.frac.shape != (*self.mask.shape, 3) or self.mask.shape[1] not in {1, 2}:
            raise ValueError(
                f"frac {tuple(self.frac.shape)} and mask {tuple(self.mask.shape)} must be"
                " [n, 1 or 2, rows, 3] and [n, 1 or 2, rows]"
            )

    @classmethod
    def of(
        cls, cells: Cells, parents: Parents, rows: Tensor, part: Literal["metal", "all"] = "metal"
    ) -> Incoming:
        """The metal or all atoms of pseudo-binaries `[n]` made from these rows of a class."""
        _check_binaries(cells)
        slots = [1, 0] if part == "all" else [1]
        points = parents.points if part == "all" else parents.metal_points
        return cls(
            cells.frac[:, slots], cells.mask[:, slots], parents.volumes, _rows_of(points, rows)
        )

    @property
    def with_shared(self) -> bool:
        """Whether shared atoms come in with the metal."""
        return self.mask.shape[1] > 1

    def moved(self, shifts: Tensor) -> Incoming:
        """The sublattices of each cell moved by `shifts` `[n, 3]`, fractional."""
        return replace(self, frac=(self.frac + shifts[:, None, None]) * self.mask[..., None])

    def repeated(self, times: int) -> Incoming:
        """Each cell so many times in a row, without what symmetry needs."""
        rows = torch.arange(len(self.mask)).repeat_interleave(times)
        return replace(self, frac=self.frac[rows], mask=self.mask[rows], points=None)


def _check_binaries(cells: Cells) -> None:
    if cells.mask.ndim != 3 or cells.mask.shape[1] != 2:
        raise ValueError(f"cells must be [n] and of two slots, not {tuple(cells.mask.shape)}")


def _rows_of(points: SpecialPoints | None, rows: Tensor) -> SpecialPoints | None:
    return points and (points[0][rows], points[1][rows])


def paper_transfer(host: Host, incoming: Incoming) -> Cells:
    """Ternary cells of the slots as they are: the host, and positions of the incoming metal."""
    metal = replace(incoming, frac=incoming.frac[:, :1], mask=incoming.mask[:, :1])
    return _ternary(host, metal, host.cells.lattice)


def order_rng(shifts: Tensor) -> torch.Generator:
    """A generator for `fitted_transfer` that is seeded by the first of `shifts` `[n, k, 3]`.

    So cells depend on the random shifts alone that they were asked for with.
    """
    seed = int(shifts[0, 0, 0] * 2**30) if shifts.numel() else 0
    return torch.Generator().manual_seed(seed)


def fitted_transfer(
    host: Host, incoming: Incoming, limits: Limits, shifts: Tensor, rng: torch.Generator
) -> Cells:
    """Ternary cells with the volume of their atoms, and the incoming sublattices at an origin.

    The origin of a sublattice is arbitrary in a crystal. Of `shifts` `[n, k, 3]`, fractional and
    random, each cell takes the first that puts no atoms on top of each other, or the one that
    breaks `limits` least. Where symmetry is followed, shifts that bring special points of both
    parents together, and so keep operations of the host, come in the place of random ones; `rng`
    draws the order in which they are tried. Where shared atoms come in, the shared slot gets as
    many rows again.
    """
    _check_pairs(host, incoming, shifts)
    lattice = host.cells.lattice * _growth(host, incoming)[:, None, None]
    symmetry = host.cells.symmetry
    if symmetry and len(host):
        shifts = _symmetric_shifts(host, symmetry, incoming, shifts, rng)
    best = _best_trials(host, incoming, lattice, shifts, limits)
    shift = shifts[torch.arange(len(host)), best]
    kept = _kept(host, symmetry, incoming, shift, lattice) if symmetry else None
    return _ternary(host, incoming.moved(shift), lattice, kept)


def _check_pairs(host: Host, incoming: Incoming, shifts: Tensor) -> None:
    n, length = len(host), host.cells.mask.shape[-1]
    if len(incoming.mask) != n or incoming.mask.shape[-1] != length:
        raise ValueError(
            f"host {tuple(host.cells.mask.shape)} and incoming {tuple(incoming.mask.shape)} must"
            " have as many cells and rows"
        )
    if shifts.ndim != 3 or shifts.shape[0] != n or shifts.shape[2] != 3:
        raise ValueError(f"shifts must be [{n}, trials, 3], not {tuple(shifts.shape)}")


def _ternary(
    host: Host, incoming: Incoming, lattice: Tensor, symmetry: Symmetry | None = None
) -> Cells:
    """Hosts and the sublattices in them as cells of three slots."""
    slots = [0, host.slot, 3 - host.slot]
    frac, mask = (
        torch.cat((own, new[:, :1]), 1)[:, slots]
        for own, new in ((host.cells.frac, incoming.frac), (host.cells.mask, incoming.mask))
    )
    if incoming.with_shared:
        frac, mask = (torch.cat((t, torch.zeros_like(t)), 2) for t in (frac, mask))
        rows = host.cells.mask.shape[-1]
        frac[:, 0, rows:], mask[:, 0, rows:] = incoming.frac[:, 1], incoming.mask[:, 1]
    return Cells(lattice, frac, mask, host.species, symmetry)


def _growth(host: Host, incoming: Incoming) -> Tensor:
    """The factor of all lengths, `[n]`, with which atoms have the volumes of their parents.

    Shared atoms have the mean of both classes' volumes, weighted by the metals, where none comes
    in.
    """
    cells = host.cells
    shared, own = cells.mask.sum(-1).unbind(-1)
    new = incoming.mask[:, 0].sum(-1)
    (shared_own, volume_own), (shared_new, volume_new) = host.volumes, incoming.volumes
    if incoming.with_shared:
        of_shared = shared * shared_own + incoming.mask[:, 1].sum(-1) * shared_new
    else:
        of_shared = shared * (own * shared_own + new * shared_new) / (own + new)
    wanted = own * volume_own + new * volume_new + of_shared
    volume = torch.linalg.det(cells.lattice).abs().clamp_min(1e-3)
    return (wanted / volume).pow(1 / 3).to(cells.lattice.dtype)


def _best_trials(
    host: Host, incoming: Incoming, lattice: Tensor, shifts: Tensor, limits: Limits
) -> Tensor:
    """The number of the shift that each cell takes, `[n]`, of `shifts` `[n, k, 3]`.

    The first without atoms on top of each other, else the one that breaks the limits least. The one
    that breaks least of all is often the same: taking it costs variety, and what a first one breaks
    is mended later.
    """
    trials = shifts.shape[1]
    moved = incoming.repeated(trials).moved(shifts.flatten(0, 1))
    cells = _ternary(host.repeated(trials), moved, lattice.repeat_interleave(trials, 0))
    with torch.no_grad():
        near = first_neighbours(cells, limits.cross)
        short, long, _ = limits.excess(near, 0.0)
        broken = short.new_zeros(len(cells)).index_add(0, near.cell, short.square() + long.square())
        closest = short.new_full((len(cells),), torch.inf)
        closest = closest.scatter_reduce(
            0, near.cell, near.distance / limits.of(near)[0].clamp_min(1e-3), "amin"
        )
    order = torch.arange(trials, dtype=broken.dtype).repeat(len(host)) / trials
    return torch.where(closest > CROWDED, order, 1 + broken).view(-1, trials).argmin(-1)


def _symmetric_shifts(
    host: Host, symmetry: Symmetry, incoming: Incoming, shifts: Tensor, rng: torch.Generator
) -> Tensor:
    """`shifts` with as many of the first as there are replaced by those that keep symmetry."""
    from crystalgan.crystal.kernels.symmetry import symmetric_shifts

    host_points, points = _points(host.points), _points(incoming.points)
    most = host_points.frac.shape[1] * (points.frac.shape[1] + incoming.frac.shape[2])
    order = torch.rand(len(shifts), most, generator=rng).argsort(-1).numpy()
    out = shifts.double().clone().contiguous()
    symmetric_shifts(
        _hosts(host, symmetry), _sublattices(incoming), host_points, points, order, out.numpy()
    )
    return out.to(shifts.dtype)


def _kept(
    host: Host, symmetry: Symmetry, incoming: Incoming, shift: Tensor, lattice: Tensor
) -> Symmetry:
    """The operations of the hosts that also keep the sublattices moved by `shift` `[n, 3]`.

    Those that are kept come first.
    """
    from crystalgan.crystal.kernels.symmetry import common_operations

    kept, images = (
        torch.from_numpy(x)
        for x in common_operations(
            _hosts(host, symmetry), _sublattices(incoming), shift.double().contiguous().numpy()
        )
    )
    image = _images(host, symmetry, incoming, images)
    order = kept.to(torch.int8).argsort(dim=-1, descending=True, stable=True)
    rotation = symmetry.rotation.gather(1, order[..., None, None].expand_as(symmetry.rotation))
    return Symmetry(
        rotation, image.gather(1, order[..., None].expand_as(image)), kept.sum(-1), lattice
    )


def _images(host: Host, symmetry: Symmetry, incoming: Incoming, images: Tensor) -> Tensor:
    """Images of the atoms of a ternary `[n, ops, 3 * length]`, from those of host and incoming."""
    rows, length = incoming.mask.shape[-1], incoming.mask.shape[1] * incoming.mask.shape[-1]
    image = torch.arange(3 * length, dtype=torch.int16).repeat(*images.shape[:2], 1)
    shared, own = symmetry.image.split(rows, -1)
    image[..., :rows] = shared
    if incoming.with_shared:
        image[..., rows:length] = images[:, :, 1] + rows
    for slot, of_metal in ((host.slot, own - rows), (3 - host.slot, images[:, :, 0])):
        first = slot * length
        image[..., first : first + rows] = of_metal + first
    return image


def _hosts(host: Host, symmetry: Symmetry) -> Hosts:
    """What the kernels ask of the hosts."""
    from crystalgan.crystal.kernels.symmetry import Hosts

    rotation, image, operations = (t.contiguous().numpy() for t in symmetry.tensors[:3])
    frac = host.cells.frac.flatten(1, 2).double().contiguous().numpy()
    first = host.cells.mask.flatten(1).to(torch.int8).argmax(-1).numpy()
    return Hosts(rotation, image, operations, frac, first)


def _sublattices(incoming: Incoming) -> Sublattices:
    """What the kernels ask of the sublattices."""
    from crystalgan.crystal.kernels.symmetry import Sublattices

    frac = incoming.frac.double().contiguous().numpy()
    return Sublattices(frac, incoming.mask.sum(-1).contiguous().numpy())


def _points(points: SpecialPoints | None) -> Points:
    """Special points for the kernels; ValueError where there are none."""
    from crystalgan.crystal.kernels.symmetry import Points

    if points is None:
        raise ValueError("the host follows symmetry, so both need the special points of parents")
    return Points(*(t.contiguous().numpy() for t in points))
