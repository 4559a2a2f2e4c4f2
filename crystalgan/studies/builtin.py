"""Making the built-in classes: prototypes of metal hydrides, relaxed with CHGNet.

`assets/prototypes.json` holds structure types as facts, `assets/elements.json` those of the
elements; for each metal every type is built, its volume scanned, cell and positions relaxed, and
the outcome kept or left out with a reason. Work is written cell by cell, so a build that is stopped
goes on where it was.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from crystalgan.crystal.canonical import space_group
from crystalgan.crystal.describe import shortest_distance
from crystalgan.data.prototypes import (
    MAX_ATOMS_PER_KIND,
    MIN_H_H,
    Prototype,
    element_types,
    load_prototypes,
)
from crystalgan.errors import InputError
from crystalgan.jobs import Pool, at_least_one
from crystalgan.resources import resource
from crystalgan.storage import saying, write_whole
from crystalgan.studies.builtin_cells import (
    Record,
    drop_collapsed,
    drop_unphysical,
    write_class,
    write_elements,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pymatgen.core import Structure

    from crystalgan.potentials.registry import Potential
    from crystalgan.stability.relax import Relaxed

ANOTHER_WORK = "choose another with --work"
MOLECULE = 0.9  # Å
SCAN = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.15, 1.3, 1.5, 1.75, 2.0)
FMAX, MAX_STEPS = 0.03, 150  # eV/Å, steps
# of a cell that is kept; with 0.03 the volume of a soft one is good to 2 % only
FINE_FMAX, FINE_STEPS = 0.01, 25


@dataclass(frozen=True)
class Built:
    """How many cells of a built class are kept, and how many prototypes were left out."""

    kept: int
    dropped: int


def relax_prototype(prototype: Prototype, metal: str, potential: Potential) -> Record:
    """Relax one structure type of a metal: kept with its numbers, or left out with its reason."""
    from crystalgan.stability.relax import relax, scan_volume

    record = Record(metal, prototype.name)
    structure = prototype.structure(metal)
    largest = int(max(structure.composition.values()))
    if prototype.is_hydride and largest > MAX_ATOMS_PER_KIND:
        reason = f"{largest} atoms of one kind, more than {MAX_ATOMS_PER_KIND}"
        return replace(record, dropped=reason)
    hopeless = _molecular if prototype.is_hydride else None

    def relaxed() -> Relaxed:
        scanned = scan_volume(structure, potential, SCAN)
        return finer(relax(scanned, potential, FMAX, MAX_STEPS, hopeless), potential)

    return recorded(record, relaxed, potential, FINE_FMAX if prototype.is_hydride else FMAX)


def recorded(
    record: Record, relaxed: Callable[[], Relaxed], potential: Potential, fmax: float
) -> Record:
    """The record with what a relaxation gives, or with the reason why nothing is kept.

    A force above `fmax` (eV/Å) that is left is such a reason.
    """
    from crystalgan.stability.relax import HopelessError

    try:
        result = relaxed()
    except HopelessError as error:
        return replace(record, dropped=str(error))
    except (ValueError, RuntimeError, ArithmeticError) as error:
        # a potential may fail on one cell and not on the next
        return replace(record, dropped=f"{type(error).__name__}: {error}")
    unfinished = f"not converged: {result.force:.3f} eV/Å left after {result.steps} steps"
    return replace(
        record,
        structure=result.structure,
        energy_per_atom=result.energy / len(result.structure),
        fmax=result.force,
        steps=result.steps,
        potential=potential.name,
        version=potential.version,
        spacegroup=space_group(result.structure, 0.01)[0],
        dropped=unfinished if result.force > fmax else "",
    )


def finer(result: Relaxed, potential: Potential) -> Relaxed:
    """The same cell relaxed on to smaller forces, if few steps do it.

    A cell that needs many is on its way to another.
    """
    from crystalgan.stability.relax import relax

    if not result.converged or result.force <= FINE_FMAX:
        return result
    more = relax(result.structure, potential, FINE_FMAX, FINE_STEPS, second_try=False)
    if more.converged and more.energy <= result.energy:
        return replace(more, steps=result.steps + more.steps)
    return result


def _molecular(structure: Structure) -> str | None:
    """Why a relaxation on which hydrogen became a molecule is given up: it does not come back."""
    distance = shortest_distance(structure, "H", "H")
    return f"H-H {distance:.2f} Å, shorter than {MIN_H_H} Å" if distance < MOLECULE else None


def build_classes(
    metals: Sequence[str],
    out: Path | None = None,
    work: Path = Path("build/classes"),
    jobs: int = 1,
    progress: Callable[[int, int, str], None] | None = None,
) -> dict[str, Built]:
    """Build the classes of these metals in the folder `out` (the built-in ones unless given).

    Finished cells are appended to `work/METAL.jsonl` and not computed again. `progress(done, total,
    what)` is called after each. Raises InputError for what is no element.
    """
    from pymatgen.core import Element

    unknown = [metal for metal in metals if not Element.is_valid_symbol(metal)]
    if unknown:
        raise InputError(
            f"{unknown[0]!r} is not a chemical element; give metals by symbol, such as Pd Ni."
        )
    at_least_one(jobs, "processes")
    with saying(work, ANOTHER_WORK, writing=True):
        work.mkdir(parents=True, exist_ok=True)
    build = _Build(metals, out or resource("assets/classes"), work)
    build.finish()
    if build.tasks:
        with Pool(jobs) as pool:
            pending = [pool.submit(_relax, prototype, symbol) for prototype, symbol in build.tasks]
            for _, record in pool.completed(pending):
                build.add(record)
                if progress:
                    what = f"{record.metal} {record.prototype}: {record.dropped or 'kept'}"
                    progress(build.done, build.total, what)
                build.finish()
    return {metal: build.built[metal] for metal in metals}


class _Build:
    """What is relaxed of some classes, and the files of those that are whole."""

    def __init__(self, metals: Sequence[str], folder: Path, work: Path) -> None:
        self.metals, self.folder, self.work = metals, folder, work
        self.built: dict[str, Built] = {}
        hydrides = load_prototypes()
        self.types = {
            symbol: element_types(symbol) + (hydrides if symbol != "H" else [])
            for symbol in ("H", *metals)
        }
        self.records = {symbol: finished_records(work / f"{symbol}.jsonl") for symbol in self.types}
        done = {(symbol, r.prototype) for symbol in self.types for r in self.records[symbol]}
        self.tasks = [
            (prototype, symbol)
            for symbol, types in self.types.items()
            for prototype in types
            if (symbol, prototype.name) not in done
        ]
        self.total = sum(map(len, self.types.values()))
        self.waiting = {symbol: sum(s == symbol for _, s in self.tasks) for symbol in self.types}

    @property
    def done(self) -> int:
        """How many prototypes are relaxed."""
        return self.total - sum(self.waiting.values())

    def add(self, record: Record) -> None:
        """Keep a record, in its work file first."""
        path = self.work / f"{record.metal}.jsonl"
        with saying(path, ANOTHER_WORK, writing=True), path.open("a") as file:
            file.write(json.dumps(record.as_dict()) + "\n")
        self.records[record.metal].append(record)
        self.waiting[record.metal] -= 1

    def finish(self) -> None:
        """Write the classes that have become whole."""
        for metal in self.metals:
            if metal in self.built or self.waiting[metal] or self.waiting["H"]:
                continue
            phases = {symbol: self._of_kind(symbol, hydride=False) for symbol in ("H", metal)}
            references = write_elements(phases, self.folder)
            marked = drop_collapsed(drop_unphysical(self._of_kind(metal, hydride=True)))
            write_class(metal, marked, references, self.folder)
            dropped = sum(bool(record.dropped) for record in marked)
            self.built[metal] = Built(len(marked) - dropped, dropped)

    def _of_kind(self, symbol: str, hydride: bool) -> list[Record]:
        """The records of the hydrides of an element, or of the element itself."""
        names = {p.name for p in self.types[symbol] if p.is_hydride == hydride}
        return [record for record in self.records[symbol] if record.prototype in names]


def finished_records(path: Path) -> list[Record]:
    """Records of an earlier build.

    A last line cut by a kill is dropped from the file, so that the next one starts clean.
    """
    if not path.exists():
        return []
    text = path.read_text()
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        write_whole(path, whole, ANOTHER_WORK)
    return [Record.of(json.loads(line)) for line in whole.splitlines()]


@cache
def chgnet() -> Potential:
    """CHGNet, loaded once for each process that relaxes."""
    from crystalgan.potentials.registry import load_chgnet

    return load_chgnet()


def _relax(prototype: Prototype, metal: str) -> Record:
    return relax_prototype(prototype, metal, chgnet())
