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
from pathlib import Path
from typing import Any

from crystalgan.errors import InputError, Interrupted

__version__ = "0.1.0"


try:
    Path.home()
except RuntimeError:
    # No HOME, and a user whom the system does not know: ASE and others ask for it at each file.
    os.environ["HOME"] = "/nonexistent"  # as such users are given everywhere

_PUBLIC = {
    "Config": "config",
    "load_class": "data.classes",
    "builtin_classes": "data.classes",
    "fetch": "data.fetch",
    "train": "runs.training",
    "resume": "runs.training",
    "load_model": "runs.loading",
    "generate": "runs.candidates",
    "compare_with_known": "runs.candidates",
    "symmetrize": "runs.symmetrizing",
    "candidates_table": "runs.database",
    "load_candidate": "runs.database",
    "export": "stability.export",
    "relax_candidates": "stability.relaxations",
    "examine": "data.doctor",
    "loss_figure": "plot.training",
    "distance_figure": "plot.classes",
    "structure_figure": "plot.structure",
}
__all__ = ["InputError", "Interrupted", *_PUBLIC]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    """Import a public function when it is first asked for, so that `import crystalgan` stays
    quick."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'crystalgan' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"crystalgan.{_PUBLIC[name]}"), name)
