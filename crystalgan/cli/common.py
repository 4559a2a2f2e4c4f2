"""What every command needs: options that several share, settings from words, the printing of
results, and an early end."""

from __future__ import annotations

import json
import re
import sys
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from crystalgan.errors import InputError, Interrupted
from crystalgan.progress import Progress, progress_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def path_of(text: str) -> Path:
    """A path that the user gave; an empty one would silently mean the folder where one is."""
    if not text:
        raise typer.BadParameter(
            "it is empty; write the name of a file or folder, or a dot for the folder where you are"
        )
    return Path(text)


Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
# registry.CHOICE says the same in an error
Potential = Annotated[
    str,
    typer.Option(
        help="chgnet, sevennet, sevennet-l3i5, sevennet-mf-r2scan, sevennet:FILE for a checkpoint"
        " of your own, or an ASE calculator as package.module.Class, with keyword arguments as"
        " package.module.Class:key=value,key=value."
    ),
]
RunFolder = Annotated[
    Path,
    typer.Argument(
        metavar="RUN",
        parser=path_of,
        help="A run folder, such as runs/Pd-Ni-H_crystalgan_seed0_001.",
    ),
]


# fields of Config
def changes_of(settings: list[str], **named: Any) -> dict[str, Any]:
    """The fields that words such as "width=200" set, and those `named` that are not None."""
    changes: dict[str, Any] = {}
    for text in settings:
        name, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"--set {text}: write it as name=value, for example --set width=200.")
        changes[name.strip()] = value.strip()
    return changes | {name: value for name, value in named.items() if value is not None}


# importing Config here would be slow
def config_of(preset: str, settings: list[str], **named: Any) -> Any:
    """The settings of a preset with what was changed."""
    from crystalgan.config import Config

    changes = changes_of(settings, **named)
    if preset not in ("default", "paper"):
        raise InputError(f"--preset {preset} is not one of default, paper.")
    return Config.paper(**changes) if preset == "paper" else Config.of(changes)


def warn(words: str, data: dict[str, Any] | None = None) -> None:
    """Print a warning, where there is one, on stderr, and add it to what --json prints."""
    if words:
        print(f"warning: {words}", file=sys.stderr, flush=True)
        if data is not None:
            data["warnings"] = [*data.get("warnings", []), words]


def show(data: dict[str, Any], lines: list[str], as_json: bool) -> None:
    """Print a result on stdout, as one JSON object or in lines."""
    print(json.dumps(data) if as_json else "\n".join(lines))


def say_left_out(what: str) -> None:
    """Say on stderr what of a user's files was left out."""
    print(f"left out: {what}", file=sys.stderr)


@contextmanager
def naming_options(**options: str) -> Iterator[None]:
    """Have errors from the core name options where they name arguments, in backquotes.

    `raise_symmetry` becomes --raise-symmetry; `options` are those of another name than their
    argument.

    >>> with naming_options(select_by="--select"):
    ...     raise InputError("`select_by` is empty; so is `raise_symmetry`.")
    Traceback (most recent call last):
    crystalgan.errors.InputError: --select is empty; so is --raise-symmetry.
    """
    try:
        yield
    except InputError as error:

        def option(found: re.Match[str]) -> str:
            return options.get(found[1], f"--{found[1].replace('_', '-')}")

        raise InputError(re.sub(r"`([a-z_]+)`", option, str(error))) from None


def renamed(old: str, new: str) -> None:
    """Say on stderr that an option or a command has another name now."""
    print(f"{old} is called {new} now; the old name will go.", file=sys.stderr, flush=True)


@contextmanager
def keeping(words: Callable[[], str]) -> Iterator[None]:
    """Say what is kept, and how to go on, where the work in here is stopped by the user."""
    try:
        yield
    except (Interrupted, SystemError) as error:
        if not Interrupted.is_behind(error):
            raise
        raise Interrupted(words()) from None


class Bar:
    """Progress of a command: a bar on stderr, or the file that another process reads.

    With a `total` it says at once that nothing is done; without one it says nothing before the
    first step.
    """

    def __init__(self, what: str, total: int | None = None, unit: str = "") -> None:
        from tqdm import tqdm

        self._what, self._file = what, progress_file()
        self._bar: Any = tqdm(
            total=total,
            desc=what,
            unit=unit,
            file=sys.stderr,
            delay=0 if total else 0.001,
            disable=self._file is not None,
        )
        self.done, self.total = 0, total
        if total is not None:
            self.to(0)

    def to(self, done: int, total: int | None = None, words: str = "") -> None:
        """So much is done, of a `total` that may be known only now; with a word about the last."""
        self._bar.update(done - self.done)
        self.done, self.total = done, self.total if total is None else total
        self._bar.total = self.total
        if words:
            self._bar.set_postfix_str(words[:60])
        if self._file:
            self._file.tell(Progress(self.done, self.total, self._what))

    def step(self, words: str = "") -> None:
        """One more is done."""
        self.to(self.done + 1, words=words)

    def close(self) -> None:
        """The end, whether all is done or not."""
        self._bar.close()
        if self._file:
            self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def bar(
    what: str, total: int | None = None, unit: str = "", kept: Callable[[], str] | None = None
) -> Iterator[Bar]:
    """A progress bar around work of the core.

    Errors within name options instead of arguments; work that is stopped by the user says what is
    `kept`, where that is given.
    """
    with (
        naming_options(root="--runs", processes="--jobs"),
        keeping(kept) if kept else nullcontext(),
        Bar(what, total, unit) as shown,
    ):
        yield shown
