"""The command line: each command a few lines over the core. `--json` prints one JSON object on stdout; progress goes to stderr.

Exit codes: 0 done, 2 the input cannot be used (one sentence on stderr), 1 a training that could not go on.
"""

from __future__ import annotations

import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from crystalgan import InputError, shell_study
from crystalgan.shell import Json, RunFolder, config_of, show

app = typer.Typer(
    name="crystalgan",
    help="Which ternary hydrides could two metals make? Learn from the cells of two binary hydrides, make ternary ones.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(shell_study.app)

KnownFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--known", metavar="PATH", help="Known structures beside the built-in ones: a file, folder or zip; may be repeated."
    ),
]


@app.command()
def classes(as_json: Json = False) -> None:
    """List the built-in classes."""
    from crystalgan.classes import builtin_classes, load_class

    every = [load_class(metal) for metal in builtin_classes()]
    cells = sum(map(len, every))
    table = [{"metal": c.metal, "cells": len(c), "source": c.source} for c in every]
    lines = [f"{c.metal:3} {len(c):4} cells  {c.source}" for c in every] + [f"{cells} cells in {len(every)} classes"]
    show({"cells": cells, "classes": table}, lines, as_json)


@app.command()
def check(
    path: Annotated[str, typer.Argument(help="A folder, zip or file of cells, or the metal of a built-in class.")],
    metal: Annotated[str | None, typer.Option(help="The metal of a .mat file, which names no elements.")] = None,
    shared: Annotated[str, typer.Option(help="The element that both classes share.")] = "H",
    figure: Annotated[
        Path | None, typer.Option(help="Draw the first-neighbour distances with d1 and d2 into this HTML file.")
    ] = None,
    cleaned: Annotated[
        Path | None, typer.Option(help="Write the cells without those that are proposed to be left out, as extended XYZ.")
    ] = None,
    as_json: Json = False,
) -> None:
    """The data doctor: what was read or left out, duplicates, distances, volumes, prototypes, and what it would leave out."""
    from crystalgan import doctor

    report = doctor.cleaned(path, cleaned, metal, shared) if cleaned else doctor.examine(path, metal, shared)
    if figure and report["cells"]:
        from crystalgan.charts import distance_figure

        name = f"{report['metal']}-{shared}"
        limits = report["limits"]["learned"] or report["limits"]["paper"]
        distance_figure({name: report["distances"]}, list(report["distances"]), limits).write_html(figure, include_plotlyjs=True)
    show(report, _diagnosis(report, shared), as_json)
    if not report["cells"]:
        raise InputError(f"{path}: holds no cell that can be used; mend what is listed above or give another path.")


def _diagnosis(report: dict[str, Any], shared: str) -> list[str]:
    """The report of the data doctor in words."""
    lines = [f"{report['path']}: {report['cells']} cells of {report['metal']}-{shared}"]
    lines += [f"left out  {x['where']}: {x['reason']}" for x in report["left_out"]]
    if not report["cells"]:
        return lines
    lines += [f"shortest  {pair} {x['distance']:.3f} Å in {x['where']}" for pair, x in report["shortest"].items()]
    lines += ["volume    {lowest:.2f} to {highest:.2f} Å³ per atom, median {median:.2f}".format(**report["volume"])]
    for rule, limits in report["limits"].items():
        lines += [f"limits    {rule}: " + ", ".join(f"{pair} {d1:.2f}-{d2:.2f} Å" for pair, (d1, d2) in limits.items())]
    lines += [
        f"rule      {report['keep_paper_rule']} of {report['cells']} keep the rule paper: H-H and metal-metal within 1.8-3.0 Å",
        f"types     {len(report['prototypes'])} cells recognised: {', '.join(sorted(set(report['prototypes'].values())))}",
    ]
    if report["oxidation"]:
        lines += [
            "note      no common oxidation states balance "
            + ", ".join(report["oxidation"])
            + " (nothing odd in a metallic hydride)"
        ]
    return lines + [f"proposed  leave out {x['where']}: {x['why']}" for x in report["proposals"]]


@app.command("data-card")
def data_card(
    dft: Annotated[
        list[Path] | None, typer.Option(help="A .mat file of DFT cells to compare volumes with; may be repeated.")
    ] = None,
    write: Annotated[bool, typer.Option("--write", help="Put the report into assets/data-card.md.")] = False,
    as_json: Json = False,
) -> None:
    """Check the built-in classes against experiment, DFT and the hydrides that are known; the data card's figures."""
    from crystalgan import datacard

    report = datacard.report(dft or [])
    if write:
        print(f"written: {datacard.write(report)}", file=sys.stderr)
    show(report, [datacard.markdown(report)], as_json)


@app.command()
def fetch(
    elements: Annotated[list[str], typer.Argument(metavar="ELEMENT ...", help="All that a cell shall hold, such as Pd H.")],
    source: Annotated[str, typer.Option("--from", help="mp, oqmd, alexandria, cod, an OPTIMADE address, or mp-api (by key).")],
    out: Annotated[Path | None, typer.Option(help="Write the cells here as well (.extxyz).")] = None,
    cache: Annotated[Path | None, typer.Option(help="Folder of answers; by default crystalgan in your cache folder.")] = None,
    refresh: Annotated[bool, typer.Option("--refresh", help="Ask anew instead of answering from the cache.")] = False,
    max_atoms: Annotated[int, typer.Option(min=1, help="Larger cells are left out.")] = 100,
    as_json: Json = False,
) -> None:
    """Fetch all structures of exactly these elements from a database; prints the file, for `train --a FILE`."""
    from tqdm import tqdm

    from crystalgan import sources

    if out and out.suffix not in (".extxyz", ".xyz"):
        raise InputError(f"{out}: is to hold extended XYZ; let its name end in .extxyz.")
    with tqdm(desc="structures", unit="", file=sys.stderr) as bar:

        def progress(done: int, total: int | None) -> None:
            bar.total = total
            bar.update(done - bar.n)

        fetched = sources.fetch(elements, source, cache, refresh, max_atoms, progress=progress)
    if out:
        sources.write_whole(out, fetched.path.read_bytes(), "--out")
    for x in fetched.left_out:
        print(f"left out: {x}", file=sys.stderr)
    result = asdict(fetched) | {"path": str(out or fetched.path)}
    of = f"of {fetched.system} from {fetched.provider}, {fetched.retrieved}{' (from the cache)' if fetched.cached else ''}"
    lines = [f"{fetched.structures} structures {of}", f"{len(fetched.left_out)} left out", f"licence {fetched.licence}"]
    show(result, [*lines, result["path"]], as_json)


@app.command()
def train(
    a: Annotated[str, typer.Argument(metavar="A", help="The first metal, such as Pd.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The second metal, such as Ni.")],
    a_path: Annotated[Path | None, typer.Option("--a", help="Your own cells of A-H: a folder, zip or file.")] = None,
    b_path: Annotated[Path | None, typer.Option("--b", help="Your own cells of B-H.")] = None,
    preset: Annotated[str, typer.Option(help="default, or paper: the paper's settings to the letter.")] = "default",
    method: Annotated[str | None, typer.Option(help="crystalgan, unconstrained, discogan or gan.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of each step.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of every random number.")] = None,
    rule: Annotated[str | None, typer.Option(help="paper, learned, or a TOML table of limits for each pair.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any other setting.")] = None,
    runs: Annotated[Path, typer.Option(help="Where the run folder is made.")] = Path("runs"),
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out files that cannot be used instead of stopping.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Train both steps on two classes; prints the run folder."""
    from crystalgan.classes import load_class
    from crystalgan.training import new_run

    started = time.monotonic()
    config = config_of(preset, settings or [], method=method, epochs1=epochs, epochs2=epochs, seed=seed, rule=rule)
    both = [load_class(str(path or metal), metal, config.shared, skip_bad) for metal, path in ((a, a_path), (b, b_path))]
    for c in both:
        for x in c.left_out:
            print(f"left out: {x}", file=sys.stderr)
    run = new_run(both[0], both[1], config, runs)
    print(f"run folder: {run.folder}", file=sys.stderr, flush=True)
    _train_with_bar(run)
    _print_trained(run, time.monotonic() - started, as_json)


@app.command()
def step2(
    run_folder: RunFolder,
    preset: Annotated[str, typer.Option(help="default, or paper: the paper's settings to the letter.")] = "default",
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any setting of step 2.")] = None,
    runs: Annotated[Path, typer.Option(help="Where the new run folder is made.")] = Path("runs"),
    as_json: Json = False,
) -> None:
    """Train step 2 anew on the trained step 1 of a run; the old run stays as it is."""
    from crystalgan.runs import Run
    from crystalgan.training import new_step2

    started = time.monotonic()
    run = new_step2(Run.open(run_folder), config_of(preset, settings or []), runs)
    print(f"run folder: {run.folder}", file=sys.stderr, flush=True)
    _train_with_bar(run)
    _print_trained(run, time.monotonic() - started, as_json)


@app.command()
def resume(run_folder: RunFolder, as_json: Json = False) -> None:
    """Go on with a run that was stopped or killed; it ends as if it never had been."""
    from crystalgan.runs import Run

    started = time.monotonic()
    run = Run.open(run_folder)
    _train_with_bar(run)
    _print_trained(run, time.monotonic() - started, as_json)


@app.command()
def generate(
    run_folder: RunFolder,
    n: Annotated[int, typer.Option("-n", help="How many candidates of this seed the run shall hold.")] = 1000,
    seed: Annotated[int, typer.Option(help="Another seed makes other candidates.")] = 0,
    known: KnownFiles = None,
    as_json: Json = False,
) -> None:
    """Make candidates, judge them, find duplicates and symmetry; they go into the run's candidates.db."""
    from tqdm import tqdm

    from crystalgan import candidates

    with tqdm(total=n, desc="candidates", unit="", file=sys.stderr) as bar:
        counts = candidates.generate(run_folder, n, seed, lambda done, _: bar.update(done - bar.n), known or [])
        bar.update(n - bar.n)
    lines = [f"{counts['candidates']} candidates from {counts['drawn']} draws; {counts['unique']} are unique"]
    lines += [f"{counts['new']} of them match no known structure"]
    lines += [f"{counts['ternary']} of them hold all three elements"]
    lines += [f"{k} of them keep the rule {name}" for name, k in counts["passed"].items()]
    lines += [f"{k} kept the rule {name} before refinement" for name, k in counts["passed_before_refine"].items()]
    show(counts, lines, as_json)


@app.command()
def novelty(run_folder: RunFolder, known: KnownFiles = None, as_json: Json = False) -> None:
    """Compare a run's candidates with known structures again, after some were added; a match says which."""
    from crystalgan import candidates

    counts = candidates.compare_with_known(run_folder, known or [])
    show(counts, [f"{counts['new']} of {counts['candidates']} candidates match no known structure"], as_json)


@app.command()
def export(
    run_folder: RunFolder,
    out: Annotated[Path, typer.Option(help="The zip to write.")],
    select: Annotated[str, typer.Option(help="good (keep the rule), kept (by your decision), all, or ids: 3,17.")] = "good",
    rule: Annotated[str | None, typer.Option(help="The rule of `good`; by default the run's own.")] = None,
    file_format: Annotated[
        str, typer.Option("--format", help="poscar, cif, extxyz, or vasp: a folder of inputs each.")
    ] = "poscar",
    as_json: Json = False,
) -> None:
    """Write selected candidates into a zip, one file each, with candidates.csv."""
    from crystalgan import archive

    count = archive.export(run_folder, out, select, rule, file_format)
    show({"exported": count, "file": str(out)}, [f"{count} candidates in {out}"], as_json)


@app.command("build-classes")
def build_classes(
    metals: Annotated[list[str], typer.Argument(metavar="M ...", help="Metals, such as Pd Ni.")],
    jobs: Annotated[int, typer.Option(help="Processes that relax at once.")] = 1,
    out: Annotated[Path | None, typer.Option(help="Folder of the classes; by default the built-in ones.")] = None,
    work: Annotated[Path, typer.Option(help="Finished cells are kept here, so that a stopped build goes on.")] = Path(
        "build/classes"
    ),
    as_json: Json = False,
) -> None:
    """Relax the prototypes of metal hydrides for these metals with CHGNet and write them as classes."""
    from tqdm import tqdm

    from crystalgan import build

    with tqdm(desc="cells", unit="", file=sys.stderr) as bar:

        def progress(done: int, total: int, what: str) -> None:
            bar.total = total
            bar.update(done - bar.n)
            bar.set_postfix_str(what[:60])

        counts = build.build_classes(metals, out, work, jobs, progress)
    lines = [f"{metal}: {c['kept']} cells kept, {c['dropped']} left out" for metal, c in counts.items()]
    show({"classes": counts}, lines, as_json)


def _train_with_bar(run: Any) -> None:  # noqa: ANN401 - importing Run here would be slow
    from tqdm import tqdm

    from crystalgan import training
    from crystalgan.runs import stop

    asked = {name: signal.signal(name, lambda *_: stop(run)) for name in (signal.SIGINT, signal.SIGTERM)}
    bars: dict[int, Any] = {}

    def progress(step: int, epoch: int, epochs: int, terms: dict[str, float]) -> None:
        bar = bars.get(step) or bars.setdefault(step, tqdm(total=epochs, desc=f"step {step}", unit="epoch", file=sys.stderr))
        bar.update(epoch - bar.n)
        if "valid" in terms:
            bar.set_postfix_str(f"{terms['valid']:.0%} keep the rule")

    try:
        training.resume(run, progress)
    finally:
        for name, handler in asked.items():
            signal.signal(name, handler)
        for bar in bars.values():
            bar.close()


def _print_trained(run: Any, seconds: float, as_json: bool) -> None:  # noqa: ANN401 - as above
    status = run.status()
    result = {"run": str(run.folder), "seconds": round(seconds, 2), "epochs": status["epochs"]}
    lines = [f"{run.folder}: {' + '.join(map(str, status['epochs']))} epochs in {seconds:.0f} s"]
    show(result, lines, as_json)


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
