"""Storage: capacities and temperatures against measured ones, releases against hand-made hulls."""

import math

import pytest
from pymatgen.core import Lattice, Structure

from crystalgan.stability.hull import Phase, diagram_of, products
from crystalgan.stability.hydrogen import (
    EV,
    KNOWN,
    Release,
    Vibrations,
    card,
    grams_per_litre,
    pressure,
    release_all,
    release_first,
    temperature,
    weight_percent,
    with_vibrations,
)

# wt% as handbooks give them (G. Sandrock, J. Alloys Compd. 293, 877 (1999); L. Schlapbach, A.
# Züttel, Nature 414, 353 (2001)).
CAPACITIES = {
    "LaNi5H6": 1.38,
    "TiFeH2": 1.91,
    "Mg2NiH4": 3.62,
    "MgH2": 7.66,
    "PdH": 0.94,
    "LiBH4": 18.5,
    "NaAlH4": 7.47,
    "AlH3": 10.1,
    "LiH": 12.7,
    "TiH2": 4.04,
}


@pytest.mark.parametrize(("formula", "expected"), CAPACITIES.items())
def test_capacity_of_known_hydrides(formula, expected):
    digits = len(str(expected).partition(".")[2])
    assert round(weight_percent(formula), digits) == expected


def test_the_table_of_known_hydrides_is_right():
    assert {known.formula: known.weight_percent for known in KNOWN} == {
        k: CAPACITIES[k] for k in list(CAPACITIES)[:5]
    }


@pytest.mark.parametrize(
    ("enthalpy", "entropy", "kelvin"),
    [
        (30.1, 0.1092, 275.6),  # LaNi5: van Mal, Buschow, Miedema (1974)
        (28.1, 0.106, 265.1),  # TiFe: -8 °C in Sandrock's table
        (64.5, 0.122, 528.7),  # Mg2Ni: 255 °C
    ],
)
def test_temperature_of_one_bar(enthalpy, entropy, kelvin):
    assert temperature(enthalpy, entropy) == pytest.approx(kelvin, abs=1)
    assert pressure(enthalpy, entropy, kelvin) == pytest.approx(1, rel=0.02)


def test_pressure_follows_van_t_hoff():
    assert pressure(30.8, 0.108) == pytest.approx(1.8, abs=0.2)  # LaNi5 at 25 °C, bar
    assert pressure(75.0, 0.135) < 1e-5 < pressure(40.0, 0.135)
    assert math.isfinite(pressure(-1e4))


def rocksalt(a):
    return Structure.from_spacegroup(
        225, Lattice.cubic(a), ["Pd", "H"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    )


def test_density_and_nearest_hydrogen_of_rocksalt():
    structure = rocksalt(4.09)
    assert grams_per_litre(structure) == pytest.approx(
        4 * 1.008 * 1.66054 / 4.09**3 * 1000, rel=1e-4
    )
    made = card(structure, None, None)
    assert made.shortest == pytest.approx(4.09 / math.sqrt(2))
    assert made.whole is made.first is None


@pytest.fixture
def magnesium_nickel():
    """Elements at 0 eV, MgH2 0.66 eV below them and Mg2Ni 0.3 eV."""
    energies = {"Mg": 0.0, "Ni": 0.0, "H2": 0.0, "MgH2": -0.66, "Mg2Ni": -0.3}
    return [Phase(formula, formula, energy) for formula, energy in energies.items()]


def test_release_of_a_binary_is_its_formation_enthalpy(magnesium_nickel):
    diagram = diagram_of(magnesium_nickel)
    release = release_all(diagram, "Mg2H4", -1.32)
    assert release.enthalpy == pytest.approx(0.66 * EV)
    assert release.products == [("Mg", pytest.approx(1.0))]
    assert release.hydrogen == pytest.approx(1.0)
    assert release_first(diagram, "Mg2H4") == release
    assert release_all(diagram, "Mg2Ni", -0.3) is None
    assert release_first(diagram, "H2") is None


def test_release_of_a_ternary_in_steps(magnesium_nickel):
    """Mg2NiH6 at -1.8 eV loses one H2 towards 2 MgH2 + Ni, which takes 0.48 eV; then MgH2 gives its
    own, helped by Mg2Ni."""
    diagram = diagram_of([*magnesium_nickel, Phase("Mg2NiH6", "Mg2NiH6", -1.8)])
    whole, first = release_all(diagram, "Mg2NiH6", -1.8), release_first(diagram, "Mg2NiH6")
    assert whole.enthalpy == pytest.approx((1.8 - 0.3) / 3 * EV)
    assert whole.products == [("Mg2Ni", pytest.approx(1.0))]
    assert first.enthalpy == pytest.approx((1.8 - 1.32) * EV)
    assert first.products == [("MgH2", pytest.approx(2.0)), ("Ni", pytest.approx(1.0))]
    assert first.hydrogen == pytest.approx(1.0)


def test_products_keep_the_atoms(magnesium_nickel):
    assert products(diagram_of(magnesium_nickel), "Mg4Ni2H4") == [
        ("MgH2", pytest.approx(2.0)),
        ("Mg2Ni", pytest.approx(1.0)),
        ("Ni", pytest.approx(1.0)),
    ]


def test_a_release_with_vibrations_is_that_of_arithmetic():
    """2 Mg2NiH4 -> 2 Mg2Ni + 4 H2, with 1 bar of H2 at 300 K from its measured entropy."""
    known = {"Mg2NiH4": Vibrations(0.150, 0.120), "Mg2Ni": Vibrations(0.030, -0.040)}
    warm = with_vibrations(Release(64.0, [("Mg2Ni", 1.0)], 2.0), "Mg2NiH4", known)
    of_molecule = 2179.3 / 2.0 * 2 / 8065.544  # cm-1 to eV
    assert warm.enthalpy == pytest.approx(
        64 + EV * ((3 * 0.030 - 7 * 0.150) / 2 + of_molecule), abs=0.01
    )
    # NIST-JANAF at 298.15 K: H - H(0 K) 8.467 kJ/mol, S 130.68 J/(mol K); Cp 28.8 J/(mol K)
    gas = 8.467 + 0.0288 * 1.85 - 300 * (0.13068 + 0.0288 * math.log(300 / 298.15))
    assert warm.free_energy == pytest.approx(
        64 + EV * ((3 * -0.040 - 7 * 0.120) / 2 + of_molecule) + gas, abs=0.05
    )
    assert with_vibrations(Release(64.0, [("Mg", 2.0)], 2.0), "Mg2NiH4", known) is None
