"""CIF: pymatgen splits and mends the text, symmetry is unfolded here, where its size is known before."""

from __future__ import annotations

import math
import re
from collections import Counter
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crystalgan.files import Unreadable
from crystalgan.formats import check_atoms

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from crystalgan.formats import Read, Source

MAX_CIF_CELLS = 200
MAX_WORDS = 150_000
MAX_OPERATIONS = 400  # 192 are the most that a space group has
MAX_IMAGES = 10_000  # atoms of the list times operations
NUMBER = r"(\d+\.?\d*|\.\d+)(/\d+)?"
TERM = f"(({NUMBER})?[xyz]|{NUMBER})"
OPERATION = re.compile(f"[+-]?{TERM}([+-]{TERM})*", re.IGNORECASE)  # one of its three parts, without blanks
OPERATIONS = ("_symmetry_equiv_pos_as_xyz", "_space_group_symop_operation_xyz")
SPACE_GROUP = re.compile("_(symmetry|space_group)_.*(name|number)", re.IGNORECASE)


def read_cif(source: Source) -> Read:
    """The cells of a CIF, one for each block that has a lattice; symmetry is unfolded, nothing is made primitive."""
    lines = [line for line in source.text().split("\n") if line.strip()]  # blank lines cost pymatgen the square of their number
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
    blocks = [block for block in blocks if "_cell_length_a" in block] or blocks[:1]
    if len(blocks) > MAX_CIF_CELLS:
        raise Unreadable(f"holds {len(blocks)} cells, more than the {MAX_CIF_CELLS} that one CIF may have")
    for i, block in enumerate(blocks):
        yield (f" (cell {i + 1})" if len(blocks) > 1 else ""), partial(_cif_cell, block), {}


def _cif_cell(text: str) -> Structure:
    """The cell of one block."""
    from pymatgen.core import Structure
    from pymatgen.io.cif import CifBlock, CifParser, str2float

    try:
        parser = CifParser.from_str(text)
    except (ValueError, ArithmeticError, LookupError):
        raise Unreadable("cannot be read as CIF (a list in it is not complete)") from None
    data = next(iter(parser.as_dict().values()))
    if parser.feature_flags["magcif"]:
        raise Unreadable("is a magnetic CIF; save the cell without its moments")
    lattice = parser.get_lattice(CifBlock(data, [], ""))
    if lattice is None:
        raise Unreadable("cannot be read as CIF (its lattice is not complete)")
    for key, value in data.items():
        number = re.fullmatch("_cell_(length_[abc]|angle_(alpha|beta|gamma))", key)
        if number and not 0 < str2float(value) < (180 if number[2] else math.inf):
            raise Unreadable(f"cannot be read as CIF ({key} is {value[:20]})")
    names = data.get("_atom_site_type_symbol", data["_atom_site_label"])
    rows = [data["_atom_site_fract_" + axis] for axis in "xyz"]
    occupancy = data.get("_atom_site_occupancy", ["1"] * len(names))
    if any(not isinstance(column, list) or len(column) != len(names) for column in (names, occupancy, *rows)):
        raise Unreadable("cannot be read as CIF (its list of atoms is no list or not complete)")
    if any(word.strip("?.0()") for word in data.get("_atom_site_attached_hydrogens", [])):
        raise Unreadable("has hydrogens without positions (_atom_site_attached_hydrogens)")
    check_atoms(len(names))
    occupied = [1.0 if word in ("?", ".") else str2float(word) for word in occupancy]
    partial_site = next((i for i, part in enumerate(occupied) if not (part == 0 or abs(part - 1) < 1e-6)), None)
    if partial_site is not None:
        site = f"{names[partial_site]}: {occupied[partial_site]:g}"
        raise Unreadable(f"has a partially occupied site ({site}); make an ordered cell of it first")
    operations = _operations(data)
    if len(names) * len(operations) > MAX_IMAGES:
        raise Unreadable(
            f"lists {len(names)} atoms and {len(operations)} symmetry operations, too many; write out its cell without symmetry"
        )
    symbols, positions = [], []
    for name, *words, part in zip(names, *rows, occupied, strict=True):
        if part == 0:
            continue
        images = _images(np.array([str2float(word) for word in words]), operations)
        symbols += [_symbol(name)] * len(images)
        positions.append(images)
        check_atoms(len(symbols))
    _check_formula(data.get("_chemical_formula_sum"), symbols)
    return Structure(lattice, symbols, np.concatenate(positions))


def _check_formula(formula: Any, symbols: list[str]) -> None:  # noqa: ANN401 - whatever the CIF holds
    """Refuse a list of atoms that is not what the formula says: cut short, or without the hydrogens that X-rays do not see."""
    from pymatgen.core import Composition

    try:
        announced = Composition(re.sub(r"\b[DT](?![a-z])", "H", formula)).fractional_composition
    except (TypeError, ValueError):  # none, or no formula
        return
    found = Composition(Counter("H" if symbol in ("D", "T") else symbol for symbol in symbols))
    if announced and not announced.almost_equals(found.fractional_composition, rtol=0.02, atol=0.01):
        raise Unreadable(f"lists atoms of {found.reduced_formula} where its formula is {formula[:40]}")


def _symbol(name: str) -> str:
    """The element in a type symbol such as Pd2+ or a label such as Pd1."""
    from pymatgen.core import Element

    found = re.match("[A-Z][a-z]?", name)
    for symbol in (found[0], found[0][0]) if found else ():
        if Element.is_valid_symbol(symbol):
            return symbol
    raise Unreadable(f"holds {name[:20]!r}, which is no element")


def _images(position: np.ndarray, operations: np.ndarray, tolerance: float = 1e-4) -> np.ndarray:
    """The different places, `[n, 3]` in the cell, to which `operations` `[m, 3, 4]` take a fractional position."""
    places = operations[:, :, :3] @ position + operations[:, :, 3]
    places -= np.floor(places)
    apart = places[:, None] - places[None]
    same = (np.abs(apart - np.rint(apart)) < tolerance).all(-1)
    return places[~np.tril(same, -1).any(1)]


def _operations(data: dict[str, Any]) -> np.ndarray:
    """Rotations and translations, `[m, 3, 4]`, from a CIF's own list or the name of its space group."""
    listed = next((data[key + end] for key in OPERATIONS for end in ("", "_") if data.get(key + end)), None)
    if listed is None:
        names = [(key, value) for key, value in data.items() if SPACE_GROUP.match(key) and isinstance(value, str)]
        return _group_operations(tuple(sorted((key, name) for key, name in names if name.strip() not in ("", "?", "."))))
    listed = [listed] if isinstance(listed, str) else listed
    if len(listed) > MAX_OPERATIONS:
        raise Unreadable(f"lists {len(listed)} symmetry operations; a space group has at most 192")
    from pymatgen.core.operations import SymmOp

    found = np.empty((len(listed), 3, 4))
    for k, text in enumerate(listed):
        parts = re.sub(r"\s", "", text).split(",")
        if len(text) > 60 or len(parts) != 3 or not all(OPERATION.fullmatch(part) for part in parts):
            raise Unreadable(f"has a symmetry operation that is none: {text[:40]!r}")
        found[k] = SymmOp.from_xyz_str(text).affine_matrix[:3]
        if not np.isfinite(found[k]).all() or not math.isclose(abs(np.linalg.det(found[k, :, :3])), 1, abs_tol=1e-3):
            raise Unreadable(f"has a symmetry operation that is none: {text[:40]!r}")
    return found


@lru_cache(maxsize=300)
def _group_operations(names: tuple[tuple[str, str], ...]) -> np.ndarray:
    """The operations of a space group by its symbol or number; P1 where neither is given."""
    from pymatgen.io.cif import CifBlock, CifParser

    known = {key: name for key, name in names if re.sub(r"[\s_]", "", name) in _known_groups()}
    if names and not known:  # pymatgen would take it for P1
        raise Unreadable(f"names the unknown space group {names[0][1][:20]!r} and lists no symmetry operations")
    operations = CifParser.from_str("data_x\n_x x").get_symops(CifBlock(known, [], ""))
    return np.array([operation.affine_matrix[:3] for operation in operations])


@cache
def _known_groups() -> frozenset[str]:
    """Symbols, without blanks, and numbers of the space groups that pymatgen knows."""
    from monty.serialization import loadfn
    from pymatgen.symmetry import groups

    more = loadfn(Path(groups.__file__).parent / "symm_ops.json")
    symbols = [*groups.SYMM_DATA["space_group_encoding"], *(group["hermann_mauguin"] for group in more)]
    return frozenset([re.sub(r"[\s_]", "", symbol) for symbol in symbols] + [str(number) for number in range(1, 231)])
