"""The built-in classes: how fast they load, and whether they are CHGNet's minima; as JSON.

Cells at random are relaxed again, to 0.01 eV/Å; `--stretch 1.03` starts from 1.03 times their
volume, and `--rattle` moves the atoms too, which shows how many of the types are saddle points.

    python -m benchmarks.classes [--cells 20] [--seed 0] [--stretch 1.0] [--rattle 0.0]
"""

import argparse
import json
import random
import sys
import time
import warnings

from crystalgan.data.classes import builtin_classes, load_class

ENERGY, VOLUME = 0.005, 0.01  # eV/atom, relative: what counts as the same minimum


def load_times() -> dict[str, float]:
    import ase.io  # noqa: F401 - imports are not what is measured
    import numpy as np
    import pymatgen.core

    assert pymatgen.core
    load_class("Pd")
    seconds = []
    for metal in builtin_classes():
        start = time.perf_counter()
        load_class(metal)
        seconds.append(time.perf_counter() - start)
    return {
        "classes": len(seconds),
        "cells": sum(len(load_class(metal)) for metal in builtin_classes()),
        "one_median_s": round(float(np.median(seconds)), 4),
        "one_slowest_s": round(max(seconds), 4),
        "all_s": round(sum(seconds), 3),
    }


def relaxed_again(count: int, seed: int, stretch: float, rattle: float) -> dict[str, object]:
    import torch

    from crystalgan.potentials.registry import load_chgnet
    from crystalgan.stability.relax import relax
    from crystalgan.studies.builtin import FINE_FMAX

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    every = [(metal, entry) for metal in builtin_classes() for entry in load_class(metal).entries]
    chosen = random.Random(seed).sample(every, count)
    potential = load_chgnet()
    rows = []
    for metal, entry in chosen:
        structure = entry.structure.copy()
        structure.scale_lattice(structure.volume * stretch)
        if rattle:
            structure.perturb(rattle)
        result = relax(structure, potential, FINE_FMAX)
        rows.append(
            {
                "metal": metal,
                "prototype": entry.info["prototype"],
                "converged": result.converged,
                "energy_ev_per_atom": round(
                    result.energy / len(structure) - float(entry.info["energy_per_atom"]), 6
                ),
                "volume": round(float(result.structure.volume / entry.structure.volume - 1), 6),
            }
        )
        print(rows[-1], file=sys.stderr)
    same = sum(abs(r["energy_ev_per_atom"]) < ENERGY and abs(r["volume"]) < VOLUME for r in rows)
    return {
        "cells": count,
        "seed": seed,
        "stretch": stretch,
        "rattle": rattle,
        "same": same,
        "rows": rows,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stretch", type=float, default=1.0, help="of the volume")
    parser.add_argument("--rattle", type=float, default=0.0, help="Å")
    given = parser.parse_args()
    print(
        json.dumps(
            {
                "load": load_times(),
                "relaxed_again": relaxed_again(
                    given.cells, given.seed, given.stretch, given.rattle
                ),
            }
        )
    )
