"""Phonons of a crystal by phonopy, and the crystal that an imaginary one leads to.

Harmonic, by finite displacements in a supercell: A. Togo, I. Tanaka, Scr. Mater. 108, 1 (2015).
Pure functions, no files. A crystal is called stable by its frequencies at the commensurate points
of the supercell alone: between them they are interpolated, and near the zone's centre a
supercell of some 8 Å gives acoustic branches small imaginary frequencies that mean nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from crystalgan.crystal.describe import symmetry
from crystalgan.stability.relax import relax, single_point

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pymatgen.core import Structure

    from crystalgan.potentials.registry import Potential
    from crystalgan.stability.relax import Relaxed

    Progress = Callable[[int, int], object]  # displacements that are done, and of how many
    Hopeless = Callable[[Structure], str | None]  # of `relax`

# THz (10 cm-1, 1.2 meV); an imaginary frequency below this is noise of the forces
TOLERANCE = 0.3
KELVIN = 300.0
LENGTH, MOST_ATOMS = 8.0, 128  # Å, least distance of an atom from its images; of a supercell
REPEATS = (1, 2, 4)  # none odd but 1: points halfway to the next zone are commensurate
# Å, about the zero-point amplitude of hydrogen. CHGNet has ripples of a meV on the scale of 0.03 Å
# where three atoms are in line (its angles' sines have a cusp there): NaCl-type LiH comes out at
# 390i cm-1 with 0.05 Å, of 590 measured, and fluorite TiH2 at 509 with 0.02 Å, 769 with 0.1 Å.
DISPLACEMENT = 0.1
MESH = 40.0  # Å, of phonopy's mesh of wave vectors for thermal properties
BAND_POINTS = 120
FMAX, STEPS = 1e-3, 300  # eV/Å, steps, of a relaxation before forces are differentiated
# eV/Å, beyond which a cell is not at rest; CHGNet's cusps keep some from less, and central
# differences bear a constant force
LEFT = 0.03
EXACT, NEAR = 1e-3, 0.03  # Å, between which a symmetry may be meant or not
FMAX_FOLLOWED = 0.01  # eV/Å
# Å, largest displacement of an atom along a mode: from near a saddle L-BFGS may go back to it (bcc
# Cu of EMT does from 0.1 Å, and becomes fcc from 0.3 Å)
AMPLITUDES = (0.1, 0.3)
SAME_ENERGY = 0.001  # eV/atom
EV = 96.485  # kJ/mol


@dataclass(frozen=True)
class Mode:
    """One phonon at a commensurate point."""

    q: tuple[float, float, float]  # fractional, of the reciprocal primitive cell
    frequency: float  # THz; that of an imaginary one is negative
    eigenvector: np.ndarray = field(repr=False)  # complex [atoms, 3], mass-weighted, of length 1


@dataclass(frozen=True)
class Bands:
    """Interpolated frequencies along a path through the Brillouin zone."""

    distance: np.ndarray  # [points], along the path, 1/Å
    frequencies: np.ndarray  # [points, 3 atoms], THz
    labels: tuple[tuple[float, str], ...]  # distance and name of special points


@dataclass(frozen=True, repr=False)
class Phonons:
    """Phonons of a crystal at rest.

    `zero_point` and `free_energy` (Helmholtz, of the lattice vibrations at 300 K, zero-point energy
    included) are None where a mode is imaginary: no harmonic crystal has them then.
    """

    structure: Structure  # primitive cell, relaxed
    energy: float  # eV per cell
    supercell: np.ndarray  # [3, 3], rows in lattice vectors of the cell
    q_points: np.ndarray  # [points, 3], commensurate, fractional
    frequencies: np.ndarray  # [points, 3 atoms], THz; imaginary ones are negative
    tolerance: float  # THz
    zero_point: float | None  # eV/atom
    free_energy: float | None  # eV/atom
    imaginary: Mode | None  # the lowest, where it lies below -tolerance
    bands: Bands
    displacements: int  # supercells whose forces were computed

    @property
    def stable(self) -> bool:
        """Whether no commensurate frequency is imaginary by more than the tolerance."""
        return self.imaginary is None

    @property
    def lowest(self) -> float:
        """The lowest frequency, THz, the three translations at the zone's centre left out."""
        at_centre = np.abs(self.q_points).sum(1) < 1e-6
        rest = [self.frequencies[~at_centre].ravel()]
        rest += [_without_translations(row) for row in self.frequencies[at_centre]]
        return float(np.concatenate(rest).min(initial=math.inf))

    def __repr__(self) -> str:
        name, atoms = self.structure.reduced_formula, len(self.structure)
        return f"Phonons({name}, {atoms} atoms: {self})"

    def __str__(self) -> str:
        if self.imaginary:
            return f"unstable, {_in_words(self.imaginary)}"
        return (
            f"stable, from {self.lowest:.2f} to {self.frequencies.max():.2f} THz,"
            f" zero-point energy {self.zero_point:.3f} eV/atom"
        )


def _in_words(mode: Mode) -> str:
    """Frequency and wave vector of an imaginary mode."""
    q = " ".join(str(Fraction(x).limit_denominator(12)) for x in mode.q)
    return f"{abs(mode.frequency):.2f}i THz at q = ({q})"


def _without_translations(frequencies: np.ndarray) -> np.ndarray:
    """Frequencies at the zone's centre without the three nearest to zero."""
    return frequencies[np.argsort(np.abs(frequencies))[3:]]


def at_rest(
    structure: Structure, potential: Potential, hopeless: Hopeless | None = None
) -> Relaxed:
    """Relax a crystal to 0.001 eV/Å, or near it, and return its standard primitive cell.

    Its symmetry is kept, so that a crystal at a saddle stays there. Where a symmetry is nearly
    there (0.03 Å) the cell is first relaxed without any. `hopeless` is that of `relax`.

    >>> from crystalgan.potentials.registry import load_potential
    >>> from pymatgen.core import Lattice, Structure
    >>> sites = [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]
    >>> fcc = Structure(Lattice.cubic(3.7), ["Cu"] * 4, sites)
    >>> len(at_rest(fcc, load_potential("ase.calculators.emt.EMT")).structure)
    1
    """
    if symmetry(structure, EXACT).number != symmetry(structure, NEAR).number:
        structure = _downhill(structure, potential, hopeless, None).structure
    return _downhill(standard(structure, NEAR / 3), potential, hopeless, EXACT)


def _downhill(
    structure: Structure, potential: Potential, hopeless: Hopeless | None, keep: float | None
) -> Relaxed:
    """Relaxed by L-BFGS, which is enough from where a relaxation has ended; by FIRE where not."""
    arguments = structure, potential, FMAX, STEPS, hopeless
    first = relax(*arguments, second_try=False, keep_symmetry=keep)
    return first if first.force <= LEFT else relax(*arguments, keep_symmetry=keep)


def phonons(
    structure: Structure,
    potential: Potential,
    tolerance: float = TOLERANCE,
    progress: Progress | None = None,
    hopeless: Hopeless | None = None,
) -> Phonons:
    """Phonons of a crystal, which is relaxed with its symmetry first (`at_rest`).

    Force constants are central differences of forces in a supercell (`supercell_of`), for
    displacements of 0.1 Å that phonopy reduces by symmetry. `progress(done, of)` is called after
    each; `hopeless` is that of `relax`. Raises ValueError where the cell does not come to rest or a
    force is not finite.

    >>> from crystalgan import load_candidate, shipped
    >>> from crystalgan.potentials.registry import load_potential
    >>> phonons(load_candidate(shipped(), 1), load_potential("chgnet"))  # doctest: +SKIP
    Phonons(Ni2HPd, 8 atoms: stable, from 1.13 to 29.61 THz, zero-point energy 0.054 eV/atom)
    """
    resting = at_rest(structure, potential, hopeless)
    if resting.force > LEFT:
        raise ValueError(f"did not come to rest: {resting.force:.3f} eV/Å are left")
    cell = resting.structure
    supercell = supercell_of(cell)
    crystal, count = _with_force_constants(cell, supercell, potential, progress)
    q_points = _commensurate(supercell)
    crystal.run_qpoints(q_points, with_eigenvectors=True)
    found = crystal.get_qpoints_dict()
    frequencies = np.array(found["frequencies"])
    k, band = np.unravel_index(frequencies.argmin(), frequencies.shape)
    imaginary = None
    if frequencies[k, band] < -tolerance:
        vector = found["eigenvectors"][k][:, band].reshape(-1, 3)
        imaginary = Mode(_triple(q_points[k]), float(frequencies[k, band]), vector)
    zero_point, free_energy = (None, None) if imaginary else _thermal(crystal, len(cell))
    return Phonons(
        structure=cell,
        energy=resting.energy,
        supercell=supercell,
        q_points=q_points,
        frequencies=frequencies,
        tolerance=tolerance,
        zero_point=zero_point,
        free_energy=free_energy,
        imaginary=imaginary,
        bands=_bands(crystal, cell),
        displacements=count,
    )


def supercell_of(cell: Structure) -> np.ndarray:
    """The supercell whose commensurate points are asked, `[3, 3]`, rows in lattice vectors.

    It repeats the standard primitive or the conventional cell 1, 2 or 4 times each way, and has the
    fewest atoms of those whose images are 8 Å apart; where that takes more than 128 atoms, the
    largest distance that does not.

    >>> from pymatgen.core import Lattice, Structure
    >>> supercell_of(Structure(Lattice.tetragonal(4.5, 3.0), ["Mg"], [[0, 0, 0]])).tolist()
    [[2, 0, 0], [0, 2, 0], [0, 0, 4]]
    """
    conventional = np.rint(
        symmetry(cell, EXACT).symmetrized.lattice.matrix
        @ np.linalg.inv(standard(cell).lattice.matrix)
    ).astype(int)
    options = []
    for start, repeats in product((np.eye(3, dtype=int), conventional), product(REPEATS, repeat=3)):
        matrix = np.diag(repeats) @ start
        atoms = len(cell) * round(abs(np.linalg.det(matrix)))
        apart = _shortest(matrix @ cell.lattice.matrix)
        options.append((apart >= LENGTH, atoms, round(apart, 1), matrix))
    few = [option for option in options if option[1] <= MOST_ATOMS] or options[:1]
    if far := [option for option in few if option[0]]:
        return min(far, key=lambda option: (option[1], -option[2]))[3]
    return min(few, key=lambda option: (-option[2], option[1]))[3]


def _shortest(lattice: np.ndarray) -> float:
    """The shortest lattice vector, Å."""
    from pymatgen.core import Lattice

    short = Lattice(lattice).get_lll_reduced_lattice().matrix
    steps = np.array([step for step in product((-1, 0, 1), repeat=3) if any(step)])
    return float(np.linalg.norm(steps @ short, axis=1).min())


def standard(structure: Structure, tolerance: float = EXACT) -> Structure:
    """spglib's standard primitive cell, atoms on the sites that they are on within `tolerance` (Å).

    >>> from pymatgen.core import Lattice, Structure
    >>> len(standard(Structure(Lattice.cubic(2.9), ["Cu", "Cu"], [[0, 0, 0], [0.5, 0.5, 0.5]])))
    1
    """
    import spglib
    from pymatgen.core import Structure

    numbers = list(structure.atomic_numbers)
    cell = (structure.lattice.matrix, structure.frac_coords, numbers)
    found = spglib.standardize_cell(cell, to_primitive=True, symprec=tolerance)
    if found is None:
        return structure
    lattice, frac, numbers = found
    return Structure(lattice, numbers, frac)


def _with_force_constants(
    cell: Structure, supercell: np.ndarray, potential: Potential, progress: Progress | None
) -> tuple[Any, int]:
    """phonopy's object for the cell with its force constants, and the number of displacements."""
    from ase import Atoms
    from phonopy import Phonopy
    from phonopy.structure.atoms import PhonopyAtoms

    atoms = PhonopyAtoms(
        numbers=cell.atomic_numbers,
        cell=cell.lattice.matrix,
        scaled_positions=cell.frac_coords,
        masses=_masses(cell),  # phonopy knows none of the actinides beyond U
    )
    crystal = Phonopy(atoms, supercell.T, np.eye(3), symprec=EXACT)  # phonopy's are columns
    crystal.generate_displacements(DISPLACEMENT)
    displaced = crystal.supercells_with_displacements
    assert displaced is not None
    forces = []
    for moved in displaced:
        one: Any = Atoms(
            numbers=moved.numbers,
            cell=moved.cell,
            scaled_positions=moved.scaled_positions,
            pbc=True,
            calculator=potential.calculator,
        )
        forces.append(one.get_forces())
        if not np.isfinite(forces[-1]).all():
            raise ValueError(
                f"{potential.name} gave a force that is not finite for {cell.reduced_formula}"
            )
        if progress:
            progress(len(forces), len(displaced))
    crystal.forces = np.array(forces)
    crystal.produce_force_constants()
    crystal.symmetrize_force_constants()
    return crystal, len(forces)


def _masses(structure: Structure) -> np.ndarray:
    return np.array([float(site.specie.atomic_mass) for site in structure])


def _commensurate(supercell: np.ndarray) -> np.ndarray:
    """Wave vectors that fit into the supercell, `[points, 3]`, each between -1/2 and 1/2."""
    from phonopy.harmonic.dynmat_to_fc import get_commensurate_points

    points = np.array(get_commensurate_points(supercell.T))
    return points - np.floor(points + 0.5 - 1e-9)


def _thermal(crystal: Any, atoms: int) -> tuple[float, float]:
    """Zero-point energy and Helmholtz free energy at 300 K, eV/atom."""
    crystal.run_mesh(MESH)
    crystal.run_thermal_properties(temperatures=[0.0, KELVIN], cutoff_frequency=1e-2)
    of_cell = crystal.get_thermal_properties_dict()["free_energy"]  # kJ/mol
    zero, warm = (float(energy) / EV / atoms for energy in of_cell)
    return zero, warm


def _bands(crystal: Any, cell: Structure) -> Bands:
    """Frequencies along ASE's path for the Bravais lattice."""
    path = cell.to_ase_atoms().cell.bandpath(npoints=BAND_POINTS)
    crystal.run_qpoints(path.kpts)
    distance, ends, names = path.get_linear_kpoint_axis()
    labels = tuple((float(x), str(name)) for x, name in zip(ends, names, strict=True))
    return Bands(distance, np.array(crystal.get_qpoints_dict()["frequencies"]), labels)


def _triple(q: np.ndarray) -> tuple[float, float, float]:
    return float(q[0]), float(q[1]), float(q[2])


@dataclass(frozen=True)
class Followed:
    """The crystal at the end of an imaginary mode."""

    structure: Structure  # primitive cell
    energy_per_atom: float  # eV
    lower: float  # eV/atom below the crystal that the mode is of
    converged: bool  # to 0.03 eV/Å, as candidates are
    spacegroup: int
    spacegroup_symbol: str

    @property
    def leads(self) -> bool:
        """Whether it is lower by more than relaxations tell apart; else the mode is but soft."""
        return self.lower > SAME_ENERGY

    def __str__(self) -> str:
        if not self.leads:
            return f"yet nothing lower lies along it ({1000 * self.lower:+.1f} meV/atom)"
        return (
            f"along it {1000 * self.lower:.1f} meV/atom lower, {self.spacegroup_symbol},"
            f" {len(self.structure)} atoms{'' if self.converged else ', not converged'}"
        )


def follow(found: Phonons, potential: Potential, hopeless: Hopeless | None = None) -> Followed:
    """Displace a crystal along its imaginary mode and relax it, cell and all, without symmetry.

    The supercell is the smallest that the mode fits into. It is relaxed from two amplitudes, each
    to the side of lower energy, and the lower end counts. `hopeless` is that of `relax`. Raises
    ValueError for phonons without an imaginary mode.
    """
    if found.imaginary is None:
        raise ValueError("these phonons have no imaginary mode")
    ends = []
    for amplitude in AMPLITUDES:
        sides = [displaced(found.structure, found.imaginary, x) for x in (amplitude, -amplitude)]
        start = min(sides, key=lambda structure: single_point(structure, potential))
        ends.append(relax(start, potential, FMAX_FOLLOWED, STEPS, hopeless))
    relaxed = min(ends, key=lambda end: end.energy)
    energy = relaxed.energy / len(relaxed.structure)
    end = standard(relaxed.structure, NEAR)
    kept = symmetry(end, NEAR)
    lower = found.energy / len(found.structure) - energy
    return Followed(end, energy, lower, relaxed.force <= LEFT, kept.number, kept.symbol)


def displaced(cell: Structure, mode: Mode, amplitude: float) -> Structure:
    """The smallest supercell that a mode fits into, displaced along it.

    `amplitude` (Å) is the largest displacement of an atom. phonopy's eigenvectors have the phases
    of positions, not of cells.
    """
    from pymatgen.core import Structure

    q = np.array(mode.q)
    supercell = next(
        matrix
        for matrix in _hermite(_order(mode.q))
        if np.allclose(matrix @ q, np.rint(matrix @ q))
    )
    large = cell.copy()
    large.add_site_property("of", list(range(len(cell))))
    large = large.make_supercell(supercell, in_place=False)
    of = np.array(large.site_properties["of"])
    frac = cell.lattice.get_fractional_coords(large.cart_coords)
    waves = mode.eigenvector[of] * np.exp(2j * np.pi * frac @ q)[:, None]
    waves /= np.sqrt(_masses(large))[:, None]
    waves = waves * np.exp(
        -0.5j * np.angle((waves**2).sum())
    )  # the phase with the largest real part
    step = waves.real * amplitude / np.linalg.norm(waves.real, axis=1).max()
    return Structure(
        large.lattice, large.species, large.cart_coords + step, coords_are_cartesian=True
    )


def _order(q: tuple[float, float, float]) -> int:
    """How many cells a wave takes until it repeats."""
    return math.lcm(*(Fraction(x).limit_denominator(16).denominator for x in q))


def _hermite(cells: int) -> Iterator[np.ndarray]:
    """All supercells of so many cells, as Hermite normal forms."""
    for a in (n for n in range(1, cells + 1) if cells % n == 0):
        for b in (n for n in range(1, cells // a + 1) if (cells // a) % n == 0):
            c = cells // a // b
            for x, y, z in product(range(b), range(c), range(c)):
                yield np.array([[a, x, y], [0, b, z], [0, 0, c]])
