"""What two metals and hydrogen know of energy: one table for each pair of elements, fitted to a
potential once a pair.

The paper asks for prior knowledge in its losses and has first-neighbour distances. This is more of
it, in the same form: a sum over pairs of atoms, by distance alone, fitted by least squares to the
energies, forces and stresses that CHGNet gives for cells of both classes, shaken ones too, and for
cells that the feature transfer makes of them. No known ternary is asked for. It costs microseconds,
has an exact gradient, and is what the generators of step 2, and then the cells that they made, go
down.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from crystalgan.crystal.limits import limits_of
from crystalgan.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crystalgan.crystal.cells import Cells
    from crystalgan.runs.folder import Run

FILE = "energy.safetensors"
# Å: first knot of a table, spacing of the knots, and where it ends
FIRST, WIDTH, CUTOFF = 0.5, 0.05, 5.0
# cubic splines that a table is fitted by, from SHORTEST (Å) to the cutoff
SPLINES, SHORTEST = 14, 0.8
# Å, and share of every length, standard deviations, of cells that are shown beside relaxed ones
SHAKE, SQUEEZE = 0.1, 0.03
# transferred cells that are shown, and as many again of those at the minima of a first fit
TRANSFERRED = 80
MOST_FORCE = 12.0  # eV/Å; a cell with more says nothing of those worth making
# weights of an energy per atom (eV) and of a virial beside that of a force (eV/Å)
PER_ATOM, PER_STRESS = 5.0, 0.3
RIDGE = 1e-4
FEW, STIFF, STEEP = 12, 25.0, 1.0  # where a table has seen fewer distances, a wall: eV/Å², eV/Å
SETTLED = 0.05  # eV/Å, the force at which a cell is settled


@dataclass(frozen=True)
class PairEnergy:
    """Tables `[slots * slots, knots, 2]` (float64) of energies (eV) and of their slopes times the
    spacing of the knots."""

    tables: Tensor

    def __call__(self, cells: Cells) -> Tensor:
        """The energy of each cell, eV, up to a constant for each element; one leading axis,
        differentiable."""
        energies: Tensor = _Energies.apply(cells.features, cells.mask.flatten(1), self.tables)
        return energies

    def prerelaxed(self, cells: Cells, steps: int) -> Cells:
        """Cells (one leading axis) after at most `steps` steps down the energy of positions and
        lattice; symmetry is kept."""
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
            SETTLED,
        )
        if cells.symmetry:
            symmetry = replace(cells.symmetry, lattice=cells.symmetry.lattice.double())
            after = before + symmetry.project(after - before)
        return cells.with_features(after.to(cells.lattice.dtype))


class _Energies(torch.autograd.Function):
    @staticmethod
    # torch's context
    def forward(ctx: Any, features: Tensor, mask: Tensor, tables: Tensor) -> Tensor:
        from crystalgan.crystal.kernels.pair_potential import energies

        slots = round(len(tables) ** 0.5)
        arrays = (t.detach().contiguous().numpy() for t in (features, mask, tables))
        energy, gradient = energies(*arrays, slots, FIRST, WIDTH)
        ctx.save_for_backward(torch.from_numpy(gradient))
        return torch.from_numpy(energy).to(features.dtype)

    @staticmethod
    @once_differentiable
    # torch's context
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


def load(run: Run) -> PairEnergy | None:
    """The energy of a run's pair; None where the run asks for none."""
    if not wanted(run):
        return None
    tensors, _ = run.load(FILE)
    tables = tensors.get("tables")
    if tables is None or tables.ndim != 3 or tables.shape[::2] != (9, 2) or tables.shape[1] < 2:
        raise InputError(f"{run.folder / FILE}: damaged (no tables); train the pair again.")
    return PairEnergy(tables)


def prepared(runs: Sequence[Run]) -> PairEnergy | None:
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


def fitted(run: Run) -> tuple[PairEnergy, dict[str, Any]]:
    """The energy of a run's two classes, and how good it is; the same for every run of these
    classes.

    Raises InputError for elements that CHGNet does not know.
    """
    from crystalgan.crystal.repair import repair
    from crystalgan.model.batches import class_tensors, completed, union
    from crystalgan.potentials.registry import load_potential, unknown_elements

    potential = load_potential("chgnet")
    if unknown := unknown_elements(potential, run.species):
        raise InputError(
            f"CHGNet gives no energy for {', '.join(unknown)}; train without energies: --set"
            " lambda_energy=0 --set prerelax=0."
        )
    rng = torch.Generator().manual_seed(0)
    limits = limits_of(completed(run), run.species, torch.float64)
    classes = union(*class_tensors(run)).to(torch.float64)
    starts = _transferred(run, rng)
    spaced = repair(starts, limits, 100, run.config.margin)
    shown = [
        Labelled.of(cells, potential.calculator)
        for cells in (classes, *(_shaken(c, rng) for c in (classes, spaced)))
    ]
    energy = _fit(shown, limits.lower)
    shown.append(Labelled.of(energy.prerelaxed(starts, 100), potential.calculator))
    energy = _fit(shown, limits.lower)
    last, cells = shown[-1], sum(len(one.cells) for one in shown)
    rms = float(np.sqrt(np.mean([np.square(f).mean() for f in last.forces])))
    return energy, {
        "potential": f"{potential.name} {potential.version}",
        "cells": cells,
        "force_at_minima": rms,
    }


def _transferred(run: Run, rng: torch.Generator) -> Cells:
    """Cells that the transfer makes of both classes as they are, in both directions, disturbed as
    step 2's starts are."""
    from crystalgan.model.batches import pair_order, parents, perturb
    from crystalgan.model.transfer import fit_transfer

    a, b = parents(run)
    limits = limits_of(run.rule, run.species)
    order = pair_order(len(a.cells), len(b.cells), rng)[:TRANSFERRED]
    shifts = torch.rand(len(order), max(run.config.origins, 1), 3, generator=rng)
    half, whole = len(order) // 2, run.config.incoming == "all"
    (i, j), (k, m) = order[:half].T, order[half:].T
    x = fit_transfer(
        b.cells[j], a.cells[i], 2, run.species, (b, a), (j, i), limits, shifts[:half], whole
    )
    y = fit_transfer(
        a.cells[k], b.cells[m], 1, run.species, (a, b), (k, m), limits, shifts[half:], whole
    )
    parts = [
        torch.cat((getattr(x, name), getattr(y, name))) for name in ("lattice", "frac", "mask")
    ]
    cells = replace(x, lattice=parts[0], frac=parts[1], mask=parts[2], symmetry=None)
    return perturb(cells[None], SHAKE, [rng])[0].to(torch.float64)


def _shaken(cells: Cells, rng: torch.Generator) -> Cells:
    from crystalgan.model.batches import perturb

    size = 1 + SQUEEZE * torch.randn(len(cells), 1, 1, generator=rng, dtype=torch.float64)
    return perturb(replace(cells, lattice=cells.lattice * size, symmetry=None)[None], SHAKE, [rng])[
        0
    ]


@dataclass(frozen=True)
class Labelled:
    """Cells with what a potential gives for them, those whose forces are too large to learn from
    left out."""

    cells: Cells
    energies: np.ndarray  # [cells], eV
    forces: list[np.ndarray]  # for each cell [atoms, 3], eV/Å, atoms in the order of the slots
    virials: np.ndarray  # [cells, 3, 3], derivatives of the energy by strain, eV

    @classmethod
    def of(cls, cells: Cells, calculator: Any) -> Labelled:
        """Of cells with one leading axis."""
        from crystalgan.crystal.cells import decode

        rows, energies, forces, virials = [], [], [], []
        for k, structure in enumerate(decode(cells)):
            atoms: Any = structure.to_ase_atoms()
            atoms.calc = calculator
            force, energy = atoms.get_forces(), float(atoms.get_potential_energy())
            if not (np.isfinite(energy) and np.abs(force).max() < MOST_FORCE):
                continue
            rows.append(k)
            energies.append(energy)
            forces.append(force)
            virials.append(atoms.get_stress(voigt=False) * atoms.get_volume())
        return cls(
            cells[torch.tensor(rows, dtype=torch.long)],
            np.array(energies),
            forces,
            np.array(virials).reshape(-1, 3, 3),
        )


def _fit(shown: Sequence[Labelled], closest: Tensor) -> PairEnergy:
    """Least squares over splines for each pair of slots, with a constant for each element.

    `closest` `[slots, slots]` (Å): where the wall of a pair begins at the latest; hydrogen
    molecules are no way down.
    """
    slots = len(shown[0].cells.species)
    pairs = [(s, t) for s in range(slots) for t in range(s, slots)]
    columns = slots + len(pairs) * SPLINES
    square, right, seen = (
        np.zeros((columns, columns)),
        np.zeros(columns),
        [np.empty(0)] * len(pairs),
    )
    for one in shown:
        for matrix, target, distances in _rows(one, slots, pairs):
            square += matrix.T @ matrix
            right += matrix.T @ target
            seen = [np.concatenate(both) for both in zip(seen, distances, strict=True)]
    scale = np.sqrt(np.diag(square)).clip(1e-9)
    square = (
        square / scale / scale[:, None] + RIDGE * np.eye(columns) * (np.diag(square) > 0).mean()
    )
    weights = (np.linalg.solve(square, right / scale) / scale)[slots:].reshape(len(pairs), SPLINES)
    knots = np.arange(FIRST, CUTOFF + WIDTH / 2, WIDTH)
    tables = np.zeros((slots * slots, len(knots), 2))
    values, slopes = _splines(knots)
    for (s, t), weight, distances in zip(pairs, weights, seen, strict=True):
        short = max(
            float(closest[s, t]), np.sort(distances)[FEW] if len(distances) > FEW else SHORTEST
        )
        table = _walled(values @ weight, slopes @ weight, knots, short)
        tables[s * slots + t] = tables[t * slots + s] = table
    return PairEnergy(torch.from_numpy(tables))


# yields arrays
def _rows(one: Labelled, slots: int, pairs: list[tuple[int, int]]) -> Any:
    """For each cell the weighted equations of its energy, forces and virial, and the distances of
    each pair in it."""
    from crystalgan.crystal.kernels.graph import edges_of

    cells = one.cells
    features, mask, length = (
        cells.features.contiguous().numpy(),
        cells.mask.flatten(1),
        cells.mask.shape[-1],
    )
    who, shifts = edges_of(features, mask.contiguous().numpy(), CUTOFF)
    number = {pair: k for k, pair in enumerate(pairs)}
    kind = np.array([[number[min(s, t), max(s, t)] for t in range(slots)] for s in range(slots)])
    for c in range(len(cells)):
        there, row = np.flatnonzero(mask[c].numpy()), np.zeros(mask.shape[1], dtype=np.int64)
        row[there] = np.arange(len(there))
        edges = who[who[:, 0] == c]
        frac = features[c, 3 * length :].reshape(-1, 3)
        vector = (frac[edges[:, 2]] - frac[edges[:, 1]] + shifts[who[:, 0] == c]) @ features[
            c, :9
        ].reshape(3, 3)
        distance = np.linalg.norm(vector, axis=1)
        pair = kind[edges[:, 1] // length, edges[:, 2] // length]
        values, slopes = _splines(distance)
        n, first = len(there), slots
        matrix = np.zeros((1 + 3 * n + 6, first + len(pairs) * SPLINES))
        matrix[0, :slots] = cells.mask[c].sum(-1).numpy()
        unit = vector / distance[:, None]
        strain = unit[:, [0, 1, 2, 1, 0, 0]] * vector[:, [0, 1, 2, 2, 2, 1]]
        for p in range(len(pairs)):
            mine, block = pair == p, slice(first + p * SPLINES, first + (p + 1) * SPLINES)
            matrix[0, block] = values[mine].sum(0)
            along = unit[mine, :, None] * slopes[mine, None, :]  # [edges, 3, splines]
            by_position = np.zeros((n, 3, SPLINES))
            np.add.at(by_position, row[edges[mine, 2]], along)
            np.subtract.at(by_position, row[edges[mine, 1]], along)
            matrix[1 : 1 + 3 * n, block] = -by_position.reshape(3 * n, SPLINES)
            matrix[1 + 3 * n :, block] = strain[mine].T @ slopes[mine]
        virial = one.virials[c][[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
        target = np.concatenate(([one.energies[c]], one.forces[c].ravel(), virial))
        weight = np.concatenate(([PER_ATOM / n], np.ones(3 * n), np.full(6, PER_STRESS / n**0.5)))
        yield (
            matrix * weight[:, None],
            target * weight,
            [distance[pair == p] for p in range(len(pairs))],
        )


def _splines(distance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cubic B-splines `[n, SPLINES]` of distances (Å) and their derivatives; all are zero, and
    smooth, at the cutoff."""
    width = (CUTOFF - SHORTEST) / SPLINES
    u = (np.clip(distance, SHORTEST, CUTOFF)[:, None] - SHORTEST) / width - np.arange(
        -3, SPLINES - 3
    )
    parts = [(u >= k) & (u < k + 1) for k in range(4)]
    v = 4 - u
    values = [
        u**3 / 6,
        (-3 * u**3 + 12 * u**2 - 12 * u + 4) / 6,
        (-3 * v**3 + 12 * v**2 - 12 * v + 4) / 6,
        v**3 / 6,
    ]
    slopes = [u**2 / 2, (-9 * u**2 + 24 * u - 12) / 6, -(-9 * v**2 + 24 * v - 12) / 6, -(v**2) / 2]
    return np.select(parts, values), np.select(parts, slopes) / width


def _walled(values: np.ndarray, slopes: np.ndarray, knots: np.ndarray, short: float) -> np.ndarray:
    """A table with a wall below `short` (Å), of which nothing was seen: at least `STEEP` there, and
    stiffer on the way in."""
    k = int(np.searchsorted(knots, short))
    into = knots[k] - knots[:k]
    slope = min(slopes[k], -STEEP)
    out = np.stack((values, slopes * WIDTH), 1)
    out[:k, 0] = values[k] - slope * into + STIFF / 2 * into**2
    out[:k, 1] = (slope - STIFF * into) * WIDTH
    return out
