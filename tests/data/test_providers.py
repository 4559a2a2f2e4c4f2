"""Servers that answer wrongly or not at all, and the Materials Project's client; all of them real,
all on loopback."""

import json
import socket
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure
from test_sources import BINARIES, PD_H, contents, entry

from crystalgan.data import asking, optimade
from crystalgan.data.classes import load_class
from crystalgan.data.fetch import fetch
from crystalgan.data.providers import base_url
from crystalgan.errors import InputError

KEY = "0123456789abcdef0123456789abcdef"


@pytest.fixture(autouse=True)
def nobody(monkeypatch):
    """No key and no address of the user's own."""
    for name in ("MP_API_KEY", "MP_API_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)


@contextmanager
def serving(handler):
    """A real HTTP server on loopback, in a thread; yields its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def replying(reply):
    """A server that answers with the status and JSON or text that `reply(path, handler)` gives, and
    the paths it was asked."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            status, content = reply(self.path, self)
            if status is None:
                return
            body = (content if isinstance(content, str) else json.dumps(content)).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with serving(Handler) as url:
        yield url, asked


def page(*entries, following=None, **meta):
    """A page of structures as OPTIMADE writes it."""
    return {
        "data": list(entries),
        "meta": {"api_version": "1.2.0"} | meta,
        "links": {"next": following},
    }


def failing(words, source, cache, **options):
    """The one sentence with which a fetch fails; it leaves nothing in the cache."""
    with pytest.raises(InputError, match=words) as error:
        fetch(["Pd", "H"], source, cache, **options)
    sentence = str(error.value)
    assert len(sentence.splitlines()) == 1
    assert sentence.startswith(f"{source}: ")
    assert sentence.endswith(".")
    assert contents(cache) == {}
    return sentence


ONE = entry("one", PD_H)
WRONG = {
    "a web page": (200, "<html>Welcome</html>", "no JSON object, so it is no such service"),
    "half a JSON text": (200, '{"data": [', "no JSON object"),
    "a JSON list": (200, [ONE], "no JSON object"),
    "a bottomless JSON text": (200, "[" * 100_000, "no JSON object"),
    "no data": (200, {"meta": {}}, "no OPTIMADE page"),
    "data that are no list": (200, {"meta": {}, "data": 3}, "no OPTIMADE page"),
    "data without ids": (200, page({"attributes": {}}), "no OPTIMADE page"),
    "meta that is no object": (200, {"meta": [1], "data": [ONE]}, "no OPTIMADE page"),
    "an error without words": (500, "<html>sorry</html>", r"answers 500 \(Internal Server Error\)"),
    "an error with words": (
        400,
        {"errors": [{"detail": "I know no\nfilters"}]},
        r"answers 400 \(I know no filters\)",
    ),
    "nothing there": (404, "", r"answers 404 \(Not Found\)"),
    "a link to itself": (
        200,
        page(ONE, following="/v1/structures"),
        "repeats its pages without end",
    ),
    "a link that is none": (200, page(ONE, following="http://[half"), "sends on to .*another host"),
    "a link in no alphabet": (
        200,
        page(ONE, following="/v1/structures?\ud800"),
        "sends on to .*another host",
    ),
    "a link to a file": (
        200,
        page(ONE, following="file:///etc/passwd"),
        "sends on to file:///etc/passwd, another host",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_answer_is_one_sentence(tmp_path, name):
    status, content, words = WRONG[name]
    with replying(lambda *_: (status, content)) as (url, _):
        assert "another provider" in failing(words, url, tmp_path) or "another host" in words


def test_a_server_of_files_is_no_provider(tmp_path):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with serving(Quiet) as url:
        failing(r"answers 404 \(File not found\); check the address", url, tmp_path)


def test_nobody_at_that_port(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    failing(
        "cannot be reached; check the address and the network", f"http://127.0.0.1:{port}", tmp_path
    )


def test_an_answer_that_breaks_off(tmp_path):
    def cut(_, handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "100000")
        handler.end_headers()
        handler.wfile.write(json.dumps(page(ONE)).encode())
        return None, None

    with replying(cut) as (url, _):
        failing("breaks its answer off|cannot be reached", url, tmp_path)
    with replying(lambda *_: (None, None)) as (url, _):
        failing("cannot be reached", url, tmp_path)


def test_silence_and_floods_have_an_end(tmp_path, monkeypatch):
    answered = threading.Event()

    def silent(*_):
        answered.wait(30)
        return 200, page(ONE)

    monkeypatch.setattr(asking, "TIMEOUT", 0.2)
    with replying(silent) as (url, asked):
        started = time.monotonic()
        failing("gives no answer within 0.2 s", url, tmp_path)
        assert time.monotonic() - started < 4
        answered.set()
        assert len(asked) == 1
    monkeypatch.setattr(asking, "TIMEOUT", 30)
    monkeypatch.setattr(asking, "MAX_PAGE_BYTES", 1_000_000)
    with replying(lambda *_: (200, " " * 1_100_000)) as (url, _):
        failing("an answer of more than 1 MB", url, tmp_path)

    def endless(path, _):
        number = int(parse_qs(urlsplit(path).query).get("n", ["0"])[0])
        return 200, page(entry(f"s{number}", PD_H), following=f"/v1/structures?n={number + 1}")

    monkeypatch.setattr(optimade, "MAX_STRUCTURES", 30)
    with replying(endless) as (url, asked):
        failing("gives more than 30 structures of H-Pd", url, tmp_path)
        assert len(asked) == 31


def test_a_busy_provider_is_asked_three_times(tmp_path):
    with replying(lambda *_: (503, "")) as (url, asked):
        failing("answers 503", url, tmp_path)
        assert len(asked) == 3
    answers = iter([(429, ""), (200, page(ONE)), (200, {"data": {"attributes": {}}})])
    with replying(lambda *_: next(answers)) as (url, _):
        assert fetch(["Pd", "H"], url, tmp_path).structures == 1


def redirect(location):
    def reply(_, handler):
        handler.send_response(302)
        handler.send_header("Location", location)
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return None, None

    return reply


def test_only_the_host_that_was_asked_is_contacted(tmp_path):
    with replying(lambda *_: (200, page(entry("two", PD_H)))) as (elsewhere, asked):
        with replying(
            lambda *_: (200, page(ONE, following={"href": f"{elsewhere}/v1/structures"}))
        ) as (url, _):
            failing(f"sends on to {elsewhere}/v1/structures, another host", url, tmp_path)
        with replying(redirect(f"{elsewhere}/v1/structures")) as (url, _):
            failing(f"sends on to {elsewhere}/v1/structures, another host", url, tmp_path)
        assert asked == []
    with replying(redirect("/v1/structures")) as (url, asked):
        failing("from address to address", url, tmp_path)
        assert len(asked) == asking.MAX_REDIRECTS

    def moved(path, handler):
        return (
            redirect(f"/new{path}")(path, handler)
            if not path.startswith("/new")
            else (200, page(ONE))
        )

    with replying(moved) as (url, _):
        assert fetch(["Pd", "H"], url, tmp_path).structures == 1


def test_structures_that_are_wrong_are_left_out_with_their_reason(tmp_path):
    nan = [[float("nan"), 0, 0], [0, 4, 0], [0, 0, 4]]
    wrong = {
        "flat": (
            entry("flat", PD_H, lattice_vectors=[[4, 0, 0], [0, 4, 0], [4, 4, 0]]),
            "Singular matrix",
        ),
        "nan": (entry("nan", PD_H, lattice_vectors=nan), "not finite"),
        "null": (entry("null", PD_H, lattice_vectors=[[None] * 3] * 3), "not finite"),
        "short": (
            entry("short", PD_H, species_at_sites=["kind0"]),
            "len(species)=1 != len(coords)=2",
        ),
        "unnamed": (entry("unnamed", PD_H, species_at_sites=["kind0", "kind9"]), "kind9"),
        "words": (
            entry("words", PD_H, cartesian_site_positions="none"),
            "cannot be read (StructureError",
        ),
        "nothing": ({"id": "nothing", "attributes": None}, "cannot be read (AttributeError"),
        "dummy": (
            entry("dummy", PD_H, species=[*ONE["attributes"]["species"][:1], DUMMY]),
            "holds X, which is no element",
        ),
        "nickel": (
            entry("nickel", Structure(Lattice.cubic(4), ["Ni", "H"], PD_H.frac_coords)),
            "holds H, Ni where H, Pd were",
        ),
    }
    content = page(ONE, *(e for e, _ in wrong.values()), data_returned=12)
    with replying(lambda *_: (200, content)) as (url, _):
        fetched = fetch(["Pd", "H"], url, tmp_path)
    assert fetched.structures == 1
    reasons = {x.where: x.reason for x in fetched.left_out}
    assert reasons.pop(url) == "announced 12 structures and gave 10"
    assert reasons.keys() == wrong.keys()
    for name, (_, words) in wrong.items():
        assert words in reasons[name], name


DUMMY = {"name": "kind1", "chemical_symbols": ["X"], "concentration": [1.0]}


def test_foreign_words_cannot_break_the_file(tmp_path):
    evil = 'a"b\\c\n2\npbc="F F F"\ud800 \u00e9'
    provider = {"name": evil, "prefix": "1"}
    info = {
        "data": {
            "attributes": {
                "license": {"href": "https://a.example/by"},
                "available_licenses": ["CC-BY-4.0"],
            }
        }
    }

    def reply(path, _):
        return 200, (
            info
            if path.startswith("/v1/info")
            else page(entry(evil, PD_H), entry("2", PD_H), provider=provider)
        )

    with replying(reply) as (url, _):
        fetched = fetch(["Pd", "H"], url, tmp_path)
    assert fetched.licence == "https://a.example/by, CC-BY-4.0"
    first, second = load_class(fetched.path, "Pd").entries
    assert first.structure.composition == second.structure.composition == PD_H.composition
    assert first.info["id"] == "1:a'b/c 2 pbc='F F F' \u00e9"
    assert second.info["id"] == "1:2"
    assert second.info["licence"] == fetched.licence
    assert first.info["provider"] == "a'b/c 2 pbc='F F F' \u00e9"


@pytest.mark.parametrize(
    "address",
    [
        "ftp://host/x",
        "http://",
        "http://host:port/",
        "http://host:0",
        "file:///etc/passwd",
        "https://me:word@host",
        "http://h/?q",
        "http://[x",
    ],
)
def test_an_address_that_is_none_is_refused(tmp_path, address):
    failing("no address of a provider", address, tmp_path)


def test_short_names_and_addresses():
    assert base_url("oqmd") == "https://oqmd.org/optimade"
    assert base_url("mp") == "https://optimade.materialsproject.org"
    assert base_url("mp-api") == "https://api.materialsproject.org"
    assert base_url("HTTPS://Host/optimade/v1/") == "https://host/optimade"
    assert base_url("http://127.0.0.1:5000/v1/structures") == "http://127.0.0.1:5000"


def test_https_stays_https():
    assert (
        asking.follow(
            "https://host/v1/structures", "http://host/v1/structures?page=2", "https://host"
        )
        == "https://host/v1/structures?page=2"
    )
    assert asking.follow("http://host/a", "https://host/b", "http://host") == "https://host/b"


def materials_project(documents, status=200):
    """What the Materials Project's client asks of its server: a heartbeat, and pages of the
    summaries of a chemical system."""

    def reply(path, handler):
        if path.startswith("/heartbeat"):
            return 200, {
                "version": "0.90.0",
                "db_version": "2026.1",
                "access_controlled_batch_ids": [],
            }
        assert path.startswith("/materials/summary/")
        if status != 200 or handler.headers["x-api-key"] != KEY:
            return status, {"detail": "no such key"}
        query = {key: values[0] for key, values in parse_qs(urlsplit(path).query).items()}
        found = [
            d
            for d in documents
            if d["chemsys"] == query["chemsys"] and str(d["deprecated"]) == query["deprecated"]
        ]
        start, fields = int(query.get("_skip", 0)), query.get("_fields", "material_id").split(",")
        rows = found[start : start + int(query.get("_limit", 100))]
        return 200, {
            "data": [{f: d[f] for f in fields if f in d} for d in rows],
            "meta": {"total_doc": len(found)},
        }

    return replying(reply)


def document(number, structure, **changes):
    return {
        "material_id": f"mp-{number}",
        "structure": structure.as_dict(),
        "chemsys": structure.chemical_system,
        "deprecated": False,
        "builder_meta": {"license": "BY-C"},
    } | changes


@pytest.mark.slow
def test_the_materials_projects_client_brings_a_class(tmp_path, monkeypatch):
    documents = [document(i, s) for i, s in enumerate(BINARIES.values())]
    mixed = Structure(PD_H.lattice, ["Pd", {"H": 0.5}], PD_H.frac_coords)
    documents += [
        document(100, PD_H, deprecated=True),
        document(101, Structure(Lattice.cubic(4), ["Pd"], [[0, 0, 0]])),
    ]
    documents += [document(102, mixed), document(103, PD_H) | {"structure": None}]
    heard = []
    with materials_project(documents) as (url, _):
        monkeypatch.setenv("MP_API_ENDPOINT", url)
        monkeypatch.setenv("MP_API_KEY", KEY)
        fetched = fetch(
            ["Pd", "H"], "mp-api", tmp_path, progress=lambda *counts: heard.append(counts)
        )
    assert fetch(["Pd", "H"], "mp-api", tmp_path).cached
    assert heard == [(0, 47), (47, 47)]
    assert [x.where for x in fetched.left_out] == ["mp-102", "mp-103"]
    cells = load_class(fetched.path, "Pd").entries
    for i, (cell, expected) in enumerate(zip(cells, BINARIES.values(), strict=True)):
        assert cell.info["id"] == f"mp:mp-{i}"
        assert (cell.info["provider"], cell.info["licence"]) == ("The Materials Project", "BY-C")
        assert [s.specie.symbol for s in cell.structure] == [s.specie.symbol for s in expected]
        np.testing.assert_allclose(
            cell.structure.lattice.matrix, expected.lattice.matrix, atol=1e-7
        )
        np.testing.assert_allclose(cell.structure.cart_coords, expected.cart_coords, atol=1e-7)
    assert KEY.encode() not in b"".join(contents(tmp_path).values())


@pytest.mark.slow
def test_the_materials_project_without_key_network_package_or_sense(tmp_path, monkeypatch):
    def refused(words):
        with pytest.raises(InputError, match=words) as error:
            fetch(["Pd", "H"], "mp-api", tmp_path)
        assert len(str(error.value).splitlines()) == 1
        assert KEY not in str(error.value)
        assert contents(tmp_path) == {}

    refused(
        "mp-api: .* asks for a key; get yours, .*https://materialsproject.org/api .* variable"
        " MP_API_KEY"
    )
    monkeypatch.setenv("MP_API_KEY", KEY)
    with replying(lambda *_: (200, {"data": []})) as (url, _):
        monkeypatch.setenv("MP_API_ENDPOINT", url)
        refused(f"{url}: does not answer as the Materials Project does")
    refused(f"{url}: cannot be reached")
    with materials_project([], status=401) as (url, _):
        monkeypatch.setenv("MP_API_ENDPOINT", url)
        refused(f"{url}: .*401.*no such key.*check MP_API_KEY")
        monkeypatch.setenv("MP_API_KEY", "short")
        refused("32 characters")
    # what Python itself does for a package that is not there
    monkeypatch.setitem(sys.modules, "mp_api.client", None)
    refused(r"mp-api: cannot be imported .*pip install '.\[mp\]'")
