"""Speed and memory on one core, section by section: `make bench`, or some with `ONLY=step1,memory`.

Each section's result is a line of JSON on stdout as soon as it is there, a bar on stderr says how
far it is, and `--out` keeps all as one object. Every ratio is of two CPU times measured in turn in
one process, so that a busy machine changes little. Training is the real loop at the paper's
settings, 35 cells a class; the bare matrix products are those of its passes, with weights and
inputs of the same shapes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from tqdm import tqdm

from crystalgan.config import Config
from crystalgan.crystal.cells import Cells, decode
from crystalgan.crystal.distances import first_neighbours
from crystalgan.data.classes import BinaryClass, load_class
from crystalgan.model.batches import pair_order
from crystalgan.runs.folder import SHIPPED, Run
from crystalgan.runs.loading import load_model
from crystalgan.runs.training import train_seeds

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymatgen.core import Structure

SHIPPED_RUN = "Pd-Ni-H_shipped"
BATCH, CELLS, WIDTH, LAYERS = 35, 35, 100, 5
Network = list[tuple[Tensor, Tensor]]


def classes() -> tuple[BinaryClass, BinaryClass]:
    """35 cells of Pd-H and of Ni-H, as many as the paper trains on, with the largest among them."""
    pair = (load_class("Pd"), load_class("Ni"))
    a, b = (
        replace(c, entries=tuple(sorted(c.entries, key=lambda e: -len(e.structure))[:CELLS]))
        for c in pair
    )
    return a, b


def bare_update(runs: int, size: int) -> Callable[[], None]:
    """The matrix products of one update: forward passes and gradients, nothing else."""

    def network(*sizes: int) -> Network:
        return [(torch.randn(runs, n, m) / 10, torch.randn(runs, 1, m)) for n, m in pairwise(sizes)]

    hidden = [WIDTH] * LAYERS
    generators = [network(size, *hidden, size) for _ in range(2)]
    discriminators = [network(size, *hidden, 1) for _ in range(2)]
    x, real_and_fake = torch.randn(runs, BATCH, size), torch.randn(runs, 2 * BATCH, size)

    def forward(layers: Network, x: Tensor) -> list[Tensor]:
        values = [x]
        for weight, bias in layers:
            values.append(torch.baddbmm(bias, values[-1], weight))
        return values

    def backward(layers: Network, values: list[Tensor], of_weights: bool, of_input: bool) -> None:
        grad = values[-1]
        for i in reversed(range(len(layers))):
            if of_weights:
                torch.bmm(values[i].mT, grad)
            if i or of_input:
                grad = torch.bmm(grad, layers[i][0].mT)

    def update() -> None:
        ab, ba = generators
        made = [forward(ab, x), forward(ba, x)]
        back = [forward(ba, made[0][-1]), forward(ab, made[1][-1])]
        for layers in discriminators:
            backward(layers, forward(layers, real_and_fake), of_weights=True, of_input=False)
        for layers, values in zip(discriminators, made, strict=True):
            backward(layers, forward(layers, values[-1]), of_weights=False, of_input=True)
        for layers, values in zip((ba, ab), back, strict=True):
            backward(layers, values, of_weights=True, of_input=True)
        for layers, values in zip((ab, ba), made, strict=True):
            backward(layers, values, of_weights=True, of_input=False)

    return update


class Stopwatch:
    """CPU times of several calls that are measured in turn, in this one thread.

    A clock on the wall would count other processes' turns too, and more of them in longer calls.
    """

    def __init__(self, count: int) -> None:
        self.count, self.times = count, dict[str, list[float]]()

    def time(self, name: str, call: Callable[[], object]) -> None:
        """Measure one call, for each of `count` things."""
        start = time.process_time()
        call()
        self.times.setdefault(name, []).append((time.process_time() - start) / self.count)

    def seconds(self) -> dict[str, float]:
        """The median time of each call."""
        return {name: statistics.median(values) for name, values in self.times.items()}


def training(step: int, runs: int, epochs: int) -> dict[str, Any]:
    """Seconds an epoch and run of one step beside the bare products, in turn epoch by epoch."""
    a, b = classes()
    length = max(c.cells().mask.shape[-1] for c in (a, b))
    bare = bare_update(runs, (2 + step) * length * 3)
    watch = Stopwatch(runs)
    epochs_taken: list[float] = []
    last = [time.process_time()]

    def measure(trained: int, epoch: int, _epochs: int, _terms: dict[str, float]) -> None:
        now = time.process_time()
        # this epoch followed on another one, not on the bare products
        if trained == step and epoch > 5 and epoch % 2 == 0:
            epochs_taken.append((now - last[0]) / runs)
            bare()  # warms the caches, as the epochs do for each other
            watch.time("bare", bare)
        last[0] = time.process_time()

    config = Config.paper(epochs1=epochs, method="discogan")
    if step == 2:
        config = Config.paper(epochs1=1, epochs2=epochs)
    with tempfile.TemporaryDirectory() as folder:
        train_seeds(a, b, config, range(runs), folder, measure)
    epoch, products = statistics.median(epochs_taken), watch.seconds()["bare"]
    return {
        "runs": runs,
        "seconds_per_epoch_and_run": epoch,
        "bare_products": products,
        "ratio": epoch / products,
    }


def candidate_like(count: int, atoms: int) -> Cells:
    """Transferred Pd-Ni-H cells with this many atoms, as step 2 meets them."""
    model = load_model(Run.open(SHIPPED / SHIPPED_RUN))
    rng = torch.Generator().manual_seed(0)
    a, b = model.classes
    pairs = pair_order(len(a), len(b), rng)
    x, _ = model.transferred(
        pairs,
        torch.rand(len(pairs), 2, 3, generator=rng),
        torch.ones(len(pairs), dtype=torch.bool),
    )
    x = x[x.mask.sum((1, 2)) == atoms]
    return x[torch.arange(count) % len(x)]


def neighbours(count: int = 256, atoms: int = 12, rounds: int = 25) -> dict[str, Any]:
    """First-neighbour distances of a batch, with and without their gradients."""
    cells, watch = candidate_like(count, atoms), Stopwatch(count)

    def with_gradients() -> None:
        wanted = replace(
            cells,
            lattice=cells.lattice.clone().requires_grad_(),
            frac=cells.frac.clone().requires_grad_(),
        )
        first_neighbours(wanted).distance.sum().backward()

    for _ in range(rounds):
        watch.time("forward", partial(first_neighbours, cells))
        watch.time("forward_and_backward", with_gradients)
    seconds = watch.seconds()
    ratio = seconds["forward_and_backward"] / seconds["forward"]
    return {"cells": count, "atoms": atoms, "seconds_per_cell": seconds, "gradients_ratio": ratio}


def pymatgen(count: int = 64, atoms: int = 12, rounds: int = 5) -> dict[str, Any]:
    """First-neighbour distances of a batch against pymatgen's `get_all_neighbors`.

    pymatgen is asked twice: up to 3 Å, which is enough for the paper's verdict, and up to the
    largest first-neighbour distance of each cell, which is what it takes to find the same
    distances.
    """
    cells, watch = candidate_like(count, atoms), Stopwatch(count)
    structures = decode(cells)
    near = first_neighbours(cells)
    reach = torch.zeros(count).scatter_reduce(0, near.cell, near.distance, "amax") + 1e-3
    pairs = list(zip(structures, reach.tolist(), strict=True))
    for _ in range(rounds):
        for _ in range(5):
            watch.time("forward", partial(first_neighbours, cells))
        watch.time("3A", lambda: [s.get_all_neighbors(3.0) for s in structures])
        watch.time("same_distances", lambda: [s.get_all_neighbors(r) for s, r in pairs])
    seconds = watch.seconds()
    faster = {name: seconds[name] / seconds["forward"] for name in ("3A", "same_distances")}
    return {"cells": count, "atoms": atoms, "seconds_per_cell": seconds, "times_faster": faster}


def memory(epochs: int = 100) -> dict[str, Any]:
    """Peak memory of a training process with the default preset, and its time."""
    words = ["train", "Pd", "Ni", "--rule", "paper", "--epochs", str(epochs)]
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        command = [sys.executable, "-m", "crystalgan", *words, "--runs", folder]
        subprocess.run(command, check=True, capture_output=True)
        seconds = time.perf_counter() - start
    # kB; the largest of all children, and this is the only one
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return {"epochs": [epochs, epochs], "peak_MB": peak / 1000, "seconds": seconds}


def evaluation(count: int = 16, rounds: int = 3) -> dict[str, Any]:
    """Energies with forces and stress from CHGNet, the package's and ours, in turn.

    The structures are the first candidates of the shipped run.
    """
    from chgnet.model import CHGNet

    from crystalgan.potentials.chgnet import ChgnetEnergy

    structures, watch = shipped(count), Stopwatch(count)
    atoms = [structure.to_ase_atoms() for structure in structures]
    with contextlib.redirect_stdout(sys.stderr):  # it greets; stdout is the JSON's
        package, ours = (
            CHGNet.load(verbose=False, use_device="cpu"),
            ChgnetEnergy(CHGNet.load(verbose=False, use_device="cpu")),
        )

    def packaged(batch: int) -> None:
        package.predict_structure(structures, task="efs", batch_size=batch)

    def evaluated() -> None:
        for one in atoms:
            ours.with_derivatives(one)

    for _ in range(rounds):
        watch.time("package_one_by_one", partial(packaged, 1))
        watch.time("package_16_at_once", partial(packaged, 16))
        watch.time("one_by_one", evaluated)
    seconds = watch.seconds()
    faster = {name: seconds["package_one_by_one"] / value for name, value in seconds.items()}
    return {
        "structures": count,
        "atoms": statistics.mean(map(len, structures)),
        "seconds_per_evaluation": seconds,
        "times_faster": faster,
    }


def relaxation(count: int = 6, rounds: int = 2) -> dict[str, Any]:
    """Structures relaxed a minute of CPU time with the package's calculator and with ours, in turn.

    Both through `relax_task`, so with one optimizer. The structures are those of `evaluation`.
    """
    from crystalgan.stability.tasks import Settings, Task, relax_task

    tasks = [Task(number, "", structure) for number, structure in enumerate(shipped(count))]
    potentials = {"package": "chgnet.model.CHGNetCalculator", "ours": "chgnet"}
    minutes: dict[str, list[float]] = {name: [] for name in potentials}
    steps: dict[str, float] = {}
    with contextlib.redirect_stdout(sys.stderr):
        for potential in potentials.values():
            relax_task(potential, Settings(steps=1), tasks[0])  # loads it
        for _ in range(rounds):
            for name, potential in potentials.items():
                start = time.process_time()
                outcomes = [relax_task(potential, Settings(), task) for task in tasks]
                minutes[name].append((time.process_time() - start) / 60)
                assert all(outcome.columns["state"] == "converged" for outcome in outcomes)
                steps[name] = statistics.mean(outcome.columns["steps"] for outcome in outcomes)
    rate = {name: count / statistics.median(spent) for name, spent in minutes.items()}
    return {
        "structures": count,
        "steps": steps,
        "relaxed_per_core_minute": rate,
        "times_the_package": rate["ours"] / rate["package"],
    }


def shipped(count: int) -> list[Structure]:
    """The first candidates of the shipped run."""
    from crystalgan.runs.database import open_database, structure_of

    rows = open_database(Run.open(SHIPPED / SHIPPED_RUN)).select(limit=count)
    return [structure_of(row) for row in rows]


SECTIONS: dict[str, Callable[[], dict[str, Any]]] = {
    "step1": partial(training, 1, runs=1, epochs=200),
    "step2": partial(training, 2, runs=1, epochs=200),
    "step1_stacked": partial(training, 1, runs=16, epochs=40),
    "step2_stacked": partial(training, 2, runs=16, epochs=40),
    "neighbours": neighbours,
    "pymatgen": pymatgen,
    "evaluation": evaluation,
    "relaxation": relaxation,
    "memory": memory,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help=f"sections, parted by commas: {','.join(SECTIONS)}")
    parser.add_argument("--out", type=Path, help="also write all results here, as one JSON object")
    options = parser.parse_args()
    names = [name.strip() for name in options.only.split(",")] if options.only else list(SECTIONS)
    if unknown := [name for name in names if name not in SECTIONS]:
        parser.error(f"no section {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    torch.set_num_threads(1)
    result: dict[str, Any] = {"torch": torch.__version__}
    with tqdm(names, desc="bench", unit="section", file=sys.stderr) as bar:
        for name in bar:
            bar.set_postfix_str(name)
            start = time.perf_counter()
            result[name] = SECTIONS[name]()
            result[name] |= {"section_seconds": round(time.perf_counter() - start, 1)}
            bar.clear()  # stdout may be the same terminal
            print(json.dumps({"section": name} | result[name]), flush=True)
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
