"""The command line. `--json` prints one JSON object on stdout; progress goes to stderr.

Exit codes: 0 done; 2 the input cannot be used, or the system refuses a file; 1 a training that
could not go on; 130 stopped by the user. Each but the first comes with one sentence on stderr.
"""

from __future__ import annotations

import codecs
import io
import os
import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

from crystalgan.errors import InputError, Interrupted

if TYPE_CHECKING:
    from collections.abc import Iterator

SPELLED = {
    "Å": "A",
    "²": "2",
    "³": "3",
    "±": "+-",
    "µ": "u",
    "·": "*",
    "°": " deg",
    "→": "->",
    "–": "-",
    "…": "...",
}
NOTHING = "nothing was written."


def main() -> None:
    """Run a command; what the user can mend is one sentence and exit code 2, never a traceback."""
    try:
        with _interruptible():
            _speak_any_encoding()
            _run()
    except Interrupted as asked:
        _end(f"stopped; {asked}", 130)
    except SystemError as error:
        if not Interrupted.is_behind(error):
            raise
        _end(f"stopped; {NOTHING}", 130)
    except BrokenPipeError:  # the reader has seen enough, as `head` has
        _silence()
        sys.exit(1)
    except OSError as error:
        from crystalgan.storage import problem

        _silence()
        _end(problem(error), 2)
    except MemoryError:
        _end("There is too little memory for this; ask for less at once.", 2)


def _run() -> None:
    from crystalgan.errors import TrainingError

    try:
        _carry_out()
    except InputError as error:
        _end(str(error), 2)
    except TrainingError as error:
        _end(str(error), 1)
    finally:  # what is wrong with stdout is to be said here, not by the interpreter on its way out
        if sys.stdout:
            sys.stdout.flush()


def _carry_out() -> None:
    """The command that the arguments name; what is wrong with them is an InputError too, as it is
    anywhere else."""
    from typer import BadParameter

    usage: Any  # errors of Typer's own copy of Click, which have no public name
    words: Any
    usage, words = BadParameter.__mro__[1:3]
    try:
        code = _app()(standalone_mode=False)
    except words as found:
        error: Any = found
        if len(sys.argv) < 2:
            error.show()  # the help
            sys.exit(2)
        place = (
            f" `{error.ctx.command_path} --help` says more."
            if isinstance(error, usage) and error.ctx
            else ""
        )
        raise InputError(
            f"{' '.join(error.format_message().split()).rstrip('.')}.{place}"
        ) from None
    if code:
        sys.exit(code)


def _app() -> Any:
    """All commands. Imported here, so that an early Ctrl-C is a sentence too."""
    import typer

    from crystalgan.cli import app as shell_app
    from crystalgan.cli import data as shell_data
    from crystalgan.cli import discovery as shell_discovery
    from crystalgan.cli import runs as shell_runs
    from crystalgan.cli import stability as shell_stability
    from crystalgan.cli import studies as shell_study
    from crystalgan.cli import threads as shell_threads

    app = typer.Typer(
        name="crystalgan",
        help=(
            "Which ternary hydrides could two metals make? Learn from the cells of two binary"
            " hydrides, make ternary ones."
        ),
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )

    app.callback()(shell_threads.options)
    for part in (
        shell_app,
        shell_data,
        shell_runs,
        shell_discovery,
        shell_stability,
        shell_study,
    ):
        app.add_typer(part.app)
    return app


def _end(sentence: str, code: int) -> NoReturn:
    try:
        print(f"crystalgan: {sentence}", file=sys.stderr, flush=True)
    except OSError:  # nobody listens, or the disk that holds the log is full
        _silence()
    sys.exit(code)


def _silence() -> None:
    """Let what is left in the streams go nowhere, so that the interpreter does not complain on its
    way out."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C and SIGTERM raise `Interrupted` wherever the command is, which Typer does not
    swallow."""

    def stop(*_: object) -> NoReturn:
        raise Interrupted(NOTHING)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {name: signal.signal(name, stop) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


def _speak_any_encoding() -> None:
    """Have stdout and stderr spell what their encoding cannot write: Å as A, anything else as a
    question mark."""

    def spelled(error: UnicodeError) -> tuple[str, int]:
        if not isinstance(error, UnicodeEncodeError):
            raise error
        return (
            "".join(SPELLED.get(c, "?") for c in error.object[error.start : error.end]),
            error.end,
        )

    codecs.register_error("spelled", spelled)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="spelled")


if __name__ == "__main__":
    main()
