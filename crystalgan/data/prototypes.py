"""Structure types of hydrides, elements and compounds of two metals, from the assets."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from crystalgan.crystal.canonical import primitive
from crystalgan.data.cif.space_groups import Setting, settings
from crystalgan.resources import resource

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pymatgen.core import Structure

# Å; shorter is on the way to molecular hydrogen, or hydrogen inside a metal atom
MIN_H_H, MIN_M_H = 1.5, 1.3
# larger types would more than double the tensors of every class for one cell
MAX_ATOMS_PER_KIND = 18
# eV/atom; of two cells as close as this the more symmetric one is the type that is known
SAME_ENERGY = 0.001
ELEMENTS = "elements.extxyz"
SAME_POINT = 1e-5  # of fractional coordinates that are the same


@dataclass(frozen=True)
class Prototype:
    """A structure type: space group, lattice ratios and angles (degrees), and occupied sites.

    Sites are by kind of atom: M is a metal and H the shared element; A and B are the metals of a
    compound of two.
    """

    name: str
    spacegroup: int
    lattice: dict[str, float]
    sites: list[tuple[str, list[float]]]

    @property
    def is_hydride(self) -> bool:
        """Whether the shared element is in it; otherwise it is a structure of the pure element."""
        return any(kind == "H" for kind, _ in self.sites)

    def structure(self, metal: str, shared: str = "H") -> Structure:
        """The primitive cell of a hydride, or of a metal, at a guessed volume."""
        return self.of({"M": metal, "H": shared})

    def of(self, elements: dict[str, str]) -> Structure:
        """The primitive cell with these elements on the sites of each kind, at a guessed volume.

        That is the sum of the metals' own atomic volumes, and 2.5 Å³ for each shared atom.
        """
        from pymatgen.core import Element, Lattice, Structure

        p = self.lattice
        lattice = Lattice.from_parameters(
            1, p["b_over_a"], p["c_over_a"], p["alpha"], p["beta"], p["gamma"]
        ).scale(100)
        orbits = [(elements[kind], orbit(self.spacegroup, x)) for kind, x in self.sites]
        species = [symbol for symbol, points in orbits for _ in points]
        structure = Structure(lattice, species, np.concatenate([points for _, points in orbits]))
        volumes = {  # cm³/mol -> Å³
            elements[k]: 2.5 if k == "H" else float(Element(elements[k]).molar_volume) / 0.602214
            for k, _ in self.sites
        }
        volume = sum(volumes[site.specie.symbol] for site in structure)
        return primitive(structure.scale_lattice(volume))


def orbit(number: int, point: Sequence[float]) -> np.ndarray:
    """The points `[n, 3]` that a space group makes of one, all fractional.

    The setting has the first choice of axes and of origin of International Tables, and the
    hexagonal axes of a rhombohedral group.

    >>> orbit(225, [0.25, 0.25, 0.25]).shape
    (8, 3)
    """
    operations = _standard(number).operations
    points = operations[:, :, :3] @ np.asarray(point) + operations[:, :, 3]
    points -= np.floor(points + SAME_POINT)
    kept: list[np.ndarray] = []
    for one in points:
        steps = np.array(kept).reshape(-1, 3) - one
        if not (np.abs(steps - np.rint(steps)) < SAME_POINT).all(1).any():
            kept.append(one)
    return np.array(kept)


@cache
def _standard(number: int) -> Setting:
    same = [setting for setting in settings() if setting.number == number]
    return next((setting for setting in same if setting.choice == "H"), same[0])


def load_prototypes(path: Path | None = None) -> list[Prototype]:
    """The structure types of hydrides in `assets/prototypes.json`.

    >>> load_prototypes()[0].name
    'M4H_tI10'
    """
    rows = json.loads((path or resource("assets/prototypes.json")).read_text())
    return [_prototype(row) for row in rows]


def element_types(symbol: str) -> list[Prototype]:
    """The structure types to try for an element.

    These are fcc, bcc, hcp and its own for a metal, and molecular crystals for H.

    >>> [p.name for p in element_types("H")]
    ['H2_hcp', 'H2_Pa-3']
    """
    rows = json.loads(resource("assets/elements.json").read_text())
    return [
        _prototype(row)
        for row in rows
        if (symbol in row["elements"] if row["elements"] else symbol != "H")
    ]


def compounds_of(one: str, other: str) -> dict[str, Structure]:
    """Compounds of two metals by name, such as `LaNi5 CaCu5`.

    These are the types of `assets/intermetallics.json`, each metal on each site.
    """
    out = {}
    for row in json.loads(resource("assets/intermetallics.json").read_text()):
        for a, b in [(one, other), (other, one)][: 1 + row["both"]]:
            structure = _prototype(row).of({"A": a, "B": b})
            out[f"{structure.composition.reduced_formula} {row['name']}"] = structure
    return out


def _prototype(row: dict[str, Any]) -> Prototype:
    return Prototype(
        row["name"], row["spacegroup"], row["lattice"], [(kind, x) for kind, x in row["sites"]]
    )
