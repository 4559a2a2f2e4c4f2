"""Fetching from the reference server of OPTIMADE, which runs on loopback with the structures below;
the cache."""

import json
import os
import resource
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import replace

import numpy as np
import pytest
from conftest import WITHOUT_POTENTIAL, in_a_shell
from pymatgen.core import Lattice, Structure

from crystalgan.data.classes import load_class
from crystalgan.data.fetch import fetch
from crystalgan.data.readers import read_entries
from crystalgan.errors import InputError
from crystalgan.resources import cache_folder

PD_H = Structure(Lattice.cubic(4), ["Pd", "H"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def entry(identifier, structure, **attributes):
    """A structure as OPTIMADE writes it, its sites named by numbers so that only `species` tells
    what they are."""
    kinds = {site.species: f"kind{i}" for i, site in enumerate(structure)}
    symbols = sorted({element.symbol for element in structure.composition})
    species = [
        {
            "name": name,
            "chemical_symbols": [e.symbol for e in kind],
            "concentration": [float(share) for share in kind.values()],
        }
        for kind, name in kinds.items()
    ]
    return {
        "id": identifier,
        "type": "structures",
        "attributes": (
            {
                "elements": symbols,
                "nelements": len(symbols),
                "nsites": len(structure),
                "lattice_vectors": structure.lattice.matrix.tolist(),
                "cartesian_site_positions": structure.cart_coords.tolist(),
                "species": species,
                "species_at_sites": [kinds[site.species] for site in structure],
                "dimension_types": [1, 1, 1],
                "structure_features": [],
            }
            | attributes
        ),
    }


def crystals(count):
    """Pd-H cells of 2 to 9 atoms with oblique lattices, positions also outside the cell."""
    rng = np.random.default_rng(5)
    out = {}
    while len(out) < count:
        lattice = Lattice.from_parameters(*rng.uniform(4, 6, 3), *rng.uniform(70, 110, 3))
        species = ["Pd"] * int(rng.integers(1, 4)) + ["H"] * int(rng.integers(1, 7))
        crystal = Structure(lattice, species, rng.uniform(-0.5, 1.5, (len(species), 3)))
        if crystal.is_valid(0.6):  # closer atoms would be left out
            out[f"pd-{len(out):02}"] = crystal
    return out


BINARIES = crystals(45)  # three pages of the server's 20
TERNARY = Structure(
    Lattice.cubic(4), ["Pd", "Ni", "H"], [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0.5, 0.5]]
)
VACANT = [
    {"name": "kind0", "chemical_symbols": ["Pd"], "concentration": [1.0]},
    {"name": "kind1", "chemical_symbols": ["H", "vacancy"], "concentration": [0.9, 0.1]},
]
LEFT_OUT = {
    "mixed": (
        entry("mixed", Structure(PD_H.lattice, ["Pd", {"H": 0.5}], PD_H.frac_coords)),
        "partially occupied site",
    ),
    "vacant": (entry("vacant", PD_H, species=VACANT), "partially occupied site"),
    "bare": (
        entry("bare", PD_H, cartesian_site_positions=None),
        "comes without cartesian_site_positions",
    ),
    "large": (entry("large", PD_H * (4, 4, 4)), "has 128 atoms, more than 100"),
    "implied": (
        entry("implied", PD_H, structure_features=["implicit_atoms"]),
        "has implicit_atoms",
    ),
    "slab": (entry("slab", PD_H, dimension_types=[1, 1, 0]), "not periodic in three directions"),
}
OTHERS = [
    entry("ternary", TERNARY),
    entry("titanium", Structure(Lattice.cubic(4), ["Ti", "H"], PD_H.frac_coords)),
    entry("palladium", Structure(Lattice.cubic(4), ["Pd"], [[0, 0, 0]])),
]


def contents(folder):
    """Path -> contents of every file below a folder, hidden ones included."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class Server:
    """The reference server of OPTIMADE in a process of its own, with these structures in memory."""

    def __init__(self, folder, entries, **settings):
        rows = [{"x-optimade": {"meta": {"api_version": "1.2.0"}}}, *entries]
        (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        settings |= {
            "insert_test_data": False,
            "insert_from_jsonl": str(folder / "data.jsonl"),
            "log_dir": str(folder),
        }
        (folder / "config.json").write_text(
            json.dumps(settings | {"database_backend": "mongomock"})
        )
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.log = folder / "log"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "optimade.server.main:app", "--port", str(port)],
            env={k: v for k, v in os.environ.items() if not k.lower().startswith("optimade")}
            | {"OPTIMADE_CONFIG_FILE": str(folder / "config.json")},
            stdout=self.log.open("w"),
            stderr=subprocess.STDOUT,
        )
        deadline = time.monotonic() + 300
        while not self._answers():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)

    def _answers(self):
        try:
            with urllib.request.urlopen(f"{self.url}/v1/info", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    def requests(self):
        return self.log.read_text().count("GET /v1/structures")

    def stop(self):
        self.process.terminate()
        self.process.wait(20)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    entries = [
        *(entry(i, s) for i, s in BINARIES.items()),
        *(e for e, _ in LEFT_OUT.values()),
        *OTHERS,
    ]
    server = Server(tmp_path_factory.mktemp("optimade"), entries)
    yield server
    server.stop()


def test_all_binaries_come_as_they_were_put_in(server, tmp_path):
    heard = []
    fetched = fetch(
        ["Pd", "H"], server.url, tmp_path, progress=lambda done, total: heard.append((done, total))
    )
    total = len(BINARIES) + len(LEFT_OUT)
    assert heard == [(20, total), (40, total), (total, total)]
    assert (fetched.system, fetched.structures, fetched.cached) == ("H-Pd", len(BINARIES), False)
    assert (fetched.provider, fetched.url) == ("Example provider", server.url)
    with pytest.raises(InputError):  # the file holds Pd and no Ni
        load_class(fetched.path, "Ni")
    cells = load_class(fetched.path, "Pd").entries
    assert [cell.info["id"] for cell in cells] == [f"exmpl:{i}" for i in BINARIES]
    for cell, (identifier, expected) in zip(cells, BINARIES.items(), strict=True):
        assert [s.specie.symbol for s in cell.structure] == [s.specie.symbol for s in expected]
        np.testing.assert_allclose(
            cell.structure.lattice.matrix, expected.lattice.matrix, atol=1e-7
        )
        np.testing.assert_allclose(cell.structure.cart_coords, expected.cart_coords, atol=1e-7)
        assert cell.info["url"] == f"{server.url}/v1/structures/{identifier}"
        assert cell.info["provider"] == "Example provider"
        assert cell.info["retrieved"] == fetched.retrieved
        assert cell.info["licence"] == fetched.licence == "not given"


def test_what_is_left_out_says_why(server, tmp_path):
    reasons = {x.where: x.reason for x in fetch(["H", "Pd"], server.url, tmp_path).left_out}
    assert reasons.keys() == LEFT_OUT.keys()
    for name, (_, words) in LEFT_OUT.items():
        assert words in reasons[name]
    assert reasons.keys() - {
        x.where for x in fetch(["H", "Pd"], server.url, tmp_path, max_atoms=128).left_out
    } == {"large"}


def test_any_system_can_be_asked_for(server, tmp_path):
    (cell,), _ = read_entries(fetch(["Ni", "Pd", "H", "Pd"], server.url, tmp_path).path)
    assert cell.structure.composition == TERNARY.composition
    nothing = fetch(["Cr", "H"], server.url, tmp_path)
    assert (nothing.structures, nothing.left_out, read_entries(nothing.path)[0]) == (0, (), [])
    assert fetch(["Cr", "H"], server.url, tmp_path).cached


def test_a_second_call_needs_no_network_and_a_failed_refresh_keeps_the_file(tmp_path):
    server = Server(tmp_path, [entry("one", PD_H), LEFT_OUT["mixed"][0]])
    cache = tmp_path / "cache"
    try:
        first = fetch(["Pd", "H"], server.url, cache)
        asked = server.requests()
        again = fetch(["H", "Pd"], f"{server.url}/v1/structures/", cache)
        assert again == replace(first, cached=True)
        assert server.requests() == asked == 1
        assert not fetch(["H", "Pd"], server.url, cache, refresh=True).cached
        assert server.requests() == 2
    finally:
        server.stop()
    kept = contents(cache)
    assert len(kept) == 2
    with pytest.raises(
        InputError, match=f"^{server.url}: cannot be reached; check .*another provider\\.$"
    ):
        fetch(["Pd", "H"], server.url, cache, refresh=True)
    assert contents(cache) == kept
    assert fetch(["Pd", "H"], server.url, cache).structures == 1


def test_an_interrupted_download_leaves_the_cache_as_it_was(server, tmp_path):
    def interrupt(done, _):
        if done > 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(["Pd", "H"], server.url, tmp_path, progress=interrupt)
    assert contents(tmp_path) == {}
    whole = fetch(["Pd", "H"], server.url, tmp_path)
    kept = contents(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        fetch(["Pd", "H"], server.url, tmp_path, refresh=True, progress=interrupt)
    assert contents(tmp_path) == kept
    whole.path.write_bytes(whole.path.read_bytes()[:-20])
    assert not fetch(["Pd", "H"], server.url, tmp_path).cached  # a damaged file is no answer
    assert fetch(["Pd", "H"], server.url, tmp_path).cached


def test_a_full_disk_keeps_the_file_that_was_there(server, tmp_path):
    fetched = fetch(["Pd", "H"], server.url, tmp_path)
    kept = contents(tmp_path)
    assert fetched.path.stat().st_size > 4000
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, hard))  # bytes that any file may have
    try:
        with pytest.raises(InputError, match=r"cannot be written \(File too large\)"):
            fetch(["Pd", "H"], server.url, tmp_path, refresh=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert contents(tmp_path) == kept


def test_a_cache_that_cannot_be_written_is_one_sentence(server, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(
        InputError, match=r"cannot be written \(.*\); choose another place with --cache\.$"
    ):
        fetch(["Pd", "H"], server.url, tmp_path / "file")


def test_the_cache_is_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "crystalgan"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "crystalgan"


@pytest.mark.slow
def test_the_shell_fetches_a_class_and_trains_on_it(server, tmp_path):
    out = tmp_path / "palladium.extxyz"
    done = in_a_shell(
        "fetch",
        "Pd",
        "H",
        "--from",
        server.url,
        "--cache",
        tmp_path / "cache",
        "--out",
        out,
        "--json",
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["structures"], report["path"], report["cached"]) == (
        len(BINARIES),
        str(out),
        False,
    )
    assert {x["where"] for x in report["left_out"]} == LEFT_OUT.keys()
    assert "left out: mixed: has a partially occupied site" in done.stderr
    assert "51/51" in done.stderr
    words = (
        "--a",
        out,
        "--epochs",
        2,
        "--set",
        "width=40",
        "--rule",
        "paper",
        *WITHOUT_POTENTIAL,
        "--runs",
        tmp_path / "runs",
        "--json",
    )
    trained = in_a_shell("train", "Pd", "Ni", *words)
    assert trained.returncode == 0, trained.stderr
    assert json.loads(trained.stdout)["epochs"] == [2, 2]


def test_the_shell_says_in_one_sentence_what_cannot_be_used(tmp_path):
    for words, named in (
        (("fetch", "Pdd", "H", "--from", "mp"), "Pdd: not a chemical element"),
        (("fetch", "Pd", "H", "--from", "nobody"), "nobody: no provider is known by this name"),
        (
            ("fetch", "Pd", "H", "--from", "mp", "--out", tmp_path / "x.pdf"),
            "x.pdf: is to hold extended XYZ",
        ),
    ):
        done = in_a_shell(*words)
        assert done.returncode == 2
        assert not done.stdout
        assert named in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr
