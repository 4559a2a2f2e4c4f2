"""What a chemist asks of one cell: who is next to whom and how far, its symmetry, its powder
pattern. No tensors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from crystalgan.crystal.rules import pair_name
from crystalgan.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    from pymatgen.core import PeriodicSite, Structure

    from crystalgan.crystal.rules import Rule

BOND_FACTOR = 1.2  # times the shortest distance of a pair
FIRST_RADIUS = 5.0  # Å, where the search for first neighbours starts
# Å, of a symmetry; within more nearly all atoms are on each other's sites
LEAST_TOLERANCE, MOST_TOLERANCE = 1e-5, 1.0
WIDEST = 40.0  # Å, where it gives up


@dataclass(frozen=True)
class Neighbour:
    """Atom `other`, shifted by `image` lattice vectors, next to atom `center`; atoms are numbered
    from 0."""

    center: int
    other: int
    image: tuple[int, int, int]
    pair: str
    distance: float  # Å
    verdict: str  # "keeps", "too short", "too long"; "" where the rule does not ask


def default_cutoffs(structure: Structure) -> dict[str, float]:
    """Longest bond of each pair of a metal and a non-metal, Å: 1.2 times the shortest distance of
    the pair."""
    import numpy as np

    elements = structure.composition.elements
    symbols = np.array([site.specie.symbol for site in structure])
    distance = structure.distance_matrix
    return {
        pair_name(m.symbol, x.symbol): float(
            BOND_FACTOR * distance[np.ix_(symbols == m.symbol, symbols == x.symbol)].min()
        )
        for m in elements
        for x in elements
        if m.is_metal and not x.is_metal
    }


def bonds(structure: Structure, cutoffs: dict[str, float]) -> list[Neighbour]:
    """All pairs of atoms not further apart than the cutoff of their pair (Å), each in both
    directions."""
    longest = max(cutoffs.values(), default=0.0)
    if longest <= 0:
        return []
    return [n for n in _within(structure, longest) if n.distance <= cutoffs.get(n.pair, 0.0)]


def neighbours(
    structure: Structure, radius: float, rule: Rule | None = None, shared: str = "H"
) -> list[Neighbour]:
    """All neighbours of all atoms within `radius` (Å), nearest first.

    A rule asks about the first neighbours only: of a shared atom the nearest of its kind and the
    nearest metal, of a metal atom the nearest metal.
    """
    found = sorted(_within(structure, radius), key=lambda n: (n.center, n.distance))
    if rule is None:
        return found
    first: set[tuple[int, bool]] = set()
    asked: set[tuple[int, int, tuple[int, int, int]]] = set()
    for n in found:
        group = (n.center, _symbol(structure, n.other) == shared)
        if group not in first and not (_symbol(structure, n.center) != shared and group[1]):
            x, y, z = n.image
            # a pair is one, from either end
            asked |= {(n.center, n.other, n.image), (n.other, n.center, (-x, -y, -z))}
        first.add(group)
    return [_judged(n, rule) if (n.center, n.other, n.image) in asked else n for n in found]


def _judged(n: Neighbour, rule: Rule) -> Neighbour:
    low, high = rule.limits.get(n.pair, (-math.inf, math.inf))
    if n.pair not in rule.limits:
        return n
    verdict = "too short" if n.distance < low else "too long" if n.distance > high else "keeps"
    return Neighbour(n.center, n.other, n.image, n.pair, n.distance, verdict)


def first_distances(structures: list[Structure], shared: str = "H") -> dict[str, list[float]]:
    """First-neighbour distances (Å) by pair, those that rules ask about."""
    out: dict[str, list[float]] = {}
    for structure in structures:
        symbols = [site.specie.symbol for site in structure]
        groups = [
            (i, g)
            for i, s in enumerate(symbols)
            for g in ((True, False) if s == shared else (False,))
        ]
        has = {True: shared in symbols, False: any(s != shared for s in symbols)}
        missing = {group for group in groups if has[group[1]]}
        radius = FIRST_RADIUS
        while missing and radius <= WIDEST:
            for n in sorted(_within(structure, radius), key=lambda n: n.distance):
                group = (n.center, symbols[n.other] == shared)
                if group in missing:
                    missing.discard(group)
                    out.setdefault(n.pair, []).append(n.distance)
            radius *= 2
    return out


def _within(structure: Structure, radius: float) -> list[Neighbour]:
    center, other, image, distance = structure.get_neighbor_list(radius)
    symbols = [site.specie.symbol for site in structure]
    return [
        Neighbour(
            int(i),
            int(j),
            (int(s[0]), int(s[1]), int(s[2])),
            pair_name(symbols[i], symbols[j]),
            float(d),
            "",
        )
        for i, j, s, d in zip(center, other, image, distance, strict=True)
    ]


def _symbol(structure: Structure, atom: int) -> str:
    return str(structure[atom].specie.symbol)


def atom_names(sites: Iterable[PeriodicSite]) -> list[str]:
    """A name for each atom, counted by element: Pd1, Pd2, Ni1, H1 ..."""
    count: dict[str, int] = {}
    names = []
    for site in sites:
        symbol = site.specie.symbol
        count[symbol] = count.get(symbol, 0) + 1
        names.append(f"{symbol}{count[symbol]}")
    return names


@dataclass(frozen=True)
class Symmetry:
    """A cell's space group at some tolerance, and its conventional cell with atoms moved onto their
    sites."""

    number: int
    symbol: str
    system: str
    refined: Structure


def symmetry(structure: Structure, tolerance: float) -> Symmetry:
    """Symmetry found by spglib with `tolerance` in Å; P1 and the cell as it is where spglib finds
    none."""
    from pymatgen.symmetry.analyzer import SpacegroupAnalyzer, SymmetryUndeterminedError

    try:
        found = SpacegroupAnalyzer(structure, symprec=tolerance)
        return Symmetry(
            int(found.get_space_group_number()),
            str(found.get_space_group_symbol()),
            str(found.get_crystal_system()),
            found.get_refined_structure(),
        )
    except (SymmetryUndeterminedError, ValueError, TypeError):
        return Symmetry(1, "P1", "triclinic", structure)


def powder_pattern(
    structure: Structure, wavelength: str = "CuKa"
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Simulated X-ray powder pattern: 2 theta in degrees, intensity (strongest 100) and Miller
    indices of each line."""
    from pymatgen.analysis.diffraction.xrd import XRDCalculator

    pattern = XRDCalculator(wavelength=wavelength).get_pattern(structure, two_theta_range=(5, 90))
    indices = [
        " ".join(str(tuple(plane["hkl"])) for plane in planes[:3]) for planes in pattern.hkls
    ]
    return pattern.x, pattern.y, indices


def check_tolerance(tolerance: float) -> None:
    """InputError for a tolerance of symmetry (Å) within which nothing is found, or anything."""
    if not LEAST_TOLERANCE <= tolerance <= MOST_TOLERANCE:
        raise InputError(
            f"The tolerance {tolerance:g} Å must be from {LEAST_TOLERANCE:g} to {MOST_TOLERANCE:g}"
            " Å, such as 0.1."
        )
