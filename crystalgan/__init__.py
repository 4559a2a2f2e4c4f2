"""CrystalGAN: two consecutive cross-domain GANs learn from cells of two binary hydrides and make
ternary cells.

After Nouira, Sokolovska and Crivello, "CrystalGAN: Learning to Discover Crystallographic Structures
with Generative Adversarial Networks" (2018, hal-01902821). Where our names differ from the paper's:

=====================  ===========================================================================
paper                  here
=====================  ===========================================================================
domains AH, BH         a class: cells of one binary compound M-H; H is the shared element
4-dimensional tensor   `Cells`: lattice, fractional coordinates, an occupancy mask for each slot
x_AHB1, y_BHA1         pseudo-binaries: cells after step 1, whose metal sites are the other metal's
x_AHBg, y_BHAg         transferred cells: the slots H, A and B filled from two pseudo-binaries
L_GAN, L_R             the terms `adversarial` and `reconstruction`
L_geo1, L_geo2         the terms `geo1` (too short) and `geo2` (too long)
lambda_1 ... lambda_6  the fields of `Config` that begin with `lambda_`
=====================  ===========================================================================
"""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Any

from crystalgan.errors import InputError, Interrupted

__version__ = "0.2.0"


try:
    Path.home()
except RuntimeError:
    # No HOME, and a user whom the system does not know: ASE and others ask for it at each file.
    os.environ["HOME"] = "/nonexistent"  # as such users are given everywhere

# What a notebook needs: public name -> module. `__init__.pyi` says the same to type checkers.
EXPORTED = {
    # settings, runs
    "Config": "config",
    "Run": "api.run",
    "open_run": "api.run",
    "load_model": "runs.loading",
    "list_runs": "api.run",
    "shipped": "api.run",
    "pack_run": "runs.run_zip",
    "unpack_run": "api.run",
    # cells
    "BinaryClass": "data.classes",
    "builtin_classes": "data.classes",
    "load_class": "data.classes",
    "examine": "data.doctor",
    "fetch": "api.run",
    # from two classes to candidates
    "train": "api.run",
    "resume": "api.run",
    "train_step2": "api.run",
    "generate": "api.run",
    "compare_with_known": "api.run",
    "candidates_table": "runs.database",
    "load_candidate": "runs.database",
    "decide": "runs.database",
    "symmetrize": "runs.symmetrizing",
    "export": "stability.export",
    "measure": "runs.metrics",
    # one cell
    "Rule": "crystal.rules",
    "paper_rule": "crystal.rules",
    "read_rule": "crystal.rules",
    "first_distances": "crystal.describe",
    "neighbours": "crystal.describe",
    "powder_pattern": "crystal.describe",
    "symmetry": "crystal.describe",
    # stability
    "relax_candidates": "api.run",
    "compute_phonons": "api.run",
    "hull": "api.run",
    # studies
    "table2": "api.studies",
    "ablation": "api.studies",
    "tune": "api.studies",
    "benchmark": "api.studies",
    "rediscover": "api.studies",
    # from two metals alone
    "discover": "api.discovery",
    "Phases": "discovery.phases",
    "phases_of_run": "discovery.phases",
    "verify_phases": "api.discovery",
    # figures
    "accuracy_figure": "plot.training",
    "loss_figure": "plot.training",
    "distance_figure": "plot.classes",
    "structure_figure": "plot.structure",
    "pattern_figure": "plot.classes",
    "class_figure": "plot.classes",
    "hull_figure": "plot.stability",
    "storage_figure": "plot.stability",
    "relaxation_figure": "plot.stability",
    "bands_figure": "plot.phonons",
    "table2_figure": "plot.studies",
    "ablation_figure": "plot.studies",
    "validity_figure": "plot.studies",
    "benchmark_figure": "plot.studies",
}
__all__ = ["InputError", "Interrupted", *EXPORTED]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for, so that `import crystalgan` stays quick."""
    if name not in EXPORTED:
        raise AttributeError(f"module 'crystalgan' has no attribute {name!r}")
    found = getattr(import_module(f"crystalgan.{EXPORTED[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """What there is, for completion."""
    return sorted({*globals(), *EXPORTED})
