"""Hydrides relaxed by each potential, against measured lattices and enthalpies of formation.

`python -m benchmarks.stability [--potential sevennet-l3i5 ...] [--out FILE.json]` prints a table
and writes the numbers. Without `--potential` every potential with weights at hand takes part.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from crystalgan.crystal.describe import symmetry
from crystalgan.data.known import builtin_elements
from crystalgan.data.prototypes import load_prototypes
from crystalgan.potentials.registry import NAMES, load_potential
from crystalgan.stability.hull import short
from crystalgan.stability.hydrogen import EV
from crystalgan.stability.relax import relax
from crystalgan.studies.datacard import known_hydrides

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymatgen.core import Structure

    from crystalgan.potentials.registry import Potential

# eV/Å, and the start's volume in measured ones: no potential ends at the measured cell because it
# begins there; elements count by their energies alone
FMAX, FMAX_ELEMENTS, SWOLLEN = 0.003, 0.01, 1.04
KCAL = 4.184  # kJ


@dataclass(frozen=True)
class Measured:
    """A hydride of sharp composition whose enthalpy of formation from the elements is measured.

    The lattice, with its source, is that of `assets/known-hydrides.json`.
    """

    metal: str
    prototype: str
    enthalpy: float  # kJ/mol H2
    kelvin: float  # at which it was measured
    source: str


MEASURED = (
    Measured(
        "Li",
        "MH_NaCl",
        2 * -21.8 * KCAL,
        298,
        "Knudsen effusion, -21.8(5) kcal/mol: H. R. Ihle, C. H. Wu, J. Inorg. Nucl. Chem. 36, 2167"
        " (1974)",
    ),
    Measured(
        "Na",
        "MH_NaCl",
        2 * -56.44,
        298,
        "M. W. Chase, NIST-JANAF Thermochemical Tables, 4th ed. (1998), -56.44 kJ/mol",
    ),
    Measured(
        "Rb",
        "MH_NaCl",
        2 * (-46.615 + 34.115) * KCAL,
        298,
        "S. R. Gunn, J. Phys. Chem. 71, 1386 (1967), reactions with water, -12.500 kcal/mol",
    ),
    Measured(
        "Cs",
        "MH_NaCl",
        2 * (-48.297 + 35.382) * KCAL,
        298,
        "S. R. Gunn, J. Phys. Chem. 71, 1386 (1967), reactions with water, -12.915 kcal/mol",
    ),
    Measured(
        "Mg",
        "MH2_rutile",
        -17.785 * KCAL,
        773,
        "J. F. Stampfer, C. E. Holley, J. F. Suttle, J. Am. Chem. Soc. 82, 3504 (1960),"
        " decomposition pressure at 440 to 560 °C, -17.785(76) kcal/mol",
    ),
    Measured(
        "Y",
        "MH2_fluorite",
        -52.8 * KCAL,
        919,
        "P. Dantzer, O. J. Kleppa, J. Chem. Phys. 73, 5259 (1980), calorimetry, -52.8(4) kcal/mol",
    ),
    Measured(
        "La",
        "MH2_fluorite",
        -45.7 * KCAL,
        917,
        "J. Solid State Chem. 35, no. 1 (1980), calorimetry of La-H (OSTI 6863943), -45.7(3)"
        " kcal/mol",
    ),
    Measured(
        "Zr",
        "MH2_ThH2",
        (-30.9 - 298.15e-3 * (9.32 + 31.23 - 8.374)) * KCAL,
        298,
        "H. E. Flotow, D. W. Osborne, J. Chem. Phys. 34, 1418 (1961), free energy -30.9(20)"
        " kcal/mol and entropy 8.374 cal/(mol K), with 9.32 of Zr and 31.23 of H2",
    ),
    Measured(
        "Hf",
        "MH2_ThH2",
        -142.0,
        334,
        "Metall. Trans. A 24, no. 12 (1993), calorimetry of Hf with H2 and D2 (OSTI 142314)",
    ),
    Measured(
        "Th",
        "MH2_ThH2",
        -34.8 * KCAL,
        700,
        "High Temp. Sci. 12, no. 2 (1980), calorimetry of Th-H (OSTI 6646452), -34.8(2) kcal/mol",
    ),
    Measured(
        "Al",
        "MH3_AlH3",
        2 / 3 * -2.73 * KCAL,
        298,
        "G. C. Sinke et al., J. Chem. Phys. (1967), doi:10.1063/1.1712294, -2.73(20) kcal/mol",
    ),
)


@dataclass(frozen=True)
class Row:
    """A hydride as a potential sees it, beside what was measured."""

    formula: str
    prototype: str
    potential: str
    version: str
    lattice_measured: dict[str, float]  # Å
    lattice: dict[str, float]
    enthalpy_measured: float  # kJ/mol H2
    kelvin: float
    enthalpy: float  # of the relaxed cells, without vibrations
    same_type: bool  # whether the space group is still that of the structure type
    converged: bool
    source: str
    lattice_source: str

    @property
    def off(self) -> float:
        """How far the enthalpy is from the measured one, kJ/mol H2."""
        return self.enthalpy - self.enthalpy_measured

    @property
    def mark(self) -> str:
        """What is to be said of the relaxed cell beside its enthalpy."""
        return " *" * (not self.same_type) + " †" * (not self.converged)

    @property
    def edges(self) -> list[float]:
        """How far each edge is from the measured one, %."""
        return [100 * (self.lattice[k] / a - 1) for k, a in self.lattice_measured.items()]


def row_of(measured: Measured, potential: Potential, energies: dict[str, float]) -> Row:
    """Relax a hydride from near its measured volume; `energies` of the elements, eV/atom."""
    known = next(
        k
        for k in known_hydrides()
        if (k.metal, k.prototype) == (measured.metal, measured.prototype)
    )
    (prototype,) = (p for p in load_prototypes() if p.name == measured.prototype)
    assert known.lattice is not None
    start = prototype.structure(measured.metal)
    to_conventional = _to_conventional(start)
    volume = SWOLLEN * _volume(known.lattice, prototype.spacegroup)
    start.scale_lattice(volume / abs(np.linalg.det(to_conventional)))
    found = relax(start, potential, FMAX)
    # the setting of the start, also where the relaxed cell has become more symmetric
    edges = np.linalg.norm(to_conventional @ found.structure.lattice.matrix, axis=1)
    hydrogen = int(found.structure.composition["H"])
    metals = len(found.structure) - hydrogen
    alone = hydrogen * energies["H"] + metals * energies[measured.metal]
    return Row(
        short(found.structure.formula),
        measured.prototype,
        potential.name,
        potential.version,
        known.lattice,
        {axis: float(edges["abc".index(axis)]) for axis in known.lattice},
        measured.enthalpy,
        measured.kelvin,
        EV * 2 / hydrogen * (found.energy - alone),
        symmetry(found.structure, 0.01).number == prototype.spacegroup,
        found.converged,
        measured.source,
        str(known.source),
    )


def _to_conventional(structure: Structure) -> np.ndarray:
    """The rows of the conventional lattice in those of the structure's."""
    from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

    dataset = SpacegroupAnalyzer(structure, 0.01).get_symmetry_dataset()
    return np.linalg.inv(dataset.transformation_matrix).T


def _volume(lattice: dict[str, float], spacegroup: int) -> float:
    a = lattice["a"]
    hexagonal = np.sqrt(3) / 2 if 143 <= spacegroup <= 194 else 1.0
    return float(hexagonal * a * lattice.get("b", a) * lattice.get("c", a))


def rows_of(potential: Potential, hydrides: Sequence[Measured] = MEASURED) -> list[Row]:
    """All hydrides with a potential."""
    elements = {
        symbol: builtin_elements()[symbol].structure for symbol in ("H", *_metals(hydrides))
    }
    energies = {s: relax(e, potential, FMAX_ELEMENTS).energy / len(e) for s, e in elements.items()}
    return [row_of(hydride, potential, energies) for hydride in hydrides]


def _metals(hydrides: Sequence[Measured]) -> list[str]:
    return [hydride.metal for hydride in hydrides]


@dataclass(frozen=True)
class Summary:
    """How far a potential is from experiment over all hydrides."""

    potential: str
    version: str
    hydrides: int
    enthalpy_mean: float  # kJ/mol H2, of all signed errors
    enthalpy_absolute: float  # mean of their sizes
    edge_absolute: float  # %, mean over the edges of a cell, then over cells

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Summary:
        """The summary of the rows of one potential."""
        off = np.array([row.off for row in rows])
        edges = [np.abs(row.edges).mean() for row in rows]
        means = float(off.mean()), float(np.abs(off).mean()), float(np.mean(edges))
        return cls(rows[0].potential, rows[0].version, len(rows), *means)


def table(by_potential: Sequence[Sequence[Row]]) -> str:
    """The rows of all potentials in one Markdown table, with a line of means for each."""
    names = [rows[0].potential for rows in by_potential]
    heads = " | ".join(names)
    lines = [
        f"| hydride | edges / Å | {heads} | formation / (kJ/mol H2) | {heads} |",
        "|---" * (3 + 2 * len(names)) + "|",
    ]
    for rows in zip(*by_potential, strict=True):
        first = rows[0]
        edges = [", ".join(f"{x:+.1f} %" for x in row.edges) for row in rows]
        heats = [f"{row.enthalpy:.1f}" + row.mark for row in rows]
        measured = ", ".join(f"{x:g}" for x in first.lattice_measured.values())
        lines.append(
            f"| {first.formula} | {measured} | {' | '.join(edges)} | {first.enthalpy_measured:.1f}"
            f" ({first.kelvin:g} K) | {' | '.join(heats)} |"
        )
    means = [Summary.of(rows) for rows in by_potential]
    lines.append(
        f"| mean absolute error | | {' | '.join(f'{m.edge_absolute:.2f} %' for m in means)} | |"
        f" {' | '.join(f'{m.enthalpy_absolute:.1f}' for m in means)} |"
    )
    lines.append(
        f"| mean error | | {' | '.join('' for _ in means)} | |"
        f" {' | '.join(f'{m.enthalpy_mean:+.1f}' for m in means)} |"
    )
    return "\n".join(lines)


def main() -> None:
    """Relax and print; the file is there as soon as the first potential is done."""
    at_hand = NAMES if importlib.util.find_spec("sevenn") else NAMES[:1]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--potential", nargs="+", default=at_hand)
    parser.add_argument("--out", type=Path, help="a JSON file for the numbers")
    options = parser.parse_args()
    by_potential: list[list[Row]] = []
    for name in options.potential:
        started = time.process_time()
        by_potential.append(rows_of(load_potential(name)))
        print(f"{name}: {time.process_time() - started:.0f} CPU s", file=sys.stderr, flush=True)
        if options.out:
            rows = [asdict(row) for rows in by_potential for row in rows]
            summaries = [asdict(Summary.of(rows)) for rows in by_potential]
            about = {"summary": summaries, "rows": rows}
            options.out.write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n")
    print(table(by_potential))


if __name__ == "__main__":
    main()
