"""CIF: the cell that a block means.

Symmetry is unfolded by the operations that a block lists or by those of the settings that its names
can mean (`crystalgan.data.cif.symmetry`). Where that leaves several readings, cell and formula
decide, and then special positions: the coordinates that symmetry fixes in one reading would be
accidents in the others. What stays open is refused.
"""

from __future__ import annotations

import math
import re
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from crystalgan.data.cif.block import UNKNOWN, known, number_in, parse_block, split_blocks
from crystalgan.data.cif.symmetry import read_symmetry
from crystalgan.data.cif.unfold import Sites
from crystalgan.data.elements import check_site, elements
from crystalgan.data.files import Unreadable
from crystalgan.data.formats.source import check_atoms

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from crystalgan.data.cif.block import Block, Words
    from crystalgan.data.formats.source import Read, Source

MAX_CIF_CELLS = 200
MAX_WORDS = 150_000
MAX_QUOTES = 20_000_000  # times the lengths of their lines
EXACT_DIGITS = 6  # of a position without a decimal, such as 0 1/2 1/3
LATTICE = tuple(
    f"_cell_{name}"
    for name in ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
)


def read_cif(source: Source) -> Read:
    """The cells of a CIF, one for each block that has a lattice.

    Symmetry is unfolded, nothing is made primitive.
    """
    text = source.text()
    count = sum(len(line.split()) for line in text.split("\n"))
    if count > MAX_WORDS:
        raise Unreadable(f"holds {count} words, more than the {MAX_WORDS} that a CIF may have")
    # a quote that nobody closes is looked for to the end of its line, again for each quote in it
    quotes = sum(len(line) * (line.count("'") + line.count('"')) for line in text.split("\n"))
    if quotes > MAX_QUOTES:
        raise Unreadable("cannot be read as CIF (too many quotes in too long lines)")
    blocks = split_blocks(text)
    if not blocks:
        raise Unreadable("cannot be read as CIF (it has no line data_...)")
    blocks = [words for words in blocks if any(_is_length(*word) for word in words)] or blocks[:1]
    if len(blocks) > MAX_CIF_CELLS:
        raise Unreadable(
            f"holds {len(blocks)} cells, more than the {MAX_CIF_CELLS} that one CIF may have"
        )
    for i, words in enumerate(blocks):
        remarks: list[str] = []
        place = f" (cell {i + 1})" if len(blocks) > 1 else ""
        yield place, partial(_cif_cell, words, remarks), {"remarks": remarks}


def _is_length(kind: str, word: str) -> bool:
    return kind == "plain" and word.lower().replace(".", "_") == LATTICE[0]


def _cif_cell(words: Words, remarks: list[str]) -> Structure:
    """The cell of one block; what was read otherwise than written goes into `remarks`."""
    from pymatgen.core import Lattice, Structure

    block = parse_block(words)
    if any(re.search("_magn|_moment|_ssg_", name) for name in block):
        raise Unreadable(
            "is a magnetic or modulated CIF; save the cell without its moments and modulation"
        )
    missing = [name for name in LATTICE if name not in block]
    if missing:
        raise Unreadable(
            f"cannot be read as CIF (its lattice is not complete: {missing[0]} is missing)"
        )
    numbers = [number_in(block, name) for name in LATTICE]
    for name, number in zip(LATTICE, numbers, strict=True):
        if not 0 < number < (180 if "angle" in name else math.inf):
            raise Unreadable(f"cannot be read as CIF ({name} is {number:g})")
    lattice = Lattice.from_parameters(*numbers)
    if not np.isfinite(lattice.matrix).all() or lattice.volume < 1e-3 * math.prod(numbers[:3]):
        raise Unreadable(
            f"has angles that no cell can have: {numbers[3]:g}, {numbers[4]:g} and {numbers[5]:g}°"
        )
    _check_volume(block, lattice.volume)
    cell = read_symmetry(block, _sites(block), lattice.matrix)
    remarks[:] = cell.remarks
    return Structure(lattice, cell.symbols, cell.positions)


def _decimals(word: str) -> int:
    """How many digits a number has behind its point."""
    return len(word.partition(".")[2].partition("(")[0])


def _check_volume(block: Block, volume: float) -> None:
    """Refuse lengths and angles that do not give the volume beside them."""
    if known(block, ["_cell_volume"]):
        announced = number_in(block, "_cell_volume")
        if not math.isclose(announced, volume, rel_tol=0.02):
            raise Unreadable(
                f"gives a volume of {announced:g} Å³ where its lengths and angles make {volume:.5g}"
                " Å³; mend one"
            )


def _sites(block: Block) -> Sites:
    """The atoms of the list, each full and of one element."""
    labels = block.get("_atom_site_label", [])
    types = block.get("_atom_site_type_symbol", [])
    names = labels if all(word in UNKNOWN for word in types) else types
    columns = ["_atom_site_fract_" + axis for axis in "xyz"]
    both = [name for name in (*columns, "_atom_site_occupancy") if name in columns or name in block]
    if not names or any(len(block.get(name, [])) != len(names) for name in both):
        lacking = next((name for name in columns if name not in block), "_atom_site_label")
        raise Unreadable(f"cannot be read as CIF (its list of atoms is not complete: {lacking})")
    labels = labels if len(labels) == len(names) else names
    if any(word.strip("?.0()") for word in block.get("_atom_site_attached_hydrogens", [])):
        raise Unreadable("has hydrogens without positions (_atom_site_attached_hydrogens)")
    check_atoms(len(names))
    if "dum" in (word.lower() for word in block.get("_atom_site_calc_flag", [])):
        raise Unreadable("lists dummy atoms (_atom_site_calc_flag dum); leave them out")
    # the type of a shared site may name but one of its elements
    for label in labels if labels is not names else []:
        if re.search("[,/|&+;]", label):
            check_site(label)
    full = []
    for row, word in enumerate(block.get("_atom_site_occupancy", ["1"] * len(names))):
        is_full = word == "1" or word in UNKNOWN
        part = 1.0 if is_full else number_in(block, "_atom_site_occupancy", row)
        if part and abs(part - 1) > 1e-6:
            raise Unreadable(
                f"has a partially occupied site ({names[row]}: {part:g}); make an ordered cell of"
                " it first"
            )
        full += [row] if part else []
    if not full:
        raise Unreadable("lists no atom that is there: every occupancy is 0")
    formula = next(iter(known(block, ["_chemical_formula_sum"])), None)
    symbols = elements([names[row] for row in full], formula, labels=names is labels)
    positions = np.array([[number_in(block, name, row) for name in columns] for row in full])
    counts = block.get("_atom_site_symmetry_multiplicity", [])
    counted = [int(word) if word.isdecimal() and len(word) < 5 else None for word in counts]
    multiplicities = [counted[row] if len(counted) == len(names) else None for row in full]
    digits = [max(_decimals(block[name][row]) for name in columns) or EXACT_DIGITS for row in full]
    return Sites([labels[row] for row in full], symbols, positions, digits, multiplicities)
