"""Phonons against arithmetic, against ASE's own, and against what is known of hydrides."""

import numpy as np
import pytest
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.phonons import Phonons as AsePhonons
from pymatgen.core import Element, Lattice, Structure

from crystalgan.potentials.registry import Potential, load_potential
from crystalgan.stability import phonons as module
from crystalgan.stability.phonons import Mode, displaced, follow, phonons, supercell_of

THZ = 15.633302  # sqrt(eV/Å²/u) in THz, over 2 pi: CODATA
H = 4.135667696e-3  # eV/THz
KT = 8.617333262e-5 * 300
SIDE, SPRING = 2.0, 0.3  # Å, eV/Å²
MASSES = {symbol: float(Element(symbol).atomic_mass) for symbol in ("Li", "H")}


class Springs(Calculator):
    """Rock salt of LiH whose neighbours are joined by springs that resist in all directions."""

    implemented_properties = ("energy", "forces", "stress")

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        from ase.neighborlist import neighbor_list

        i, d = neighbor_list("iD", atoms, 1.4 * SIDE)
        stretched = d - SIDE * np.rint(d / SIDE)
        near = np.abs(np.rint(d / SIDE)).sum(1) == 1
        i, stretched = i[near], stretched[near]
        forces = np.zeros((len(atoms), 3))
        np.add.at(forces, i, SPRING * stretched)
        self.results = {
            "energy": SPRING / 4 * (stretched**2).sum(),  # each spring is counted twice
            "forces": forces,
            "stress": np.zeros(6),
        }


def springs():
    return Potential("Springs", "1", Springs())


def face_centred(side, symbols, places):
    """The primitive cell; pymatgen takes 3 s to look its space group up."""
    lattice = side / 2 * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]])
    return Structure(lattice, symbols, side * np.array(places), coords_are_cartesian=True)


def rock_salt():
    return face_centred(2 * SIDE, ["Li", "H"], [[0, 0, 0], [0.5] * 3])


def by_arithmetic(q):
    """Frequencies of one polarization, THz, and eigenvectors, for Cartesian wave vectors."""
    masses = np.array([MASSES["Li"], MASSES["H"]])
    coupling = -2 * SPRING * np.cos(SIDE * np.asarray(q)).sum(-1)
    matrix = np.zeros((*coupling.shape, 2, 2))
    matrix[..., 0, 0], matrix[..., 1, 1] = 6 * SPRING / masses
    matrix[..., 0, 1] = matrix[..., 1, 0] = coupling / np.sqrt(masses.prod())
    values, vectors = np.linalg.eigh(matrix)
    return THZ * np.sqrt(np.clip(values, 0, None)), vectors


@pytest.fixture(scope="module")
def of_springs():
    return phonons(rock_salt(), springs())


@pytest.fixture(scope="module")
def bcc():
    """bcc Cu of EMT."""
    cell = Structure(Lattice.cubic(2.87), ["Cu", "Cu"], [[0, 0, 0], [0.5] * 3])
    return phonons(cell, emt())


def emt():
    return load_potential("ase.calculators.emt.EMT")


def cartesian(found):
    return found.q_points @ found.structure.lattice.reciprocal_lattice.matrix


def test_frequencies_of_springs_are_those_of_arithmetic(of_springs):
    expected = np.repeat(by_arithmetic(cartesian(of_springs))[0], 3, axis=1)
    assert of_springs.frequencies == pytest.approx(expected, abs=2e-3)
    assert of_springs.stable
    assert of_springs.lowest == pytest.approx(np.sort(expected.ravel())[3], abs=2e-3)
    number = round(abs(np.linalg.det(of_springs.supercell)))
    assert len(of_springs.q_points) == number
    inside = of_springs.q_points @ of_springs.supercell.T
    assert inside == pytest.approx(np.rint(inside))


def test_energies_of_springs_are_those_of_arithmetic(of_springs):
    points = (np.arange(48) + 0.5) / 48 - 0.5
    grid = np.stack(np.meshgrid(points, points, points, indexing="ij"), -1).reshape(-1, 3)
    frequencies = by_arithmetic(grid @ of_springs.structure.lattice.reciprocal_lattice.matrix)[0]
    energy = H * np.repeat(frequencies, 3, axis=1)
    zero = energy.sum(1).mean() / 2 / 2
    warm = zero + KT * np.log(1 - np.exp(-energy / KT)).sum(1).mean() / 2
    # a mesh of 15 points a side stands for the zone here, and 48 there
    assert of_springs.zero_point == pytest.approx(zero, rel=2e-3)
    assert of_springs.free_energy == pytest.approx(warm, abs=2e-3)
    assert zero - warm > 0.015


@pytest.mark.parametrize("amplitude", [0.01, 0.1])
@pytest.mark.parametrize("k", [3, 9, 20])
def test_a_displaced_cell_has_the_energy_of_its_mode(of_springs, k, amplitude):
    cell, q = of_springs.structure, of_springs.q_points[k]
    (_, frequency), vectors = by_arithmetic(cartesian(of_springs)[k])
    vector = vectors[:, 1, None] * np.array([0.6, 0, 0.8])
    order = [("Li", "H").index(site.specie.symbol) for site in cell]
    moved = displaced(cell, Mode(tuple(q), float(frequency), vector[order] + 0j), amplitude)
    atoms = moved.to_ase_atoms()
    atoms.calc = Springs()
    steps = moved.cart_coords - SIDE * np.rint(moved.cart_coords / SIDE)
    assert np.linalg.norm(steps, axis=1).max() == pytest.approx(amplitude)
    masses = np.array([MASSES[site.specie.symbol] for site in moved])
    expected = ((frequency / THZ) ** 2 * masses[:, None] * steps**2).sum() / 2
    assert atoms.get_potential_energy() == pytest.approx(expected, rel=1e-3)


@pytest.fixture
def small(monkeypatch):
    """Supercells that are quicker, the same for ours and theirs."""
    monkeypatch.setattr(module, "LENGTH", 5.0)


@pytest.mark.usefixtures("small")
def test_frequencies_of_copper_are_those_of_ase(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "DISPLACEMENT", 0.01)
    fcc = face_centred(3.6, ["Cu"], [[0, 0, 0]])
    found = phonons(fcc, emt())
    theirs = AsePhonons(
        found.structure.to_ase_atoms(), EMT(), supercell=(2, 2, 2), delta=0.01, name=tmp_path / "p"
    )
    theirs.run()
    theirs.read(acoustic=True)
    assert found.supercell.tolist() == np.diag((2, 2, 2)).tolist()
    energies = theirs.band_structure(found.q_points, verbose=False)
    assert H * found.frequencies == pytest.approx(np.sort(energies, axis=1), rel=0.01, abs=1e-5)
    assert found.lowest > 2


def test_supercells_are_wide_small_and_have_the_zone_boundary():
    fluorite = face_centred(4.8, ["Ti", "H", "H"], [[0, 0, 0], [0.25] * 3, [0.75] * 3])
    long = Structure(Lattice.orthorhombic(4.1, 4.2, 9), ["Pd", "H"], [[0, 0, 0], [0.5] * 3])
    many = Structure(
        Lattice.orthorhombic(3.5, 3.6, 9), ["H"] * 12, np.random.default_rng(0).random((12, 3))
    )
    for cell in map(module.standard, (fluorite, long, many, rock_salt())):
        supercell = supercell_of(cell)
        lattice = Lattice(supercell @ cell.lattice.matrix)
        apart = lattice.get_niggli_reduced_lattice().abc
        number = round(abs(np.linalg.det(supercell)))
        assert number * len(cell) <= module.MOST_ATOMS
        assert min(apart) >= (module.LENGTH if len(cell) < 12 else 7)
        assert number == 1 or number % 2 == 0


def test_a_stable_crystal_has_no_mode_to_follow(of_springs):
    with pytest.raises(ValueError, match="no imaginary mode"):
        follow(of_springs, springs())


def test_an_unstable_crystal_leads_to_a_close_packed_one(bcc):
    assert not bcc.stable
    assert (bcc.zero_point, bcc.free_energy) == (None, None)
    assert bcc.imaginary.frequency == bcc.frequencies.min() == bcc.lowest
    assert sorted(np.abs(bcc.imaginary.q)) == pytest.approx([0, 0.5, 0.5])  # N of bcc
    assert "i THz at q = (" in str(bcc)
    end = follow(bcc, emt())
    fcc = face_centred(3.6, ["Cu"], [[0, 0, 0]])
    lowest = module.at_rest(fcc, emt()).energy
    assert end.energy_per_atom == pytest.approx(lowest, abs=3e-3)
    assert end.leads
    assert end.lower == pytest.approx(bcc.energy - end.energy_per_atom)
    assert end.spacegroup in (194, 225)  # hcp by the path of Burgers, or fcc
    atoms = end.structure.to_ase_atoms()
    atoms.calc = EMT()
    assert atoms.get_potential_energy() / len(atoms) == pytest.approx(end.energy_per_atom, abs=1e-4)


def test_noise_below_the_tolerance_does_not_count(bcc):
    cell = Structure(Lattice.cubic(2.87), ["Cu", "Cu"], [[0, 0, 0], [0.5] * 3])
    assert bcc.lowest < -bcc.tolerance
    assert phonons(cell, emt(), tolerance=abs(bcc.lowest) + 0.01).stable


@pytest.mark.usefixtures("small")
def test_a_crystal_that_is_nearly_symmetric_is_taken_for_symmetric():
    fcc = face_centred(3.6, ["Cu"], [[0, 0, 0]])
    shaken = fcc.make_supercell([2, 1, 1], in_place=False)
    shaken.translate_sites(0, [0.002, -0.001, 0.002], frac_coords=True)
    found = phonons(shaken, emt())
    assert (len(found.structure), found.displacements) == (1, 1)


def test_hydrides_whose_phonons_are_known():
    """MgH2 holds together: M. A. Kuzovnikov et al., Solid State Commun. 154, 77 (2013) see its B2g
    mode, the highest, between 1470 and 1790 cm-1. Cubic NaMgH3 tilts its octahedra: M. Fornari, A.
    Subedi, D. J. Singh, Phys. Rev. B 76, 214118 (2007)."""
    chgnet = load_potential("chgnet")
    rutile = Structure.from_spacegroup(
        136, Lattice.tetragonal(4.517, 3.021), ["Mg", "H"], [[0, 0, 0], [0.304, 0.304, 0]]
    )
    found = phonons(rutile, chgnet)
    centre = found.frequencies[np.abs(found.q_points).sum(1) < 1e-6][0]
    assert found.stable
    assert 1470 < 33.35641 * centre.max() < 1790
    places = [[0, 0, 0], [0.5] * 3, [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    perovskite = Structure(Lattice.cubic(3.88), ["Na", "Mg", "H", "H", "H"], places)
    cubic = phonons(perovskite, chgnet)
    assert cubic.imaginary.q == pytest.approx((0.5, 0.5, 0.5))
    share = np.abs(cubic.imaginary.eigenvector) ** 2
    hydrogen = [site.specie.symbol == "H" for site in cubic.structure]
    assert share[hydrogen].sum() > 0.99  # the octahedra turn, metals stay
    assert follow(cubic, chgnet).leads
