"""Checks of the safetensors files of a run: finite numbers everywhere, and in `classes.safetensors`
the cells of two classes. On numpy arrays, so that the app needs no tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from crystalgan.errors import InputError
from crystalgan.runs.schema import MOST_ATOMS, OF_DAMAGE, SMALLEST_VOLUME, reason
from crystalgan.storage import COPY, problem

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

CLASSES = "classes.safetensors"
TRAIN_AGAIN = "train the pair again"
MOST_CELLS = 1_000_000  # of a class


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file, all finite; InputError where it is damaged or missing."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        path.open("rb").close()  # what the system says is plainer than what safetensors makes of it
        arrays: dict[str, np.ndarray] = load_file(path)
        check_finite(arrays)
    except OSError as error:
        raise InputError(problem(error, path, COPY, writing=False)) from None
    except (SafetensorError, *OF_DAMAGE) as error:
        raise InputError(f"{path}: damaged ({reason(error)}); {TRAIN_AGAIN}.") from None
    return arrays


def check_finite(arrays: Mapping[str, Any]) -> None:
    """ValueError for an array of anything but finite numbers."""
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf" or not np.isfinite(array).all():
            raise ValueError(f"{name} holds other things than finite numbers")


def check_classes(arrays: Mapping[str, Any], path: Path) -> None:
    """InputError where arrays are not those of two classes: names, shapes, types, cells with a
    volume that hold atoms of both elements."""
    try:
        for name in "ab":
            lattice, frac, mask = (arrays[f"{name}.{key}"] for key in ("lattice", "frac", "mask"))
            _check_class(name, lattice, frac, mask)
    except KeyError as error:
        raise InputError(f"{path}: damaged ({error} is missing); {TRAIN_AGAIN}.") from None
    except OF_DAMAGE as error:
        raise InputError(f"{path}: damaged ({reason(error)}); {TRAIN_AGAIN}.") from None


def _check_class(name: str, lattice: np.ndarray, frac: np.ndarray, mask: np.ndarray) -> None:
    cells, slots, length = mask.shape  # of other dimensions: a ValueError
    if lattice.dtype != np.float64 or frac.dtype != np.float64 or mask.dtype != np.bool_:
        raise ValueError(
            f"{name}: lattice, frac, mask are {lattice.dtype}, {frac.dtype}, {mask.dtype}"
        )
    if slots != 2 or lattice.shape != (cells, 3, 3) or frac.shape != (cells, 2, length, 3):
        raise ValueError(f"{name}: shapes {lattice.shape}, {frac.shape}, {mask.shape} disagree")
    if not 0 < cells <= MOST_CELLS or not 0 < length <= MOST_ATOMS:
        raise ValueError(f"{name}: {cells} cells of {length} atoms")
    if not mask.any(-1).all():
        raise ValueError(f"{name}: a cell lacks one of its elements")
    if not (np.abs(np.linalg.det(lattice)) > SMALLEST_VOLUME).all():
        raise ValueError(f"{name}: a cell without a volume")
