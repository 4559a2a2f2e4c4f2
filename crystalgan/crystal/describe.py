"""Neighbours, distances, space group and powder pattern of single structures.

pymatgen and numpy alone: the app calls this, and its process never imports torch. First neighbours
of batches of `Cells`, with gradients, are in `crystal.distances`; tests hold both to the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from crystalgan.crystal.rules import pair_name
from crystalgan.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    from pymatgen.core import PeriodicSite, Structure

    from crystalgan.crystal.rules import Rule

BOND_FACTOR = 1.2  # times the shortest distance of a pair
# Å, where the searches for a shortest distance and for first neighbours start, and where they end
NEAR, FIRST_RADIUS, WIDEST = 2.5, 5.0, 40.0
# Å, of a symmetry; within more nearly all atoms are on each other's sites
LEAST_TOLERANCE, MOST_TOLERANCE = 1e-5, 1.0


@dataclass(frozen=True)
class Neighbour:
    """Atom `other`, shifted by `image` lattice vectors, next to atom `center`; numbered from 0."""

    center: int
    other: int
    image: tuple[int, int, int]
    pair: str
    distance: float  # Å
    verdict: str  # "keeps", "too short", "too long"; "" where the rule does not ask


def shortest_distance(structure: Structure, a: str, b: str) -> float:
    """The shortest distance (Å) of an atom of element `a` to one of element `b`, images included.

    An atom's own images count, so one atom in a cell is enough. Infinite where an element is not
    there, or no pair is within 40 Å.

    >>> from pymatgen.core import Lattice, Structure
    >>> rocksalt = Structure(Lattice.cubic(4.0), ["Pd", "H"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    >>> shortest_distance(rocksalt, "H", "H"), round(shortest_distance(rocksalt, "H", "Pd"), 3)
    (4.0, 3.464)
    """
    import numpy as np

    symbols = np.array([site.specie.symbol for site in structure])
    radius = NEAR if a in symbols and b in symbols else math.inf
    while radius <= WIDEST:
        center, other, _, distance = structure.get_neighbor_list(radius)
        found = distance[(symbols[center] == a) & (symbols[other] == b)]
        if len(found):
            return float(found.min())
        radius *= 2
    return math.inf


def default_cutoffs(structure: Structure) -> dict[str, float]:
    """Longest bonds (Å) of pairs of a metal and a non-metal: 1.2 times their shortest distance.

    >>> from pymatgen.core import Lattice, Structure
    >>> cell = Structure(Lattice.cubic(2.0), ["Pd", "H"], [[0, 0, 0], [0.5, 0.5, 0]])
    >>> {pair: round(length, 2) for pair, length in default_cutoffs(cell).items()}
    {'H-Pd': 1.7}
    """
    elements = structure.composition.elements
    return {
        pair_name(m.symbol, x.symbol): BOND_FACTOR
        * shortest_distance(structure, m.symbol, x.symbol)
        for m in elements
        for x in elements
        if m.is_metal and not x.is_metal
    }


def bonds(structure: Structure, cutoffs: dict[str, float]) -> list[Neighbour]:
    """All pairs of atoms within the cutoff of their pair (Å), each in both directions."""
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

    >>> from crystalgan import load_candidate, shipped
    >>> near = neighbours(load_candidate(shipped(), 1), 3.0)
    >>> near[0].distance <= near[-1].distance <= 3.0
    True
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
    return [_checked(n, rule) if (n.center, n.other, n.image) in asked else n for n in found]


def _checked(n: Neighbour, rule: Rule) -> Neighbour:
    low, high = rule.limits.get(n.pair, (-math.inf, math.inf))
    if n.pair not in rule.limits:
        return n
    verdict = "too short" if n.distance < low else "too long" if n.distance > high else "keeps"
    return Neighbour(n.center, n.other, n.image, n.pair, n.distance, verdict)


def first_distances(structures: list[Structure], shared: str = "H") -> dict[str, list[float]]:
    """First-neighbour distances (Å) by pair of elements, those that a `Rule` asks about.

    >>> from pymatgen.core import Lattice, Structure
    >>> rocksalt = Structure(Lattice.cubic(4.0), ["Pd", "H"], [[0, 0, 0], [0.5, 0, 0]])
    >>> first_distances([rocksalt])
    {'H-Pd': [2.0], 'Pd-Pd': [4.0], 'H-H': [4.0]}
    """
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
    """A name for each atom, counted by element: Pd1, Pd2, Ni1, H1.

    >>> from pymatgen.core import Lattice, Structure
    >>> frac = [[0, 0, 0], [0.5, 0, 0], [0, 0.5, 0]]
    >>> atom_names(Structure(Lattice.cubic(3.0), ["Pd", "H", "H"], frac))
    ['Pd1', 'H1', 'H2']
    """
    count: dict[str, int] = {}
    names = []
    for site in sites:
        symbol = site.specie.symbol
        count[symbol] = count.get(symbol, 0) + 1
        names.append(f"{symbol}{count[symbol]}")
    return names


@dataclass(frozen=True)
class FoundSymmetry:
    """The space group of a structure at some tolerance, and the structure made symmetric."""

    number: int
    symbol: str
    system: str
    symmetrized: Structure = field(repr=False)  # conventional cell, atoms moved onto their sites


def symmetry(structure: Structure, tolerance: float) -> FoundSymmetry:
    """The space group that spglib finds with `tolerance` (Å); P1 where it finds none.

    >>> from pymatgen.core import Lattice, Structure
    >>> symmetry(Structure(Lattice.cubic(3.0), ["Po"], [[0, 0, 0]]), 0.01)
    FoundSymmetry(number=221, symbol='Pm-3m', system='cubic')
    """
    from pymatgen.symmetry.analyzer import SpacegroupAnalyzer, SymmetryUndeterminedError

    try:
        found = SpacegroupAnalyzer(structure, symprec=tolerance)
        return FoundSymmetry(
            int(found.get_space_group_number()),
            str(found.get_space_group_symbol()),
            str(found.get_crystal_system()),
            found.get_refined_structure(),
        )
    except (SymmetryUndeterminedError, ValueError, TypeError):
        return FoundSymmetry(1, "P1", "triclinic", structure)


def powder_pattern(
    structure: Structure, wavelength: str = "CuKa"
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Simulated X-ray powder pattern from 5 to 90 degrees.

    Returns 2 theta (degrees), intensity (strongest 100) and Miller indices of each line.

    >>> from crystalgan import load_candidate, shipped
    >>> angles, intensities, indices = powder_pattern(load_candidate(shipped(), 1))
    >>> round(float(max(intensities)))
    100
    """
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
