"""CIFs whose symmetry, elements or digits can be taken in two ways: the right crystal, or a
sentence that says what to write."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest

from crystalgan.data.cif.reader import read_cif
from crystalgan.data.files import Unreadable
from crystalgan.data.formats.source import Source

CUBE = "4.09 4.09 4.09 90 90 90"
HEXAGONAL = "3.2 3.2 5.1 90 90 120"
CELL_NAMES = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
ROCKSALT = "Pd1 0 0 0\nH1 0.5 0.5 0.5"
EIGHT = (
    "Pd1 0 0 0\nPd2 0 .5 .5\nPd3 .5 0 .5\nPd4 .5 .5 0\n"  # all atoms of the cube
    "H1 .5 .5 .5\nH2 .5 0 0\nH3 0 .5 0\nH4 0 0 .5"
)
TYPES = "_atom_site_label\n_atom_site_type_symbol"
TI2H = "Ti1 0.5 0.5 0.5\nH1 0.125 0.125 0.125"


def named(symbol, *more):
    return "\n".join([f"_symmetry_space_group_name_H-M '{symbol}'", *more])


def number(n):
    return f"_symmetry_Int_Tables_number {n}"


def cif(cell, head="", sites=ROCKSALT, operations=(), columns="_atom_site_label"):
    lines = [
        "data_x",
        head,
        *(f"_cell_{k} {x}" for k, x in zip(CELL_NAMES, cell.split(), strict=True)),
    ]
    lines += (
        ["loop_", "_symmetry_equiv_pos_as_xyz", *(f"'{o}'" for o in operations)]
        if operations
        else []
    )
    lines += ["loop_", columns, *(f"_atom_site_fract_{axis}" for axis in "xyz"), sites]
    return "\n".join(lines) + "\n"


def read(text):
    ((_, build, info),) = read_cif(Source(text.encode(), None, "H"))
    return build(), info["remarks"]


def shortest(structure):
    """Shortest distances by pair of elements, Å, over 27 cells: arithmetic, and enough in the cells
    here."""
    steps = np.array(list(itertools.product((-1, 0, 1), repeat=3)))
    found = {}
    for i, a in enumerate(structure):
        for j, b in enumerate(structure):
            apart = np.linalg.norm(
                (b.frac_coords - a.frac_coords + steps) @ structure.lattice.matrix, axis=1
            )
            nearest = apart[apart > 1e-3].min() if i == j else apart.min()
            pair = "-".join(sorted((a.specie.symbol, b.specie.symbol)))
            found[pair] = min(found.get(pair, 99.0), nearest)
    return found


def contents(structure):
    return {str(symbol): int(count) for symbol, count in structure.composition.items()}


GENERAL = "Ni1 0.12 0.23 0.31\nH1 0.35 0.11 0.05\nH2 0.71 0.42 0.27"
A = 4.09
RIGHT = {  # text -> atoms in the cell, and distances by hand or from spglib's table
    "short symbol beside its number": (
        cif("5 6 7 90 105 90", named("P 21/n", number(14)), GENERAL),
        {"Ni": 4, "H": 8},
        {"H-Ni": 2.299, "H-H": 1.911, "Ni-Ni": 3.458},
    ),
    "the same with axis c": (cif("6 7 5 90 90 105", named("P 21/n"), GENERAL), {"Ni": 4, "H": 8}, {}),
    "body-centred monoclinic": (cif("5 6 7 90 105 90", named("I 2/m", number(12)), GENERAL), {"Ni": 8, "H": 16}, {}),
    "before 1992": (cif("5 6 7 90 90 90", named("B b c m", number(64)), "Ni1 0 0 0\nH1 0.1 0.3 0"), {"Ni": 4, "H": 8}, {}),
    "before the bar": (cif(CUBE, named("F m 3 m")), {"Pd": 4, "H": 4}, {"H-Pd": A / 2, "H-H": A / 2**0.5}),
    "capitals": (cif(CUBE, named("FM-3M")), {"Pd": 4, "H": 4}, {"H-Pd": A / 2}),
    "SHELX": (cif("5 6 7 90 105 90", named("P2(1)/c"), GENERAL), {"Ni": 4, "H": 8}, {}),
    "rhombohedral axes": (
        cif("4.4 4.4 4.4 58 58 58", named("R -3 m :R", number(166)), "Ni1 0 0 0\nH1 0.5 0.5 0.5"),
        {"Ni": 1, "H": 1},
        # half the long diagonal, or half an edge from the next cell
        {"H-Ni": 4.4 * np.sqrt(min(3 + 6 * np.cos(np.radians(58)), 3 - 2 * np.cos(np.radians(58)))) / 2},
    ),
    "rhombohedral by its metric": (
        cif("4.4 4.4 4.4 58 58 58", named("R -3 m"), "Ni1 0 0 0\nH1 0.5 0.5 0.5"),
        {"Ni": 1, "H": 1},
        {"H-Ni": 3.064},
    ),
    "hexagonal by its metric": (cif("3.2 3.2 15 90 90 120", named("R -3 m"), "Ni1 0 0 0\nH1 0 0 0.5"), {"Ni": 3, "H": 3}, {}),
    "second origin": (
        cif("7 7 7 90 90 90", named("F d -3 m :2", number(227)), TI2H),
        {"Ti": 16, "H": 8},
        {"Ti-Ti": 7 / 8**0.5, "H-Ti": 7 * 11**0.5 / 8, "H-H": 7 * 3**0.5 / 4},
    ),
    "the ICSD's letter": (cif("7 7 7 90 90 90", named("F d -3 m Z"), TI2H), {"Ti": 16, "H": 8}, {"Ti-Ti": 7 / 8**0.5}),
    "coordinate system": (
        cif("7 7 7 90 90 90", named("F d -3 m", "_space_group_IT_coordinate_system_code 2"), TI2H),
        {"Ti": 16, "H": 8},
        {"Ti-Ti": 7 / 8**0.5},
    ),
    "origin by formula and Z": (
        cif("7 7 7 90 90 90", named("F d -3 m", "_chemical_formula_sum 'H Ti2'", "_cell_formula_units_Z 8"), TI2H),
        {"Ti": 16, "H": 8},
        {"Ti-Ti": 7 / 8**0.5},
    ),
    "origin by special positions": (
        cif("4.5 4.5 9.5 90 90 90", named("I 41/a m d"), "Ti1 0 0.75 0.125\nH1 0 0.75 0.325"),
        {"Ti": 4, "H": 8},
        {"H-Ti": 1.9, "Ti-Ti": 3.272, "H-H": 2.663},
    ),
    "Hall symbol alone": (cif(CUBE, "_space_group_name_Hall '-F 4 2 3'"), {"Pd": 4, "H": 4}, {"H-Pd": A / 2}),
    "Schoenflies symbol alone": (cif(CUBE, "_space_group_name_Schoenflies 'Oh^5'"), {"Pd": 4, "H": 4}, {"H-Pd": A / 2}),
    "names with dots and capitals": (cif(CUBE, "_Space_Group.name_H-M_alt 'F m -3 m'"), {"Pd": 4, "H": 4}, {"H-Pd": A / 2}),
    "all atoms, x,y,z and the name of their group": (
        cif(CUBE, named("F m -3 m"), EIGHT, ["x,y,z"]),
        {"Pd": 4, "H": 4},
        {"H-Pd": A / 2},
    ),
    "all atoms and only the name of their group": (cif(CUBE, named("F m -3 m"), EIGHT), {"Pd": 4, "H": 4}, {"H-Pd": A / 2}),
    "operations of another setting than its symbol's": (
        cif(
            "5 6 7 90 105 90",
            named("P 21/c", number(14)),
            GENERAL,
            ["x,y,z", "-x+1/2,y+1/2,-z+1/2", "-x,-y,-z", "x+1/2,-y+1/2,z+1/2"],
        ),
        {"Ni": 4, "H": 8},
        {"H-Ni": 2.299, "H-H": 1.911},
    ),
    "thirds of two digits": (
        cif(HEXAGONAL, named("P 63/m m c"), "Mg1 .33 .67 .25\nH1 .33 .67 .62"),
        {"Mg": 2, "H": 4},
        {"H-Mg": 0.37 * 5.1},
    ),
    "thirds of three digits": (
        cif(HEXAGONAL, named("P 63/m m c"), "Mg1 0.333 0.667 0.25\nH1 0.333 0.667 0.62"),
        {"Mg": 2, "H": 4},
        {"H-Mg": 0.37 * 5.1},
    ),
    "thirds as fractions": (cif(HEXAGONAL, named("P 63/m m c"), "Mg1 1/3 2/3 1/4\nH1 1/3 2/3 .62"), {"Mg": 2, "H": 4}, {}),
    "a thousandth off": (
        cif("4.45 4.45 4.45 90 90 90", named("F m -3 m"), "Ti1 0 0 0.001\nH1 0.251 0.25 0.249"),
        {"Ti": 4, "H": 8},
        {"H-Ti": 4.45 * 3**0.5 / 4, "H-H": 4.45 / 2},
    ),
    "types in capitals": (
        cif("3.72 3.72 3.72 90 90 90", named("F m -3 m"), "NI1 NI 0 0 0\nH1 H .5 .5 .5", (), TYPES),
        {"Ni": 4, "H": 4},
        {"H-Ni": 1.86},
    ),
    "HF in capitals beside H": (
        cif("4.7 4.7 4.7 90 90 90", named("F m -3 m"), "HF1 HF 0 0 0\nH1 H .25 .25 .25", (), TYPES),
        {"Hf": 4, "H": 8},
        {"H-Hf": 4.7 * 3**0.5 / 4},
    ),
    "a text that looks like a block": (
        cif(
            "4.517 4.517 3.020 90 90 90",
            named("P 42/m n m", "_exptl_special_details", ";", "Powder.", "data_collection was done at 10 K.", "loop_", ";"),
            "Mg1 0 0 0\nH1 .304 .304 0",
        ),
        {"Mg": 2, "H": 4},
        {"H-Mg": 0.304 * 4.517 * 2**0.5},
    ),
    "standard axes of a second origin": (
        cif("7 8 9 90 90 90", named("C c c e :2"), "Ti1 0 0 0\nH1 .12 .23 .31"),
        {"Ti": 8, "H": 16},
        {},
    ),
    "the ICSD's letter without a blank": (cif("7 7 7 90 90 90", named("Fd-3mZ"), TI2H), {"Ti": 16, "H": 8}, {}),
    "uncertain amounts in the formula": (
        cif(CUBE, named("F m -3 m", "_chemical_formula_sum 'H1.00(2) Pd'")),
        {"Pd": 4, "H": 4},
        {},
    ),
    "an atom outside of a list": (
        "data_x\n" + "".join(f"_cell_{k} {x}\n" for k, x in zip(CELL_NAMES, CUBE.split(), strict=True))
        + "_atom_site_label H1\n_atom_site_fract_x 0\n_atom_site_fract_y 0\n_atom_site_fract_z 0\n",
        {"H": 1},
        {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", RIGHT)
def test_the_right_crystal_is_read(case):
    text, atoms, distances = RIGHT[case]
    structure, _ = read(text)
    assert contents(structure) == atoms
    found = shortest(structure)
    assert {pair: found[pair] for pair in distances} == pytest.approx(distances, abs=1e-3)


PD4H4 = ("_chemical_formula_sum 'H Pd'", "_cell_formula_units_Z 4")
REFUSED = {  # text -> what its sentence must hold
    "a symbol of no table beside its number": (
        cif("4 4 6 90 90 90", named("F 4/m m m", number(139))),
        "no table has; write",
    ),
    "a number of no group": (cif(CUBE, number(231)), "there are 1 to 230"),
    "symbol and number of two groups": (
        cif(CUBE, named("F m -3 m", number(221))),
        "contradict each other",
    ),
    "two symbols": (
        cif(CUBE, named("F m -3 m", "_space_group_name_H-M_alt 'P m -3 m'")),
        "contradict each other",
    ),
    "symbol and Hall symbol of two groups": (
        cif(CUBE, named("P m -3 m", "_space_group_name_Hall '-F 4 2 3'")),
        "contradict",
    ),
    "a Hall symbol of no table": (
        cif(CUBE, "_space_group_name_Hall '-F 4 2 9'"),
        "none of the 530; list",
    ),
    "a symbol without quotes": (
        cif(CUBE, "_symmetry_space_group_name_H-M F m -3 m"),
        "put quotes around",
    ),
    "a choice that the group does not have": (
        cif(CUBE, named("F m -3 m :2")),
        "whose choice '2' no table has",
    ),
    "operations that its lattice does not have": (
        cif(CUBE, named("P 63/m m c")),
        "do not keep its lattice",
    ),
    "hexagonal axes for a rhombohedron": (
        cif("4.4 4.4 4.4 58 58 58", named("R -3 m :H")),
        "do not keep its lattice",
    ),
    "cubic at 90.3 degrees": (
        cif("4.09 4.09 4.09 90 90 90.3", named("F m -3 m")),
        "do not keep its lattice",
    ),
    "two origins": (
        cif("7 7 7 90 90 90", named("F d -3 m"), TI2H),
        "write 'F d -3 m :1' or 'F d -3 m :2'",
    ),
    "three axes": (
        cif("5 6 7 90 90 90", named("P 21/n"), GENERAL),
        "write 'P 1 21/n 1' or 'P 1 1 21/n'",
    ),
    "Z says four times as much": (
        cif(CUBE, named("F m -3 m", number(225), *PD4H4), ROCKSALT, ["x,y,z"]),
        "only x,y,z but names",
    ),
    "the same without a name": (
        cif(CUBE, "\n".join(PD4H4), ROCKSALT, ["x,y,z"]),
        "H Pd where .* Z 4 announce H4 Pd4",
    ),
    "x,y,z alone, by the density": (
        cif(CUBE, "_exptl_crystal_density_diffrn 10.43", ROCKSALT, ["x,y,z"]),
        "g/cm³ where it says 10",
    ),
    "x,y,z alone beside a higher group": (
        cif(CUBE, named("F m -3 m"), ROCKSALT, ["x,y,z"]),
        "list all operations of that group",
    ),
    "x,y,z alone beside an unknown group": (
        cif(CUBE, named("C -1"), ROCKSALT, ["x,y,z"]),
        "its list of atoms may not be whole",
    ),
    "operations without their centring": (
        cif(
            CUBE,
            named("I m m m"),
            ROCKSALT,
            [f"{a}x,{b}y,{c}z" for a in ("", "-") for b in ("", "-") for c in ("", "-")],
        ),
        "lists 8 symmetry operations but names",
    ),
    "operations that are no group": (
        cif(CUBE, "", ROCKSALT, ["x,y,z", "-y,x,z"]),
        "that are no group",
    ),
    "operations of another lattice": (
        cif(HEXAGONAL, "", ROCKSALT, ["x,y,z", "-x,-y,z", "-y,x,z", "y,-x,z"]),
        "-y,x,z, which does not",
    ),
    "multiplicities of another cell": (
        cif(
            CUBE,
            "",
            "Pd1 4 0 0 0\nH1 4 .5 .5 .5",
            ["x,y,z"],
            "_atom_site_label\n_atom_site_symmetry_multiplicity",
        ),
        "multiplicity 4, and its symmetry makes 1",
    ),
    "a volume of another cell": (
        cif(CUBE, named("F m -3 m", "_cell_volume 136.8")),
        "lengths and angles make 68.4",
    ),
    "a length twice": (cif(CUBE, "_cell_length_a 5"), "gives _cell_length_a twice"),
    "a decimal comma": (
        cif(CUBE, named("F m -3 m"), "Pd1 0,0 0 0\nH1 .5 .5 .5"),
        "a number expected",
    ),
    "a third of one digit": (
        cif(HEXAGONAL, named("P 63/m m c"), "Mg1 .3 .7 .25\nH1 .33 .67 .62"),
        "Mg1 and its image .* four digits",
    ),
    "an atom twice": (
        cif(CUBE, named("F m -3 m"), f"Pd2 0 0 0\n{ROCKSALT}"),
        "list each atom once",
    ),
    "two elements at one place": (
        cif(CUBE, named("F m -3 m"), f"Ni1 0 0 0\n{ROCKSALT}"),
        "make an ordered cell of it first",
    ),
    "a name where nobody looks for it": (
        cif(CUBE, "_space_group_name_H-M_ref 'F m -3 m'"),
        "says something of its symmetry",
    ),
    "a crystal system alone": (
        cif(CUBE, "_symmetry_cell_setting cubic"),
        "says something of its symmetry",
    ),
    "operations where nobody looks for them": (
        cif(CUBE, "loop_\n_symmetry_equiv_pos_xyz\n'x,y,z'\n'-x,-y,-z'"),
        "says something of its symmetry",
    ),
    "letters of Wyckoff alone": (
        cif(
            CUBE,
            "",
            "Pd1 a 0 0 0\nH1 b .5 .5 .5",
            (),
            "_atom_site_label\n_atom_site_Wyckoff_symbol",
        ),
        "says something of its symmetry",
    ),
    "Z that cannot be": (cif(CUBE, named("P m -3 m", "_cell_formula_units_Z 4")), "not Z 4 units"),
    "less hydrogen in the formula": (
        cif(CUBE, named("F m -3 m", "_chemical_formula_sum 'Pd H0.7(1)'")),
        "where its formula is",
    ),
    "a dummy": (
        cif(
            CUBE,
            named("F m -3 m"),
            "Pd1 . 0 0 0\nH1 dum .5 .5 .5",
            (),
            "_atom_site_label\n_atom_site_calc_flag",
        ),
        "lists dummy atoms",
    ),
    "a shared site of one type": (
        cif(CUBE, named("F m -3 m"), "Mg/Ti Mg 0 0 0\nH1 H .5 .5 .5", (), TYPES),
        "shared by Mg and Ti",
    ),
    "a superspace group": (cif(CUBE, "_space_group_ssg_name 'P 1(abc)'"), "magnetic or modulated"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_two_meanings_are_refused(case):
    text, words = REFUSED[case]
    with pytest.raises(Unreadable) as refused:
        read(text)
    assert re.search(words, str(refused.value))


@pytest.mark.parametrize(
    "label",
    [
        "Pd,Ni",
        "Pd/Ni",
        "Pd0.5Ni0.5",
        "'0.5Pd + 0.5Ni'",
        "'Pd Ni'",
        "(Pd,Ni)",
        "Pd0.95",
        "'Pd, Ni'",
        "Pd:Ni",
        "NiPd",
    ],
)
@pytest.mark.parametrize("column", ["_atom_site_label", "_atom_site_type_symbol"])
def test_shared_sites_are_refused(label, column):
    with pytest.raises(Unreadable, match=r"shared by|partly filled"):
        read(cif(CUBE, named("F m -3 m"), f"{label} 0 0 0\nH1 .5 .5 .5", (), column))


def test_what_was_read_otherwise_than_written_is_said():
    """Moved atoms with the distance, atoms that symmetry repeats, settings that were concluded; and
    nothing else."""
    _, remarks = read(RIGHT["a thousandth off"][0])
    assert remarks == ["Ti1, H1: up to 0.006 Å off a special position, and put there."]
    _, remarks = read(RIGHT["all atoms and only the name of their group"][0])
    assert len(remarks) == 1
    assert "Pd2 of Pd1" in remarks[0]
    assert "'I 41/a m d :2' is read" in read(RIGHT["origin by special positions"][0])[1][0]
    assert "number 166 alone" in read(cif("4.4 4.4 4.4 58 58 58", number(166)))[1][0]
    assert read(cif(CUBE))[1] == ["It names no space group and lists no operations: P 1 is read."]
    assert (
        "PdHx cannot be read"
        in read(cif(CUBE, named("F m -3 m", "_chemical_formula_sum PdHx")))[1][0]
    )
    counted = "Pd1 8 0 0 0\nH1 4 .5 .5 .5"
    columns = "_atom_site_label\n_atom_site_symmetry_multiplicity"
    assert (
        "multiplicity 8 where"
        in read(cif(CUBE, named("F m -3 m", *PD4H4), counted, (), columns))[1][0]
    )
    for case in (
        "short symbol beside its number",
        "rhombohedral axes",
        "second origin",
        "thirds as fractions",
        "Hall symbol alone",
    ):
        assert read(RIGHT[case][0])[1] == []


def test_a_formula_and_z_that_add_up_keep_a_list_that_its_name_would_multiply():
    """All atoms of a cell that has lost its symmetry, beside `x,y,z` and the name that it had."""
    shifted = EIGHT.replace("H1 .5 .5 .5", "H1 .5 .5 .4")
    structure, remarks = read(cif(CUBE, named("F m -3 m", *PD4H4), shifted, ["x,y,z"]))
    assert contents(structure) == {"Pd": 4, "H": 4}
    assert "formula and Z say" in remarks[0]
    with pytest.raises(Unreadable, match="only x,y,z but names"):
        read(cif(CUBE, named("F m -3 m"), shifted, ["x,y,z"]))


def test_a_metal_on_a_general_place_does_not_speak_for_a_setting():
    """Where no coordinate is fixed by symmetry in any setting, two cells are possible and neither
    is taken."""
    with pytest.raises(Unreadable, match="does not say which setting"):
        read(cif("7 7 9 90 90 90", named("P 4/n"), "Ti1 .12 .23 .31\nH1 .35 .11 .05"))
