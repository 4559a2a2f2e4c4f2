"""What the generator of the third step does to proposals of `discover`: the same transferred cells,
as they are and moved by it, finished alike, and one CHGNet energy each.

    python -m benchmarks.third_step Zr Ni --rounds 14 --cells 120

The generator is trained in a search of its own before, on what that search relaxed; then it is
trained anew on the same pairs without the discriminator. Energies are above the search's hull,
eV/atom; at most 1 counts.
"""

from __future__ import annotations

import argparse
import math
import os
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from crystalgan.crystal.cells import Cells
    from crystalgan.discovery.learned import LearnedSource
    from crystalgan.discovery.search import Search
    from crystalgan.discovery.sources import Source
    from crystalgan.discovery.system import Counts, System

MOST, SAME = 1.0, 0.005  # eV/atom: what counts at most, and what is no difference
SEED = 9  # of the cells that are compared


def main() -> None:
    """Train, propose, compare."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import torch

    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("metals", nargs=2)
    parser.add_argument("--rounds", type=int, default=14, help="of the search that trains")
    parser.add_argument("--cells", type=int, default=120, help="that are tried")
    parser.add_argument("--seed", type=int, default=1, help="of the search")
    asked = parser.parse_args()
    a, b = asked.metals
    search, source = trained(a, b, asked.rounds, asked.seed)
    last, count = source.accuracies[-1], len(source.ends)
    print(f"{count} pairs, the discriminator was right in {last:.0%} of the last round")
    print(compared(search, source, asked.cells))


def trained(a: str, b: str, rounds: int, seed: int) -> tuple[Search, LearnedSource]:
    """A search after some rounds, and the source in it that learned."""
    from crystalgan.data.classes import load_class
    from crystalgan.discovery.compositions import small_compositions
    from crystalgan.discovery.evaluation import Evaluation
    from crystalgan.discovery.learned import LearnedSource
    from crystalgan.discovery.search import Search
    from crystalgan.discovery.sources import RandomSource
    from crystalgan.discovery.system import System
    from crystalgan.discovery.transfers import TransferSource
    from crystalgan.stability.references import builtin_phases

    species = ("H", a, b)
    first, second = (load_class(metal).cells() for metal in (a, b))
    system = System.of(species, first, second, builtin_phases(species, known_ternaries=False))
    source = LearnedSource(system, 24)
    sources: list[Source] = [RandomSource(), TransferSource(system, 24), source]
    search = Search(system, sources, Evaluation("chgnet"), small_compositions(24), (), seed)
    while search.rounds < rounds or not source.trained:
        search.step()
    return search, source


def compared(search: Search, source: LearnedSource, cells: int) -> str:
    """A table: energies of the cells as transferred, with noise alone, and moved."""
    import torch

    from crystalgan.discovery import learned
    from crystalgan.discovery.found import reduced
    from crystalgan.discovery.learned import NOISE, LearnedSource
    from crystalgan.discovery.sources import Request
    from crystalgan.model.batches import perturb

    alone, weight = LearnedSource(search.system, source.length), learned.ADVERSARIAL
    alone.starts, alone.ends, alone.energies = source.starts, source.ends, source.energies
    rng, rows = np.random.default_rng(SEED), []
    learned.ADVERSARIAL = 0.0
    for _ in source.accuracies:
        alone.learn([], [], search.hull, rng)
    learned.ADVERSARIAL = weight
    for k, (counts, _) in enumerate(search.targets(rng, cells)):
        factor = search.swelling(reduced(counts))
        h, a, b = (factor * volume for volume in search.system.volumes)
        system = search.system.with_volumes((h, a, b))
        start = source.transfers.propose(Request(system, counts), rng)
        if start is None:
            continue
        draws = [torch.Generator().manual_seed(k)]
        noisy = perturb(start.to(torch.float32)[None, None], NOISE, draws)[0, 0].to(torch.float64)
        moved = (one.moved(start, np.random.default_rng(k)) for one in (source, alone))
        rows.append([_above(search, system, counts, cell) for cell in (start, noisy, *moved)])
    names = ("transferred", "with noise alone", "moved", "moved, no discriminator")
    return _table(names, np.array(rows))


def _above(search: Search, system: System, counts: Counts, cells: Cells) -> float:
    """The energy above the hull of cells once they are finished, eV/atom."""
    from crystalgan.discovery.sources import atoms_of, finished

    one = finished(cells, system, search.surrogate)
    if one is None:
        return math.nan
    (label,) = search.evaluator.labels([atoms_of(one[0])])
    return float(search.hull.above([counts], [label.energy / sum(counts)])[0])


def _table(names: tuple[str, ...], energies: np.ndarray) -> str:
    energies = np.minimum(energies[np.isfinite(energies).all(1)], MOST)
    head = "| | mean | median | below 0.2 | change |"
    lines = [f"{len(energies)} cells", "", head, "|---" * 5 + "|"]
    for name, own in zip(names, energies.T, strict=True):
        change = own - energies[:, 0]
        error = change.std(ddof=1) / math.sqrt(len(change))
        lines.append(
            f"| {name} | {own.mean():.3f} | {np.median(own):.3f} | {(own < 0.2).mean():.0%} |"
            f" {change.mean():+.3f} ± {error:.3f}, lower in {(change < -SAME).mean():.0%},"
            f" higher in {(change > SAME).mean():.0%} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
