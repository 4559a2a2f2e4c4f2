"""Proposals by the feature transfer: a parent of one class takes in one of the other, each as a
supercell where a composition asks for it."""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from crystalgan.crystal.cells import Cells, decode
from crystalgan.crystal.operations import find_symmetry, special_points
from crystalgan.crystal.supercells import draw_supercell, supercell_of, supercells
from crystalgan.discovery.sources import Forgetful
from crystalgan.model.transfer import (
    SYMPREC,
    Host,
    Incoming,
    Parents,
    atomic_volumes,
    fitted_transfer,
    order_rng,
)

if TYPE_CHECKING:
    from crystalgan.crystal.supercells import Supercell
    from crystalgan.discovery.sources import Request
    from crystalgan.discovery.system import Counts, System

MOST_INDEX = 4  # cells of a parent in a supercell
MOST_OPERATIONS = 192  # of a supercell: the point group's 48 with four translations
PARTS: tuple[Literal["metal", "all"], ...] = ("metal", "all")
SHIFTS = 8  # origins that are tried for the incoming sublattice


@dataclass(frozen=True)
class Parent:
    """A cell of a class, repeated so many times."""

    row: int
    index: int
    shared: int  # atoms of the repeated cell
    metal: int


@dataclass
class ParentPool:
    """The cells of one class as parents; supercells are made when they are first asked for."""

    cells: Cells
    most_atoms: int
    every: list[Parent] = field(init=False)
    _lattices: dict[tuple[int, int], list[Supercell]] = field(default_factory=dict)
    _made: dict[tuple[int, int, int], Cells] = field(default_factory=dict)
    _points: dict[tuple[int, int, int, int, bool], Parents] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.volumes = atomic_volumes(self.cells)
        self.structures = decode(self.cells)
        self.every = [
            Parent(row, index, shared * index, metal * index)
            for row, (shared, metal) in enumerate(self.cells.mask.sum(-1).tolist())
            for index in range(1, MOST_INDEX + 1)
            if index == 1 or index * (shared + metal) <= self.most_atoms
        ]

    def by_counts(self) -> dict[tuple[int, int], tuple[Parent, ...]]:
        """The parents by their numbers of shared and metal atoms."""
        groups: dict[tuple[int, int], tuple[Parent, ...]] = {}
        for parent in self.every:
            key = parent.shared, parent.metal
            groups[key] = (*groups.get(key, ()), parent)
        return groups

    def draw(self, parent: Parent, rng: np.random.Generator) -> tuple[int, Cells]:
        """The number of one of the supercells of a parent, and the cell `[1]`; those that keep more
        symmetry come more often."""
        if parent.index == 1:
            return 0, self.cells[parent.row : parent.row + 1]
        key = parent.row, parent.index
        if key not in self._lattices:
            self._lattices[key] = supercells(self.structures[parent.row], parent.index)
        options = self._lattices[key]
        k = draw_supercell(options, rng)
        if (*key, k) not in self._made:
            cell = self.cells[parent.row : parent.row + 1]
            self._made[*key, k] = supercell_of(cell, options[k])
        return k, self._made[*key, k]

    def with_points(
        self, parent: Parent, k: int, cells: Cells, length: int, metals_only: bool
    ) -> Parents:
        """A drawn cell padded to a length, with its symmetry and special points, those of all atoms
        or of the metals."""
        key = parent.row, parent.index, k, length, metals_only
        if key not in self._points:
            bare = Cells(cells.lattice, cells.frac, cells.mask, cells.species).padded(length)
            symmetric = find_symmetry(bare, SYMPREC, MOST_OPERATIONS)
            points = special_points(symmetric, metals_only, SYMPREC)
            both = (None, points) if metals_only else (points, None)
            self._points[key] = Parents(symmetric, self.volumes, *both)
        return self._points[key]


@dataclass(frozen=True)
class Pairing:
    """Parents that take in others, all of one composition each, and what comes in."""

    host_class: int  # 0 or 1
    hosts: tuple[Parent, ...]
    incoming: tuple[Parent, ...]
    part: Literal["metal", "all"]

    @property
    def pairs(self) -> int:
        """How many there are."""
        return len(self.hosts) * len(self.incoming)


class TransferSource(Forgetful):
    """Transfers between the two classes of a system, both ways."""

    name = "transfer"

    def __init__(self, system: System, most_atoms: int) -> None:
        self.pools = tuple(ParentPool(cells, most_atoms) for cells in system.classes)
        self.pairings: dict[Counts, list[Pairing]] = defaultdict(list)
        groups = [pool.by_counts() for pool in self.pools]
        for k in (0, 1):
            pairs = itertools.product(groups[k].items(), groups[1 - k].items())
            for ((own, hosts), (new, incoming)), part in itertools.product(pairs, PARTS):
                shared = own[0] + (new[0] if part == "all" else 0)
                # the metals change places: what was A's sublattice holds B
                a, b = (own[1], new[1]) if k == 0 else (new[1], own[1])
                if shared and shared + a + b <= most_atoms:
                    self.pairings[shared, a, b].append(Pairing(k, hosts, incoming, part))

    def propose(self, request: Request, rng: np.random.Generator) -> Cells | None:
        """Cells that were asked for, or None where no parents give it."""
        options = self.pairings.get(request.counts)
        if not options:
            return None
        total = np.cumsum([pairing.pairs for pairing in options])
        pairing = options[int(total.searchsorted(rng.integers(total[-1]), "right"))]
        parent = pairing.hosts[rng.integers(len(pairing.hosts))]
        guest = pairing.incoming[rng.integers(len(pairing.incoming))]
        system = request.system
        own, other = self.pools[pairing.host_class], self.pools[1 - pairing.host_class]
        (i, first), (j, second) = own.draw(parent, rng), other.draw(guest, rng)
        length = max(first.mask.shape[-1], second.mask.shape[-1])
        host = own.with_points(parent, i, first, length, metals_only=False)
        incoming = other.with_points(guest, j, second, length, pairing.part == "metal")
        row = torch.tensor([0])
        shifts = torch.from_numpy(rng.random((1, SHIFTS, 3)))
        made = fitted_transfer(
            Host.of(host.cells, host, row, 1 + pairing.host_class, system.species),
            Incoming.of(incoming.cells, incoming, row, pairing.part),
            system.limits,
            shifts,
            order_rng(shifts),
        )
        return made.to(torch.float64)
