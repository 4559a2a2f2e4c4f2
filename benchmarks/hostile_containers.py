"""Broken and hostile JSON, gzip, .mat and SQLite files, as in `hostile_files`."""

from __future__ import annotations

import gzip
import io
import json
import sqlite3
import struct
import zlib
from typing import Any

import numpy as np

from benchmarks.hostile_files import POSCAR, POSITIONS, SYMBOLS, Cases, swap

STRUCTURE: dict[str, Any] = {
    "@module": "pymatgen.core.structure",
    "@class": "Structure",
    "lattice": {"matrix": [[4.0, 0, 0], [0, 4.0, 0], [0, 0, 4.0]]},
    "sites": [
        {"species": [{"element": symbol, "occu": 1}], "abc": list(position)}
        for symbol, position in zip(SYMBOLS, POSITIONS, strict=True)
    ],
}
JSON = json.dumps(STRUCTURE, indent=1)
ROW = {
    "numbers": [46, 46, 1, 1, 1, 1],
    "positions": [[4 * x for x in p] for p in POSITIONS],
    "pbc": [True] * 3,
}
ROW |= {
    "cell": {
        "array": {"__ndarray__": [[3, 3], "float64", [4.0, 0, 0, 0, 4.0, 0, 0, 0, 4.0]]},
        "__ase_objtype__": "cell",
    }
}


def jsons() -> Cases:
    """Wrong values, shapes and depths in JSON, and names of code in it."""

    def with_site(**changes: Any) -> str:
        return json.dumps(
            STRUCTURE | {"sites": [STRUCTURE["sites"][0] | changes, *STRUCTURE["sites"][1:]]}
        )

    def row(**changes: Any) -> str:
        return json.dumps({"1": ROW | changes, "ids": [1], "nextid": 2})

    not_finite = {
        "NaN": "not finite",
        "Infinity": "not finite",
        "-1e999": "not finite",
        "1e308": "lattice vector of 1e.308",
    }
    cases: Cases = {
        f"lattice{i}.json": (reason, swap(JSON, "4.0", w))
        for i, (w, reason) in enumerate(not_finite.items())
    }
    for i, word in enumerate(('"x"', "null", "{}", "[4.0]", "true, 1", "9" * 5000)):
        cases[f"number{i}.json"] = ("cannot be read as JSON|not finite", swap(JSON, "4.0", word))
    for i, module in enumerate(("os", "subprocess", "builtins", "../x")):
        cases[f"module{i}.json"] = (
            "holds no structure",
            json.dumps({"@module": module, "@class": "system", "args": ["reboot"]}),
        )
    for i, value in enumerate(
        ("null", "42", '"text"', "[]", "{}", "[[[[[]]]]]", '{"a": {"b": 1}}', '{"structure": 1}')
    ):
        cases[f"value{i}.json"] = ("holds no structure", value)
    lattices: tuple[Any, ...] = (
        None,
        [],
        {},
        {"matrix": [[1, 2], [3, 4]]},
        {"matrix": "xyz"},
        {"a": 4},
    )
    for i, lattice in enumerate(lattices):
        cases[f"shape{i}.json"] = (
            "cannot be read as JSON|is no structure",
            json.dumps(STRUCTURE | {"lattice": lattice}),
        )
    lists: tuple[Any, ...] = (
        None,
        {},
        5,
        [5],
        [[]],
        ["x"],
        [{}],
        [{"abc": [0, 0]}],
        [{"abc": [0, 0, 0], "species": [1]}],
    )
    for i, sites in enumerate(lists):
        cases[f"sites{i}.json"] = (
            "cannot be read as JSON|is no structure",
            json.dumps(STRUCTURE | {"sites": sites}),
        )
    flood = {"lists": "[" + "[]," * 1_600_000 + "[]]", "dicts": "[" + "{}," * 1_600_000 + "{}]"}
    flood |= {
        "keys": "{" + "".join(f'"{i}":0,' for i in range(900_000)) + '"x":0}',
        "strings": "[" + '"a",' * 2_000_000 + '"a"]',
    }
    cases |= {
        f"flood_{name}.json": ("is too large: it would take", text) for name, text in flood.items()
    }
    return cases | {
        "lists.json": (
            "holds more than 10000 entries",
            "[" + ",".join(["[" + ",".join(["[]"] * 40) + "]"] * 9000) + "]",
        ),
        "dicts.json": (
            "holds more than 10000 entries",
            "[" + ",".join(["[" + ",".join(["{}"] * 22) + "]"] * 9000) + "]",
        ),
        "numbers_list.json": (
            "holds more than 10000 entries",
            "[" + ",".join(["[" + ",".join(["1.5"] * 140) + "]"] * 9000) + "]",
        ),
        "text.json": ("is too large", '"\U0001f9ea' + "a" * 19_000_000 + '"'),
        "long_text.json": ("holds no structure", '"\U0001f9ea' + "a" * 14_000_000 + '"'),
        "deep.json": ("nested too deeply", "[" * 200_000),
        "deep_closed.json": ("nested too deeply", "[" * 90_000 + "]" * 90_000),
        "deep_dicts.json": ("nested too deeply", '{"a":' * 90_000),
        "deep_900.json": ("holds no structure", "[" * 900 + "]" * 900),
        "no_sites.json": ("announces 0 atoms", json.dumps(STRUCTURE | {"sites": []})),
        "million.json": (
            "is too large",
            lambda: json.dumps(STRUCTURE | {"sites": STRUCTURE["sites"][:1] * 1_000_000})[
                :19_000_000
            ],
        ),
        "sites_501.json": (
            "announces 501 atoms",
            lambda: json.dumps(STRUCTURE | {"sites": STRUCTURE["sites"][:1] * 501}),
        ),
        "entries.json": ("holds more than 10000 entries", json.dumps([1] * 20_000)),
        "two.json": ("cannot be read as JSON", JSON + JSON),
        "comma.json": ("cannot be read as JSON", JSON[:-2] + ",}"),
        "quotes.json": ("cannot be read as JSON", JSON.replace('"', "'")),
        "partial.json": (
            "partially occupied site",
            with_site(species=[{"element": "Pd", "occu": 0.5}]),
        ),
        "element.json": (
            "holds .Qq., which is no element",
            with_site(species=[{"element": "Qq", "occu": 1}]),
        ),
        "list.json": ("which is no element", with_site(species=[{"element": ["Pd"], "occu": 1}])),
        "occupancy.json": (
            "partially occupied site",
            with_site(species=[{"element": "Pd", "occu": float("nan")}]),
        ),
        "place.json": ("not finite", with_site(abc=[float("nan"), 0, 0])),
        "coincident.json": ("two atoms at one place", with_site(abc=[0.5, 0.5, 0.01])),
        "numbers.json": ("announces 0 atoms", row(numbers=[])),
        "numbers_text.json": ("cannot be read as JSON", row(numbers=["Pd"])),
        "number_0.json": ("holds the atomic number 0", row(numbers=[0, 46, 1, 1, 1, 1])),
        "number_200.json": ("holds the atomic number 200", row(numbers=[200, 46, 1, 1, 1, 1])),
        "number_half.json": ("holds the atomic number 1.5", row(numbers=[1.5, 46, 1, 1, 1, 1])),
        "molecule.json": ("no lattice in all three", row(pbc=[True, True, False])),
        "no_cell.json": ("no lattice in all three", row(cell=[[0, 0, 0]] * 3)),
        "shape.json": (
            "cannot be read as JSON",
            row(positions={"__ndarray__": [[10**12, 3], "float64", [1.0]]}),
        ),
        "object.json": (
            "cannot be read as JSON",
            row(cell={"__ase_objtype__": "vibrationsdata", "x": 1}),
        ),
        "row.json": ("is no row of an ASE database", json.dumps({"ids": [7], "nextid": 8})),
        "bomb.json.gz": ("is too large", lambda: gzip.compress(bytes(300_000_000), 6)),
        "bomb.cif.gz": ("is too large", lambda: gzip.compress(bytes(100_000_000), 6)),
        "twice.json.gz": ("is no UTF-8", gzip.compress(gzip.compress(JSON.encode()))),
        "plain.json.gz": ("is a damaged .gz file", JSON),
        "cut.json.gz": ("is a damaged .gz file", gzip.compress(JSON.encode())[:-20]),
        "flipped.vasp.gz": (
            "is a damaged .gz file",
            gzip.compress(POSCAR.encode())[:30] + bytes(20),
        ),
    }


def mat(*tables: tuple[str, Any], compress: bool = False, version: str = "5") -> bytes:
    """A MATLAB file of some variables."""
    import scipy.io

    file = io.BytesIO()
    scipy.io.savemat(file, dict(tables), do_compression=compress, format=version)
    return file.getvalue()


def table(
    lattice: Any = None, hydrogens: Any = None, metals: Any = None, more: Any = None
) -> np.ndarray:
    """The object array of the paper's authors, of two rows, with something else in the first."""
    rows = np.empty((2, 4), dtype=object)
    places = 4 * np.array(POSITIONS, dtype=float)
    for i in range(2):
        rows[i] = [np.eye(3) * 4, places[2:], places[:2], np.zeros((2, 3))]
    for k, part in enumerate((lattice, hydrogens, metals, more)):
        if part is not None:
            rows[0, k] = part
    return rows


def mats() -> Cases:
    """Wrong shapes, types, dimensions and packing in .mat files."""
    good = mat(("Pd", table()))
    name, eye = "Pd_data", np.eye(3) * 4

    def dims(rows: int, columns: int) -> bytes:
        old = struct.pack("<II2i", 5, 8, 2, 4)
        return (
            good[: good.index(old)]
            + struct.pack("<II2i", 5, 8, rows, columns)
            + good[good.index(old) + 16 :]
        )

    def packed(element: bytes, size: int | None = None) -> bytes:
        return good[:128] + struct.pack("<II", 15, len(element) if size is None else size) + element

    shapes: dict[str, Any] = {
        "flat": np.eye(2),
        "row": np.ones(3),
        "text": "lattice",
        "nested": table(),
        "complex": eye * 1j,
    }
    shapes |= {
        "struct": {"a": 1},
        "cube": np.ones((3, 3, 3)),
        "no_rows": np.zeros((0, 3)),
        "columns": np.ones((3, 4)),
    }
    cases: Cases = {
        f"{k}.mat": (
            "must hold matrices|has a matrix of dimensions \\[3, 3, 3\\]",
            mat((name, table(v))),
        )
        for k, v in shapes.items()
    }
    cases |= {
        f"metal_{k}.mat": (
            "must hold matrices|has a matrix of dimensions \\[3, 3, 3\\]",
            mat((name, table(metals=v))),
        )
        for k, v in shapes.items()
        if k not in ("no_rows", "row")
    }
    for i, (rows, columns) in enumerate(
        ((-1, 4), (2, -4), (10**6, 4), (2**31 - 1, 2**31 - 1), (4, 2), (2, 400), (3, 4))
    ):
        cases[f"dims{i}.mat"] = (
            "has a matrix of dim|object array|is cut short",
            dims(rows, columns),
        )
    return cases | {
        "nan.mat": ("not finite|in one plane", mat((name, table(eye * np.nan)))),
        "inf.mat": ("not finite|in one plane", mat((name, table(np.full((3, 3), np.inf))))),
        "flat_zeros.mat": ("in one plane", mat((name, table(eye * 0)))),
        "coincident.mat": (
            "two atoms at one place",
            mat((name, table(hydrogens=np.zeros((2, 3))))),
        ),
        "both.mat": ("2 of the two metal slots", mat((name, table(more=np.ones((2, 3)))))),
        "numbers.mat": ("holds no object array", mat((name, np.eye(4)))),
        "three.mat": ("holds no object array", mat((name, table()[:, :3]))),
        "text.mat": ("holds no object array", mat((name, "text"))),
        "element.mat": ("holds Qq, which is no element", mat(("Qq", table()))),
        "atoms.mat": ("announces 602 atoms", mat((name, table(hydrogens=np.ones((600, 3)))))),
        "variables.mat": (
            "more than 1000 variables",
            good[:128] + struct.pack("<II", 14, 0) * 2000,
        ),
        "version4.mat": ("does not begin as MATLAB 5", mat((name, np.eye(3)), version="4")),
        "version73.mat": (
            "version 7.3",
            b"MATLAB 7.3 MAT-file".ljust(512) + b"\x89HDF\r\n\x1a\n" + bytes(500),
        ),
        "hdf5.mat": ("version 7.3", b"\x89HDF\r\n\x1a\n" + bytes(500)),
        "endian.mat": ("is cut short", good[:126] + b"MI" + good[128:]),
        "size.mat": ("is cut short", good[:132] + struct.pack("<I", 2**32 - 1) + good[136:]),
        "bomb.mat": ("is too large", lambda: packed(zlib.compress(bytes(300_000_000), 6))),
        "matrix.mat": (
            "holds no object array",
            lambda: mat((name, np.zeros((19_000, 1000), np.uint8)), compress=True),
        ),
        "matrix_inside.mat": (
            "must hold matrices",
            lambda: mat((name, table(np.zeros((19_000, 1000), np.uint8))), compress=True),
        ),
        "packed_garbage.mat": ("cannot be unpacked", packed(b"garbage!")),
        "packed_cut.mat": ("is cut short", mat((name, table()), compress=True)[:-60]),
        "packed_size.mat": ("is cut short", packed(b"garbage!", 10**9)),
    }


SYSTEMS = """CREATE TABLE systems (id INTEGER PRIMARY KEY AUTOINCREMENT, unique_id TEXT,
ctime REAL, mtime REAL, username TEXT, numbers BLOB, positions BLOB, cell BLOB, pbc INTEGER,
key_value_pairs TEXT, data BLOB)"""
NUMBERS, PLACES = (
    np.array(ROW["numbers"], "<i4").tobytes(),
    np.array(ROW["positions"], "<f8").tobytes(),
)
BOX = (np.eye(3) * 4).astype("<f8").tobytes()
INSERT = (
    "INSERT INTO systems (numbers, positions, cell, pbc, key_value_pairs) VALUES (?, ?, ?, ?, ?)"
)
ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT"


def database(*rows: tuple[Any, ...], before: str = SYSTEMS, after: str = "") -> bytes:
    """An SQLite file with the rows (numbers, positions, cell, pbc, key_value_pairs)."""
    connection = sqlite3.connect(":memory:")
    connection.executescript(before)
    connection.executemany(INSERT, rows)
    connection.executescript(after)
    connection.commit()
    return connection.serialize()


def databases() -> Cases:
    """Wrong schemas, programs in place of tables, wrong blobs and broken pages in a database."""
    row = (NUMBERS, PLACES, BOX, 7, "{}")

    def blobs(k: int, value: Any) -> bytes:
        return database((*row[:k], value, *row[k + 1 :]))

    cases: Cases = {}
    for k, values in enumerate(
        (
            (None, "text", b"", b"123", bytes(24), NUMBERS * 200, 5),
            (None, "text", b"", b"123", PLACES[:-24]),
        )
    ):
        for i, value in enumerate(values):
            cases[f"blob{k}{i}.db"] = (
                "is no row of ASE's|announces|holds the atomic number 0|positions of shape",
                blobs(k, value),
            )
    for i, value in enumerate(
        (
            None,
            "text",
            bytes(72),
            BOX[:-8],
            np.full(9, np.nan).tobytes(),
            np.full(9, np.inf).tobytes(),
        )
    ):
        cases[f"cell{i}.db"] = ("is no row of ASE's|not finite|no lattice", blobs(2, value))
    for i, pbc in enumerate((0, 3, None, "x", 7.5, -1)):
        cases[f"pbc{i}.db"] = ("has no lattice in all three directions", blobs(3, pbc))
    good = database(row)
    for offset in (100, 103, 105, 4096, 4099, 4101):
        # SQLite may also follow a broken pointer to whatever lies behind the page, and find no row
        # of ours there.
        cases[f"page{offset}.db"] = (
            "malformed|is no row of ASE's",
            good[:offset] + b"\xff" * 8 + good[offset + 8 :],
        )
    big = database(*[row] * 400)
    # an interior page: all its children become itself
    root = next(at for at in range(0, len(big), 4096) if big[at] == 5)
    number = struct.pack(">I", root // 4096 + 1)
    cells = struct.unpack_from(">H", big, root + 3)[0]
    broken = bytearray(big)
    broken[root + 8 : root + 12] = number
    for k in range(cells):
        (at,) = struct.unpack_from(">H", big, root + 12 + 2 * k)
        broken[root + at : root + at + 4] = number
    columns = "1 id, x numbers, x positions, x cell, 7 pbc, x key_value_pairs"
    generated = SYSTEMS.replace("numbers BLOB", "numbers BLOB AS (zeroblob(900000000))")
    insert = (
        "INSERT INTO systems (positions, cell, pbc, key_value_pairs) VALUES (x'', x'', 7, '{}')"
    )
    million = f"INSERT INTO systems (pbc) SELECT x FROM ({ENDLESS} x FROM c LIMIT 1000000)"
    trigger = "CREATE TRIGGER t AFTER UPDATE ON systems BEGIN UPDATE systems SET pbc = pbc + 1; END"
    return cases | {
        "loop.db": ("cannot be read as ASE database", bytes(broken)),
        "million.db": ("more than 10000 rows", lambda: database(after=million)),
        "no_rows.db": ("without rows", database()),
        "other.db": (
            "has no table `systems`",
            sqlite("CREATE TABLE orders (id INTEGER, price REAL)"),
        ),
        "columns.db": (
            "has no table `systems`",
            sqlite("CREATE TABLE systems (id INTEGER, price REAL)"),
        ),
        "view.db": (
            "has no table `systems`",
            sqlite(f"CREATE VIEW systems AS SELECT {columns} FROM (SELECT zeroblob(9e8) x)"),
        ),
        "view_bomb.db": (
            "has no table `systems`",
            sqlite(f"CREATE VIEW systems AS SELECT {columns} FROM ({ENDLESS} x FROM c)"),
        ),
        "virtual.db": (
            "has no table `systems`",
            sqlite("CREATE VIRTUAL TABLE systems USING fts4(id, numbers, positions)"),
        ),
        "generated.db": ("has no table `systems`", lambda: sqlite(f"{generated}; {insert}")),
        "zeroblob.db": (
            "is no row of ASE's",
            lambda: database(
                (None, *row[1:]), after="UPDATE systems SET numbers = zeroblob(30000000)"
            ),
        ),
        "data.db": (
            "is no row of ASE's",
            lambda: database(
                (None, *row[1:]), after="UPDATE systems SET username = hex(zeroblob(12000000))"
            ),
        ),
        "trigger.db": ("announces 0 atoms", database((b"", *row[1:]), after=trigger)),
        "wal.db": ("WAL mode", good[:18] + b"\2\2" + good[20:]),
        "page_size.db": ("file is not a database", good[:16] + b"\x00\x07" + good[18:]),
        "pages.db": ("is cut short", good[:28] + b"\x7f\xff\xff\xff" + good[32:]),
        "header.db": ("file is not a database", b"SQLite format 3\0"),
        "header_garbage.db": ("is cut short", b"SQLite format 3\0" + b"\xa5" * 9000),
        "text.db": ("does not begin as SQLite", JSON),
        "bad_rows.db": ("the rest was not read", lambda: database(*[(b"", *row[1:])] * 9000)),
    }


def sqlite(script: str) -> bytes:
    """An SQLite file made by a script."""
    connection = sqlite3.connect(":memory:")
    connection.executescript(script)
    connection.commit()
    return connection.serialize()
