"""A run folder read into a `Model`: each of its files once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from crystalgan.errors import InputError
from crystalgan.model.methods import METHODS, Networks, needs_pair_potential
from crystalgan.model.model import Model
from crystalgan.model.pair_potential import PairPotential
from crystalgan.runs.folder import Run

if TYPE_CHECKING:
    from pathlib import Path

POTENTIAL = "energy.safetensors"


def load_model(run: Run | Path | str) -> Model:
    """The model of a run: classes, rule, networks of the steps that are trained, pair potential.

    InputError names a file that is damaged, or does not fit the settings.

    >>> from crystalgan.runs.folder import SHIPPED
    >>> load_model(SHIPPED / "Pd-Ni-H_shipped")
    Model(Pd-Ni-H, crystalgan, 40 + 42 parents, 2 of 2 steps trained, pair potential)
    """
    run = run if isinstance(run, Run) else Run.open(run)
    model = Model.of(run.config, run.rule, *run.classes())
    model = replace(model, networks=load_networks(run, model.length))
    if not needs_pair_potential(run.config):
        return model
    finished = len(model.networks) == len(model.stages)
    if finished or (run.folder / POTENTIAL).exists():
        return replace(model, potential=load_pair_potential(run))
    return model


def is_trained(run: Run) -> bool:
    """Whether the last step of a run is trained to its end."""
    return (run.folder / step_file(len(METHODS[run.config.method]))).exists()


def step_file(step: int) -> str:
    """The name of the file with the networks of a step."""
    return f"step{step}.safetensors"


def load_networks(run: Run, length: int) -> tuple[Networks, ...]:
    """The networks of the steps of a run that are trained, for parents of `length` rows."""
    networks, stages = [], METHODS[run.config.method]
    there = [stage.number for stage in stages if (run.folder / step_file(stage.number)).exists()]
    for stage in stages[: max(there, default=0)]:
        path = run.folder / step_file(stage.number)
        tensors, _ = run.load(path.name)
        try:
            networks.append(Networks.trained(stage, run.config, length, tensors))
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()[:100]
            raise InputError(
                f"{path}: does not fit config.json ({reason}); train the pair again."
            ) from None
    return tuple(networks)


def load_pair_potential(run: Run) -> PairPotential:
    """The pair potential that was fitted for a run."""
    tables, reason = run.load(POTENTIAL)[0].get("tables"), "no tables"
    if tables is not None and len(tables) == len(run.species) ** 2:
        try:
            return PairPotential(tables)
        except ValueError as error:
            reason = str(error)
    raise InputError(f"{run.folder / POTENTIAL}: damaged ({reason}); train the pair again.")
