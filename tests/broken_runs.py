"""Copies of the shipped run, each with one damaged file, and the command that touches it."""

import json
import shutil
import sqlite3
import struct

import numpy as np
from safetensors.numpy import load_file, save_file

from crystalgan.runs.folder import SHIPPED

SHIPPED_RUN = SHIPPED / "Pd-Ni-H_shipped"


def text(content):
    """A file that holds this."""
    return lambda path: path.write_bytes(content)


def edited(**changes):
    """A JSON file with these entries."""
    return lambda path: path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def without(name):
    """A JSON file that lacks an entry."""

    def damage(path):
        about = json.loads(path.read_text())
        del about[name]
        path.write_text(json.dumps(about))

    return damage


def rule(**changes):
    return lambda path: edited(rule=json.loads(path.read_text())["rule"] | changes)(path)


def settings(**changes):
    return lambda path: edited(config=json.loads(path.read_text())["config"] | changes)(path)


def folder(path):
    path.unlink()
    path.mkdir()


def tensors(change):
    """A safetensors file whose arrays are changed by a function."""

    def damage(path):
        arrays = {name: array.copy() for name, array in load_file(path).items()}
        save_file(change(arrays) or arrays, path)

    return damage


def put(name, where, value):
    """Another value in an array."""

    def change(arrays):
        arrays[name][where] = value

    return tensors(change)


def sql(*statements, values=()):
    """A database after these statements."""

    def damage(path):
        with sqlite3.connect(path) as connection:
            for statement in statements:
                connection.execute(statement, values if "?" in statement else ())
        connection.close()

    return damage


def column(name, value):
    """A database whose first candidate has another value in this key-value pair, or none."""
    change = "json_remove(key_value_pairs, '$.' || ?)" if value is None else None
    change = change or "json_set(key_value_pairs, '$.' || ?, ?)"
    values = (name,) if value is None else (name, value)
    return sql(f"UPDATE systems SET key_value_pairs = {change} WHERE id = 1", values=values)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


VIEW = ("ALTER TABLE systems RENAME TO other", "CREATE VIEW systems AS SELECT * FROM other")
TRIGGER = "CREATE TRIGGER t AFTER UPDATE ON systems BEGIN DELETE FROM species; END"
FIRST = "WHERE id = 1"

OF_CONFIG = {  # in place of config.json: no page and no command can open the run
    "cut": text(b'{"pair": ["Pd"'),
    "empty object": text(b"{}"),
    "empty file": text(b""),
    "list": text(b"[]"),
    "not UTF-8": text(b'{"pair": "\xff"}'),
    "nested": text(b"[" * 100_000),
    "folder": folder,
    "rule of nothing": edited(rule={}),
    "rule a number": edited(rule=5),
    "limits a list": rule(limits=[1, 2]),
    "limits reversed": rule(limits={"H-H": [3.0, 1.8]}),
    "limits not a number": rule(limits={"H-H": [float("nan"), 3.0]}),
    "limits of no elements": rule(limits={"H-Qq": [1.0, 3.0]}),
    "config a list": edited(config=[1]),
    "unknown setting": settings(sped=3),
    "seed too large": settings(seed=2**80),
    "weight negative": settings(lambda_geo1=-1),
    "beta1 too large": settings(beta1=1.5),
    "three metals": edited(pair=["Pd", "Ni", "Ti"]),
    "one metal": edited(pair=["Pd", "Pd"]),
    "metals as text": edited(pair="PdNi"),
    "no element": edited(pair=["Pd", "../x"]),
    "shared a metal": edited(shared="Pd"),
    "no pair": without("pair"),
    "no classes": without("classes"),
    "classes numbers": edited(classes={"a": 3}),
}
OF_STATUS = {  # status.json: the same
    "empty object": text(b"{}"),
    "list": text(b"[]"),
    "state unknown": edited(state="paused"),
    "epochs as text": edited(epochs="many"),
    "updated as text": edited(updated="yesterday"),
}
OF_OTHERS = [  # file, damage, command; the run can be opened, and the command says what is wrong
    ("metrics.jsonl", "no JSON", text(b"no json\n"), ("step2", "--runs", "RUNS")),
    ("metrics.jsonl", "a list", text(b"[1]\n"), ("step2", "--runs", "RUNS")),
    ("metrics.jsonl", "text", text(b'{"step":1,"epoch":1,"x":"y"}\n'), ("step2", "--runs", "RUNS")),
    ("classes.safetensors", "cut", cut, ("metrics",)),
    (
        "classes.safetensors",
        "no mask",
        tensors(lambda a: {name: array for name, array in a.items() if name != "b.mask"}),
        ("metrics",),
    ),
    ("classes.safetensors", "not finite", put("a.frac", (0, 0, 0, 0), np.nan), ("metrics",)),
    ("classes.safetensors", "no atoms", put("a.mask", 0, False), ("metrics",)),
    ("classes.safetensors", "flat", put("b.lattice", 0, 1.0), ("metrics",)),
    (
        "classes.safetensors",
        "shapes",
        tensors(lambda a: a | {"a.lattice": a["a.lattice"][:-1]}),
        ("metrics",),
    ),
    (
        "classes.safetensors",
        "types",
        tensors(lambda a: a | {"a.mask": a["a.mask"].astype(float)}),
        ("metrics",),
    ),
    ("energy.safetensors", "names", tensors(lambda a: {"x": a["tables"]}), ("generate",)),
    ("energy.safetensors", "shape", tensors(lambda a: {"tables": a["tables"][0]}), ("generate",)),
    ("energy.safetensors", "not finite", put("tables", 0, np.inf), ("generate",)),
    ("step1.safetensors", "names", tensors(lambda _: {"x": np.ones(3)}), ("generate",)),
    ("step1.safetensors", "header", text(struct.pack("<Q", 2**62) + b"{}"), ("generate",)),
    ("step2.safetensors", "cut", cut, ("generate",)),
    ("step2.safetensors", "a folder", folder, ("generate",)),
    ("checkpoint.safetensors", "no tensors", text(b"{"), ("resume",)),
    ("candidates.db", "no database", text(b"no database" * 100), ("metrics",)),
    ("candidates.db", "cut", cut, ("export", "--out", "OUT")),
    ("candidates.db", "a view", sql(*VIEW), ("export", "--out", "OUT")),
    ("candidates.db", "a trigger", sql(TRIGGER), ("export", "--out", "OUT")),
    ("candidates.db", "no column", sql("ALTER TABLE systems DROP COLUMN data"), ("metrics",)),
    ("candidates.db", "no decision", column("decision", None), ("metrics",)),
    ("candidates.db", "no verdict", column("passed_learned", None), ("metrics",)),
    ("candidates.db", "space group", column("spacegroup", 231), ("novelty",)),
    (
        "candidates.db",
        "positions",
        sql("UPDATE systems SET positions = zeroblob(7)"),
        ("export", "--out", "OUT", "--select", "all"),
    ),
    (
        "candidates.db",
        "no elements",
        sql(f"UPDATE systems SET numbers = zeroblob(length(numbers)) {FIRST}"),
        ("export", "--out", "OUT", "--select", "1"),
    ),
    ("candidates.db", "details", sql(f"UPDATE systems SET data = x'00' {FIRST}"), ("metrics",)),
    (
        "candidates.db",
        "metadata",
        sql("UPDATE information SET value = '[]' WHERE name = 'metadata'"),
        ("metrics",),
    ),
    ("relaxed.db", "no database", text(b"no database" * 100), ("stability",)),
    (
        "relaxed.db",
        "of candidates",
        lambda path: shutil.copy(path.with_name("candidates.db"), path),
        ("export", "--out", "OUT"),
    ),
    (
        "phonons.db",
        "no database",
        text(b"no database" * 100),
        ("phonons", "--select", "1", "--potential", "ase.calculators.emt.EMT"),
    ),
]
# of 26 + 5 + 33 folders
FOLDERS = [
    *(
        (f"config.json {name}", "config.json", damage, ("metrics",))
        for name, damage in OF_CONFIG.items()
    ),
    *(
        (f"status.json {name}", "status.json", damage, ("resume",))
        for name, damage in OF_STATUS.items()
    ),
    *((f"{file} {name}", file, damage, command) for file, name, damage, command in OF_OTHERS),
]


def broken(root, file, damage):
    """A copy of the shipped run with one damaged file."""
    run = root / f"broken-{len(list(root.iterdir()))}"
    shutil.copytree(SHIPPED_RUN, run)
    if file == "checkpoint.safetensors":  # of a step 2 that is not done
        (run / "step2.safetensors").unlink()
    damage(run / file)
    return run
