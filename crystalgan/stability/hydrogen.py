"""Hydrogen storage: capacity of a cell, enthalpy, temperature and pressure of its release.

Pure functions, no files.

Energies are a potential's, at 0 K, without zero-point motion and heat capacity: tens of kJ/mol H2
may lie between them and a calorimeter. Temperatures follow from an enthalpy and an entropy that is
nearly that of gaseous hydrogen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from crystalgan.crystal.describe import shortest_distance
from crystalgan.stability.hull import products

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pymatgen.analysis.phase_diagram import PhaseDiagram
    from pymatgen.core import Structure

EV = 96.485  # kJ/mol
GAS = 8.314462618e-3  # kJ/(mol K)
ROOM = 298.15  # K
# kJ/(mol H2 K): of a release in the middle, and the band of measured hydrides
ENTROPY, ENTROPIES = 0.120, (0.105, 0.135)
# Å; in hydrides H-H is rarely shorter (A. C. Switendick, Z. Phys. Chem. 117, 89 (1979))
SWITENDICK = 2.1
# eV per H2: K. K. Irikura, J. Phys. Chem. Ref. Data 36, 389 (2007), 2179.307 cm-1, as in NIST's
# CCCBDB (release 22)
MOLECULE_ZERO_POINT = 0.2702
# kJ/mol H2 at 300 K and 1 bar, against the gas at 0 K: -39.204 + 8.467, M. W. Chase, NIST-JANAF
# Thermochemical Tables, 4th ed. (1998); CODATA's 8.47, 130.680 J/(mol K) and 28.84 J/(mol K) at
# 298.15 K give the same
MOLECULE_FREE_ENERGY = -30.737
FARTHEST = 5.0  # Å, the longest H-H distance that a card names
# wt%, g/L: U.S. DRIVE, targets for onboard storage systems (2017)
TARGETS = {"2025": (5.5, 40.0), "ultimate": (6.5, 50.0)}
TARGET_NOTE = "DOE targets are for the whole system, tank and heat exchanger included"


@dataclass(frozen=True)
class KnownHydride:
    """A measured hydride."""

    formula: str
    weight_percent: float
    enthalpy: float | None  # of the release, kJ/mol H2


# Enthalpies: H. H. van Mal et al., J. Less-Common Met. 35, 65 (1974); J. J. Reilly, R. H. Wiswall,
# Inorg. Chem. 13, 218 (1974) and 7, 2254 (1968).
KNOWN = (
    KnownHydride("LaNi5H6", 1.38, 30.1),
    KnownHydride("TiFeH2", 1.91, 28.1),
    KnownHydride("Mg2NiH4", 3.62, 64.5),
    KnownHydride("MgH2", 7.66, None),
    KnownHydride("PdH", 0.94, None),
)


@dataclass(frozen=True)
class Release:
    """A reaction that sets hydrogen free."""

    enthalpy: float  # kJ/mol H2; positive takes heat
    products: list[tuple[str, float]]  # what is left of one reduced formula unit
    hydrogen: float  # mol H2 for one reduced formula unit


@dataclass(frozen=True)
class Vibrations:
    """Vibrational energies of a crystal by its phonons, eV/atom."""

    zero_point: float
    free_energy: float  # Helmholtz, at 300 K


@dataclass(frozen=True)
class WarmRelease:
    """A release of hydrogen with the vibrations of all that takes part."""

    enthalpy: float  # kJ/mol H2 at 0 K, zero-point energies included
    free_energy: float  # kJ/mol H2 at 300 K and 1 bar; below 0 hydrogen goes by itself


@dataclass(frozen=True)
class Card:
    """Hydrogen storage of one cell."""

    weight_percent: float
    grams_per_litre: float
    shortest: float | None  # H-H, Å; None where a cell has none within 5 Å
    whole: Release | None  # to the most stable products without hydrogen
    first: Release | None  # the first step on the hull


def weight_percent(formula: str, shared: str = "H") -> float:
    """Return the hydrogen in a hydride, % of its mass.

    >>> round(weight_percent("MgH2"), 2)
    7.66
    """
    from pymatgen.core import Composition, Element

    composition = Composition(formula)
    return 100 * float(composition[shared] * Element(shared).atomic_mass / composition.weight)


def grams_per_litre(structure: Structure, shared: str = "H") -> float:
    """Return the hydrogen in a litre of the crystal, g/L.

    >>> from pymatgen.core import Lattice, Structure
    >>> places = [[0, 0, 0], [0.5, 0.5, 0.5]]
    >>> hydride = Structure.from_spacegroup(225, Lattice.cubic(4.09), ["Pd", "H"], places)
    >>> round(grams_per_litre(hydride))
    98
    """
    from pymatgen.core import Element

    return float(
        structure.composition[shared]
        * Element(shared).atomic_mass
        / structure.volume
        / 0.602214076e-3
    )


def temperature(enthalpy: float, entropy: float = ENTROPY) -> float:
    """Return the temperature at which hydrogen is at 1 bar, K: T = dH/dS.

    `enthalpy` of the release in kJ/mol H2, `entropy` in kJ/(mol H2 K).

    >>> round(temperature(64.5, 0.122))  # Mg2NiH4
    529
    """
    return enthalpy / entropy


def pressure(enthalpy: float, entropy: float = ENTROPY, kelvin: float = ROOM) -> float:
    """Return the pressure of the plateau by van 't Hoff, bar: ln p = -dH/RT + dS/R.

    >>> round(pressure(30.8, 0.108), 1)  # LaNi5H6 at 25 °C
    1.8
    """
    return math.exp(min(700.0, (entropy - enthalpy / kelvin) / GAS))  # beyond 700 a float ends


def release_all(
    diagram: PhaseDiagram, formula: str, energy: float, shared: str = "H"
) -> Release | None:
    """Return the release of all hydrogen to the most stable phases without it, or None without any.

    `energy` is that of the cell `formula`, eV; products and the energy of H2 come from the diagram.

    >>> from crystalgan.stability.hull import Phase, diagram_of
    >>> hydride = Phase("MgH2", "MgH2", -0.66)
    >>> diagram = diagram_of([Phase("Mg", "Mg", 0.0), Phase("H2", "H2", 0.0), hydride])
    >>> round(release_all(diagram, "MgH2", -0.66).enthalpy, 1)  # kJ/mol H2
    63.7
    """
    return _release(diagram, formula, energy, shared, 0.0)


def release_first(diagram: PhaseDiagram, formula: str, shared: str = "H") -> Release | None:
    """Return the first release on the hull: the one that needs the least heat per mol H2.

    It starts from the stable phases of this composition, and is None where there is none. A cell
    above the hull would fall apart without losing hydrogen, so the step begins on the hull. Between
    two kinks of the hull along the line to the metals the enthalpy is a weighted mean, so only the
    kinks are asked.
    """
    from pymatgen.core import Composition

    whole = Composition(formula)
    metals = Composition({e: n for e, n in whole.items() if e.symbol != shared})
    if not whole[shared] or not metals:
        return None
    kinks = [
        c * (metals.num_atoms / _others(c, shared))
        for c in diagram.get_critical_compositions(metals, whole)
    ]
    left = [float(c[shared]) for c in kinks]
    energy = float(diagram.get_hull_energy(whole))
    steps = [
        _release(diagram, formula, energy, shared, x) for x in left if x < whole[shared] - 1e-6
    ]
    return min((step for step in steps if step), key=lambda step: step.enthalpy, default=None)


def with_vibrations(
    release: Release, formula: str, vibrations: Mapping[str, Vibrations]
) -> WarmRelease | None:
    """Return a release of all hydrogen with zero-point energies, and its free energy at 300 K.

    `vibrations` are those of crystals by reduced formula (`hull.short`), the cell and its products
    among them; None where one is missing. Those of gaseous H2 are measured ones: no potential of
    crystals knows the molecule.

    >>> release = Release(63.7, [("Mg", 1.0)], 1.0)
    >>> known = {"MgH2": Vibrations(0.13, 0.11), "Mg": Vibrations(0.02, -0.06)}
    >>> round(with_vibrations(release, "MgH2", known).enthalpy, 1)
    54.1
    """
    from pymatgen.core import Composition

    if any(name not in vibrations for name in (formula, *(name for name, _ in release.products))):
        return None
    own, before = vibrations[formula], Composition(formula).num_atoms
    zero, warm = -before * own.zero_point, -before * own.free_energy
    for name, amount in release.products:
        atoms = amount * Composition(name).num_atoms
        zero += atoms * vibrations[name].zero_point
        warm += atoms * vibrations[name].free_energy
    gas = EV * MOLECULE_ZERO_POINT
    return WarmRelease(
        release.enthalpy + EV * zero / release.hydrogen + gas,
        release.enthalpy + EV * warm / release.hydrogen + gas + MOLECULE_FREE_ENERGY,
    )


def _others(composition: object, shared: str) -> float:
    return float(sum(n for e, n in composition.items() if e.symbol != shared))  # type: ignore[attr-defined]


def _release(
    diagram: PhaseDiagram, formula: str, energy: float, shared: str, left: float
) -> Release | None:
    """The release of all but `left` shared atoms of a cell."""
    from pymatgen.core import Composition, Element

    whole = Composition(formula)
    molecules = (whole[shared] - left) / 2
    rest = Composition({e: n for e, n in whole.items() if e.symbol != shared} | {shared: left})
    if molecules <= 0 or not rest.num_atoms:
        return None
    of_molecule = 2 * diagram.el_refs[Element(shared)].energy_per_atom
    cost = diagram.get_hull_energy(rest) + molecules * of_molecule - energy
    _, units = whole.get_reduced_composition_and_factor()
    parts = [(name, amount / units) for name, amount in products(diagram, rest.formula)]
    return Release(EV * float(cost) / molecules, parts, float(molecules / units))


def card(
    structure: Structure, energy: float | None, diagram: PhaseDiagram | None, shared: str = "H"
) -> Card:
    """Return capacity, shortest H-H and releases of one cell.

    `energy` is that of the cell in the potential of the diagram, eV; None where there is none.
    """
    formula, nearest = structure.formula, shortest_distance(structure, shared, shared)
    return Card(
        weight_percent(formula, shared),
        grams_per_litre(structure, shared),
        nearest if nearest <= FARTHEST else None,
        release_all(diagram, formula, energy, shared) if diagram and energy is not None else None,
        release_first(diagram, formula, shared) if diagram else None,
    )
