"""Rediscovery: does a run that never saw a ternary make the known ones, and do the rivals? Each has
the same CPU time.

For each known structure both its classes are trained on; cells of its composition are made and
relaxed, and pymatgen's StructureMatcher says which are the known one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from crystalgan.data.classes import builtin_classes, load_class
from crystalgan.data.known import read_known
from crystalgan.stability.tasks import about_potential
from crystalgan.stability.workers import Workers
from crystalgan.storage import read_json, saying, write_json
from crystalgan.studies.baselines import LARGEST, METHODS, origins_of
from crystalgan.studies.benchmark import POTENTIAL, field_of, spend
from crystalgan.studies.stacks import Job, check_minutes, study_folder, trained

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pymatgen.core import Structure

    from crystalgan.config import Config
    from crystalgan.studies.baselines import Field

FOLDER, FILE = "rediscovery", "rediscovery.json"


@dataclass(frozen=True)
class KnownTernary:
    """A known ternary structure: its name, its primitive cell, its metals, or why it cannot be
    asked for."""

    name: str
    structure: Structure
    metals: tuple[str, ...]
    reason: str = ""


def known_ternaries(
    path: Path, shared: str, left: Callable[[str], None] | None = None
) -> list[KnownTernary]:
    """The structures of a file, each with its two metals; those that no two built-in classes are of
    say so.

    `left` is told, in a sentence each, what of the file was left out. InputError where nothing can
    be read.
    """
    file = read_known(path, lambda _: True)
    file.check("structure that can be read", "one")
    if left:
        for words in file.not_used("could not be used"):
            left(words)
    out = []
    for number, entry in enumerate(file.cells, 1):
        cell = entry.structure.get_primitive_structure()
        metals = tuple(sorted({site.specie.symbol for site in cell} - {shared}))
        reason = ""
        if len(metals) != 2 or shared not in cell.composition:
            reason = f"not of {shared} and two metals"
        elif strange := sorted(set(metals) - set(builtin_classes())):
            reason = f"no built-in class of {', '.join(strange)}"
        out.append(
            KnownTernary(f"{number} {cell.composition.reduced_formula}", cell, metals, reason)
        )
    return out


def rediscover(
    known: Sequence[KnownTernary],
    config: Config,
    root: Path,
    minutes: float = 2.0,
    jobs: int = 1,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Look for each known structure among cells of its composition, by every method in the same CPU
    minutes.

    Returns `asked`, `found` (by the run) and `rows`: `name`, `formula`, `spacegroup`, `found`,
    `rank` (1: none has a lower energy), `rmsd` (pymatgen's, by the cube root of the volume per
    atom) and the same for each of `methods`, with the number of cells `relaxed` and `cpu_minutes`;
    or the `reason` why it was not asked for. What was done before in this `root` is kept.
    """
    check_minutes(minutes)
    base = replace(config, method="crystalgan", seed=0)
    rows = []
    with Workers(jobs) as workers:
        for one in known:
            row: dict[str, Any] = {
                "name": one.name,
                "formula": one.structure.composition.reduced_formula,
            }
            if one.reason:
                rows.append(row | {"found": False, "reason": one.reason})
                continue
            row["spacegroup"] = one.structure.get_space_group_info(0.1)[0]
            row["methods"] = _searched(workers, one, base, root, minutes)
            own = row["methods"]["crystalgan"]
            rows.append(row | {name: own[name] for name in ("found", "rank", "rmsd")})
            if progress:
                progress(f"{one.name}: {'found' if own['found'] else 'not found'}")
    asked = [row for row in rows if "reason" not in row]
    result = {
        "asked": len(asked),
        "found": sum(row["found"] for row in asked),
        "minutes": minutes,
        "rows": rows,
    }
    with saying(root / FOLDER, "choose another with --runs", writing=True):
        (root / FOLDER).mkdir(parents=True, exist_ok=True)
    write_json(root / FOLDER / FILE, result)
    return result


def _searched(
    workers: Workers, known: KnownTernary, config: Config, root: Path, minutes: float
) -> dict[str, dict[str, Any]]:
    """What every method found of one known structure."""
    a, b = (load_class(metal, metal, config.shared) for metal in known.metals)
    folder = study_folder(root / FOLDER, a, b, config, {})
    (run,) = trained(Job(folder / "run", a, b, config, (0,), lambda _: {}))
    workers.call(about_potential, POTENTIAL, run.species)
    counts = known.structure.composition.get_el_amt_dict()
    h, n_a, n_b = (int(counts[symbol]) for symbol in run.species)
    field = replace(field_of(run, a, b, (), 0), compositions=((h, n_a, n_b),), only=True)
    found, pending = {}, {}
    for method in METHODS:
        file = folder / f"{known.name.replace(' ', '-')}-{method}-{minutes:g}.json"
        if file.exists():
            found[method] = read_json(file)
        elif (
            problem := impossible(
                method, field, a.cells().mask.sum(-1).tolist(), b.cells().mask.sum(-1).tolist()
            )
        ) is not None:
            found[method] = {
                "relaxed": 0,
                "found": False,
                "rank": None,
                "rmsd": None,
                "cpu_minutes": 0.0,
                "reason": problem,
            }
        else:
            pending[workers.pool.submit(spend, method, field, minutes)] = (method, file)
    for future, (rows, spent) in workers.pool.completed(pending):
        method, file = pending[future]
        found[method] = matched(known.structure, rows) | {"cpu_minutes": spent}
        write_json(file, found[method])
    return {method: found[method] for method in METHODS}


def impossible(
    method: str, field: Field, a: Sequence[Sequence[int]], b: Sequence[Sequence[int]]
) -> str | None:
    """Why a method cannot make the composition asked for, or None; `a` and `b` are atoms of both
    elements of each parent."""
    ((h, n_a, n_b),) = field.compositions
    atoms = h + n_a + n_b
    if method == "crystalgan":
        fits = any(origins_of((h, n_a, n_b), a, b).values())
        return None if fits else "no two cells of the classes have these numbers of atoms"
    if method == "substitution":
        cells = [(own, own + metals) for own, metals in (*a, *b)]
        fits = any(
            not atoms % n and atoms // n <= LARGEST and own * (atoms // n) == h for own, n in cells
        )
        return None if fits else "no cell of the classes has these numbers of sites"
    return None


def matched(
    target: Structure, rows: Sequence[tuple[Structure, Structure, dict[str, Any]]]
) -> dict[str, Any]:
    """Whether a relaxed cell is the target, its rank by energy among the different ones, and how
    far it is off."""
    from pymatgen.analysis.structure_matcher import StructureMatcher

    from crystalgan.crystal.matching import StructureIndex

    done = [
        (columns["energy_per_atom"], after)
        for _, after, columns in rows
        if columns["state"] != "failed"
    ]
    matcher, seen, rank = StructureMatcher(), StructureIndex[int](), 0
    for _, cell in sorted(done, key=lambda pair: pair[0]):
        if seen.find_or_add(cell, 0) is not None:
            continue
        rank += 1
        if matcher.fit(target, cell):
            return {
                "relaxed": len(done),
                "found": True,
                "rank": rank,
                "rmsd": float(matcher.get_rms_dist(target, cell)[0]),
            }
    return {"relaxed": len(done), "found": False, "rank": None, "rmsd": None}


def as_text(result: dict[str, Any]) -> list[str]:
    """A result in lines."""
    lines = [
        (
            f"{result['found']} of {result['asked']} found, {result['minutes']:g} CPU minutes for"
            " each method"
        )
    ]
    for row in result["rows"]:
        if "reason" in row:
            lines.append(f"{row['name']:20} not asked for: {row['reason']}")
            continue
        found = {
            method: f"rank {one['rank']}" if one["found"] else "-"
            for method, one in row["methods"].items()
        }
        lines.append(
            f"{row['name']:20} {row['spacegroup']:10} "
            + ", ".join(f"{m} {words}" for m, words in found.items())
        )
    return lines
