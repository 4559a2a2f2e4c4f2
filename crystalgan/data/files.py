"""The files of a folder, of a zip or of one path: found, measured and only then read.

Nothing is ever unpacked to disk.

Whoever packed a file may have meant harm: every size is checked before memory is taken for it, and
a file that leads elsewhere or is damaged or is no regular file says so without keeping the others
from being read.
"""

from __future__ import annotations

import gzip
import io
import os
import re
import stat
import struct
import zipfile
import zlib
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from crystalgan.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    # most bytes that a file of this name may have; 0 for a name of no known format
    Limit = Callable[[str], int]
    # where it is, for people; its name; its contents, or `Unreadable`
    Found = Iterator[tuple[str, str, Callable[[], bytes]]]

ACCEPTED = "POSCAR, CIF, extended XYZ, pymatgen JSON (.json), ASE database (.db) or .mat files"
MAX_FILES = 10_000
MAX_WORDS = 400  # characters of a name or a reason
MAX_ZIP_BYTES = 50_000_000
MAX_UNPACKED_BYTES = 200_000_000
# what systems leave in folders, beside hidden files
OF_SYSTEMS = ("thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx")
CENTRAL_ENTRY = b"PK\x01\x02"  # stands before each entry of a zip's directory


class Unreadable(Exception):  # noqa: N818 - becomes a LeftOut
    """Why a file, or a cell of it, cannot be used; says nothing of where that was."""


def files(path: Path, limit: Limit) -> Found:
    """Places, names and contents of the files that `limit` knows in a folder, a zip or one path.

    The function of a file's contents raises `Unreadable` for what its name says is wrong. Raises
    InputError where nothing can be trusted.
    """
    if path.is_dir():
        yield from _folder(path, limit)
    elif path.suffix.lower() == ".zip" or (not limit(path.name) and _is_zip(path)):
        yield from _zip(path, limit)
    elif limit(path.name):
        yield printable(str(path)), path.name, partial(_read, path, limit(path.name))
    else:
        raise InputError(
            f"{path}: not a format that can be read; use {ACCEPTED}, a folder or a zip of them."
        )


def is_nobodys(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or was left there by an operating system."""
    return name.startswith(".") or name.lower() in OF_SYSTEMS


def printable(text: str) -> str:
    """`text` on one line that can be read, without what a terminal would obey."""
    text = "".join(c if c.isprintable() else "?" for c in text[: 2 * MAX_WORDS])
    return text if len(text) <= MAX_WORDS else f"{text[:MAX_WORDS]}..."


def check_size(size: int, most: int) -> None:
    """Refuse what is larger than `most` bytes."""
    if size > most:
        raise Unreadable(
            f"is too large: {size / 1e6:.3g} MB, more than the {most / 1e6:.3g} MB that such a file"
            " may have"
        )


def _is_zip(path: Path) -> bool:
    return path.is_file() and zipfile.is_zipfile(path)


def _read(file: Path, most: int) -> bytes:
    """The contents of a regular file, unzipped where its name ends in .gz."""
    try:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):
            raise Unreadable("is no file but a pipe, a device or a folder")
        check_size(status.st_size, most)
        with file.open("rb") as opened:
            data = opened.read(most + 1)
    except OSError as error:
        raise Unreadable(f"cannot be read ({error.strerror})") from None
    check_size(len(data), most)
    return _gunzipped(data, most) if file.name.lower().endswith(".gz") else data


def _gunzipped(data: bytes, most: int) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as packed:
            data = packed.read(most + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise Unreadable(f"is a damaged .gz file ({error})") from None
    if len(data) > most:
        raise Unreadable(f"is too large: it unpacks to more than {most / 1e6:.3g} MB")
    return data


def _refuse(reason: str) -> bytes:
    raise Unreadable(reason)


def _folder(path: Path, limit: Limit) -> Found:
    found: dict[Path, Callable[[], bytes]] = {}

    def refuse(error: OSError) -> None:
        found[Path(error.filename)] = partial(_refuse, f"cannot be read ({error.strerror})")

    seen = 0
    for folder, subfolders, names in os.walk(path, onerror=refuse):
        subfolders[:] = [name for name in subfolders if not is_nobodys(name)]
        names = [name for name in names if not is_nobodys(name)]  # noqa: PLW2901
        seen += len(subfolders) + len(names)
        if seen > MAX_FILES:
            raise InputError(f"{path}: holds more than {MAX_FILES} files, too many for one class.")
        if not subfolders and not names and limit(Path(folder).name) and Path(folder) != path:
            found[Path(folder)] = partial(_refuse, "is an empty folder, no file")
        for name in [*subfolders, *names]:
            entry = Path(folder, name)
            reason = (
                _astray(entry, path)
                if entry.is_symlink() and (limit(name) or entry.is_dir())
                else ""
            )
            if reason:
                found[entry] = partial(_refuse, reason)
            elif name in names and limit(name):
                found[entry] = partial(_read, entry, limit(name))
            elif name in names and name.lower().endswith(".zip"):
                found[entry] = partial(_refuse, "is a zip in a folder; unpack it, or give it alone")
    if not seen:
        raise InputError(f"{path}: this folder is empty; put {ACCEPTED} there.")
    for entry in sorted(found):
        yield printable(str(entry)), entry.name, found[entry]


def _astray(link: Path, root: Path) -> str:
    """Why a link is not followed, or nothing where it stays inside."""
    try:
        inside = link.resolve(strict=True).is_relative_to(root.resolve())
    except FileNotFoundError:
        return "is a link to nothing"
    except (OSError, RuntimeError):  # Python up to 3.12 says RuntimeError
        return "is a link that leads to itself"
    return "" if inside else "is a link that leads out of the folder; put the file itself there"


def open_zip(data: bytes, where: str, what: str = "class") -> zipfile.ZipFile:
    """The zip that these bytes are; InputError where they are none, or hold too many files."""
    if data.count(CENTRAL_ENTRY) > MAX_FILES:  # counted before a directory of them is made
        raise InputError(f"{where}: holds more than {MAX_FILES} files, too many for one {what}.")
    try:
        return zipfile.ZipFile(io.BytesIO(data))
    except (
        zipfile.BadZipFile,
        NotImplementedError,
        ValueError,
        OverflowError,
        EOFError,
        struct.error,
    ):
        raise InputError(
            f"{where}: not a zip file, or cut short or damaged; pack it again."
        ) from None


def _zip(path: Path, limit: Limit) -> Found:
    try:
        data = _read(path, MAX_ZIP_BYTES)
    except Unreadable as error:
        raise InputError(f"{path}: {error}.") from None
    archive = open_zip(data, str(path))
    # It stays open, in memory, as long as somebody holds the contents of a member.
    members = [
        (PurePosixPath(member.filename.replace("\\", "/")), member) for member in archive.infolist()
    ]
    wanted = [
        (inside, member)
        for inside, member in members
        if not member.is_dir()
        and (_climbs(inside) or not any(map(is_nobodys, inside.parts)))
        and (_climbs(inside) or limit(inside.name) or inside.suffix.lower() == ".zip")
    ]
    size = sum(member.file_size for inside, member in wanted if limit(inside.name))
    if size > MAX_UNPACKED_BYTES:
        raise InputError(
            f"{path}: unpacks to {len(wanted)} files and {size // 1_000_000} MB, too much for one"
            " class."
        )
    for inside, member in wanted:
        where = printable(f"{path}/{member.filename}")
        yield where, inside.name, partial(_member, archive, member, inside, limit(inside.name))


def _climbs(inside: PurePosixPath) -> bool:
    return (
        inside.is_absolute()
        or ".." in inside.parts
        or re.match(r"[A-Za-z]:", str(inside)) is not None
    )


def _member(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, inside: PurePosixPath, most: int
) -> bytes:
    if _climbs(inside):
        raise Unreadable("has a path that leads out of the archive")
    if inside.suffix.lower() == ".zip":
        raise Unreadable("is a zip in a zip; unpack it first")
    data = unpacked(archive, member, most)
    return _gunzipped(data, most) if inside.suffix.lower() == ".gz" else data


def unpacked(archive: zipfile.ZipFile, member: zipfile.ZipInfo, most: int) -> bytes:
    """The contents of a member of a zip; `Unreadable` for a link, for what is encrypted, damaged or
    packed by another method than deflate, and for more than `most` bytes."""
    if stat.S_ISLNK(member.external_attr >> 16):
        raise Unreadable("is a link; put the file itself into the zip")
    if member.flag_bits & 1:
        raise Unreadable("is encrypted; pack it again without a password")
    # the others unpack more than they are asked for
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise Unreadable("is packed by another method than deflate; pack it again")
    check_size(member.file_size, most)
    try:
        with archive.open(member) as opened:
            data = opened.read(most + 1)
    except (
        zipfile.BadZipFile,
        NotImplementedError,
        EOFError,
        OSError,
        ValueError,
        RuntimeError,
        zlib.error,
        struct.error,
    ):
        raise Unreadable("is damaged in the zip; pack it again") from None
    if len(data) != member.file_size:
        raise Unreadable("is damaged in the zip: its size is not the one announced; pack it again")
    return data
