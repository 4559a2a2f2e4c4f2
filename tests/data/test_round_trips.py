"""Crystals at random, written by arithmetic or by ASE, are read back as the same crystals."""

import io
import json
from dataclasses import dataclass

import ase.io
import numpy as np
import pytest
from ase import Atoms
from hypothesis import given, settings
from hypothesis import strategies as st

from crystalgan.data.cif.reader import read_cif
from crystalgan.data.formats.extxyz import read_xyz
from crystalgan.data.formats.json_cells import read_json
from crystalgan.data.formats.poscar import read_poscar
from crystalgan.data.formats.source import Source

quick = settings(deadline=None, derandomize=True, max_examples=30, database=None)
CORNERS = [(i / 2, j / 2, k / 2) for i in range(2) for j in range(2) for k in range(2)]


@dataclass(frozen=True)
class Crystal:
    lattice: np.ndarray
    symbols: list[str]  # sorted, as a POSCAR groups them
    frac: np.ndarray


@st.composite
def crystals(draw):
    """Atoms near different halves of a cell, so that none is nearer than 0.7 Å to another."""
    lengths = [draw(st.floats(3, 8)) for _ in range(3)]
    off = [draw(st.floats(-0.3, 0.3)) for _ in range(6)]
    lattice = np.diag(lengths)
    lattice[np.triu_indices(3, 1)] = off[:3]
    lattice[np.tril_indices(3, -1)] = off[3:]
    corners = draw(st.lists(st.sampled_from(CORNERS), min_size=1, max_size=6, unique=True))
    moved = [[draw(st.floats(-0.08, 0.08)) for _ in range(3)] for _ in corners]
    symbols = [draw(st.sampled_from(["H", "Ni", "Pd", "Mg"])) for _ in corners]
    return Crystal(lattice, sorted(symbols), np.array(corners) + np.array(moved))


def rows(numbers):
    return "\n".join(" ".join(f"{x:.12f}" for x in row) for row in np.atleast_2d(numbers))


def cells_of(reader, text):
    return [build() for _, build, _ in reader(Source(text.encode(), None, "H"))]


def assert_same(crystal, found, rotated=False):
    """The same lattice (or, rotated, the same metric), elements and positions modulo the lattice."""
    lattice, read = (m @ m.T if rotated else m for m in (crystal.lattice, found.lattice.matrix))
    np.testing.assert_allclose(read, lattice, atol=1e-6)
    assert [site.specie.symbol for site in found] == crystal.symbols
    apart = found.frac_coords - crystal.frac
    np.testing.assert_allclose(apart - np.rint(apart), 0, atol=1e-7)


@quick
@given(crystals(), st.sampled_from(["one", "factor", "three", "volume"]), st.booleans())
def test_poscars(crystal, scale, cartesian):
    volume = abs(np.linalg.det(crystal.lattice))
    said, factors = {
        "one": ("1.0", np.ones(3)),
        "factor": ("2.5", np.full(3, 2.5)),
        "three": ("1.0 2.0 0.5", np.array([1.0, 2.0, 0.5])),
        "volume": (f"-{volume:.12f}", np.full(3, 3.0)),  # whatever size the vectors are written in
    }[scale]
    symbols = dict.fromkeys(crystal.symbols)
    positions = crystal.frac @ crystal.lattice / factors if cartesian else crystal.frac
    text = "\n".join(
        [
            "a cell at random",
            said,
            rows(crystal.lattice / factors),
            " ".join(symbols),
            " ".join(str(crystal.symbols.count(symbol)) for symbol in symbols),
            "Cartesian" if cartesian else "Direct",
            rows(positions),
        ]
    )
    (found,) = cells_of(read_poscar, text)
    assert_same(crystal, found)


@quick
@given(st.lists(crystals(), min_size=1, max_size=3))
def test_extended_xyz_of_ase(several):
    text = io.StringIO()
    images = [Atoms(c.symbols, scaled_positions=c.frac, cell=c.lattice, pbc=True) for c in several]
    ase.io.write(text, images, format="extxyz")
    found = cells_of(read_xyz, text.getvalue())
    assert len(found) == len(several)
    for crystal, structure in zip(several, found, strict=True):
        assert_same(crystal, structure)


@quick
@given(crystals(), st.sampled_from(["", "P 1", "P -1"]))
def test_cifs(crystal, group):
    """With the centre of symmetry each atom has an image at its negative place."""
    metric = crystal.lattice @ crystal.lattice.T
    a, b, c = np.sqrt(np.diag(metric))
    angles = (metric[1, 2] / b / c, metric[0, 2] / a / c, metric[0, 1] / a / b)
    alpha, beta, gamma = np.degrees(np.arccos(angles))
    names = [f"length_{x}" for x in "abc"] + [f"angle_{x}" for x in ("alpha", "beta", "gamma")]
    numbers = zip(names, (a, b, c, alpha, beta, gamma), strict=True)
    frac = crystal.frac
    if group == "P -1":  # on general places of one half of the cell, apart from their images
        frac = (crystal.frac % 1) * [1, 1, 0.3] + [0, 0, 0.1]
        frac, crystal = frac[:1], Crystal(crystal.lattice, crystal.symbols[:1], frac[:1])
    sites = [
        f"{symbol}{i} {symbol} {rows(x)}"
        for i, (symbol, x) in enumerate(zip(crystal.symbols, frac, strict=True))
    ]
    loop = ["loop_", "_atom_site_label", "_atom_site_type_symbol"]
    loop += [f"_atom_site_fract_{x}" for x in "xyz"]
    head = [f"_space_group_name_H-M_alt '{group}'"] if group else []
    text = "\n".join(["data_x", *(f"_cell_{n} {x:.12f}" for n, x in numbers), *head, *loop, *sites])
    (found,) = cells_of(read_cif, text)
    if group == "P -1":
        crystal = Crystal(crystal.lattice, crystal.symbols * 2, np.concatenate((frac, -frac)))
    assert_same(crystal, found, rotated=True)


@quick
@given(crystals())
def test_pymatgens_json(crystal):
    sites = [
        {"species": [{"element": symbol, "occu": 1}], "abc": list(x)}
        for symbol, x in zip(crystal.symbols, crystal.frac, strict=True)
    ]
    text = json.dumps({"lattice": {"matrix": crystal.lattice.tolist()}, "sites": sites})
    (found,) = cells_of(read_json, text)
    assert_same(crystal, found)


def test_a_crystal_that_differs_is_told():
    """The comparison above can fail."""
    crystal = Crystal(np.eye(3) * 4, ["H", "Pd"], np.array([[0, 0, 0], [0.5, 0.5, 0.5]]))
    text = "x\n1\n4 0 0\n0 4 0\n0 0 4\nH Pd\n1 1\nDirect\n0 0 0\n.5 .5 .501\n"
    (found,) = cells_of(read_poscar, text)
    with pytest.raises(AssertionError):
        assert_same(crystal, found)
