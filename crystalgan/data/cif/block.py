"""The words of a CIF: names and values of one block, as CIF 1.1 writes them."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from crystalgan.data.files import Unreadable

if TYPE_CHECKING:
    from collections.abc import Sequence

Words = list[tuple[str, str]]  # kind (plain, single, double, text) and contents
Block = dict[str, list[str]]  # name in small letters -> its values; one outside a loop

WORD = re.compile(
    r"""^;(?P<text>[^\n]*(?:\n(?!;)[^\n]*)*)\n;|(?P<remark>\#[^\n]*)"""
    r"""|'(?P<single>[^\n]*?)'(?=\s|$)|"(?P<double>[^\n]*?)"(?=\s|$)|(?P<plain>\S+)""",
    re.MULTILINE,
)
REAL = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?:\(\d*\))?")
FRACTION = re.compile(r"([+-]?\d+)/(\d+)")
UNKNOWN = ("?", ".", "")
USED = re.compile(
    "_cell_|_symmetry_|_space_group_|_atom_site_(label|type_symbol|fract|occup)|_chemical_formula_sum"
)


def split_blocks(text: str) -> list[Words]:
    """The words of each block of a CIF; a text between semicolons is one word.

    >>> split_blocks("data_x _cell_length_a '4.0'")
    [[('plain', '_cell_length_a'), ('single', '4.0')]]
    """
    blocks: list[Words] = []
    for match in WORD.finditer(text):
        kind = match.lastgroup or ""
        if kind == "plain" and match[kind][:5].lower() == "data_":
            blocks.append([])
        elif kind != "remark" and blocks:
            blocks[-1].append((kind, match[kind]))
    return blocks


def parse_block(words: Words) -> Block:
    """Names and values of a block; names come in small letters, with a dot as an underscore."""
    found: Block = {}
    at = 0

    def is_plain(k: int, start: str) -> bool:
        return k < len(words) and words[k][0] == "plain" and words[k][1].lower().startswith(start)

    def is_value(k: int) -> bool:
        return (
            k < len(words)
            and not is_plain(k, "_")
            and not is_plain(k, "loop_")
            and not is_plain(k, "save_")
        )

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
            found |= {
                name: [value.strip() for value in values[k :: len(names)]]
                for k, name in enumerate(names)
            }
        elif is_plain(at, "_"):
            name, first = name_at(at), at + 1
            at = first
            while is_value(at):
                at += 1
            if at - first != 1 and USED.match(name):
                what = (
                    "has no value"
                    if at == first
                    else "has several values; put quotes around what has blanks"
                )
                raise Unreadable(f"cannot be read as CIF ({name} {what})")
            found[name] = [" ".join(word for _, word in words[first:at]).strip()]
        else:
            at += 1
    return found


def known(block: Block, names: Sequence[str]) -> list[str]:
    """The values of single entries that are known."""
    found = []
    for name in names:
        values = list(dict.fromkeys(value for value in block.get(name, []) if value not in UNKNOWN))
        if len(values) > 1:
            raise Unreadable(f"gives {name} {len(values)} values; keep the one that is meant")
        found += values
    return list(dict.fromkeys(found))


def number_in(block: Block, name: str, row: int = 0) -> float:
    """A value as a number, without its standard uncertainty; a fraction such as 1/3 is one too."""
    word = block[name][row]
    if fraction := FRACTION.fullmatch(word):
        return int(fraction[1]) / max(int(fraction[2]), 1)
    number = REAL.fullmatch(word)
    if not number or not math.isfinite(float(number[1])):
        raise Unreadable(
            f"cannot be read as CIF (a number expected for {name}, found {word[:20]!r})"
        )
    return float(number[1])
