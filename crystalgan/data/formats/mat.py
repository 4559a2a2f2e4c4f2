"""MATLAB 5 files of the paper's authors, read element by element: no size is believed."""

from __future__ import annotations

import itertools
import struct
import zlib
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from crystalgan.data.files import Unreadable
from crystalgan.data.formats.source import MAX_CELLS, check_atoms

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pymatgen.core import Structure

    from crystalgan.data.formats.source import Read, Source

MAX_MAT_BYTES = 20_000_000  # unpacked
MAX_NUMBERS = 30_000  # of one matrix; more are nobody's positions
# numpy's names of the types of MATLAB's elements
TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
MATRIX, COMPRESSED, CELL_CLASS, COMPLEX = 14, 15, 1, 0x800


def read_mat(source: Source) -> Read:
    """The cells of the paper's authors' files.

    An object array `(n, 4)` holds the lattice and the positions of H, M1 and M2, Cartesian, Å. Of
    the two metal slots one is filler: zeros throughout the file.
    """
    try:
        tables = {
            name: value
            for name, value in _variables(source.data)
            if isinstance(value, list) and len(value) == 4
        }
    except (ValueError, struct.error):
        raise Unreadable("is damaged: its elements do not fit together") from None
    if not tables:
        raise Unreadable("holds no object array (n, 4) of lattice, H, M1 and M2")
    name, table = next(iter(tables.items()))
    used = [slot for slot in (2, 3) if any(np.any(positions) for positions in table[slot])]
    if len(used) != 1:
        raise Unreadable(f"{len(used)} of the two metal slots are in use where a binary has one")
    symbol = source.metal or name.split("_")[0]
    for i, (lattice, hydrogens, metals) in enumerate(
        zip(table[0], table[1], table[used[0]], strict=True)
    ):
        yield f" row {i}", partial(_mat_row, lattice, hydrogens, metals, source.shared, symbol), {}


def _mat_row(lattice: Any, hydrogens: Any, metals: Any, shared: str, symbol: str) -> Structure:
    from pymatgen.core import Structure

    arrays = (lattice, hydrogens, metals)
    if (
        not all(isinstance(a, np.ndarray) and a.ndim == 2 and a.shape[1] == 3 for a in arrays)
        or len(lattice) != 3
    ):
        shapes = ", ".join(str(np.shape(a)) for a in arrays)
        raise Unreadable(f"must hold matrices (3, 3), (n, 3) and (m, 3), not of shapes {shapes}")
    check_atoms(len(hydrogens) + len(metals))
    species = [shared] * len(hydrogens) + [symbol] * len(metals)
    return Structure(
        lattice, species, np.concatenate((hydrogens, metals)), coords_are_cartesian=True
    )


def _variables(data: bytes) -> Iterator[tuple[str, Any]]:
    """Names and values of a MATLAB 5 file.

    A numeric matrix is an array, a cell array `(n, m)` a list of m columns, anything else None.
    """
    if data[512:520] == b"\x89HDF\r\n\x1a\n" or data[:8] == b"\x89HDF\r\n\x1a\n":
        raise Unreadable("is a .mat file of version 7.3 (HDF5); save it with -v7")
    order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
    if order is None or len(data) < 136:
        raise Unreadable("cannot be read as .mat (it does not begin as MATLAB 5 files do)")
    left = MAX_MAT_BYTES
    for count, (kind, payload) in enumerate(_elements(memoryview(data)[128:], order)):
        if count == 1000:
            raise Unreadable("holds more than 1000 variables")
        if kind == COMPRESSED:
            try:
                inside = zlib.decompressobj().decompress(payload, left + 1)
            except zlib.error:
                raise Unreadable("is damaged or cut short: a variable cannot be unpacked") from None
            if len(inside) > left:
                raise Unreadable(
                    f"is too large: it unpacks to more than {MAX_MAT_BYTES / 1e6:.0f} MB"
                )
            left -= len(inside)
            for nested, matrix in itertools.islice(_elements(memoryview(inside), order), 1):
                if nested == MATRIX:
                    yield _matrix(matrix, order)
        elif kind == MATRIX:
            yield _matrix(payload, order)


def _elements(data: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """Type and contents of one element after the other."""
    at = 0
    while at + 8 <= len(data):
        kind, size = struct.unpack_from(order + "II", data, at)
        start = at + 8
        if kind >> 16:  # a small one: its size is in the upper half of its type
            kind, size, start = kind & 0xFFFF, kind >> 16, at + 4
        if start + size > len(data):
            raise Unreadable(
                f"is cut short: an element of {size} bytes is announced, {len(data) - start} follow"
            )
        yield kind, data[start : start + size]
        at = at + 8 if start == at + 4 else start + size + (0 if kind == COMPRESSED else -size % 8)


def _matrix(payload: memoryview, order: str, nested: bool = False) -> tuple[str, Any]:
    if not payload:
        return "", np.zeros((0, 0))
    elements = _elements(payload, order)
    flags, shape, label = (bytes(part) for _, part in itertools.islice(elements, 3))
    (flag,) = struct.unpack_from(order + "I", flags)
    dims = np.frombuffer(shape, order + "i4").tolist()
    count = np.prod(dims, dtype=object)
    name = label.decode("latin-1")
    if len(dims) != 2 or min(dims) < 0:
        raise Unreadable(f"has a matrix of dimensions {dims[:4]} where two are expected")
    if flag & 0xFF == CELL_CLASS and not nested:
        if count > 4 * MAX_CELLS:
            raise Unreadable(
                f"announces an object array of {dims[0]} x {dims[1]}, more than {MAX_CELLS} cells"
            )
        parts = [
            _matrix(part, order, nested=True)[1] for _, part in itertools.islice(elements, count)
        ]
        if len(parts) < count:
            raise Unreadable(f"is cut short: {count} objects announced, {len(parts)} found")
        return name, [parts[k * dims[0] : (k + 1) * dims[0]] for k in range(dims[1])]
    kind, numbers = next(elements, (0, payload[:0]))
    if not 6 <= flag & 0xFF <= 15 or flag & COMPLEX or kind not in TYPES:
        return name, None
    array = np.frombuffer(numbers, order + TYPES[kind])
    if len(array) != count:
        raise Unreadable(
            f"announces a matrix of {dims[0]} x {dims[1]} and holds {len(array)} numbers"
        )
    if count > MAX_NUMBERS:
        return name, None
    return name, array.astype(float).reshape(dims, order="F")
