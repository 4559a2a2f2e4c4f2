"""Making the built-in classes: prototypes of metal hydrides, relaxed with a machine-learned potential.

`assets/prototypes.json` holds structure types as facts; for each metal every type is built, its volume scanned, cell and
positions relaxed, and the outcome kept or left out with a reason. Work is written cell by cell, so a build that is stopped goes
on where it was.
"""

from __future__ import annotations

import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crystalgan import InputError
from crystalgan.cells import primitive, space_group

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pymatgen.core import Structure

    from crystalgan.relax import Potential

ASSETS = Path(__file__).resolve().parent.parent / "assets"
MAX_ATOMS_PER_KIND = 18  # larger types would more than double the tensors of every class for one cell
MIN_H_H, MIN_M_H = 1.0, 1.3  # Å; shorter is molecular hydrogen, or hydrogen inside a metal atom
SCAN = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.15, 1.3, 1.5, 1.75, 2.0)
TASKS_PER_WORKER = 32  # a worker's memory grows with every cell that it relaxes; a new one starts small
FMAX, MAX_STEPS = 0.03, 200  # eV/Å, steps


@dataclass(frozen=True)
class Prototype:
    """A structure type: space group, lattice ratios and angles (degrees), occupied sites (M: metal, H: shared element)."""

    name: str
    spacegroup: int
    lattice: dict[str, float]
    sites: list[tuple[str, list[float]]]

    def structure(self, metal: str, shared: str = "H") -> Structure:
        """The primitive cell at a guessed volume: the metal's own atomic volume plus 2.5 Å³ for each shared atom."""
        from pymatgen.core import Element, Lattice, Structure

        p = self.lattice
        lattice = Lattice.from_parameters(1, p["b_over_a"], p["c_over_a"], p["alpha"], p["beta"], p["gamma"]).scale(100)
        species = [metal if kind == "M" else shared for kind, _ in self.sites]
        structure = Structure.from_spacegroup(self.spacegroup, lattice, species, [x for _, x in self.sites])
        metals = sum(site.specie.symbol == metal for site in structure)
        atomic_volume = float(Element(metal).molar_volume) / 0.602214  # cm³/mol -> Å³
        structure.scale_lattice(metals * atomic_volume + 2.5 * (len(structure) - metals))
        return primitive(structure)


def load_prototypes(path: Path | None = None) -> list[Prototype]:
    """The structure types of `assets/prototypes.json`."""
    table = json.loads((path or ASSETS / "prototypes.json").read_text())
    return [Prototype(p["name"], p["spacegroup"], p["lattice"], [(kind, x) for kind, x in p["sites"]]) for p in table]


def relax_prototype(prototype: Prototype, metal: str, potential: Potential) -> dict[str, Any]:
    """One cell of a class, as a JSON record: kept with its numbers, or left out with its reason."""
    from crystalgan.relax import relax, scan_volume

    record: dict[str, Any] = {"metal": metal, "prototype": prototype.name}
    structure = prototype.structure(metal)
    largest = int(max(structure.composition.values()))
    if largest > MAX_ATOMS_PER_KIND:
        return record | {"dropped": f"{largest} atoms of one kind, more than {MAX_ATOMS_PER_KIND}"}
    try:
        result = relax(scan_volume(structure, potential, SCAN), potential, FMAX, MAX_STEPS)
    except (ValueError, RuntimeError, ArithmeticError) as error:  # a potential may fail on one cell and not on the next
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
    if not result.converged:
        return record | {"dropped": f"not converged: {result.force:.3f} eV/Å left after {result.steps} steps"}
    for pair, limit in (("H-H", MIN_H_H), ("M-H", MIN_M_H)):
        shortest = _shortest(cell, pair)
        if shortest < limit:
            return record | {"dropped": f"{pair} {shortest:.2f} Å, shorter than {limit} Å"}
    return record


def _shortest(structure: Structure, pair: str) -> float:
    centers, others, _, distances = structure.get_neighbor_list(3.0)
    hydrogen = [site.specie.symbol == "H" for site in structure]
    return min(
        (float(d) for i, j, d in zip(centers, others, distances, strict=True) if hydrogen[j] and hydrogen[i] == (pair == "H-H")),
        default=float("inf"),
    )


def drop_collapsed(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mark cells that relaxed into another cell of the class (pymatgen's StructureMatcher); the lowest energy is kept."""
    from pymatgen.analysis.structure_matcher import StructureMatcher
    from pymatgen.core import Structure

    matcher = StructureMatcher()
    kept: list[tuple[Structure, str]] = []
    marked = []
    for record in sorted(records, key=lambda r: r.get("energy_per_atom", 0.0)):
        marked.append(record)
        if "dropped" not in record:
            structure = Structure.from_dict(record["structure"])
            twin = next((name for other, name in kept if matcher.fit(structure, other)), None)
            if twin is None:
                kept.append((structure, record["prototype"]))
            else:
                marked[-1] = record | {"dropped": f"collapsed into {twin}"}
    return marked


def write_class(metal: str, records: list[dict[str, Any]], folder: Path) -> Path:
    """Write the kept cells as `METAL.extxyz`, lowest energy first, and what was left out as `METAL.dropped.json`."""
    from ase.io import write
    from pymatgen.core import Structure

    keys = ("prototype", "spacegroup", "energy_per_atom", "fmax", "steps", "potential", "version")
    images = []
    for record in records:
        if "dropped" in record:
            continue
        atoms = Structure.from_dict(record["structure"]).get_sorted_structure().to_ase_atoms()
        atoms.info = {key: record[key] for key in keys}
        images.append(atoms)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{metal}.extxyz"
    write(path, images, format="extxyz")
    dropped = {record["prototype"]: record["dropped"] for record in records if "dropped" in record}
    (folder / f"{metal}.dropped.json").write_text(json.dumps(dropped, indent=1) + "\n")
    return path


def build_classes(
    metals: Sequence[str],
    out: Path | None = None,
    work: Path = Path("build/classes"),
    jobs: int = 1,
    progress: Callable[[int, int, str], None] | None = None,
) -> dict[str, dict[str, int]]:
    """Build the classes of these metals; returns the counts `{"kept", "dropped"}` for each.

    Finished cells are appended to `work/METAL.jsonl` and not computed again. `progress(done, total, what)` is called after each.
    """
    from pymatgen.core import Element

    unknown = [metal for metal in metals if not Element.is_valid_symbol(metal)]
    if unknown:
        raise InputError(f"{unknown[0]!r} is not a chemical element; give metals by symbol, such as Pd Ni.")
    work.mkdir(parents=True, exist_ok=True)
    prototypes = load_prototypes()
    records = {metal: _finished(work / f"{metal}.jsonl") for metal in metals}
    done = {(metal, record["prototype"]) for metal in metals for record in records[metal]}
    tasks = [(p, metal) for metal in metals for p in prototypes if (metal, p.name) not in done]
    total = len(metals) * len(prototypes)
    waiting = {metal: sum(m == metal for _, m in tasks) for metal in metals}
    counts = {}

    def finish(metal: str) -> None:
        marked = drop_collapsed(records[metal])
        write_class(metal, marked, out or ASSETS / "classes")
        dropped = sum("dropped" in record for record in marked)
        counts[metal] = {"kept": len(marked) - dropped, "dropped": dropped}

    for metal in [m for m in metals if not waiting[m]]:
        finish(metal)
    if tasks:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(jobs, context, _start_worker, max_tasks_per_child=TASKS_PER_WORKER) as pool:
            futures = [pool.submit(_work, prototype, metal) for prototype, metal in tasks]
            for future in as_completed(futures):
                record = future.result()
                metal = record["metal"]
                with (work / f"{metal}.jsonl").open("a") as file:
                    file.write(json.dumps(record) + "\n")
                records[metal].append(record)
                waiting[metal] -= 1
                if progress:
                    left = sum(waiting.values())
                    progress(total - left, total, f"{metal} {record['prototype']}: {record.get('dropped', 'kept')}")
                if not waiting[metal]:
                    finish(metal)
    return {metal: counts[metal] for metal in metals}


def _finished(path: Path) -> list[dict[str, Any]]:
    """Records of an earlier build; a last line cut by a kill is dropped from the file, so that the next one starts clean."""
    if not path.exists():
        return []
    text = path.read_text()
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole)
    return [json.loads(line) for line in whole.splitlines()]


_potential: Potential | None = None


def _start_worker() -> None:
    import warnings

    import torch

    from crystalgan.relax import load_chgnet

    global _potential  # noqa: PLW0603 - the model is loaded once for each worker process, not for each cell
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    _potential = load_chgnet()


def _work(prototype: Prototype, metal: str) -> dict[str, Any]:
    assert _potential is not None
    return relax_prototype(prototype, metal, _potential)
