"""Every setting of spglib's table as CIF: the crystal that was written is read, or a sentence says
what to write."""

from __future__ import annotations

import re
from functools import cache

import numpy as np
import pytest
import spglib
from pymatgen.core import Lattice

from crystalgan.data.cif.reader import read_cif
from crystalgan.data.cif.space_groups import AXES, OLD_SYMBOLS, settings
from crystalgan.data.files import Unreadable
from crystalgan.data.formats.source import Source

SETTINGS = range(1, 531)
KEY = "_symmetry_space_group_name_H-M"


@cache
def table(number):
    """spglib's own words on a setting, and its operations."""
    found = spglib.get_symmetry_from_database(number)
    return spglib.get_spacegroup_type(number), found["rotations"], found["translations"]


def lattice_of(number):
    """A cell with the metric of a setting and no more: general lengths and angles where the setting
    leaves them free."""
    kind, *_ = table(number)
    axis = kind.choice.lstrip("-")[:1]
    if kind.number <= 2:
        return Lattice.from_parameters(5.1, 6.3, 7.7, 81.0, 97.0, 104.0)
    if kind.number <= 15:
        angles = {"a": (104, 90, 90), "b": (90, 104, 90), "c": (90, 90, 104)}[axis]
        return Lattice.from_parameters(5.3, 6.7, 8.3, *angles)
    if kind.number <= 74:
        return Lattice.orthorhombic(5.3, 6.7, 8.3)
    if kind.number <= 142:
        return Lattice.tetragonal(5.7, 8.3)
    if kind.number <= 194:
        return Lattice.rhombohedral(6.1, 71) if kind.choice == "R" else Lattice.hexagonal(5.7, 9.1)
    return Lattice.cubic(8.9)


def special(number, rng):
    """A place on a special position of a setting, or None: what some operation, averaged over its
    powers, leaves in place."""
    _, rotations, translations = table(number)
    start = rng.uniform(0.1, 0.9, 3)
    for k in rng.permutation(len(rotations)):
        power, shift, places = rotations[k], translations[k] - np.floor(translations[k]), [start]
        for _ in range(5):
            if np.array_equal(power, np.eye(3, dtype=int)):
                break
            places.append(power @ start + shift)
            power, shift = (
                rotations[k] @ power,
                rotations[k] @ shift + translations[k] - np.floor(translations[k]),
            )
        place = np.mean(places, 0)
        step = rotations[k] @ place + translations[k] - place
        if (
            len(places) > 1
            and np.abs(step - np.rint(step)).max() < 1e-9
            and np.abs(start - place).max() > 1e-3
        ):
            return place % 1
    return None


def expanded(number, sites):
    """All places of a list of sites, by element, each once, made with spglib's operations."""
    _, rotations, translations = table(number)
    out = {}
    for symbol, place in sites:
        images = rotations @ place + translations
        steps = images[:, None] - images[None]
        same = np.abs(steps - np.rint(steps)).max(-1) < 1e-6
        out[symbol] = images[~np.tril(same, -1).any(1)]
    return out


def apart(lattice, places):
    every = np.concatenate(list(places.values()))
    steps = every[:, None] - every[None]
    distances = np.linalg.norm((steps - np.rint(steps)) @ lattice.matrix, axis=-1)
    return (distances + np.eye(len(every)) * 9).min()


@cache
def crystal(number):
    """A metal and a hydrogen, one on a general and one on a special position where there is one,
    none too near another."""
    lattice, rng = lattice_of(number), np.random.default_rng(number)
    for _ in range(1000):
        place = special(number, rng)
        sites = [
            ("Pd", place if place is not None else rng.uniform(0, 1, 3)),
            ("H", rng.uniform(0, 1, 3)),
        ]
        if rng.random() < 0.5:
            sites = [("H", sites[0][1]), ("Pd", sites[1][1])]
        places = expanded(number, sites)
        if apart(lattice, places) > 0.55:
            return lattice, sites, places
    pytest.fail(f"no crystal in setting {number}")


def cif(lattice, sites, names=(), operations=(), more=()):
    lines = ["data_x", *(f"{key} {value}" for key, value in names), *more]
    lines += [f"_cell_length_{k} {x:.6f}" for k, x in zip("abc", lattice.abc, strict=True)]
    lines += [
        f"_cell_angle_{k} {x:.6f}"
        for k, x in zip(("alpha", "beta", "gamma"), lattice.angles, strict=True)
    ]
    lines += ["loop_", "_symmetry_equiv_pos_as_xyz", *operations] if operations else []
    lines += ["loop_", "_atom_site_label", *(f"_atom_site_fract_{axis}" for axis in "xyz")]
    lines += [
        f"{symbol}{k} " + " ".join(f"{x:.6f}" for x in place)
        for k, (symbol, place) in enumerate(sites)
    ]
    return "\n".join(lines) + "\n"


def read(text):
    ((_, build, info),) = read_cif(Source(text.encode(), None, "H"))
    return build(), info["remarks"]


def read_or_refusal(text):
    try:
        return read(text)[0], ""
    except Unreadable as error:
        return None, str(error)


def is_crystal(structure, places):
    """Whether a structure has exactly these places, in the cell as it was written."""
    if {s: len(x) for s, x in places.items()} != {
        str(s): int(n) for s, n in structure.composition.items()
    }:
        return False
    for symbol, every in places.items():
        mine = np.array([site.frac_coords for site in structure if site.specie.symbol == symbol])
        steps = mine[:, None] - np.array(every)[None]
        near = np.abs(steps - np.rint(steps)).max(-1) < 2e-5
        if not (near.any(0).all() and near.any(1).all()):
            return False
    return True


@cache
def xyz(number):
    """The operations of a setting as a CIF lists them."""
    _, rotations, translations = table(number)
    out = []
    for rotation, shift in zip(rotations, translations, strict=True):
        parts = []
        for row, step in zip(rotation, shift % 1, strict=True):
            words = "".join(
                f"{'-' if n < 0 else '+'}{axis}" for n, axis in zip(row, "xyz", strict=True) if n
            ).lstrip("+")
            twelfths = round(step * 24)
            parts.append(words + (f"+{twelfths}/24" if twelfths else ""))
        out.append(f"'{', '.join(parts)}'")
    return out


def names_of(number):
    """What files call a setting: way of writing -> names, each a key and a value."""
    kind, *_ = table(number)
    full = kind.international_full.replace("_", "")
    last = kind.international.split("=")[-1].strip().replace("_", "")
    short = " ".join(w for w in full.split() if w != "1") if 3 <= kind.number <= 15 else last
    ways = {
        "short": short,
        "full": full,
        "table": last,
        "close": short.replace(" ", ""),
        "subscript": kind.international_full,
    }
    out = {way: [(KEY, f"'{symbol}'")] for way, symbol in ways.items()}
    out["hall"] = [("_space_group_name_Hall", f"'{kind.hall_symbol}'")]
    out["short and hall"] = out["short"] + out["hall"]
    if kind.choice:
        out["choice"] = [("_space_group_name_H-M_alt", f"'{short}:{kind.choice}'")]
        out["code"] = [*out["short"], ("_space_group_IT_coordinate_system_code", kind.choice)]
    for way in list(out):
        out[f"{way}, number"] = [*out[way], ("_symmetry_Int_Tables_number", str(kind.number))]
    out["number"] = [("_space_group_IT_number", str(kind.number))]
    return out


@pytest.mark.parametrize("first", range(1, 531, 53))
def test_every_setting_is_read_right_or_refused(first):
    """By symbol or Hall symbol, with and without number and operations: never another crystal."""
    for number in range(first, first + 53):
        lattice, sites, places = crystal(number)
        ways = names_of(number)
        for way in ("short", "full", "hall", "short, number", "full, number", "hall, number"):
            for operations in ((), xyz(number)):
                how = f"{number} {way} {'with' if operations else 'without'} operations"
                structure, refusal = read_or_refusal(cif(lattice, sites, ways[way], operations))
                if structure is None:
                    assert not operations, how
                    assert "hall" not in way, how
                    assert re.search("does not say which setting .* write '", refusal), how
                else:
                    assert is_crystal(structure, places), how


def test_what_a_setting_leaves_open_is_refused_and_little_else():
    """A symbol is refused where its setting has a twin of the same symbol and metric that the atoms
    do not tell apart."""
    refused = []
    for number in SETTINGS:
        lattice, sites, _ = crystal(number)
        try:
            read(cif(lattice, sites, names_of(number)["short"]))
        except Unreadable:
            refused.append(number)
    twins = [
        number
        for number in SETTINGS
        if any(
            other != number
            and table(other)[0].international_full == table(number)[0].international_full
            and table(other)[0].choice not in ("H", "R")
            for other in SETTINGS
        )
    ]
    assert set(refused) <= set(twins)
    assert len(refused) < len(twins) / 2


@pytest.mark.parametrize("way", ["choice", "code"])
def test_a_choice_decides(way):
    for number in SETTINGS[::3]:
        if table(number)[0].choice:
            lattice, sites, places = crystal(number)
            structure, remarks = read(cif(lattice, sites, names_of(number)[way]))
            assert is_crystal(structure, places), number
            assert not remarks


def test_symbols_of_older_tables_differ_by_the_glide_that_names_the_plane():
    """Each has a glide where today's symbol has e, in the same order of axes, and means its
    setting."""
    for number, symbols in OLD_SYMBOLS.items():
        for axes, symbol in zip(AXES, symbols, strict=True):
            found = [s for s in settings() if s.number == number and s.choice.lstrip("12") == axes]
            assert found
            for setting in found:
                new = setting.symbol.split()
                if "e" in new:  # spglib's table calls one of them by its old name
                    changed = [(a, b) for a, b in zip(symbol.split(), new, strict=True) if a != b]
                    assert [b for _, b in changed] == ["e"], symbol
                    assert changed[0][0] in "abc"
                lattice, sites, places = crystal(setting.hall_number)
                origin = setting.choice[:1] if setting.choice[:1].isdigit() else ""
                name = f"'{symbol}:{origin}'" if origin else f"'{symbol}'"
                assert is_crystal(read(cif(lattice, sites, [(KEY, name)]))[0], places)
