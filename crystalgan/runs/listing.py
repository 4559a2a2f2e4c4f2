"""The run folders below one folder: those that can be opened, and what is wrong with the others."""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from crystalgan.errors import InputError
from crystalgan.runs.folder import SHIPPED, Run
from crystalgan.storage import appear, changed, hidden_folder, problem


@dataclass(frozen=True)
class BrokenRun:
    """A folder that holds a run's `config.json` and cannot be opened: its name, and why."""

    name: str
    sentence: str


@dataclass(frozen=True)
class RunList:
    """The runs below a folder, the newest first, and the folders that cannot be opened."""

    runs: tuple[Run, ...]
    broken: tuple[BrokenRun, ...]


def find_runs(root: Path | str) -> RunList:
    """The run folders below `root`. One that is damaged keeps no other from being used."""
    good, broken = [], []
    for path in _newest_first(Path(root)):
        try:
            run = Run.open(path.parent)
            run.status()
        except InputError as error:
            if path.exists():  # else it is being deleted just now
                broken.append(BrokenRun(path.parent.name, str(error)))
        else:
            good.append(run)
    return RunList(tuple(good), tuple(broken))


def list_runs(root: Path | str) -> list[Run]:
    """The runs below `root` that can be opened, the newest first."""
    return list(find_runs(root).runs)


def _newest_first(root: Path) -> list[Path]:
    """The files `config.json` of the folders below `root` that are not hidden."""
    found = [path for path in root.glob("*/config.json") if not path.parent.name.startswith(".")]
    times = {path: changed(path) for path in found}  # nothing of a run that is being deleted
    return sorted(filter(times.get, found), key=lambda path: times[path], reverse=True)


def copy_shipped(root: Path | str) -> None:
    """Copy the trained runs that come with CrystalGAN below `root`, those that are not there
    yet."""
    root = Path(root)
    for source in sorted(SHIPPED.glob("*/config.json")):
        target = root / source.parent.name
        if target.exists():
            continue
        try:
            with hidden_folder(root, "set CRYSTALGAN_RUNS") as partial:
                for file in source.parent.iterdir():
                    shutil.copyfile(file, partial / file.name)
                with suppress(FileExistsError):  # another process was quicker
                    appear(partial, target)
        except OSError as error:
            raise InputError(problem(error, root, "set CRYSTALGAN_RUNS", writing=True)) from None
