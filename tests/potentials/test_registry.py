"""Potentials by name: models of SevenNet, a checkpoint of one's own, calculators with arguments."""

from __future__ import annotations

import sys
from hashlib import sha256
from importlib import metadata
from types import ModuleType

import numpy as np
import pytest
from ase.calculators import emt
from pymatgen.core import Lattice, Structure

from crystalgan.errors import InputError
from crystalgan.potentials.registry import (
    NAMES,
    TITLES,
    keyword_arguments,
    load_potential,
    untrained,
)
from crystalgan.stability.relax import single_point

EMT = "ase.calculators.emt.EMT"


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        ("", {}),
        ("a=1", {"a": 1}),
        ("a=1.5,b=-2e3", {"a": 1.5, "b": -2000.0}),
        ("a=True,b=false,c=None", {"a": True, "b": False, "c": None}),
        ("device=cpu,model=/a/b-c_0.pth", {"device": "cpu", "model": "/a/b-c_0.pth"}),
        (
            "a=(1,2),b=[3,[4,5]],c={'x': 1,'y': 2}",
            {"a": (1, 2), "b": [3, [4, 5]], "c": {"x": 1, "y": 2}},
        ),
        ("a='x,y=z',b=\"it's\"", {"a": "x,y=z", "b": "it's"}),
        ("a=x=y", {"a": "x=y"}),
        ("a='1'", {"a": "1"}),
        (" a = 1 , b = text of words ", {"a": 1, "b": "text of words"}),
        ("a=__import__('os')", {"a": "__import__('os')"}),  # text, never run
        ("a=", {"a": ""}),
    ],
)
def test_arguments_are_literals_or_text(words, arguments):
    found = keyword_arguments(words)
    assert found == arguments
    assert [type(value) for value in found.values()] == [type(v) for v in arguments.values()]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("a", "'a' of a potential is no key=value"),
        ("a=1,", "'' of a potential is no key=value"),
        ("1a=2", "'1a=2' of a potential is no key=value"),
        ("a=1,a=2", "'a=2' of a potential is given twice"),
    ],
)
def test_what_are_no_arguments_is_a_sentence(words, said):
    with pytest.raises(InputError, match=said):
        keyword_arguments(words)


def test_arguments_reach_the_calculator_and_its_name():
    plain, other = load_potential(EMT), load_potential(f"{EMT}:asap_cutoff=true")
    assert (plain.name, other.name) == ("EMT", "EMT:asap_cutoff=True")
    assert plain.version == other.version
    fcc = Structure.from_spacegroup(225, Lattice.cubic(3.7), ["Pd"], [[0, 0, 0]])
    for potential, cutoff in ((plain, False), (other, True)):
        atoms = fcc.to_ase_atoms()
        atoms.calc = emt.EMT(asap_cutoff=cutoff)
        assert single_point(fcc, potential) == pytest.approx(atoms.get_potential_energy(), abs=1e-9)
    assert single_point(fcc, plain) != pytest.approx(single_point(fcc, other), abs=1e-6)


def test_a_name_says_the_same_arguments_alike_and_others_apart():
    def name(words):
        return load_potential(f"ase.calculators.lj.LennardJones:{words}").name

    assert name("sigma=2,epsilon=1") == name("epsilon = 1, sigma = 2")
    assert name("sigma=2") != name("sigma=2.5")
    yes = [load_potential(f"{EMT}:asap_cutoff={word}").name for word in ("1", "'1'", "true")]
    assert len(set(yes)) == 3
    long = "label=" + "x" * 150
    assert len(name(long)) < 100
    assert name(long) == name(long) != name(f"{long}y")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (f"{EMT}:cutoff=3", "takes no argument cutoff; it takes asap_cutoff"),
        ("ase.calculators.lj.LennardJones:sigm=1", "takes no argument sigm; it takes epsilon"),
        ("ase.calculators.singlepoint.SinglePointCalculator:x=1", "cannot be made .TypeError"),
        (f"{EMT}:", None),
        ("chgnet:x=1", "'chgnet' is no potential; give chgnet, sevennet, sevennet-l3i5"),
        ("sevennet-l3i5:x", "'sevennet-l3i5' is no potential"),
    ],
)
def test_a_wrong_argument_is_a_sentence(name, said):
    if said is None:
        assert load_potential(name).name == "EMT"
        return
    with pytest.raises(InputError, match=said) as caught:
        load_potential(name)
    assert "\n" not in str(caught.value)


def test_a_file_among_the_arguments_is_told_from_another(tmp_path):
    def version(text):
        (tmp_path / "weights").write_text(text)
        return load_potential(f"{EMT}:label={tmp_path / 'weights'}").version

    assert version("one") == version("one") != version("two")


# SevenNet itself is an extra; what is given to it is seen here


class Given:
    """In the place of SevenNet's calculator; remembers its arguments."""

    def __init__(self, model, device, modal):
        if model == "broken":
            raise ValueError(model)
        self.arguments = model, device, modal


@pytest.fixture
def given(monkeypatch):
    package, module = ModuleType("sevenn"), ModuleType("sevenn.calculator")
    module.SevenNetCalculator = Given
    monkeypatch.setitem(sys.modules, "sevenn", package)
    monkeypatch.setitem(sys.modules, "sevenn.calculator", module)
    version = metadata.version
    monkeypatch.setattr(metadata, "version", lambda n: "9.9" if n == "sevenn" else version(n))


@pytest.fixture
def without(monkeypatch):
    monkeypatch.setitem(sys.modules, "sevenn", None)  # as if it were not installed


@pytest.mark.parametrize(
    ("name", "title", "version", "arguments"),
    [
        ("sevennet", "SevenNet", "7net-0 (sevenn 9.9)", ("7net-0", "cpu", None)),
        ("SevenNet-L3i5", "SevenNet-l3i5", "7net-l3i5 (sevenn 9.9)", ("7net-l3i5", "cpu", None)),
        (
            "sevennet-mf-r2scan",
            "SevenNet-MF-r2SCAN",
            "7net-mf-0 R2SCAN (sevenn 9.9)",
            ("7net-mf-0", "cpu", "R2SCAN"),
        ),
    ],
)
@pytest.mark.usefixtures("given")
def test_what_sevennet_is_asked_for(name, title, version, arguments):
    found = load_potential(name)
    assert (found.name, found.version) == (title, version)
    assert found.calculator.arguments == arguments


@pytest.mark.usefixtures("given")
def test_checkpoints_of_one_name_are_told_by_their_content(tmp_path):
    found = []
    for folder, content in (("a", b"1"), ("b", b"2"), ("c", b"1")):
        path = tmp_path / folder / "best.pth"
        path.parent.mkdir()
        path.write_bytes(content)
        one = load_potential(f"sevennet:{path}")
        assert one.calculator.arguments == (str(path), "cpu", None)
        assert one.version.startswith(sha256(content).hexdigest()[:12])
        assert one.name.startswith("SevenNet:best-")
        found.append((one.name, one.version))
    assert found[0] == found[2]
    assert found[0][0] != found[1][0]
    assert found[0][1] != found[1][1]


@pytest.mark.usefixtures("given")
def test_a_file_that_is_not_there_or_none_is_a_sentence(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"nowhere\.pth: cannot be read .*give a checkpoint"):
        load_potential(f"sevennet:{tmp_path / 'nowhere.pth'}")
    with pytest.raises(InputError, match=r"cannot be read \(it is a folder\); give a checkpoint"):
        load_potential(f"sevennet:{tmp_path}")

    def broken(words):
        def make(*_, **__):
            raise ValueError(words)

        monkeypatch.setattr(sys.modules["sevenn.calculator"], "SevenNetCalculator", make)
        (tmp_path / "x.pth").write_text("x")
        with pytest.raises(InputError) as caught:
            load_potential(f"sevennet:{tmp_path / 'x.pth'}")
        return str(caught.value)

    assert "x.pth: is no checkpoint that SevenNet reads (ValueError: bad)" in broken("bad\nworse")
    assert "modal=NAME" in broken("modal argument missing (avail: ['A', 'B'])")


@pytest.mark.usefixtures("without")
def test_without_the_package_it_is_a_sentence(tmp_path):
    (tmp_path / "x.pth").write_text("x")
    for name in (*NAMES[1:], f"sevennet:{tmp_path / 'x.pth'}"):
        with pytest.raises(InputError, match=r"cannot be loaded .*pip install '\.\[sevennet\]'"):
            load_potential(name)


def test_names_and_titles():
    assert NAMES[:2] == ("chgnet", "sevennet")
    assert [title.lower() for title in TITLES] == list(NAMES)
    for name, title in zip(NAMES, TITLES, strict=True):
        assert untrained(name, ["Ra"]) == untrained(title, ["Ra"])
        assert untrained(name, ["Ra"]).startswith(f"{title} was hardly trained on Ra")
    assert not untrained("SevenNet:best-12345678", ["Ra"])  # nothing is known of it


def test_the_models_themselves():
    """Where the package is installed: PBE and r2SCAN have other energies, forces are derivatives."""
    pytest.importorskip("sevenn")
    cell = Structure(Lattice.cubic(4.2), ["Mg", "H"], [[0, 0, 0], [0.45, 0.5, 0.5]])
    energies = [single_point(cell, load_potential(name)) for name in NAMES[1:]]
    assert abs(energies[0] - energies[1]) < 0.2 * abs(energies[0])  # both PBE
    assert abs(energies[2] - energies[0]) > 1  # eV; another functional's pseudo-atoms
    potential = load_potential("sevennet-mf-r2scan")
    atoms = cell.to_ase_atoms()
    atoms.calc = potential.calculator
    force = atoms.get_forces()[1, 0]
    step = 1e-2
    sides = []
    for sign in (1, -1):
        moved = cell.copy()
        moved.translate_sites([1], [sign * step, 0, 0], frac_coords=False)
        sides.append(single_point(moved, potential))
    assert force == pytest.approx(-(sides[0] - sides[1]) / (2 * step), abs=5e-3)
    assert np.isfinite(energies).all()
