"""No candidate is shown, stored or exported that is not Niggli-reduced or conventional: arithmetic
and spglib are the judges."""

import hashlib
import io
import json
import shutil
import zipfile
from itertools import pairwise

import ase.io
import numpy as np
import pytest
import spglib
from ase.db import connect
from conftest import random_crystals
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure

from crystalgan.crystal import lattice
from crystalgan.crystal.cells import decode
from crystalgan.errors import InputError
from crystalgan.plot.scene import build_scene
from crystalgan.runs.candidates import generate
from crystalgan.runs.database import get_row, load_candidate, structure_of
from crystalgan.runs.folder import SHIPPED, Run
from crystalgan.runs.loading import load_model
from crystalgan.runs.symmetrizing import symmetrize
from crystalgan.stability.export import export
from crystalgan.stability.relaxations import (
    frame_of,
    open_relaxed,
    relax_candidates,
    relaxed_rows,
    symmetric_of,
)
from ui import cached

EMT_NAME = "ase.calculators.emt.EMT"
# Å²: what is a violation, for numbers in files are rounded; and what counts as equal
METRIC, EQUAL = 1e-4, 1e-6


def violations(rows: np.ndarray, tolerance: float = METRIC) -> list[str]:
    """The conditions of a Niggli cell (International Tables A, 9.2.2) that a lattice breaks by more
    than a tolerance, Å²."""
    metric = np.asarray(rows) @ np.asarray(rows).T
    a, b, c = (float(x) for x in np.diag(metric))
    d, e, f = float(metric[1, 2]), float(metric[0, 2]), float(metric[0, 1])

    def more(x: float, y: float) -> bool:
        return x > y + tolerance

    def equal(x: float, y: float) -> bool:
        return abs(x - y) <= EQUAL

    broken = {
        "a <= b <= c": more(a, b) or more(b, c),
        "angles at equal edges": (
            (equal(a, b) and more(abs(d), abs(e))) or (equal(b, c) and more(abs(e), abs(f)))
        ),
        "shortest vectors": more(abs(d), b / 2) or more(abs(e), a / 2) or more(abs(f), a / 2),
    }
    if max(d, e, f) <= tolerance:  # type II, no angle acute
        ends = [(-d, b / 2, f), (-e, a / 2, f), (-f, a / 2, e)]
        diagonal = -(d + e + f)
        broken |= {
            "body diagonal": more(diagonal, (a + b) / 2),
            "type II": any(equal(x, y) and more(abs(z), 0) for x, y, z in ends),
            "type II, diagonal": equal(diagonal, (a + b) / 2) and more(a, 2 * abs(e) + abs(f)),
        }
    else:  # type I, all angles acute
        special = [(d, b / 2, f, 2 * e), (e, a / 2, f, 2 * d), (f, a / 2, e, 2 * d)]
        broken |= {
            "angles of both kinds": min(d, e, f) <= EQUAL,
            "type I": any(equal(x, y) and more(z, w) for x, y, z, w in special),
        }
    return [name for name, is_broken in broken.items() if is_broken]


def parameters(rows: np.ndarray) -> np.ndarray:
    return np.array(Lattice(rows).parameters)


def distances(structure: Structure, copies: int = 1) -> np.ndarray:
    """All distances up to 4 Å, sorted, each so many times."""
    return np.repeat(np.sort(structure.get_neighbor_list(4.0)[3]), copies)


def same_crystal(one: Structure, other: Structure, atol: float = 1e-6) -> None:
    """The same distances of the same elements, in a cell that may be several times as large as the
    other."""
    assert one.composition.reduced_formula == other.composition.reduced_formula
    small, large = sorted((one, other), key=len)
    times = len(large) // len(small)
    assert len(large) == times * len(small)
    np.testing.assert_allclose(distances(large), distances(small, times), atol=atol)
    assert StructureMatcher(ltol=1e-3, stol=1e-3, angle_tol=0.1, scale=False).fit(one, other)


def assert_reduced(structure: Structure) -> None:
    rows = structure.lattice.matrix
    assert not violations(rows), (violations(rows), structure.lattice.parameters)
    assert np.linalg.det(rows) > 0
    np.testing.assert_allclose(
        parameters(rows), parameters(spglib.niggli_reduce(rows, 1e-5)), atol=2e-4
    )


def assert_conventional(structure: Structure, reduced: Structure) -> None:
    """The edges and angles that spglib gives the standardised cell of this symmetry without moving
    an atom."""
    cell = reduced.lattice.matrix, reduced.frac_coords, reduced.atomic_numbers
    found = spglib.get_symmetry_dataset(cell, 0.1)
    if found is None or found.number <= 2:
        assert_reduced(structure)
        return
    tried = []
    for tolerance in (0.1, 0.03, 0.01, 3e-3, 1e-3):
        standard = spglib.standardize_cell(
            cell, to_primitive=False, no_idealize=True, symprec=tolerance
        )
        tried.append(
            np.allclose(parameters(standard[0]), parameters(structure.lattice.matrix), atol=1e-3)
        )
    assert any(tried), structure.lattice.parameters
    assert np.linalg.det(structure.lattice.matrix) > 0


def bases(rng: np.random.Generator, count: int) -> list[np.ndarray]:
    """Integer matrices of determinant 1 or -1, of which most make needles and splinters."""
    out = []
    while len(out) < count:
        change = rng.integers(-4, 5, (3, 3))
        if abs(round(np.linalg.det(change))) == 1:
            out.append(change)
    return out


def lattices(rng: np.random.Generator, count: int) -> list[np.ndarray]:
    """Reduced and centred lattices of every system, exact or off by 1e-12 to 0.01 Å."""
    out = []
    while len(out) < count:
        (a, b, c), angle = rng.uniform(2.5, 9, 3), rng.uniform(40, 115)
        made = [
            Lattice.cubic(a).matrix,
            Lattice.tetragonal(a, c).matrix,
            Lattice.hexagonal(a, c).matrix,
            Lattice.rhombohedral(a, angle).matrix,
            Lattice.orthorhombic(a, b, c).matrix,
            Lattice.monoclinic(a, b, c, angle).matrix,
            Lattice.from_parameters(a, b, c, *rng.uniform(65, 110, 3)).matrix,
            np.array([[0, a, a], [a, 0, a], [a, a, 0]]),
            np.array([[-a, a, c], [a, -a, c], [a, a, -c]]),
            np.array([[a, b, 0], [a, -b, 0], [0, 0, c]]),
        ]
        noise = 10.0 ** rng.integers(-12, -1)
        out += [
            rows + noise * rng.normal(size=(3, 3)) for rows in made if abs(np.linalg.det(rows)) > 5
        ]
    return out[:count]


def test_the_judge_knows_cells_that_are_not_reduced():
    cubic = Lattice.cubic(3).matrix
    assert not violations(cubic)
    assert not violations(Lattice.hexagonal(3, 5).matrix)  # 120 degrees
    assert violations(Lattice.from_parameters(3, 3, 5, 90, 90, 60).matrix) == [
        "angles of both kinds"
    ]
    assert violations(cubic[[0, 1, 2]] + np.array([[0, 0, 0], [0, 0, 0], [3, 0, 0]])) == [
        "shortest vectors",
        "angles of both kinds",
    ]
    assert "a <= b <= c" in violations(Lattice.orthorhombic(4, 3, 5).matrix)
    assert "shortest vectors" in violations(Lattice.from_parameters(8, 9, 10, 147, 90, 90).matrix)
    assert "body diagonal" in violations(
        Lattice.from_parameters(5, 5.01, 5.02, 112, 112, 112).matrix
    )


def test_reduction_is_another_choice_of_lattice_vectors_and_nothing_else():
    rng = np.random.default_rng(5)
    for change, rows in zip(bases(rng, 200), lattices(rng, 200), strict=True):
        species = [("H", "Pd", "Ni")[k] for k in rng.integers(0, 3, 4)]  # in no order
        before = Structure(change @ rows, species, rng.uniform(-1, 2, (4, 3)))
        after = lattice.reduced(before)
        assert_reduced(after)
        matrix = after.lattice.matrix @ np.linalg.inv(before.lattice.matrix)
        np.testing.assert_allclose(matrix, np.rint(matrix), atol=1e-6)
        assert abs(round(np.linalg.det(matrix))) == 1
        assert [site.specie.symbol for site in after] == species
        assert after.frac_coords.min() >= 0
        assert after.frac_coords.max() < 1
        moved = (after.cart_coords - before.cart_coords) @ np.linalg.inv(after.lattice.matrix)
        # each atom where it was, or a lattice vector from there
        np.testing.assert_allclose(moved, np.rint(moved), atol=1e-6)
        again = lattice.reduced(after)
        np.testing.assert_allclose(again.lattice.matrix, after.lattice.matrix, atol=1e-9)
        shift = again.frac_coords - after.frac_coords
        np.testing.assert_allclose(shift, np.rint(shift), atol=1e-9)


def test_what_is_drawn_is_turned_as_a_whole():
    for structure in random_crystals(np.random.default_rng(4), 5):
        cell = lattice.reduced(structure)
        drawn = lattice.upright(cell)
        np.testing.assert_allclose(drawn.lattice.parameters, cell.lattice.parameters, atol=1e-6)
        assert abs(drawn.lattice.matrix[np.triu_indices(3, 1)]).max() == 0
        np.testing.assert_allclose(distances(drawn), distances(cell), atol=1e-9)


def test_a_cell_without_a_volume_is_a_sentence():
    flat = Structure([[1, 0, 0], [0, 1, 0], [1, 1, 0]], ["Pd"], [[0, 0, 0]])
    with pytest.raises(InputError, match="its vectors lie in one plane"):
        lattice.reduced(flat)


def test_a_lattice_that_needs_another_tolerance_stays_reduced():
    skewed = np.array(
        [
            [-4.288559451, -2.476000658, -13.832764687],
            [-3.4e-08, 4.952002921, -2.77e-07],
            [-7.14759885, 2.476003055, -27.665529876],
        ]
    )
    assert spglib.niggli_reduce(skewed, 1e-5) is None
    once = lattice.reduced(Structure(skewed, ["Pd", "H"], [[0, 0, 0], [0.5, 0.1, 0.2]]))
    np.testing.assert_allclose(lattice.reduced(once).lattice.matrix, once.lattice.matrix, atol=1e-9)
    assert not violations(once.lattice.matrix, 1e-3)


def raw(run: Run) -> dict[int, Structure]:
    """The candidates as their database holds them."""
    rows = connect(run.folder / "candidates.db").select()
    return {
        row.id: Structure(row.cell, row.symbols, row.positions, coords_are_cartesian=True)
        for row in rows
    }


@pytest.fixture
def shipped(tmp_path):
    """The shipped run, which was written before cells were reduced."""
    return Run(shutil.copytree(SHIPPED / "Pd-Ni-H_shipped", tmp_path / "run"))


def splinters(run: Run, count: int) -> list[int]:
    """The candidates that are stored furthest from reduced: by their widest angle."""
    widest = {
        number: abs(np.array(cell.lattice.angles) - 90).max() for number, cell in raw(run).items()
    }
    return sorted(sorted(widest, key=lambda number: -widest[number])[:count])


def read(text: str, file_format: str) -> Structure:
    """An exported file, read without pymatgen's own reader."""
    atoms = ase.io.read(
        io.StringIO(text), format="vasp" if file_format in ("poscar", "vasp") else file_format
    )
    return Structure(atoms.cell.array, atoms.get_chemical_symbols(), atoms.get_scaled_positions())


def exported(
    run: Run, out, ids: list[int], file_format: str, cell: str
) -> tuple[list[Structure], list[str]]:
    """The cells of an export and the texts that hold them."""
    export(run, out, ",".join(map(str, ids)), None, file_format, cell)
    with zipfile.ZipFile(out) as archive:
        ends = {"poscar": ".vasp", "cif": ".cif", "extxyz": ".extxyz", "vasp": "/POSCAR"}[
            file_format
        ]
        texts = [archive.read(name).decode() for name in archive.namelist() if name.endswith(ends)]
    return [read(text, file_format) for text in texts], texts


def test_an_old_run_is_shown_and_exported_reduced_and_its_database_stays(shipped, tmp_path):
    path = shipped.folder / "candidates.db"
    stored, digest = raw(shipped), hashlib.sha256(path.read_bytes()).hexdigest()
    assert sum(bool(violations(cell.lattice.matrix)) for cell in stored.values()) > 100
    for number, cell in stored.items():
        loaded = load_candidate(shipped, number)
        assert_reduced(loaded)
        assert [site.specie for site in loaded] == [site.specie for site in cell]
        np.testing.assert_allclose(distances(loaded), distances(cell), atol=1e-6)
    ids = splinters(shipped, 4)
    for number in ids:
        shown, _ = cached.candidate_of(shipped, number)
        assert_reduced(shown)
    for file_format in ("poscar", "cif", "extxyz", "vasp"):
        for cell in ("reduced", "conventional"):
            cells, texts = exported(shipped, tmp_path / "out.zip", ids, file_format, cell)
            assert len(cells) == len(ids)
            for number, made, text in zip(ids, cells, texts, strict=True):
                same_crystal(made, stored[number], atol=1e-5)
                if cell == "reduced":
                    assert_reduced(made)
                    assert f"id={number} run=run seed=0 cell=reduced" in text
                else:
                    assert_conventional(made, load_candidate(shipped, number))
                    assert "cell=conventional spacegroup=" in text or "cell=reduced" in text
    assert hashlib.sha256(path.read_bytes()).hexdigest() == digest


def test_a_new_run_is_stored_reduced_and_its_crystals_are_those_that_were_drawn(shipped):
    (shipped.folder / "candidates.db").unlink()
    generate(shipped, 20)
    drawn = decode(load_model(shipped).draw(0, 0).cells)
    assert sum(bool(violations(cell.lattice.matrix)) for cell in drawn[:20]) > 10
    stored = raw(shipped)
    assert len(stored) == 20
    for number, cell in stored.items():
        assert_reduced(cell)
        before = drawn[get_row(shipped, number).draw]
        assert cell.species == before.species
        np.testing.assert_allclose(distances(cell), distances(before), atol=1e-6)


def test_a_symmetrized_candidate_is_stored_reduced(shipped):
    new = symmetrize(shipped, 3, 0.1)
    assert_reduced(raw(shipped)[new])
    made = lattice.conventional(load_candidate(shipped, new))
    assert made.kind == "conventional"
    # a conventional cell already, in other vectors
    assert len(made.structure) == len(load_candidate(shipped, new))


def alloys() -> list[Structure]:
    """Cells that EMT relaxes in few steps, in a splinter of a basis."""
    rng = np.random.default_rng(3)
    frac = np.array([[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0.03]])
    out = []
    for k, change in enumerate(bases(rng, 2)):
        a = 3.75 + 0.1 * k
        cell = Structure(
            Lattice.orthorhombic(a / np.sqrt(2), 1.02 * a / np.sqrt(2), a), ["Pd", "Ni", "H"], frac
        )
        out.append(
            Structure(
                change @ cell.lattice.matrix, cell.species, cell.frac_coords @ np.linalg.inv(change)
            )
        )
    return out


def test_relaxed_cells_are_reduced_and_their_frames_are_of_one_basis(shipped):
    """Also those that were written before, in the basis that they were relaxed in."""
    database = connect(shipped.folder / "candidates.db")
    for number, cell in enumerate(alloys(), 1):
        assert violations(cell.lattice.matrix)
        database.update(number, atoms=cell.to_ase_atoms())
    relax_candidates(shipped, "1,2", EMT_NAME, raise_symmetry=0.1)
    for row in relaxed_rows(shipped):
        assert_reduced(Structure(row.cell, row.symbols, row.positions, coords_are_cartesian=True))
        check_frames(row, load_candidate(shipped, row.candidate))
        before, after = load_candidate(shipped, row.candidate), structure_of(row)
        assert row.volume_change == pytest.approx(100 * (after.volume / before.volume - 1))
        change = np.array([[1, -2, 1], [0, 1, -3], [0, 0, 1]])
        assert abs(round(np.linalg.det(change))) == 1
        old = {name: np.array(row.data[name]) for name in ("lattices", "positions")}
        old["lattices"] = (np.linalg.inv(change) @ old["lattices"]).astype(np.float32)
        atoms = after.to_ase_atoms()
        atoms.set_cell(np.linalg.inv(change) @ row.data["lattices"][-1], scale_atoms=False)
        refined = {
            "text": "as it was stored before",
            "lattice": change @ after.lattice.matrix,
            "numbers": after.atomic_numbers,
            "frac": after.frac_coords,
        }
        open_relaxed(shipped).update(
            row.id, atoms=atoms, data=row.data | old | {"refined": refined}
        )
    for row in relaxed_rows(shipped):
        assert violations(np.array(row.cell))
        assert_reduced(structure_of(row))
        assert_reduced(symmetric_of(row))
        check_frames(row, load_candidate(shipped, row.candidate))
        assert (
            cached.relaxed(str(shipped.folder), "EMT", row.candidate, 0.0).data["energies"][0]
            > row.data["energies"][-1]
        )


def check_frames(row, start: Structure) -> None:
    """The last frame is the relaxed cell, the first one the candidate, and no step is a change of
    basis."""
    frames = [frame_of(row, k) for k in range(len(row.data["frames"]))]
    after = structure_of(row)
    np.testing.assert_allclose(frames[-1].lattice.matrix, after.lattice.matrix, atol=1e-5)
    shift = frames[-1].frac_coords - after.frac_coords
    np.testing.assert_allclose(shift, np.rint(shift), atol=1e-5)
    np.testing.assert_allclose(distances(frames[0]), distances(start), atol=1e-5)
    assert [site.specie for site in frames[0]] == [site.specie for site in start]
    assert len(frames) > 2
    for one, other in pairwise(frames):
        assert np.abs(one.lattice.matrix - other.lattice.matrix).max() < 1.0
        assert np.abs(one.frac_coords - other.frac_coords).max() < 0.3
        assert one.lattice.volume > 0


def test_the_conventional_cell_is_the_candidate_itself_and_no_symmetric_one(shipped):
    kinds = set()
    for number in range(1, 31):
        cell = load_candidate(shipped, number)
        made = lattice.conventional(cell)
        kinds.add(made.kind)
        assert_conventional(made.structure, cell)
        np.testing.assert_allclose(
            distances(made.structure), distances(cell, len(made.structure) // len(cell)), atol=1e-6
        )
        assert [made.structure[k].specie for k in range(len(made.atoms))] == [
            cell[i].specie for i in made.atoms
        ]
        assert list(made.atoms) == sorted(made.atoms)  # species in as many blocks as before
    assert kinds == {"reduced", "conventional"}


def test_conventional_cells_known_by_heart():
    fcc = Structure(
        Lattice([[0, 2, 2], [2, 0, 2], [2, 2, 0]]), ["Pd", "H"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    )
    made = lattice.conventional(fcc)
    assert (str(made), len(made.structure)) == ("conventional, Fm-3m within 0.1 Å", 8)
    np.testing.assert_allclose(made.structure.lattice.parameters, [4, 4, 4, 90, 90, 90], atol=1e-9)
    assert made.atoms == (0, 0, 0, 0, 1, 1, 1, 1)
    rhombohedral = Structure.from_spacegroup(
        "R-3m", Lattice.hexagonal(3, 12), ["Pd", "H"], [[0, 0, 0], [0, 0, 0.25]]
    )
    small = rhombohedral.get_primitive_structure()
    np.testing.assert_allclose(
        lattice.conventional(small).structure.lattice.parameters, [3, 3, 12, 90, 90, 120], atol=1e-6
    )
    triclinic = random_crystals(np.random.default_rng(2), 1, atoms=5)[0]
    assert lattice.conventional(triclinic).kind == "reduced"
    double = fcc.copy()
    double.make_supercell([2, 1, 1])
    moved = double.copy()
    moved.translate_sites([0], [0.02, 0, 0], frac_coords=False)
    for cell in (double, moved):  # no atom is lost, though all but 0.02 Å of it is fcc
        assert len(lattice.conventional(cell).structure) % len(cell) == 0
    with pytest.raises(InputError, match="'cubic' is not one of reduced, conventional"):
        lattice.setting(fcc, "cubic")


@pytest.mark.parametrize("group", range(17, 231, 8))
def test_the_conventional_cell_is_found_again_from_any_basis(group):
    """Of crystals that were built in it; some have atoms closer to each other than the
    tolerance."""
    a, b, c = 4.1, 5.3, 6.7
    systems = [
        (75, Lattice.orthorhombic(a, b, c)),
        (143, Lattice.tetragonal(a, c)),
        (195, Lattice.hexagonal(a, c)),
    ]
    built = next((made for end, made in systems if group < end), Lattice.cubic(6.1))
    whole = Structure.from_spacegroup(
        group, built, ["Pd", "H"], [[0.13, 0.27, 0.34], [0.41, 0.08, 0.19]]
    )
    rows, frac, numbers = spglib.find_primitive(
        (built.matrix, whole.frac_coords, whole.atomic_numbers), 1e-3
    )
    (change,) = bases(np.random.default_rng(group), 1)
    made = lattice.conventional(Structure(change @ rows, numbers, frac @ np.linalg.inv(change)))
    assert made.kind == "conventional"
    assert len(made.structure) == len(whole)
    np.testing.assert_allclose(sorted(made.structure.lattice.abc), sorted(built.abc), atol=1e-6)
    np.testing.assert_allclose(
        sorted(made.structure.lattice.angles), sorted(built.angles), atol=1e-5
    )
    np.testing.assert_allclose(distances(made.structure), distances(whole), atol=1e-6)


def test_an_atom_of_the_conventional_cell_has_the_neighbours_of_the_candidates(shipped):
    """What a click says, and where a pair is lit."""
    cell = next(
        c
        for c in (load_candidate(shipped, n) for n in range(1, 50))
        if len(lattice.conventional(c).atoms) > len(c)
    )
    made = lattice.conventional(cell)
    scene = build_scene(made.structure, numbers=made.atoms)
    spheres = next(part["contents"] for part in scene["contents"] if part["name"] == "atoms")
    assert [s["_meta"][0]["atom"] for s in spheres] == list(made.atoms)
    names = [s["tooltip"].split()[0] for s in spheres]
    plain = next(
        part["contents"] for part in build_scene(cell)["contents"] if part["name"] == "atoms"
    )
    assert names == [plain[i]["tooltip"].split()[0] for i in made.atoms]
    centers, others, images, lengths = cell.get_neighbor_list(3.0)
    for i, j, image, length in list(zip(centers, others, images, lengths, strict=True))[::9]:
        here, there, shift = made.pair(cell, (int(i), int(j), tuple(int(x) for x in image)))
        assert (made.atoms[here], made.atoms[there]) == (i, j)
        assert made.structure.get_distance(here, there, shift) == pytest.approx(length, abs=1e-6)
        lit = build_scene(made.structure, lit=(here, there, shift), numbers=made.atoms)
        bond = next(
            p
            for p in next(s["contents"] for s in lit["contents"] if s["name"] == "lit")
            if p["type"] == "cylinders"
        )
        assert np.linalg.norm(np.subtract(*bond["positionPairs"][0])) == pytest.approx(
            length, abs=1e-6
        )


def test_the_command_exports_the_cell_that_is_asked_for(crystalgan, tmp_path):
    words = ("export", SHIPPED / "Pd-Ni-H_shipped", "--out", tmp_path / "x.zip", "--select", "3")
    code, out, _ = crystalgan(
        *words, "--cell", "conventional", "--format", "vasp", "--smearing", "metal", "--json"
    )
    assert (code, json.loads(out)["exported"]) == (0, 1)
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        poscar, incar = (
            archive.read(f"Ni4Pd2H_00003/{name}").decode() for name in ("POSCAR", "INCAR")
        )
    assert_conventional(read(poscar, "vasp"), load_candidate(SHIPPED / "Pd-Ni-H_shipped", 3))
    assert "ISMEAR = 1" in incar
    for option, value in (("--cell", "cubic"), ("--smearing", "wet")):
        code, _, err = crystalgan(*words, option, value)
        assert code == 2
        assert err.startswith(f"crystalgan: The {option[2:]} {value!r} is not one of ")
        assert len(err.splitlines()) == 1


def test_a_reduction_in_circles_is_tried_otherwise_where_spglib_raises(
    monkeypatch,
):
    """Phonopy has spglib raise, where it returned nothing before."""
    nearly_hexagonal = [
        [4.000000225166901, 3.6104777501149116e-07, 7.720381514293578e-07],
        [-1.9999998167562225, 3.46410200633732, 1.2140438074880613e-07],
        [3.9815452248057525e-07, -6.290517974370661e-07, 6.499999628779827],
    ]
    structure = Structure(Lattice(nearly_hexagonal), ["Pd"], [[0, 0, 0]])
    before = lattice.reduced(structure)
    monkeypatch.setattr(spglib.error, "OLD_ERROR_HANDLING", False)
    with pytest.raises(spglib.SpglibError):
        spglib.niggli_reduce(nearly_hexagonal, 1e-5)
    assert lattice.reduced(structure) == before
    assert before.lattice.parameters == pytest.approx((4, 4, 6.5, 90, 90, 120), abs=1e-4)
