"""Relaxed PdH, NiH, TiH2 and MgH2 against experiment: `python -m benchmarks.stability [--potential
sevennet]` prints a table."""

from __future__ import annotations

import argparse

from crystalgan.data.prototypes import load_prototypes
from crystalgan.potentials.registry import load_potential
from crystalgan.resources import resource
from crystalgan.stability.hull import short
from crystalgan.stability.hydrogen import EV
from crystalgan.stability.relax import relax
from crystalgan.studies.datacard import known_hydrides

# Formation enthalpies, kJ/mol H2. PdH: T. B. Flanagan, W. Luo, J. D. Clewley, J. Less-Common Met.
# 172-174, 42 (1991); MgH2:
# J. F. Stampfer, C. E. Holley, J. F. Suttle, J. Am. Chem. Soc. 82, 3504 (1960); NiH: B. Baranowski,
# K. Bochenska, Z. Phys. Chem.
# 45, 140 (1965); TiH2: M. W. Chase, NIST-JANAF Thermochemical Tables (1998).
MEASURED = {"Pd": -38.2, "Ni": -8.8, "Ti": -144.3, "Mg": -74.4}
FMAX = 0.01  # eV/Å
TYPES = {"Pd": "MH_NaCl", "Ni": "MH_NaCl", "Ti": "MH2_fluorite", "Mg": "MH2_rutile"}


def main() -> None:
    from ase.io import read
    from pymatgen.io.ase import AseAtomsAdaptor
    from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--potential", default="chgnet")
    potential = load_potential(parser.parse_args().potential)
    prototypes = {p.name: p for p in load_prototypes()}
    elements = {
        str(a.symbols[0]): AseAtomsAdaptor.get_structure(a)
        for a in read(resource("assets") / "classes" / "elements.extxyz", ":")
    }
    pure = {s: relax(elements[s], potential, FMAX).energy / len(elements[s]) for s in ("H", *TYPES)}
    print(f"{potential.name} {potential.version}\n")
    print(
        "| hydride | a, c measured / Å | a, c relaxed / Å | edges, % | formation measured / (kJ/mol"
        " H2) | relaxed |"
    )
    print("|---|---|---|---|---|---|")
    for metal, name in TYPES.items():
        row = next(k for k in known_hydrides() if (k.metal, k.prototype) == (metal, name))
        assert row.lattice is not None
        start = prototypes[name].structure(metal)
        conventional = SpacegroupAnalyzer(start, 0.01).get_conventional_standard_structure()
        measured = row.lattice
        volume = measured["a"] ** 2 * measured.get("c", measured["a"])
        start.scale_lattice(volume * len(start) / len(conventional))
        found = relax(start, potential, FMAX)
        cell = SpacegroupAnalyzer(found.structure, 0.01).get_conventional_standard_structure()
        edges = {axis: getattr(cell.lattice, axis) for axis in measured}
        hydrogen = cell.composition["H"] / len(cell) * len(found.structure)
        metals = len(found.structure) - hydrogen
        formation = EV * 2 / hydrogen * (found.energy - hydrogen * pure["H"] - metals * pure[metal])
        assert found.converged
        print(
            f"| {short(cell.formula)} ({name}) | {', '.join(f'{x:.3f}' for x in measured.values())}"
            f" | {', '.join(f'{x:.3f}' for x in edges.values())} |"
            f" {', '.join(f'{100 * (edges[k] / measured[k] - 1):+.1f}' for k in measured)} |"
            f" {MEASURED[metal]:.1f} | {formation:.1f} |"
        )


if __name__ == "__main__":
    main()
