"""The pair potential of runs: fitted to CHGNet once, stored with each."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from crystalgan.crystal.limits import limits_of
from crystalgan.errors import InputError
from crystalgan.model.methods import needs_pair_potential
from crystalgan.model.pair_potential import PairPotential
from crystalgan.model.pair_potential_fit import fit_pair_potential
from crystalgan.potentials.registry import load_potential, unknown_elements, untrained
from crystalgan.resources import cache_folder
from crystalgan.runs.loading import POTENTIAL, load_pair_potential
from crystalgan.storage import write_whole

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from crystalgan.model.model import Model
    from crystalgan.potentials.registry import Potential
    from crystalgan.runs.folder import Run

FIT = "1"  # to be changed with whatever changes the outcome of a fit: older ones are not taken
SETTINGS = ("margin", "origins", "incoming", "symmetry", "transfer")  # that a fit depends on


def pair_potential_of(runs: Sequence[Run], model: Model) -> PairPotential | None:
    """The pair potential of the classes that these runs share, where their settings ask for it;
    fitted and stored if it is not there yet.

    InputError for elements that CHGNet does not know.
    """
    if not needs_pair_potential(model.config):
        return None
    if not all((run.folder / POTENTIAL).exists() for run in runs):
        for run in runs:
            run.set_status(
                "running", message="CHGNet is asked for the energies that step 2 learns from"
            )
        energy, about = fit_to_chgnet(model)
        for run in runs:
            run.save(POTENTIAL, {"tables": energy.tables}, about)
            run.set_status("running", message="")
    return load_pair_potential(runs[0])


def fit_to_chgnet(model: Model) -> tuple[PairPotential, dict[str, Any]]:
    """Fit a pair potential for a model's classes to CHGNet; return it and how good it is.

    A fit takes about ten seconds, so it is kept in the user's cache for the next run of the same
    classes. Raises InputError for elements that CHGNet does not know.
    """
    potential = load_potential("chgnet")
    if unknown := unknown_elements(potential, model.species):
        raise InputError(
            f"CHGNet gives no energy for {', '.join(unknown)}; train without energies: --set"
            " lambda_energy=0 --set prerelax=0."
        )
    kept = cache_folder() / "pair-potentials" / f"{_digest(model, potential)}.safetensors"
    with suppress(OSError, SafetensorError, KeyError, TypeError, ValueError):
        return _read(kept)  # else there is none, or a damaged one, or one that may not be read
    full = limits_of(model.full_rule, model.species, torch.float64)
    limits = limits_of(model.rule, model.species)
    fit = fit_pair_potential(model.parents, limits, full, model.config, potential.calculator)
    about = {
        "potential": f"{potential.name} {potential.version}",
        "cells": fit.cells,
        "force_at_minima": fit.force_at_minima,
    }
    with suppress(InputError, OSError):  # a cache that cannot be written is none
        kept.parent.mkdir(parents=True, exist_ok=True)
        header = {"about": json.dumps(about)}
        write_whole(kept, save({"tables": fit.potential.tables.contiguous()}, header))
    return fit.potential, about


def _digest(model: Model, potential: Potential) -> str:
    """What tells one fit from another: classes, limits, settings, potential, the fit itself."""
    limits = limits_of(model.full_rule, model.species), limits_of(model.rule, model.species)
    settings = {name: getattr(model.config, name) for name in SETTINGS}
    said = [FIT, potential.name, potential.version, model.species, settings]
    found = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
    for tensor in (limit for both in limits for limit in (both.lower, both.upper)):
        found.update(tensor.numpy().tobytes())
    for parents in model.parents:
        for tensor in (parents.cells.lattice, parents.cells.frac, parents.cells.mask):
            found.update(tensor.contiguous().numpy().tobytes())
    return found.hexdigest()


def _read(path: Path) -> tuple[PairPotential, dict[str, Any]]:
    with safe_open(path, "pt") as file:
        tables, about = file.get_tensor("tables"), json.loads(file.metadata()["about"])
    if not tables.isfinite().all():
        raise ValueError(f"{path}: numbers that are not finite")
    return PairPotential(tables), about


def untrained_warning(run: Run) -> str:
    """A sentence where a run asks for energies of elements that CHGNet was hardly trained on;
    otherwise empty."""
    words = untrained("CHGNet", run.species) if needs_pair_potential(run.config) else ""
    return words and f"{words} Train without them: --set lambda_energy=0 --set prerelax=0."
