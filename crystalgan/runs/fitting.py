"""The pair potential of runs: fitted to CHGNet once, stored with each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from crystalgan.crystal.limits import limits_of
from crystalgan.errors import InputError
from crystalgan.model.methods import needs_pair_potential
from crystalgan.model.pair_potential_fit import fit_pair_potential
from crystalgan.potentials.registry import load_potential, unknown_elements, untrained
from crystalgan.runs.loading import POTENTIAL, load_pair_potential

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crystalgan.model.model import Model
    from crystalgan.model.pair_potential import PairPotential
    from crystalgan.runs.folder import Run


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
    """A pair potential for a model's classes fitted to CHGNet, and how good it is.

    InputError for elements that CHGNet does not know.
    """
    potential = load_potential("chgnet")
    if unknown := unknown_elements(potential, model.species):
        raise InputError(
            f"CHGNet gives no energy for {', '.join(unknown)}; train without energies: --set"
            " lambda_energy=0 --set prerelax=0."
        )
    full = limits_of(model.full_rule, model.species, torch.float64)
    limits = limits_of(model.rule, model.species)
    fit = fit_pair_potential(model.parents, limits, full, model.config, potential.calculator)
    return fit.potential, {
        "potential": f"{potential.name} {potential.version}",
        "cells": fit.cells,
        "force_at_minima": fit.force_at_minima,
    }


def untrained_warning(run: Run) -> str:
    """A sentence where a run asks for energies of elements that CHGNet was hardly trained on;
    otherwise empty."""
    words = untrained("CHGNet", run.species) if needs_pair_potential(run.config) else ""
    return words and f"{words} Train without them: --set lambda_energy=0 --set prerelax=0."
