"""Making the built-in known ternaries: published structures, relaxed with CHGNet.

They are facts with their ids, source and licence; `assets/known-ternaries.extxyz` holds them. Work
is written cell by cell, so a build that is stopped goes on where it was.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from crystalgan.crystal.canonical import space_group
from crystalgan.data.known import builtin_elements, read_known
from crystalgan.data.known_ternaries import SHARED, SYMPREC, ternaries_file
from crystalgan.errors import InputError
from crystalgan.jobs import Pool, at_least_one
from crystalgan.storage import saying
from crystalgan.studies.builtin import (
    ANOTHER_WORK,
    FINE_FMAX,
    chgnet,
    finished_records,
    recorded,
)
from crystalgan.studies.builtin_cells import Record, image_of, write_frames

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ase import Atoms
    from pymatgen.core import Structure

SOURCE, LICENCE = "Materials Project", "CC BY 4.0"
MOST_STEPS = 1000  # some cells of many atoms lie in a flat valley


@dataclass(frozen=True)
class BuiltTernaries:
    """How many known ternaries were written, and those that were left out with the reason."""

    kept: int
    dropped: dict[str, str]  # by id


def build_ternaries(
    file: Path | str,
    out: Path | None = None,
    work: Path = Path("build/known-ternaries.jsonl"),
    jobs: int = 1,
    source: str = SOURCE,
    licence: str = LICENCE,
    progress: Callable[[int, int, str], None] | None = None,
) -> BuiltTernaries:
    """Relax the known ternary hydrides of a file and write them to `out` (the built-in file).

    Each needs an id (`material_id` or `id`), and elements that are built in. Finished cells are
    appended to `work` and not computed again. `progress(done, total, what)` is called after each.
    Raises InputError for a file without any, or one whose cells have no ids.

    >>> build_ternaries("known_ternary_hydrides.json")  # doctest: +SKIP
    BuiltTernaries(kept=75, dropped={})
    """
    published = _published(file)
    at_least_one(jobs, "processes")
    with saying(work, ANOTHER_WORK, writing=True):
        work.parent.mkdir(parents=True, exist_ok=True)
    records = {record.prototype: record for record in finished_records(work)}
    left = {name: cell for name, cell in published.items() if name not in records}
    if left:
        with Pool(jobs) as pool:
            pending = [pool.submit(_relax, name, structure) for name, structure in left.items()]
            for _, record in pool.completed(pending):
                with saying(work, ANOTHER_WORK, writing=True), work.open("a") as lines:
                    lines.write(json.dumps(record.as_dict()) + "\n")
                records[record.prototype] = record
                if progress:
                    done = sum(name in records for name in published)
                    outcome = record.dropped or f"{record.energy_per_atom:.4f} eV/atom"
                    progress(done, len(published), f"{record.prototype}: {outcome}")
    kept = [name for name in published if not records[name].dropped]
    energies = {s: cell.info["energy_per_atom"] for s, cell in builtin_elements().items()}
    about = {"source": source, "licence": licence}
    frames = [_frame(records[name], published[name], energies, about) for name in kept]
    write_frames(out or ternaries_file(), frames)
    dropped = {name: records[name].dropped for name in published if records[name].dropped}
    return BuiltTernaries(len(kept), dropped)


def _published(file: Path | str) -> dict[str, Structure]:
    """Id -> primitive cell of each structure of H and two metals with built-in elements."""
    elements = set(builtin_elements())

    def wanted(structure: Structure) -> bool:
        symbols = set(structure.symbol_set)
        return len(symbols) == 3 and SHARED in symbols and symbols <= elements

    known = read_known(file, wanted, "known ternary hydrides")
    known.check("ternary hydride of built-in elements", "one")
    found: dict[str, Structure] = {}
    for cell in known.cells:
        name = str(cell.info.get("material_id") or cell.info.get("id") or "")
        if not name or name in found:
            raise InputError(f"{cell.where}: {name or 'no id'}; each known ternary needs its own.")
        found[name] = cell.structure.get_primitive_structure()
    return found


def _relax(name: str, structure: Structure) -> Record:
    """Relax a published cell to the forces of the built-in binaries; it has to stay what it is."""
    from pymatgen.analysis.structure_matcher import StructureMatcher

    from crystalgan.stability.relax import relax
    from crystalgan.stability.tasks import runaway

    hopeless, potential = partial(runaway, structure), chgnet()
    record = recorded(
        Record("-".join(_metals(structure)), name),
        lambda: relax(structure, potential, FINE_FMAX, MOST_STEPS, hopeless),
        potential,
        FINE_FMAX,
    )
    if not record.dropped and not StructureMatcher().fit(structure, record.cell):
        return replace(record, dropped="relaxed to another structure")
    return record


def _metals(structure: Structure) -> list[str]:
    """The two metals, the more electropositive first."""
    from pymatgen.core import Element

    return sorted(set(structure.symbol_set) - {SHARED}, key=lambda symbol: Element(symbol).X)


def _formula(structure: Structure) -> str:
    """The reduced formula as chemists write it, such as K2PtH6."""
    counts = structure.composition.get_reduced_composition_and_factor()[0]
    symbols = [*_metals(structure), SHARED]
    return "".join(s + (f"{counts[s]:g}" if counts[s] > 1 else "") for s in symbols)


def _frame(
    record: Record,
    published: Structure,
    energies: Mapping[str, float],
    about: Mapping[str, str],
) -> Atoms:
    """The relaxed cell as a frame of extended XYZ, with its numbers and where it is from."""
    atoms = image_of(record, energies)
    numbers = atoms.info
    del numbers["prototype"]
    atoms.info = {
        "id": record.prototype,
        "formula": _formula(published),
        **about,
        "published_spacegroup": space_group(published, SYMPREC)[0],
        **numbers,
        "spacegroup": space_group(record.cell, SYMPREC)[0],
    }
    return atoms
