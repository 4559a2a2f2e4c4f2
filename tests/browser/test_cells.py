"""The conventional cell on request: looked at, clicked in, exported."""

import io
import zipfile

import ase.io
import numpy as np
import pytest
import spglib
from playwright.sync_api import expect

from crystalgan.runs.database import load_candidate
from crystalgan.runs.folder import SHIPPED

from .steps import click_an_atom, click_row, colours, drawn, orange, picture, settled, until

pytestmark = pytest.mark.slow

# of the shipped run; monoclinic and centred, so its conventional cell holds two copies of every
# atom
NUMBER = 3


def standard(number):
    """What spglib says of the candidate: the edges and angles of its standardised cell, and its
    number of atoms."""
    cell = load_candidate(SHIPPED / "Pd-Ni-H_shipped", number)
    found = spglib.standardize_cell(
        (cell.lattice.matrix, cell.frac_coords, cell.atomic_numbers),
        no_idealize=True,
        to_primitive=False,
        symprec=0.1,
    )
    return np.sort(np.linalg.norm(found[0], axis=1)), len(found[2])


def test_a_click_in_the_conventional_cell_gives_the_neighbours_of_the_candidates_atom(page, server):
    page.goto(f"{server.url}/explore?run=Pd-Ni-H_shipped&candidate={NUMBER}")
    plain = drawn(page)
    settled(page)
    page.get_by_role("button", name="View").click()
    page.get_by_text("Conventional cell", exact=True).click()
    edges, atoms = standard(NUMBER)
    frame = page.frame_locator("iframe[title*=crystalgan_viewer]")
    note = frame.get_by_text(f"conventional cell, C2/m, {atoms} atoms")
    expect(note).to_be_visible()
    said = note.inner_text().partition(": ")[2].partition(" Å")[0].split(", ")
    np.testing.assert_allclose(sorted(map(float, said)), edges, atol=0.006)
    settled(page)
    page.keyboard.press("Escape")
    until(page, lambda: drawn(page) != plain, "the picture stayed as it was")
    before = orange(drawn(page))
    words = click_an_atom(page)
    assert "Neighbours of Pd" in words
    assert words.split()[2].strip(";") in {"Pd1", "Pd2"}  # the candidate has no others
    click_row(page, 0, table=1)
    settled(page)
    until(page, lambda: orange(colours(page)) > before + 20, "the pair was not lit")
    picture(page, "explore-conventional")


def test_an_export_holds_the_cell_that_was_chosen(page, server, tmp_path):
    page.goto(f"{server.url}/export?run=Pd-Ni-H_shipped")
    settled(page)
    for box, option in (
        ("Format", "VASP inputs"),
        ("Cell", "conventional"),
        ("Smearing", "(ISMEAR 1)"),
    ):
        page.get_by_role("combobox", name=box).click()
        page.get_by_role("option", name=option, exact=False).click()
        settled(page)
    picture(page, "export-vasp")
    with page.expect_download() as event:
        page.get_by_role("button", name="Download 200 candidates").click()
    event.value.save_as(tmp_path / "x.zip")
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        folder = next(
            name for name in archive.namelist() if name.endswith(f"_{NUMBER:05d}/POSCAR")
        ).removesuffix("POSCAR")
        atoms = ase.io.read(io.StringIO(archive.read(f"{folder}POSCAR").decode()), format="vasp")
        assert "ISMEAR = 1" in archive.read(f"{folder}INCAR").decode()
        assert "PBE_54" in archive.read(f"{folder}POTCAR.names").decode()
        assert "README.txt" in archive.namelist()
    edges, count = standard(NUMBER)
    np.testing.assert_allclose(np.sort(atoms.cell.lengths()), edges, atol=1e-4)
    assert len(atoms) == count
