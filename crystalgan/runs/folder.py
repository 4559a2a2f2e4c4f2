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
`phonons.db`              ASE database of cells at rest with their phonons
`discovery.json`          what a search was asked for and how far it is (`crystalgan.discovery`)
`discovery.safetensors`   the search under way, to go on from
`known/`                  known structures that candidates were compared with
========================  =========================================================================
"""

from __future__ import annotations

import json
import time
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, get_args

from crystalgan import __version__
from crystalgan.config import Config
from crystalgan.errors import InputError
from crystalgan.resources import resource
from crystalgan.runs.status import State, Status
from crystalgan.storage import (
    COPY,
    RESTORE,
    appear,
    changed,
    hidden_folder,
    is_locked,
    locked,
    problem,
    read_json,
    saying,
    write_json,
    write_whole,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pandas as pd
    from torch import Tensor

    from crystalgan.crystal.cells import Cells
    from crystalgan.crystal.rules import Rule
    from crystalgan.runs.filedb import RunDatabase

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
    "phonons.db",
    "discovery.json",
    "discovery.safetensors",
    "worker.log",
)
TRAIN_AGAIN = "train the pair again"
RESUME = "delete this file and resume the run"


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
        name: str = "",
    ) -> Run:
        """A new folder below `root`, named after pair, method (or `name`) and seed, with all that
        training needs, and what `add` puts there.

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
            name = name or config.method
            return cls(numbered(folder, f"{metal_a}-{metal_b}-{shared}_{name}_seed{config.seed}"))

    @classmethod
    def open(cls, folder: Path | str) -> Self:
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
        """`config.json` as it is; InputError where it is none of a run."""
        from crystalgan.runs.schema import RunFile, checked

        path = self.folder / "config.json"
        about = read_json(path)
        checked(RunFile, about, path, RESTORE)
        return about

    @cached_property
    def config(self) -> Config:
        """The settings of the run."""
        try:
            return Config.of(self.about["config"])
        except InputError as error:
            if str(error).startswith(str(self.folder)):
                raise
            said = str(error).rstrip(".")
            raise InputError(
                f"{self.folder / 'config.json'}: damaged ({said}); {RESTORE}."
            ) from None

    @property
    def species(self) -> tuple[str, str, str]:
        """Shared element, metal A, metal B: the slots of step 2."""
        a, b = self.about["pair"]
        return self.about["shared"], a, b

    @property
    def rule(self) -> Rule:
        """The rule that the run was trained towards."""
        from crystalgan.crystal.rules import Rule

        stored = self.about["rule"]
        return Rule(
            stored["name"],
            {pair: (float(ends[0]), float(ends[1])) for pair, ends in stored["limits"].items()},
        )

    def __repr__(self) -> str:
        return f"<Run {self.folder}: {self._in_words()}>"

    def _repr_html_(self) -> str:
        return f"<b>{escape(self.folder.name)}</b>: {escape(self._in_words())}"

    def _in_words(self) -> str:
        """The run on one line: pair, method, seed, state, epochs, number of candidates."""
        try:
            shared, a, b = self.species
            status, count = self.status(), self._database().count()
        except InputError as error:
            return str(error)
        known = status.step and status.epoch is not None
        where = f" at epoch {status.epoch} of step {status.step}" if known else ""
        return (
            f"{a}-{b}-{shared}, {self.config.method}, seed {self.config.seed},"
            f" {status.state}{where}, {count} candidates"
        )

    def candidates(self) -> pd.DataFrame:
        """All candidates, one row each; see `crystalgan.candidates_table`."""
        from crystalgan.runs.table import read_table

        return read_table(self._database(), self.rule_names())

    def rule_names(self) -> list[str]:
        """The names of the rules that every candidate is checked by."""
        return list(dict.fromkeys(("paper", "learned", self.rule.name)))

    def _database(self) -> RunDatabase:
        from crystalgan.runs.filedb import RunDatabase

        path = self.folder / "candidates.db"
        return RunDatabase(path, "move it away and generate the candidates again")

    def classes(self) -> tuple[Cells, Cells]:
        """The cells of both classes, float64, each with the slots (shared, metal)."""
        from crystalgan.crystal.cells import Cells
        from crystalgan.runs.arrays import CLASSES, check_classes

        tensors, _ = self.load(CLASSES)
        arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
        check_classes(arrays, self.folder / CLASSES)
        shared, *metals = self.species
        a, b = (
            Cells(
                tensors[f"{name}.lattice"],
                tensors[f"{name}.frac"],
                tensors[f"{name}.mask"],
                (shared, metal),
            )
            for name, metal in zip("ab", metals, strict=True)
        )
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
        """Tensors and header of a safetensors file, all numbers finite; InputError names one that
        is missing or damaged."""
        from safetensors import SafetensorError, safe_open

        from crystalgan.runs.arrays import check_finite
        from crystalgan.runs.schema import OF_DAMAGE, reason

        path = self.folder / name
        try:
            # what the system says is plainer than what safetensors makes of it
            path.open("rb").close()
            with safe_open(path, "pt") as file:
                header = {key: json.loads(value) for key, value in (file.metadata() or {}).items()}
                # it is no dict
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            check_finite({key: tensor.numpy() for key, tensor in tensors.items()})
        except FileNotFoundError:
            raise InputError(f"{path}: missing; resume the run, or {TRAIN_AGAIN}.") from None
        except OSError as error:
            raise InputError(problem(error, path, COPY, writing=False)) from None
        except (SafetensorError, *OF_DAMAGE) as error:
            raise InputError(
                f"{path}: damaged ({reason(error)}); delete this file and resume the run, or"
                f" {TRAIN_AGAIN}."
            ) from None
        return tensors, header

    def set_status(self, state: str, **more: Any) -> None:
        """Replace `status.json`, keeping what `more` does not name."""
        assert state in get_args(State)
        old = self._stored_status() if (self.folder / "status.json").exists() else {}
        write_json(
            self.folder / "status.json",
            {"message": "", **old, "state": state, "updated": time.time(), **more},
        )

    def _stored_status(self) -> dict[str, Any]:
        """`status.json` as it is; a run without one is as if it had been stopped."""
        from crystalgan.runs.schema import StatusFile, checked

        path = self.folder / "status.json"
        try:
            status = read_json(path, RESUME)
        except InputError:
            if path.exists() or not changed(self.folder / "config.json"):
                raise
            return {
                "state": "stopped",
                "message": "It is not known how far this run is; resume it.",
            }
        checked(StatusFile, status, path, RESUME)
        return status

    def status(self) -> Status:
        """How far the run is; one that says it is running while no process holds its lock was
        killed, and is given as stopped."""
        status = Status.of(self._stored_status())
        while status.is_overdue and not self.is_held():
            # it may have ended since: it says so before it lets go
            before, status = status, Status.of(self._stored_status())
            if status == before:
                said = "The process that trained this run ended before it was done."
                return replace(status, state="stopped", message=said)
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
        from crystalgan.runs.schema import OF_DAMAGE, MetricsLine, reason

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
            lines = [json.loads(line) for line in whole.splitlines()]
            for line in lines:
                MetricsLine.model_validate(line)
        except OF_DAMAGE as error:
            raise InputError(
                f"{path}: damaged ({reason(error)}); delete this file, the networks do not need it."
            ) from None
        return lines, start + len(whole)

    def keep_metrics(self, step: int, epoch: int) -> None:
        """Drop the lines after this epoch, so that a resumed run writes them again and none
        twice."""
        kept = [line for line in self.metrics() if (line["step"], line["epoch"]) <= (step, epoch)]
        path = self.folder / "metrics.jsonl"
        write_whole(path, "".join(json.dumps(line) + "\n" for line in kept), COPY)


def numbered(folder: Path, name: str) -> Path:
    """Give a hidden folder the first name beside it that nothing has: `name` and a number."""
    with saying(folder.parent, "choose another with --runs", writing=True):
        for number in range(1, 100_000):
            target = folder.with_name(f"{name}_{number:03d}")
            with suppress(FileExistsError):
                appear(folder, target)
                return target
    raise InputError(f"{folder.parent}: 100,000 runs named {name}; move some away.")
