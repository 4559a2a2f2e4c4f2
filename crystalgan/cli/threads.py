"""Options that stand before a command: `--version` and `--threads`.

A command computes on one thread unless it is told otherwise. The cells are small: with another
process on the machine, threads wait for each other longer than they compute.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from crystalgan import __version__
from crystalgan.errors import InputError

VARIABLE = "CRYSTALGAN_THREADS"
READ_BY_LIBRARIES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def say_version(asked: bool) -> None:
    """Print the version and end, where it was asked for."""
    if asked:
        print(f"crystalgan {__version__}")
        raise typer.Exit


def options(
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, help="Threads to compute on; else CRYSTALGAN_THREADS, OMP_NUM_THREADS, or 1."
        ),
    ] = None,
    _version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", is_eager=True, callback=say_version),
    ] = False,
) -> None:
    """Options that stand before a command."""
    compute_on(threads_of(threads))


def threads_of(asked: int | None = None) -> int:
    """What `--threads` asked for, else CRYSTALGAN_THREADS, else OMP_NUM_THREADS, else one.

    >>> threads_of(3)
    3
    """
    for name in (VARIABLE, READ_BY_LIBRARIES[0]):
        if asked is None and (said := os.environ.get(name)):
            if not said.isdecimal() or int(said) < 1:
                raise InputError(f"{name}={said}: write a whole number of threads, 1 or more.")
            asked = int(said)
    return asked or 1


def compute_on(count: int) -> None:
    """Have the libraries of this process, and the processes that it starts, take so many
    threads."""
    os.environ |= dict.fromkeys(READ_BY_LIBRARIES, str(count))  # read when they are imported
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(count)
