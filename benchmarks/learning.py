"""What the GAN is worth beside what needs no learning: same held-out parents, same transfer, same
refinement. Prints JSON.

python -m benchmarks.learning [--pairs Pd-Ni Mg-Ti] [--parents 50] [--seeds 3] [--epochs 1000]

One in five cells of each class is held out of training. Pairs of held-out parents go through step 1
and the transfer, with several origins each. All methods start from there: the raw transfer, the
same at the scale that breaks the rule least, projected gradient descent on the geometric loss by
25, 60 and 200 steps, and the GAN followed by what makes its candidates: packing at the usual
volume, the way down the energy of pairs, and a descent on the rule. What of that is the generator's
own is seen beside the same without it, from a start with the noise that its generator takes in.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import defaultdict
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.stats import wasserstein_distance

from crystalgan.config import Config
from crystalgan.crystal.canonical import space_group
from crystalgan.crystal.cells import Cells, decode
from crystalgan.crystal.distances import first_neighbours
from crystalgan.crystal.matching import StructureIndex
from crystalgan.crystal.repair import repair, rescale, satisfies
from crystalgan.data.classes import BinaryClass, load_class
from crystalgan.model import methods
from crystalgan.model.batches import perturb, union
from crystalgan.runs.checking import SYMPREC
from crystalgan.runs.loading import load_model
from crystalgan.runs.training import train
from crystalgan.studies.ablation import median_above_hull

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from crystalgan.crystal.limits import Limits
    from crystalgan.model.model import Model

ORIGINS = 4  # samples of each pair of parents
SCALES = np.linspace(0.9, 1.2, 13)  # of lengths, of which `scaled` takes the one that breaks least
DESCENTS = (25, 60, 200)
SETTLING = (0, 25, 150)  # steps down the energy of pairs
MEASURED = 100  # cells whose energies CHGNet is asked for


def split(c: BinaryClass, seed: int) -> tuple[BinaryClass, BinaryClass]:
    """Four fifths of a class to train on, and the rest."""
    order = np.random.default_rng(seed).permutation(len(c))
    held = set(order[: max(8, len(c) // 5)].tolist())
    parts = ([e for k, e in enumerate(c.entries) if (k in held) == out] for out in (False, True))
    seen, unseen = (replace(c, entries=tuple(part)) for part in parts)
    return seen, unseen


def scaled(cells: Cells, limits: Limits) -> Cells:
    """Each cell at the one of some scales at which it breaks the limits least."""
    best, least = cells, torch.full((len(cells),), torch.inf, dtype=torch.float64)
    for scale in SCALES:
        trial = replace(cells, lattice=cells.lattice * float(scale))
        near = first_neighbours(trial)
        short, long, _ = limits.excess(near, 0.0)
        broken = torch.zeros(len(cells), dtype=torch.float64).index_add(
            0, near.cell, short.square() + long.square()
        )
        better = broken < least
        least = torch.where(better, broken, least)
        best = replace(
            cells, lattice=torch.where(better[:, None, None], trial.lattice, best.lattice)
        )
    return best


def invariants(cells: Cells, units: Tensor) -> dict[str, np.ndarray]:
    """First-neighbour distances by kind of pair, and volumes, each by what is usual for the
    elements in both classes."""
    near, usual = first_neighbours(cells), units.double()
    relative = near.distance / usual[near.center_slot, near.other_slot]
    metal = (near.center_slot > 0).long() + (near.other_slot > 0)
    kinds = {name: relative[metal == k].numpy() for k, name in enumerate(("H-H", "M-H", "M-M"))}
    volume = torch.linalg.det(cells.lattice).abs() / (cells.mask.sum(-1) * usual[-1]).sum(-1)
    return kinds | {"volume": volume.numpy()}


def score(
    cells: Cells, seconds: float, limits: Limits, units: Tensor, real: dict[str, np.ndarray]
) -> dict[str, float]:
    """Shares, distances of distributions, and valid, unique and symmetric cells for a second of
    making and judging them."""
    valid = satisfies(cells, limits)
    seen, unique, symmetric = StructureIndex[int](), [], []
    started = time.process_time()
    for k, structure in enumerate(decode(cells)):
        unique.append(seen.find_or_add(structure, k) is None)
        symmetric.append(space_group(structure, SYMPREC)[0] > 1)
    judging = time.process_time() - started
    good = valid.numpy() & np.array(unique)
    found = invariants(cells[valid] if valid.any() else cells, units)
    some = [
        structure
        for structure, keeps_it in zip(decode(cells), valid.tolist(), strict=True)
        if keeps_it
    ][:MEASURED]
    return {
        "valid": float(valid.double().mean()),
        "valid_unique": float(good.mean()),
        "valid_unique_symmetric": float((good & np.array(symmetric)).mean()),
        "milliseconds": 1e3 * seconds / len(cells),
        "good_per_second": float((good & np.array(symmetric)).sum() / (seconds + judging)),
        "above hull": median_above_hull(some, cells.species) if some else float("nan"),
    } | {f"W {name}": float(wasserstein_distance(found[name], real[name])) for name in real}


def compare(
    trained: Model, held: tuple[Cells, Cells], pairs: Tensor, seed: int
) -> dict[str, dict[str, float]]:
    """Every method from the same samples, whose parents are the held-out cells."""
    units, config = trained.reference, trained.config
    model, rng = trained.with_classes(*held), torch.Generator().manual_seed(seed)
    nets, limits = model.networks[1], model.limits
    origins = torch.rand(len(pairs), config.origins, 3, generator=rng)
    to_b = torch.ones(len(pairs), dtype=torch.bool)
    started = time.process_time()
    start, _ = model.transferred(pairs, origins, to_b)
    drawing = time.process_time() - started
    x = start.to(torch.float64)
    real = invariants(union(*(p.cells for p in model.parents)).to(torch.float64), units)
    started = time.process_time()
    noised = perturb(start[None], config.noise, [rng])[0]
    noising = drawing + time.process_time() - started
    started = time.process_time()
    made = methods.one_way(nets, noised, 0).to(torch.float64)
    making = noising + time.process_time() - started
    out = {}

    def note(name: str, before: float, call: Callable[[], Cells]) -> None:
        start = time.process_time()
        cells = call()
        out[name] = score(cells, before + time.process_time() - start, limits, units, real)

    assert model.potential
    # compiled on its first call, which is nobody's time
    model.potential.prerelaxed(repair(x[:2], limits, 1, config.margin), 1)
    note("raw transfer", drawing, lambda: x)
    note("scaled", drawing, lambda: scaled(x, limits))
    for steps in DESCENTS:
        note(f"descent {steps}", drawing, partial(repair, x, limits, steps, config.margin))
    note("GAN", making, lambda: made)
    for name, cells, before in (
        ("noise", noised.to(torch.float64), noising),
        ("GAN", made, making),
    ):
        for steps in SETTLING:
            note(
                f"{name}, finished, {steps} steps down the energy",
                before,
                partial(finished, model, cells, steps),
            )
    return out


def finished(model: Model, cells: Cells, steps: int) -> Cells:
    """Cells as `Model.finish` leaves them, with so many steps of prerelaxation; rescaled also where
    there are none."""
    if steps:
        return replace(model, config=replace(model.config, prerelax=steps)).finish(cells)
    config = model.config
    cells = rescale(cells, model.limits, model.reference, config.margin)
    return repair(cells, model.limits, config.repair, config.margin)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", nargs="+", default=["Pd-Ni", "Mg-Ti"])
    parser.add_argument("--parents", type=int, default=50, help="pairs of held-out parents")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=1000)
    parser.add_argument(
        "--set",
        nargs="*",
        default=[],
        metavar="NAME=VALUE",
        help="settings other than the default ones",
    )
    given = parser.parse_args()
    torch.set_num_threads(1)
    result: dict[str, Any] = {}
    for pair in given.pairs:
        rows: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for seed in range(given.seeds):
            parts = [split(load_class(metal), seed) for metal in pair.split("-")]
            with tempfile.TemporaryDirectory() as folder:
                settings = dict(word.split("=") for word in given.set)
                config = Config.of(
                    {"epochs1": given.epochs, "epochs2": given.epochs, "seed": seed} | settings
                )
                model = load_model(train(parts[0][0], parts[1][0], config, Path(folder)))
                held = tuple(unseen.cells() for _, unseen in parts)
                rng = torch.Generator().manual_seed(seed)
                every = torch.cartesian_prod(*(torch.arange(len(c)) for c in held))
                chosen = every[torch.randperm(len(every), generator=rng)[: given.parents]].repeat(
                    ORIGINS, 1
                )
                for name, values in compare(model, (held[0], held[1]), chosen, seed).items():
                    for key, value in values.items():
                        rows[name][key].append(value)
        result[pair] = {
            name: {k: round(float(np.nanmean(v)), 4) for k, v in values.items()}
            for name, values in rows.items()
        }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
