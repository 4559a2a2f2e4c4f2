"""What a run's candidates are worth: each metric with its definition, and `measure` for all of them
at once.

Needs tensors only where `valid` is asked of fresh cells; a run that holds candidates is measured
from its database.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crystalgan.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from pymatgen.core import Structure
    from torch import Tensor

    from crystalgan.crystal.cells import Cells
    from crystalgan.crystal.rules import Rule
    from crystalgan.runs.folder import Run

CDVAE_DISTANCE, CDVAE_VOLUME = 0.5, 0.1  # Å, Å³
MOST_CELLS = 1000  # of a run, whose distances and volumes are compared with the parents'
NO_SYMMETRY, LAST_MONOCLINIC = 1, 15  # numbers of space groups


@dataclass(frozen=True)
class Metric:
    """What a number means: a short title, its unit, and how it is found."""

    title: str
    unit: str
    definition: str


METRICS = {
    "candidates": Metric("candidates", "", "Cells in the run's database; all shares are of these."),
    "ternary": Metric("all three elements", "%", "Holds the shared element and both metals."),
    "valid": Metric(
        "keep {0}", "%", "Every first-neighbour distance keeps the rule {0} of one's own table."
    ),
    "valid paper": Metric(
        "keep paper",
        "%",
        "H-H and metal-metal first neighbours within 1.8-3.0 Å (section IV.B); metal-hydrogen is"
        " not asked.",
    ),
    "valid learned": Metric(
        "keep learned",
        "%",
        "Every first-neighbour distance, metal-hydrogen included, within limits learned from the"
        " cells of both classes.",
    ),
    "valid cdvae": Metric(
        "keep CDVAE",
        "%",
        "No two atoms closer than 0.5 Å, periodic images included, and a volume of at least 0.1 Å³"
        " (Xie et al., ICLR 2022).",
    ),
    "raw": Metric(
        "keep, unrepaired",
        "%",
        "Kept the rule that the run was trained towards before gradient steps repaired it.",
    ),
    "unique": Metric(
        "unique",
        "%",
        "No earlier candidate of the run is the same cell for pymatgen's StructureMatcher.",
    ),
    "new": Metric(
        "new",
        "%",
        "Matches no built-in cell and no known structure that the run was compared with.",
    ),
    "good": Metric(
        "good",
        "%",
        "Holds all three elements, keeps the rule that the run was trained towards, is unique and"
        " new.",
    ),
    "symmetric": Metric(
        "above P1",
        "%",
        "Space group with a number above 1, found with 0.1 Å before any relaxation.",
    ),
    "high symmetry": Metric(
        "above no. 15",
        "%",
        "Space group with a number above 15: orthorhombic or higher, found with 0.1 Å before any"
        " relaxation.",
    ),
    "coverage": Metric(
        "parents used, {0}",
        "%",
        "Cells of the class {0} from which a valid and unique candidate comes.",
    ),
    "distance": Metric(
        "distances, {0}",
        "Å",
        "First Wasserstein distance between the first-neighbour distances {0} of the first 1,000"
        " candidates and of the classes' cells; 0: the same distribution.",
    ),
    "volume": Metric(
        "volumes",
        "Å³/atom",
        "First Wasserstein distance between the volumes per atom of the first 1,000 candidates and"
        " of both classes' cells.",
    ),
    "training": Metric(
        "training",
        "s",
        "Time of all steps; runs that were trained as one stack each show the time of the stack.",
    ),
    "making": Metric(
        "time for 1,000 good",
        "s",
        "Time to sample, repair, check and compare as many candidates as hold 1,000 good ones, on"
        " the machine that made them.",
    ),
}


def metric(name: str) -> Metric:
    """What the value that `measure` gives under this name means.

    >>> metric("distance H-Pd").title
    'distances, H-Pd'
    """
    if name in METRICS:
        return METRICS[name]
    kind, _, of = name.partition(" ")
    found = METRICS[kind]
    return Metric(found.title.format(of), found.unit, found.definition.format(of))


@dataclass(frozen=True, repr=False)
class Measured(Mapping[str, float | None]):
    """Every metric of a run's candidates by name, in the units that `metric` tells; None where
    there is nothing to measure it by.

    >>> Measured({"candidates": 40, "unique": 97.5})
    Measured(40 candidates, unique 97.5 %)
    """

    values_by_name: dict[str, float | None]

    def __getitem__(self, name: str) -> float | None:
        return self.values_by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_by_name)

    def __len__(self) -> int:
        return len(self.values_by_name)

    def __repr__(self) -> str:
        shares = ("unique", "new", "good", "symmetric")
        parts = [f"{name} {self[name]:.3g} %" for name in shares if self.get(name) is not None]
        parts = [f"{self['candidates']} candidates", *parts]
        return f"Measured({', '.join(parts)})"

    def _repr_html_(self) -> str:
        from html import escape

        rows = (
            f"<tr title='{escape(metric(name).definition, quote=True)}'>"
            f"<td>{escape(metric(name).title)}</td>"
            f"<td style='text-align:right'>{'-' if value is None else f'{value:.4g}'}</td>"
            f"<td>{metric(name).unit}</td></tr>"
            for name, value in self.items()
        )
        return f"<table>{''.join(rows)}</table>"


def measure(run: Run) -> Measured:
    """Every metric of a run's candidates.

    InputError where the run holds none.

    >>> from crystalgan import open_run, shipped
    >>> measure(open_run(shipped()))["unique"]
    100.0
    """
    from crystalgan.runs.database import candidates_table, open_database, structure_of
    from crystalgan.runs.parents import class_structures
    from crystalgan.runs.table import passed_key

    table = candidates_table(run)
    # not those that were made from another candidate
    table = table if table.empty else table[table["seed"] >= 0]
    if table.empty:
        raise InputError(
            f"{run.folder}: holds no candidates yet; run `crystalgan generate {run.folder}` first."
        )
    shared, metal_a, metal_b = run.species
    own = table[passed_key(run.rule.name)].astype(bool) & table["ternary"].astype(bool)
    unique = table["unique"].astype(bool)
    new = table["new"].astype(bool) if "new" in table else None
    good = None if new is None else own & unique & new
    classes = class_structures(run)
    cells = [
        structure_of(row)
        for row in open_database(run).select(
            "seed>=0", limit=MOST_CELLS, sort="id", include_data=False
        )
    ]
    values = {
        "candidates": len(table),
        "ternary": share(table["ternary"]),
        **{f"valid {name}": share(table[passed_key(name)]) for name in run.rule_names()},
        "valid cdvae": share(keeps_cdvae(table)),
        "raw": share(table["raw_passed"]),
        "unique": share(unique),
        "new": None if new is None else share(new),
        "good": None if good is None else share(good),
        "symmetric": share(table["spacegroup"] > NO_SYMMETRY),
        "high symmetry": share(table["spacegroup"] > LAST_MONOCLINIC),
        f"coverage {metal_a}-{shared}": coverage(table["parent_a"][own & unique], len(classes[0])),
        f"coverage {metal_b}-{shared}": coverage(table["parent_b"][own & unique], len(classes[1])),
        **{
            f"distance {pair}": d
            for pair, d in distances_to_parents(cells, classes, shared).items()
        },
        "volume": wasserstein(volumes(cells), volumes([*classes[0], *classes[1]])),
        "training": training_seconds(run),
        "making": None if good is None else making_seconds(run, float(good.mean())),
    }
    return Measured(values)


def complete(cells: Cells) -> Tensor:
    """Whether each cell holds an atom of every element of its slots, `[cells]`."""
    return cells.mask.any(-1).all(-1)


def valid(cells: Cells, rule: Rule) -> Tensor:
    """Whether each cell (one leading axis) holds every element and keeps the rule, `[cells]`: what
    Table II counts."""
    from crystalgan.crystal.limits import limits_of
    from crystalgan.crystal.repair import satisfies

    return complete(cells) & satisfies(cells, limits_of(rule, cells.species, cells.lattice.dtype))


def share(values: pd.Series) -> float:
    """How many are true, %."""
    return 100 * float(values.astype(bool).mean())


def keeps_cdvae(table: pd.DataFrame) -> pd.Series:
    """Whether each candidate of a table keeps the rule of CDVAE, see `METRICS`.

    The shortest first neighbours of all kinds of pairs hold the shortest distance of a cell.
    """
    shortest = table[[name for name in table if name.startswith("shortest ")]].min(axis=1)
    apart = shortest.isna() | (shortest >= CDVAE_DISTANCE)
    return apart & (table["volume"] * table["atoms"] >= CDVAE_VOLUME)


def coverage(parents: Sequence[int], size: int) -> float:
    """The share of the rows of a class of this size that occur among `parents`, %; -1 there means
    no parent.

    >>> coverage([0, 0, 3, -1], 4)
    50.0
    """
    return 100 * len({int(row) for row in parents} - {-1}) / size


def volumes(structures: list[Structure]) -> list[float]:
    """Volume per atom of each, Å³."""
    return [structure.volume / len(structure) for structure in structures]


def distances_to_parents(
    cells: list[Structure], classes: tuple[list[Structure], list[Structure]], shared: str = "H"
) -> dict[str, float | None]:
    """`wasserstein` of first-neighbour distances (Å) by pair, for the pairs that the classes have.

    Shared-shared distances are compared with those of both classes together.
    """
    from crystalgan.crystal.describe import first_distances

    made, known = (
        first_distances(cells, shared),
        first_distances([*classes[0], *classes[1]], shared),
    )
    return {pair: wasserstein(made.get(pair, []), values) for pair, values in sorted(known.items())}


def wasserstein(a: Sequence[float], b: Sequence[float]) -> float | None:
    """First Wasserstein distance of two samples, in their unit; None where one is empty.

    >>> wasserstein([1.0, 3.0], [2.0, 2.0])
    1.0
    """
    from scipy.stats import wasserstein_distance

    return float(wasserstein_distance(a, b)) if len(a) and len(b) else None


def training_seconds(run: Run) -> float | None:
    """Wall time of all steps of a run, from the headers of its networks; None where one does not
    tell or nothing is trained."""
    from safetensors import SafetensorError, safe_open

    seconds, paths = 0.0, sorted(run.folder.glob("step?.safetensors"))
    for path in paths:
        try:
            with safe_open(path, "np") as file:
                header = file.metadata() or {}
            if "seconds" not in header:
                return None
            seconds += float(json.loads(header["seconds"]))
        except (SafetensorError, OSError, TypeError, ValueError) as error:
            raise InputError(
                f"{path}: damaged ({error}); delete this file and resume the run, or train the pair"
                " again."
            ) from None
    return seconds if paths else None


def making_seconds(run: Run, good: float) -> float | None:
    """Time for 1,000 good candidates where a share of `good` is good; None where there is none, or
    no time was noted."""
    from crystalgan.runs.database import open_database

    noted: dict[str, Any] = open_database(run).metadata.get("making", {})
    return 1000 * noted["seconds"] / noted["candidates"] / good if noted and good else None
