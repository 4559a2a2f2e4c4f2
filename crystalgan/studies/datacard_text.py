"""The data card as the tables of `assets/data-card.md`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crystalgan.data.prototypes import load_prototypes
from crystalgan.resources import resource
from crystalgan.storage import write_whole
from crystalgan.studies.datacard import CLOSE, WITHIN

if TYPE_CHECKING:
    from pathlib import Path

    from crystalgan.studies.datacard import Counts, DataCard, LatticeRow, StableRow

MARK = "<!-- made by `crystalgan data-card --write`; what stands below is replaced -->"


def _head(*columns: str) -> str:
    """The first two lines of a table."""
    return f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}"


def markdown(card: DataCard) -> str:
    """The card as tables."""
    fewest = min(card.classes, key=lambda row: row.kept)
    near = sum(row.found is not None and abs(row.worst_percent) <= WITHIN for row in card.lattices)
    out = [
        "## Counts\n",
        _counts_in_words(card),
        f"The smallest is {fewest.metal} with {fewest.kept}.\n",
        _head("metal", "kept", "collapsed into another cell", "left out for another reason"),
        *map(_counts_line, card.classes),
        "\n## Lattice constants against experiment\n",
        f"{near} of {len(card.lattices)} within {WITHIN:g} % on every edge.\n",
        _head("hydride", "type", "experiment, Å", "CHGNet, Å", "edges, %", "volume, %", "source"),
        *map(_lattice_line, card.lattices),
        "\n## The hydrides that are known\n",
        _known_in_words(card),
        _head(
            "metal",
            "lowest formation energy, eV/atom",
            "on the hull",
            "known hydrides, meV/atom above the hull",
        ),
        *map(_stable_line, card.stable),
    ]
    if card.dft:
        out += ["\n## Volumes against the authors' DFT cells\n"]
        out += [_head("class", "DFT cells", "matched", "mean, %", "mean absolute, %", "largest, %")]
        out += [
            f"| {d.metal}-H ({d.file}) | {d.cells} | {d.matched} | {d.mean_percent:+} |"
            f" {d.mean_absolute_percent} | {d.largest_percent:+} |"
            for d in card.dft
        ]
    return "\n".join(out) + "\n"


def _counts_in_words(card: DataCard) -> str:
    return (
        f"{card.cells} cells in {len(card.classes)} classes; {len(load_prototypes())} structure"
        " types were tried for each."
    )


def _known_in_words(card: DataCard) -> str:
    known = [k.above_hull_mev for row in card.stable for k in row.known]
    on, close = (sum(x is not None and x <= limit for x in known) for limit in (0.1, CLOSE))
    return (
        f"Of {len(known)} known hydrides {on} lie on the hull of their class and the elements,"
        f" {close} within {CLOSE:g} meV/atom.\n"
    )


def _counts_line(c: Counts) -> str:
    others = [f"{name} ({c.dropped[name]})" for name in c.names_of(collapsed=False)]
    collapsed = ", ".join(c.names_of(collapsed=True))
    return f"| {c.metal} | {c.kept} | {collapsed} | {'; '.join(others)} |"


def _lattice_line(row: LatticeRow) -> str:
    name = f"{row.metal} | {row.prototype} | {_lengths(row.experiment)}"
    if row.found is None:
        return f"| {name} | left out: {row.reason} | | | {row.source} |"
    found = _lengths(row.found) + (f" (as {row.found_as})" if row.found_as else "")
    edges = "another setting"
    if row.edges_percent:
        edges = ", ".join(f"{x:+.1f}" for x in dict.fromkeys(row.edges_percent))
    return f"| {name} | {found} | {edges} | {row.volume_percent:+.1f} | {row.source} |"


def _lengths(values: list[float]) -> str:
    return " / ".join(f"{x:.3f}" for x in dict.fromkeys(values))


def _stable_line(row: StableRow) -> str:
    known = []
    for k in row.known:
        forms = "" if k.forms == "ambient" else f" ({k.forms})"
        above = "left out" if k.above_hull_mev is None else f"{k.above_hull_mev:g}"
        known.append(f"{k.prototype}{forms}: {above}")
    return (
        f"| {row.metal} | {row.formation_energy_per_atom:+.3f} ({row.lowest}) |"
        f" {', '.join(row.on_hull) or 'none'} | {'; '.join(known) or 'none in these types'} |"
    )


def write(card: DataCard) -> Path:
    """Replace the lower part of `assets/data-card.md` by these tables."""
    path = resource("assets/data-card.md")
    upper = path.read_text(encoding="utf-8").split(MARK)[0]
    write_whole(path, f"{upper}{MARK}\n\n{markdown(card)}", "leave --write out")
    return path
