"""Reading classes in every format, the data doctor, and each way in which a file can be wrong."""

import json
import re
import zipfile

import numpy as np
import pytest
import scipy.io
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifWriter
from pymatgen.io.vasp import Poscar

from crystalgan.config import Config
from crystalgan.data.classes import builtin_classes, load_class
from crystalgan.errors import InputError
from crystalgan.runs.training import new_run


def poscar(structure):
    return Poscar(structure).get_str(significant_figures=12)


@pytest.fixture
def folder(tmp_path, palladium):
    """Four cells of Pd-H as POSCAR, CONTCAR, .vasp and CIF."""
    for name, structure in zip(
        ("POSCAR_1", "CONTCAR", "cell.vasp", "cell.cif"), palladium.structures[:4], strict=True
    ):
        text = (
            str(CifWriter(structure, significant_figures=10))
            if name.endswith("cif")
            else poscar(structure)
        )
        (tmp_path / "cells").mkdir(exist_ok=True)
        (tmp_path / "cells" / name).write_text(text)
    return tmp_path / "cells"


def same(a, b):
    return sorted(round(s.volume, 4) for s in a) == sorted(round(s.volume, 4) for s in b)


def test_built_in_classes_say_where_they_are_from():
    assert {"Pd", "Ni", "Mg", "Ti"} <= set(builtin_classes())
    for entry in load_class("Ti").entries:
        assert entry.info["potential"] == "CHGNet"
        assert entry.info["version"].startswith("0.3.0")
        assert entry.info["fmax"] <= 0.03
        assert entry.info["prototype"].startswith("M")
        assert -10 < entry.info["energy_per_atom"] < 0


def test_folder_zip_and_extended_xyz_hold_the_same_cells(folder, tmp_path, palladium):
    expected = palladium.structures[:4]
    assert same(load_class(folder).structures, expected)
    with zipfile.ZipFile(tmp_path / "cells.zip", "w") as archive:
        for file in folder.iterdir():
            archive.write(file, f"inside/{file.name}")
        archive.writestr("README.txt", "not a structure")
    assert same(load_class(tmp_path / "cells.zip").structures, expected)
    import ase.io

    ase.io.write(tmp_path / "cells.extxyz", [s.to_ase_atoms() for s in expected])
    assert same(load_class(tmp_path / "cells.extxyz", "Pd").structures, expected)


def test_mat_files_take_the_metal_slot_that_is_used(tmp_path):
    def table(slot):
        rows = np.empty((2, 4), dtype=object)
        for i in range(2):
            rows[i] = [
                np.eye(3) * (4 + i),
                np.array([[2.0, 2, 2]]),
                np.zeros((18, 3)),
                np.zeros((18, 3)),
            ]
            rows[i][slot] = np.array([[0.0, 0, 0], [2.0, 2, 0]])
        return rows

    for slot in (2, 3):
        scipy.io.savemat(tmp_path / "x.mat", {"Pd_POSCAR_data": table(slot)})
        structures = load_class(tmp_path / "x.mat").structures
        assert [s.formula for s in structures] == ["H1 Pd2", "H1 Pd2"]
        assert load_class(tmp_path / "x.mat", "Ni").metal == "Ni"
        np.testing.assert_allclose(structures[0].get_distance(1, 2), 2 * 2**0.5)


def test_another_shared_element(tmp_path):
    for i in range(2):
        (tmp_path / f"{i}.vasp").write_text(
            poscar(Structure(Lattice.cubic(4 + i), ["Ti", "N"], [[0, 0, 0], [0.5, 0.5, 0.5]]))
        )
    cells = load_class(tmp_path, shared="N").cells()
    assert cells.species == ("N", "Ti")
    with pytest.raises(
        InputError,
        match=r"holds 2 cells of N-Ti \(no H\), where a class holds cells of one metal and H",
    ):
        load_class(tmp_path)


PD_H = Structure(Lattice.cubic(4), ["Pd", "H"], [[0, 0, 0], [0.5, 0.5, 0.5]])
BAD = {
    "cut.vasp": (
        "\n".join(poscar(PD_H).splitlines()[:-1]),
        "cut short at line 9: 2 atoms announced, 1 positions found",
    ),
    "lattice.vasp": (
        "\n".join(poscar(PD_H).splitlines()[:4]),
        "cut short at line 4, inside the lattice",
    ),
    "words.vasp": (
        poscar(PD_H).replace("4.000000000000", "four", 1),
        "line 3: a lattice vector expected",
    ),
    "counts.vasp": (poscar(PD_H).replace("\n1 1\n", "\n1\n"), "line 7: one count for each of"),
    "vasp4.vasp": (
        re.sub(r"(Pd|H)\n", "\n", poscar(PD_H).replace("Pd H\n", "", 1)),
        "line 6: names no elements",
    ),
    "nan.vasp": (poscar(PD_H).replace("0.500000000000", "nan", 1), "not finite|expected"),
    "flat.vasp": (poscar(PD_H).replace("4.000000000000", "0.000000000001", 1), "plane|volume"),
    "element.vasp": (poscar(PD_H).replace("Pd H", "Qq H", 1), "Qq|cannot be read as POSCAR"),
    "binary.vasp": (b"\xff\xfe\x00\x01", "not a text file"),
    "partial.cif": (
        str(CifWriter(Structure(PD_H.lattice, [{"Pd": 0.5, "Ni": 0.5}, "H"], PD_H.frac_coords))),
        "partially occupied site",
    ),
    "broken.cif": ("data_x\n_cell_length_a 4\n", "cannot be read as CIF"),
    "broken.xyz": ("2\nno lattice here\nPd 0 0 0\nH 1 1 1\n", "no lattice"),
    "cut.extxyz": (
        '2\nLattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3 pbc="T T T"\nPd 0 0 0\n',
        "cut short: line 1 announces 2 atoms, 1 follow",
    ),
    "broken.mat": (b"nothing of matlab", "cannot be read as .mat"),
    "nohydrogen.vasp": (
        poscar(Structure(PD_H.lattice, ["Pd", "Pd"], PD_H.frac_coords)),
        "holds no H but only Pd",
    ),
    "metals.vasp": (
        poscar(
            Structure(PD_H.lattice, ["Pd", "Ni", "H"], [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0.5, 0.5]])
        ),
        r"holds 2 other elements \(Ni, Pd\)",
    ),
    "hydrogen.vasp": (
        poscar(Structure(PD_H.lattice, ["H", "H"], PD_H.frac_coords)),
        "holds only H",
    ),
    "other.vasp": (
        poscar(Structure(PD_H.lattice, ["Ti", "H"], PD_H.frac_coords)),
        "compound of Ti, not of Pd",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_named_and_good_ones_beside_it_are_read(folder, name):
    content, words = BAD[name]
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=words) as error:
        load_class(folder, "Pd")
    assert name in str(error.value)
    assert len(str(error.value).splitlines()) == 1
    kept = load_class(folder, "Pd", skip_bad=True)
    assert len(kept) == 4
    assert [name in left_out.where for left_out in kept.left_out] == [True]


@pytest.mark.parametrize(
    ("cells", "metal", "words"),
    [
        (
            [["Pd", "Ni", "H"]] * 3,
            "Pd",
            r"holds 3 cells of H-Ni-Pd \(2 metals\), where a class holds cells of Pd and H",
        ),
        (
            [["Pd", "Pd", "N"]] * 2,
            None,
            r"holds 2 cells of N-Pd \(no H\), where a class holds cells of one metal and H",
        ),
        (
            [["Pd", "H", "H"]] * 2 + [["Ni", "H", "H"]],
            None,
            "holds 2 cells of H-Pd and 1 cell of H-Ni, where a class holds cells of one",
        ),
        (
            [["Pd", "H", "H"]] * 2,
            "Ni",
            r"holds 2 cells of H-Pd \(not of Ni\), where a class holds cells of Ni and H",
        ),
        (
            [["H", "H", "H"], ["Pd", "Pd", "Pd"]],
            None,
            r"1 cell of H \(H alone\) and 1 cell of Pd \(no H\)",
        ),
    ],
)
def test_a_class_that_is_no_binary_says_what_it_holds(tmp_path, cells, metal, words):
    for i, symbols in enumerate(cells):
        structure = Structure(
            Lattice.cubic(4), symbols, [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0.5, 0.5]]
        )
        (tmp_path / f"{i}.vasp").write_text(poscar(structure))
    with pytest.raises(InputError, match=words) as error:
        load_class(tmp_path, metal)
    assert str(error.value).startswith(f"{tmp_path}: ")
    assert len(str(error.value).splitlines()) == 1


def test_a_pair_of_one_metal_says_so(tmp_path, palladium):
    for second in ("Pd", palladium):
        with pytest.raises(
            InputError, match="Both classes are of Pd; a ternary needs two different metals"
        ):
            new_run("Pd", second, Config(), tmp_path)
    assert not list(tmp_path.iterdir())


def write_zip(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: (p / "empty").mkdir() or p / "empty", "this folder is empty"),
        (lambda p: write_zip(p / "x.zip", {"../x.vasp": poscar(PD_H)}), "leads out of the archive"),
        (
            lambda p: write_zip(p / "x.zip", {"/etc/x.vasp": poscar(PD_H)}),
            "leads out of the archive",
        ),
        (lambda p: write_zip(p / "x.zip", {"note": "nothing"}), "holds no cells"),
        (lambda p: (p / "x.zip").write_bytes(b"PK nothing") and p / "x.zip", "not a zip file"),
        (
            lambda p: (p / "one.vasp").write_text(poscar(PD_H)) and p / "one.vasp",
            "only 1 cell of Pd-H",
        ),
        (lambda p: (p / "x.pdf").write_text("x") and p / "x.pdf", "not a format that can be read"),
        (lambda p: p / "absent", "neither a chemical element nor an existing path"),
        (lambda _: "Xx", "neither a chemical element nor an existing path"),
        (lambda _: "Og", "no built-in class of this metal"),
    ],
)
def test_a_source_without_a_class_says_what_to_do(tmp_path, make, words):
    source = make(tmp_path)
    with pytest.raises(InputError, match=words) as error:
        load_class(source)
    assert str(source).split("/")[-1] in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_a_zip_that_unpacks_to_too_much_is_not_unpacked(tmp_path):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(6):
            archive.writestr(f"{i}.vasp", bytes(100_000_000))
    with pytest.raises(InputError, match="unpacks to 6 files and 600 MB"):
        load_class(path)


def test_config_round_trip_and_unknown_names():
    for config in (Config(), Config.paper(width=64)):
        assert Config.of(json.loads(config.to_json())) == config
    with pytest.raises(
        InputError, match=r"no setting 'lerning_rate'; did you mean learning_rate\?"
    ):
        Config.of({"lerning_rate": 1})
    with pytest.raises(InputError, match="width='wide' must be a whole number"):
        Config.of({"width": "wide"})
    with pytest.raises(InputError, match="method='vae' is not one of crystalgan"):
        Config.of({"method": "vae"})
    with pytest.raises(InputError, match="batch=0 must be at least 1"):
        Config(batch=0)
    with pytest.raises(InputError, match="finite"):
        Config(learning_rate=float("nan"))
    assert Config.of({"residual": "false", "width": "64", "margin": "0.1"}) == Config(
        residual=False, width=64, margin=0.1
    )


def test_reading_a_file_in_memory_never_touches_the_disk(tmp_path, palladium, monkeypatch):
    path = write_zip(
        tmp_path / "x.zip",
        {"a.vasp": poscar(palladium.structures[0]), "b.vasp": poscar(palladium.structures[1])},
    )
    monkeypatch.setattr(zipfile.ZipFile, "extractall", None)
    monkeypatch.setattr(zipfile.ZipFile, "extract", None)
    assert len(load_class(path)) == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.zip"]
