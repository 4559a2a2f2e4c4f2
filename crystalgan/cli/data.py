"""Commands over classes of cells: list, check, fetch and build them.

Each is a few lines over the core.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from crystalgan.cli.common import Json, bar, path_of, show, warn
from crystalgan.errors import InputError

app = typer.Typer()


@app.command()
def classes(as_json: Json = False) -> None:
    """List the built-in classes."""
    from crystalgan.data.classes import builtin_classes, load_class

    every = [load_class(metal) for metal in builtin_classes()]
    cells = sum(map(len, every))
    table = [{"metal": c.metal, "cells": len(c), "source": c.source} for c in every]
    lines = [f"{c.metal:3} {len(c):4} cells  {c.source}" for c in every] + [
        f"{cells} cells in {len(every)} classes"
    ]
    show({"cells": cells, "classes": table}, lines, as_json)


@app.command()
def check(
    path: Annotated[
        str,
        typer.Argument(help="A folder, zip or file of cells, or the metal of a built-in class."),
    ],
    metal: Annotated[
        str | None, typer.Option(help="The metal of a .mat file, which names no elements.")
    ] = None,
    shared: Annotated[str, typer.Option(help="The element that both classes share.")] = "H",
    figure: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.html",
            parser=path_of,
            help="Draw the first-neighbour distances with d1 and d2 into this HTML file.",
        ),
    ] = None,
    cleaned: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.extxyz",
            parser=path_of,
            help="Write the cells without those that are proposed to be left out, as extended XYZ.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Examine a class: the data doctor's report, and what it would leave out.

    It says what was read or left out, duplicates, distances, volumes and prototypes.
    """
    from crystalgan.data import doctor
    from crystalgan.storage import check_target, write_whole

    if figure:
        check_target(figure, "give another path with --figure")
    report = (
        doctor.cleaned(path, cleaned, metal, shared)
        if cleaned
        else doctor.examine(path, metal, shared)
    )
    if figure and report.findings:
        from crystalgan.plot.classes import distance_figure

        found = report.findings
        series = {f"{report.metal}-{shared}": found.distances}
        limits = found.limits["learned"] or found.limits["paper"]
        drawn = distance_figure(series, list(found.distances), limits)
        write_whole(figure, drawn.to_html(include_plotlyjs=True), "give another path with --figure")
    show(report.as_dict(), report.lines(), as_json)
    if not report.cells:
        raise InputError(
            f"{path}: holds no cell that can be used; mend what is listed above or give another"
            " path."
        )


@app.command("data-card")
def data_card(
    dft: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            parser=path_of,
            help="A .mat file of DFT cells to compare volumes with; may be repeated.",
        ),
    ] = None,
    write: Annotated[
        bool, typer.Option("--write", help="Put the report into assets/data-card.md.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Check the built-in classes against experiment, DFT and known hydrides: the data card."""
    from crystalgan.studies import datacard, datacard_text

    card = datacard.report(dft or [])
    if write:
        print(f"written: {datacard_text.write(card)}", file=sys.stderr)
    show(card.as_dict(), [datacard_text.markdown(card)], as_json)


@app.command()
def fetch(
    elements: Annotated[
        list[str],
        typer.Argument(metavar="ELEMENT ...", help="All that a cell shall hold, such as Pd H."),
    ],
    source: Annotated[
        str,
        typer.Option(
            "--from", help="mp, oqmd, alexandria, cod, an OPTIMADE address, or mp-api (by key)."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.extxyz", parser=path_of, help="Write the cells here as well (.extxyz)."
        ),
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            parser=path_of,
            help="Folder of answers; by default crystalgan in your cache folder.",
        ),
    ] = None,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Ask anew instead of answering from the cache.")
    ] = False,
    max_atoms: Annotated[int, typer.Option(min=1, help="Larger cells are left out.")] = 100,
    as_json: Json = False,
) -> None:
    """Fetch all structures of exactly these elements from a database.

    Prints the file, for `train --a FILE`.
    """
    from crystalgan.data import fetch as sources
    from crystalgan.storage import check_target, write_whole

    if out:
        check_target(out, "give another path with --out")
    if out and out.suffix not in (".extxyz", ".xyz"):
        raise InputError(f"{out}: is to hold extended XYZ; let its name end in .extxyz.")
    with bar("structures") as shown:
        fetched = sources.fetch(elements, source, cache, refresh, max_atoms, progress=shown.to)
    if out:
        write_whole(out, fetched.path.read_bytes(), "give another path with --out")
    for x in fetched.left_out:
        print(f"left out: {x}", file=sys.stderr)
    result = fetched.as_dict() | {"path": str(out or fetched.path)}
    cached = " (from the cache)" if fetched.cached else ""
    of = f"of {fetched.system} from {fetched.provider}, {fetched.retrieved}{cached}"
    lines = [
        f"{fetched.structures} structures {of}",
        f"{len(fetched.left_out)} left out",
        f"licence {fetched.licence}",
    ]
    show(result, [*lines, result["path"]], as_json)


@app.command("build-classes")
def build_classes(
    metals: Annotated[list[str], typer.Argument(metavar="M ...", help="Metals, such as Pd Ni.")],
    jobs: Annotated[int, typer.Option(help="Processes that relax at once.")] = 1,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            parser=path_of,
            help="Folder of the classes; by default the built-in ones.",
        ),
    ] = None,
    work: Annotated[
        Path,
        typer.Option(
            metavar="FOLDER",
            parser=path_of,
            help="Finished cells are kept here, so that a stopped build goes on.",
        ),
    ] = Path("build/classes"),
    as_json: Json = False,
) -> None:
    """Relax the prototypes of metal hydrides with CHGNet and write them as classes."""
    from crystalgan.potentials.registry import untrained
    from crystalgan.studies import builtin as build

    warnings: dict[str, Any] = {}
    warn(untrained("CHGNet", metals), warnings)
    kept = "finished cells are kept; the same command goes on with the rest."
    with bar("cells", kept=lambda: kept) as shown:
        classes = build.build_classes(metals, out, work, jobs, shown.to)
    lines = [
        f"{metal}: {built.kept} cells kept, {built.dropped} left out"
        for metal, built in classes.items()
    ]
    data = {metal: asdict(built) for metal, built in classes.items()}
    show({"classes": data} | warnings, lines, as_json)


@app.command("build-known")
def build_known(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            parser=path_of,
            help="Published ternary hydrides, each with its id: pymatgen JSON, extended XYZ, ...",
        ),
    ],
    source: Annotated[str, typer.Option(help="Who published them.")] = "Materials Project",
    licence: Annotated[str, typer.Option(help="Under which licence.")] = "CC BY 4.0",
    jobs: Annotated[int, typer.Option(help="Processes that relax at once.")] = 1,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.extxyz",
            parser=path_of,
            help="The file to write; by default that of the built-in known ternaries.",
        ),
    ] = None,
    work: Annotated[
        Path,
        typer.Option(
            metavar="FILE.jsonl",
            parser=path_of,
            help="Finished cells are kept here, so that a stopped build goes on.",
        ),
    ] = Path("build/known-ternaries.jsonl"),
    as_json: Json = False,
) -> None:
    """Relax known ternary hydrides with CHGNet and write them as the built-in ones."""
    from crystalgan.studies import builtin_ternaries as build

    kept = "finished cells are kept; the same command goes on with the rest."
    with bar("cells", kept=lambda: kept) as shown:
        built = build.build_ternaries(file, out, work, jobs, source, licence, shown.to)
    lines = [f"{built.kept} known ternaries kept, {len(built.dropped)} left out"]
    lines += [f"{name}: {reason}" for name, reason in built.dropped.items()]
    show(asdict(built), lines, as_json)
