"""Speed and memory on one core, as one JSON object: `make bench`.

Every ratio is of two times measured in turn in one process, so that a busy machine slows both.
Training is the real loop at the paper's settings, 35 cells a class; the bare matrix products are
those of its passes, with weights and inputs of the same shapes.
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

from crystalgan.config import Config
from crystalgan.crystal.cells import Cells, decode
from crystalgan.crystal.distances import first_neighbours
from crystalgan.data.classes import BinaryClass, load_class
from crystalgan.model.batches import pair_order
from crystalgan.runs.loading import load_model
from crystalgan.runs.training import train, train_seeds

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymatgen.core import Structure

    from crystalgan.runs.folder import Run

BATCH, CELLS, WIDTH, LAYERS = 35, 35, 100, 5
Network = list[tuple[Tensor, Tensor]]


def classes() -> tuple[BinaryClass, BinaryClass]:
    """35 cells of Pd-H and of Ni-H, as many as the paper trains on; those with most atoms are among
    them."""
    pair = (load_class("Pd"), load_class("Ni"))
    a, b = (
        replace(c, entries=tuple(sorted(c.entries, key=lambda e: -len(e.structure))[:CELLS]))
        for c in pair
    )
    return a, b


def bare_update(runs: int, size: int) -> Callable[[], None]:
    """The matrix products of one update: forward passes, gradients of weights, gradients of inputs,
    nothing else."""

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


def training(runs: int, epochs: int) -> dict[str, Any]:
    """Seconds an epoch and run of both steps beside the bare products, measured in turn epoch by
    epoch."""
    a, b = classes()
    length = max(c.cells().mask.shape[-1] for c in (a, b))
    bare = {step: bare_update(runs, (2 + step) * length * 3) for step in (1, 2)}
    times: dict[str, list[float]] = {
        f"{what}{step}": [] for what in ("epoch", "bare") for step in (1, 2)
    }
    last = [time.perf_counter()]

    def measure(step: int, epoch: int, _epochs: int, _terms: dict[str, float]) -> None:
        now = time.perf_counter()
        # this epoch followed on another one, not on the bare products
        if epoch > 5 and epoch % 2 == 0:
            times[f"epoch{step}"].append(now - last[0])
            for _ in range(2):  # the first warms the caches, as the epochs do for each other
                start = time.perf_counter()
                bare[step]()
                elapsed = time.perf_counter() - start
            times[f"bare{step}"].append(elapsed)
        last[0] = time.perf_counter()

    config = Config.paper(epochs1=epochs, epochs2=epochs)
    with tempfile.TemporaryDirectory() as folder:
        train_seeds(a, b, config, range(runs), folder, measure)
    out: dict[str, Any] = {"runs": runs}
    for step in (1, 2):
        epoch, products = (
            statistics.median(times[f"{what}{step}"]) / runs for what in ("epoch", "bare")
        )
        out[f"step{step}"] = {
            "seconds_per_epoch_and_run": epoch,
            "bare_products": products,
            "ratio": epoch / products,
        }
    return out


def candidate_like(count: int, atoms: int) -> Cells:
    """Transferred Pd-Ni-H cells with this many atoms, as step 2 meets them."""
    with tempfile.TemporaryDirectory() as folder:
        run: Run = train("Pd", "Ni", Config(epochs1=1, epochs2=1, origins=2), folder)
        rng = torch.Generator().manual_seed(0)
        a, b = run.classes()
        pairs = pair_order(len(a), len(b), rng)
        x, _ = load_model(run).transferred(
            pairs,
            torch.rand(len(pairs), 2, 3, generator=rng),
            torch.ones(len(pairs), dtype=torch.bool),
        )
    x = x[x.mask.sum((1, 2)) == atoms]
    return x[torch.arange(count) % len(x)]


def geometry(count: int = 256, atoms: int = 12) -> dict[str, Any]:
    """First-neighbour distances of a batch, with and without their gradients, against pymatgen's
    `get_all_neighbors`.

    pymatgen is asked twice: up to 3 Å, which is enough for the paper's verdict, and up to the
    largest first-neighbour distance of each cell, which is what it takes to find the same
    distances.
    """
    cells = candidate_like(count, atoms)
    structures = decode(cells)
    near = first_neighbours(cells)
    reach = torch.zeros(count).scatter_reduce(0, near.cell, near.distance, "amax") + 1e-3
    pairs = list(zip(structures, reach.tolist(), strict=True))
    times: dict[str, list[float]] = {}

    def timed(name: str, call: Callable[[], object]) -> None:
        start = time.perf_counter()
        call()
        times.setdefault(name, []).append((time.perf_counter() - start) / count)

    def with_gradients() -> None:
        wanted = replace(
            cells,
            lattice=cells.lattice.clone().requires_grad_(),
            frac=cells.frac.clone().requires_grad_(),
        )
        first_neighbours(wanted).distance.sum().backward()

    for _ in range(5):
        for _ in range(5):
            timed("forward", lambda: first_neighbours(cells))
            timed("forward_and_backward", with_gradients)
        timed("get_all_neighbors_3A", lambda: [s.get_all_neighbors(3.0) for s in structures])
        timed(
            "get_all_neighbors_same_distances", lambda: [s.get_all_neighbors(r) for s, r in pairs]
        )
    seconds = {name: statistics.median(values) for name, values in times.items()}
    faster = {
        name: seconds[name] / seconds["forward"] for name in seconds if name.startswith("get")
    }
    return {"cells": count, "atoms": atoms, "seconds_per_cell": seconds, "times_faster": faster}


def memory(epochs: int) -> dict[str, Any]:
    """Peak memory of a training process with the default preset, and its time."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        command = [
            sys.executable,
            "-m",
            "crystalgan",
            "train",
            "Pd",
            "Ni",
            "--rule",
            "paper",
            "--epochs",
            str(epochs),
        ]
        subprocess.run([*command, "--runs", folder], check=True, capture_output=True)
        seconds = time.perf_counter() - start
    # kB; the largest of all children, and this is the only one
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return {"epochs": [epochs, epochs], "peak_MB": peak / 1000, "seconds": seconds}


def evaluation(
    count: int = 16, batches: tuple[int, ...] = (1, 4, 16), rounds: int = 3
) -> dict[str, Any]:
    """Energies with forces and stress from CHGNet, the package's and ours, in turn.

    The structures are the first candidates of the shipped run. A batch is what many relaxations
    side by side ask for at a step.
    """
    from chgnet.model import CHGNet

    from crystalgan.potentials.chgnet import ChgnetEnergy

    structures = shipped(count)
    atoms = [structure.to_ase_atoms() for structure in structures]
    with contextlib.redirect_stdout(sys.stderr):  # it greets; stdout is the JSON's
        package, ours = (
            CHGNet.load(verbose=False, use_device="cpu"),
            ChgnetEnergy(CHGNet.load(verbose=False, use_device="cpu")),
        )
    times: dict[str, list[float]] = {}

    def timed(name: str, evaluate: Callable[[], object]) -> None:
        start = time.perf_counter()
        evaluate()
        times.setdefault(name, []).append((time.perf_counter() - start) / count)

    def evaluated(batch: int) -> None:
        for k in range(0, count, batch):
            ours.with_derivatives(atoms[k : k + batch])

    for _ in range(rounds):
        timed(
            "package_one_by_one",
            lambda: package.predict_structure(structures, task="efs", batch_size=1),
        )
        timed(
            "package_16_at_once",
            lambda: package.predict_structure(structures, task="efs", batch_size=16),
        )
        for batch in batches:
            timed(f"{batch}_at_once" if batch > 1 else "one_by_one", partial(evaluated, batch))
    seconds = {name: statistics.median(spent) for name, spent in times.items()}
    return {
        "structures": count,
        "atoms": statistics.mean(map(len, structures)),
        "seconds_per_evaluation": seconds,
        "times_faster": {
            name: seconds["package_one_by_one"] / value for name, value in seconds.items()
        },
    }


def relaxation(
    count: int = 16, batches: tuple[int, ...] = (2, 4, 8), rounds: int = 3
) -> dict[str, Any]:
    """Structures relaxed a minute of CPU time: by the package's calculator, by ours, by ours side
    by side; in turn.

    All through `perform`, so with one optimizer. The structures are those of `evaluation`. Steps
    differ a little between batches, whose sums are rounded otherwise; a step costs what it costs.
    """
    from crystalgan.stability.tasks import Outcome, Settings, Task, advance, perform

    tasks = [Task(number, "", structure) for number, structure in enumerate(shipped(count))]
    ways = {"package_one_by_one": ("chgnet.model.CHGNetCalculator", 1), "one_by_one": ("chgnet", 1)}
    ways |= {f"{batch}_at_once": ("chgnet", batch) for batch in batches}

    def relaxed(potential: str, batch: int) -> list[Outcome]:
        work, out, waiting, under_way = (
            partial(perform, potential, Settings()),
            dict[int, Outcome](),
            list(tasks),
            0,
        )
        if batch == 1:
            return [work(task) for task in tasks]
        while len(out) < count:
            new, waiting = waiting[: batch - under_way], waiting[batch - under_way :]
            done = advance(work, {task.candidate: task for task in new})
            out |= done
            under_way += len(new) - len(done)
        return list(out.values())

    minutes: dict[str, list[float]] = {name: [] for name in ways}
    steps: dict[str, list[float]] = {name: [] for name in ways}
    with contextlib.redirect_stdout(sys.stderr):
        for potential in ("chgnet", "chgnet.model.CHGNetCalculator"):
            perform(potential, Settings(steps=1), tasks[0])  # loads it
        for _ in range(rounds):
            for name, (potential, batch) in ways.items():
                start = time.process_time()
                outcomes = relaxed(potential, batch)
                minutes[name].append((time.process_time() - start) / 60)
                assert all(outcome.columns["state"] == "converged" for outcome in outcomes)
                steps[name].append(
                    statistics.mean(outcome.columns["steps"] for outcome in outcomes)
                )
    rate = {name: count / statistics.median(spent) for name, spent in minutes.items()}
    per_step = {
        name: statistics.median(m / s for m, s in zip(minutes[name], steps[name], strict=True))
        for name in ways
    }
    return {
        "structures": count,
        "steps": {name: statistics.mean(values) for name, values in steps.items()},
        "relaxed_per_core_minute": rate,
        "times_the_package": {
            name: value / rate["package_one_by_one"] for name, value in rate.items()
        },
        "times_one_by_one": {name: value / rate["one_by_one"] for name, value in rate.items()},
        "times_one_by_one_by_step": {
            name: per_step["one_by_one"] / value for name, value in per_step.items()
        },
    }


def shipped(count: int) -> list[Structure]:
    """The first candidates of the shipped run."""
    from crystalgan.runs.database import open_database, structure_of
    from crystalgan.runs.folder import SHIPPED, Run

    return [
        structure_of(row)
        for row in open_database(Run.open(SHIPPED / "Pd-Ni-H_shipped")).select(limit=count)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="also write the JSON here")
    parser.add_argument(
        "--epochs", type=int, default=1000, help="of the run whose memory is measured"
    )
    options = parser.parse_args()
    result: dict[str, Any] = {"memory": memory(options.epochs), "torch": torch.__version__}
    torch.set_num_threads(1)
    result |= {"training": [training(1, 200), training(16, 60)], "geometry": geometry()}
    result |= {"evaluation": evaluation(), "relaxation": relaxation()}
    text = json.dumps(result, indent=1)
    print(text)
    if options.out:
        Path(options.out).write_text(text + "\n")


if __name__ == "__main__":
    main()
