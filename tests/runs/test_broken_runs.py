"""Run folders and zips that somebody else made, damaged or meant to harm: each is one sentence that
names the file and the way out, and no other run suffers."""

import io
import re
import shutil
import sqlite3
import zipfile

import numpy as np
import pytest
from broken_runs import FOLDERS, OF_CONFIG, OF_OTHERS, SHIPPED_RUN, broken, sql

from crystalgan.errors import InputError
from crystalgan.runs.database import candidates_table, get_row
from crystalgan.runs.folder import Run
from crystalgan.runs.listing import find_runs, list_runs
from crystalgan.runs.run_zip import pack_run, unpack_run

WAYS_OUT = (
    "restore it",
    "train the pair again",
    "delete this file",
    "move it away",
    "work on a copy",
    "pack the run folder again",
    "pack it again",
    "put the file itself into the zip",
    "where the zip of a run folder has one",
    "a run may have",
    "run `crystalgan resume",
)


def one_sentence(said, file):
    """The one sentence on a damaged file: it names the file and the way out."""
    assert "Traceback" not in said
    (sentence,) = [line for line in said.splitlines() if line.startswith("crystalgan: ")]
    assert file in sentence
    assert any(way in sentence for way in WAYS_OUT), sentence
    assert len(sentence) < 800  # the folder and the names of all settings among it
    return sentence


@pytest.mark.parametrize(
    ("file", "damage", "command"), [c[1:] for c in FOLDERS], ids=[c[0] for c in FOLDERS]
)
def test_a_command_says_it_in_a_sentence(crystalgan, tmp_path, file, damage, command):
    run = broken(tmp_path, file, damage)
    words = [{"RUNS": tmp_path / "out", "OUT": tmp_path / "x.zip"}.get(w, w) for w in command]
    more = ["-n", 300] if command == ("generate",) else []
    code, out, err = crystalgan(words[0], run, *words[1:], *more)
    assert code == 2, err
    assert out == ""
    one_sentence(err, file)


def test_the_good_runs_are_listed_and_the_others_named(tmp_path):
    shutil.copytree(SHIPPED_RUN, tmp_path / "good")
    cases = [c for c in FOLDERS if c[1] in ("config.json", "status.json")]
    names = {broken(tmp_path, file, damage).name for _, file, damage, _ in cases}
    found = find_runs(tmp_path)
    assert (
        [run.folder.name for run in found.runs]
        == ["good"]
        == [run.folder.name for run in list_runs(tmp_path)]
    )
    assert {one.name for one in found.broken} == names
    for one in found.broken:
        assert re.search(rf"{one.name}/(config|status)\.json: ", one.sentence)
        assert any(way in one.sentence for way in WAYS_OUT)


def test_a_run_without_status_can_be_resumed(tmp_path):
    run = Run(shutil.copytree(SHIPPED_RUN, tmp_path / "run"))
    (run.folder / "status.json").unlink()
    assert run.status().state == "stopped"
    (run.folder / "config.json").unlink()  # deleted just now
    with pytest.raises(InputError, match="missing"):
        Run(run.folder).status()


def test_a_run_shows_itself_in_a_line(tmp_path):
    run = Run.open(shutil.copytree(SHIPPED_RUN, tmp_path / "<b>run"))
    words = "Pd-Ni-H, crystalgan, seed 0, finished at epoch 1000 of step 2, 200 candidates"
    assert repr(run) == f"<Run {run.folder}: {words}>"
    assert run._repr_html_() == f"<b>&lt;b&gt;run</b>: {words}"
    assert run.candidates().equals(candidates_table(run))
    (run.folder / "config.json").write_text("{}")
    assert "damaged" in repr(Run(run.folder))


def packed(files, how=zipfile.ZIP_DEFLATED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", how) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


@pytest.fixture(scope="module")
def contents():
    """The files of the shipped run, as a zip has them."""
    with zipfile.ZipFile(io.BytesIO(pack_run(Run(SHIPPED_RUN)))) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def damaged_in(files, tmp_path, file, damage):
    path = tmp_path / file
    path.write_bytes(files[f"Pd-Ni-H_shipped/{file}"])
    damage(path)
    return packed(files | {f"Pd-Ni-H_shipped/{file}": path.read_bytes()})


def flipped(data):
    """A zip with a stream that does not unpack."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        info = archive.getinfo("Pd-Ni-H_shipped/config.json")
    start = info.header_offset + 30 + len(info.filename)
    return data[:start] + b"\xff" * 40 + data[start + 40 :]


def marked(data, flag):
    """A zip whose members say that they are encrypted, or are links."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = [(info, archive.read(info)) for info in archive.infolist()]
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for info, content in entries:
            if flag == "link":
                info.external_attr = 0o120777 << 16
            archive.writestr(info, content)
    if flag == "encrypted":
        flags = re.compile(rb"(PK\x01\x02.{4})\x00", re.DOTALL)
        return flags.sub(lambda entry: entry[1] + b"\x01", out.getvalue())
    return out.getvalue()


ZIPS = {
    "no zip": lambda *_: b"PK no zip",
    "cut": lambda files, _: packed(files)[:-200],
    "lzma": lambda files, _: packed(files, zipfile.ZIP_LZMA),
    "bzip2": lambda files, _: packed(files, zipfile.ZIP_BZIP2),
    "stream": lambda files, _: flipped(packed(files)),
    "encrypted": lambda files, _: marked(packed(files), "encrypted"),
    "links": lambda files, _: marked(packed(files), "link"),
    "two runs": lambda files, _: packed(files | {"b/config.json": b"{}"}),
    "no run": lambda *_: packed({"readme.txt": b"x"}),
}
ZIPS |= {
    f"config.json {name}": lambda files, path, damage=damage: damaged_in(
        files, path, "config.json", damage
    )
    for name, damage in OF_CONFIG.items()
    if name != "folder"
}
ZIPS |= {
    f"{file} {name}": lambda files, path, file=file, damage=damage: damaged_in(
        files, path, file, damage
    )
    for file, name, damage, _ in OF_OTHERS
    if f"Pd-Ni-H_shipped/{file}" in {f"Pd-Ni-H_shipped/{p.name}" for p in SHIPPED_RUN.iterdir()}
    and not file.startswith(("step", "energy"))
}


@pytest.mark.parametrize("name", ZIPS)
def test_a_zip_is_refused_in_a_sentence_and_leaves_nothing(tmp_path, contents, name):
    data = ZIPS[name](contents, tmp_path)
    with pytest.raises(InputError) as error:
        unpack_run(io.BytesIO(data), tmp_path / "in", "a colleague's.zip")
    sentence = str(error.value)
    assert sentence.startswith("a colleague's.zip")
    assert str(tmp_path) not in sentence
    assert any(way in sentence for way in WAYS_OUT), sentence
    assert not [path for path in (tmp_path / "in").glob("**/*") if path.is_file()]


def test_a_database_is_copied_and_never_adopted(tmp_path, contents):
    """Ids, columns, details and metadata are the same; tables, indices and free pages of the
    stranger's file do not come along."""
    path = tmp_path / "candidates.db"
    path.write_bytes(contents["Pd-Ni-H_shipped/candidates.db"])
    sql(
        "CREATE TABLE secrets (x)",
        "INSERT INTO secrets VALUES ('hidden words')",
        "DELETE FROM systems WHERE id = 3",
    )(path)
    data = packed(contents | {"Pd-Ni-H_shipped/candidates.db": path.read_bytes()})
    run = unpack_run(io.BytesIO(data), tmp_path / "in", "x.zip")
    before, after = candidates_table(Run(SHIPPED_RUN)), run.candidates()
    assert after.equals(before[before["id"] != 3].reset_index(drop=True))
    for number in (1, 200):
        theirs, ours = get_row(Run(SHIPPED_RUN), number), get_row(run, number)
        assert ours.data == theirs.data
        assert np.array_equal(ours.positions, theirs.positions)
        assert np.array_equal(ours.cell, theirs.cell)
        assert np.array_equal(ours.numbers, theirs.numbers)
    assert b"hidden words" not in (run.folder / "candidates.db").read_bytes()
    assert (run.folder / "candidates.db").stat().st_mode & 0o777 == 0o644
    assert not [path for path in run.folder.iterdir() if path.name.startswith(".")]


def test_nothing_of_a_strangers_schema_is_run(tmp_path, contents):
    """A column that would be generated at each look, 900 MB of it, is not."""
    path = tmp_path / "candidates.db"
    path.write_bytes(contents["Pd-Ni-H_shipped/candidates.db"])
    sql("ALTER TABLE systems ADD COLUMN evil AS (printf('%.*c', 900000000, 'x'))")(path)
    data = packed(contents | {"Pd-Ni-H_shipped/candidates.db": path.read_bytes()})
    run = unpack_run(io.BytesIO(data), tmp_path / "in", "x.zip")
    with sqlite3.connect(run.folder / "candidates.db") as connection:
        names = [row[1] for row in connection.execute("PRAGMA table_xinfo(systems)")]
    assert "evil" not in names
    assert len(run.candidates()) == 200
