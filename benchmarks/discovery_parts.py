"""The loop of `discover` against its parts: which phases near the hull each finds in equal time.

    python -m benchmarks.discovery_parts --minutes 5 --out parts.jsonl
    python -m benchmarks.discovery_parts --out parts.jsonl --report

Systems are pairs of metals of the built-in known ternaries in a random order that is fixed; all
known ternaries of a system are left out of its searches. Results are lines of JSON with every phase
found, and what is in the file already is not done again. Minutes are CPU minutes of one thread;
with `--work` they are those of one usual core by the search's own count, training included, which
no other load on the machine changes. The report has the phases within 0.05 eV/atom of the hull of
all that was found in a system, the means over seeds and their standard deviation.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import defaultdict
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crystalgan.discovery.evaluation import Evaluation
from crystalgan.discovery.found import reduced
from crystalgan.discovery.lower_hull import LowerHull
from crystalgan.discovery.search import (
    SCREENED,
    Search,
    screening_work,
    step_work,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms

    from crystalgan.discovery.sources import Source
    from crystalgan.discovery.surrogate import Label
    from crystalgan.discovery.system import Counts

WHOLE = ("random", "transfer", "hosts", "heredity")
NEAR = 0.05  # eV/atom above the joint hull
SAME = 0.002  # eV/atom: cells of a composition that are the same phase


class WithoutPotential(Search):
    """Proposals are neither relaxed nor ranked by a pair potential: as many as get an energy."""

    def learn(self, labels: Sequence[Label]) -> None:
        """Nothing is learned."""

    def targets(self, rng: np.random.Generator, count: int) -> list[tuple[Counts, Source]]:
        """As many as would be chosen."""
        return super().targets(rng, min(count, SCREENED))

    def screen(self, proposals: Sequence[tuple[str, Counts, Atoms]]) -> None:
        """An energy each, and the work of that alone."""
        super().screen(proposals)
        for source, _, atoms in proposals:
            self.spend(source, screening_work(len(atoms)) - step_work(len(atoms)))


class Energies(Evaluation):
    """A potential without the forces that nobody learns from."""

    def labels(self, crystals: Sequence[Atoms], derivatives: bool = False) -> list[Label]:
        """An energy of each crystal."""
        del derivatives
        return super().labels(crystals)


class WithoutFeedback(Search):
    """Sources have equal shares and compositions equal chances, whatever was found."""

    def shares(self) -> np.ndarray:
        """The same for each."""
        return np.full(len(self.sources), 1 / len(self.sources))

    def targets(self, rng: np.random.Generator, count: int) -> list[tuple[Counts, Source]]:
        """Any composition, in any of its cells, by any source."""
        formulas = list(self.compositions)
        out = []
        for _ in range(count):
            cells = self.compositions[formulas[int(rng.integers(len(formulas)))]]
            source = self.sources[int(rng.integers(len(self.sources)))]
            out.append((cells[int(rng.integers(len(cells)))], source))
        return out


# what each variant is: its search, and its sources
VARIANTS: dict[str, tuple[type[Search], tuple[str, ...]]] = {
    "whole": (Search, WHOLE),
    "with learned": (Search, (*WHOLE, "learned")),
    "learned for transfer": (Search, ("random", "learned", "hosts", "heredity")),
    "no potential": (WithoutPotential, WHOLE),
    "no feedback": (WithoutFeedback, WHOLE),
    **{name: (Search, (name,)) for name in (*WHOLE, "learned")},
}


def main() -> None:
    """Do each search that is not in the file yet, or report on the file."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import torch

    torch.set_num_threads(1)
    asked = _arguments()
    out = Path(asked.out)
    rows = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    if asked.report:
        print(report(rows))
        return
    done = {(row["system"], row["seed"], row["variant"]) for row in rows}
    variants = asked.variants.split(",") if asked.variants else list(VARIANTS)
    for seed, system, variant in product(range(asked.seeds), systems(asked.systems), variants):
        key = "-".join(system), seed, variant
        if key in done:
            continue
        about = {"system": key[0], "seed": seed, "variant": variant, "work": asked.work}
        row = about | {"minutes": asked.minutes} | searched(system, seed, variant, asked)
        with out.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(*key, len(row["phases"]), "phases", row["rounds"], "rounds", flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="for each search")
    parser.add_argument("--work", action="store_true", help="minutes of one usual core, counted")
    parser.add_argument("--systems", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--variants", default="", help="with commas: " + ", ".join(VARIANTS))
    parser.add_argument("--max-atoms", type=int, default=24)
    parser.add_argument("--report", action="store_true", help="print the table of the file")
    parser.add_argument("--out", required=True)
    return parser.parse_args()


def systems(count: int) -> list[tuple[str, str]]:
    """The first of the metals of known ternaries, in a random order that is fixed."""
    from crystalgan.data.known_ternaries import builtin_ternaries

    pairs = set()
    for cell in builtin_ternaries():
        metals = {e.symbol for e in cell.structure.composition.elements} - {"H"}
        pairs.add(tuple(sorted(metals)))
    every = sorted(pairs)
    order = np.random.default_rng(0).permutation(len(every))[:count]
    return [every[k] for k in order]


def searched(
    metals: tuple[str, str], seed: int, variant: str, asked: argparse.Namespace
) -> dict[str, Any]:
    """The ternary phases that a variant finds in a system."""
    from crystalgan.data.classes import load_class
    from crystalgan.discovery.compositions import small_compositions
    from crystalgan.discovery.discover import sources_of
    from crystalgan.discovery.system import System
    from crystalgan.stability.references import builtin_phases
    from crystalgan.stability.tasks import loaded_potential

    loaded_potential("chgnet")
    kind, names = VARIANTS[variant]
    started, species = time.process_time(), ("H", *metals)
    a, b = (load_class(metal).cells() for metal in metals)
    system = System.of(species, a, b, builtin_phases(species, known_ternaries=False))
    sources = sources_of(system, names, asked.max_atoms)
    compositions = small_compositions(asked.max_atoms)
    search = kind(system, sources.every, Evaluation("chgnet"), compositions, sources.starts, seed)

    def spent() -> float:
        counted = sum(search.spent.values()) / 1000
        return counted if asked.work else time.process_time() - started

    phases = []
    while spent() < 60 * asked.minutes:
        for found, _ in search.step():
            if found.converged:
                when = round(spent(), 1)
                phases.append([list(found.counts), round(found.energy, 5), when, found.source])
    shares = {name: round(work / 1000, 1) for name, work in search.spent.items()}
    accuracies = [round(a, 3) for s in search.sources for a in getattr(s, "accuracies", [])]
    return {
        "rounds": search.rounds,
        "seconds": round(time.process_time() - started, 1),
        "spent": shares,
        "accuracies": accuracies,
        "references": [[list(c), round(e, 5)] for c, e in system.phases],
        "phases": phases,
    }


def report(rows: Sequence[dict[str, Any]]) -> str:
    """A table: for each variant the phases near the joint hull of their systems that it found, all
    and before any other of the same seed."""
    by_system: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_system[row["system"]].append(row)
    found: dict[tuple[str, str], list[int]] = defaultdict(list)
    first: dict[tuple[str, str], list[int]] = defaultdict(list)
    total: dict[str, int] = {}
    for system, own in by_system.items():
        near = _near_the_hull(own)
        total[system] = len({phase for phases in near.values() for phase in phases})
        for key, phases in near.items():
            others = [near[k] for k in near if k[1] == key[1] and k != key]
            found[system, key[0]].append(len(phases))
            soonest = [p for p, t in phases.items() if all(t < o.get(p, np.inf) for o in others)]
            first[system, key[0]].append(len(soonest))
    variants = [v for v in VARIANTS if any(v == row["variant"] for row in rows)]
    head = ["variant", *(f"{s} ({n})" for s, n in total.items()), "all", "found first"]
    lines = [head, ["---"] * len(head)]
    for variant in variants:
        cells = [_spread(found[system, variant]) for system in total]
        sums = [_sums([counts[system, variant] for system in total]) for counts in (found, first)]
        lines.append([variant, *cells, *map(_spread, sums)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _near_the_hull(
    rows: Sequence[dict[str, Any]],
) -> dict[tuple[str, int], dict[tuple[Counts, int], float]]:
    """By variant and seed, the phases of a system near its joint hull and when they were found.

    A phase is its formula and the number of its energy among the different ones of it.
    """
    points = [(tuple(c), e) for row in rows for c, e, *_ in (*row["references"], *row["phases"])]
    hull = LowerHull.of([c for c, _ in points], [e for _, e in points])
    levels: dict[Counts, list[float]] = defaultdict(list)
    for counts, energy in sorted(points, key=lambda point: point[1]):
        own = levels[reduced(counts)]
        if not own or energy - own[-1] > SAME:
            own.append(energy)
    out: dict[tuple[str, int], dict[tuple[Counts, int], float]] = {}
    for row in rows:
        near = out.setdefault((row["variant"], row["seed"]), {})
        for counts, energy, when, _ in row["phases"]:
            if all(counts) and hull.above([counts], [energy])[0] <= NEAR:
                formula = reduced(tuple(counts))
                level = int(np.searchsorted(levels[formula], energy, "right")) - 1
                near.setdefault((formula, level), when)
    return out


def _sums(counts: Sequence[list[int]]) -> list[int]:
    """The sums over systems of each seed that all of them have."""
    return [sum(seed) for seed in zip(*counts, strict=False)]


def _spread(values: Sequence[int]) -> str:
    if not values:
        return "-"
    spread = f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
    return f"{np.mean(values):.1f}{spread}"


if __name__ == "__main__":
    main()
