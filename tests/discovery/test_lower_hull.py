"""The lower hull against pymatgen's phase diagram."""

from __future__ import annotations

import numpy as np
import pytest
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition

from crystalgan.discovery.lower_hull import LowerHull

ELEMENTS = [(1, 0, 0), (0, 1, 0), (0, 0, 1)]


def _entry(counts: tuple[int, ...], energy: float) -> PDEntry:
    composition = Composition(dict(zip(("H", "Pd", "Ni"), map(int, counts), strict=True)))
    return PDEntry(composition, energy * sum(counts))


def test_energies_above_the_hull_are_those_of_pymatgen():
    rng = np.random.default_rng(0)
    for _ in range(10):
        counts = ELEMENTS + [tuple(c) for c in rng.integers(0, 5, (12, 3)) if c.sum()]
        energies = [-3.4, -5.2, -5.8, *rng.normal(-5.0, 0.5, len(counts) - 3)]
        hull = LowerHull.of(counts, energies)
        diagram = PhaseDiagram([_entry(c, e) for c, e in zip(counts, energies, strict=True)])
        wanted = [(1, 1, 1), (3, 1, 2), (0, 2, 3), (5, 1, 0), (12, 5, 1)]
        theirs = [diagram.get_hull_energy_per_atom(_entry(c, 0.0).composition) for c in wanted]
        assert hull.energy(wanted) == pytest.approx(theirs, abs=1e-9)


def test_elements_alone_are_a_plane():
    hull = LowerHull.of(ELEMENTS, [-1.0, -2.0, -4.0])
    assert hull.energy([(2, 1, 1)])[0] == pytest.approx(-2.0)
    assert hull.above([(1, 1, 0)], [-1.6])[0] == pytest.approx(-0.1)
