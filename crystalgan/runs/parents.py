"""The cells of both classes that a run learned from, its candidates' parents, as structures: read
without tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crystalgan.runs.arrays import CLASSES, check_classes, read_arrays

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from crystalgan.runs.folder import Run


def class_structures(run: Run) -> tuple[list[Structure], list[Structure]]:
    """The canonical cells of both classes that a run learned from."""
    from pymatgen.core import Structure

    arrays, (shared, *metals) = read_arrays(run.folder / CLASSES), run.species
    check_classes(arrays, run.folder / CLASSES)
    a, b = (
        [
            Structure(
                lattice,
                [shared] * int(mask[0].sum()) + [metal] * int(mask[1].sum()),
                frac[mask],
            )
            for lattice, frac, mask in zip(
                *(arrays[f"{name}.{key}"] for key in ("lattice", "frac", "mask")), strict=True
            )
        ]
        for name, metal in zip("ab", metals, strict=True)
    )
    return a, b
