"""The pair potential of one A-B-H system: a table of energies for each pair of elements.

A two-body potential, a sum over pairs of atoms by their distance alone, given by cubic Hermite
tables. It costs microseconds a cell and has an exact gradient. It is a term of the loss of step 2,
and generated cells are relaxed in it before they are repaired. `pair_potential_fit` fits it to
CHGNet.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from crystalgan.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crystalgan.crystal.cells import Cells
    from crystalgan.runs.folder import Run

FILE = "energy.safetensors"
# Å: first knot of a table, spacing of the knots, and where it ends
FIRST, WIDTH, CUTOFF = 0.5, 0.05, 5.0
PRERELAXED = 0.05  # eV/Å, the largest force at which a cell is relaxed


@dataclass(frozen=True)
class PairPotential:
    """A two-body potential for cells with as many slots as its tables have.

    The tables hold values (eV) and slopes times the spacing of the knots (eV), and both are zero at
    the cutoff.
    """

    tables: Tensor  # [slots * slots, knots, 2], float64; knots from FIRST to CUTOFF

    def __post_init__(self) -> None:
        slots, knots = round(len(self.tables) ** 0.5), round((CUTOFF - FIRST) / WIDTH) + 1
        if self.tables.shape != (slots * slots, knots, 2) or self.tables.dtype != torch.float64:
            raise ValueError(
                f"tables must be float64 [slots * slots, {knots}, 2], not {self.tables.dtype}"
                f" {tuple(self.tables.shape)}"
            )

    def __repr__(self) -> str:
        return f"PairPotential({round(len(self.tables) ** 0.5)} slots, cutoff {CUTOFF} Å)"

    def __call__(self, cells: Cells) -> Tensor:
        """Energies `[n]` (eV) of cells `[n]`, up to a constant for each element; differentiable."""
        energies: Tensor = _Energies.apply(cells.features, cells.mask.flatten(1), self.tables)
        return energies

    def prerelaxed(self, cells: Cells, steps: int) -> Cells:
        """Cells `[n]` after at most `steps` steps of FIRE in positions and lattice.

        A cell stops where no force is larger than 0.05 eV/Å. Symmetry is kept.
        """
        from crystalgan.crystal.kernels.pair_potential import prerelax

        before = cells.features.detach().double()
        after, mask = before.contiguous().clone(), cells.mask.flatten(1).contiguous().numpy()
        prerelax(
            after.numpy(),
            mask,
            self.tables.numpy(),
            len(cells.species),
            FIRST,
            WIDTH,
            steps,
            PRERELAXED,
        )
        if cells.symmetry:
            symmetry = replace(cells.symmetry, lattice=cells.symmetry.lattice.double())
            after = before + symmetry.project(after - before)
        return cells.with_features(after.to(cells.lattice.dtype))


class _Energies(torch.autograd.Function):
    """Energies of cells with their gradient by features, which the kernel gives with them."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, mask: Tensor, tables: Tensor) -> Tensor:
        from crystalgan.crystal.kernels.pair_potential import energies

        slots = round(len(tables) ** 0.5)
        arrays = (t.detach().contiguous().numpy() for t in (features, mask, tables))
        energy, gradient = energies(*arrays, slots, FIRST, WIDTH)
        ctx.save_for_backward(torch.from_numpy(gradient))
        return torch.from_numpy(energy).to(features.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return grad[:, None] * ctx.saved_tensors[0], None, None


def wanted(run: Run) -> bool:
    """Whether a run asks for energies: in the loss of step 2, or of the cells that it makes."""
    from crystalgan.model.methods import METHODS

    return METHODS[run.config.method][-1].constrained and bool(
        run.config.lambda_energy or run.config.prerelax
    )


def warning(run: Run) -> str:
    """A sentence where a run asks for energies of elements that CHGNet was hardly trained on;
    otherwise empty."""
    from crystalgan.potentials.registry import untrained

    words = untrained("CHGNet", run.species) if wanted(run) else ""
    return words and f"{words} Train without them: --set lambda_energy=0 --set prerelax=0."


def load(run: Run) -> PairPotential | None:
    """The energy of a run's pair; None where the run asks for none."""
    if not wanted(run):
        return None
    tensors, _ = run.load(FILE)
    if set(tensors) != {"tables"}:
        raise InputError(f"{run.folder / FILE}: damaged (no tables); train the pair again.")
    return PairPotential(tensors["tables"])


def prepared(runs: Sequence[Run]) -> PairPotential | None:
    """The energy of the pair of these runs, which share their classes, where it is asked for;
    fitted if it is not there yet."""
    if wanted(runs[0]) and not all((run.folder / FILE).exists() for run in runs):
        for run in runs:
            run.set_status(
                "running", message="CHGNet is asked for the energies that step 2 learns from"
            )
        energy, about = fitted(runs[0])
        for run in runs:
            run.save(FILE, {"tables": energy.tables}, about)
            run.set_status("running", message="")
    return load(runs[0])


def fitted(run: Run) -> tuple[PairPotential, dict[str, Any]]:
    """The pair potential of a run's two classes, and how good it is; the same for all runs of them.

    InputError for elements that CHGNet does not know.
    """
    from crystalgan.crystal.limits import limits_of
    from crystalgan.model.batches import completed, parents
    from crystalgan.model.pair_potential_fit import fit_pair_potential
    from crystalgan.potentials.registry import load_potential, unknown_elements

    potential = load_potential("chgnet")
    if unknown := unknown_elements(potential, run.species):
        raise InputError(
            f"CHGNet gives no energy for {', '.join(unknown)}; train without energies: --set"
            " lambda_energy=0 --set prerelax=0."
        )
    limits = limits_of(run.rule, run.species)
    full = limits_of(completed(run), run.species, torch.float64)
    fit = fit_pair_potential(parents(run), limits, full, run.config, potential.calculator)
    return fit.potential, {
        "potential": f"{potential.name} {potential.version}",
        "cells": fit.cells,
        "force_at_minima": fit.force_at_minima,
    }
