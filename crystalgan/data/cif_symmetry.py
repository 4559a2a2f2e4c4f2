"""The symmetry that a block of a CIF means: operations that it lists, a space group that it names,
and what speaks for which."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from crystalgan.data.cif_block import UNKNOWN, known, number_in
from crystalgan.data.elements import ISOTOPES
from crystalgan.data.files import Unreadable
from crystalgan.data.space_groups import find_settings, is_standard, misfit, number_of, settings
from crystalgan.data.unfold import unfold

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from crystalgan.data.cif_block import Block
    from crystalgan.data.space_groups import Setting
    from crystalgan.data.unfold import Sites, Unfolded

MAX_OPERATIONS = 400  # 192 are the most that a space group has
METRIC = 5e-3  # relative change that an operation may make to the metric, for cells of few digits
TRANSLATION = 24  # all of a space group are multiples of a 24th
NUMBER = r"(\d+\.?\d*|\.\d+)(/\d+)?"
TERM = f"(({NUMBER})?[xyz]|{NUMBER})"
# one of its three parts, without blanks
OPERATION = re.compile(f"[+-]?{TERM}([+-]{TERM})*", re.IGNORECASE)
PART = re.compile(rf"([+-]?)({NUMBER})?\*?([xyz])?", re.IGNORECASE)
LISTS = ("_symmetry_equiv_pos_as_xyz", "_space_group_symop_operation_xyz")
SYMBOL = re.compile("_(symmetry_)?(space_group_)?name_h-m(_alt|_full)?")
HALLS = ("_symmetry_space_group_name_hall", "_space_group_name_hall")
NUMBERS = ("_symmetry_int_tables_number", "_space_group_it_number")
CODE = "_space_group_it_coordinate_system_code"
DENSITY = "_exptl_crystal_density_diffrn"
DALTON = 1.66054  # of one dalton in Å³, in g/cm³


@dataclass(frozen=True)
class Announced:
    """What a block says of the contents of its cell: its formula by element, and Z."""

    text: str
    formula: dict[str, float]
    units: int | None
    density: float | None  # g/cm³

    @classmethod
    def of(cls, block: Block) -> Announced:
        """The formula, D and T as H, and Z; empty and None where they are missing or none."""
        text = next(iter(known(block, ["_chemical_formula_sum"])), "")
        units = next(iter(known(block, ["_cell_formula_units_z"])), "")
        density = number_in(block, DENSITY) if known(block, [DENSITY]) else None
        return cls(
            text[:40],
            _formula(text),
            int(units) if re.fullmatch("[1-9][0-9]{0,3}", units) else None,
            density,
        )

    def problem(self, cell: Unfolded, volume: float) -> str:
        """What speaks against a cell of this volume (Å³), in words."""
        return self._of_formula(cell) or self._of_density(cell, volume)

    def _of_density(self, cell: Unfolded, volume: float) -> str:
        from pymatgen.core import Composition

        if self.density is None or (self.formula and self.units):
            return ""
        density = Composition(Counter(cell.symbols)).weight * DALTON / volume
        if math.isclose(density, self.density, rel_tol=0.1):
            return ""
        return (
            f"comes to {density:.3g} g/cm³ where it says {self.density:.3g}; mend its space group"
            " and operations, or the density"
        )

    def _of_formula(self, cell: Unfolded) -> str:
        found = Counter("H" if symbol in ISOTOPES else symbol for symbol in cell.symbols)
        total, announced = sum(found.values()), sum(self.formula.values())
        if not announced and self.units and math.gcd(*found.values()) % self.units:
            return (
                f"comes to {_in_words(found)}, which are not Z {self.units} units; mend its Z, or"
                " its symmetry"
            )
        if not announced:
            return ""
        if any(
            abs(found[e] / total - self.formula.get(e, 0) / announced) > 0.01
            for e in {*found, *self.formula}
        ):
            return f"lists atoms of {_in_words(found)} where its formula is {self.text}"
        # pymatgen writes the whole cell as formula
        units = math.gcd(*(round(count) for count in self.formula.values()))
        if self.units is None or abs(self.units * announced - total) < 0.05:
            return ""
        if self.units == units and abs(announced - total) < 0.05:
            return ""
        wanted = {element: self.units * count for element, count in self.formula.items()}
        return (
            f"comes to {_in_words(found)} where its formula {self.text} and Z {self.units} announce"
            f" {_in_words(wanted)}; mend its Z, or its space group and operations"
        )

    def confirms(self, cell: Unfolded) -> bool:
        """Whether formula and Z are given and the atoms add up to them."""
        return bool(self.formula) and self.units is not None and not self._of_formula(cell)


def _formula(text: str) -> dict[str, float]:
    """How often each element is in a formula, D and T as H; empty where it is none."""
    from pymatgen.core import Composition

    words = [re.fullmatch(r"([A-Za-z]{1,2})(\d*\.?\d*)(?:\(\d+\))?", word) for word in text.split()]
    plain = " ".join(f"{word[1].capitalize()}{word[2]}" for word in words if word)
    try:  # a word for each element: then capitals leave no doubt
        found = Composition(
            plain if len(words) == len(plain.split()) else text[:200]
        ).get_el_amt_dict()
    except (TypeError, ValueError):
        return {}
    counts: Counter[str] = Counter()
    for symbol, amount in found.items():
        counts["H" if symbol in ISOTOPES else symbol] += amount
    return dict(counts) if all(math.isfinite(count) for count in counts.values()) else {}


def _in_words(counts: Mapping[str, float]) -> str:
    return " ".join(
        f"{symbol}{count:g}" if count != 1 else symbol for symbol, count in sorted(counts.items())
    )


def read_symmetry(block: Block, sites: Sites, lattice: np.ndarray) -> Unfolded:
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
        _check_nothing_else(block)
        cell = unfold(sites, np.eye(3, 4)[None], lattice)
        cell.remarks.append("It names no space group and lists no operations: P 1 is read.")
    else:
        cell = unfold(sites, listed, lattice)
        if unknown and len(listed) == 1 and not announced.confirms(cell):
            raise Unreadable(f"{unknown}; with x,y,z alone its list of atoms may not be whole")
        if unknown:
            cell.remarks.append(
                f"The file {unknown.split(';')[0]}; the operations that it lists are read."
            )
        if named and not _is_of(listed, named, lattice):
            _check_name(sites, cell, listed, named, lattice, announced)
    if problem := announced.problem(cell, abs(float(np.linalg.det(lattice)))):
        raise Unreadable(problem)
    if announced.text and not announced.formula:
        cell.remarks.append(
            f"Its formula {announced.text} cannot be read and was not compared with its atoms."
        )
    _check_counts(sites, cell, announced)
    return cell


def _check_counts(sites: Sites, cell: Unfolded, announced: Announced) -> None:
    """Refuse a cell in which an atom occurs otherwise than its row says, unless formula and Z speak
    for the cell."""
    for name, said, count in zip(sites.names, sites.multiplicities, cell.counts, strict=True):
        if said not in (None, count) and announced.confirms(cell):
            cell.remarks.append(
                f"It gives {name} the multiplicity {said} where symmetry, formula and Z make"
                f" {count} of it."
            )
        elif said not in (None, count):
            raise Unreadable(
                f"gives {name} the multiplicity {said}, and its symmetry makes {count} of it; "
                "mend its space group and operations, or the multiplicities"
            )


def _check_nothing_else(block: Block) -> None:
    """Refuse a block whose symmetry stands where it is not looked for: it would be read without
    it."""
    for name, values in block.items():
        told = [value for value in values if value not in UNKNOWN]
        harmless = name.endswith(("_id", "_details")) or all(
            value.lower() in ("triclinic", "a") for value in told
        )
        if (
            told
            and not harmless
            and re.search("space_group|symmetry_(?!multiplicity)|symop|wyckoff", name)
        ):
            raise Unreadable(
                f"says something of its symmetry ({name} {told[0][:30]}) but neither names its"
                " space group nor lists operations; write its symbol as _space_group_name_H-M_alt,"
                " or P 1 where all atoms are in the list"
            )


def _named(block: Block) -> tuple[Setting, ...]:
    """The settings that all names of the space group mean together; none where it has no name."""
    symbols = known(block, [name for name in block if SYMBOL.fullmatch(name)])
    number, hall, code = (known(block, names) for names in (NUMBERS, HALLS, [CODE]))
    if len(number) > 1 or len(hall) > 1:
        ways = " and ".join(number if len(number) > 1 else hall)
        raise Unreadable(
            f"names its space group in ways that contradict each other: {ways[:80]}; keep one of"
            " them"
        )
    found = find_settings(symbols, *(next(iter(one), None) for one in (hall, number, code)))
    schoenflies = known(block, [name for name in block if name.endswith("name_schoenflies")])
    if found or not schoenflies:
        return found
    numbers = {
        s.number for s in settings() if s.schoenflies == re.sub(r"[\s_.]", "", schoenflies[0])
    }
    if not numbers:
        raise Unreadable(
            f"names the space group {schoenflies[0][:20]!r}, which no table has; write its"
            " Hermann-Mauguin symbol"
        )
    return find_settings(number=str(*numbers))


def _listed(block: Block, lattice: np.ndarray) -> np.ndarray | None:
    """The operations that a block lists, `[m, 3, 4]`, each once, or None; they are a group and keep
    the lattice."""
    lists = [
        block[name] for name in LISTS if any(text not in UNKNOWN for text in block.get(name, []))
    ]
    if not lists:
        return None
    operations, *others = [_operations(texts) for texts in lists]
    keys = _keys(operations)
    if any({*_keys(other).tolist()} != {*keys.tolist()} for other in others):
        raise Unreadable(
            "lists its symmetry operations twice, and not the same ones; keep one list"
        )
    operations = operations[np.sort(np.unique(keys, return_index=True)[1])]
    for operation in operations:
        if misfit(operation[None], lattice) > METRIC:
            raise Unreadable(
                f"lists the operation {_written(operation)}, which does not keep its lattice; mend"
                " one of the two"
            )
    if not _is_group(operations):
        raise Unreadable(
            f"lists {len(operations)} symmetry operations that are no group: some are missing or"
            " wrong; list all"
        )
    return operations


def _operations(texts: list[str]) -> np.ndarray:
    """Rotations and translations, `[m, 3, 4]`, of lines such as `-x+1/2, y, z`; thirds of few
    digits are made whole."""
    if len(texts) > MAX_OPERATIONS:
        raise Unreadable(f"lists {len(texts)} symmetry operations; a space group has at most 192")
    found = np.zeros((len(texts), 3, 4))
    for k, text in enumerate(texts):
        parts = re.sub(r"\s", "", text).split(",")
        if (
            len(text) > 60
            or len(parts) != 3
            or not all(OPERATION.fullmatch(part) for part in parts)
        ):
            raise Unreadable(f"has a symmetry operation that is none: {text[:40]!r}")
        for row, part in enumerate(parts):
            for sign, number, _, below, axis in PART.findall(part):
                if not number and not axis:
                    continue
                value = (
                    float(number.split("/")[0]) / float(below[1:] or 1)
                    if number and float(below[1:] or 1)
                    else 1.0
                )
                found[k, row, "xyz".index(axis.lower()) if axis else 3] += (
                    -value if sign == "-" else value
                )
        rotation = found[k, :, :3]
        if np.abs(rotation - np.rint(rotation)).max() > 1e-3 or not math.isclose(
            abs(np.linalg.det(rotation)), 1, abs_tol=1e-3
        ):
            raise Unreadable(f"has a symmetry operation that is none: {text[:40]!r}")
    found[:, :, :3] = np.rint(found[:, :, :3])
    whole = np.rint(found[:, :, 3] * TRANSLATION) / TRANSLATION
    found[:, :, 3] = np.where(np.abs(found[:, :, 3] - whole) < 5e-3, whole, found[:, :, 3])
    return found


def _keys(operations: np.ndarray) -> np.ndarray:
    """One number for each operation `[..., 3, 4]`, the same for those that differ by lattice
    translations."""
    rotations = operations[..., :3].reshape(*operations.shape[:-2], 9)
    # thirds and eighths stay apart
    steps = np.rint(operations[..., 3] * 1000).astype(np.int64) % 1000
    return (np.rint(rotations).astype(np.int64) + 8) @ 17 ** np.arange(9) * 10**6 % (
        2**61 - 1
    ) * 1000 + steps @ (1, 1000, 10**6)


def _is_group(operations: np.ndarray) -> bool:
    """Whether the product of any two operations is one of them."""
    rotations, shifts = operations[:, :, :3], operations[:, :, 3]
    products = np.einsum("aij,bjk->abik", rotations, rotations)
    moved = np.einsum("aij,bj->abi", rotations, shifts) + shifts[:, None]
    every = np.concatenate((products, moved[..., None]), axis=-1)
    return bool(np.isin(_keys(every), _keys(operations)).all())


def _written(operation: np.ndarray) -> str:
    from pymatgen.core.operations import SymmOp

    return (
        SymmOp.from_rotation_and_translation(operation[:, :3], operation[:, 3])
        .as_xyz_str()
        .replace(" ", "")
    )


def _is_of(listed: np.ndarray, named: Sequence[Setting], lattice: np.ndarray) -> bool:
    """Whether listed operations are of the space group that is named, in whatever setting."""
    keys = {*_keys(listed).tolist()}
    return (
        any({*_keys(s.operations).tolist()} == keys for s in named)
        or number_of(listed, lattice) == named[0].number
    )


def _check_name(
    sites: Sites,
    cell: Unfolded,
    listed: np.ndarray,
    named: Sequence[Setting],
    lattice: np.ndarray,
    announced: Announced,
) -> None:
    """Refuse a cell of listed operations where the space group that is named is another one and
    would make another cell.

    Many programs leave the name of a space group beside `x,y,z` and all atoms of the cell; others
    lose the operations.
    """
    others = [other for _, other in _cells_of(_fitting(named, lattice), sites, lattice)]
    if any(cell.same_atoms(other, lattice) for other in others):
        return
    name = f"{named[0].symbol} (number {named[0].number})"
    if announced.confirms(cell) and not any(announced.confirms(other) for other in others):
        cell.remarks.append(
            "The operations that it lists are read; formula and Z say that its atoms are not of"
            f" {name}."
        )
        return
    what = "only x,y,z" if len(listed) == 1 else f"{len(listed)} symmetry operations"
    raise Unreadable(
        f"lists {what} but names the space group {name}, which would make other atoms of its list;"
        " list all operations of that group or none of them, or name the space group P 1 where the"
        " list holds all atoms"
    )


def _fitting(named: Sequence[Setting], lattice: np.ndarray) -> list[Setting]:
    """Those settings whose operations keep the lattice, as well as the best of them does."""
    changes = [misfit(setting.operations, lattice) for setting in named]
    most = min(METRIC, max(1e-4, 1.5 * min(changes)))
    return [setting for setting, change in zip(named, changes, strict=True) if change <= most]


def _cells_of(
    found: Sequence[Setting], sites: Sites, lattice: np.ndarray
) -> list[tuple[Setting, Unfolded]]:
    """The cells that come of some settings, of equal ones the first; those that are none are left
    out."""
    out: list[tuple[Setting, Unfolded]] = []
    for setting in found:
        try:
            cell = unfold(sites, setting.operations, lattice)
        except Unreadable:
            continue
        if not any(cell.same_atoms(other, lattice) for _, other in out):
            out.append((setting, cell))
    return out


def _of_named(
    block: Block, sites: Sites, named: Sequence[Setting], lattice: np.ndarray, announced: Announced
) -> Unfolded:
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
    volume = abs(float(np.linalg.det(lattice)))
    left = [one for one in every if not announced.problem(one[1], volume)] or every
    left = [one for one in left if _as_counted(sites, one[1])] or left
    fewest = min(cell.free for _, cell in left)
    left = [one for one in left if one[1].free == fewest]
    by_number = not any(
        known(block, [key]) for key in block if SYMBOL.fullmatch(key) or key in (*HALLS, CODE)
    )
    if by_number:
        left = [one for one in left if is_standard(one[0])] or left
    if len(left) > 1 or (by_number and not is_standard(left[0][0])):
        ways = " or ".join(f"'{setting}'" for setting, _ in left[:3])
        raise Unreadable(
            f"does not say which setting of its space group {name} it means, and its atoms fit"
            f" several; write {ways}, or list its symmetry operations"
        )
    setting, cell = left[0]
    if by_number and len(named) > 1:
        cell.remarks.append(
            f"It names its space group by the number {setting.number} alone; '{setting}' is read."
        )
    elif len(every) > 1 or any(_is_no_cell(sites, other, lattice) for other in fitting):
        cell.remarks.append(
            f"It does not say its setting; '{setting}' is read, in which its atoms add up, lie"
            " apart or are on special positions."
        )
    return cell


def _is_no_cell(sites: Sites, setting: Setting, lattice: np.ndarray) -> bool:
    try:
        unfold(sites, setting.operations, lattice)
    except Unreadable:
        return True
    return False


def _as_counted(sites: Sites, cell: Unfolded) -> bool:
    """Whether each atom stands for as many as its row says, where rows say it."""
    pairs = list(zip(sites.multiplicities, cell.counts, strict=True))
    return any(said for said, _ in pairs) and all(said in (None, count) for said, count in pairs)
