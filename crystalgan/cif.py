"""CIF: the words of a block, the symmetry that it means, and the cell that comes of both.

Symmetry is unfolded here, by the operations that a block lists or by those of the settings that its names can mean
(`crystalgan.space_groups`). Where that leaves several readings, cell and formula decide, and then special positions: the
coordinates that symmetry fixes in one reading would be accidents in the others. What stays open is refused.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from crystalgan.elements import ISOTOPES, elements
from crystalgan.files import Unreadable
from crystalgan.formats import check_atoms
from crystalgan.space_groups import find_settings, is_standard, misfit, number_of, settings
from crystalgan.unfold import Sites, unfold

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pymatgen.core import Structure

    from crystalgan.formats import Read, Source
    from crystalgan.space_groups import Setting
    from crystalgan.unfold import Unfolded

    Block = dict[str, list[str]]  # name in small letters -> its values; one where it stands outside a loop

MAX_CIF_CELLS = 200
MAX_WORDS = 150_000
MAX_OPERATIONS = 400  # 192 are the most that a space group has
METRIC = 5e-3  # relative change that an operation may make to the metric, for cells of few digits
TRANSLATION = 24  # all of a space group are multiples of a 24th
NUMBER = r"(\d+\.?\d*|\.\d+)(/\d+)?"
TERM = f"(({NUMBER})?[xyz]|{NUMBER})"
OPERATION = re.compile(f"[+-]?{TERM}([+-]{TERM})*", re.IGNORECASE)  # one of its three parts, without blanks
PART = re.compile(rf"([+-]?)({NUMBER})?\*?([xyz])?", re.IGNORECASE)
WORD = re.compile(
    r"""^;(?P<text>[^\n]*(?:\n(?!;)[^\n]*)*)\n;|(?P<remark>\#[^\n]*)"""
    r"""|'(?P<single>[^\n]*?)'(?=\s|$)|"(?P<double>[^\n]*?)"(?=\s|$)|(?P<plain>\S+)""",
    re.MULTILINE,
)
REAL = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?:\(\d*\))?")
FRACTION = re.compile(r"([+-]?\d+)/(\d+)")
UNKNOWN = ("?", ".", "")
EXACT_DIGITS = 6  # of a position without a decimal, such as 0 1/2 1/3
LATTICE = tuple(f"_cell_{name}" for name in ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma"))
LISTS = ("_symmetry_equiv_pos_as_xyz", "_space_group_symop_operation_xyz")
SYMBOL = re.compile("_(symmetry_)?(space_group_)?name_h-m(_alt|_full)?")
HALLS = ("_symmetry_space_group_name_hall", "_space_group_name_hall")
NUMBERS = ("_symmetry_int_tables_number", "_space_group_it_number")
CODE = "_space_group_it_coordinate_system_code"
USED = re.compile("_cell_|_symmetry_|_space_group_|_atom_site_(label|type_symbol|fract|occup)|_chemical_formula_sum")


def read_cif(source: Source) -> Read:
    """The cells of a CIF, one for each block that has a lattice; symmetry is unfolded, nothing is made primitive."""
    lines = source.text().split("\n")
    words = sum(len(line.split()) for line in lines)
    if words > MAX_WORDS:
        raise Unreadable(f"holds {words} words, more than the {MAX_WORDS} that a CIF may have")
    starts = [i for i, line in enumerate(lines) if line.lstrip()[:5].lower() == "data_"]
    if not starts:
        raise Unreadable("cannot be read as CIF (it has no line data_...)")
    # a quote that nobody closes is looked for to the end of its line, again for each quote in it
    if sum(len(line) * (line.count("'") + line.count('"')) for line in lines) > 20_000_000:
        raise Unreadable("cannot be read as CIF (too many quotes in too long lines)")
    blocks = ["\n".join(lines[i:j]) for i, j in zip(starts, [*starts[1:], len(lines)], strict=True)]
    blocks = [block for block in blocks if re.search(r"_cell[_.]length_a", block, re.IGNORECASE)] or blocks[:1]
    if len(blocks) > MAX_CIF_CELLS:
        raise Unreadable(f"holds {len(blocks)} cells, more than the {MAX_CIF_CELLS} that one CIF may have")
    for i, block in enumerate(blocks):
        remarks: list[str] = []
        place = f" (cell {i + 1})" if len(blocks) > 1 else ""
        yield place, partial(_cif_cell, block, remarks), {"remarks": remarks}


def _cif_cell(text: str, remarks: list[str]) -> Structure:
    """The cell of one block; what was read otherwise than written goes into `remarks`."""
    from pymatgen.core import Lattice, Structure

    block = _block(text)
    if any(re.search("_magn|_moment|_ssg_", name) for name in block):
        raise Unreadable("is a magnetic or modulated CIF; save the cell without its moments and modulation")
    missing = [name for name in LATTICE if name not in block]
    if missing:
        raise Unreadable(f"cannot be read as CIF (its lattice is not complete: {missing[0]} is missing)")
    numbers = [_number(block, name) for name in LATTICE]
    for name, number in zip(LATTICE, numbers, strict=True):
        if not 0 < number < (180 if "angle" in name else math.inf):
            raise Unreadable(f"cannot be read as CIF ({name} is {number:g})")
    lattice = Lattice.from_parameters(*numbers)
    if not np.isfinite(lattice.matrix).all() or lattice.volume < 1e-3 * math.prod(numbers[:3]):
        raise Unreadable(f"has angles that no cell can have: {numbers[3]:g}, {numbers[4]:g} and {numbers[5]:g}°")
    _check_volume(block, lattice.volume)
    cell = _read_symmetry(block, _sites(block), lattice.matrix)
    remarks[:] = cell.remarks
    return Structure(lattice, cell.symbols, cell.positions)


def _block(text: str) -> Block:
    """Names and values of a block, as CIF 1.1 writes them; names come in small letters, with a dot as an underscore."""
    words = [(m.lastgroup, m[m.lastgroup or 0]) for m in WORD.finditer(text) if m.lastgroup != "remark"][1:]
    found: Block = {}
    at = 0

    def is_plain(k: int, start: str) -> bool:
        return k < len(words) and words[k][0] == "plain" and words[k][1].lower().startswith(start)

    def is_value(k: int) -> bool:
        return k < len(words) and not is_plain(k, "_") and not is_plain(k, "loop_") and not is_plain(k, "save_")

    def name_at(k: int) -> str:
        name = words[k][1].lower().replace(".", "_")
        if name in found and USED.match(name):
            raise Unreadable(f"gives {name} twice; keep the one that is meant")
        return name

    while at < len(words):
        if is_plain(at, "loop_"):
            first = at = at + 1
            while is_plain(at, "_"):
                at += 1
            names = [name_at(k) for k in range(first, at)]
            first = at
            while is_value(at):
                at += 1
            values = [word for _, word in words[first:at]]
            if not names or len(values) % len(names):
                raise Unreadable("cannot be read as CIF (a list in it is not complete)")
            found |= {name: [value.strip() for value in values[k :: len(names)]] for k, name in enumerate(names)}
        elif is_plain(at, "_"):
            name, first = name_at(at), at + 1
            at = first
            while is_value(at):
                at += 1
            if at - first != 1 and USED.match(name):
                what = "has no value" if at == first else "has several values; put quotes around what has blanks"
                raise Unreadable(f"cannot be read as CIF ({name} {what})")
            found[name] = [" ".join(word for _, word in words[first:at]).strip()]
        else:
            at += 1
    return found


def _one(block: Block, names: Sequence[str]) -> list[str]:
    """The values of single entries that are known."""
    found = []
    for name in names:
        values = list(dict.fromkeys(value for value in block.get(name, []) if value not in UNKNOWN))
        if len(values) > 1:
            raise Unreadable(f"gives {name} {len(values)} values; keep the one that is meant")
        found += values
    return list(dict.fromkeys(found))


def _number(block: Block, name: str, row: int = 0) -> float:
    word = block[name][row]
    if fraction := FRACTION.fullmatch(word):
        return int(fraction[1]) / max(int(fraction[2]), 1)
    number = REAL.fullmatch(word)
    if not number or not math.isfinite(float(number[1])):
        raise Unreadable(f"cannot be read as CIF (a number expected for {name}, found {word[:20]!r})")
    return float(number[1])


def _check_volume(block: Block, volume: float) -> None:
    """Refuse lengths and angles that do not give the volume beside them."""
    if _one(block, ["_cell_volume"]):
        announced = _number(block, "_cell_volume")
        if not math.isclose(announced, volume, rel_tol=0.02):
            raise Unreadable(f"gives a volume of {announced:g} Å³ where its lengths and angles make {volume:.5g} Å³; mend one")


def _sites(block: Block) -> Sites:
    """The atoms of the list, each full and of one element."""
    labels = block.get("_atom_site_label", [])
    names = block.get("_atom_site_type_symbol") or labels
    columns = ["_atom_site_fract_" + axis for axis in "xyz"]
    both = [name for name in (*columns, "_atom_site_occupancy") if name in columns or name in block]
    if not names or any(len(block.get(name, [])) != len(names) for name in both):
        lacking = next((name for name in columns if name not in block), "_atom_site_label")
        raise Unreadable(f"cannot be read as CIF (its list of atoms is not complete: {lacking})")
    labels = labels if len(labels) == len(names) else names
    if any(word.strip("?.0()") for word in block.get("_atom_site_attached_hydrogens", [])):
        raise Unreadable("has hydrogens without positions (_atom_site_attached_hydrogens)")
    check_atoms(len(names))
    full = []
    for row, word in enumerate(block.get("_atom_site_occupancy", ["1"] * len(names))):
        part = 1.0 if word == "1" or word in UNKNOWN else _number(block, "_atom_site_occupancy", row)
        if part and abs(part - 1) > 1e-6:
            raise Unreadable(f"has a partially occupied site ({names[row]}: {part:g}); make an ordered cell of it first")
        full += [row] if part else []
    if not full:
        raise Unreadable("lists no atom that is there: every occupancy is 0")
    formula = next(iter(_one(block, ["_chemical_formula_sum"])), None)
    symbols = elements([names[row] for row in full], formula, labels="_atom_site_type_symbol" not in block)
    positions = np.array([[_number(block, name, row) for name in columns] for row in full])
    counts = block.get("_atom_site_symmetry_multiplicity", [])
    counted = [int(word) if word.isdecimal() and len(word) < 5 else None for word in counts]
    multiplicities = [counted[row] if len(counted) == len(names) else None for row in full]
    decimals = [
        [len(word.partition(".")[2].partition("(")[0]) for word in words] for words in zip(*(block[name] for name in columns))
    ]
    digits = [max(decimals[row]) or EXACT_DIGITS for row in full]
    return Sites([labels[row] for row in full], symbols, positions, digits, multiplicities)


@dataclass(frozen=True)
class Announced:
    """What a block says of the contents of its cell: its formula by element, and Z."""

    text: str
    formula: dict[str, float]
    units: int | None

    @classmethod
    def of(cls, block: Block) -> Announced:
        """The formula, D and T as H, and Z; empty and None where they are missing or none."""
        text = next(iter(_one(block, ["_chemical_formula_sum"])), "")
        units = next(iter(_one(block, ["_cell_formula_units_z"])), "")
        return cls(text[:40], _formula(text), int(units) if re.fullmatch("[1-9][0-9]{0,3}", units) else None)

    def problem(self, cell: Unfolded) -> str:
        """What speaks against a cell, in words."""
        found = Counter("H" if symbol in ISOTOPES else symbol for symbol in cell.symbols)
        total, announced = sum(found.values()), sum(self.formula.values())
        if not announced:
            return ""
        if any(abs(found[e] / total - self.formula.get(e, 0) / announced) > 0.01 for e in {*found, *self.formula}):
            return f"lists atoms of {_in_words(found)} where its formula is {self.text}"
        units = math.gcd(*(round(count) for count in self.formula.values()))  # pymatgen writes the whole cell as formula
        if self.units is None or abs(self.units * announced - total) < 0.05:
            return ""
        if self.units == units and abs(announced - total) < 0.05:
            return ""
        wanted = {element: self.units * count for element, count in self.formula.items()}
        return (
            f"comes to {_in_words(found)} where its formula {self.text} and Z {self.units} announce {_in_words(wanted)}; "
            "mend its Z, or its space group and operations"
        )

    def confirms(self, cell: Unfolded) -> bool:
        """Whether formula and Z are given and the atoms add up to them."""
        return bool(self.formula) and self.units is not None and not self.problem(cell)


def _formula(text: str) -> dict[str, float]:
    """How often each element is in a formula, D and T as H; empty where it is none."""
    from pymatgen.core import Composition

    words = [re.fullmatch(r"([A-Za-z]{1,2})(\d*\.?\d*)", word) for word in text.split()]
    plain = " ".join(f"{word[1].capitalize()}{word[2]}" for word in words if word)
    try:  # a word for each element: then capitals leave no doubt
        found = Composition(plain if len(words) == len(plain.split()) else text[:200]).get_el_amt_dict()
    except (TypeError, ValueError):
        return {}
    counts: Counter[str] = Counter()
    for symbol, amount in found.items():
        counts["H" if symbol in ISOTOPES else symbol] += amount
    return dict(counts) if all(math.isfinite(count) for count in counts.values()) else {}


def _in_words(counts: Mapping[str, float]) -> str:
    return " ".join(f"{symbol}{count:g}" if count != 1 else symbol for symbol, count in sorted(counts.items()))


def _read_symmetry(block: Block, sites: Sites, lattice: np.ndarray) -> Unfolded:
    """The one cell that a block means; Unreadable where it means none or several."""
    listed, announced = _listed(block, lattice), Announced.of(block)
    named: tuple[Setting, ...] = ()
    unknown = ""
    try:
        named = _named(block)
    except Unreadable as error:
        if listed is None:
            raise
        unknown = str(error)
    if listed is None and named:
        cell = _of_named(block, sites, named, lattice, announced)
    elif listed is None:
        cell = unfold(sites, np.eye(3, 4)[None], lattice)
    else:
        cell = unfold(sites, listed, lattice)
        if unknown and len(listed) == 1 and not announced.confirms(cell):
            raise Unreadable(f"{unknown}; with x,y,z alone its list of atoms may not be whole")
        if unknown:
            cell.remarks.append(f"The file {unknown.split(';')[0]}; the operations that it lists are read.")
        if named and not _is_of(listed, named, lattice):
            _check_name(sites, cell, listed, named, lattice, announced)
    if problem := announced.problem(cell):
        raise Unreadable(problem)
    return cell


def _named(block: Block) -> tuple[Setting, ...]:
    """The settings that all names of the space group mean together; none where it has no name."""
    symbols = _one(block, [name for name in block if SYMBOL.fullmatch(name)])
    number, hall, code = (_one(block, names) for names in (NUMBERS, HALLS, [CODE]))
    if len(number) > 1 or len(hall) > 1:
        ways = " and ".join(number if len(number) > 1 else hall)
        raise Unreadable(f"names its space group in ways that contradict each other: {ways[:80]}; keep one of them")
    found = find_settings(symbols, *(next(iter(one), None) for one in (hall, number, code)))
    schoenflies = _one(block, [name for name in block if name.endswith("name_schoenflies")])
    if found or not schoenflies:
        return found
    known = {s.number for s in settings() if s.schoenflies == re.sub(r"[\s_.]", "", schoenflies[0])}
    if not known:
        raise Unreadable(f"names the space group {schoenflies[0][:20]!r}, which no table has; write its Hermann-Mauguin symbol")
    return find_settings(number=str(*known))


def _listed(block: Block, lattice: np.ndarray) -> np.ndarray | None:
    """The operations that a block lists, `[m, 3, 4]`, each once, or None; they are a group and keep the lattice."""
    lists = [block[name] for name in LISTS if any(text not in UNKNOWN for text in block.get(name, []))]
    if not lists:
        return None
    operations, *others = [_operations(texts) for texts in lists]
    keys = _keys(operations)
    if any({*_keys(other).tolist()} != {*keys.tolist()} for other in others):
        raise Unreadable("lists its symmetry operations twice, and not the same ones; keep one list")
    operations = operations[np.sort(np.unique(keys, return_index=True)[1])]
    for operation in operations:
        if misfit(operation[None], lattice) > METRIC:
            raise Unreadable(f"lists the operation {_written(operation)}, which does not keep its lattice; mend one of the two")
    if not _is_group(operations):
        raise Unreadable(f"lists {len(operations)} symmetry operations that are no group: some are missing or wrong; list all")
    return operations


def _operations(texts: list[str]) -> np.ndarray:
    """Rotations and translations, `[m, 3, 4]`, of lines such as `-x+1/2, y, z`; thirds of few digits are made whole."""
    if len(texts) > MAX_OPERATIONS:
        raise Unreadable(f"lists {len(texts)} symmetry operations; a space group has at most 192")
    found = np.zeros((len(texts), 3, 4))
    for k, text in enumerate(texts):
        parts = re.sub(r"\s", "", text).split(",")
        if len(text) > 60 or len(parts) != 3 or not all(OPERATION.fullmatch(part) for part in parts):
            raise Unreadable(f"has a symmetry operation that is none: {text[:40]!r}")
        for row, part in enumerate(parts):
            for sign, number, _, below, axis in PART.findall(part):
                if not number and not axis:
                    continue
                value = float(number.split("/")[0]) / float(below[1:] or 1) if number and float(below[1:] or 1) else 1.0
                found[k, row, "xyz".index(axis.lower()) if axis else 3] += -value if sign == "-" else value
        rotation = found[k, :, :3]
        if np.abs(rotation - np.rint(rotation)).max() > 1e-3 or not math.isclose(abs(np.linalg.det(rotation)), 1, abs_tol=1e-3):
            raise Unreadable(f"has a symmetry operation that is none: {text[:40]!r}")
    found[:, :, :3] = np.rint(found[:, :, :3])
    whole = np.rint(found[:, :, 3] * TRANSLATION) / TRANSLATION
    found[:, :, 3] = np.where(np.abs(found[:, :, 3] - whole) < 5e-3, whole, found[:, :, 3])
    return found


def _keys(operations: np.ndarray) -> np.ndarray:
    """One number for each operation `[..., 3, 4]`, the same for those that differ by lattice translations."""
    rotations = operations[..., :3].reshape(*operations.shape[:-2], 9)
    steps = np.rint(operations[..., 3] * 1000).astype(np.int64) % 1000  # thirds and eighths stay apart
    return (np.rint(rotations).astype(np.int64) + 8) @ 17 ** np.arange(9) * 10**6 % (2**61 - 1) * 1000 + steps @ (1, 1000, 10**6)


def _is_group(operations: np.ndarray) -> bool:
    """Whether the product of any two operations is one of them."""
    rotations, shifts = operations[:, :, :3], operations[:, :, 3]
    products = np.einsum("aij,bjk->abik", rotations, rotations)
    moved = np.einsum("aij,bj->abi", rotations, shifts) + shifts[:, None]
    every = np.concatenate((products, moved[..., None]), axis=-1)
    return bool(np.isin(_keys(every), _keys(operations)).all())


def _written(operation: np.ndarray) -> str:
    from pymatgen.core.operations import SymmOp

    return SymmOp.from_rotation_and_translation(operation[:, :3], operation[:, 3]).as_xyz_str().replace(" ", "")


def _is_of(listed: np.ndarray, named: Sequence[Setting], lattice: np.ndarray) -> bool:
    """Whether listed operations are of the space group that is named, in whatever setting."""
    keys = {*_keys(listed).tolist()}
    return any({*_keys(s.operations).tolist()} == keys for s in named) or number_of(listed, lattice) == named[0].number


def _check_name(
    sites: Sites, cell: Unfolded, listed: np.ndarray, named: Sequence[Setting], lattice: np.ndarray, announced: Announced
) -> None:
    """Refuse a cell of listed operations where the space group that is named is another one and would make another cell.

    Many programs leave the name of a space group beside `x,y,z` and all atoms of the cell; others lose the operations.
    """
    others = [other for _, other in _cells_of(_fitting(named, lattice), sites, lattice)]
    if any(cell.same_atoms(other, lattice) for other in others):
        return
    name = f"{named[0].symbol} (number {named[0].number})"
    if announced.confirms(cell) and not any(announced.confirms(other) for other in others):
        cell.remarks.append(f"The operations that it lists are read; formula and Z say that its atoms are not of {name}.")
        return
    what = "only x,y,z" if len(listed) == 1 else f"{len(listed)} symmetry operations"
    raise Unreadable(
        f"lists {what} but names the space group {name}, which would make other atoms of its list; list all operations of that "
        "group or none of them, or name the space group P 1 where the list holds all atoms"
    )


def _fitting(named: Sequence[Setting], lattice: np.ndarray) -> list[Setting]:
    """Those settings whose operations keep the lattice, as well as the best of them does."""
    changes = [misfit(setting.operations, lattice) for setting in named]
    most = min(METRIC, max(1e-4, 1.5 * min(changes)))
    return [setting for setting, change in zip(named, changes, strict=True) if change <= most]


def _cells_of(found: Sequence[Setting], sites: Sites, lattice: np.ndarray) -> list[tuple[Setting, Unfolded]]:
    """The cells that come of some settings, of equal ones the first; those that are none are left out."""
    out: list[tuple[Setting, Unfolded]] = []
    for setting in found:
        try:
            cell = unfold(sites, setting.operations, lattice)
        except Unreadable:
            continue
        if not any(cell.same_atoms(other, lattice) for _, other in out):
            out.append((setting, cell))
    return out


def _of_named(block: Block, sites: Sites, named: Sequence[Setting], lattice: np.ndarray, announced: Announced) -> Unfolded:
    """The cell of a block that names its space group and lists no operations."""
    name = f"{named[0].symbol} (number {named[0].number})"
    fitting = _fitting(named, lattice)
    if not fitting:
        raise Unreadable(
            f"names the space group {name}, whose operations do not keep its lattice; "
            "mend lengths and angles, or write the symbol for these axes"
        )
    every = _cells_of(fitting, sites, lattice)
    if not every:
        return unfold(sites, fitting[0].operations, lattice)  # which says why it is no cell
    left = [one for one in every if not announced.problem(one[1])] or every
    left = [one for one in left if _as_counted(sites, one[1])] or left
    fewest = min(cell.free for _, cell in left)
    left = [one for one in left if one[1].free == fewest]
    by_number = not any(_one(block, [key]) for key in block if SYMBOL.fullmatch(key) or key in (*HALLS, CODE))
    if by_number:
        left = [one for one in left if is_standard(one[0])] or left
    if len(left) > 1 or (by_number and not is_standard(left[0][0])):
        ways = " or ".join(f"'{setting}'" for setting, _ in left[:3])
        raise Unreadable(
            f"does not say which setting of its space group {name} it means, and its atoms fit several; write {ways}, "
            "or list its symmetry operations"
        )
    (setting, cell) = left[0]
    if by_number and len(named) > 1:
        cell.remarks.append(f"It names its space group by the number {setting.number} alone; '{setting}' is read.")
    elif len(every) > 1:
        cell.remarks.append(
            f"It does not say its setting; '{setting}' is read, in which its atoms add up or are on special positions."
        )
    return cell


def _as_counted(sites: Sites, cell: Unfolded) -> bool:
    """Whether each atom stands for as many as its row says, where rows say it."""
    pairs = list(zip(sites.multiplicities, cell.counts, strict=True))
    return any(said for said, _ in pairs) and all(said in (None, count) for said, count in pairs)
