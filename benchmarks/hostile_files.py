"""Broken and hostile POSCAR, CIF and extended XYZ files, and folders.

The name of each file stands with the words of the reason, and its contents or their maker.

They are made when they are asked for, the same each time, and beside them lie good files that must
still be read.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

Contents = bytes | str | Callable[[], bytes | str] | Callable[[Path], None]
Cases = dict[str, tuple[str, Contents]]

POSITIONS = [
    (0, 0, 0),
    (0.5, 0.5, 0),
    (0.25, 0.25, 0.5),
    (0.75, 0.75, 0.5),
    (0.5, 0, 0.25),
    (0, 0.5, 0.75),
]
SYMBOLS = ["Pd"] * 2 + ["H"] * 4
POSCAR = "cell\n1.0\n4.0 0.0 0.0\n0.0 4.0 0.0\n0.0 0.0 4.0\nPd H\n2 4\nDirect\n" + "".join(
    f"{x:.6f} {y:.6f} {z:.6f}\n" for x, y, z in POSITIONS
)
XYZ = '6\nLattice="4.0 0 0 0 4.0 0 0 0 4.0" Properties=species:S:1:pos:R:3 pbc="T T T"\n' + "".join(
    f"{s} {4 * x:.6f} {4 * y:.6f} {4 * z:.6f}\n"
    for s, (x, y, z) in zip(SYMBOLS, POSITIONS, strict=True)
)
CELL = "".join(f"_cell_length_{x} 4.0\n" for x in "abc") + "".join(
    f"_cell_angle_{x} 90\n" for x in ("alpha", "beta", "gamma")
)
SITES = "loop_\n_atom_site_label\n_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\n"
ATOMS = "".join(
    f"{s}{i} {x:.6f} {y:.6f} {z:.6f}\n"
    for i, (s, (x, y, z)) in enumerate(zip(SYMBOLS, POSITIONS, strict=True))
)
CIF = f"data_cell\n_chemical_formula_sum 'Pd2 H4'\n{CELL}{SITES}{ATOMS}"
BINARY = random.Random(0).randbytes(5000)
HTML = (
    "<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head><body>\n<h1>Not"
    " Found</h1>\n</body></html>\n"
)
GOOD = {"a_good.vasp": POSCAR, "z_good.cif": CIF}


def swap(text: str, old: str, new: str) -> str:
    """`text` with its first `old` replaced; it must be there."""
    if old not in text:
        raise ValueError(f"{old!r} is not in the file that is to be broken")
    return text.replace(old, new, 1)


DAMAGED = {  # what a file says that is none of its format, or is cut
    "vasp": (
        "is empty|no UTF-8|the scale expected|cut short at line|a position expected|more than 10000"
        " characters"
    ),
    "cif": "no UTF-8|no line data_|cannot be read as CIF|where its formula is Pd2 H4",
    "extxyz": (
        "holds no cells|no UTF-8|line 1: a number of atoms expected|cut short: line 1 announces 6"
        " atoms"
    ),
    "json": "no UTF-8|cannot be read as JSON",
    "mat": "does not begin as MATLAB 5 files do|is cut short",
    "db": "does not begin as SQLite files do|is cut short",
}


def every_format(files: dict[str, bytes]) -> Cases:
    """What can befall any file: nothing in it, cut, other bytes, too large, no file at all."""
    cases: Cases = {}
    for ending, good in files.items():
        cases[f"empty.{ending}"] = (DAMAGED[ending], b"")
        cases[f"binary.{ending}"] = (DAMAGED[ending], BINARY)
        cases[f"zeros.{ending}"] = (DAMAGED[ending], bytes(3000))
        cases[f"page.{ending}"] = (DAMAGED[ending], HTML)
        for percent in (2, 15, 35, 60, 85):
            cases[f"cut{percent}.{ending}"] = (DAMAGED[ending], good[: len(good) * percent // 100])
        cases[f"large.{ending}"] = ("is too large: 60 MB", lambda path: sparse(path, 60_000_000))
        cases[f"folder.{ending}"] = ("is an empty folder", lambda path: path.mkdir())
        cases[f"pipe.{ending}"] = ("is no file but a pipe", os.mkfifo)
    for ending in ("vasp", "cif", "extxyz", "json"):
        good_text = files[ending].decode()
        cases[f"utf16.{ending}"] = ("in UTF-16; save it as UTF-8", good_text.encode("utf-16"))
        cases[f"utf16be.{ending}"] = (DAMAGED[ending], good_text.encode("utf-16-be"))
        cases[f"latin1.{ending}"] = ("is no UTF-8", "\xe9".encode("latin-1") + files[ending])
        cases[f"nul.{ending}"] = (DAMAGED[ending], files[ending].replace(b"\n", b"\0"))
        cases[f"spaces.{ending}"] = (DAMAGED[ending], b" " * 900_000)
        cases[f"lines.{ending}"] = (DAMAGED[ending], b"\n" * 900_000)
        cases[f"feeds.{ending}"] = (DAMAGED[ending], b"\x0c" * 900_000)
        cases[f"long.{ending}"] = (DAMAGED[ending], b"9" * 900_000)
        cases[f"emoji.{ending}"] = (DAMAGED[ending], "\U0001f9ea" * 200_000)
    return cases


def sparse(path: Path, size: int) -> None:
    """A file of zeros that takes no room on the disk."""
    with path.open("wb") as file:
        file.truncate(size)


def poscars() -> Cases:
    """Wrong counts, numbers, lattices and elements in a POSCAR."""
    cases: Cases = {}
    for count in ("1000000", "1000000000000", "501", "0 0", "2 9999999"):
        text = swap(POSCAR, "Pd H\n2 4", "Pd H\n" + (count if " " in count else f"2 {count}"))
        cases[f"count_{count.replace(' ', '_')}.vasp"] = ("a cell may have from 1 to 500", text)
    for i, count in enumerate(("-4", "4.0", "1e6", "four", "9" * 5000, "²", "0x10", "4 4")):
        cases[f"counts{i}.vasp"] = (
            "line 7: one count for each of",
            swap(POSCAR, "2 4\n", f"2 {count}\n"),
        )
    lattices = {
        "nan": "not finite",
        "inf": "not finite",
        "1e308": "lattice vector of 1e.308",
        "1e400": "not finite",
    }
    lattices |= {
        "1+2j": "line 3: a lattice vector",
        "4,0": "line 3: a lattice vector",
        "": "line 3: a lattice vector",
    }
    lattices |= {"0.0": "in one plane", "1e-9": "in one plane", "150": "lattice vector of 150"}
    for i, (word, reason) in enumerate(lattices.items()):
        cases[f"lattice{i}.vasp"] = (reason, swap(POSCAR, "4.0 0.0 0.0", f"{word} 0.0 0.0"))
    scales = {
        "nan": "not finite",
        "inf": "not finite",
        "0": "in one plane",
        "1e300": "lattice vector",
        "-1e300": "lattice vector",
    }
    scales |= {
        "-inf": "not finite",
        "one": "line 2: the scale",
        "": "line 2: the scale",
        "1e-300": "in one plane",
    }
    for i, (word, reason) in enumerate(scales.items()):
        cases[f"scale{i}.vasp"] = (reason, swap(POSCAR, "\n1.0\n", f"\n{word}\n"))
    for i, word in enumerate(("nan", "inf", "-inf", "1e999")):
        cases[f"position{i}.vasp"] = ("not finite", swap(POSCAR, "0.250000", word))
    for i, word in enumerate(("x", "0,25", "1+2j", "0.2.5")):
        cases[f"place{i}.vasp"] = ("line 11: a position expected", swap(POSCAR, "0.250000", word))
    for symbol in ("Qq", "X", "Vac", "1Pd", "../../etc/passwd", "$(reboot)"):
        name = "".join(c for c in symbol if c.isalnum())
        cases[f"element_{name}.vasp"] = (
            "line 6: holds .* which is no element",
            swap(POSCAR, "Pd H", f"{symbol} H"),
        )
    return cases | {
        "lattice_lines.vasp": (
            "line 7: Direct or Cartesian expected",
            lambda: "1 1 1\n" * 300_000,
        ),
        "joined.vasp": (
            "more than 10000 cells",
            lambda: (
                swap(POSCAR, "".join(POSCAR.splitlines(keepends=True)[8:]), "0 0 0\n").replace(
                    "Pd H\n2 4", "H\n1"
                )
                * 12_000
            ),
        ),
        "bad_joined.vasp": ("the rest was not read", lambda: swap(POSCAR, "0.5", "x") * 9000),
        "bad_heads.vasp": (
            "the rest was not read|scale expected",
            lambda: swap(POSCAR, "1.0", "x") * 9000,
        ),
        "velocities.vasp": ("more positions follow", lambda: POSCAR + "0 0 0\n" * 300_000),
        "lines_too_many.vasp": ("has more than 400000 lines", "x" + "\n" * 500_000 + "x"),
        "fractional.vasp": (
            "line 8: Direct or Cartesian expected",
            swap(POSCAR, "Direct", "Fractional"),
        ),
        "no_mode.vasp": ("line 8: Direct or Cartesian expected", swap(POSCAR, "Direct\n", "")),
        "more.vasp": ("line 15: more positions follow than the 6", POSCAR + "0.1 0.2 0.3\n"),
        "two_scales.vasp": ("line 2: the scale expected", swap(POSCAR, "1.0\n", "1.0 2.0\n")),
        "shared.vasp": ("line 6: has a site shared by Pd and Ni", swap(POSCAR, "Pd H", "Pd,Ni H")),
        "label.vasp": (
            "line 10: is labelled Ni",
            swap(POSCAR, "0.500000 0.500000 0.000000", "0.5 0.5 0.0 Ni"),
        ),
        "singular.vasp": ("in one plane", swap(POSCAR, "0.0 4.0 0.0", "8.0 0.0 0.0")),
        "needle.vasp": (
            "repeats after 0.2 Å",
            swap(swap(POSCAR, "4.0 0.0 0.0", "90 0 0"), "0.0 4.0 0.0", "0 0.2 0"),
        ),
        "skewed_needle.vasp": ("repeats after 0.1 Å", swap(POSCAR, "0.0 4.0 0.0", "4.0 0.1 0.0")),
        "plate.vasp": ("in one plane", swap(POSCAR, "0.0 4.0 0.0", "4.0 0.001 0.0")),
        "coincident.vasp": (
            "two atoms at one place: Pd 1 and H 3 are 0.00 Å",
            swap(POSCAR, "0.250000 0.250000 0.5", "0 0 0"),
        ),
        "image.vasp": (
            "two atoms at one place",
            swap(POSCAR, "0.250000 0.250000 0.500000", "1.0 -1.0 0.999"),
        ),
        "far.vasp": ("far outside of its cell", swap(POSCAR, "0.250000", "1e300")),
        "vasp4.vasp": ("names no elements", swap(POSCAR, "Pd H\n", "")),
        "POSCAR_no_counts": ("line 7", swap(POSCAR, "2 4\n", "")),
        "CONTCAR_words": ("line 2", "lorem ipsum\n" * 20),
        "names.vasp": (
            "line 6: has more than 10000 characters",
            swap(POSCAR, "Pd H", "Pd " * 100_000),
        ),
        "many.vasp": (
            "line 6: has more than 10000 characters",
            swap(swap(POSCAR, "Pd H", "H " * 100_000), "2 4\n", "1 " * 100_000 + "\n"),
        ),
        "501.vasp": (
            "announces 501 atoms",
            swap(POSCAR, "2 4\n", "2 499\n") + "0.1 0.2 0.3\n" * 499,
        ),
    }


def xyzs() -> Cases:
    """Wrong counts, comments, lattices and columns in an extended XYZ file."""
    cases: Cases = {}
    for count in ("1000000", "1000000000000", "501", "0"):
        cases[f"count_{count}.xyz"] = ("line 1: announces", swap(XYZ, "6\n", f"{count}\n"))
    for i, count in enumerate(("-6", "6.0", "1e6", "six", "9" * 5000, "²", "6 6")):
        cases[f"counts{i}.xyz"] = ("line 1: a number of atoms", swap(XYZ, "6\n", f"{count}\n"))
    lattices = {"nan": "not finite", "inf": "not finite", "1e308": "lattice vector of 1e.308"}
    lattices |= dict.fromkeys(("1+2j", "4,0,0", ""), "line 2: Lattice must hold nine numbers") | {
        "0": "in one plane"
    }
    for i, (word, reason) in enumerate(lattices.items()):
        cases[f"lattice{i}.xyz"] = (reason, swap(XYZ, '"4.0', f'"{word}'))
    columns = (
        "pos:R:3",
        "species:S:1",
        "species:S:1:pos:R:1000000000",
        "species:S:1:pos:R:-3",
        "species:S:1:pos",
        "",
        ":::",
        "a:b:c",
    )
    for i, word in enumerate(columns):
        cases[f"columns{i}.xyz"] = (
            "line 2: Properties must name",
            swap(XYZ, "species:S:1:pos:R:3", word),
        )
    return cases | {
        "molecule.xyz": ("line 2: no lattice", swap(XYZ, 'Lattice="4.0 0 0 0 4.0 0 0 0 4.0"', "")),
        "slab.xyz": ("no lattice in all three directions", swap(XYZ, "T T T", "T T F")),
        "quote.xyz": ("Lattice must hold nine numbers", swap(XYZ, '4.0" Prop', "4.0 Prop")),
        "comment.xyz": (
            "line 2: has more than 10000 characters",
            swap(XYZ, "Lattice", "x" * 1_000_000 + " Lattice"),
        ),
        "nested.xyz": ("nested too deeply", swap(XYZ, "pbc=", 'x="_JSON ' + "[" * 9000 + '" pbc=')),
        "element.xyz": ("holds 'Qq', which is no element", swap(XYZ, "Pd ", "Qq ")),
        "vacancy.xyz": ("holds 'X', which is no element", swap(XYZ, "Pd ", "X ")),
        "word.xyz": ("line 3: an element and its position", swap(XYZ, "Pd 0.000000", "Pd zero")),
        "short.xyz": ("line 3: 4 columns are announced", swap(XYZ, "Pd 0.000000 0.000000", "Pd")),
        "nan.xyz": ("not finite", swap(XYZ, "0.000000", "nan")),
        "coincident.xyz": ("two atoms at one place", swap(XYZ, "2.000000 2.000000 0.0", "0 0 0.1")),
        "needle.xyz": (
            "repeats after",
            swap(swap(XYZ, '"4.0', '"0.1'), "4.0 0 0 0 4.0", "50 0 0 0 4.0"),
        ),
        "second.xyz": ("line 9: a number of atoms", XYZ + "six\n" + XYZ),
        "emoji_line.xyz": (
            "line 9: a number of atoms",
            lambda: XYZ + "\U0001f9ea" + "a" * 19_000_000,
        ),
        "frames.xyz": ("more than 10000 cells", lambda: XYZ * 11_000),
        "bad_frames.xyz": ("the rest was not read", lambda: frames(9000)),
        "heavy_frames.xyz": ("the rest was not read", lambda: frames(200, 500)),
    }


def frames(count: int, atoms: int = 2) -> str:
    """Frames that cannot be used: all atoms of each at one place."""
    comment = XYZ.split("\n")[1]
    return (f"{atoms}\n{comment}\n" + "H 0 0 0\n" * atoms) * count


def cifs() -> Cases:
    """Wrong cells, symmetry, lists of atoms, quotes and blocks in a CIF."""
    cases: Cases = {}
    lengths = {
        "1e308": "lattice vector of 1e.308",
        "200": "lattice vector of 200",
        "0.001": "in one plane",
        "inf": "a number expected",
    }
    lengths |= dict.fromkeys(("0", "-4"), "_cell_length_a is") | dict.fromkeys(
        ("nan", "?", "1+2j"), "a number expected"
    )
    for i, (word, reason) in enumerate(lengths.items()):
        cases[f"length{i}.cif"] = (
            reason,
            swap(CIF, "_cell_length_a 4.0", f"_cell_length_a {word}"),
        )
    for i, word in enumerate(("0", "180", "nan", "inf", "1e308", "-1e308", "?", "0.0001")):
        cases[f"angle{i}.cif"] = (
            "_cell_angle_alpha is|a number expected|angles that no cell can have",
            swap(CIF, "_cell_angle_alpha 90", f"_cell_angle_alpha {word}"),
        )

    def operations(*words: str) -> str:
        return swap(
            CIF,
            SITES,
            "loop_\n_symmetry_equiv_pos_as_xyz\n" + "".join(f"'{w}'\n" for w in words) + SITES,
        )

    evil = "__import__('os').system('reboot')"
    words = (
        evil.replace("'", ""),
        "x,y",
        "x,x,x",
        "1e308x,y,z",
        "x/0,y,z",
        "x,y,z,t",
        "x" * 100_000,
        "0,0,0",
        "?",
    )
    for i, word in enumerate(words):
        cases[f"operation{i}.cif"] = (
            "has a symmetry operation that is none",
            operations("x,y,z", word),
        )
    wide = CELL.replace("4.0", "40.0")
    general = f"data_x\n_symmetry_space_group_name_H-M 'F m -3 m'\n{wide}{SITES}" + "".join(
        f"H{i} 0.{11 + i} 0.{23 + i} 0.{37 + i}\n" for i in range(4)
    )
    for i, group in enumerate(("Q q", "P 1; import os", "P" * 1000, "../P1")):
        text = swap(CIF, CELL, f"_symmetry_space_group_name_H-M '{group}'\n{CELL}")
        cases[f"group{i}.cif"] = ("which no table has", text)
    for i, number in enumerate(("0", "231", "1e9", "-1", "nan")):
        cases[f"number{i}.cif"] = (
            "there are 1 to 230",
            swap(CIF, CELL, f"_symmetry_Int_Tables_number {number}\n{CELL}"),
        )
    for i, part in enumerate(("0.5", "2", "nan", "-1", "inf")):
        text = swap(CIF, "_fract_z\n", "_fract_z\n_atom_site_occupancy\n")
        text = swap(
            text,
            ATOMS,
            ATOMS.replace("\n", " 1.0\n", 5).replace("0.750000\n", f"0.750000 {part}\n"),
        )
        cases[f"occupancy{i}.cif"] = ("partially occupied site|a number expected", text)
    for i, word in enumerate(("?", "nan", "inf", "1e400", "x", "(0)")):
        cases[f"position{i}.cif"] = ("a number expected|not finite", swap(CIF, "0.250000", word))
    magnetic = (
        "_space_group_magn.transform_BNS_Pp_abc 'a,b,[d for d in"
        " ().__class__.__mro__[1].__subclasses__()];0,0,0'\n"
    )
    magnetic += "_space_group_magn.number_BNS 62.448\n_space_group_magn.name_BNS \"P n' m a'\"\n"
    return cases | {
        "magnetic.cif": ("is a magnetic or modulated CIF", swap(CIF, CELL, CELL + magnetic)),
        "operations.cif": (
            "symmetry operations; a space group has at most",
            operations(*["x,y,z"] * 50_000),
        ),
        "blowup.cif": ("atoms; a cell may have from 1 to 500", general),
        "images.cif": ("atoms and 192 symmetry operations", general + "H9 0.1 0.2 0.3\n" * 60),
        "loop.cif": ("announces 20006 atoms", CIF + "H 0.1 0.2 0.3\n" * 20_000),
        "columns.cif": (
            "a list in it is not complete",
            CIF + "loop_\n" + "".join(f"_c{i}\n" for i in range(50_000)) + "1 " * 49_999,
        ),
        "loops.cif": ("a list in it is not complete", CIF + "loop_\n" * 100_000),
        "loop_only.cif": ("a list in it is not complete", "data_x\nloop_ loop_ loop_\n"),
        "odd.cif": ("a list in it is not complete", CIF + "H9 0.1\n"),
        "quote.cif": (
            "a list in it is not complete",
            swap(CIF, "Pd0 0.000000 0.000000 0.000000", "'Pd0 0.000000 0.000000 0.000000'"),
        ),
        "field.cif": ("_cell_angle_gamma has several values", swap(CIF, SITES, f";\n{SITES}")),
        "quotes.cif": ("too many quotes", CIF + "_x " + "'a" * 200_000 + "\n"),
        "quotes_line.cif": ("too many quotes", CIF + ("_x " + "'a\"b" * 4000 + "\n") * 40),
        "tokens.cif": ("holds 450018 words, more than", "data_x\n" + CELL + SITES + "a " * 450_000),
        "comments.cif": ("no line data_", "#" * 900_000),
        "blank.cif": ("no line data_", "\n \t\n" * 220_000),
        "blank_inside.cif": (
            "its lattice is not complete",
            "data_x\n" + "\n" * 900_000 + "_cell_length_a 4\n",
        ),
        "blocks.cif": ("cells, more than the 200", f"data_x\n{CELL}" * 1000),
        "empty_blocks.cif": ("its lattice is not complete", "data_x\n" * 120_000),
        "bad_blocks.cif": ("list of atoms is not complete", f"data_x\n{CELL}" * 200),
        "no_atoms.cif": ("list of atoms is not complete", f"data_x\n{CELL}"),
        "no_rows.cif": (
            "list of atoms is not complete|a list in it is not complete",
            f"data_x\n{CELL}{SITES}",
        ),
        "no_lattice.cif": ("its lattice is not complete", f"data_x\n{SITES}{ATOMS}"),
        "element.cif": ("which is no element", swap(CIF, "Pd0", "Qq0")),
        "coincident.cif": (
            "0.00 Å apart, at one place",
            swap(CIF, "0.250000 0.250000 0.5", "0 0 0"),
        ),
        "twice.cif": (
            "lists atoms of H5 Pd2 where its formula is Pd2 H4",
            CIF + "H9 0.1 0.4 0.9\n",
        ),
        "hydrogens.cif": (
            "hydrogens without positions",
            swap(CIF, "_fract_z\n", "_fract_z\n_atom_site_attached_hydrogens\n").replace(
                "0000\n", "0000 2\n"
            ),
        ),
        "symmetry_blanks.cif": (
            "has a symmetry operation that is none",
            operations("x," + " " * 500_000 + "y,z"),
        ),
    }


def folders() -> Cases:
    """Links, pipes and devices in a folder."""

    def link(target: str) -> Callable[[Path], None]:
        return lambda path: path.symlink_to(target)

    def circle(path: Path) -> None:
        path.with_name("other.vasp").symlink_to(path.name)
        path.symlink_to("other.vasp")

    return {
        "passwd.vasp": ("is a link that leads out of the folder", link("/etc/passwd")),
        "device.vasp": ("is a link that leads out of the folder", link("/dev/zero")),
        "memory.cif": ("is a link that leads out of the folder", link("/proc/self/mem")),
        "up.vasp": ("is a link that leads out of the folder", link("../" * 30 + "etc/hostname")),
        "itself.vasp": ("is a link that leads to itself", link("itself.vasp")),
        "circle.vasp": ("is a link that leads to itself", circle),
        "nothing.vasp": ("is a link to nothing", link("no such file")),
        "root": ("is a link that leads out of the folder", link("/")),
        "parent": ("is a link that leads out of the folder", link("..")),
    }
