"""The command line. `--json` prints one JSON object on stdout; progress goes to stderr.

Exit codes: 0 done, 2 the input cannot be used (one sentence on stderr), 1 a training that could not go on.
"""

from __future__ import annotations

import sys

import typer

from crystalgan import InputError, shell_data, shell_runs, shell_stability, shell_study

app = typer.Typer(
    name="crystalgan",
    help="Which ternary hydrides could two metals make? Learn from the cells of two binary hydrides, make ternary ones.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(shell_data.app)
app.add_typer(shell_runs.app)
app.add_typer(shell_stability.app)
app.add_typer(shell_study.app)


def main() -> None:
    """Run a command; what the user can mend is one sentence and exit code 2, never a traceback."""
    from crystalgan.runs import Stopped, TrainingError

    try:
        app()
    except InputError as error:
        print(f"crystalgan: {error}", file=sys.stderr)
        sys.exit(2)
    except TrainingError as error:
        print(f"crystalgan: {error}", file=sys.stderr)
        sys.exit(1)
    except Stopped:
        print("crystalgan: stopped; `crystalgan resume` goes on from here.", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
