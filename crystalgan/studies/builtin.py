"""Making the built-in classes: prototypes of metal hydrides, relaxed with a machine-learned
potential.

`assets/prototypes.json` holds structure types as facts, `assets/elements.json` those of the
elements; for each metal every type is built, its volume scanned, cell and positions relaxed, and
the outcome kept or left out with a reason. Work is written cell by cell, so a build that is stopped
goes on where it was.
"""

from __future__ import annotations

import io
import json
import math
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crystalgan.crystal.canonical import space_group
from crystalgan.crystal.describe import shortest_distance
from crystalgan.data.prototypes import (
    ELEMENTS,
    MAX_ATOMS_PER_KIND,
    SAME_ENERGY,
    Prototype,
    element_types,
    load_prototypes,
)
from crystalgan.errors import InputError
from crystalgan.jobs import at_least_one, spawning
from crystalgan.resources import resource
from crystalgan.storage import saying, write_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pymatgen.core import Structure

    from crystalgan.potentials.registry import Potential
    from crystalgan.stability.relax import Relaxed

ANOTHER = "choose another folder with --out"
# Å; shorter is on the way to molecular hydrogen, or hydrogen inside a metal atom
MIN_H_H, MIN_M_H = 1.5, 1.3
MOLECULE = 0.9  # Å
SCAN = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.15, 1.3, 1.5, 1.75, 2.0)
FMAX, MAX_STEPS = 0.03, 150  # eV/Å, steps
# of a cell that is kept; with 0.03 the volume of a soft one is good to 2 % only
FINE_FMAX, FINE_STEPS = 0.01, 25


def relax_prototype(prototype: Prototype, metal: str, potential: Potential) -> dict[str, Any]:
    """One cell of a class, as a JSON record: kept with its numbers, or left out with its reason."""
    from crystalgan.stability.relax import HopelessError, relax, scan_volume

    record: dict[str, Any] = {"metal": metal, "prototype": prototype.name}
    structure = prototype.structure(metal)
    largest = int(max(structure.composition.values()))
    if prototype.is_hydride and largest > MAX_ATOMS_PER_KIND:
        return record | {"dropped": f"{largest} atoms of one kind, more than {MAX_ATOMS_PER_KIND}"}
    try:
        hopeless = _molecular if prototype.is_hydride else None
        result = finer(
            relax(scan_volume(structure, potential, SCAN), potential, FMAX, MAX_STEPS, hopeless),
            potential,
        )
    except HopelessError as error:
        return record | {"dropped": str(error)}
    except (
        ValueError,
        RuntimeError,
        ArithmeticError,
    ) as error:  # a potential may fail on one cell and not on the next
        return record | {"dropped": f"{type(error).__name__}: {error}"}
    cell = result.structure
    record |= {
        "structure": cell.as_dict(),
        "energy_per_atom": result.energy / len(cell),  # eV
        "fmax": result.force,  # eV/Å
        "steps": result.steps,
        "potential": potential.name,
        "version": potential.version,
        "spacegroup": space_group(cell, 0.01)[0],
    }
    if result.force > (FINE_FMAX if prototype.is_hydride else FMAX):
        return record | {
            "dropped": f"not converged: {result.force:.3f} eV/Å left after {result.steps} steps"
        }
    return record


def finer(result: Relaxed, potential: Potential) -> Relaxed:
    """The same cell relaxed on to smaller forces, if few steps do it: a cell that needs many is on
    its way to another."""
    from crystalgan.stability.relax import relax

    if not result.converged or result.force <= FINE_FMAX:
        return result
    more = relax(result.structure, potential, FINE_FMAX, FINE_STEPS, second_try=False)
    return (
        replace(more, steps=result.steps + more.steps)
        if more.converged and more.energy <= result.energy
        else result
    )


def drop_unphysical(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mark relaxed cells whose atoms are closer than a hydride allows."""
    from pymatgen.core import Structure

    marked = [dict(record) for record in records]
    for record in marked:
        if "dropped" not in record:
            structure = Structure.from_dict(record["structure"])
            for pair, limit in (("H-H", MIN_H_H), ("M-H", MIN_M_H)):
                others = ["H"] if pair == "H-H" else set(structure.symbol_set) - {"H"}
                shortest = min(
                    (shortest_distance(structure, x, "H") for x in others), default=math.inf
                )
                if shortest < limit:
                    record["dropped"] = f"{pair} {shortest:.2f} Å, shorter than {limit} Å"
    return marked


def _molecular(structure: Structure) -> str | None:
    """Hydrogen that has become a molecule on the way does not come back; its relaxation would only
    take long."""
    distance = shortest_distance(structure, "H", "H")
    return f"H-H {distance:.2f} Å, shorter than {MIN_H_H} Å" if distance < MOLECULE else None


def drop_collapsed(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mark cells that relaxed into another cell of the class (pymatgen's StructureMatcher), lowest
    energy first.

    The lower energy is kept or, where they are equal to 1 meV/atom, the higher symmetry, and of
    equal ones the type that has it by nature: a cubic cell and the tetragonal distortion that fell
    back into it are one cell, and its name is the cubic type's.
    """
    from pymatgen.analysis.structure_matcher import StructureMatcher
    from pymatgen.core import Structure

    matcher = StructureMatcher()
    marked = [
        dict(record) for record in sorted(records, key=lambda r: r.get("energy_per_atom", 0.0))
    ]
    kept: list[tuple[Structure, dict[str, Any]]] = []
    own = {prototype.name: prototype.spacegroup for prototype in load_prototypes()}

    def symmetry(record: dict[str, Any]) -> tuple[int, bool]:
        return record["spacegroup"], own.get(record["prototype"]) == record["spacegroup"]

    for record in marked:
        if "dropped" in record:
            continue
        structure = Structure.from_dict(record["structure"])
        i = next((i for i, (other, _) in enumerate(kept) if matcher.fit(structure, other)), None)
        if i is None:
            kept.append((structure, record))
            continue
        better = kept[i][1]
        close = record["energy_per_atom"] - better["energy_per_atom"] < SAME_ENERGY
        if close and symmetry(record) > symmetry(better):
            # the loser is marked below
            kept[i], record, better = (structure, record), better, record  # noqa: PLW2901
        record["dropped"] = f"collapsed into {better['prototype']}"
    return marked


def write_class(
    metal: str, records: list[dict[str, Any]], references: dict[str, float], folder: Path
) -> Path:
    """Write the kept cells as `METAL.extxyz`, lowest energy first, and what was left out as
    `METAL.dropped.json`.

    `references` holds the energies of the elements, eV per atom, against which the formation
    energies are taken.
    """
    images = [_image(record, references) for record in records if "dropped" not in record]
    path = folder / f"{metal}.extxyz"
    _write(path, images)
    dropped = {record["prototype"]: record["dropped"] for record in records if "dropped" in record}
    write_whole(folder / f"{metal}.dropped.json", json.dumps(dropped, indent=1) + "\n", ANOTHER)
    return path


def _write(path: Path, images: list[Any]) -> None:
    """Replace a file of cells, which others may be reading, whole."""
    from ase.io import write

    text = io.StringIO()
    write(text, images, format="extxyz")
    with saying(path.parent, ANOTHER, writing=True):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text.getvalue(), ANOTHER)


# ASE has no types
def _image(record: dict[str, Any], references: dict[str, float]) -> Any:
    from pymatgen.core import Structure

    structure = Structure.from_dict(record["structure"]).get_sorted_structure()
    energy = record["energy_per_atom"] - sum(
        references[site.specie.symbol] for site in structure
    ) / len(structure)
    atoms = structure.to_ase_atoms()
    keys = ("prototype", "spacegroup", "energy_per_atom", "fmax", "steps", "potential", "version")
    atoms.info = {key: record[key] for key in keys} | {
        "formation_energy_per_atom": energy,
        "volume": structure.volume,
    }
    return atoms


def write_elements(phases: dict[str, list[dict[str, Any]]], folder: Path) -> dict[str, float]:
    """Put the lowest phase of each element into `elements.extxyz`, beside those already there.

    Returns the energies of these elements, eV per atom. Raises InputError where no phase of an
    element converged.
    """
    from ase.io import read

    path = folder / ELEMENTS
    images = {str(atoms.symbols[0]): atoms for atoms in read(path, ":")} if path.exists() else {}
    energies = {}
    for symbol, records in phases.items():
        whole = [record for record in records if "dropped" not in record]
        if not whole:
            raise InputError(
                f"{symbol}: no structure of the element converged ({records[0]['dropped']}); remove"
                " its work file."
            )
        best = min(whole, key=lambda record: record["energy_per_atom"])
        energies[symbol] = best["energy_per_atom"]
        images[symbol] = _image(best, energies)
    _write(path, [images[symbol] for symbol in sorted(images)])
    return energies


def build_classes(
    metals: Sequence[str],
    out: Path | None = None,
    work: Path = Path("build/classes"),
    jobs: int = 1,
    progress: Callable[[int, int, str], None] | None = None,
) -> dict[str, dict[str, int]]:
    """Build the classes of these metals; returns the counts `{"kept", "dropped"}` for each.

    Finished cells are appended to `work/METAL.jsonl` and not computed again. `progress(done, total,
    what)` is called after each.
    """
    from pymatgen.core import Element

    unknown = [metal for metal in metals if not Element.is_valid_symbol(metal)]
    if unknown:
        raise InputError(
            f"{unknown[0]!r} is not a chemical element; give metals by symbol, such as Pd Ni."
        )
    at_least_one(jobs, "processes")
    with saying(work, "choose another with --work", writing=True):
        work.mkdir(parents=True, exist_ok=True)
    folder = out or resource("assets/classes")
    hydrides = load_prototypes()
    types = {
        symbol: element_types(symbol) + (hydrides if symbol != "H" else [])
        for symbol in ("H", *metals)
    }
    records = {symbol: _finished(work / f"{symbol}.jsonl") for symbol in types}
    done = {(symbol, record["prototype"]) for symbol in types for record in records[symbol]}
    tasks = [(p, symbol) for symbol in types for p in types[symbol] if (symbol, p.name) not in done]
    total = sum(map(len, types.values()))
    waiting = {symbol: sum(s == symbol for _, s in tasks) for symbol in types}
    counts: dict[str, dict[str, int]] = {}

    def finish() -> None:
        for metal in [m for m in metals if m not in counts and not waiting[m] and not waiting["H"]]:
            phases = {
                s: [r for r in records[s] if r["prototype"] in {p.name for p in element_types(s)}]
                for s in ("H", metal)
            }
            references = write_elements(phases, folder)
            marked = drop_collapsed(
                drop_unphysical(
                    [r for r in records[metal] if r["prototype"] in {p.name for p in hydrides}]
                )
            )
            write_class(metal, marked, references, folder)
            dropped = sum("dropped" in record for record in marked)
            counts[metal] = {"kept": len(marked) - dropped, "dropped": dropped}

    finish()
    if tasks:
        with ProcessPoolExecutor(jobs, spawning(), _start_worker) as pool:
            futures = [pool.submit(_work, prototype, symbol) for prototype, symbol in tasks]
            for future in as_completed(futures):
                record = future.result()
                symbol = record["metal"]
                lines = work / f"{symbol}.jsonl"
                with (
                    saying(lines, "choose another with --work", writing=True),
                    lines.open("a") as file,
                ):
                    file.write(json.dumps(record) + "\n")
                records[symbol].append(record)
                waiting[symbol] -= 1
                if progress:
                    left = sum(waiting.values())
                    progress(
                        total - left,
                        total,
                        f"{symbol} {record['prototype']}: {record.get('dropped', 'kept')}",
                    )
                finish()
    return {metal: counts[metal] for metal in metals}


def _finished(path: Path) -> list[dict[str, Any]]:
    """Records of an earlier build; a last line cut by a kill is dropped from the file, so that the
    next one starts clean."""
    if not path.exists():
        return []
    text = path.read_text()
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        write_whole(path, whole, "choose another with --work")
    return [json.loads(line) for line in whole.splitlines()]


_potential: Potential | None = None


def _start_worker() -> None:
    import warnings

    import torch

    from crystalgan.potentials.registry import load_chgnet

    # the model is loaded once for each worker process, not for each cell
    global _potential  # noqa: PLW0603
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    _potential = load_chgnet()


def _work(prototype: Prototype, metal: str) -> dict[str, Any]:
    assert _potential is not None
    return relax_prototype(prototype, metal, _potential)
