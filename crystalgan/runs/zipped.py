"""A run folder as a zip, to and from a colleague. What comes in is checked: known names only,
limited in size."""

from __future__ import annotations

import io
import shutil
import stat
import time
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO

from crystalgan.errors import InputError
from crystalgan.runs.database import open_database
from crystalgan.runs.folder import FILES, Run, hidden_folder, shown
from crystalgan.storage import COPY, problem, saying

if TYPE_CHECKING:
    from pymatgen.core import Structure

KNOWN = "known"
MOST_BYTES = 500_000_000  # of all files of a run, unpacked
LONGEST_NAME = 200  # bytes, of a file of known structures
EARLIEST = (1980, 1, 1, 0, 0, 0)  # that a zip can say
MOST_KNOWN = 20_000_000  # bytes of known structures that go along with a run


def class_structures(run: Run) -> tuple[list[Structure], list[Structure]]:
    """The canonical cells of both classes that a run learned from, read without tensors."""
    from pymatgen.core import Structure
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path, (shared, *metals) = run.folder / "classes.safetensors", run.species
    try:
        path.open("rb").close()  # what the system says is plainer than what safetensors makes of it
        arrays = load_file(path)
        a, b = (
            [
                Structure(
                    lattice,
                    [shared] * int(mask[0].sum()) + [metal] * int(mask[1].sum()),
                    frac[mask],
                )
                for lattice, frac, mask in zip(
                    *(arrays[f"{name}.{key}"] for key in ("lattice", "frac", "mask")), strict=True
                )
            ]
            for name, metal in zip("ab", metals, strict=True)
        )
    except OSError as error:
        raise InputError(problem(error, path, COPY, writing=False)) from None
    except (SafetensorError, KeyError, ValueError) as error:
        raise InputError(f"{path}: damaged ({error}); train the pair again.") from None
    return a, b


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
    """The files of a run folder in a zip, with `known_files`."""
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
    try:
        with zipfile.ZipFile(source) as archive:
            members = _members(archive, name)
            stem = PurePosixPath(name).stem
            with hidden_folder(root, "set CRYSTALGAN_RUNS") as folder:
                for file, packed in members.items():
                    with saying(root, "set CRYSTALGAN_RUNS", writing=True):
                        (folder / file).parent.mkdir(exist_ok=True)
                        with archive.open(packed) as inside, (folder / file).open("wb") as out:
                            shutil.copyfileobj(inside, out)
                _check(Run(folder), name)
                run = Run(
                    shown(
                        folder,
                        "".join(c if c.isalnum() or c in "-_" else "-" for c in stem)[:60] or "run",
                    )
                )
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error) as error:
        raise InputError(
            f"{name}: this zip is damaged ({error}); pack the run folder again."
        ) from None
    return run


def _check(run: Run, name: str) -> None:
    """InputError for what came in a zip of this name and is no run, without the name of the folder
    where it was unpacked."""
    try:
        _ = Run.open(run.folder).species, run.status()
    except InputError as error:
        raise InputError(str(error).replace(str(run.folder), name)) from None


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
