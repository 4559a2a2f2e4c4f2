"""The fit of a `PairPotential` to the energies, forces and stresses that an ASE calculator gives.

Cubic B-splines for each pair of elements and a constant for each element, by ridge-regularised
linear least squares, in the manner of UF2/UF3 (Xie, Rupp and Hennig, npj Comput. Mater. 9, 162
(2023)). The cells are those of both classes, the same perturbed, cells that the feature transfer
makes of them, and the minima of a first fit; no known ternary is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from crystalgan.crystal.cells import Cells, decode
from crystalgan.crystal.kernels.graph import edges_of
from crystalgan.crystal.repair import repair
from crystalgan.model.batches import pair_order, perturb, union
from crystalgan.model.pair_potential import CUTOFF, FIRST, WIDTH, PairPotential
from crystalgan.model.transfer import Host, Incoming, fitted_transfer, order_rng

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from crystalgan.config import Config
    from crystalgan.crystal.limits import Limits
    from crystalgan.model.transfer import Parents

# cubic B-splines of each pair, from SHORTEST (Å) to the cutoff
SPLINES, SHORTEST = 14, 0.8
# Å, and share of every length, standard deviations, of perturbed cells
SHAKE, SQUEEZE = 0.1, 0.03
TRANSFERRED = 80  # transferred cells, and as many again at the minima of a first fit
STEPS = 100  # of the repair of transferred cells, and of the way to those minima
MOST_FORCE = 12.0  # eV/Å; a cell with more says nothing of those worth making
# weights of an energy per atom (eV) and of a virial beside that of a force (eV/Å)
PER_ATOM, PER_STRESS = 5.0, 0.3
RIDGE = 1e-4
FEW, STIFF, STEEP = 12, 25.0, 1.0  # where a table has seen fewer distances, a wall: eV/Å², eV/Å
# the rows and columns of a symmetric matrix's six entries
VOIGT = [0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]


@dataclass(frozen=True)
class PairPotentialFit:
    """A fitted pair potential, and how good it is."""

    potential: PairPotential
    cells: int  # that it was fitted to
    force_at_minima: float  # eV/Å, root mean square force of the calculator at minima of the fit


def fit_pair_potential(
    parents: tuple[Parents, Parents],
    limits: Limits,
    full_limits: Limits,
    config: Config,
    calculator: Any,
) -> PairPotentialFit:
    """The pair potential of two classes, by an ASE `calculator`; the same at every call.

    `limits` are those that transferred cells are chosen by, `full_limits` (float64) those that
    their repair aims at, with a lower one for every pair.
    """
    rng = torch.Generator().manual_seed(0)
    classes = union(*(p.cells for p in parents)).to(torch.float64)
    starts = transferred_starts(parents, limits, config, rng)
    spaced = repair(starts, full_limits, STEPS, config.margin)
    labelled = [
        Labelled.of(cells, calculator)
        for cells in (classes, _shaken(classes, rng), _shaken(spaced, rng))
    ]
    first = fit(labelled, full_limits.lower)
    at_minima = Labelled.of(first.prerelaxed(starts, STEPS), calculator)
    labelled.append(at_minima)
    rms = float(np.sqrt(np.mean([np.square(f).mean() for f in at_minima.forces])))
    potential = fit(labelled, full_limits.lower)
    return PairPotentialFit(potential, sum(len(one.cells) for one in labelled), rms)


def transferred_starts(
    parents: tuple[Parents, Parents], limits: Limits, config: Config, rng: torch.Generator
) -> Cells:
    """Fitted transfers of both classes as they are, in both directions, perturbed; `[n]`, float64.

    Their `origins` and what comes in are the settings'.
    """
    a, b = parents
    (shared, metal_a), metal_b = a.cells.species, b.cells.species[1]
    species = shared, metal_a, metal_b
    order = pair_order(len(a.cells), len(b.cells), rng)[:TRANSFERRED]
    shifts = torch.rand(len(order), max(config.origins, 1), 3, generator=rng)
    half = len(order) // 2

    def put(host: Parents, other: Parents, rows: Tensor, slot: int, shifts: Tensor) -> Cells:
        return fitted_transfer(
            Host.of(host.cells[rows[:, 0]], host, rows[:, 0], slot, species),
            Incoming.of(other.cells[rows[:, 1]], other, rows[:, 1], config.incoming),
            limits,
            shifts,
            order_rng(shifts),
        )

    x = put(b, a, order[:half].flip(1), 2, shifts[:half])
    y = put(a, b, order[half:], 1, shifts[half:])
    cells = replace(Cells.cat((x, y)), symmetry=None)
    return perturb(cells[None], SHAKE, [rng])[0].to(torch.float64)


def _shaken(cells: Cells, rng: torch.Generator) -> Cells:
    size = 1 + SQUEEZE * torch.randn(len(cells), 1, 1, generator=rng, dtype=torch.float64)
    cells = replace(cells, lattice=cells.lattice * size, symmetry=None)
    return perturb(cells[None], SHAKE, [rng])[0]


@dataclass(frozen=True)
class Labelled:
    """Cells with energies, forces and virials; those with too large forces are left out."""

    cells: Cells
    energies: np.ndarray  # [cells], eV
    forces: list[np.ndarray]  # for each cell [atoms, 3], eV/Å, atoms in the order of the slots
    virials: np.ndarray  # [cells, 3, 3], derivatives of the energy by strain, eV

    @classmethod
    def of(cls, cells: Cells, calculator: Any) -> Labelled:
        """What an ASE calculator gives for cells `[n]`."""
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


def fit(labelled: Sequence[Labelled], closest: Tensor) -> PairPotential:
    """Ridge-regularised least squares over the splines of all pairs of slots.

    `closest` `[slots, slots]` (Å) is where the wall of a pair begins at the latest: a hydrogen
    molecule is no minimum of the potential.
    """
    slots = len(labelled[0].cells.species)
    pairs = [(s, t) for s in range(slots) for t in range(s, slots)]
    rows = [e for one in labelled for e in equations(one, pairs)]
    square = sum(e.matrix.T @ e.matrix for e in rows)
    right = sum(e.matrix.T @ e.target for e in rows)
    weights = ridge(np.asarray(square), np.asarray(right))[slots:].reshape(len(pairs), SPLINES)
    knots = np.arange(FIRST, CUTOFF + WIDTH / 2, WIDTH)
    values, slopes = splines(knots)
    tables = np.zeros((slots * slots, len(knots), 2))
    for p, ((s, t), weight) in enumerate(zip(pairs, weights, strict=True)):
        distances = np.sort(np.concatenate([e.distances[p] for e in rows]))
        short = float(distances[FEW]) if len(distances) > FEW else SHORTEST
        short = max(float(closest[s, t]), short)
        table = walled(values @ weight, slopes @ weight, knots, short)
        tables[s * slots + t] = tables[t * slots + s] = table
    return PairPotential(torch.from_numpy(tables))


def ridge(square: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The solution of normal equations whose columns are scaled to one, regularised by `RIDGE`."""
    scale = np.sqrt(np.diag(square)).clip(1e-9)
    there = (np.diag(square) > 0).mean()
    scaled = square / scale / scale[:, None] + RIDGE * np.eye(len(square)) * there
    return np.asarray(np.linalg.solve(scaled, right / scale) / scale)


class Equations(NamedTuple):
    """The weighted equations of one cell: of its energy, forces and virial."""

    matrix: np.ndarray  # [1 + 3 * atoms + 6, slots + pairs * SPLINES]
    target: np.ndarray  # [1 + 3 * atoms + 6]
    distances: list[np.ndarray]  # Å, of each pair


class Edges(NamedTuple):
    """All pairs of atoms of one cell within the cutoff, each once."""

    here: np.ndarray  # [edges], atoms numbered from 0
    there: np.ndarray  # [edges]
    pair: np.ndarray  # [edges], the number of the pair of slots
    vector: np.ndarray  # [edges, 3], Å


def equations(one: Labelled, pairs: list[tuple[int, int]]) -> Iterator[Equations]:
    """The equations of each cell."""
    for c, edges in enumerate(edges_of_cells(one.cells, pairs)):
        n = len(one.forces[c])
        matrix = design_matrix(edges, one.cells.mask[c].sum(-1).numpy(), len(pairs))
        virial = one.virials[c][VOIGT]
        target = np.concatenate(([one.energies[c]], one.forces[c].ravel(), virial))
        weight = np.concatenate(([PER_ATOM / n], np.ones(3 * n), np.full(6, PER_STRESS / n**0.5)))
        distance = np.linalg.norm(edges.vector, axis=1)
        distances = [distance[edges.pair == p] for p in range(len(pairs))]
        yield Equations(matrix * weight[:, None], target * weight, distances)


def edges_of_cells(cells: Cells, pairs: list[tuple[int, int]]) -> Iterator[Edges]:
    """The edges of each of the cells `[n]`."""
    slots, length = cells.mask.shape[1:]
    features, mask = cells.features.contiguous().numpy(), cells.mask.flatten(1).contiguous().numpy()
    who, shifts = edges_of(features, mask, CUTOFF)
    kind = np.zeros((slots, slots), dtype=np.int64)
    for p, (s, t) in enumerate(pairs):
        kind[s, t] = kind[t, s] = p
    for c in range(len(cells)):
        mine = who[:, 0] == c
        here, there = who[mine, 1], who[mine, 2]
        number = np.cumsum(mask[c]) - 1
        frac = features[c, 3 * length :].reshape(-1, 3)
        step = frac[there] - frac[here] + shifts[mine]
        vector = step @ features[c, :9].reshape(3, 3)
        yield Edges(number[here], number[there], kind[here // length, there // length], vector)


def design_matrix(edges: Edges, counts: np.ndarray, pairs: int) -> np.ndarray:
    """What each coefficient adds to energy, forces and virial of a cell: `[1 + 3 n + 6, columns]`.

    `counts` `[slots]` are the cell's atoms. The columns are the elements' constants, then the
    splines of each pair.
    """
    n, slots = int(counts.sum()), len(counts)
    distance = np.linalg.norm(edges.vector, axis=1)
    values, slopes = splines(distance)
    unit = edges.vector / distance[:, None]
    strain = unit[:, VOIGT[0]] * edges.vector[:, VOIGT[1]]
    matrix = np.zeros((1 + 3 * n + 6, slots + pairs * SPLINES))
    matrix[0, :slots] = counts
    for p in range(pairs):
        mine, block = edges.pair == p, slice(slots + p * SPLINES, slots + (p + 1) * SPLINES)
        matrix[0, block] = values[mine].sum(0)
        along = unit[mine, :, None] * slopes[mine, None, :]  # [edges, 3, splines]
        by_position = np.zeros((n, 3, SPLINES))
        np.add.at(by_position, edges.there[mine], along)
        np.subtract.at(by_position, edges.here[mine], along)
        matrix[1 : 1 + 3 * n, block] = -by_position.reshape(3 * n, SPLINES)
        matrix[1 + 3 * n :, block] = strain[mine].T @ slopes[mine]
    return matrix


def splines(distance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cubic B-splines `[n, SPLINES]` at distances `[n]` (Å), and their derivatives (1/Å).

    All are zero, and smooth, at the cutoff; below `SHORTEST` they are as there.
    """
    from scipy.interpolate import BSpline

    width = (CUTOFF - SHORTEST) / SPLINES
    # three more at each end, for scipy's splines add up to one between the ends
    knots = SHORTEST + width * np.arange(-3, SPLINES + 4)
    basis = BSpline(knots, np.eye(SPLINES + 3)[:, :SPLINES], 3)
    inside = np.clip(distance, SHORTEST, CUTOFF)
    return basis(inside), basis.derivative()(inside)


def walled(values: np.ndarray, slopes: np.ndarray, knots: np.ndarray, short: float) -> np.ndarray:
    """A table `[knots, 2]` with a wall below `short` (Å), of which nothing was seen.

    The wall's slope is at least `STEEP`, and it stiffens on the way in.
    """
    k = int(np.searchsorted(knots, short))
    into = knots[k] - knots[:k]
    slope = min(slopes[k], -STEEP)
    out = np.stack((values, slopes * WIDTH), 1)
    out[:k, 0] = values[k] - slope * into + STIFF / 2 * into**2
    out[:k, 1] = (slope - STIFF * into) * WIDTH
    return out
