"""From the atoms that a file lists and symmetry operations to all atoms of the cell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crystalgan.data.files import Unreadable
from crystalgan.data.formats.source import check_atoms

MAX_IMAGES = 10_000  # atoms of the list times operations
ON_SITE = 0.1  # Å; an atom no farther from a special position is meant to be on it
SAID = 5e-4  # Å; four digits of a third are no more off, and nobody needs to hear of it
SAME_ATOM = 0.05  # Å, between two atoms of a list that symmetry takes onto one another
APART = 0.5  # Å; atoms of a list that are nearer are one atom, or a mistake
EXACT = 1e-3  # Å, between images that are one: what is left of rounding
EVIDENT = 0.02  # Å; an atom farther from a special position does not speak for a setting


@dataclass(frozen=True)
class Sites:
    """The atoms that a file lists."""

    names: list[str]  # for people
    symbols: list[str]
    positions: np.ndarray  # fractional, [n, 3]
    digits: list[int]  # decimals of the coordinate that has most of them
    multiplicities: list[int | None]  # where the file says them


@dataclass(frozen=True)
class Unfolded:
    """All atoms of a cell, as one list of operations makes them.

    They are elements and fractional positions `[n, 3]` in the cell.
    """

    symbols: list[str]
    positions: np.ndarray
    counts: list[int]  # atoms that each listed one stands for
    free: int  # coordinates of the listed atoms that symmetry leaves free
    remarks: list[str]

    def same_atoms(self, other: Unfolded, lattice: np.ndarray) -> bool:
        """Whether both put the same elements on the same places, within `SAME_ATOM`."""
        if sorted(self.symbols) != sorted(other.symbols):
            return False
        apart = _apart(self.positions, other.positions, lattice)
        unlike = np.array(self.symbols)[:, None] != np.array(other.symbols)[None]
        near = np.where(unlike, np.inf, apart) < SAME_ATOM
        return bool(near.any(0).all() and near.any(1).all())


def unfold(sites: Sites, operations: np.ndarray, lattice: np.ndarray) -> Unfolded:
    """Every listed atom with its images by `operations` `[m, 3, 4]`, each once.

    `lattice` has rows in Å.

    An atom within `ON_SITE` of a special position is put there, and one that symmetry makes of
    another is left away; both are said in the remarks. Raises Unreadable for atoms so near to each
    other that they cannot be two.
    """
    if len(sites.names) * len(operations) > MAX_IMAGES:
        raise Unreadable(
            f"lists {len(sites.names)} atoms and {len(operations)} symmetry operations, too many; "
            "write out its cell without symmetry"
        )
    owners: list[int] = []  # the listed atom that each atom comes from
    positions, counts, free = np.zeros((0, 3)), [], 0
    off, repeated = {}, []
    longest = float(np.linalg.norm(lattice, axis=1).max())
    for k, (name, position) in enumerate(zip(sites.names, sites.positions, strict=True)):
        images, dimensions, moved = _orbit(name, position, operations, lattice)
        if moved > SAID:
            off[name] = moved
        counts.append(len(images))
        free += dimensions if moved < min(EVIDENT, longest * 10.0 ** -sites.digits[k]) else 3
        near = _apart(images[:1], positions, lattice)[0]
        if near.size and near.min() < APART:
            other = owners[int(near.argmin())]
            _check_one(sites, k, other, float(near.min()), lattice)
            repeated.append(f"{name} of {sites.names[other]}")
            continue
        owners += [k] * len(images)
        check_atoms(len(owners))
        positions = np.concatenate((positions, images))
    remarks = []
    if off:
        most = max(off.values())
        remarks.append(
            f"{_some(list(off))}: up to {most:.3f} Å off a special position, and put there."
        )
    if repeated:
        remarks.append(
            f"Symmetry makes {_some(repeated)}, though both are listed; each atom is read once."
        )
    return Unfolded([sites.symbols[k] for k in owners], positions, counts, free, remarks)


def _some(words: list[str]) -> str:
    """The first few of a list, and how many more there are."""
    return ", ".join(words[:4]) + (f" and {len(words) - 4} more" if len(words) > 4 else "")


def _orbit(
    name: str, position: np.ndarray, operations: np.ndarray, lattice: np.ndarray
) -> tuple[np.ndarray, int, float]:
    """The images of a place, its free coordinates, and how far it was moved, Å.

    Each image is there once, first that of the place itself.
    """
    rotations, shifts = operations[:, :, :3], operations[:, :, 3]
    place, within = position, 2 * ON_SITE
    for _ in range(5):
        steps = rotations @ place + shifts - place
        steps -= np.rint(steps)
        stays = np.linalg.norm(steps @ lattice, axis=1) < within
        place = place + steps[stays].mean(0)
        images = rotations @ place + shifts
        left = images - place
        left -= np.rint(left)
        fixed = np.linalg.norm(left @ lattice, axis=1) < EXACT
        if fixed[stays].all():
            break
    moved = float(np.linalg.norm((place - position) @ lattice))
    apart = _apart(images, images, lattice)
    first = ~np.tril(apart < EXACT, -1).any(1)
    nearest = float((apart[np.ix_(first, first)] + np.diag([np.inf] * int(first.sum()))).min())
    if moved > ON_SITE or nearest < APART or not fixed[stays].all():
        near = max(min(nearest, 2 * moved), 0.0) if moved > ON_SITE else nearest
        raise Unreadable(
            f"puts {name} and its image by symmetry {near:.2f} Å apart; write its position with"
            f" four digits or more, or exactly on the special position (within {ON_SITE} Å it is"
            " put there)"
        )
    dimensions = round(float(np.trace(rotations[fixed].mean(0))))
    images = images[first]
    return images - np.floor(images), dimensions, moved


def _apart(a: np.ndarray, b: np.ndarray, lattice: np.ndarray) -> np.ndarray:
    """Distances of places `[n, 3]` and `[m, 3]` to the nearest image by components, Å, `[n, m]`.

    They are right where they are short.
    """
    steps = a[:, None] - b[None]
    steps -= np.rint(steps)
    return np.linalg.norm(steps @ lattice, axis=-1)


def _check_one(sites: Sites, new: int, old: int, apart: float, lattice: np.ndarray) -> None:
    """Refuse two listed atoms that are near, unless symmetry alone takes one to the other."""
    a, b = sites.names[old], sites.names[new]
    both = f"{a} and {b}" if a != b else f"{a} (row {old + 1}) and {b} (row {new + 1})"
    if sites.symbols[new] != sites.symbols[old]:
        raise Unreadable(
            f"puts {both} {apart:.2f} Å apart, at one place; where they share it, make an ordered"
            " cell of it first, else mend a position"
        )
    listed = _apart(sites.positions[[new]], sites.positions[[old]], lattice)[0, 0]
    if apart >= SAME_ATOM or listed < SAME_ATOM:
        raise Unreadable(
            f"lists {both} {min(apart, listed):.2f} Å apart; list each atom once, or mend their"
            " positions"
        )
