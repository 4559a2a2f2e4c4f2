"""Work that outlives a page: a run's training and the making of its candidates, each in a process
of its own."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryDirectory, TemporaryFile
from typing import TYPE_CHECKING, Any

import streamlit as st

from crystalgan.errors import InputError
from crystalgan.progress import VARIABLE, Progress, read_progress
from crystalgan.runs.process import stop as ask_to_stop
from crystalgan.runs.run_zip import known_folder
from crystalgan.storage import appear, hidden_folder, is_locked, saying, write_whole
from crystalgan.storage import problem as refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from crystalgan.runs.folder import Run

LOG, RELAX_LOG = "generate.log", "relax.log"  # what the two kinds of work on candidates say
DISCOVER_LOG = "discover.log"
PROGRESS = "progress.json"
STOPPED = (-signal.SIGTERM, 130)  # before a command could say so itself, and afterwards
COMMAND = [sys.executable, "-m", "crystalgan"]
FOLDERS = re.compile(r"(?<![\w/:.~])~?/(?:[^\s/'\"`<>:]+/)+(?=[^\s/])")  # that lead to a file
OWN_FOLDERS = re.compile(r"(?:runs/)?\.(?:uploads|rules)/\w+/?")
ANNOUNCED = "run folder: "  # before the name of the folder that a training has made


def _environment(progress: Path | None = None) -> dict[str, str]:
    """One thread a process: the matrices are small, and several processes may be at work.

    A command writes into `progress` how far it is.
    """
    more = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    return os.environ | more | ({VARIABLE: str(progress)} if progress else {})


@contextmanager
def saying_errors() -> Iterator[None]:
    """Show what the user can mend as one sentence; for a `with` or before a function."""
    try:
        yield
    except InputError as error:
        st.error(in_app(error))


def in_app(words: object) -> str:
    """A message without the folders of the server that it names: what lies below the runs folder
    keeps its place there."""
    text = str(words)
    root = Path(os.environ.get("CRYSTALGAN_RUNS") or "runs")
    for folder in {str(root.resolve()), str(root.absolute())}:
        text = text.replace(f"{folder}/", "")
    return FOLDERS.sub("", OWN_FOLDERS.sub("", text))


def in_words(seconds: float) -> str:
    """A duration as a chemist says it: 40 s, 3 min, 2 h 10 min."""
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


@st.cache_resource
def _processes() -> dict[str, subprocess.Popen[bytes]]:
    """The processes that work on candidates, by their log in the run folder: one for all pages and
    visitors."""
    return {}


def start_training(arguments: Sequence[str], root: Path) -> Path:
    """Run `crystalgan train` or `step2` in a process of its own; returns the run folder as soon as
    it is there."""
    return _start_new(arguments, root, "worker.log")[0]


def start_discovery(arguments: Sequence[str], root: Path) -> Path:
    """Run `crystalgan discover` in a process of its own; returns the run folder as soon as it is
    there. One that has a search of these wishes already is gone on with."""
    folder, process = _start_new(["discover", *arguments, "--json"], root, DISCOVER_LOG)
    _processes()[str(folder / DISCOVER_LOG)] = process
    return folder


def go_on_discovering(run: Run, minutes: float, jobs: int = 1) -> None:
    """Go on with the search of a run until so many CPU minutes are spent, those before included."""
    words = ["--minutes", str(minutes), "--jobs", str(jobs)]
    _start(run, ["discover", str(run.folder), *words], DISCOVER_LOG)


def _start_new(
    arguments: Sequence[str], root: Path, log_name: str
) -> tuple[Path, subprocess.Popen[bytes]]:
    """Run a command that names the run folder which it works in; returns that folder, which then
    holds what the command says, and the process."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        log = root / f".{uuid.uuid4().hex}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(  # noqa: S603 - our own module
                [*COMMAND, *arguments, "--runs", str(root)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=out,
                start_new_session=True,
                env=_environment(),
            )
    except OSError as error:
        raise InputError(refused(error, root, "set CRYSTALGAN_RUNS", writing=True)) from None
    while True:
        ended = process.poll() is not None
        if folder := _announced(log.read_text(errors="replace")):
            log.rename(folder / log_name)
            return folder, process
        if ended:
            said = log.read_text(errors="replace")
            log.unlink()
            raise InputError(
                _last_sentence(said)
                or f"crystalgan {arguments[0]} did not start (exit code {process.returncode})."
            )
        time.sleep(0.1)


def _announced(log: str) -> Path | None:
    """The folder that a training names once it is there, in a line that is complete."""
    lines = [line for line in log.splitlines(keepends=True) if line.startswith(ANNOUNCED)]
    if not lines or not lines[0].endswith("\n"):
        return None
    return Path(lines[0].removeprefix(ANNOUNCED).rstrip("\n"))


def _last_sentence(log: str) -> str:
    said = [line for line in log.splitlines() if line.strip()]
    return said[-1].removeprefix("crystalgan: ") if said else ""


def last_lines(run: Run, count: int = 8) -> str:
    """The end of what a run's training said, without its progress bars."""
    lines = _text(run.folder / "worker.log").splitlines()
    return in_app("\n".join([line for line in lines if line.strip() and "%|" not in line][-count:]))


@st.cache_data(show_spinner="The data doctor looks at the cells ...", max_entries=100)
def doctor(path: str, metal: str | None, shared: str) -> dict[str, Any]:
    """The report of `crystalgan check` (`doctor.examine`), made in a process of its own: it needs
    tensors, the app does not."""
    return carried_out(
        ["check", path, "--shared", shared, "--json", *(["--metal", metal] if metal else [])]
    )


def carried_out(
    arguments: Sequence[str],
    show: Callable[[int, int | None], None] | None = None,
    environment: dict[str, str] | None = None,
) -> dict[str, Any]:
    """What a command with `--json` says, run in a process of its own that ends when the page is
    left.

    `show(done, total)` hears of its progress. Raises InputError with the sentence that it ended
    with.
    """
    with TemporaryFile() as out, NamedTemporaryFile() as log, TemporaryDirectory() as folder:
        progress = Path(folder) / PROGRESS
        process = subprocess.Popen(  # noqa: S603 - our own module
            [*COMMAND, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=log,
            env=_environment(progress) | (environment or {}),
        )
        try:
            while process.poll() is None:
                if show and (found := read_progress(progress)):
                    show(found.done, found.of)
                time.sleep(0.1)
        finally:  # the page was left
            process.kill()
            process.wait()
        out.seek(0)
        try:
            answer: dict[str, Any] = json.loads(out.read())
        except ValueError:
            said = _last_sentence(_text(Path(log.name)))
            raise InputError(
                said or f"crystalgan {arguments[0]} gave up (exit code {process.returncode})."
            ) from None
    return answer


def keep_upload(files: Sequence[Any], root: Path) -> Path:
    """Where `keep` puts uploaded files."""
    return keep([(file.name, file.getvalue()) for file in files], root)


def keep(files: Sequence[tuple[str, bytes]], root: Path) -> Path:
    """The folder of these files below `root`, named by their contents, or the file if it is one."""
    digest = hashlib.sha256()
    for name, data in files:
        digest.update(name.encode() + b"\0" + data)
    folder = root / ".uploads" / digest.hexdigest()[:16]
    # it appears complete: another session with the same files reads it meanwhile
    if not folder.exists():
        with _kept_in(folder), hidden_folder(folder.parent, "set CRYSTALGAN_RUNS") as partial:
            _write(files, partial)
            with suppress(OSError):  # another session was quicker
                appear(partial, folder)
    return folder if len(files) > 1 else next(folder.iterdir())


def write_files(files: Sequence[tuple[str, bytes]], folder: Path) -> None:
    """Put files into a folder; their names are reduced to the last part. The folder above it must
    be there already."""
    with _kept_in(folder):
        folder.mkdir(exist_ok=True)
    _write(files, folder)


def _write(files: Sequence[tuple[str, bytes]], folder: Path) -> None:
    for name, data in files:
        keep_file(name, data, folder)


def _kept_in(folder: Path) -> AbstractContextManager[None]:
    return saying(folder, "set CRYSTALGAN_RUNS", writing=True)


def keep_file(name: str, data: bytes, folder: Path) -> Path:
    """Write one file into a folder, by the last part of its name."""
    path = folder / (Path(name.replace("\\", "/")).name.lstrip(".") or "file")
    write_whole(path, data, "set CRYSTALGAN_RUNS")
    return path


def known_option(run: Run) -> list[str]:
    """The known structures that a run was given, for a command."""
    known = known_folder(run)
    paths = [known] if known.exists() else []
    zips = sorted(path for path in known.glob("*") if path.suffix.lower() == ".zip")
    if zips:  # which a folder does not open: each file is given by itself
        paths = sorted(
            path for path in known.iterdir() if path.is_file() and not path.name.startswith(".")
        )
    return [word for path in paths for word in ("--known", str(path))]


def _start(run: Run, arguments: Sequence[str], log: str = LOG) -> None:
    """Let one process at a time make a run's candidates, and one relax them."""
    if _is_at_work(run, log):
        return
    run.check_it_is_there()
    with saying(run.folder, "work on a copy of the run folder", writing=True):
        progress_of(run, log).unlink(missing_ok=True)  # that of the last work
        with (run.folder / log).open("wb") as out:
            _processes()[str(run.folder / log)] = subprocess.Popen(  # noqa: S603 - our own module
                [*COMMAND, *arguments, "--json"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=out,
                start_new_session=True,
                env=_environment(progress_of(run, log)),
            )


def progress_of(run: Run, log: str = LOG) -> Path:
    """The file in which work on candidates says how far it is."""
    return run.folder / f"{Path(log).stem}.{PROGRESS}"


def start_generate(run: Run, number: int) -> None:
    """Make candidates until the run holds this many, unless a process is at it already."""
    _start(run, ["generate", str(run.folder), "-n", str(number), *known_option(run)])


def start_comparing(run: Run) -> None:
    """Compare a run's candidates with what is known, unless a process is at work already."""
    _start(run, ["novelty", str(run.folder), *known_option(run)])


def start_relaxing(run: Run, ids: Sequence[int], options: Sequence[str]) -> None:
    """Relax these candidates, unless a process is at it already; `options` are those of `crystalgan
    relax`."""
    _start(
        run, ["relax", str(run.folder), "--select", ",".join(map(str, ids)), *options], RELAX_LOG
    )


def start_phonons(run: Run, number: int, potential: str) -> None:
    """Compute the phonons of a candidate, unless a process relaxes candidates; it is shown and
    stopped as that is."""
    words = ["--select", str(number), "--potential", potential]
    _start(run, ["phonons", str(run.folder), *words], RELAX_LOG)


def stop_discovering(run: Run) -> None:
    """End the search of a run: at once where this app started it, else after its round."""
    if is_discovering(run):
        _processes()[str(run.folder / DISCOVER_LOG)].terminate()
    else:
        ask_to_stop(run)


def is_asked_to_stop(run: Run) -> bool:
    """Whether the search of a run ends after its round."""
    return (run.folder / "stop").exists()


def is_discovering(run: Run) -> bool:
    """Whether a process that this app started searches in the run now."""
    return _is_at_work(run, DISCOVER_LOG)


def is_held(run: Run) -> bool:
    """Whether any process makes candidates of the run and relaxes them now, as a search does."""
    return is_discovering(run) or all(
        is_locked(run.folder / f".{name}.lock") for name in ("generate", "relax")
    )


def stop_relaxing(run: Run) -> None:
    """End the process that relaxes; what is done is kept, and the rest is taken up when it is asked
    for again."""
    _processes()[str(run.folder / RELAX_LOG)].terminate()


def is_relaxing(run: Run) -> bool:
    """Whether a process that this app started is relaxing candidates of the run now."""
    return _is_at_work(run, RELAX_LOG)


def is_comparing(run: Run) -> bool:
    """Whether the process at work compares."""
    process = _processes().get(str(run.folder / LOG))
    return process is not None and "novelty" in process.args and is_generating(run)  # type: ignore[operator]


def is_generating(run: Run) -> bool:
    """Whether a process that this app started is making candidates of the run now."""
    return _is_at_work(run, LOG)


def _is_at_work(run: Run, log: str) -> bool:
    process = _processes().get(str(run.folder / log))
    return process is not None and process.poll() is None


def counted(run: Run, log: str = LOG) -> Progress:
    """Candidates that are done, and of how many; none of none before the work has said so."""
    return read_progress(progress_of(run, log)) or Progress(0, None)


def problem(run: Run, log: str = LOG) -> str | None:
    """The sentence that the last work on candidates ended with, if it failed; being stopped is no
    failure."""
    process = _processes().get(str(run.folder / log))
    if process is None or not process.poll() or process.returncode in STOPPED:
        return None
    said = in_app(_last_sentence(_text(run.folder / log)))
    return said or f"The work on candidates ended with exit code {process.returncode}."


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").replace("\r", "\n")
    except OSError:  # not yet, or no longer there
        return ""
