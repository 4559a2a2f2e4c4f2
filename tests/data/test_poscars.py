"""POSCARs as VASP 4, 5 and 6 write them: against the crystal that each was written from, and
against ASE where ASE is right."""

import io
import itertools
import shutil
import zipfile

import ase.io
import numpy as np
import pytest
from pymatgen.io.vasp import Poscar

from crystalgan.data.classes import load_class
from crystalgan.data.known import known_structures
from crystalgan.data.readers import read_entries
from crystalgan.errors import InputError
from crystalgan.runs.database import load_candidate
from crystalgan.runs.folder import SHIPPED, Run

LATTICE = np.array([[4.1, 0.2, 0.0], [0.3, 4.4, 0.5], [-0.6, 0.1, 5.2]])  # Å, rows
FRAC = np.array(
    [[0.0, 0.0, 0.0], [0.5, 0.52, 0.47], [0.25, 0.26, 0.75], [0.71, 0.2, 0.3], [0.2, 0.7, 0.31]]
)
SYMBOLS = ["Pd", "Pd", "H", "H", "H"]
SCALES = ("one", "three", "volume")
HEADS = {
    4: ("Pd H", "2 3"),
    5: ("cell", "Pd H\n2 3"),
    6: ("cell", "Pd_pv/1a2b3c4d H/5e6f7a8b\n2 3"),
}


def rows(numbers, behind=""):
    return "".join(" ".join(f"{x:.12f}" for x in row) + behind + "\n" for row in numbers)


def written(
    scale="one",
    mode="Direct",
    selective=False,
    velocities="",
    version=5,
    lattice=LATTICE,
    frac=FRAC,
):
    """A POSCAR of a crystal; `velocities` is nothing, "blank" or "lattice"."""
    factors = {
        "one": np.full(3, 1.07),
        "three": np.array([1.1, 0.9, 1.3]),
        "volume": np.full(3, 1 / 1.7),
    }[scale]
    volume = abs(np.linalg.det(lattice))
    line = {"one": "1.07", "three": "1.1 0.9 1.3", "volume": f"-{volume:.10f}"}[scale]
    comment, kinds = HEADS[version]
    text = f"{comment}\n{line}\n{rows(lattice / factors)}{kinds}\n"
    text += "Selective dynamics\n" if selective else ""
    text += f"{mode}\n" + rows(
        frac if mode == "Direct" else frac @ lattice / factors, " T T F" if selective else ""
    )
    if velocities == "lattice":
        text += f"Lattice velocities and vectors\n  1\n{rows(np.zeros((3, 3)))}{rows(lattice)}"
    return text + ("\n" + rows(0.01 * frac) if velocities else "")


def same(structure, lattice=LATTICE, frac=FRAC, symbols=SYMBOLS):
    """Whether a structure is this crystal, atom by atom."""
    apart = structure.frac_coords - frac
    return (
        [site.specie.symbol for site in structure] == symbols
        and np.allclose(structure.lattice.matrix, lattice, atol=1e-8)
        and np.allclose(apart, np.rint(apart), atol=1e-8)
    )


def read(path):
    entries, left_out = read_entries(path)
    assert not left_out, left_out
    return entries


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("version", HEADS)
def test_every_combination_of_scale_mode_flags_velocities_and_head(tmp_path, scale, version):
    larger = 1.03 * LATTICE
    for mode, selective, velocities in itertools.product(
        ("Direct", "Cartesian"), (False, True), ("", "blank", "lattice")
    ):
        text = written(scale, mode, selective, velocities, version)
        (tmp_path / "x.vasp").write_text(text)
        (entry,) = read(tmp_path / "x.vasp")
        assert same(entry.structure)
        assert any("VASP 4" in remark for remark in entry.remarks) == (version == 4)
        assert any("velocities" in remark for remark in entry.remarks) == bool(velocities)
        by_ase = ase.io.read(io.StringIO(text), format="vasp")
        assert np.allclose(by_ase.cell[:], LATTICE, atol=1e-8)
        assert np.allclose(by_ase.positions, FRAC @ LATTICE, atol=1e-7)
        assert list(by_ase.symbols) == SYMBOLS
        for between in ("", "\n"):
            (tmp_path / "x.vasp").write_text(
                text + between + written(scale, mode, selective, velocities, version, larger)
            )
            first, second = read(tmp_path / "x.vasp")
            assert same(first.structure)
            assert same(second.structure, larger)
            line = len((text + between).splitlines()) + 1
            assert (first.where, second.where) == (
                f"{tmp_path}/x.vasp line 1",
                f"{tmp_path}/x.vasp line {line}",
            )


def altered(*changes, text=None):
    text = text or written()
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new, 1)
    return text


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ([("\n1.07\n", "\n0.107d1\n")], "d"),
        ([("\n1.07\n", "\n.107D+01  ! the scale\n"), ("0.500000000000", "5.0D-01")], "D"),
        ([("\n1.07\n", "\n\t+1.07\t# scale\n"), ("cell\n", "\n")], "blank comment, tabs"),
        (
            [("2 3\n", "2 3 atoms of them\n"), ("Direct", "direct lattice")],
            "words behind the counts",
        ),
        ([("Pd H\n", "Pd H ! elements\n"), ("Direct", "d")], "comment behind the symbols"),
        ([("Pd H\n2 3", "Pd H H\n2 1 2"), ("Direct", "  DIRECT")], "repeated symbols"),
        ([("Pd H\n2 3", "Pd\nH\n2\n3")], "wrapped"),
        ([("Pd H\n", "PD H1\n")], "capitals and a label"),
        ([("Pd H\n", "Pd_pv H_h_GW\n")], "names of POTCARs"),
        ([("Pd H\n", "pd h\n")], "lower case"),
        ([("Direct", "Direct configuration=     1")], "one frame of an XDATCAR"),
        (
            [
                ("\n0.000000000000 0.000000000000 0.000000000000", "\n0 0 0 Pd1 ! at the origin"),
                ("0.470000000000", "0.47 Pd"),
            ],
            "labels",
        ),
        ([("0.750000000000", "0.75 T T F H")], "flags and a label"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_ways_to_write_one_crystal(tmp_path, changes, kind):
    (tmp_path / "x.vasp").write_text(altered(*changes))
    (entry,) = read(tmp_path / "x.vasp")
    assert same(entry.structure), kind


@pytest.mark.parametrize("mode", ["c", "K", "cartesian", "Kartesisch", "Cart", "  Cartesian (Å)"])
def test_cartesian_by_any_word_that_vasp_takes_for_it(tmp_path, mode):
    (tmp_path / "x.vasp").write_text(
        altered(("Cartesian", mode), text=written("volume", "Cartesian"))
    )
    assert same(read(tmp_path / "x.vasp")[0].structure)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            [("Direct", "Fractional")],
            "line 8: Direct or Cartesian expected, found 'Fractional'; write above",
        ),
        ([("Direct", "Crystal")], "line 8: Direct or Cartesian expected"),
        ([("Direct", "")], "line 8: Direct or Cartesian expected"),
        ([("Direct\n", "")], "line 8: Direct or Cartesian expected, found '0.0000"),
        ([("\n1.07\n", "\n1.07 1.0\n")], "line 2: the scale expected, found '1.07 1.0'"),
        ([("\n1.07\n", "\n1 1 1 1\n")], "line 2: the scale expected"),
        ([("\n1.07\n", "\n1.07 bohr\n")], "line 2: the scale expected"),
        ([("\n1.07\n", "\n1 -1 1\n")], "line 2: of three scales none may be -1"),
        ([("\n1.07\n", "\n1,07\n")], "line 2: the scale expected"),
        ([("\n1.07\n", "\n1_0\n")], "line 2: the scale expected"),
        ([("\n1.07\n", "\nnan\n")], "line 2: nan is not finite"),
        ([("0.520000000000", "inf")], "line 10: inf is not finite"),
        ([("0.520000000000", "2*0.5")], "line 10: a position expected"),
        ([("0.520000000000", "1e999")], "line 10: 1e999 is not finite"),
        (
            [("Pd H\n2 3", "Pd H\n2 2")],
            "line 13: more positions follow than the 4 atoms that are announced",
        ),
        (
            [("Pd H\n2 3", "Pd H\n2 4")],
            "cut short at line 13: 6 atoms announced, 5 positions found",
        ),
        ([("Pd H\n2 3", "Pd H\n2 -3")], "line 7: one count for each of 'Pd H' expected"),
        ([("Pd H\n2 3", "Pd H\n5")], "line 7: one count for each of 'Pd H' expected"),
        ([("Pd H\n2 3", "Pd,Ni H\n2 3")], "line 6: has a site shared by Pd and Ni"),
        ([("Pd H\n2 3", "Pd0.95 H\n2 3")], "line 6: has a partly filled site"),
        (
            [("Pd H\n2 3", "2 3")],
            (
                "line 6: names no elements .the format of VASP 4.; write their symbols above the"
                " counts"
            ),
        ),
        ([("cell", "relaxed cell"), ("Pd H\n2 3", "2 3")], "line 6: names no elements"),
        ([("cell", "Pd H Ni"), ("Pd H\n2 3", "2 3")], "line 6: names no elements"),
        ([("cell", "pd h"), ("Pd H\n2 3", "2 3")], "line 6: names no elements"),
        (
            [("0.470000000000", "0.47 Ni")],
            "line 10: is labelled Ni where the head of the file says Pd",
        ),
        (
            [("0.500000000000 0.520000000000 0.470000000000", "0 0 0")],
            r"Pd 1 and Pd 2 \(0 Å apart\); list each atom .* once",
        ),
        (
            [("0.500000000000 0.520000000000 0.470000000000", "1 1 0.9999")],
            r"Pd 1 and Pd 2 \(0.00052 Å apart\); list each",
        ),
        (
            [("0.250000000000 0.260000000000 0.750000000000", "0 0 0")],
            "Pd 1 and H 3 are 0.00 Å apart; a place holds one atom",
        ),
    ],
)
def test_what_can_mean_two_things_is_refused_with_its_line(tmp_path, changes, words):
    (tmp_path / "x.vasp").write_text(altered(*changes))
    entries, (_left_out,) = read_entries(tmp_path / "x.vasp")
    assert not entries
    with pytest.raises(InputError, match=f"x.vasp: .*{words}"):
        load_class(tmp_path / "x.vasp")


def test_copies_on_opposite_faces_are_counted(tmp_path):
    faces = [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 1.5]]
    (tmp_path / "x.vasp").write_text(written(frac=np.array(faces)).replace("2 3", "3 2"))
    _, (left_out,) = read_entries(tmp_path / "x.vasp")
    assert (
        "(0 Å apart, and 3 more such pairs); list each atom of the cell once, without its copies"
        in left_out.reason
    )


def test_a_vasp4_file_takes_its_elements_from_the_first_line_or_from_labels(tmp_path):
    labelled = altered(("Pd H\n2 3", "2 3")).splitlines()
    labelled[7:] = [f"{row} {symbol}" for row, symbol in zip(labelled[7:], SYMBOLS, strict=True)]
    (tmp_path / "x.vasp").write_text("\n".join(labelled))
    (entry,) = read(tmp_path / "x.vasp")
    assert same(entry.structure)
    assert "the labels behind its positions say 2 Pd, 3 H" in entry.remarks[0]
    (tmp_path / "x.vasp").write_text("\n".join(["Pd Ni", *labelled[1:]]))
    _, (left_out,) = read_entries(tmp_path / "x.vasp")
    assert "is labelled H where the head of the file says Ni" in left_out.reason


def gathered(count, **kinds):
    """As USPEX gathers them."""
    cells = [
        altered(
            ("cell", f"EA{i} 4.1 4.2 4.3 90.00 Sym.group: {i}"),
            text=written(lattice=f * LATTICE, **kinds),
        )
        for i, f in grown(count)
    ]
    return "".join(cells)


def grown(count):
    return [(i, 1 + 0.01 * i) for i in range(count)]


def test_a_damaged_one_of_several_is_left_out_with_its_line_and_the_others_are_read(tmp_path):
    texts = [written(lattice=f * LATTICE) for _, f in grown(4)]
    lines = len(texts[0].splitlines())
    damages = {
        ("\n1.07\n", "\nx\n"): f"line {lines + 2}: the scale expected",
        ("2 3\n", "2\n"): f"line {lines + 7}: one count for each",
        ("0.520000000000", "0,52"): f"line {lines + 10}: a position expected",
        (
            "0.200000000000 0.700000000000 0.310000000000\n",
            "",
        ): f"line {2 * lines}: a position expected, found 'cell'",
        ("Direct", "Fractional"): f"line {lines + 8}: Direct or Cartesian expected",
        ("Pd H", "X H"): f"line {lines + 6}: holds 'X', which is no element",
    }
    for change, words in damages.items():
        (tmp_path / "gatheredPOSCARS").write_text(
            "".join([texts[0], altered(change, text=texts[1]), *texts[2:]])
        )
        entries, (left_out,) = read_entries(tmp_path / "gatheredPOSCARS")
        assert [
            same(e.structure, (1 + 0.01 * i) * LATTICE)
            for e, i in zip(entries, (0, 2, 3), strict=True)
        ] == [True] * 3, words
        assert words in left_out.reason
        assert f"gatheredPOSCARS line {lines + 1}" in left_out.where
    for missing, words in (
        (1, "5 atoms announced, 4 positions found"),
        (6, "before the positions"),
        (10, "inside the lattice"),
    ):
        whole = "".join(texts).splitlines(keepends=True)
        (tmp_path / "gatheredPOSCARS").write_text("".join(whole[:-missing]))
        entries, (left_out,) = read_entries(tmp_path / "gatheredPOSCARS")
        assert len(entries) == 3
        assert words in left_out.reason


@pytest.mark.parametrize("velocities", ["", "blank"])
def test_gathered_poscars_are_all_read(tmp_path, velocities):
    (tmp_path / "gatheredPOSCARS_unrelaxed").write_text(gathered(7, velocities=velocities))
    entries = read(tmp_path / "gatheredPOSCARS_unrelaxed")
    assert [
        same(e.structure, f * LATTICE) for e, (_, f) in zip(entries, grown(7), strict=True)
    ] == [True] * 7


def test_blank_comments_between_joined_cells(tmp_path):
    for velocities in ("", "blank"):
        text = altered(("cell\n", "\n"), text=written("three", velocities=velocities))
        (tmp_path / "x.vasp").write_text(text * 3)
        assert [same(e.structure) for e in read(tmp_path / "x.vasp")] == [True] * 3


def test_what_molecular_dynamics_leaves_behind_the_positions(tmp_path):
    thermostat = "\n1\n  0.5E+00\n 0.1E+01 0.0E+00 0.0E+00 0.0E+00\n" + rows(np.ones((15, 3)))
    (tmp_path / "CONTCAR").write_text((written(velocities="blank") + thermostat) * 2)
    assert [same(e.structure) for e in read(tmp_path / "CONTCAR")] == [True] * 2
    # killed while it was written
    (tmp_path / "CONTCAR").write_text(written() + "\n" + rows(0.01 * FRAC[:3]))
    (entry,) = read(tmp_path / "CONTCAR")
    assert "the 3 lines from line 15 on, behind its positions, were not read" in entry.remarks[0]


def xdatcar(kind, count):
    head = altered(text=written()).split("Direct")[0]
    shifted = [FRAC + 0.01 * i for i in range(count)]
    if kind == "fixed":
        return head + "".join(
            f"Direct configuration={i + 1:6}\n{rows(frac)}" for i, frac in enumerate(shifted)
        )
    if kind == "blank":
        return head + "".join(f"\n{rows(frac)}" for frac in shifted)
    return "".join(
        f"{head}Direct configuration={i + 1:6}\n{rows(frac)}" for i, frac in enumerate(shifted)
    )


@pytest.mark.parametrize("kind", ["fixed", "variable", "blank"])
def test_every_frame_of_an_xdatcar_is_read_where_it_is_given_itself(tmp_path, kind):
    for name in ("XDATCAR", "p08_XDATCAR.vasp", "run.vasp"):
        (tmp_path / name).write_text(xdatcar(kind, 4))
        entries = read(tmp_path / name)
        assert [same(e.structure, frac=FRAC + 0.01 * i) for i, e in enumerate(entries)] == [
            True
        ] * 4
        by_ase = ase.io.read(tmp_path / name, ":", format="vasp-xdatcar") if kind != "blank" else []
        assert all(
            np.allclose(a.positions, e.structure.cart_coords)
            for a, e in zip(by_ase, entries, strict=False)
        )
    if kind == "fixed":
        (tmp_path / "run.vasp").write_text(xdatcar(kind, 4).replace("0.270000000000", "x", 1))
        entries, (left_out,) = read_entries(tmp_path / "run.vasp")
        assert len(entries) == 3
        assert "a position expected" in left_out.reason


def test_blank_lines_for_two_frames_may_be_velocities_and_are_refused(tmp_path):
    (tmp_path / "x.vasp").write_text(xdatcar("blank", 2))
    _, (left_out,) = read_entries(tmp_path / "x.vasp")
    assert "Direct or Cartesian expected" in left_out.reason


# of files, and whether they are read as cells, said to be left out, or no files of cells at all
NAMES = {
    "read": (
        "POSCAR CONTCAR POSCAR.1 POSCAR_pd 1.POSCAR a.vasp b.poscar gatheredPOSCARS BEST_POSCARS"
        " POSCAR.relaxed Pd-CONTCAR.txt c.VASP"
    ),
    "said": (
        "POSCAR~ #CONTCAR# POSCAR.bak POSCAR.old POSCAR.orig POSCAR.save POSCAR.tmp a.vasp~"
        " b.vasp.bak POSCAR.~1~ XDATCAR XDATCAR_2"
    ),
    "none": (
        "POSCAR.png POSCAR.pdf make_poscars.py notes_on_POSCAR.md .POSCAR.swp ._POSCAR .DS_Store"
        " Thumbs.db desktop.ini INCAR notes.txt poscar.sh __MACOSX/a.vasp .git/POSCAR"
    ),
}


def test_folders_and_zips_decide_alike_by_the_names_of_files(tmp_path):
    names = {name: kind for kind, text in NAMES.items() for name in text.split()}
    names |= dict.fromkeys(
        ("POSCAR copy", "a - Copy.vasp", "a copy 2.vasp", "POSCAR (copy)", "Copy of POSCAR"), "said"
    )
    folder = tmp_path / "cells"
    with zipfile.ZipFile(tmp_path / "cells.zip", "w") as archive:
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(written())
            archive.writestr(name, written())
    for path in (folder, tmp_path / "cells.zip"):
        entries, left_out = read_entries(path)
        found = {e.where.removeprefix(f"{path}/"): "read" for e in entries}
        found |= {x.where.removeprefix(f"{path}/"): "said" for x in left_out}
        assert names == {name: found.get(name, "none") for name in names}
        assert all(x.harmless for x in left_out)
        assert {x.reason.split(";")[0] for x in left_out if "~" in x.where} >= {
            "is a backup of POSCAR"
        }
        assert next(x.reason for x in left_out if x.where.endswith("XDATCAR")).startswith(
            "is the trajectory of a run (1 frame"
        )
        assert len(load_class(path)) == len(entries)  # nothing of this stops a training


def test_a_backup_that_is_given_itself_is_read(tmp_path):
    (tmp_path / "POSCAR~").write_text(written())
    assert same(read(tmp_path / "POSCAR~")[0].structure)


def test_pymatgens_poscars_are_what_was_written(tmp_path, palladium):
    for i, structure in enumerate(palladium.structures[::5]):
        flags = [[True, False, True]] * len(structure) if i % 2 else None
        text = Poscar(structure, selective_dynamics=flags).get_str(significant_figures=14)
        (tmp_path / "x.vasp").write_text(text)
        (entry,) = read(tmp_path / "x.vasp")
        found = entry.structure
        assert same(
            found,
            structure.lattice.matrix,
            structure.frac_coords,
            [s.specie.symbol for s in structure],
        )


def test_a_runs_own_candidate_as_poscar_with_the_volume_for_a_scale_is_known(tmp_path):
    (shipped,) = (path.parent for path in SHIPPED.glob("*/config.json"))
    run = Run.open(shutil.copytree(shipped, tmp_path / "run"))
    for number in (1, 2, 3):
        cell = load_candidate(run, number)
        order = sorted(range(len(cell)), key=lambda i: cell[i].specie.symbol)
        symbols = [cell[i].specie.symbol for i in order]
        kinds = list(dict.fromkeys(symbols))
        # the rows are written that much larger, which a scale of minus the volume takes back
        factor = 1.7
        text = f"candidate\n-{cell.volume:.10f}\n{rows(cell.lattice.matrix * factor)}{' '.join(kinds)}\n"
        text += (
            " ".join(str(symbols.count(kind)) for kind in kinds)
            + "\nCartesian\n"
            + rows(cell.cart_coords[order] * factor)
        )
        (tmp_path / f"{number}.vasp").write_text(text)
        known = known_structures(run.species, [tmp_path / f"{number}.vasp"])
        assert known.find(cell) == f"{number}.vasp"
        assert known.report().not_compared == ()
