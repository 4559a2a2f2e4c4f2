"""Reading and writing where others do so too: files that appear whole, locks, and a sentence where
the system says no.

Everything that one process writes and another may look at is put together under a hidden name
beside its place, and renamed: it is not there, or it is complete. Nothing here makes a folder that
is not asked for: a run that was deleted stays deleted.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from crystalgan.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

DENIED = (errno.EACCES, errno.EPERM)
FULL = (errno.ENOSPC, errno.EDQUOT)
COPY = "work on a copy of the run folder"
AGAIN = "try again"
RESTORE = "restore it, or train the pair again"
MOST_JSON = 50_000_000  # bytes
WORDS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota on this disk is used up",
    errno.EROFS: "it lies on a disk that may only be read",
    errno.EIO: "the disk fails",
    errno.ENOENT: "there is no such file or folder",
    errno.EEXIST: "something else has this name",
    errno.EISDIR: "it is a folder",
    errno.ENOTDIR: "a part of this path is no folder",
    errno.ENAMETOOLONG: "the name is too long",
    errno.EMFILE: "too many files are open",
}


def problem(
    error: OSError,
    path: Path | str | None = None,
    way_out: str = "",
    writing: bool | None = None,
    again: str = AGAIN,
) -> str:
    """One sentence on what the system refused: the file or folder, why, and the `way_out` or who
    can mend it.

    The path is the error's own where none is given. `writing` says what was tried, where the error
    does not show it; `again` how to go on once there is room on a full disk.
    """
    path = path or error.filename
    if error.errno in FULL:
        way_out = f"make room and {again}, what was written before is kept"
    elif not way_out:
        way_out = (
            "choose another place or work on a copy"
            if error.errno == errno.EROFS
            else "give another path"
        )
    if path is None:
        return f"What was to be written has no place ({_words(error)}); {way_out}."
    place = Path(os.fsdecode(path))
    if error.errno in DENIED:
        return _denied(place, way_out, writing)
    if writing is None:
        writing = error.errno in (*FULL, errno.EROFS) or not _seen(place)
    return f"{place}: cannot be {'written' if writing else 'read'} ({_words(error)}); {way_out}."


def _words(error: OSError) -> str:
    return WORDS.get(error.errno or 0) or error.strerror or str(error) or type(error).__name__


def _denied(path: Path, way_out: str, writing: bool | None) -> str:
    """Whose permission is lacking: that of the file or, where it cannot be seen or made, of the
    folder that it would be in."""
    place = next((p for p in (path, *path.absolute().parents) if _seen(p)), path)
    owner = _owner(place)
    if place == path and not may(place, os.R_OK) and not writing:
        return (
            f"{path}: no permission to read it; {owner} can give it (chmod"
            f" a+r{'X' * place.is_dir()})."
        )
    if not may(place, os.X_OK) and place.is_dir():
        return f"{path}: no permission to enter {place}; {owner} can give it (chmod a+rx)."
    where = "it" if place == path else f"the folder {place}"
    return f"{path}: no permission to write {where}; {owner} can give it, or {way_out}."


def _seen(path: Path) -> bool:
    try:
        path.stat()
    except OSError:
        return False
    return True


def _owner(path: Path) -> str:
    try:
        return f"its owner {path.owner()}"
    except (KeyError, OSError, NotImplementedError, ImportError):  # a number without a name
        with suppress(OSError):
            return f"its owner (user {path.stat().st_uid})"
        return "its owner"


def may(path: Path, what: int) -> bool:
    """Whether this process has the permissions `what` (os.R_OK, ...)."""
    return os.access(path, what, effective_ids=os.access in os.supports_effective_ids)


def refusal(place: Path) -> int:
    """The error number of what may not be written: its disk may only be read, or this user has no
    permission."""
    return errno.EROFS if os.statvfs(place).f_flag & os.ST_RDONLY else errno.EACCES


@contextmanager
def saying(
    path: Path | str | None = None, way_out: str = "", writing: bool | None = None
) -> Iterator[None]:
    """Have what the system refuses in here be an InputError that names this path."""
    try:
        yield
    except OSError as error:
        raise InputError(problem(error, path, way_out, writing)) from None


def check_target(path: Path, way_out: str) -> None:
    """InputError where no file can be written under this name: no permission, a folder, a device,
    no name at all."""
    with saying(path, way_out, writing=True):
        try:
            mode = path.stat().st_mode
        except FileNotFoundError:
            mode = 0
        if not path.name or stat.S_ISDIR(mode):
            raise InputError(f"{path}: cannot be written (it is a folder); {way_out}.")
        if mode and not stat.S_ISREG(mode):
            raise InputError(
                f"{path}: cannot be written (it is a device or a pipe, no file); {way_out}."
            )
        if not path.parent.exists():
            raise InputError(
                f"{path}: cannot be written (there is no folder {path.parent}); {way_out}."
            )
        if not may(path.parent, os.W_OK | os.X_OK):
            raise OSError(refusal(path.parent), "")


def write_whole(path: Path, data: bytes | str, way_out: str = "give another path") -> None:
    """Replace a file whole or not at all, with the mode that new files have in this folder;
    InputError says the `way_out`."""
    check_target(path, way_out)
    partial = hidden(path)
    with saying(path, way_out, writing=True):
        try:
            partial.write_bytes(data.encode() if isinstance(data, str) else data)
            os.replace(partial, path)
        except BaseException:
            with suppress(OSError):
                partial.unlink()
            raise


def hidden(path: Path) -> Path:
    """A name of its own beside `path`, for what is to become it."""
    return path.with_name(f".{uuid4().hex}")


@contextmanager
def hidden_folder(root: Path, way_out: str = "choose another with --runs") -> Iterator[Path]:
    """A new folder below `root` under a hidden name, to be given its own (`appear`) once it is
    complete; it is removed where that fails.
    """
    folder = hidden(root / "folder")
    with saying(root, way_out, writing=True):
        root.mkdir(parents=True, exist_ok=True)
        folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def appear(partial: Path, target: Path) -> None:
    """Give a complete, hidden file or folder its name; FileExistsError where something has it.

    A file is linked, which no other process can do with the same name. Disks without hard links
    and folders are looked at first: two processes at the same instant end with one of the two,
    complete.
    """
    if not partial.is_dir():
        try:
            os.link(partial, target)
        except FileExistsError:
            raise
        except OSError:  # a disk without hard links
            pass
        else:
            partial.unlink()
            return
    if os.path.lexists(target):
        raise FileExistsError(target)
    try:
        partial.rename(target)
    except OSError as error:
        if os.path.lexists(target):  # since
            raise FileExistsError(target) from error
        raise


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Replace a JSON file whole."""
    write_whole(path, json.dumps(data, indent=1) + "\n", COPY)


def read_json(path: Path, way_out: str = RESTORE) -> dict[str, Any]:
    """A JSON object; InputError names a file that is missing, may not be read, or is damaged."""
    try:
        data = json.loads(read_regular(path))
    except FileNotFoundError:
        raise InputError(f"{path}: missing; this is not a run folder, or it is damaged.") from None
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: damaged ({error}); {way_out}.") from None
    if not isinstance(data, dict):
        raise InputError(f"{path}: damaged (no JSON object); {way_out}.")
    return data


def read_regular(path: Path, most: int = MOST_JSON) -> bytes:
    """The bytes of a regular file; InputError for a pipe, a device, or one of more than `most`
    bytes. A file that is not there is a FileNotFoundError."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
            raise InputError(f"{path}: damaged (a device or a pipe, no file); move it away.")
        if status.st_size > most:
            raise InputError(
                f"{path}: damaged ({status.st_size:,} bytes where {most:,} are the most); move it"
                " away."
            )
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise InputError(problem(error, path, COPY, writing=False)) from None


@contextmanager
def locked(path: Path, seconds: float, busy: str) -> Iterator[None]:
    """Hold the lock that this file is; InputError with the sentence `busy` where another process
    has it for so long.

    The system frees it however a process ends. The folder must be there: filelock alone would make
    it.
    """
    from filelock import FileLock, Timeout

    with saying(path.parent, COPY, writing=True):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o666))
    lock = FileLock(path, is_singleton=True)
    with saying(path.parent, COPY, writing=True):
        try:
            lock.acquire(timeout=seconds)
        except Timeout:
            raise InputError(busy) from None
    try:
        yield
    finally:
        lock.release()


def is_locked(path: Path) -> bool:
    """Whether a process holds this lock. To look needs no permission to write, and keeps nobody
    from taking or looking."""
    try:
        import fcntl
    except ImportError:  # no Unix: looking is taking it for an instant
        return _is_taken(path)
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:  # there was never one, or whoever holds it lets nobody look
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def _is_taken(path: Path) -> bool:
    from filelock import FileLock, Timeout

    if not path.exists():
        return False
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True


def changed(path: Path) -> float:
    """When a file was changed last, seconds; 0 where there is none (any more)."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
