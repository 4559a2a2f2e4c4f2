"""Relaxed prototypes of one build: which are kept, and the files of a class that hold them."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from crystalgan.crystal.describe import shortest_distance
from crystalgan.data.prototypes import ELEMENTS, MIN_H_H, MIN_M_H, SAME_ENERGY, load_prototypes
from crystalgan.errors import InputError
from crystalgan.storage import saying, write_whole

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ase import Atoms
    from pymatgen.core import Structure

ANOTHER = "choose another folder with --out"


@dataclass(frozen=True)
class Record:
    """One prototype of one metal after its relaxation: its numbers, or why it was left out.

    A known ternary has both its metals as `metal`, such as Mg-Fe, and its id as `prototype`.
    `energy_per_atom` is in eV, `fmax` (the largest force left) in eV/Å. `dropped` is empty for a
    cell that is kept.
    """

    metal: str
    prototype: str
    structure: Structure | None = None
    energy_per_atom: float = 0.0
    fmax: float = 0.0
    steps: int = 0
    potential: str = ""
    version: str = ""
    spacegroup: int = 0
    dropped: str = ""

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Record:
        """The record of a line of a work file."""
        from pymatgen.core import Structure

        known = {field.name: data[field.name] for field in fields(cls) if field.name in data}
        if known.get("structure"):
            known["structure"] = Structure.from_dict(known["structure"])
        return cls(**known)

    def as_dict(self) -> dict[str, Any]:
        """The same for a line of a work file."""
        structure = None if self.structure is None else self.structure.as_dict()
        known = asdict(replace(self, structure=None)) | {"structure": structure}
        return {name: value for name, value in known.items() if value not in (None, "")}

    @property
    def cell(self) -> Structure:
        """The relaxed cell."""
        assert self.structure is not None
        return self.structure


def drop_unphysical(records: Sequence[Record]) -> list[Record]:
    """Mark relaxed cells whose atoms are closer than a hydride allows."""
    return [record if record.dropped else _checked(record) for record in records]


def _checked(record: Record) -> Record:
    for pair, element, limit in (("H-H", "H", MIN_H_H), ("M-H", record.metal, MIN_M_H)):
        distance = shortest_distance(record.cell, element, "H")
        if distance < limit:
            record = replace(record, dropped=f"{pair} {distance:.2f} Å, shorter than {limit} Å")
    return record


def drop_collapsed(records: Sequence[Record]) -> list[Record]:
    """Mark cells that relaxed into another cell of the class (StructureMatcher), by energy.

    The lower energy is kept or, where they are equal to 1 meV/atom, the higher symmetry, and of
    equal ones the type that has it by nature: a cubic cell and the tetragonal distortion that fell
    back into it are one cell, and its name is the cubic type's.
    """
    from pymatgen.analysis.structure_matcher import StructureMatcher

    matcher = StructureMatcher()
    own = {prototype.name: prototype.spacegroup for prototype in load_prototypes()}

    def symmetry(record: Record) -> tuple[int, bool]:
        return record.spacegroup, own.get(record.prototype) == record.spacegroup

    marked = sorted(records, key=lambda record: record.energy_per_atom)
    kept: list[int] = []  # places in `marked`
    for new, record in enumerate(marked):
        if record.dropped:
            continue
        same = next((k for k in kept if matcher.fit(record.cell, marked[k].cell)), None)
        if same is None:
            kept.append(new)
            continue
        better, loser = same, new
        close = record.energy_per_atom - marked[same].energy_per_atom < SAME_ENERGY
        if close and symmetry(record) > symmetry(marked[same]):
            better, loser = new, same
            kept[kept.index(same)] = new
        reason = f"collapsed into {marked[better].prototype}"
        marked[loser] = replace(marked[loser], dropped=reason)
    return marked


def write_class(
    metal: str, records: Sequence[Record], references: Mapping[str, float], folder: Path
) -> Path:
    """Write the kept cells as `METAL.extxyz`, and what was left out as `METAL.dropped.json`.

    `references` holds the energies of the elements, eV per atom, against which the formation
    energies are taken. The lowest energy comes first.
    """
    path = folder / f"{metal}.extxyz"
    write_frames(path, [image_of(record, references) for record in records if not record.dropped])
    dropped = {record.prototype: record.dropped for record in records if record.dropped}
    write_whole(folder / f"{metal}.dropped.json", json.dumps(dropped, indent=1) + "\n", ANOTHER)
    return path


def write_elements(phases: Mapping[str, Sequence[Record]], folder: Path) -> dict[str, float]:
    """Put the lowest phase of each element into `elements.extxyz`, beside those already there.

    Returns the energies of these elements, eV per atom. Raises InputError where no phase of an
    element converged.
    """
    from ase.io import read

    path = folder / ELEMENTS
    images = {str(atoms.symbols[0]): atoms for atoms in read(path, ":")} if path.exists() else {}
    energies = {}
    for symbol, records in phases.items():
        whole = [record for record in records if not record.dropped]
        if not whole:
            raise InputError(
                f"{symbol}: no structure of the element converged ({records[0].dropped}); remove"
                " its work file."
            )
        best = min(whole, key=lambda record: record.energy_per_atom)
        energies[symbol] = best.energy_per_atom
        images[symbol] = image_of(best, energies)
    write_frames(path, [images[symbol] for symbol in sorted(images)])
    return energies


def write_frames(path: Path, images: Sequence[Atoms]) -> None:
    """Replace a file of cells, which others may be reading, whole."""
    from ase.io import write

    text = io.StringIO()
    write(text, images, format="extxyz")
    with saying(path.parent, ANOTHER, writing=True):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text.getvalue(), ANOTHER)


def image_of(record: Record, references: Mapping[str, float]) -> Atoms:
    """The cell of a record as a frame of extended XYZ, with its numbers."""
    structure = record.cell.get_sorted_structure()
    of_elements = sum(references[site.specie.symbol] for site in structure) / len(structure)
    atoms = structure.to_ase_atoms()
    keys = ("prototype", "spacegroup", "energy_per_atom", "fmax", "steps", "potential", "version")
    atoms.info = {key: getattr(record, key) for key in keys} | {
        "formation_energy_per_atom": record.energy_per_atom - of_elements,
        "volume": structure.volume,
    }
    return atoms
