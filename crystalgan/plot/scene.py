"""A cell -> the scene that crystal-toolkit's viewer draws: atoms and their images, bonds by
explicit cutoffs, polyhedra.

crystal-toolkit's scene classes need only the standard library, and importing the whole package
takes many seconds: so that one file is loaded by its path.
"""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crystalgan.crystal import describe
from crystalgan.plot.style import EDGE_COLOUR, OKABE_ITO, cell_edges, element_colour

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

    import numpy as np
    from pymatgen.core import Structure

FACE = 0.02  # fractional: atoms closer to a face than this are drawn on the opposite one too
LIT_COLOUR = OKABE_ITO[1]
AXIS_COLOURS = dict(zip("abc", (OKABE_ITO[1], OKABE_ITO[2], OKABE_ITO[0]), strict=True))
BOND_RADIUS, LIT_RADIUS = 0.08, 0.16  # Å
POLYHEDRON_MIN = 4  # corners


@cache
def _primitives() -> ModuleType:
    package = importlib.util.find_spec("crystal_toolkit")
    assert package is not None, "crystal-toolkit is not installed"
    assert package.origin is not None
    path = Path(package.origin).parent / "core" / "scene.py"
    spec = importlib.util.spec_from_file_location("crystalgan_ctk_scene", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def build_scene(
    structure: Structure,
    cutoffs: dict[str, float] | None = None,
    size: tuple[int, int, int] = (1, 1, 1),
    images: bool = True,
    polyhedra: bool = False,
    lit: tuple[int, int, tuple[int, int, int]] | None = None,
    numbers: Sequence[int] | None = None,
) -> dict[str, Any]:
    """The scene as JSON for `CrystalToolkitScene`.

    `cutoffs`: longest bond of a pair in Å, named like "H-Pd" (`describe.default_cutoffs` by
    default). `size`: cells along each axis. `images`: atoms on a face, edge or corner are drawn on
    the opposite ones too. `lit`: an atom, its neighbour and the neighbour's image, drawn as a
    bright bond. Every atom carries its number in `_meta`: its own, or the one that `numbers` gives
    it where atoms are copies of those of another cell, and so does its name.
    """
    ctk = _primitives()
    matrix = structure.lattice.matrix
    index, points = _drawn(structure, size, images)
    marks = _marks(structure, range(len(structure)) if numbers is None else numbers)
    near = describe.bonds(
        structure, describe.default_cutoffs(structure) if cutoffs is None else cutoffs
    )
    parts = {
        "atoms": [
            _atom(ctk, structure, i, points[index == i], marks[i]) for i in range(len(structure))
        ],
        "bonds": _bonds(ctk, structure, near, index, points),
        "polyhedra": _polyhedra(ctk, structure, near, index, points, marks) if polyhedra else [],
        "cell": [_box(ctk, matrix, size)],
        "lit": _lit(ctk, structure, lit, marks) if lit else [],
    }
    # of each part: the viewer asks the innermost scenes only
    origin = [-x / 2 for x in size @ matrix]
    scenes = [
        ctk.Scene(name, primitives, origin=origin)
        for name, primitives in parts.items()
        if primitives
    ]
    return _plain(
        ctk.Scene("cell_in_3d", [*scenes, _axes(ctk, matrix)], lattice=matrix.tolist()).to_json()
    )


def legend(structure: Structure) -> list[dict[str, str]]:
    """Element and colour of each element of the cell."""
    return [
        {"name": str(e.symbol), "colour": _hex(element_colour(e.symbol))}
        for e in structure.composition.elements
    ]


def _plain(value: Any) -> Any:
    """The same with numpy's numbers and arrays, which JSON does not know, as Python's."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value.tolist() if hasattr(value, "tolist") else value


def _hex(rgb: str) -> str:
    return "#" + "".join(f"{int(number):02x}" for number in rgb[4:-1].split(","))


def _radius(symbol: str) -> float:
    from pymatgen.core import Element

    return 0.2 + 0.22 * float(Element(symbol).atomic_radius or 1.2)


def _drawn(
    structure: Structure, size: tuple[int, int, int], images: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers and positions (Å) of all atoms to draw."""
    import numpy as np

    inside = structure.frac_coords % 1.0
    inside[inside > 1 - FACE] -= 1.0
    index, shown = [], []
    for i, position in enumerate(inside):
        ranges = [
            range(n + 1 if images and abs(x) < FACE else n)
            for x, n in zip(position, size, strict=True)
        ]
        for shift in product(*ranges):
            index.append(i)
            shown.append(position + shift)
    return np.array(index, dtype=int), np.array(shown).reshape(-1, 3) @ structure.lattice.matrix


def _marks(structure: Structure, numbers: Sequence[int]) -> list[tuple[int, str]]:
    """The number and the name of each atom."""
    first = [structure[list(numbers).index(number)] for number in sorted(set(numbers))]
    names = dict(zip(sorted(set(numbers)), describe.atom_names(first), strict=True))
    return [(number, names[number]) for number in numbers]


def _atom(
    ctk: ModuleType, structure: Structure, i: int, points: np.ndarray, mark: tuple[int, str]
) -> Any:
    site = structure[i]
    number, name = mark
    place = ", ".join(f"{x:.3f}" for x in site.frac_coords % 1)
    return ctk.Spheres(
        points.tolist(),
        color=_hex(element_colour(site.specie.symbol)),
        radius=_radius(site.specie.symbol),
        tooltip=f"{name} ({place})",
        clickable=True,
        _meta=[{"atom": number}],
    )


def _bonds(
    ctk: ModuleType,
    structure: Structure,
    near: list[describe.Neighbour],
    index: np.ndarray,
    points: np.ndarray,
) -> list[Any]:
    """Of every drawn atom its half of each bond, in its colour: so bonds that leave the cell are
    seen as well."""
    out = []
    for n in near:
        half = _vector(structure, n.center, n.other, n.image) / 2
        pairs = [[p.tolist(), (p + half).tolist()] for p in points[index == n.center]]
        colour = _hex(element_colour(structure[n.center].specie.symbol))
        out.append(
            ctk.Cylinders(
                pairs, color=colour, radius=BOND_RADIUS, tooltip=f"{n.pair} {n.distance:.3f} Å"
            )
        )
    return out


def _vector(structure: Structure, i: int, j: int, image: tuple[int, int, int]) -> np.ndarray:
    frac = structure.frac_coords
    return (frac[j] + image - frac[i]) @ structure.lattice.matrix


def _polyhedra(
    ctk: ModuleType,
    structure: Structure,
    near: list[describe.Neighbour],
    index: np.ndarray,
    points: np.ndarray,
    marks: list[tuple[int, str]],
) -> list[Any]:
    """Around every drawn metal atom the hull of the non-metals bonded to it."""
    import numpy as np

    out = []
    for i, site in enumerate(structure):
        if not site.specie.is_metal:
            continue
        corners = [
            _vector(structure, i, n.other, n.image)
            for n in near
            if n.center == i and not structure[n.other].specie.is_metal
        ]
        if (
            len(corners) < POLYHEDRON_MIN
            or np.linalg.matrix_rank(np.array(corners) - corners[0], tol=0.1) < 3
        ):
            continue  # a plane has no hull
        colour = _hex(element_colour(site.specie.symbol))
        out += [
            ctk.Convex(
                [(p + c).tolist() for c in corners],
                color=colour,
                opacity=0.35,
                _meta=[{"atom": marks[i][0]}],
            )
            for p in points[index == i]
        ]
    return out


def _lit(
    ctk: ModuleType,
    structure: Structure,
    lit: tuple[int, int, tuple[int, int, int]],
    marks: list[tuple[int, str]],
) -> list[Any]:
    """A bright bond from an atom to its neighbour, and the neighbour itself where it lies outside
    the cell."""
    i, j, image = lit
    inside = structure.frac_coords[i] % 1.0
    inside[inside > 1 - FACE] -= 1.0
    start = inside @ structure.lattice.matrix
    end = start + _vector(structure, i, j, image)
    return [
        ctk.Cylinders([[start.tolist(), end.tolist()]], color=LIT_COLOUR, radius=LIT_RADIUS),
        _atom(ctk, structure, j, end[None], marks[j]),
    ]


def _box(ctk: ModuleType, matrix: np.ndarray, size: tuple[int, int, int]) -> Any:
    import numpy as np

    start, end = cell_edges(matrix)
    shifts = np.array(list(product(*map(range, size)))) @ matrix
    segments = np.stack((start, end), 1)  # [12, 2, 3]
    every = (segments[None] + shifts[:, None, None]).reshape(-1, 3)
    return ctk.Lines(every.tolist(), color=EDGE_COLOUR, linewidth=1)


def _axes(ctk: ModuleType, matrix: np.ndarray) -> Any:
    import numpy as np

    unit = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    arrows = [
        ctk.Arrows(
            [[[0, 0, 0], v.tolist()]],
            color=AXIS_COLOURS[x],
            radius=0.07,
            headLength=0.24,
            headWidth=0.16,
        )
        for x, v in zip("abc", unit, strict=True)
    ]
    return ctk.Scene("axes", arrows, origin=(0, 0, 0))
