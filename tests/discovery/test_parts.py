"""The report of the loop against its parts, on phases whose hull is plain."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.discovery_parts import VARIANTS, WithoutFeedback, report, systems
from crystalgan.data.classes import load_class
from crystalgan.discovery.compositions import small_compositions
from crystalgan.discovery.evaluation import Evaluation
from crystalgan.discovery.sources import RandomSource
from crystalgan.discovery.system import System
from crystalgan.stability.hull import Phase

ELEMENTS = [[[1, 0, 0], 0.0], [[0, 1, 0], 0.0], [[0, 0, 1], 0.0]]


def _row(variant: str, seed: int, *phases: list[Any]) -> dict[str, Any]:
    about = {"system": "A-B", "variant": variant, "seed": seed}
    return about | {"references": ELEMENTS, "phases": list(phases)}


def test_phases_near_the_joint_hull_are_counted_once():
    lowest = [[2, 1, 1], -0.5]
    rows = [
        _row("whole", 0, [*lowest, 9.0, "random"], [[4, 2, 2], -0.4995, 10.0, "hosts"]),
        _row("whole", 1, [*lowest, 5.0, "random"], [[2, 1, 1], -0.46, 6.0, "random"]),
        # found sooner; 0.06 eV/atom above the hull of all; of two elements; near
        _row("random", 0, [[4, 2, 2], -0.5, 7.0, ""], [[2, 1, 1], -0.44, 8.0, ""]),
        _row("random", 1, [[0, 1, 1], 0.0, 1.0, ""], [[3, 1, 1], -0.39, 2.0, ""]),
    ]
    lines = report(rows).splitlines()
    assert lines[0] == "| variant | A-B (3) | all | found first |"
    assert lines[2] == "| whole | 1.5 ± 0.7 | 1.5 ± 0.7 | 1.0 ± 1.4 |"
    assert lines[3] == "| random | 1.0 ± 0.0 | 1.0 ± 0.0 | 1.0 ± 0.0 |"


def test_systems_are_fixed():
    assert len(set(systems(10))) == 10
    assert systems(10)[:3] == systems(3)
    assert {"whole", "with learned", "no potential", "no feedback"} < set(VARIANTS)


def test_without_feedback_nothing_that_was_found_counts():
    species = ("H", "Pd", "Ni")
    phases = [Phase(symbol, symbol, 0.0) for symbol in species]
    a, b = load_class("Pd").cells(), load_class("Ni").cells()
    system = System.of(species, a, b, phases)
    sources = [RandomSource(), RandomSource()]
    search = WithoutFeedback(system, sources, Evaluation("none"), small_compositions(6))
    before = search.targets(np.random.default_rng(0), 50)
    search.best, search.paid["random"] = {(1, 1, 1): -9.0}, 100.0
    assert [c for c, _ in before] == [c for c, _ in search.targets(np.random.default_rng(0), 50)]
    assert search.shares().tolist() == [0.5, 0.5]
