"""The command `discover`: from two metals alone to a ranked list of ternary phases."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crystalgan.cli.common import Json, bar, naming_options, path_of, show, warn
from crystalgan.errors import InputError

if TYPE_CHECKING:
    from crystalgan.discovery.record import Step
    from crystalgan.runs.folder import Run

app = typer.Typer()


@app.command()
def discover(
    a: Annotated[
        str,
        typer.Argument(
            metavar="A", help="The first metal, such as Pd; or a run folder, to go on with alone."
        ),
    ],
    b: Annotated[str, typer.Argument(metavar="[B]", help="The second metal, such as Ni.")] = "",
    minutes: Annotated[
        float, typer.Option(help="CPU minutes, those of earlier sittings included.")
    ] = 10.0,
    jobs: Annotated[
        int, typer.Option(help="Processes; the same is found with any number of them.")
    ] = 1,
    formula: Annotated[
        str, typer.Option(help="Look at this composition alone, such as ZrNiH3.")
    ] = "",
    max_atoms: Annotated[int, typer.Option(help="The most atoms that a cell may have.")] = 24,
    potential: Annotated[
        str, typer.Option(help="chgnet, sevennet, or an ASE calculator as package.module.Class.")
    ] = "chgnet",
    seed: Annotated[int, typer.Option(help="Another seed goes another way.")] = 0,
    a_path: Annotated[
        Path | None,
        typer.Option("--a", metavar="PATH", parser=path_of, help="Your own cells of A-H."),
    ] = None,
    b_path: Annotated[
        Path | None,
        typer.Option("--b", metavar="PATH", parser=path_of, help="Your own cells of B-H."),
    ] = None,
    sources: Annotated[
        str,
        typer.Option(
            help="Where proposals come from, with commas between them; also `learned`, transfers"
            " moved by a generator that is trained on the relaxations of the search."
        ),
    ] = "random,transfer,hosts,heredity",
    without_known: Annotated[
        bool,
        typer.Option(
            "--without-known", help="The built-in known ternaries neither compete nor count."
        ),
    ] = False,
    new: Annotated[
        bool, typer.Option("--new", help="Begin afresh, though there is such a search already.")
    ] = False,
    runs: Annotated[
        Path, typer.Option(metavar="FOLDER", parser=path_of, help="Where the run folder is.")
    ] = Path("runs"),
    as_json: Json = False,
) -> None:
    """Search for ternary hydrides of two metals: propose cells, relax the most promising, rank them
    by their energy above the hull. The same command goes on where it was."""
    from crystalgan.data.classes import load_class
    from crystalgan.discovery.discover import discover as search
    from crystalgan.discovery.discover import go_on
    from crystalgan.discovery.record import MOST_ATOMS, SOURCES, Wanted, read_record
    from crystalgan.potentials.registry import untrained
    from crystalgan.runs.folder import Run

    names = tuple(name.strip() for name in sources.split(",") if name.strip())
    if not b:
        if not path_of(a).exists():
            raise InputError(
                f"{a}: give two metals, such as Pd Ni, or the folder of a search to go on with."
            )
        run = Run.open(path_of(a))
        wishes = formula, max_atoms, potential, seed, names, without_known, a_path, b_path, new
        if wishes != ("", MOST_ATOMS, "chgnet", 0, SOURCES, False, None, None, False):
            raise InputError(
                f"{a}: a run goes on as it was begun; give --minutes and --jobs, or two metals."
            )
        species, potential = run.species, read_record(run).wanted.potential
    else:
        both = [load_class(str(path or m), m) for m, path in ((a, a_path), (b, b_path))]
        with naming_options():
            wanted = Wanted(formula, max_atoms, potential, seed, names, not without_known)
        species = (both[0].shared, a, b)
    warn(untrained(potential, species))
    kept = "what was relaxed is kept; the same command goes on from there."
    with bar("discover", 100, "%", kept=lambda: kept) as shown:

        def progress(step: Step) -> None:
            done = min(100, int(100 * step.minutes / minutes))
            shown.to(done, words=f"{step.found} phases, {step.best}" if step.best else "")

        if b:
            phases = search(both[0], both[1], minutes, wanted, runs, jobs, new, progress, _name)
        else:
            phases = go_on(run, minutes, jobs, progress, _name)
        shown.to(100)
    show(phases.as_dict(), phases.lines(), as_json)


def _name(run: Run) -> None:
    """Name the folder of a search to whoever looks at what the command says."""
    from tqdm import tqdm

    tqdm.write(f"run folder: {run.folder}", file=sys.stderr)  # on a line beside the bar
    sys.stderr.flush()
