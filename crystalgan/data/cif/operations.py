"""Symmetry operations that a CIF writes out: read, compared, and tested for being a group."""

from __future__ import annotations

import re

import numpy as np

from crystalgan.data.files import Unreadable

MAX_OPERATIONS = 400  # 192 are the most that a space group has
TRANSLATION = 24  # all of a space group are multiples of a 24th
NUMBER = r"(\d+\.?\d*|\.\d+)(/\d+)?"
TERM = f"(({NUMBER})?[xyz]|{NUMBER})"
# one of the three parts of an operation, without blanks
OPERATION = re.compile(f"[+-]?{TERM}([+-]{TERM})*", re.IGNORECASE)
PART = re.compile(rf"([+-]?)({NUMBER})?\*?([xyz])?", re.IGNORECASE)


def parse_operations(texts: list[str]) -> np.ndarray:
    """Rotations and translations, `[m, 3, 4]`, of texts such as `-x+1/2, y, z`.

    Translations within 0.005 of a 24th are that 24th, as thirds of few digits are.

    >>> parse_operations(["-x+1/2, y, z"])[0].tolist()
    [[-1.0, 0.0, 0.0, 0.5], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]
    """
    if len(texts) > MAX_OPERATIONS:
        raise Unreadable(f"lists {len(texts)} symmetry operations; a space group has at most 192")
    found = np.array([_operation(text) for text in texts])
    rotations = np.rint(found[:, :, :3])
    off = np.abs(found[:, :, :3] - rotations).max((1, 2)) > 1e-3
    off |= np.abs(np.abs(np.linalg.det(rotations)) - 1) > 1e-3
    if off.any():
        raise Unreadable(_no_operation(texts[int(off.argmax())]))
    found[:, :, :3] = rotations
    whole = np.rint(found[:, :, 3] * TRANSLATION) / TRANSLATION
    found[:, :, 3] = np.where(np.abs(found[:, :, 3] - whole) < 5e-3, whole, found[:, :, 3])
    return found


def _operation(text: str) -> np.ndarray:
    """Coefficients and translation, `[3, 4]`, of one text, whether or not they are a rotation."""
    parts = re.sub(r"\s", "", text).split(",")
    if len(text) > 60 or len(parts) != 3 or not all(map(OPERATION.fullmatch, parts)):
        raise Unreadable(_no_operation(text))
    found = np.zeros((3, 4))
    for row, part in enumerate(parts):
        for sign, number, _, below, axis in PART.findall(part):
            if number or axis:
                column = "xyz".index(axis.lower()) if axis else 3
                value = _value(number, float(below[1:] or 1))
                found[row, column] += -value if sign == "-" else value
    return found


def _no_operation(text: str) -> str:
    return f"has a symmetry operation that is none: {text[:40]!r}"


def _value(number: str, below: float) -> float:
    """A number, perhaps a fraction; 1 where a lone axis has none."""
    return float(number.split("/", maxsplit=1)[0]) / below if number and below else 1.0


def keys_of(operations: np.ndarray) -> np.ndarray:
    """One number for each operation `[..., 3, 4]`; lattice translations make no difference."""
    rotations = operations[..., :3].reshape(*operations.shape[:-2], 9)
    digits = np.rint(rotations).astype(np.int64) + 8
    rotation = digits @ 17 ** np.arange(9) * 10**6 % (2**61 - 1) * 1000
    steps = np.rint(operations[..., 3] * 1000).astype(np.int64) % 1000  # thirds and eighths differ
    return rotation + steps @ (1, 1000, 10**6)


def are_group(operations: np.ndarray) -> bool:
    """Whether the product of any two operations is one of them."""
    rotations, shifts = operations[:, :, :3], operations[:, :, 3]
    rows, count = rotations.reshape(-1, 3), len(operations)
    columns = rotations.transpose(1, 0, 2).reshape(3, -1)
    products = (rows @ columns).reshape(count, 3, count, 3).transpose(0, 2, 1, 3)
    moved = (rows @ shifts.T).reshape(count, 3, count).transpose(0, 2, 1) + shifts[:, None]
    every = np.concatenate((products, moved[..., None]), axis=-1)
    return bool(np.isin(keys_of(every), keys_of(operations)).all())


def written(operation: np.ndarray) -> str:
    """An operation as a CIF writes it.

    >>> written(parse_operations(["1/2-x, y, z"])[0])
    '-x+1/2,y,z'
    """
    from pymatgen.core.operations import SymmOp

    found = SymmOp.from_rotation_and_translation(operation[:, :3], operation[:, 3])
    return found.as_xyz_str().replace(" ", "")
