"""The run folder: what a training is made from, how far it is, and what came out.

========================  =========================================================================
`config.json`             pair, settings, the rule's limits, the classes' sources and checksums
`classes.safetensors`     the canonical cells of both classes
`metrics.jsonl`           one line an epoch: every loss term by name, the share of valid cells
`status.json`             state, step, epoch, seconds, message; replaced atomically
`step1/2.safetensors`     the networks at the end of each step
`energy.safetensors`      the pair potential of the system
`checkpoint.safetensors`  networks, Adam's moments and random state of the step under way, in one
`candidates.db`           ASE database of candidates (`crystalgan.runs.candidates`)
`relaxed.db`              ASE database of relaxed candidates and of competing phases
`known/`                  known structures that candidates were compared with
========================  =========================================================================
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from crystalgan import __version__
from crystalgan.config import Config
from crystalgan.errors import InputError
from crystalgan.resources import resource
from crystalgan.storage import COPY, changed, is_locked, locked, problem, saying, write_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from crystalgan.crystal.cells import Cells
    from crystalgan.crystal.rules import Rule

SHIPPED = resource("assets/runs")
FILES = (
    "config.json",
    "classes.safetensors",
    "energy.safetensors",
    "metrics.jsonl",
    "status.json",
    "step1.safetensors",
    "step2.safetensors",
    "checkpoint.safetensors",
    "candidates.db",
    "relaxed.db",
    "worker.log",
)
START_SECONDS = 60  # that a new process may take to import what it needs
STATES = ("created", "starting", "running", "stopped", "failed", "finished")


@dataclass(frozen=True)
class Run:
    """A run folder. Opening one reads `config.json` only; everything else is read when it is asked
    for."""

    folder: Path

    @classmethod
    def create(
        cls,
        root: Path,
        config: Config,
        a: Cells,
        b: Cells,
        rule: Rule,
        sources: dict[str, Any],
        add: Callable[[Run], None] | None = None,
    ) -> Run:
        """A new folder below `root`, named after pair, method and seed, with all that training
        needs, and what `add` puts there.

        It is seen by others when all of that is in it.
        """
        import torch

        shared, metal_a, metal_b = a.species[0], a.species[1], b.species[1]
        tensors = {
            f"{name}.{key}": getattr(cells, key)
            for name, cells in (("a", a), ("b", b))
            for key in ("lattice", "frac", "mask")
        }
        about = {
            "pair": [metal_a, metal_b],
            "shared": shared,
            "config": asdict(config),
            "rule": {"name": rule.name, "limits": rule.limits},
            "classes": sources,
            "versions": {"crystalgan": __version__, "torch": torch.__version__},
            "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }
        with hidden_folder(root) as folder:
            run = cls(folder)
            run.save("classes.safetensors", tensors)
            write_json(run.folder / "config.json", about)
            run.set_status("created")
            if add:
                add(run)
            return cls(
                shown(folder, f"{metal_a}-{metal_b}-{shared}_{config.method}_seed{config.seed}")
            )

    @classmethod
    def open(cls, folder: Path | str) -> Run:
        """An existing run; InputError when it is none or its `config.json` is damaged."""
        run = cls(Path(folder))
        with saying(folder):
            if run.folder.is_file():
                raise InputError(f"{folder}: is a file, not a run folder.")
            if not run.folder.is_dir():
                raise InputError(f"{folder}: there is no such run folder.")
        _ = run.config, run.rule
        return run

    @cached_property
    def about(self) -> dict[str, Any]:
        """`config.json` as it is."""
        return read_json(self.folder / "config.json")

    @cached_property
    def config(self) -> Config:
        """The settings of the run."""
        return Config.of(self._field("config"))

    @property
    def species(self) -> tuple[str, str, str]:
        """Shared element, metal A, metal B: the slots of step 2."""
        a, b = self._field("pair")
        return str(self._field("shared")), str(a), str(b)

    @property
    def rule(self) -> Rule:
        """The rule that the run was trained towards."""
        from crystalgan.crystal.rules import Rule

        stored = self._field("rule")
        return Rule(
            stored["name"],
            {pair: (float(ends[0]), float(ends[1])) for pair, ends in stored["limits"].items()},
        )

    def _field(self, name: str) -> Any:
        try:
            return self.about[name]
        except (KeyError, TypeError):
            raise InputError(
                f"{self.folder / 'config.json'}: damaged, {name!r} is missing; train the pair"
                " again."
            ) from None

    def classes(self) -> tuple[Cells, Cells]:
        """The cells of both classes, float64, each with the slots (shared, metal)."""
        from crystalgan.crystal.cells import Cells

        tensors, _ = self.load("classes.safetensors")
        shared, *metals = self.species
        try:
            a, b = (
                Cells(
                    tensors[f"{name}.lattice"],
                    tensors[f"{name}.frac"],
                    tensors[f"{name}.mask"],
                    (shared, metal),
                )
                for name, metal in zip("ab", metals, strict=True)
            )
        except (KeyError, ValueError) as error:
            raise InputError(
                f"{self.folder / 'classes.safetensors'}: damaged ({error}); train the pair again."
            ) from None
        return a, b

    def save(
        self, name: str, tensors: dict[str, Tensor], about: dict[str, Any] | None = None
    ) -> None:
        """Write a safetensors file whole or not at all; `about` travels in its header."""
        from safetensors.torch import save

        header = {key: json.dumps(value) for key, value in (about or {}).items()}
        data = save(
            {key: tensor.contiguous() for key, tensor in tensors.items()}, header
        )  # its `save_file` lets nobody else read
        write_whole(self.folder / name, data, COPY)

    def load(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and header of a safetensors file; InputError names one that is missing or
        damaged."""
        from safetensors import SafetensorError, safe_open

        path = self.folder / name
        try:
            # what the system says is plainer than what safetensors makes of it
            path.open("rb").close()
            with safe_open(path, "pt") as file:
                header = {key: json.loads(value) for key, value in (file.metadata() or {}).items()}
                # it is no dict
                return {key: file.get_tensor(key) for key in file.keys()}, header  # noqa: SIM118
        except FileNotFoundError:
            raise InputError(f"{path}: missing; resume the run, or train the pair again.") from None
        except OSError as error:
            raise InputError(problem(error, path, COPY, writing=False)) from None
        except (SafetensorError, ValueError) as error:
            raise InputError(
                f"{path}: damaged ({error}); delete this file and resume the run, or train the pair"
                " again."
            ) from None

    def set_status(self, state: str, **more: Any) -> None:
        """Replace `status.json`, keeping what `more` does not name."""
        assert state in STATES
        old = self.status() if (self.folder / "status.json").exists() else {}
        write_json(
            self.folder / "status.json",
            {"message": "", **old, "state": state, "updated": time.time(), **more},
        )

    def status(self) -> dict[str, Any]:
        """`status.json`; a run that says it is running while no process holds its lock was killed,
        and is given as stopped."""
        status = read_json(self.folder / "status.json")
        while _is_at_work(status) and not self.is_held():
            before, status = (
                status,
                read_json(self.folder / "status.json"),
            )  # it may have ended since: it says so before it lets go
            if status == before:
                return status | {
                    "state": "stopped",
                    "message": "The process that trained this run ended before it was done.",
                }
        return status

    def is_held(self) -> bool:
        """Whether a process is training this run now."""
        return is_locked(self.folder / ".train.lock")

    @contextmanager
    def hold(self, work: str) -> Iterator[None]:
        """Do `work` ("train", "generate") alone: InputError while another process does it, or where
        the run was deleted.

        The system frees the lock however a process ends; a second of patience, because `is_held`
        takes it for an instant.
        """
        self.check_it_is_there()
        busy = f"{self.folder}: another process is at work here ({work}); wait for it or stop it."
        with locked(self.folder / f".{work}.lock", 1, busy):
            yield

    def check_it_is_there(self) -> None:
        """InputError where the run was deleted: what is written into it then would be a folder
        without a run."""
        if not changed(self.folder / "config.json"):
            raise InputError(f"{self.folder}: this run is no longer here; it was deleted or moved.")

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of `metrics.jsonl`; a last line that is only half written is left out."""
        return self.metrics_from(0)[0]

    def metrics_from(self, start: int) -> tuple[list[dict[str, Any]], int]:
        """The whole lines of `metrics.jsonl` from byte `start` on, and the byte where they end."""
        path = self.folder / "metrics.jsonl"
        try:
            with path.open("rb") as file:
                file.seek(start)
                text = file.read()
        except FileNotFoundError:
            return [], 0
        except OSError as error:
            raise InputError(problem(error, path, COPY, writing=False)) from None
        whole = text[: text.rfind(b"\n") + 1]
        try:
            return [json.loads(line) for line in whole.splitlines()], start + len(whole)
        except ValueError as error:
            raise InputError(
                f"{path}: damaged ({error}); delete this file, the networks do not need it."
            ) from None

    def keep_metrics(self, step: int, epoch: int) -> None:
        """Drop the lines after this epoch, so that a resumed run writes them again and none
        twice."""
        kept = [line for line in self.metrics() if (line["step"], line["epoch"]) <= (step, epoch)]
        path = self.folder / "metrics.jsonl"
        write_whole(path, "".join(json.dumps(line) + "\n" for line in kept), COPY)


def list_runs(root: Path | str) -> list[Run]:
    """The run folders below `root`, the newest first."""
    found = [
        path for path in Path(root).glob("*/config.json") if not path.parent.name.startswith(".")
    ]
    times = {path: changed(path) for path in found}  # nothing of a run that is being deleted
    return [
        Run(path.parent)
        for path in sorted(filter(times.get, found), key=lambda path: times[path], reverse=True)
    ]


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
                    _rename(partial, target)
        except OSError as error:
            raise InputError(problem(error, root, "set CRYSTALGAN_RUNS", writing=True)) from None


def start(run: Run) -> None:
    """Train or resume in a process of its own, which outlives this one; its output goes to
    `worker.log`."""
    run.set_status("starting", message="")
    with saying(run.folder, COPY, writing=True), (run.folder / "worker.log").open("ab") as log:
        subprocess.Popen(  # noqa: S603 - our own interpreter and a path
            [sys.executable, "-m", "crystalgan", "resume", str(run.folder)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            # small matrices: more only wait
            env=os.environ | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")},
        )


def stop(run: Run) -> None:
    """Ask the training process to write a checkpoint and end; it looks once an epoch."""
    with saying(run.folder, COPY, writing=True):
        (run.folder / "stop").touch()


@contextmanager
def hidden_folder(root: Path, way_out: str = "choose another with --runs") -> Iterator[Path]:
    """A new folder below `root` that nobody takes for a run, to be `shown` when it is complete; it
    goes where that fails."""
    folder = root / f".{uuid4().hex}"
    with saying(root, way_out, writing=True):
        root.mkdir(parents=True, exist_ok=True)
        folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def shown(folder: Path, name: str) -> Path:
    """A hidden folder under the first name beside it that was not there before: `name` and a
    number."""
    with saying(folder.parent, "choose another with --runs", writing=True):
        for number in range(1, 100_000):
            target = folder.with_name(f"{name}_{number:03d}")
            with suppress(FileExistsError):
                _rename(folder, target)
                return target
    raise InputError(f"{folder.parent}: 100,000 runs named {name}; move some away.")


def _rename(folder: Path, target: Path) -> None:
    """Rename a folder; FileExistsError where there is something of that name."""
    if os.path.lexists(target):
        raise FileExistsError(target)
    try:
        folder.rename(target)
    except OSError as error:
        if os.path.lexists(target):  # since
            raise FileExistsError(target) from error
        raise


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Replace a JSON file whole."""
    write_whole(path, json.dumps(data, indent=1) + "\n", COPY)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; InputError names a file that is missing, may not be read, or is damaged."""
    try:
        data = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{path}: missing; this is not a run folder, or it is damaged.") from None
    except OSError as error:
        raise InputError(problem(error, path, COPY, writing=False)) from None
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: damaged ({error}); restore it, or train the pair again."
        ) from None
    if not isinstance(data, dict):
        raise InputError(f"{path}: damaged (no JSON object); restore it, or train the pair again.")
    return data


def _is_at_work(status: dict[str, Any]) -> bool:
    """Whether a status says that a process trains, or has been so for longer than a process takes
    to start."""
    if status.get("state") == "starting":
        return time.time() - status.get("updated", 0) >= START_SECONDS
    return status.get("state") == "running"
