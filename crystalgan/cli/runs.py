"""Commands over run folders: train, resume, generate, compare, export. Each is a few lines over the
core."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from crystalgan.cli.common import (
    Bar,
    Json,
    RunFolder,
    bar,
    config_of,
    keeping,
    naming_options,
    path_of,
    show,
    warn,
)
from crystalgan.errors import Interrupted

app = typer.Typer()

AS_THEY_WERE = "the candidates are as they were; give the same command again."

KnownFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--known",
        metavar="PATH",
        parser=path_of,
        help="Known structures beside the built-in ones: a file, folder or zip; may be repeated.",
    ),
]

WithoutKnown = Annotated[
    bool,
    typer.Option(
        "--without-known",
        help="Leave the built-in known ternaries of the two metals out of novelty and hull.",
    ),
]


@app.command()
def train(
    a: Annotated[str, typer.Argument(metavar="A", help="The first metal, such as Pd.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The second metal, such as Ni.")],
    a_path: Annotated[
        Path | None,
        typer.Option(
            "--a",
            metavar="PATH",
            parser=path_of,
            help="Your own cells of A-H: a folder, zip or file.",
        ),
    ] = None,
    b_path: Annotated[
        Path | None,
        typer.Option("--b", metavar="PATH", parser=path_of, help="Your own cells of B-H."),
    ] = None,
    preset: Annotated[
        str, typer.Option(help="default, or paper: the paper's settings to the letter.")
    ] = "default",
    method: Annotated[
        str | None, typer.Option(help="crystalgan, unconstrained, discogan or gan.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of each step.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of every random number.")] = None,
    rule: Annotated[
        str | None, typer.Option(help="paper, learned, or a TOML table of limits for each pair.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any other setting.")
    ] = None,
    without_known: WithoutKnown = False,
    runs: Annotated[
        Path, typer.Option(metavar="FOLDER", parser=path_of, help="Where the run folder is made.")
    ] = Path("runs"),
    skip_bad: Annotated[
        bool,
        typer.Option("--skip-bad", help="Leave out files that cannot be used instead of stopping."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Train both steps on two classes; prints the run folder."""
    from crystalgan.data.classes import load_class
    from crystalgan.runs.training import new_run

    started = time.monotonic()
    config = config_of(
        preset,
        settings or [],
        method=method,
        epochs1=epochs,
        epochs2=epochs,
        seed=seed,
        rule=rule,
        known_ternaries=False if without_known else None,
    )
    both = [
        load_class(str(path or metal), metal, config.shared, skip_bad)
        for metal, path in ((a, a_path), (b, b_path))
    ]
    for c in both:
        for x in c.left_out:
            print(f"left out: {x}", file=sys.stderr)
        for entry in c.entries:
            for remark in entry.remarks:
                print(f"note: {entry.where}: {remark}", file=sys.stderr)
    run = new_run(both[0], both[1], config, runs)
    _announce(run)
    _train_with_bar(run)
    _print_trained(run, time.monotonic() - started, as_json)


@app.command()
def step2(
    run_folder: RunFolder,
    preset: Annotated[
        str, typer.Option(help="default, or paper: the paper's settings to the letter.")
    ] = "default",
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any setting of step 2.")
    ] = None,
    runs: Annotated[
        Path,
        typer.Option(metavar="FOLDER", parser=path_of, help="Where the new run folder is made."),
    ] = Path("runs"),
    as_json: Json = False,
) -> None:
    """Train step 2 anew on the trained step 1 of a run; the old run stays as it is."""
    from crystalgan.runs.folder import Run
    from crystalgan.runs.training import new_step2

    started = time.monotonic()
    run = new_step2(Run.open(run_folder), config_of(preset, settings or []), runs)
    _announce(run)
    _train_with_bar(run)
    _print_trained(run, time.monotonic() - started, as_json)


def _announce(run: Any) -> None:
    """Name the folder of a run whose training is about to begin, and have the run say so to whoever
    looks from now on."""
    run.set_status("starting")
    print(f"run folder: {run.folder}", file=sys.stderr, flush=True)


@app.command()
def resume(run_folder: RunFolder, as_json: Json = False) -> None:
    """Go on with a run that was stopped or killed; it ends as if it never had been."""
    from crystalgan.runs.folder import Run

    started = time.monotonic()
    run = Run.open(run_folder)
    _train_with_bar(run)
    _print_trained(run, time.monotonic() - started, as_json)


@app.command()
def generate(
    run_folder: RunFolder,
    n: Annotated[
        int, typer.Option("-n", help="How many candidates of this seed the run shall hold.")
    ] = 1000,
    seed: Annotated[int, typer.Option(help="Another seed makes other candidates.")] = 0,
    known: KnownFiles = None,
    as_json: Json = False,
) -> None:
    """Make candidates, check them, find duplicates and symmetry; they go into the run's
    candidates.db."""
    from crystalgan.runs import candidates

    with bar("candidates", n, kept=lambda: _made(run_folder, seed)) as shown:
        counts = candidates.generate(
            run_folder, n, seed, lambda done, _: shown.to(done), known or []
        )
        shown.to(n)
    lines = [
        f"{counts.candidates} candidates from {counts.drawn} draws; {counts.unique} are unique",
        f"{counts.new} of them match no known structure",
        *(counts.known.lines() if counts.known else ()),
        f"{counts.ternary} of them hold all three elements",
        *(f"{k} of them keep the rule {name}" for name, k in counts.passed.items()),
        *(
            f"{k} kept the rule {name} before repair"
            for name, k in counts.passed_before_repair.items()
        ),
    ]
    show(counts.as_dict(), lines, as_json)


@app.command()
def novelty(run_folder: RunFolder, known: KnownFiles = None, as_json: Json = False) -> None:
    """Compare a run's candidates with known structures again, after some were added; a match says
    which."""
    from crystalgan.runs import candidates

    with bar("compared", kept=lambda: AS_THEY_WERE) as shown:
        counts = candidates.compare_with_known(run_folder, known or [], shown.to)
    lines = [f"{counts.new} of {counts.candidates} candidates match no known structure"]
    show(counts.as_dict(), lines + counts.known.lines(), as_json)


@app.command()
def symmetrize(
    run_folder: RunFolder,
    number: Annotated[int, typer.Argument(metavar="ID", help="The candidate to symmetrize.")],
    tolerance: Annotated[
        float, typer.Option(help="How far an atom may be from its site, Å.")
    ] = 0.1,
    known: KnownFiles = None,
    as_json: Json = False,
) -> None:
    """Add the symmetrized cell of a candidate, each atom on its site, as a candidate of its own;
    the candidate stays as it is."""
    from crystalgan.data.known import known_structures
    from crystalgan.runs import symmetrizing
    from crystalgan.runs.folder import Run

    with keeping(lambda: AS_THEY_WERE):
        run = Run.open(run_folder)
        compared = known_structures(run.species, known or [], run.config.known_ternaries)
        new = symmetrizing.symmetrize(run, number, tolerance, compared)
    lines = [f"candidate {new} is the symmetrized cell of candidate {number} at {tolerance} Å"]
    show(
        {"candidate": new, "known": compared.report().as_dict()},
        lines + compared.report().lines(),
        as_json,
    )


@app.command()
def export(
    run_folder: RunFolder,
    out: Annotated[
        Path, typer.Option(metavar="FILE.zip", parser=path_of, help="The zip to write.")
    ],
    select: Annotated[
        str, typer.Option(help="good (keep the rule), kept (by your decision), all, or ids: 3,17.")
    ] = "good",
    rule: Annotated[
        str | None, typer.Option(help="The rule of `good`; by default the run's own.")
    ] = None,
    file_format: Annotated[
        str, typer.Option("--format", help="poscar, cif, extxyz, or vasp: a folder of inputs each.")
    ] = "poscar",
    cell: Annotated[
        str,
        typer.Option(
            help=(
                "reduced (Niggli), or conventional: of the symmetry found within 0.1 Å, atoms where"
                " they are."
            )
        ),
    ] = "reduced",
    smearing: Annotated[
        str,
        typer.Option(
            help=(
                "Of vasp: gaussian (ISMEAR 0, metal or not), metal (ISMEAR 1), or mp (ISMEAR -5 as"
                " in MPRelaxSet, which is "
                "wrong for relaxing metals)."
            )
        ),
    ] = "gaussian",
    relaxed: Annotated[
        str | None,
        typer.Option(
            metavar="POTENTIAL",
            help=(
                "Cells as relaxed with this potential, such as CHGNet; no: as they were made. By"
                " default those of a search are relaxed, others as made."
            ),
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write selected candidates into a zip, one file each, with candidates.csv."""
    from crystalgan.discovery.phases import potential_of
    from crystalgan.discovery.record import is_search
    from crystalgan.runs.folder import Run
    from crystalgan.stability import export as archive

    run = Run.open(run_folder)
    if relaxed is None:
        relaxed = potential_of(run) if is_search(run) else "no"
    by = "" if relaxed == "no" else relaxed
    with naming_options():
        count = archive.export(run, out, select, rule, file_format, cell, smearing, by)
    said = f", relaxed with {by}" if by else ""
    show(
        {"exported": count, "file": str(out), "relaxed_with": by or None},
        [f"{count} candidates in {out}{said}"],
        as_json,
    )


def _made(run_folder: Path, seed: int) -> str:
    """What is kept of candidates that were being made."""
    from crystalgan.runs.database import open_database
    from crystalgan.runs.folder import Run

    kept = open_database(Run.open(run_folder)).count(seed=seed)
    return f"{kept} candidates of seed {seed} are kept; the same command goes on from there."


def _train_with_bar(run: Any) -> None:
    """Train a run. The first Ctrl-C or SIGTERM asks for a checkpoint at the end of an epoch, the
    next one ends it at once."""
    from crystalgan.errors import Stopped
    from crystalgan.runs import training
    from crystalgan.runs.fitting import untrained_warning
    from crystalgan.runs.process import stop

    warn(untrained_warning(run))
    asked: list[int] = []

    def ask(name: int, *_: object) -> None:
        asked.append(name)
        if len(asked) > 1:
            raise Interrupted
        stop(run)

    before = {name: signal.signal(name, ask) for name in (signal.SIGINT, signal.SIGTERM)}
    bars: dict[int, Bar] = {}

    def progress(step: int, epoch: int, epochs: int, terms: dict[str, float]) -> None:
        if step not in bars:
            bars[step] = Bar(f"step {step}", epochs, "epoch")
        words = f"{terms['valid']:.0%} keep the rule" if "valid" in terms else ""
        bars[step].to(epoch, words=words)
        if asked:  # perhaps before the training began, which forgets what was asked of the last one
            stop(run)

    try:
        with keeping(
            lambda: (
                f"the last checkpoint is kept; `crystalgan resume {run.folder}` goes on from there."
            )
        ):
            training.resume(run, progress)
    except Stopped:
        status = run.status()
        raise Interrupted(
            f"`crystalgan resume` goes on from epoch {status.epoch or 0} of step"
            f" {status.step or 1}, which is kept in {run.folder}."
        ) from None
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
        for shown in bars.values():
            shown.close()


def _print_trained(run: Any, seconds: float, as_json: bool) -> None:
    from crystalgan.runs.fitting import untrained_warning

    epochs = run.status().epochs
    result = {"run": str(run.folder), "seconds": round(seconds, 2), "epochs": epochs}
    result |= {"warnings": [words]} if (words := untrained_warning(run)) else {}
    lines = [f"{run.folder}: {' + '.join(map(str, epochs))} epochs in {seconds:.0f} s"]
    show(result, lines, as_json)
