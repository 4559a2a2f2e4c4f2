"""The symmetry that a block of a CIF states: operations that it lists and names that it gives."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from crystalgan.data.cif.block import UNKNOWN, known
from crystalgan.data.cif.operations import (
    are_group,
    keys_of,
    parse_operations,
    written,
)
from crystalgan.data.cif.space_groups import find_settings, misfit, settings
from crystalgan.data.files import Unreadable

if TYPE_CHECKING:
    from crystalgan.data.cif.block import Block
    from crystalgan.data.cif.space_groups import Setting

METRIC = 5e-3  # relative change that an operation may make to the metric, for cells of few digits
LISTS = ("_symmetry_equiv_pos_as_xyz", "_space_group_symop_operation_xyz")
SYMBOL = re.compile("_(symmetry_)?(space_group_)?name_h-m(_alt|_full)?")
HALLS = ("_symmetry_space_group_name_hall", "_space_group_name_hall")
NUMBERS = ("_symmetry_int_tables_number", "_space_group_it_number")
CODE = "_space_group_it_coordinate_system_code"
ELSEWHERE = re.compile("space_group|symmetry_(?!multiplicity)|symop|wyckoff")


def listed_operations(block: Block, lattice: np.ndarray) -> np.ndarray | None:
    """The operations that a block lists, `[m, 3, 4]`, each once, or None.

    Raises Unreadable where they are no group or do not keep the lattice (rows, Å).
    """
    lists = [
        block[name] for name in LISTS if any(text not in UNKNOWN for text in block.get(name, []))
    ]
    if not lists:
        return None
    operations, *others = [parse_operations(texts) for texts in lists]
    keys = keys_of(operations)
    if any({*keys_of(other).tolist()} != {*keys.tolist()} for other in others):
        raise Unreadable(
            "lists its symmetry operations twice, and not the same ones; keep one list"
        )
    operations = operations[np.sort(np.unique(keys, return_index=True)[1])]
    if misfit(operations, lattice) > METRIC:
        wrong = next(o for o in operations if misfit(o[None], lattice) > METRIC)
        raise Unreadable(
            f"lists the operation {written(wrong)}, which does not keep its lattice; mend one of"
            " the two"
        )
    if not are_group(operations):
        raise Unreadable(
            f"lists {len(operations)} symmetry operations that are no group: some are missing or"
            " wrong; list all"
        )
    return operations


def named_settings(block: Block) -> tuple[Setting, ...]:
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
    symbol = re.sub(r"[\s_.]", "", schoenflies[0])
    numbers = {setting.number for setting in settings() if setting.schoenflies == symbol}
    if not numbers:
        raise Unreadable(
            f"names the space group {schoenflies[0][:20]!r}, which no table has; write its"
            " Hermann-Mauguin symbol"
        )
    return find_settings(number=str(*numbers))


def is_named_by_number(block: Block) -> bool:
    """Whether a block gives neither symbol nor axes of its space group, but a number at most."""
    names = [key for key in block if SYMBOL.fullmatch(key) or key in (*HALLS, CODE)]
    return not any(known(block, [key]) for key in names)


def check_nothing_else(block: Block) -> None:
    """Refuse a block whose symmetry stands where nobody looks: it would be read without it."""
    for name, values in block.items():
        told = [value for value in values if value not in UNKNOWN]
        harmless = name.endswith(("_id", "_details")) or all(
            value.lower() in ("triclinic", "a") for value in told
        )
        if told and not harmless and ELSEWHERE.search(name):
            raise Unreadable(
                f"says something of its symmetry ({name} {told[0][:30]}) but neither names its"
                " space group nor lists operations; write its symbol as _space_group_name_H-M_alt,"
                " or P 1 where all atoms are in the list"
            )
