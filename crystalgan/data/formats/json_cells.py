"""JSON: pymatgen's structures, entries that hold one, and ASE's JSON database.

JSON is read as plain JSON and nothing else: pymatgen would import what a file names.
"""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from crystalgan.data.elements import element
from crystalgan.data.files import Unreadable
from crystalgan.data.formats.ase_rows import structure_of_row
from crystalgan.data.formats.source import MAX_CELLS, check_atoms, refuse

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from crystalgan.data.formats.source import Read, Source

MAX_JSON_MEMORY = 60_000_000  # bytes that the parsed file may take
MEMORY_OF = {"[": 100, "{": 230, ",": 40, ":": 100, '"': 30}  # bytes of what each begins
JSON_DEPTH = 3


def read_json(source: Source) -> Read:
    """pymatgen's structures, entries with a `structure`, lists and dicts of them; ASE's database.

    Only lattice, species and coordinates are taken: pymatgen decodes the properties of a site by
    importing what they name.
    """
    text = source.text()
    most = (1 if text.isascii() else 4) * len(text)
    most += sum(size * text.count(c) for c, size in MEMORY_OF.items())
    if most > MAX_JSON_MEMORY:
        raise Unreadable(
            f"is too large: it would take {most / 1e6:.0f} MB of memory, more than"
            f" {MAX_JSON_MEMORY / 1e6:.0f}"
        )
    data = json.loads(text)
    found: list[Any]
    if isinstance(data, dict) and "ids" in data and "nextid" in data:
        found = [
            (f" row {i}", partial(_json_row, data.get(str(i))), _info(data.get(str(i))))
            for i in _array(data["ids"]).astype(int).tolist()
        ]
    else:
        found = list(_structures(data))
    if not found:
        raise Unreadable(
            "holds no structure; a pymatgen Structure has a lattice and sites, an entry a structure"
        )
    if len(found) > MAX_CELLS:
        raise Unreadable(f"holds {len(found)} cells, more than {MAX_CELLS}")
    yield from found


def _structures(data: Any) -> Read:
    """The structures of nested lists and dicts, in their order."""
    waiting: list[tuple[str, Any, int]] = [("", data, JSON_DEPTH)]
    looked = 0
    while waiting:
        place, value, depth = waiting.pop()
        if isinstance(value, dict) and "lattice" in value and "sites" in value:
            yield place, partial(_structure, value), {}
        elif isinstance(value, dict) and isinstance(value.get("structure"), dict):
            info = {k: v for k, v in value.items() if isinstance(v, (str, int, float))}
            yield place, partial(_structure, value["structure"]), info
        elif isinstance(value, dict) and (lacks := _lacks(value)):
            yield place, partial(refuse, lacks), {}
        elif isinstance(value, (dict, list)) and depth:
            looked += len(value)
            if looked > MAX_CELLS:
                raise Unreadable(f"holds more than {MAX_CELLS} entries")
            items = list(value.items() if isinstance(value, dict) else enumerate(value, 1))
            children = [
                (f"{place} entry {str(k)[:40]}", v, depth - 1)
                for k, v in items
                if isinstance(v, (dict, list))
            ]
            waiting += reversed(children)


def _lacks(data: dict[str, Any]) -> str:
    """What a dict that was meant as a structure lacks, or nothing."""
    if "structure" in data and data["structure"] is None:
        return "holds no structure"
    if isinstance(data.get("sites"), list) and "lattice" not in data:
        return "holds sites and no lattice"
    if isinstance(data.get("lattice"), dict) and "matrix" in data["lattice"]:
        return "holds a lattice and no sites"
    return ""


def _structure(data: dict[str, Any]) -> Structure:
    from pymatgen.core import Structure

    sites, lattice = data["sites"], data["lattice"]
    if not isinstance(sites, list) or not isinstance(lattice, dict):
        raise Unreadable("is no structure: its sites are no list or its lattice no dict")
    check_atoms(len(sites))
    clean = [
        {
            "abc": site["abc"],
            "species": [
                {"element": element(str(part["element"])), "occu": part["occu"]}
                for part in site["species"]
            ],
        }
        for site in sites
    ]
    return Structure.from_dict({"lattice": {"matrix": lattice["matrix"]}, "sites": clean})


def _json_row(row: Any) -> Structure:
    if not isinstance(row, dict):
        raise Unreadable("is no row of an ASE database")
    cell = row["cell"]
    cell = cell.get("array", cell) if isinstance(cell, dict) else cell
    return structure_of_row(
        _array(row["numbers"]),
        _array(row["positions"]),
        _array(cell),
        bool(np.all(_array(row["pbc"]))),
    )


def _array(data: Any) -> np.ndarray:
    """A list, or ASE's `{"__ndarray__": [shape, type, numbers]}`, as float64."""
    if isinstance(data, dict):
        shape, _, flat = data["__ndarray__"]
        return np.asarray(flat, float).reshape(shape)
    return np.asarray(data, float)


def _info(row: Any) -> dict[str, Any]:
    info = row.get("key_value_pairs") if isinstance(row, dict) else None
    return info if isinstance(info, dict) else {}
