"""CrystalGAN: two consecutive cross-domain GANs learn from cells of two binary hydrides and make ternary cells.

After Nouira, Sokolovska and Crivello, "CrystalGAN: Learning to Discover Crystallographic Structures with Generative Adversarial
Networks" (2018, hal-01902821). Where our names differ from the paper's:

=====================  ===========================================================================================
paper                  here
=====================  ===========================================================================================
domains AH, BH         a class: cells of one binary compound M-H; H is the shared element and may be another one
4-dimensional tensor   `Cells`: lattice, fractional coordinates and an occupancy mask for each slot
x_AHB1, y_BHA1         pseudo-binaries: cells after step 1, whose metal positions stand for the other metal
x_AHBg, y_BHAg         transferred cells: the slots H, A and B filled from two pseudo-binaries
L_GAN, L_R             the terms `adversarial` and `reconstruction`
L_geo1, L_geo2         the terms `geo1` (too short) and `geo2` (too long)
lambda_1 ... lambda_6  the fields of `Config` that begin with `lambda_`
=====================  ===========================================================================================
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

__version__ = "0.1.0"


class InputError(ValueError):
    """What the user gave cannot be used; the message is one sentence that names it and the way out."""


class Interrupted(BaseException):
    """The user stopped a command (Ctrl-C, SIGTERM); the message says what is kept and how to go on."""

    @classmethod
    def is_behind(cls, error: BaseException | None) -> bool:
        """Whether an error is one, or what compiled code made of one that came while it ran (a SystemError)."""
        while error is not None and not isinstance(error, cls):
            error = error.__cause__ or error.__context__
        return error is not None


try:
    Path.home()
except RuntimeError:  # no HOME, and a user whom the system does not know: ASE and others ask where the home is for each file
    os.environ["HOME"] = "/nonexistent"  # as such users are given everywhere

_PUBLIC = {
    "Config": "config",
    "load_class": "classes",
    "builtin_classes": "classes",
    "fetch": "sources",
    "train": "training",
    "resume": "training",
    "generate": "candidates",
    "candidates_table": "database",
    "load_candidate": "database",
    "export": "archive",
    "relax_candidates": "relaxations",
    "examine": "doctor",
    "loss_figure": "plots",
    "distance_figure": "charts",
    "structure_figure": "plots",
}
__all__ = ["InputError", *_PUBLIC]  # noqa: PLE0604 - the names are strings


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the module holds
    """Import a public function when it is first asked for, so that `import crystalgan` stays quick."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'crystalgan' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"crystalgan.{_PUBLIC[name]}"), name)
