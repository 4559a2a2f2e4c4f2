"""Each format against its own library: pymatgen, ASE and scipy are the judges. What is read runs
and writes nothing."""

import gzip
import io
import json
import sys

import ase.db
import numpy as np
import pytest
import scipy.io
from conftest import AUTHORS_DATA, random_crystals
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifParser, CifWriter
from pymatgen.io.vasp import Poscar

from crystalgan.crystal.cells import decode, encode
from crystalgan.data.classes import builtin_classes, load_class
from crystalgan.data.readers import read_entries


def equal(a, b, within=1e-4):
    """The same numbers and elements, up to the order of the atoms within one element and to whole
    lattice vectors."""
    if a.composition != b.composition or not np.allclose(
        a.lattice.matrix, b.lattice.matrix, atol=1e-6
    ):
        return False
    return all(
        a.lattice.get_all_distances(
            a[i].frac_coords, [s.frac_coords for s in b if s.specie.symbol == a[i].specie.symbol]
        ).min()
        < within
        for i in range(len(a))
    )


def read(path):
    entries, left_out = read_entries(path)
    assert not left_out, left_out
    return entries


def test_pymatgen_json_in_all_its_shapes(tmp_path, palladium):
    cells = palladium.structures[:3]
    dicts = [s.as_dict() for s in cells]
    entry = {
        "@module": "pymatgen.entries.computed_entries",
        "@class": "ComputedStructureEntry",
        "energy": -1.5,
        "structure": dicts[0],
    }
    shapes = {
        "one": (dicts[0], [""]),
        "list": (dicts, [f" entry {i}" for i in (1, 2, 3)]),
        "entry": (entry, [""]),
        "entries": (
            [entry, {"structure": dicts[1], "material_id": "mp-7"}],
            [" entry 1", " entry 2"],
        ),
        "named": ({"mp-7": entry, "mp-8": {"structure": dicts[1]}}, [" entry mp-7", " entry mp-8"]),
        "wrapped": (
            {"data": [{"structure": d} for d in dicts], "version": 1},
            [f" entry data entry {i}" for i in (1, 2, 3)],
        ),
        "snl": (dicts[0] | {"about": {"authors": []}}, [""]),
    }
    for name, (data, places) in shapes.items():
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(data))
        entries = read(path)
        assert [entry.where for entry in entries] == [f"{path}{place}" for place in places]
        assert all(equal(entry.structure, s) for entry, s in zip(entries, cells, strict=False))
    assert read(tmp_path / "entries.json")[1].info == {"material_id": "mp-7"}
    assert read(tmp_path / "entry.json")[0].info["energy"] == -1.5
    (tmp_path / "list.json.gz").write_bytes(gzip.compress((tmp_path / "list.json").read_bytes()))
    assert len(read(tmp_path / "list.json.gz")) == 3


def test_json_imports_nothing_that_it_names(tmp_path, monkeypatch, palladium):
    (tmp_path / "hostile_module.py").write_text(
        f"open({str(tmp_path / 'ran')!r}, 'w').close()\n\n\ndef f(**_): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    named = {"@module": "hostile_module", "@class": "f", "x": 1}
    data = palladium.structures[0].as_dict() | {
        "@module": "hostile_module",
        "properties": {"a": named},
    }
    for site in data["sites"]:
        site["properties"] = {"b": named}
        site["species"][0]["properties"] = named
    data["lattice"] |= named
    (tmp_path / "x.json").write_text(json.dumps([data, {"structure": data, "data": named}]))
    assert len(read(tmp_path / "x.json")) == 2
    assert "hostile_module" not in sys.modules
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("kind", ["db", "json"])
def test_ase_databases(tmp_path, palladium, kind):
    path = tmp_path / f"cells.{kind}"
    cells = palladium.structures[:5]
    with ase.db.connect(path, append=False) as database:
        for i, structure in enumerate(cells):
            database.write(
                structure.to_ase_atoms(),
                {"energy_per_atom": -3.5 + i, "label": f"cell {i}"},
                data={"x": [1, 2]},
            )
    database.delete([2])
    before, bytes_before = sorted(tmp_path.iterdir()), path.read_bytes()
    path.chmod(0o444)
    entries = read(path)
    assert [entry.where for entry in entries] == [f"{path} row {i}" for i in (1, 3, 4, 5)]
    assert entries[1].info == {"energy_per_atom": -1.5, "label": "cell 2"}
    for entry, structure in zip(entries, [cells[0], *cells[2:]], strict=True):
        assert equal(entry.structure, structure)
    assert (sorted(tmp_path.iterdir()), path.read_bytes()) == (before, bytes_before)


@pytest.mark.filterwarnings("ignore:Issues encountered")  # pymatgen says of every rounding
@pytest.mark.parametrize("metal", ["Al", *sorted(builtin_classes())[1::10]])
def test_cifs_are_what_pymatgen_reads(tmp_path, metal):
    for i, structure in enumerate(load_class(metal).structures[::4]):
        for symprec in (None, 1e-2):
            text = str(CifWriter(structure, symprec=symprec, significant_figures=8))
            (tmp_path / f"{i}{symprec}.cif").write_text(text)
            (expected,) = CifParser.from_str(text).parse_structures(primitive=False)
            entries, left_out = read_entries(tmp_path / f"{i}{symprec}.cif")
            if expected.composition.reduced_formula == structure.composition.reduced_formula:
                # we put atoms on the special positions that they are off by the writer's tolerance
                assert [equal(entry.structure, expected, 1e-3) for entry in entries] == [True]
            else:  # a position a little off its symmetry element has come out twice
                assert left_out[0].reason.startswith("lists atoms of")


def test_cifs_with_the_name_of_a_space_group_only(tmp_path):
    cases = {"Fm-3m": (225, 4), "P6_3/mmc": (194, 2), "R-3m": (166, 3), "P 1 21/c 1": (14, 2)}
    for symbol, (number, least) in cases.items():
        crystal = Structure.from_spacegroup(
            number, lattice_of(number), ["Pd", "H"], [[0, 0, 0], [0.5, 0.5, 0.5]]
        )
        lines = [f"_cell_length_{k} {x}" for k, x in zip("abc", crystal.lattice.abc, strict=True)]
        lines += [
            f"_cell_angle_{k} {x}"
            for k, x in zip(("alpha", "beta", "gamma"), crystal.lattice.angles, strict=True)
        ]
        sites = (
            "loop_\n_atom_site_label\n"
            + "".join(f"_atom_site_fract_{k}\n" for k in "xyz")
            + "Pd1 0 0 0\nH1 0.5 0.5 0.5\n"
        )
        for group in (
            f"_symmetry_space_group_name_H-M '{symbol}'",
            f"_symmetry_Int_Tables_number {number}",
        ):
            (tmp_path / "x.cif").write_text("\n".join(["data_x", *lines, group, sites]))
            (entry,) = read(tmp_path / "x.cif")
            assert equal(entry.structure, crystal)
            assert len(entry.structure) >= 2 * least


def lattice_of(number):
    if number == 225:
        return Lattice.cubic(4)
    return Lattice.monoclinic(4, 5, 6, 100) if number == 14 else Lattice.hexagonal(4, 7)


def test_a_cif_of_several_blocks_leaves_out_the_bad_one(tmp_path, palladium):
    texts = [str(CifWriter(s, significant_figures=8)) for s in palladium.structures[:3]]
    texts[1] = texts[1].replace("_atom_site_fract_z\n", "", 1)
    (tmp_path / "x.cif").write_text("data_global\n_journal_name 'x'\n" + "\n".join(texts))
    entries, left_out = read_entries(tmp_path / "x.cif")
    assert [entry.where.split("x.cif")[1] for entry in entries] == [" (cell 1)", " (cell 3)"]
    assert [x.where.split("x.cif")[1] for x in left_out] == [" (cell 2)"]


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("kind", [float, np.float32, np.uint8, np.int16])
def test_mat_files_are_what_scipy_wrote(tmp_path, compress, kind):
    rng = np.random.default_rng(0)
    rows = np.empty((5, 4), dtype=object)
    for i in range(5):
        parts = (
            np.eye(3) * (5 + i),
            rng.uniform(0, 1, (3, 3)) * 2 + np.eye(3) * 2,
            np.zeros((2, 3)),
            np.diag([1, 2, 1])[:2] * 2.0,
        )
        rows[i] = [part.astype(kind) for part in parts]
    file = io.BytesIO()
    scipy.io.savemat(file, {"note": "text", "n": 3.0, "Pd_data": rows}, do_compression=compress)
    (tmp_path / "x.mat").write_bytes(file.getvalue())
    entries, left_out = read_entries(tmp_path / "x.mat")
    for entry in entries:
        row = rows[int(entry.where.split()[-1])]
        np.testing.assert_array_equal(entry.structure.lattice.matrix, row[0])
        np.testing.assert_allclose(
            entry.structure.cart_coords, np.concatenate((row[1], row[3])), atol=1e-12
        )
        assert entry.structure.formula == "H3 Pd2"
    assert len(entries) + len(left_out) == 5
    # whole numbers may put two atoms at one place
    assert len(entries) == 5 or kind in (np.uint8, np.int16)


@pytest.mark.skipif(not AUTHORS_DATA.exists(), reason="no data beside the project")
def test_known_ternary_hydrides_are_read():
    entries = read(AUTHORS_DATA / "known_ternary_hydrides.json")
    assert len(entries) == 75
    assert all("H" in entry.structure.symbol_set and entry.info["material_id"] for entry in entries)


def test_line_ends_and_byte_order_marks_and_gz_change_nothing(tmp_path, palladium):
    structure = palladium.structures[0]
    text = Poscar(structure).get_str(significant_figures=12)
    (tmp_path / "bom.vasp").write_bytes(b"\xef\xbb\xbf" + text.encode())
    (tmp_path / "crlf.vasp").write_bytes(text.replace("\n", "\r\n").encode())
    (tmp_path / "cr.vasp").write_bytes(text.replace("\n", "\r").encode())
    (tmp_path / "POSCAR.gz").write_bytes(gzip.compress(text.encode()))
    entries = read(tmp_path)
    assert len(entries) == 4
    assert all(equal(entry.structure, structure) for entry in entries)


def test_deuterium_is_read_as_hydrogen(tmp_path, palladium):
    structure = palladium.structures[0].copy()
    heavy = structure.copy()
    heavy.replace_species({"H": "D"})
    (tmp_path / "d.vasp").write_text(Poscar(heavy).get_str())
    (tmp_path / "d.cif").write_text(str(CifWriter(heavy, significant_figures=8)))
    (tmp_path / "d.json").write_text(json.dumps(heavy.as_dict()))
    box = " ".join(map(str, structure.lattice.matrix.ravel()))
    atoms = "".join(f"{s.specie.symbol} {s.x} {s.y} {s.z}\n" for s in heavy)
    (tmp_path / "d.xyz").write_text(f'{len(heavy)}\nLattice="{box}"\n{atoms}')
    entries = read(tmp_path)
    assert len(entries) == 4
    for entry in entries:  # the CIF stands in another orientation
        assert entry.structure.composition == structure.composition
        expected, found = (
            np.sort(s.get_neighbor_list(5.0)[3]) for s in (structure, entry.structure)
        )
        np.testing.assert_allclose(found, expected, atol=1e-5)


def mirrored_basis(structure, rng):
    """The same crystal in a left-handed basis."""
    while True:
        basis = rng.integers(-1, 2, (3, 3))
        if (
            round(np.linalg.det(basis)) * np.linalg.det(structure.lattice.matrix) < 0
            and abs(round(np.linalg.det(basis))) == 1
        ):
            break
    return Structure(
        basis @ structure.lattice.matrix,
        [s.specie for s in structure],
        structure.frac_coords @ np.linalg.inv(basis),
    )


def test_left_handed_cells_are_the_same_crystal(tmp_path, palladium):
    rng = np.random.default_rng(3)
    quartz_like = Structure.from_spacegroup(
        154, Lattice.hexagonal(4.9, 5.4), ["Pd", "H"], [[0.47, 0, 0], [0.41, 0.27, 0.12]]
    )
    structures = [*palladium.structures[::3], quartz_like, quartz_like * (2, 1, 1)]
    structures += [
        s
        for s in random_crystals(rng, 60)
        if s.distance_matrix[np.triu_indices(len(s), 1)].min(initial=9) > 0.6
    ]
    matcher = StructureMatcher(scale=False, ltol=1e-3, stol=1e-3, angle_tol=0.1)
    for structure in structures:
        left = mirrored_basis(structure, rng)
        assert np.linalg.det(left.lattice.matrix) < 0
        # pymatgen turns the basis when it writes a POSCAR
        (tmp_path / "left.json").write_text(json.dumps(left.as_dict()))
        (entry,) = read(tmp_path / "left.json")
        # reading changes nothing; encoding does
        assert np.linalg.det(entry.structure.lattice.matrix) < 0
        (made,) = decode(encode([entry.structure], ("H", "Pd", "Ni")))
        assert np.linalg.det(made.lattice.matrix) > 0
        assert matcher.fit(structure, made)
        expected, found = (np.sort(s.get_neighbor_list(5.0)[3]) for s in (structure, made))
        # a cell that was not primitive has every distance that many times
        times = len(structure) // len(made)
        np.testing.assert_allclose(
            expected, np.repeat(found, times), atol=1e-4 if times > 1 else 1e-8
        )
    one, two = (encode([s], ("H", "Pd")) for s in (quartz_like, mirrored_basis(quartz_like, rng)))
    # not the mirror image, of which every distance is the same
    assert abs(one.frac - two.frac).max() < 1e-6
    image = Structure(
        quartz_like.lattice.matrix * [-1, 1, 1], quartz_like.species, quartz_like.frac_coords
    )
    assert abs(one.frac - encode([image], ("H", "Pd")).frac).max() > 0.1


SKEWED = np.array([[4.0, 0, 0], [0.7, 4.2, 0], [0.3, 0.5, 4.4]])
PLACES = np.array([[0, 0, 0], [2.2, 2.3, 2.1], [1.1, 1.0, 2.0], [2.9, 3.1, 0.4]])
BOX = 'Lattice="4.0 0 0 0.7 4.2 0 0.3 0.5 4.4"'


def xyz(comment, names=("Ni", "Ni", "H", "H"), columns="{s} {x} {y} {z}"):
    """An extended XYZ file of one cell whose forces are its positions tenfold."""
    lines = [
        columns.format(s=s, x=x, y=y, z=z, forces=f"{10 * x} {10 * y} {10 * z}")
        for s, (x, y, z) in zip(names, PLACES, strict=True)
    ]
    return "\n".join([str(len(lines)), comment, *lines]) + "\n"


@pytest.mark.parametrize(
    "text",
    [
        xyz(f'{BOX} Properties=species:S:1:pos:R:3 pbc="T T T"'),
        xyz(
            f'{BOX} properties=species:S:1:force:R:3:pos:R:3 pbc="T T T"',
            columns="{s} {forces} {x} {y} {z}",
        ),
        xyz(f"{BOX} PROPERTIES=Pos:R:3:Species:s:1", columns="{x} {y} {z} {s}"),
        xyz(
            f"energy=-1.0 {BOX} stress='1 2 3 4 5 6' Properties=species:S:1:pos:R:3:forces:R:3",
            columns="{s} {x} {y} {z} {forces}",
        ),
        xyz("lattice='4.0 0 0 0.7 4.2 0 0.3 0.5 4.4' PBC=T"),
        xyz("LATTICE={4.0 0 0 0.7 4.2 0 0.3 0.5 4.4}"),
        xyz(f'{BOX} lattice = "4.0 0 0  0.7 4.2 0  0.3 0.5 4.4" comment="it was Lattice=5"'),
        xyz('Lattice="4.0d0 0 0 7.0D-01 4.2 0 0.3 0.5 4.4"').replace(
            "2.2 2.3 2.1", "2.2d0 .23D+1 2.1"
        ),
        xyz(f"{BOX} Properties=symbols:S:1:pos:R:3"),
        xyz(BOX, names=("Ni1", "Ni2", "H3", "H4")),
        xyz(BOX, names=("NI", "NI1", "H", "h")),
        xyz(BOX, names=("Ni2+", "Ni0+", "H-", "H1-")),
        xyz(BOX, names=("ni", "Ni", "D", "T")),
    ],
)
def test_extended_xyz_however_its_comment_is_written(tmp_path, text):
    (tmp_path / "x.xyz").write_text(text)
    (entry,) = read(tmp_path / "x.xyz")
    assert [site.specie.symbol for site in entry.structure] == ["Ni", "Ni", "H", "H"]
    np.testing.assert_allclose(entry.structure.lattice.matrix, SKEWED)
    np.testing.assert_allclose(entry.structure.cart_coords, PLACES, atol=1e-12)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (xyz(f'{BOX} lattice="5 0 0 0 5 0 0 0 5"'), "line 2: says lattice twice and not the same"),
        (
            xyz(f"{BOX} Properties=species:S:1:pos:R:3 properties=species:S:1:force:R:3:pos:R:3"),
            "says properties twice",
        ),
        (
            xyz(f"{BOX} Properties=species:S:1:force:R:3", columns="{s} {forces}"),
            "line 2: Properties must name species:S:1 and pos:R:3",
        ),
        (xyz(f"{BOX} Properties=species:S:1:pos:R:2"), "line 2: Properties must name"),
        (xyz(f"{BOX} Properties=species:S:1:pos:I:3"), "line 2: Properties must name"),
        (
            xyz(f"{BOX} Properties=Z:I:1:pos:R:3"),
            "line 3: an element and its position expected, found 'Ni",
        ),
        (
            xyz(f"{BOX} Properties=Z:I:1:pos:R:3", names=("119", "28", "1", "1")),
            "line 3: an element and its position expected",
        ),
        (xyz(f"{BOX} Properties=species:S:1:pos:R:3:pos:R:3"), "line 2: Properties must name"),
        (
            xyz(f"{BOX} Properties=species:S:1:pos:R:3:forces:R:3"),
            "line 3: 7 columns are announced by Properties, found 4",
        ),
        (
            xyz(f"{BOX} Properties=species:S:1:pos:R:3", columns="{s} {x} {y} {z} {forces}"),
            "line 3: 4 columns are announced",
        ),
        (xyz(f'{BOX} pbc="T T F"'), "no lattice in all three directions"),
        (xyz(f"{BOX} pbc=maybe"), "pbc must be"),
        (xyz("energy=-1"), "line 2: no lattice in all three directions; write the cell as"),
        (xyz("Lattice=[[4,0,0],[0,4,0],[0,0,4]]"), "line 2: Lattice must hold nine numbers"),
        (xyz('Lattice="4 4 4"'), "line 2: Lattice must hold nine numbers"),
        (xyz(BOX, names=("Pd,Ni", "Ni", "H", "H")), "a site shared by Pd and Ni"),
        (xyz(BOX, names=("Ni0.5", "Ni", "H", "H")), "a partly filled site"),
        (xyz(BOX, names=("28", "28", "1", "1")), "holds '28', which is no element"),
        (xyz(BOX, names=("Ni", "Va", "H", "H")), "holds 'Va', which is no element"),
    ],
)
def test_extended_xyz_that_can_mean_two_things_is_refused(tmp_path, text, words):
    (tmp_path / "x.xyz").write_text(text)
    entries, (left_out,) = read_entries(tmp_path / "x.xyz")
    assert not entries
    assert words in left_out.reason


def test_json_says_what_it_leaves(tmp_path, palladium):
    good = palladium.structures[0].as_dict()
    labelled = json.loads(json.dumps(good))
    labelled["sites"][0]["species"][0]["element"] += "1"
    lattice = {k: x for k, x in good.items() if k != "sites"}
    bad = [
        lattice,
        {"structure": None, "id": "mp-2"},
        {"@class": "Molecule", "sites": good["sites"]},
    ]
    (tmp_path / "x.json").write_text(json.dumps([good, *bad, labelled]))
    entries, left_out = read_entries(tmp_path / "x.json")
    assert [entry.where.split("x.json")[1] for entry in entries] == [" entry 1", " entry 5"]
    assert equal(entries[1].structure, palladium.structures[0])
    assert {x.where.split("x.json")[1]: x.reason for x in left_out} == {
        " entry 2": "holds a lattice and no sites",
        " entry 3": "holds no structure",
        " entry 4": "holds sites and no lattice",
    }


def test_extended_xyz_by_atomic_numbers(tmp_path):
    head = 'Lattice="4 0 0 0 4 0 0 0 4" pbc="[True, True, True]" Properties=Z:I:1:pos:R:3'
    (tmp_path / "a.xyz").write_text(f"2\n{head}\n28 0 0 0\n1 2 2 2\n")
    (entry,) = read(tmp_path / "a.xyz")
    assert [site.specie.symbol for site in entry.structure] == ["Ni", "H"]


def test_a_cif_that_was_saved_as_text_is_one(tmp_path, palladium):
    (tmp_path / "a.cif.txt").write_text(
        str(CifWriter(palladium.structures[0], significant_figures=8))
    )
    (tmp_path / "notes.txt").write_text("nothing")
    (entry,) = read(tmp_path)
    assert entry.structure.composition == palladium.structures[0].composition
