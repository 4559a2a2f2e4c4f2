"""How many of the built-in known ternaries `discover` finds from their metals alone.

    python -m benchmarks.discovery --minutes 1 --formula --out discovery.jsonl

Each is looked for in a search of its own, of so many CPU minutes on one thread, from which all
known ternaries of its system are left out. With `--formula` its composition is given, without it
the metals alone. The order is random and fixed, results are lines of JSON, and what is in the file
already is not done again.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from crystalgan.discovery.search import Search


def main() -> None:
    """Look for each known ternary that is not in the file yet."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import torch

    from crystalgan.data.known_ternaries import builtin_ternaries

    torch.set_num_threads(1)
    asked = _arguments()
    out = Path(asked.out)
    done = {json.loads(line)["id"] for line in out.read_text().splitlines()} if out.exists() else ()
    known = builtin_ternaries()
    order = np.random.default_rng(0).permutation(len(known))[asked.first :: asked.every]
    for cell in (known[k] for k in order):
        if cell.info["id"] in done:
            continue
        row = {"id": cell.info["id"], "minutes": asked.minutes, "seed": asked.seed}
        row |= looked_for(cell.structure, asked)
        with out.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, help="CPU minutes for each")
    parser.add_argument("--formula", action="store_true", help="the composition is given")
    parser.add_argument(
        "--work", action="store_true", help="count work as on a usual idle core, not CPU time"
    )
    parser.add_argument("--max-atoms", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sources", default="random,transfer,hosts,heredity")
    parser.add_argument("--first", type=int, default=0, help="of the order, the one to begin with")
    parser.add_argument("--every", type=int, default=1, help="and how many to go on by")
    parser.add_argument("--out", required=True)
    return parser.parse_args()


def looked_for(target: Structure, asked: argparse.Namespace) -> dict[str, Any]:
    """What became of one known ternary."""
    from pymatgen.analysis.structure_matcher import StructureMatcher

    from crystalgan.data.classes import load_class
    from crystalgan.discovery.compositions import one_composition, small_compositions
    from crystalgan.discovery.discover import sources_of
    from crystalgan.discovery.evaluation import Evaluation
    from crystalgan.discovery.search import Search
    from crystalgan.discovery.system import System
    from crystalgan.errors import InputError
    from crystalgan.stability.references import builtin_phases
    from crystalgan.stability.tasks import loaded_potential

    target = target.get_primitive_structure()
    formula = target.composition.reduced_formula
    about = {"formula": formula, "atoms": len(target)}
    about["spacegroup"] = target.get_space_group_info(0.1)[1]
    metals = sorted({site.specie.symbol for site in target} - {"H"})
    species = ("H", metals[0], metals[1])
    if len(target) > asked.max_atoms:
        return about | {"found": False, "reason": f"more than {asked.max_atoms} atoms"}
    try:
        compositions = (
            one_composition(formula, species, asked.max_atoms)
            if asked.formula
            else small_compositions(asked.max_atoms)
        )
    except InputError as error:
        return about | {"found": False, "reason": str(error)}
    loaded_potential("chgnet")
    started = time.process_time()
    a, b = (load_class(metal).cells() for metal in metals)
    system = System.of(species, a, b, builtin_phases(species, known_ternaries=False))
    sources = sources_of(system, asked.sources.split(","), asked.max_atoms)
    starts = () if asked.formula else sources.starts
    search = Search(system, sources.every, Evaluation("chgnet"), compositions, starts, asked.seed)
    matcher, hit, seconds = StructureMatcher(), None, 0.0

    def clock() -> float:
        return sum(search.spent.values()) / 1000 if asked.work else time.process_time() - started

    while clock() < 60 * asked.minutes:
        for found, _ in search.step():
            if hit is None and matcher.fit(target, found.structure):
                hit, seconds = found, clock()
    counts = {"rounds": search.rounds, "relaxed": len(search.found), "screened": search.proposed}
    return about | counts | {"found": hit is not None} | _ranked(search, hit, seconds)


def _ranked(search: Search, hit: Any, seconds: float) -> dict[str, Any]:
    """Where the known ternary stands among the ternary phases found."""
    if hit is None:
        return {}
    ternary = [f for f in search.found if all(f.counts)]
    above = search.hull.above([f.counts for f in ternary], [f.energy for f in ternary])
    own = float(above[[f.id for f in ternary].index(hit.id)])
    best: dict[Any, float] = {}
    for one, energy in zip(ternary, above, strict=True):
        best[one.formula] = min(float(energy), best.get(one.formula, np.inf))
    return {
        "seconds": round(seconds, 1),
        "source": hit.source,
        "above_hull": round(own, 4),
        "rank": 1 + int((above < own - 1e-6).sum()),
        "composition_rank": 1 + sum(e < own - 1e-6 for f, e in best.items() if f != hit.formula),
    }


if __name__ == "__main__":
    main()
