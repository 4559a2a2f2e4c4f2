"""VASP inputs: which POTCARs are named, in which order, and with which smearing; facts by hand and
from VASP's own lists."""

import bz2
import csv
import io
import json
import zipfile
from pathlib import Path

import pymatgen.io.vasp
import pytest
from pymatgen.core import Lattice, Structure
from pymatgen.io.vasp import Incar
from pymatgen.io.vasp.sets import MPRelaxSet

from crystalgan.errors import InputError
from crystalgan.runs.folder import SHIPPED, Run
from crystalgan.stability.export import export
from crystalgan.stability.vasp import OTHER_NAMES, SMEARING, inputs


def cell(*symbols: str) -> Structure:
    """A large cube of these atoms, in this order."""
    place = [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    return Structure(Lattice.cubic(6), symbols, place[: len(symbols)])


def named(texts: dict[str, str]) -> list[str]:
    return [line for line in texts["POTCAR.names"].splitlines() if not line.startswith("#")]


@pytest.mark.parametrize(
    ("symbols", "names"),
    [
        ("W H", ["W_sv", "H"]),  # W_pv is of PBE and PBE_52
        ("Yb H", ["Yb_3", "H"]),
        ("Ra H", ["Ra_sv", "H"]),  # MPRelaxSet names none
        ("Pd Ni H", ["Ni_pv", "Pd", "H"]),
        ("Mg Ti H", ["Mg_pv", "Ti_pv", "H"]),
        ("H Pd Ni H", ["Ni_pv", "Pd", "H"]),  # interleaved in the cell
    ],
)
def test_names_are_of_one_family_and_in_the_order_of_the_poscar(symbols, names):
    texts = inputs(cell(*symbols.split()), "title")
    assert sorted(named(texts)) == sorted(names)
    assert "PBE_54" in texts["POTCAR.names"].splitlines()[0]
    assert ("Yb_2" in texts["POTCAR.names"]) == ("Yb" in symbols)
    title, *_, species, counts, _ = texts["POSCAR"].splitlines()[:8]
    assert title == "title"
    assert [name.partition("_")[0] for name in named(texts)] == species.split()
    assert len(set(species.split())) == len(species.split())
    assert [symbols.split().count(symbol) for symbol in species.split()] == [
        int(n) for n in counts.split()
    ]


def test_every_name_is_in_vasps_list_of_the_family():
    """The list of all POTCARs that pymatgen identifies files by."""
    path = Path(pymatgen.io.vasp.__file__).parent / "potcar-summary-stats.json.bz2"
    titles = json.loads(bz2.decompress(path.read_bytes()))
    of_54 = " ".join(titles["PBE_54"])
    names = MPRelaxSet.CONFIG["POTCAR"] | OTHER_NAMES
    assert {symbol for symbol, name in names.items() if f"PAW_PBE{name}" not in of_54} == set()
    assert "PAW_PBEW_pv" not in of_54
    assert all("PAW_PBEW_pv" in " ".join(titles[family]) for family in ("PBE", "PBE_52"))


@pytest.mark.parametrize(
    ("smearing", "ismear", "sigma"), [("gaussian", 0, 0.05), ("metal", 1, 0.2), ("mp", -5, 0.05)]
)
def test_smearing_is_what_was_chosen_and_said(smearing, ismear, sigma):
    text = inputs(
        Structure(Lattice.cubic(3.9), ["Pd", "H"], [[0, 0, 0], [0.5, 0.5, 0.5]]), "x", smearing
    )["INCAR"]
    incar = Incar.from_str(text)
    assert (incar["ISMEAR"], incar["SIGMA"]) == (ismear, sigma)
    assert (incar["ISIF"], incar["IBRION"], incar["ENCUT"]) == (3, 2, 520)  # MPRelaxSet's
    assert text.startswith(f"# {SMEARING[smearing][1]}\n")
    assert ("wrong" in text) == (smearing == "mp")


def test_too_few_points_for_tetrahedra_are_said():
    text = inputs(
        Structure(Lattice.cubic(25), ["Pd", "H"], [[0, 0, 0], [0.5, 0.5, 0.5]]), "x", "mp"
    )["INCAR"]
    assert Incar.from_str(text)["ISMEAR"] == 0
    assert "ISMEAR is 0: the tetrahedron method needs more k-points" in text


def test_what_cannot_be_named_or_chosen_is_a_sentence():
    with pytest.raises(InputError, match="there is no POTCAR of Es in PBE_54"):
        inputs(cell("Es", "H"), "x")
    with pytest.raises(InputError, match="'wet' is not one of gaussian, metal, mp"):
        inputs(cell("Pd", "H"), "x", "wet")


def test_the_zip_says_which_cell_which_potcars_and_which_smearing(tmp_path):
    run = Run(SHIPPED / "Pd-Ni-H_shipped")
    out = tmp_path / "out.zip"
    assert export(run, out, "2,3", None, "vasp", "conventional", "metal") == 2
    with zipfile.ZipFile(out) as archive:
        texts = {name: archive.read(name).decode() for name in archive.namelist()}
    folder = "Ni4PdH3_00002"
    assert set(texts) >= {
        f"{folder}/{name}" for name in ("POSCAR", "INCAR", "KPOINTS", "POTCAR.names")
    } | {"README.txt"}
    assert texts[f"{folder}/POSCAR"].startswith(
        "Ni4PdH3 id=2 run=Pd-Ni-H_shipped seed=0 cell=conventional spacegroup=Cm within=0.1\n"
    )
    for words in ("PBE_54", "potpaw_PBE.54", "W_pv", "Yb_2", "ISMEAR 1, SIGMA 0.2", "> POTCAR"):
        assert words in texts["README.txt"]
    line = next(csv.DictReader(io.StringIO(texts["candidates.csv"])))
    assert (line["file"], line["cell"], line["atoms"]) == (
        folder,
        "conventional, Cm within 0.1 Å",
        "8",
    )
    assert line["atoms_in_file"] == "16"
    about = json.loads(texts["provenance.json"])["candidates"][0]
    assert (about["cell"], about["spacegroup"], about["within"]) == ("conventional", "Cm", 0.1)
    for words, options in (
        ("cell 'cubic'", {"cell": "cubic"}),
        ("smearing 'wet'", {"smearing": "wet"}),
    ):
        with pytest.raises(InputError, match=f"The {words} is not one of"):
            export(run, out, "2", **options)


def test_the_way_to_a_potcar_that_is_described_works(tmp_path, small_potcars):
    """Done as the README says, with files that stand for POTCARs."""
    import subprocess

    run = Run(SHIPPED / "Pd-Ni-H_shipped")
    export(run, tmp_path / "out.zip", "2", None, "vasp")
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        archive.extractall(tmp_path)
    command = next(
        line
        for line in (tmp_path / "README.txt").read_text().splitlines()
        if line.endswith("> POTCAR")
    )
    folder = tmp_path / "Ni4PdH3_00002"
    subprocess.run(
        ["bash", "-c", command],
        check=True,
        cwd=folder,
        env={"POTPAW": str(small_potcars), "PATH": "/usr/bin:/bin"},
    )
    order = (folder / "POSCAR").read_text().splitlines()[5].split()
    assert (folder / "POTCAR").read_text().split() == order


@pytest.fixture
def small_potcars(tmp_path):
    for name in ("Ni_pv", "Pd", "H"):
        (tmp_path / "potpaw" / name).mkdir(parents=True)
        (tmp_path / "potpaw" / name / "POTCAR").write_text(f"{name.partition('_')[0]}\n")
    return tmp_path / "potpaw"
