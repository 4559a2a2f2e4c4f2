"""Figure of phonons: bands with gaps between them, and the commensurate points that decide."""

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from crystalgan.plot.phonons import bands_figure
from crystalgan.stability.phonons import Bands, Mode, Phonons


def test_every_band_and_every_commensurate_frequency_is_drawn():
    frequencies = np.array([[0.0, 0, 0], [-2.0, 3, 4]])
    bands = Bands(
        np.array([0.0, 1, 1]), np.arange(9.0).reshape(3, 3), ((0, "G"), (1, "X"), (1, "K"))
    )
    vector = np.array([[1, 0, 0]]) + 0j
    phonons = Phonons(
        structure=Structure(Lattice.cubic(3), ["Cu"], [[0, 0, 0]]),
        energy=0.0,
        supercell=np.diag((1, 1, 2)),
        q_points=np.array([[0, 0, 0], [0, 0, 0.5]]),
        frequencies=frequencies,
        tolerance=0.3,
        zero_point=None,
        free_energy=None,
        imaginary=Mode((0, 0, 0.5), -2.0, vector),
        bands=bands,
        displacements=1,
    )
    lines, points = bands_figure(phonons).data
    drawn = np.array(lines.y, dtype=float).reshape(3, 5)
    assert np.array_equal(drawn[:, [0, 1, 3]], bands.frequencies.T)
    assert np.isnan(drawn[:, [2, 4]]).all()  # where the path jumps, and between bands
    assert sorted(points.y) == [-2, 0, 0, 0, 3, 4]
    assert points.customdata[3] == pytest.approx(-66.71, abs=0.01)  # cm-1
    colours = dict(zip(points.y, points.marker.color, strict=True))
    assert colours[-2] != colours[0] == colours[4]
    axis = bands_figure(phonons).layout.xaxis
    assert (axis.tickvals, axis.ticktext) == ((0, 1), ("Γ", "X|K"))
