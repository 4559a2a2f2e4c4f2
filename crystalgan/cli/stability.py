"""Commands that ask whether candidates hold together: relax, phonons, stability. Each is a few
lines over the core."""

from __future__ import annotations

import sys
from html import escape
from pathlib import Path  # noqa: TC003 - Typer reads it
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crystalgan.cli.common import (
    Json,
    Potential,
    RunFolder,
    bar,
    naming_options,
    path_of,
    renamed,
    say_left_out,
    show,
    warn,
)

if TYPE_CHECKING:
    from crystalgan.stability.phonon_rows import PhononResults

app = typer.Typer()
ANOTHER_FIGURE = "give another path with --figure"


@app.command()
def relax(
    run_folder: RunFolder,
    select: Annotated[
        str, typer.Option(help="good (keep the rule), kept (by your decision), all, or ids: 3,17.")
    ] = "good",
    potential: Potential = "chgnet",
    jobs: Annotated[
        int,
        typer.Option(
            help="Processes that relax at once, one thread each; several leave a GPU alone.",
        ),
    ] = 1,
    batch: Annotated[int | None, typer.Option(hidden=True)] = None,
    steps: Annotated[int, typer.Option(help="Most steps of one relaxation.")] = 300,
    seconds: Annotated[
        float, typer.Option(help="Seconds after which one structure is given up.")
    ] = 600,
    rattle: Annotated[
        bool, typer.Option("--rattle", help="Relax, shake, relax again: off saddle points.")
    ] = False,
    symmetry: Annotated[
        bool, typer.Option("--symmetry", help="Keep the symmetry found within 0.1 Å.")
    ] = False,
    references: Annotated[
        bool,
        typer.Option(
            "--references",
            help="What competes too: compounds of the two metals; elements, binaries and known"
            " ternaries, which CHGNet has built in.",
        ),
    ] = False,
    phases: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH",
            parser=path_of,
            help="More phases of these elements: a file, folder or zip.",
        ),
    ] = None,
    raise_symmetry: Annotated[
        float | None,
        typer.Option(
            help="Look for a higher symmetry within so many Å afterwards; 0.1 or 0.3.",
        ),
    ] = None,
    refine: Annotated[float | None, typer.Option(hidden=True)] = None,
    as_json: Json = False,
) -> None:
    """Relax cell and positions of candidates with a machine-learned potential; the candidates stay
    as they are."""
    from crystalgan.potentials.registry import untrained
    from crystalgan.runs.folder import Run
    from crystalgan.stability import relaxations
    from crystalgan.stability.tasks import Settings

    if batch is not None:
        print("--batch does nothing any more and will go; use --jobs.", file=sys.stderr, flush=True)
    if refine is not None:
        renamed("--refine", "--raise-symmetry")
        raise_symmetry = refine if raise_symmetry is None else raise_symmetry
    warnings: dict[str, Any] = {}
    warn(untrained(potential, Run.open(run_folder).species), warnings)  # before anything is relaxed
    kept = "what was relaxed is kept; the same command goes on with the rest."
    with bar("relaxed", kept=lambda: kept) as shown:
        done = relaxations.relax_candidates(
            run_folder,
            select,
            potential,
            Settings(steps, rattle, symmetry, seconds),
            jobs,
            references,
            phases or [],
            raise_symmetry,
            shown.to,
            say_left_out,
        )
    show(done.as_dict() | warnings, [str(done)], as_json)


@app.command()
def phonons(
    run_folder: RunFolder,
    select: Annotated[
        str, typer.Option(help="Relaxed candidates: ids such as 3,17, or good, kept, all.")
    ],
    potential: Potential = "chgnet",
    jobs: Annotated[
        int, typer.Option(help="Processes, each at the phonons of one cell, one thread each.")
    ] = 1,
    seconds: Annotated[float, typer.Option(help="Seconds after which one cell is given up.")] = 600,
    figure: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", parser=path_of, help="Draw the bands of all of them into this HTML."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Phonons of relaxed candidates: does each hold together, or where does its imaginary mode
    lead."""
    from crystalgan.potentials.registry import untrained
    from crystalgan.runs.folder import Run
    from crystalgan.stability.phonon_rows import compute_phonons
    from crystalgan.storage import check_target

    if figure:
        check_target(figure, ANOTHER_FIGURE)
    warnings: dict[str, Any] = {}
    warn(untrained(potential, Run.open(run_folder).species), warnings)
    kept = "what was computed is kept; the same command goes on with the rest."
    with bar("phonons", kept=lambda: kept) as shown:
        found = compute_phonons(run_folder, select, potential, jobs, seconds, shown.to)
    if figure:
        _draw(found, figure)
    lines = [f"{one.candidate:5} {one.formula:12} {one}" for one in found]
    show(found.as_dict() | warnings, [*lines, str(found)], as_json)


def _draw(found: PhononResults, path: Path) -> None:
    """Write the bands of candidates into one HTML page."""
    from crystalgan.plot.phonons import bands_figure
    from crystalgan.storage import write_whole

    scripted = False  # plotly itself goes in once
    parts = ["<!doctype html><meta charset='utf-8'><title>Phonons</title>"]
    for one in found:
        parts.append(f"<h3>{one.candidate}: {one.formula}</h3><p>{escape(str(one))}</p>")
        if one.phonons:
            drawn = bands_figure(one.phonons)
            parts.append(drawn.to_html(full_html=False, include_plotlyjs=not scripted))
            scripted = True
    write_whole(path, "\n".join(parts), ANOTHER_FIGURE)


@app.command()
def stability(
    run_folder: RunFolder,
    potential: Annotated[
        str,
        typer.Option(
            help="The potential whose energies count, by the name that relaxed cells carry."
        ),
    ] = "CHGNet",
    as_json: Json = False,
) -> None:
    """Energy above the convex hull, products and stored hydrogen of the relaxed candidates, the
    most stable first."""
    from crystalgan.potentials.registry import untrained
    from crystalgan.runs.folder import Run
    from crystalgan.stability.hull import diagram_of, lacks_compounds
    from crystalgan.stability.table import phases_of, table_of, trust_in_words, with_trust

    run = Run.open(run_folder)
    warnings: dict[str, Any] = {}
    warn(untrained(potential, run.species), warnings)
    with naming_options():
        diagram = diagram_of(phases_of(run, potential))
    table = with_trust(run, potential, table_of(run, potential, diagram))
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    titles = f"{'no.':>5} {'formula':12} {'eV/atom above hull':>18} {'wt% H':>6} {'kJ/mol H2':>9}"
    lines = [f"{titles}  decomposes into"]
    lines += [
        f"{row['id']:5} {row['formula']:12} {row['above_hull']:18.3f} {row['weight_percent']:6.2f} "
        f"{'' if row['enthalpy'] is None else format(row['enthalpy'], '.1f'):>9}  {row['products']}"
        for row in rows
        if row["state"] != "failed"
    ]
    both = table.dropna(subset=["apart"]).itertuples() if "apart" in table else ()
    lines += [f"{row.id:5} {trust_in_words(row.apart, row.same_cell)}" for row in both]
    if missing := lacks_compounds(diagram, run.species):
        lines.append(f"{missing} `relax --references` adds them.")
    show({"candidates": rows} | warnings, lines, as_json)
