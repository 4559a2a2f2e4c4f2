"""Known ternaries that are built in: facts of their source, known to novelty and hull, and to
nothing that makes cells; held against pymatgen, spglib, ASE and CHGNet's own relaxer."""

import csv
import io
import itertools
import json
import shutil
import zipfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import ase.io
import pytest
import spglib
from conftest import AUTHORS_DATA, NO_POTENTIAL, put_in
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Composition, Structure
from pymatgen.io.ase import AseAtomsAdaptor

from crystalgan.config import Config
from crystalgan.data import known_ternaries
from crystalgan.data.classes import builtin_classes, load_class
from crystalgan.data.known import known_structures
from crystalgan.data.known_ternaries import TernaryTypes, builtin_ternaries, ternaries_of
from crystalgan.errors import InputError
from crystalgan.runs.candidates import compare_with_known, generate
from crystalgan.runs.database import candidates_table, compared_with
from crystalgan.runs.folder import Run
from crystalgan.runs.training import new_step2, train
from crystalgan.stability.export import export
from crystalgan.stability.references import builtin_phases, reference_structures
from crystalgan.studies import builtin_ternaries as building
from crystalgan.studies import rediscovery
from crystalgan.studies.baselines import SOURCES
from crystalgan.studies.builtin_ternaries import build_ternaries
from crystalgan.studies.trials import task_of

PEROVSKITE = "mp-1207079"  # SrPdH3
BARIUM = frozenset({"H", "Ba", "Mg"})


@pytest.fixture(scope="module")
def frames():
    """The file as ASE reads it, by id."""
    images = ase.io.read(known_ternaries.ternaries_file(), ":")
    return {atoms.info["id"]: atoms for atoms in images}


@contextmanager
def no_known_ternary():
    """Whoever reads a known ternary meanwhile fails."""

    def refuse(*_):
        raise AssertionError("a known ternary was read")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(known_ternaries, "ternaries_file", refuse)
        for read in (builtin_ternaries, ternaries_of):
            read.cache_clear()
        yield


@pytest.fixture(scope="module")
def strontium_run(tmp_path_factory):
    """A run of Sr and Pd, of which two known ternaries are built in; trained without them."""
    with no_known_ternary():
        a, b = load_class("Sr"), load_class("Pd")
        config = Config(epochs1=1, epochs2=1, **NO_POTENTIAL)
        return train(a, b, config, tmp_path_factory.mktemp("runs"))


def structure(frames, number):
    return AseAtomsAdaptor.get_structure(frames[number])


def copy_of(run, folder, **settings):
    """The run in another folder, with other settings."""
    shutil.copytree(run.folder, folder)
    about = json.loads((folder / "config.json").read_text())
    about["config"] |= settings
    (folder / "config.json").write_text(json.dumps(about))
    return Run.open(folder)


@pytest.mark.skipif(not AUTHORS_DATA.exists(), reason="no data beside the project")
def test_each_is_what_its_source_published(frames):
    rows = json.loads((AUTHORS_DATA / "known_ternary_hydrides.json").read_text())
    assert [row["material_id"] for row in rows] == list(frames)
    for row in rows:
        published = Structure.from_dict(row["structure"])
        atoms = frames[row["material_id"]]
        relaxed = AseAtomsAdaptor.get_structure(atoms)
        assert StructureMatcher().fit(published, relaxed), row["material_id"]
        cell = (published.lattice.matrix, published.frac_coords, published.atomic_numbers)
        assert atoms.info["published_spacegroup"] == spglib.get_symmetry_dataset(cell, 0.1).number
        assert atoms.info["published_spacegroup"] == row["spacegroup"]


def test_each_says_where_it_is_from_and_how_it_was_relaxed(frames):
    assert len(frames) == 75
    for atoms in frames.values():
        assert (atoms.info["source"], atoms.info["licence"]) == ("Materials Project", "CC BY 4.0")
        assert atoms.info["fmax"] <= 0.01
        assert atoms.info["volume"] == pytest.approx(atoms.get_volume())
        counts = Counter(atoms.get_chemical_symbols())
        assert len(counts) == 3
        assert set(counts) - {"H"} <= set(builtin_classes())
        found = Composition(atoms.get_chemical_formula()).reduced_formula
        assert Composition(atoms.info["formula"]).reduced_formula == found
    primitive = structure(frames, PEROVSKITE)
    cell = (primitive.lattice.matrix, primitive.frac_coords, primitive.atomic_numbers)
    assert spglib.get_symmetry_dataset(cell, 0.01).number == 221
    assert len(primitive) == 5


@pytest.mark.slow
def test_energies_are_those_of_chgnet_itself(frames):
    from chgnet.model import CHGNet

    model = CHGNet.load(verbose=False, use_device="cpu")
    for number in (PEROVSKITE, "mp-1207196", "mp-29658"):
        found = model.predict_structure(structure(frames, number))
        assert float(found["e"]) == pytest.approx(frames[number].info["energy_per_atom"], abs=1e-4)
        assert abs(found["f"]).max() < 0.012


def test_a_known_ternary_is_found_by_its_name_unless_left_out(frames):
    known = known_structures(("H", "Mg", "Ba"))
    report = known.report()
    assert (report.ternary, report.builtin_ternary, report.own_ternary) == (3, 3, 0)
    assert report.lines()[0].endswith("3 of them of all elements: 3 built in, 0 of yours")
    cell = structure(frames, "mp-643370")
    disguised = cell.copy().make_supercell([[1, 0, 0], [0, 2, 0], [0, 1, 1]]).apply_strain(0.01)
    assert known.find(disguised) == "built-in Ba2MgH6 (mp-643370)"
    without = known_structures(("H", "Mg", "Ba"), known_ternaries=False)
    assert without.find(disguised) is None
    report = without.report()
    assert (report.ternary, report.builtin_ternary) == (0, 0)
    assert known.structures - without.structures == 3
    assert "3 built-in known ternaries of its system are left out" in "\n".join(report.lines())


def test_a_users_structures_are_counted_apart(tmp_path, frames):
    ase.io.write(tmp_path / "own.extxyz", [frames["mp-643370"]], format="extxyz")
    report = known_structures(("H", "Mg", "Ba"), [tmp_path / "own.extxyz"]).report()
    assert (report.ternary, report.builtin_ternary, report.own_ternary) == (4, 3, 1)
    assert type(report).of(json.loads(json.dumps(report.as_dict()))) == report
    old = {"structures": 90, "ternary": 2, "files": ["x"], "not_compared": []}
    assert type(report).of(old).own_ternary == 2


def test_known_ternaries_compete_on_the_hull_unless_left_out(frames):
    species = ("H", "Mg", "Ba")
    classes = known_ternaries.ternaries_file().parent / "classes"
    images = [*ase.io.read(classes / "Mg.extxyz", ":"), *ase.io.read(classes / "Ba.extxyz", ":")]
    elements = ase.io.read(classes / "elements.extxyz", ":")
    images += [atoms for atoms in elements if set(atoms.get_chemical_symbols()) <= BARIUM]
    own = [atoms for atoms in frames.values() if set(atoms.get_chemical_symbols()) == BARIUM]

    def entry(atoms):
        energy = atoms.info["energy_per_atom"] * len(atoms)
        return PDEntry(AseAtomsAdaptor.get_structure(atoms).composition, energy)

    def named(phases):
        return Counter((p.formula, round(p.energy, 6)) for p in phases)

    with_them, without = builtin_phases(species), builtin_phases(species, known_ternaries=False)
    assert len(with_them) - len(without) == len(own) == 3
    assert sorted(round(p.energy, 6) for p in without) == sorted(
        round(entry(atoms).energy, 6) for atoms in images
    )
    lowered = PhaseDiagram([entry(atoms) for atoms in images])
    below = [lowered.get_e_above_hull(entry(atoms), allow_negative=True) for atoms in own]
    assert min(below) < -0.02  # eV/atom: what leaving them out would hide
    assert not named(without) - named(with_them)
    wanted = reference_structures(species, "another", "1")
    left_out = reference_structures(species, "another", "1", known_ternaries=False)
    assert wanted.keys() - left_out.keys() == {
        f"{atoms.info['formula']} {atoms.info['id']}" for atoms in own
    }


def test_a_type_is_known_with_other_metals(frames):
    types = TernaryTypes(("H", "Ni", "Pd"), builtin_ternaries())
    cell = structure(frames, PEROVSKITE)
    replaced = cell.copy().replace_species({"Sr": "Ni"}).apply_strain(0.1)
    found = types.find(replaced)
    of = structure(frames, found.partition("(")[2].rstrip(")"))
    assert StructureMatcher().fit_anonymous(replaced, of)
    assert of.composition.anonymized_formula == "ABC3"
    # the metals exchanged are another cell of the same type
    assert types.find(cell.copy().replace_species({"Sr": "Pd", "Pd": "Ni"})) == found
    # hydrogen on a metal's site is no hydride of the type
    anti = cell.copy().replace_species({"H": "Ni", "Sr": "H"})
    assert StructureMatcher().fit_anonymous(anti, cell)
    assert types.find(anti) == ""
    distorted = replaced.copy().perturb(0.25, seed=1)
    assert types.find(distorted) == ""


def test_every_type_is_found_again_in_another_system(frames):
    types = TernaryTypes(("H", "Tc", "Am"), builtin_ternaries())
    matcher = StructureMatcher()
    for atoms in itertools.islice(frames.values(), 0, None, 4):
        cell = AseAtomsAdaptor.get_structure(atoms)
        theirs = sorted(set(cell.symbol_set) - {"H"})
        found = types.find(
            cell.copy().replace_species(dict(zip(theirs, ("Tc", "Am"), strict=True)))
        )
        number = found.partition("(")[2].rstrip(")")
        assert number == atoms.info["id"] or matcher.fit_anonymous(
            cell, structure(frames, number)
        ), atoms.info["id"]


def test_the_type_of_the_system_itself_is_left_out_too(frames):
    osmium = structure(frames, "mp-1207196").replace_species({"Ca": "Os", "Os": "Ca"})
    known = known_structures(("H", "Ca", "Os"))
    assert known.compare(osmium).match is None
    assert known.compare(osmium).type == "Ca2OsH6 (mp-1207196)"
    without = known_structures(("H", "Ca", "Os"), known_ternaries=False)
    found = without.compare(osmium)
    assert found.match is None
    assert found.type != "Ca2OsH6 (mp-1207196)"
    own = without.compare(structure(frames, "mp-1207196"))
    assert (own.match, own.type == "Ca2OsH6 (mp-1207196)") == (None, False)


def test_candidates_say_which_known_structure_or_type_they_are(strontium_run, frames, tmp_path):
    run = copy_of(strontium_run, tmp_path / "with")
    assert generate(run, 4).known.builtin_ternary == 2
    put_in(run, 1, structure(frames, PEROVSKITE))
    exchanged = structure(frames, PEROVSKITE).replace_species({"Sr": "Pd", "Pd": "Sr"})
    put_in(run, 2, exchanged)
    compare_with_known(run)
    table = candidates_table(run).set_index("id")
    assert table.loc[1, "matches"] == "built-in SrPdH3 (mp-1207079)"
    assert (table.loc[1, "new"], table.loc[1, "type"]) == (False, "")
    of = structure(frames, table.loc[2, "type"].partition("(")[2].rstrip(")"))
    assert (table.loc[2, "new"], table.loc[2, "matches"]) == (True, "")
    assert StructureMatcher().fit_anonymous(exchanged, of)
    export(run, tmp_path / "all.zip", "all")
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        rows = list(csv.DictReader(io.StringIO(archive.read("candidates.csv").decode())))
    assert [row["type"] for row in rows] == list(table["type"])

    without = copy_of(run, tmp_path / "without", known_ternaries=False)
    assert compare_with_known(without).known.builtin_ternary == 0
    assert compared_with(without).ternary == 0
    table = candidates_table(without).set_index("id")
    assert table.loc[1, "new"]
    assert table.loc[1, "matches"] == ""


def test_nothing_that_makes_cells_reads_them(strontium_run):
    """Training (that of the run), transfer and every baseline do without the file."""
    a, b = load_class("Sr"), load_class("Pd")
    assert all(len(cell.symbol_set) == 2 for c in (a, b) for cell in c.structures)
    with no_known_ternary():
        with pytest.raises(AssertionError, match="was read"):
            builtin_ternaries()
        task = task_of(strontium_run, a, b, (), 0)
        for source in SOURCES:
            assert list(itertools.islice(SOURCES[source](task), 3))
    assert len(task.hosts) == len(a) + len(b)
    assert all(len(host.symbol_set) == 2 for host in task.hosts)


def test_the_switch_goes_with_the_run_and_rediscovery_uses_it(strontium_run, tmp_path, monkeypatch):
    assert strontium_run.config.known_ternaries
    without = copy_of(strontium_run, tmp_path / "without", known_ternaries=False)
    again = new_step2(without, Config(epochs2=1, **NO_POTENTIAL), tmp_path)
    assert not again.config.known_ternaries
    used = []
    monkeypatch.setattr(
        rediscovery,
        "_searched",
        lambda _pool, _known, config, *_: (
            used.append(config) or {rediscovery.OWN: rediscovery.Match()}
        ),
    )
    cell = ternaries_of(frozenset({"H", "Sr", "Pd"}))[0].structure
    wanted = rediscovery.KnownTernary("1 SrPdH3", cell, ("Pd", "Sr"))
    rediscovery.rediscover([wanted], Config(), tmp_path)
    assert [config.known_ternaries for config in used] == [False]


def test_without_known_in_a_shell(crystalgan, tmp_path):
    words = ["train", "Sr", "Pd", "--epochs", "1", "--runs", tmp_path, "--json"]
    words += [w for k, v in NO_POTENTIAL.items() for w in ("--set", f"{k}={v}")]
    run = json.loads(crystalgan(*words, "--without-known")[1])["run"]
    made = json.loads(crystalgan("generate", run, "-n", "2", "--json")[1])
    assert made["known"]["builtin_ternary"] == made["known"]["ternary"] == 0
    assert "left out" in made["known"]["not_compared"][0][1]


class Here(ThreadPoolExecutor):
    """A pool in this process, which has CHGNet loaded already."""

    def completed(self, pending):
        return ((future, future.result()) for future in pending)


@pytest.mark.slow
def test_a_stopped_build_goes_on_where_it_was(tmp_path, frames, crystalgan, monkeypatch):
    monkeypatch.setattr(building, "Pool", Here)
    chosen = [frames[number].copy() for number in (PEROVSKITE, "mp-1068011")]
    for atoms in chosen:
        atoms.info = {"id": atoms.info["id"]}
        atoms.set_cell(atoms.cell * 1.03, scale_atoms=True)
    ase.io.write(tmp_path / "published.extxyz", chosen, format="extxyz")
    out, work = tmp_path / "known.extxyz", tmp_path / "work.jsonl"
    words = ("build-known", tmp_path / "published.extxyz", "--out", out, "--work", work, "--json")
    assert json.loads(crystalgan(*words)[1]) == {"kept": 2, "dropped": {}}
    first = out.read_text()
    for atoms in ase.io.read(out, ":"):
        own = frames[atoms.info["id"]]
        assert atoms.info["energy_per_atom"] == pytest.approx(own.info["energy_per_atom"], abs=1e-3)
        assert atoms.get_volume() == pytest.approx(own.get_volume(), rel=0.01)
    lines = work.read_text().splitlines(keepends=True)
    work.write_text(lines[0] + lines[1][:100])  # killed while it wrote
    seen = []
    build_ternaries(tmp_path / "published.extxyz", out, work, progress=lambda *x: seen.append(x))
    assert [done for done, _, _ in seen] == [2]
    assert out.read_text() == first
    for atoms in chosen:
        atoms.info = {}
    ase.io.write(tmp_path / "published.extxyz", chosen, format="extxyz")
    with pytest.raises(InputError, match="no id; each known ternary needs its own"):
        build_ternaries(tmp_path / "published.extxyz", out, work)
