"""Proposals made from what was found: strained and rattled, metals exchanged, hydrogen moved, two
cells cut and spliced."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from crystalgan.discovery.sources import Forgetful, cells_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crystalgan.crystal.cells import Cells
    from crystalgan.discovery.found import Found
    from crystalgan.discovery.sources import Request
    from crystalgan.discovery.system import Counts, System

BEST = 6  # found cells of a composition that are changed, the lowest more often
RATTLE, STRAIN = 0.35, 0.08  # Å and share, standard deviations
MOVED = 0.5  # share of the hydrogen atoms that get another place, at most
PLACES = 40  # random places that are tried for an atom of hydrogen


@dataclass(frozen=True)
class Slots:
    """A cell with the atoms of each element: lattice rows (Å) and fractional coordinates."""

    lattice: np.ndarray
    atoms: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, found: Found, system: System) -> Slots:
        """The cell of something found."""
        symbols = np.array([site.specie.symbol for site in found.structure])
        frac = found.structure.frac_coords
        return cls(
            found.structure.lattice.matrix, tuple(frac[symbols == s] for s in system.species)
        )

    def repeated(self, times: int, axis: int) -> Slots:
        """So many copies along one axis."""
        lattice = self.lattice.copy()
        lattice[axis] *= times
        shift = np.zeros(3)
        shift[axis] = 1 / times
        scale = np.ones(3)
        scale[axis] = 1 / times
        atoms = tuple(
            np.vstack([frac * scale + k * shift for k in range(times)]) for frac in self.atoms
        )
        return Slots(lattice, atoms)

    @property
    def counts(self) -> Counts:
        """How many atoms of each element there are."""
        h, a, b = map(len, self.atoms)
        return h, a, b


class MutationSource(Forgetful):
    """Changes of the best cells that were found."""

    name = "heredity"

    def propose(self, request: Request, rng: np.random.Generator) -> Cells | None:
        """Cells that were asked for, or None where nothing found can become it."""
        system, counts = request.system, request.counts
        parents = _parents(request.found, counts)
        if not parents:
            return None
        parent, change = parents[min(int(rng.exponential(BEST / 3)), len(parents) - 1)]
        slots = Slots.of(parent, system)
        if change == "exchange":
            slots = Slots(slots.lattice, (slots.atoms[0], slots.atoms[2], slots.atoms[1]))
        times = (counts[1] + counts[2]) // (slots.counts[1] + slots.counts[2])
        if times > 1:
            slots = slots.repeated(times, int(rng.integers(3)))
        if slots.counts[0] != counts[0]:
            changed = _with_hydrogen(slots, counts[0], system, rng)
        else:
            changed = self._changed(slots, parent, parents, request, rng)
        if changed is None or changed.counts != counts:
            return None
        volume = abs(np.linalg.det(changed.lattice))
        lattice = changed.lattice * np.cbrt(system.volume(counts) / volume)
        return cells_of(lattice, changed.atoms, system.species)

    def _changed(
        self,
        slots: Slots,
        parent: Found,
        parents: Sequence[tuple[Found, str]],
        request: Request,
        rng: np.random.Generator,
    ) -> Slots | None:
        """A cell of the composition with something changed."""
        others = [
            p
            for p, how in parents
            if how == "same" and p.counts == request.counts and p is not parent
        ]
        way = rng.integers(4 if others and slots.counts == request.counts else 3)
        if way == 0:
            return _strained(slots, rng)
        if way == 1:
            return _metals_mixed(slots, rng)
        if way == 2:
            return _hydrogen_moved(slots, request.system, rng)
        other = Slots.of(others[rng.integers(len(others))], request.system)
        return _spliced(slots, other, rng)


def _parents(found: Sequence[Found], counts: Counts) -> list[tuple[Found, str]]:
    """What can become a composition, the lowest energy first, and how."""
    h, a, b = counts
    out = []
    for one in sorted(found, key=lambda f: f.energy):
        g, m, n = one.counts
        if not (g and m and n):
            continue
        if m * b == n * a and a % m == 0:
            times = a // m
            if g * times == h:
                out.append((one, "same"))
            else:
                out.append((one, "hydrogen"))
        elif m * a == n * b and a % n == 0 and g * (a // n) == h:
            out.append((one, "exchange"))
    same = [p for p in out if p[1] == "same"]
    return same[:BEST] + [p for p in out if p[1] != "same"][:BEST]


def _rattled(slots: Slots, rng: np.random.Generator) -> Slots:
    inverse = np.linalg.inv(slots.lattice)
    size = RATTLE * rng.random()
    return Slots(
        slots.lattice,
        tuple(x + size * rng.standard_normal(x.shape) @ inverse for x in slots.atoms),
    )


def _strained(slots: Slots, rng: np.random.Generator) -> Slots:
    strain = np.eye(3) + STRAIN * rng.standard_normal((3, 3))
    return _rattled(Slots(slots.lattice @ strain, slots.atoms), rng)


def _metals_mixed(slots: Slots, rng: np.random.Generator) -> Slots:
    """Some atoms of both metals change places."""
    metals = np.vstack(slots.atoms[1:])
    order, first = np.arange(len(metals)), len(slots.atoms[1])
    for _ in range(int(rng.integers(1, 1 + min(first, len(metals) - first)))):
        i, j = rng.integers(first), rng.integers(first, len(metals))
        order[i], order[j] = order[j], order[i]
    mixed = metals[order]
    return Slots(slots.lattice, (slots.atoms[0], mixed[:first], mixed[first:]))


def _hydrogen_moved(slots: Slots, system: System, rng: np.random.Generator) -> Slots | None:
    """Some atoms of hydrogen get other places."""
    h = len(slots.atoms[0])
    away = 1 + int(rng.integers(max(1, int(MOVED * h))))
    kept = rng.permutation(h)[away:]
    less = Slots(slots.lattice, (slots.atoms[0][kept], *slots.atoms[1:]))
    return _with_hydrogen(less, h, system, rng)


def _with_hydrogen(
    slots: Slots, count: int, system: System, rng: np.random.Generator
) -> Slots | None:
    """Hydrogen taken out, or put where it has most room."""
    hydrogen = slots.atoms[0]
    if len(hydrogen) > count:
        hydrogen = hydrogen[rng.permutation(len(hydrogen))[:count]]
    lower = system.limits.lower[0].clamp_min(1.0).tolist()
    while len(hydrogen) < count:
        places = rng.random((PLACES, 3))
        room = np.full(PLACES, np.inf)
        for least, atoms in zip(lower, (hydrogen, *slots.atoms[1:]), strict=True):
            if len(atoms):
                offset = places[:, None] - atoms
                offset -= np.rint(offset)
                room = np.minimum(
                    room, np.linalg.norm(offset @ slots.lattice, axis=-1).min(1) / least
                )
        hydrogen = np.vstack([hydrogen, places[room.argmax()]])
    return Slots(slots.lattice, (hydrogen, *slots.atoms[1:]))


def _spliced(one: Slots, other: Slots, rng: np.random.Generator) -> Slots | None:
    """One part of each of two cells of the same atoms, cut across an axis (Glass, Oganov and
    Hansen, Comput. Phys. Commun. 175, 713 (2006))."""
    axis, cut, share = int(rng.integers(3)), rng.random(), rng.uniform(0.3, 0.7)
    shift = rng.random(3)
    atoms = []
    for own, theirs in zip(one.atoms, other.atoms, strict=True):
        x, y = (own + shift) % 1, (theirs + shift[::-1]) % 1
        kept = x[(x[:, axis] - cut) % 1 < share]
        added = y[(y[:, axis] - cut) % 1 >= share]
        both = np.vstack([kept, added])
        if len(both) < len(x):  # what is missing comes from the first
            rest = x[(x[:, axis] - cut) % 1 >= share]
            both = np.vstack([both, rest[rng.permutation(len(rest))[: len(x) - len(both)]]])
        atoms.append(both[rng.permutation(len(both))[: len(x)]])
    weight = rng.random()
    return Slots(weight * one.lattice + (1 - weight) * other.lattice, tuple(atoms))
