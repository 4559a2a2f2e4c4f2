"""Commands that compare: Table II, ablation, tuning, benchmark, rediscovery, metrics of runs."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crystalgan.cli.common import (
    Json,
    RunFolder,
    bar,
    changes_of,
    config_of,
    path_of,
    renamed,
    say_left_out,
    show,
)
from crystalgan.errors import InputError
from crystalgan.storage import check_target, write_whole

if TYPE_CHECKING:
    from collections.abc import Callable

    from plotly.graph_objects import Figure

app = typer.Typer()

ANOTHER = "give another path with --out"
GOES_ON = "the same command goes on from here."

Preset = Annotated[str, typer.Option(help="default, or paper: the paper's settings to the letter.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any other setting.")
]
Epochs = Annotated[int | None, typer.Option(help="Epochs of each step.")]
OwnA = Annotated[
    Path | None,
    typer.Option(
        "--a", metavar="PATH", parser=path_of, help="Your own cells of A-H: a folder, zip or file."
    ),
]
OwnB = Annotated[
    Path | None, typer.Option("--b", metavar="PATH", parser=path_of, help="Your own cells of B-H.")
]
Seeds = Annotated[int, typer.Option(help="Trainings of each, with the seeds 0, 1, 2 ...")]
Jobs = Annotated[int, typer.Option(help="Processes that train at once.")]
Runs = Annotated[
    Path,
    typer.Option(
        metavar="FOLDER",
        parser=path_of,
        help="What is trained is kept below this folder, and not trained again.",
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(metavar="FILE.html", parser=path_of, help="Draw the result into this file."),
]
Pair = Annotated[str, typer.Option(metavar="A-B", help="Two metals.")]


@app.command()
def table2(
    pairs: Annotated[
        list[str] | None, typer.Option(metavar="A-B", help="Two metals; may be repeated.")
    ] = None,
    more: Annotated[
        list[str] | None, typer.Argument(metavar="[A-B] ...", help="More pairs.")
    ] = None,
    seeds: Seeds = 10,
    preset: Preset = "default",
    rule: Annotated[
        str, typer.Option(help="What the constraints aim at and all methods are counted by.")
    ] = "paper",
    epochs: Epochs = None,
    settings: Settings = None,
    a_path: OwnA = None,
    b_path: OwnB = None,
    runs: Runs = Path("runs"),
    jobs: Jobs = 2,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Table II: train the four methods on the same cells and count what is good, with mean and
    spread over seeds."""
    from crystalgan.plot.studies import table2_figure
    from crystalgan.studies import table2 as core
    from crystalgan.studies.stacks import load_pair

    _can_draw(out)
    config = config_of(preset, settings or [], epochs1=epochs, epochs2=epochs, rule=rule)
    named = [*(pairs or []), *(more or [])] or list(core.PAIRS)
    if (a_path or b_path) and len(named) > 1:
        raise InputError(
            f"--a and --b are the cells of one pair, and {len(named)} pairs are asked for; name one"
            " with --pairs."
        )
    if len(set(named)) < len(named):
        raise InputError(f"A pair is named twice: {', '.join(named)}.")
    classes = [load_pair(pair, a_path, b_path, config.shared) for pair in named]
    with bar("trained", len(named) * 4, kept=lambda: GOES_ON) as trained:
        results = core.table2(classes, config, seeds, runs, jobs, trained.step)
    _draw(out, lambda: table2_figure(results))
    shown = {result.pair: result.as_dict()["methods"] for result in results}
    for methods in shown.values():
        for found in methods.values():
            del found["counts"]
    show(shown, [line for result in results for line in result.lines()], as_json)


@app.command()
def ablation(
    pair: Pair = "Pd-Ni",
    seeds: Seeds = 3,
    both: Annotated[
        bool,
        typer.Option("--both", help="Also the paper's settings with one field as in the default."),
    ] = False,
    epochs: Epochs = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="A setting for all; it is not varied then."
        ),
    ] = None,
    a_path: OwnA = None,
    b_path: OwnB = None,
    runs: Runs = Path("runs"),
    jobs: Jobs = 2,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """What each difference between the default and the paper's settings is worth, one at a time."""
    from crystalgan.plot.studies import ablation_figure
    from crystalgan.studies import ablation as core
    from crystalgan.studies.stacks import load_pair

    _can_draw(out)
    variants = core.variants(both, **changes_of(settings or [], epochs1=epochs, epochs2=epochs))
    a, b = load_pair(pair, a_path, b_path, variants["default"].shared)
    with bar("trained", len(variants), kept=lambda: GOES_ON) as trained:
        result = core.ablation(a, b, variants, seeds, runs, jobs, trained.step)
    _draw(out, lambda: ablation_figure(result))
    show({result.pair: result.as_dict()["variants"]}, result.lines(), as_json)


@app.command("search", hidden=True)
@app.command()
def tune(
    context: typer.Context,
    pair: Pair = "Pd-Ni",
    trials: Annotated[
        int,
        typer.Option(help="How many trials there shall be; tuning goes on from those it has."),
    ] = 30,
    folds: Annotated[int, typer.Option(help="Parts of the classes that are held out in turn.")] = 3,
    preset: Preset = "default",
    epochs: Epochs = None,
    settings: Settings = None,
    a_path: OwnA = None,
    b_path: OwnB = None,
    runs: Runs = Path("runs"),
    jobs: Jobs = 2,
    as_json: Json = False,
) -> None:
    """Tune the settings with Optuna, judged by cells of held-out parents; prints the best for
    `train`."""
    from crystalgan.studies import tuning as core
    from crystalgan.studies.stacks import load_pair

    _say_new_name(context, "tune")
    config = config_of(preset, settings or [], epochs1=epochs, epochs2=epochs)
    a, b = load_pair(pair, a_path, b_path, config.shared)
    with bar("trials", trials, kept=lambda: GOES_ON) as tried:

        def progress(_: int, best: float) -> None:
            tried.step(f"best {best:.3f}")

        found = core.tune(a, b, config, trials, folds, runs, jobs, progress)
    show(found.as_dict() | {"words": found.words}, found.lines(), as_json)


@app.command()
def metrics(run_folder: RunFolder, as_json: Json = False) -> None:
    """Every metric of a run's candidates, with its definition."""
    from crystalgan.runs.folder import Run
    from crystalgan.runs.metrics import measure, metric

    found = measure(Run.open(run_folder))
    lines = [
        f"{metric(name).title:22} {'-' if value is None else f'{value:.4g}':>8}"
        f" {metric(name).unit:8} {metric(name).definition}"
        for name, value in found.items()
    ]
    show(dict(found), lines, as_json)


def _draw(out: Path | None, figure: Callable[[], Figure]) -> None:
    if out is not None:
        write_whole(out, figure().to_html(include_plotlyjs=True), ANOTHER)


def _can_draw(out: Path | None) -> None:
    """InputError for a name that no file can have, before hours of work and not after."""
    if out is not None:
        check_target(out, ANOTHER)


@app.command("race", hidden=True)
@app.command()
def benchmark(
    context: typer.Context,
    a: Annotated[str, typer.Argument(help="One metal.")],
    b: Annotated[str, typer.Argument(help="The other metal.")],
    minutes: Annotated[
        float,
        typer.Option(help="CPU minutes of each method and seed, making and relaxing together."),
    ] = 10.0,
    seeds: Annotated[int, typer.Option(help="Times that each method has these minutes.")] = 1,
    types: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH",
            parser=path_of,
            help="Known ternary structures, whose metals are swapped as well.",
        ),
    ] = None,
    epochs: Epochs = None,
    settings: Settings = None,
    runs: Runs = Path("runs"),
    jobs: Annotated[int, typer.Option(help="Processes at once, one thread each.")] = 1,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Candidates against random structures with symmetry (PyXtal), swapped metals and ASE's random
    search: hits a CPU minute."""
    from crystalgan.plot.studies import benchmark_figure
    from crystalgan.studies import benchmark as core
    from crystalgan.studies.baselines import SOURCES
    from crystalgan.studies.stacks import load_pair

    _say_new_name(context, "benchmark")
    _need_baselines()
    _can_draw(out)
    config = config_of("default", settings or [], epochs1=epochs, epochs2=epochs)
    one, other = load_pair(f"{a}-{b}", None, None, config.shared)
    known = core.ternary_types(types or [], config.shared, (one.metal, other.metal), say_left_out)
    with bar("trials", len(SOURCES) * seeds, kept=lambda: GOES_ON) as tried:
        result = core.benchmark(one, other, config, runs, minutes, seeds, jobs, known, tried.step)
    _draw(out, lambda: benchmark_figure([result]))
    show(result.as_dict(), result.lines(), as_json)


@app.command()
def rediscover(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            parser=path_of,
            help="Known ternary structures: extended XYZ, pymatgen JSON or any other that is read.",
        ),
    ],
    minutes: Annotated[
        float, typer.Option(help="CPU minutes of each method for each structure.")
    ] = 2.0,
    epochs: Epochs = None,
    settings: Settings = None,
    runs: Runs = Path("runs"),
    jobs: Annotated[int, typer.Option(help="Processes at once, one thread each.")] = 1,
    as_json: Json = False,
) -> None:
    """Look for known ternaries that no training has seen, among relaxed cells of their composition;
    and let the baselines do so."""
    from crystalgan.studies import rediscovery as core

    _need_baselines()
    config = config_of("default", settings or [], epochs1=epochs, epochs2=epochs)
    known = core.known_ternaries(file, config.shared, say_left_out)
    with bar("structures", len(known), kept=lambda: GOES_ON) as searched:
        result = core.rediscover(known, config, runs, minutes, jobs, searched.step)
    show(result.as_dict(), result.lines(), as_json)


def _say_new_name(context: typer.Context, name: str) -> None:
    """Say on stderr what a command is called now that was given by its old name."""
    if context.info_name != name:
        renamed(f"crystalgan {context.info_name}", f"crystalgan {name}")


def _need_baselines() -> None:
    """Raise InputError without the baselines' packages; use one thread, as CPU minutes are those of
    one core."""
    from crystalgan.jobs import one_thread

    if missing := [name for name in ("pyxtal", "ase_ga") if find_spec(name) is None]:
        raise InputError(f"This needs {' and '.join(missing)}; pip install '.[benchmark]'.")
    one_thread()
