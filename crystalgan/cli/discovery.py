"""The command `discover`: from two metals alone to a ranked list of ternary phases."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crystalgan.cli.common import Json, Potential, bar, naming_options, path_of, show, warn
from crystalgan.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from crystalgan.discovery.record import Step
    from crystalgan.runs.folder import Run

app = typer.Typer()
KEPT = "what was relaxed is kept; the same command goes on from there."


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
        float | None,
        typer.Option(help="CPU minutes, those of earlier sittings included.", show_default="10"),
    ] = None,
    jobs: Annotated[
        int, typer.Option(help="Processes; the same is found with any number of them.")
    ] = 1,
    formula: Annotated[
        str, typer.Option(help="Look at this composition alone, such as ZrNiH3.")
    ] = "",
    max_atoms: Annotated[int, typer.Option(help="The most atoms that a cell may have.")] = 24,
    potential: Potential = "chgnet",
    verify: Annotated[
        str,
        typer.Option(
            metavar="POTENTIAL",
            help="Relax the 20 lowest phases again with this potential, what competes first, and"
            " show both energies. With a run folder and no --minutes, nothing else.",
        ),
    ] = "",
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
    from crystalgan.discovery.discover import MINUTES, go_on
    from crystalgan.discovery.discover import discover as search
    from crystalgan.discovery.phases import phases_of_run
    from crystalgan.discovery.record import MOST_ATOMS, SOURCES, Wanted, read_record
    from crystalgan.discovery.verify import check_other
    from crystalgan.discovery.verify import verify as verify_run
    from crystalgan.potentials.registry import untrained
    from crystalgan.runs.folder import Run
    from crystalgan.stability.tasks import about_potential

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
        if ":" in potential and (minutes is not None or not verify):
            # what a folder from elsewhere names is not to be run unseen
            raise InputError(
                f"{a}: its potential, {potential}, is a file or has arguments; go on with the two"
                " metals and the same options, --potential among them."
            )
    else:
        both = [load_class(str(path or m), m) for m, path in ((a, a_path), (b, b_path))]
        with naming_options():
            wanted = Wanted(formula, max_atoms, potential, seed, names, not without_known)
        species = (both[0].shared, a, b)
    warn(untrained(potential, species))
    # what is refused is refused before the search takes its minutes
    own = about_potential(potential, species)[0] if b else ""
    if verify:
        check_other(verify, own or phases_of_run(run).potential, species)
        warn(untrained(verify, species))
    if b or minutes is not None or not verify:
        until = MINUTES if minutes is None else minutes
        with _searching(until) as progress:
            if b:
                phases = search(both[0], both[1], until, wanted, runs, jobs, new, progress, _name)
            else:
                phases = go_on(run, until, jobs, progress, _name)
        run = phases.run
    if verify:
        with bar("verify", kept=lambda: KEPT) as shown:
            phases = verify_run(run, verify, jobs, progress=shown.to)
    show(phases.as_dict(), phases.lines(), as_json)


@contextmanager
def _searching(minutes: float) -> Iterator[Callable[[Step], None]]:
    """The bar of a search, moved by its steps."""
    with bar("discover", 100, "%", kept=lambda: KEPT) as shown:

        def progress(step: Step) -> None:
            done = min(100, int(100 * step.minutes / minutes))
            shown.to(done, words=f"{step.found} phases, {step.best}" if step.best else "")

        yield progress
        shown.to(100)


def _name(run: Run) -> None:
    """Name the folder of a search to whoever looks at what the command says."""
    from tqdm import tqdm

    tqdm.write(f"run folder: {run.folder}", file=sys.stderr)  # on a line beside the bar
    sys.stderr.flush()
