"""A run folder as a zip, to and from a colleague. What comes in is checked: known names only,
limited in size, every file by its schema, databases copied row by row."""

from __future__ import annotations

import io
import stat
import time
import zipfile
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO

from crystalgan.data.files import Unreadable, open_zip, printable, unpacked
from crystalgan.errors import InputError
from crystalgan.runs.arrays import CLASSES, check_classes, read_arrays
from crystalgan.runs.database import open_database
from crystalgan.runs.database_copy import copy_database
from crystalgan.runs.folder import FILES, Run, numbered
from crystalgan.runs.schema import DiscoveryFile, checked
from crystalgan.storage import COPY, hidden_folder, read_json, read_regular, saying

if TYPE_CHECKING:
    from collections.abc import Callable

KNOWN = "known"
MOST_BYTES = 500_000_000  # of all files of a run, unpacked
MOST_PACKED = 250_000_000  # of the zip
LONGEST_NAME = 200  # bytes, of a file of known structures
EARLIEST = (1980, 1, 1, 0, 0, 0)  # that a zip can say
MOST_KNOWN = 20_000_000  # bytes of known structures that go along with a run
INCOMING = ".incoming"  # folder of what is not copied yet


def known_folder(run: Run) -> Path:
    """Where the known structures lie that a run's candidates are compared with, beside the built-in
    ones."""
    return run.folder / KNOWN


def known_files(run: Run) -> list[Path]:
    """The known structures that go along with a run: all that it was given, or none where they are
    larger than `MOST_KNOWN`."""
    files = [path for path in sorted(known_folder(run).glob("[!.]*")) if path.is_file()]
    return files if sum(path.stat().st_size for path in files) <= MOST_KNOWN else []


def pack_run(run: Run) -> bytes:
    """The files of a run folder in a zip, with `known_files`.

    >>> from crystalgan import open_run, shipped
    >>> pack_run(open_run(shipped()))[:2]
    b'PK'
    """
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in (*(run.folder / name for name in FILES), *known_files(run)):
            if path.exists():
                name = f"{run.folder.name}/{path.relative_to(run.folder)}"
                # a database as it is between two changes of it
                with saying(path, COPY, writing=False):
                    data = (
                        open_database(run, path.name).contents()
                        if path.name.endswith(".db")
                        else path.read_bytes()
                    )
                    archive.writestr(member(name, path.stat().st_mtime), data)
    return out.getvalue()


def member(name: str, changed: float | None = None) -> zipfile.ZipInfo:
    """A file of a zip that everybody may read where it is unpacked; `changed` in seconds, or
    now."""
    info = zipfile.ZipInfo(name, max(time.localtime(changed)[:6], EARLIEST))
    info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, (stat.S_IFREG | 0o644) << 16
    return info


def unpack_run(source: BinaryIO | Path, root: Path, name: str = "run") -> Run:
    """A run from the zip of its folder, in a new folder below `root`; InputError names what is
    wrong with it.

    Only the files that a run folder has are taken and known structures, whatever else the zip
    holds, and never a path from inside it.
    """
    name = printable(name)
    archive = open_zip(_packed(source, name), name, "run")
    members = _members(archive, name)
    stem = "".join(c if c.isalnum() or c in "-_" else "-" for c in PurePosixPath(name).stem)
    with hidden_folder(root, "set CRYSTALGAN_RUNS") as folder, archive:
        try:
            for file, packed in members.items():
                _put(folder, file, partial(unpacked, archive, packed, MOST_BYTES), name)
            check_files(Run.open(folder))
        except InputError as error:  # without the name of the folder where it was unpacked
            said = str(error).replace(f"{folder}/{INCOMING}", name).replace(str(folder), name)
            raise InputError(said) from None
        return Run(numbered(folder, stem[:60] or "run"))


def check_files(run: Run) -> None:
    """InputError where a file of a run is not what it must be."""
    run.status()
    run.metrics()
    run.candidates()
    if (path := run.folder / "discovery.json").exists():
        checked(DiscoveryFile, read_json(path), path, "pack the run again")
    for path in sorted(run.folder.glob("*.safetensors")):
        arrays = read_arrays(path)
        if path.name == CLASSES:
            check_classes(arrays, path)


def _packed(source: BinaryIO | Path, name: str) -> bytes:
    """The bytes of a zip."""
    if isinstance(source, Path):
        with saying(source, "give another path", writing=False):
            return read_regular(source, MOST_PACKED)
    source.seek(0)
    data = source.read(MOST_PACKED + 1)
    if len(data) > MOST_PACKED:
        raise InputError(
            f"{name}: is larger than the {MOST_PACKED // 1_000_000} MB that the zip of a run may"
            " have."
        )
    return data


def _put(folder: Path, file: str, contents: Callable[[], bytes], name: str) -> None:
    """Write one file of a zip into a run folder, a database by copying its rows."""
    try:
        data = contents()
    except Unreadable as error:
        raise InputError(f"{name}/{file}: {error}.") from None
    is_database = file.endswith(".db") and "/" not in file
    path = folder / INCOMING / file if is_database else folder / file
    with saying(folder.parent, "set CRYSTALGAN_RUNS", writing=True):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        if is_database:
            copy_database(path, folder / file)
            path.unlink()
            path.parent.rmdir()


def _members(archive: zipfile.ZipFile, name: str) -> dict[str, zipfile.ZipInfo]:
    """File of a run folder -> where the zip has it; all from the one folder that holds
    `config.json`."""
    tops = [
        PurePosixPath(m.filename).parent
        for m in archive.infolist()
        if PurePosixPath(m.filename).name == "config.json"
    ]
    if len(tops) != 1:
        raise InputError(
            f"{name}: holds {len(tops)} files config.json where the zip of a run folder has one."
        )
    found = {
        PurePosixPath(m.filename).name: m
        for m in archive.infolist()
        if PurePosixPath(m.filename).parent == tops[0]
    }
    members = {file: found[file] for file in FILES if file in found}
    for m in archive.infolist():
        path = PurePosixPath(m.filename)
        plain = (
            not m.is_dir()
            and not path.name.startswith(".")
            and len(path.name.encode()) <= LONGEST_NAME
        )
        if plain and path.parent == tops[0] / KNOWN:
            members[f"{KNOWN}/{path.name}"] = m
    size = sum(m.file_size for m in members.values())
    if size > MOST_BYTES:
        raise InputError(
            f"{name}: unpacks to {size // 1_000_000} MB; a run may have"
            f" {MOST_BYTES // 1_000_000} MB."
        )
    return members
