"""Cells against a rule: verdicts, and gradient steps towards the rule."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from crystalgan.crystal.distances import first_neighbours
from crystalgan.crystal.limits import Limits, limits_of
from crystalgan.crystal.operations import no_symmetry
from crystalgan.crystal.rules import Broken, Rule, Verdict, pair_name

if TYPE_CHECKING:
    from crystalgan.crystal.cells import Cells
    from crystalgan.crystal.symmetry import Symmetry

POSITION_STEP, STRAIN_STEP = 0.25, 0.1  # Å and strain for each Å² of the loss
# the share of a strain's change of volume that `repair` leaves: a cell that may grow satisfies the
# limits by growing, and holds voids
GROWTH = 0.05
RESCALING, RESCALING_GROWTH = 60, 0.02  # steps of `rescale`, and the same share for it
LEAST_VOLUME = 0.01  # of the reference: a cell flatter than that is not blown up to it
# of the reference distance, the lower limit in `rescale`
NEAR_REFERENCE = 0.97


def satisfies(cells: Cells, limits: Limits) -> Tensor:
    """Whether each of the cells `[n]` satisfies the limits, `[n]`; false where it is not finite."""
    with torch.no_grad():
        near = first_neighbours(cells)
        lower, upper = limits.of(near)
        outside = ~((near.distance >= lower) & (near.distance <= upper))
        return cells.features.isfinite().all(-1).index_fill(0, near.cell[outside], value=False)


def check(cells: Cells, rule: Rule) -> list[Verdict]:
    """The verdict of a rule on each of the cells `[n]`, in double precision."""
    cells = cells.to(torch.float64)
    near = first_neighbours(cells)
    lower, upper = limits_of(rule, cells.species, torch.float64).of(near)
    first_atom = torch.cat(
        (torch.zeros(1, dtype=torch.long), cells.mask.sum((1, 2)).cumsum(0)[:-1])
    )[near.cell]
    columns = (
        near.cell,
        near.center - first_atom,
        near.other - first_atom,
        near.center_slot,
        near.other_slot,
    )
    broken: list[list[Broken]] = [[] for _ in range(len(cells))]
    shortest: list[dict[str, float]] = [{} for _ in range(len(cells))]
    rows = zip(
        *(c.tolist() for c in columns),
        near.distance.tolist(),
        lower.tolist(),
        upper.tolist(),
        strict=True,
    )
    for cell, atom, other, slot, other_slot, distance, low, high in rows:
        pair = pair_name(cells.species[slot], cells.species[other_slot])
        shortest[cell][pair] = min(distance, shortest[cell].get(pair, math.inf))
        if not low <= distance <= high:
            broken[cell].append(
                Broken(pair, atom, other, distance, low if distance < low else high)
            )
    # a cell that is not finite has no neighbours, so it breaks no limit
    finite = cells.features.isfinite().all(-1).tolist()
    return [
        Verdict(rule.name, f and not b, tuple(b), s)
        for f, b, s in zip(finite, broken, shortest, strict=True)
    ]


def repair(cells: Cells, limits: Limits, steps: int, margin: float) -> Cells:
    """Cells `[n]` after at most `steps` gradient steps on the squares by which limits are broken.

    Cells that break none stay as they are. Limits are drawn in by `margin` (Å) as in
    `Limits.excess`. Steps are Cartesian displacements and strains, so they mean the same in every
    basis. They keep the symmetry of cells that follow one; a cell that still breaks limits then
    takes as many without it.
    """
    features = cells.features.detach().double().contiguous().clone()
    inset = ((limits.upper - limits.lower) / 4).clamp_max(margin)
    inside = Limits(limits.lower + inset, limits.upper - inset)
    for symmetry in (cells.symmetry, no_symmetry(cells)):
        if symmetry:
            _descend(features, cells, symmetry, inside, limits.cross, steps, GROWTH)
    return cells.with_features(features.to(cells.lattice.dtype))


def rescale(cells: Cells, limits: Limits, reference: Tensor, margin: float) -> Cells:
    """Cells `[n]` at their reference volume, with first neighbours near their reference distance.

    `reference` `[1 + slots, slots]` holds distances (Å) and volumes of atoms (Å³) of the classes
    (`model.batches.reference_of`), also where the limits ask nothing. Without it, a generated cell
    that `repair` mends ends with many distances at the very limit, and voids beside. Symmetry is
    kept.
    """
    volumes = torch.linalg.det(cells.lattice).abs() / (
        cells.mask.sum(-1) * reference[-1].to(cells.lattice.dtype)
    ).sum(-1)
    volumes = volumes.clamp_min(LEAST_VOLUME)
    features = (
        replace(cells, lattice=cells.lattice / volumes.pow(1 / 3)[:, None, None])
        .features.detach()
        .double()
        .contiguous()
    )
    upper = limits.upper.double()
    lower = (
        (NEAR_REFERENCE * reference[:-1].double())
        .maximum(limits.lower.double())
        .minimum(upper - margin)
    )
    symmetry = cells.symmetry or no_symmetry(cells)
    _descend(features, cells, symmetry, Limits(lower, upper), True, RESCALING, RESCALING_GROWTH)
    return cells.with_features(features.to(cells.lattice.dtype))


def _descend(
    features: Tensor,
    cells: Cells,
    symmetry: Symmetry,
    ends: Limits,
    cross: bool,
    steps: int,
    growth: float,
) -> None:
    from crystalgan.crystal.kernels.descent import descend

    operations = (
        t.contiguous().numpy() for t in (symmetry.rotation, symmetry.image, symmetry.count)
    )
    between = (ends.lower.double().numpy(), ends.upper.double().numpy())
    mask = cells.mask.contiguous().numpy()
    descend(
        features.numpy(),
        mask,
        *between,
        cross,
        *operations,
        steps,
        POSITION_STEP,
        STRAIN_STEP,
        growth,
    )
