"""Differentiable first-neighbour distances in periodic crystals.

The nearest image is searched without gradients, exactly, on packed lists of the atoms that exist; the distance to it is then
computed again with gradients, which is all that the derivative of a minimum needs. Images are searched in the Minkowski-reduced
basis: there, for a difference wrapped to [-1/2, 1/2], the nearest image is among the 27 with shifts -1, 0 and 1 (checked against
pymatgen in `tests/test_geometry.py`, skewed cells included).
"""

from __future__ import annotations

import itertools
import math
import tomllib
from collections import Counter
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from crystalgan import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from crystalgan.cells import Cells

# One of each pair +n, -n of the 26 shifts around the origin, [13, 3].
SHIFTS = torch.tensor([n for n in itertools.product((-1, 0, 1), repeat=3) if n > (0, 0, 0)], dtype=torch.float64)
_NEAR = torch.tensor(list(itertools.product((-1, 0, 1), repeat=2)), dtype=torch.float64)
_TINY = 1e-30
POSITION_STEP, STRAIN_STEP = 0.25, 0.01  # of `refine`: Å and strain for each Å² of the loss
MAX_REDUCTIONS = 64  # a handful is enough for any cell worth looking at; the bound ends the loop for one that is not finite


@dataclass(frozen=True)
class Neighbours:
    """Nearest neighbours of atoms, one row each. Atoms are numbered through the batch, cell by cell, slot by slot.

    A row says: of all atoms of the group asked for (its own images included), `other`, shifted by `shift` lattice vectors, is the
    nearest to `center`.
    """

    center: Tensor  # [rows], atom
    other: Tensor  # [rows], atom
    shift: Tensor  # [rows, 3], whole lattice vectors added to `other`
    cell: Tensor  # [rows]
    center_slot: Tensor  # [rows]
    other_slot: Tensor  # [rows]
    distance: Tensor  # [rows], Å, differentiable through lattice and positions


def minkowski_reduce(lattice: Tensor) -> Tensor:
    """The changes of basis H, `[n, 3, 3]` of whole numbers, for which the rows of H @ lattice are Minkowski-reduced.

    Greedy reduction (Nguyen and Stehlé, ACM Trans. Algorithms 5, 46 (2009)) of all lattices at once, through their metric.
    """
    lattice = lattice.double()
    done = torch.eye(3, dtype=torch.float64).repeat(len(lattice), 1, 1)
    rows, change, metric = torch.arange(len(lattice)), done, lattice @ lattice.mT
    near_x, near_y = _NEAR.T
    for _ in range(MAX_REDUCTIONS):
        order = torch.diagonal(metric, dim1=-2, dim2=-1).argsort(dim=-1)
        by_row, by_column = order[:, :, None].expand(-1, -1, 3), order[:, None, :].expand(-1, 3, -1)
        change, metric = change.gather(1, by_row), metric.gather(1, by_row).gather(2, by_column)
        aa, ab, ac, _, bb, bc, _, _, cc = metric.flatten(1).unsqueeze(-1).unbind(1)
        # b loses its nearest multiple of a; c is brought near the plane of the two by rounding, and then to the nearest of nine.
        turns = (ab / aa.clamp_min(_TINY)).round()
        bb, ab, bc = bb - turns * (2 * ab - turns * aa), ab - turns * aa, bc - turns * ac
        determinant = (aa * bb - ab * ab).clamp_min(_TINY)
        x = ((bc * ab - ac * bb) / determinant).round() + near_x  # [n, 9]
        y = ((ac * ab - bc * aa) / determinant).round() + near_y
        gain, best = (x * (x * aa + 2 * (y * ab + ac)) + y * (y * bb + 2 * bc)).min(-1, keepdim=True)
        shorter = gain < -1e-9 * cc
        moved = ((turns != 0) | shorter).squeeze(-1)
        if not moved.any():
            break
        x, y = (torch.where(shorter, z.gather(1, best), 0.0) for z in (x, y))
        step = torch.eye(3, dtype=torch.float64).repeat(len(rows), 1, 1)
        step[:, 1, 0], step[:, 2, 0], step[:, 2, 1] = -turns.squeeze(-1), (x - y * turns).squeeze(-1), y.squeeze(-1)
        change, metric = step @ change, step @ metric @ step.mT
        if len(rows) > 4 * int(moved.sum()):  # go on with those few that are not reduced yet
            done = done.index_copy(0, rows, change)
            rows, change, metric = rows[moved], change[moved], metric[moved]
    return done.index_copy(0, rows, change)


def first_neighbours(cells: Cells, cross: bool = True) -> Neighbours:
    """The nearest neighbours that rules and losses ask about, for cells with one leading axis.

    For every atom of the shared element the nearest of its kind; for every metal atom the nearest metal, whichever it is; and
    with `cross` for every atom of the shared element the nearest metal (no row in a cell without metal).
    """
    features, bonds = cells.features, _bonds(cells.mask, cross)
    start, cell, slot = bonds.start, bonds.cell, bonds.slot
    with torch.no_grad():
        change = minkowski_reduce(cells.lattice).to(cells.lattice.dtype)
        reduced = change @ cells.lattice
        inside = _times(_gather(features, start, 3), _matrices(_inverse(change), cell))
        center, other, shift = _nearest(inside, reduced @ reduced.mT, bonds)
        cell_of = cell.index_select(0, center)
        shift = _times(shift, _matrices(change, cell_of))
    ends = _gather(features, torch.cat((start.index_select(0, other), start.index_select(0, center))), 3)
    step = ends[:, : len(other)] - ends[:, len(other) :] + shift
    lattice = _gather(features, cell_of * features.shape[-1], 9).view(3, 3, -1)
    square = _times(step, lattice).square().sum(0)
    # Atoms on top of each other: the distance is zero and has no direction; a zero gradient is better than none.
    distance = square.clamp_min(_TINY).sqrt()
    return Neighbours(center, other, shift.T, cell_of, slot.index_select(0, center), slot.index_select(0, other), distance)


def _gather(source: Tensor, start: Tensor, count: int) -> Tensor:
    """Columns `[count, n]`: the `count` entries of `source` that follow each of the places `start`, `source` taken as flat.

    One flat gather: the gradient of a gather of rows adds them one by one.
    """
    flat = start + torch.arange(count)[:, None]
    return source.reshape(-1).index_select(0, flat.reshape(-1)).view(count, -1)


def _matrices(matrices: Tensor, index: Tensor) -> Tensor:
    """Those of `matrices` `[m, 3, 3]` at `index` `[n]`, as `[3, 3, n]`."""
    return matrices.reshape(-1, 9).T.contiguous().index_select(1, index).view(3, 3, -1)


def _inverse(change: Tensor) -> Tensor:
    """The inverse of changes of basis `[n, 3, 3]`, exact as their determinants are 1 or -1."""
    a, b, c = change.unbind(1)
    adjugate = torch.stack((torch.linalg.cross(b, c), torch.linalg.cross(c, a), torch.linalg.cross(a, b)), -1)
    return adjugate * (a * adjugate[..., 0]).sum(-1)[:, None, None]


def _times(rows: Tensor, matrices: Tensor) -> Tensor:
    """Each column v of `rows` `[3, n]` as the row vector v @ M, M the matching one of `matrices` `[3, 3, n]`; `[3, n]`.

    Long axes last: thousands of products of 3 x 3 matrices are several times faster so than as batched matrix products.
    """
    return (rows[:, None] * matrices).sum(0)


def nearest_between(lattice: Tensor, a: Tensor, a_mask: Tensor, b: Tensor, b_mask: Tensor) -> Tensor:
    """For every row of `b` the distance to its nearest atom of `a`, `[cells, rows]`, Å; inf in the padding of `b`. No gradients.

    Fractional coordinates `[cells, rows, 3]` with masks `[cells, rows]`, lattices `[cells, 3, 3]`.
    """
    with torch.no_grad():
        change = minkowski_reduce(lattice)
        metric = change.to(lattice.dtype) @ lattice
        metric = metric @ metric.mT
        back = _inverse(change.to(lattice.dtype))
        shifts = SHIFTS.to(lattice.dtype)
        lengths = torch.einsum("kx,cxy,ky->ck", shifts, metric, shifts)
        best = torch.full(b.shape[:2], torch.inf, dtype=lattice.dtype)
        a, b = a @ back, b @ back
        for row in range(a.shape[1]):  # the rows of `a` are few and those of `b` many: no tensor of all pairs and images
            there = a_mask[:, row]
            wrapped = b - a[:, None, row]
            wrapped = wrapped - wrapped.round()
            raised = wrapped @ metric
            gain = (lengths[:, None] - 2 * (raised @ shifts.T).abs()).amin(-1).clamp_max(0)
            square = (wrapped * raised).sum(-1) + gain
            best = torch.where(there[:, None], torch.minimum(best, square), best)
        return torch.where(b_mask, best.clamp_min(0).sqrt(), torch.inf)


class _Bonds(NamedTuple):
    """What follows from the occupancy alone: the atoms of a batch, and the pairs of atoms whose distance is asked for."""

    start: Tensor  # [atoms], where the coordinates of each begin among all `features`
    cell: Tensor  # [atoms]
    slot: Tensor  # [atoms]
    first: Tensor  # [pairs]
    second: Tensor  # [pairs]
    pair_cell: Tensor  # [pairs]
    itself: Tensor  # [pairs], True for an atom and its own images
    asked: Tensor  # [candidates], atom i for a neighbour within its group, atoms + i for one in the other group
    pair: Tensor  # [candidates], the pair that may be the answer


@lru_cache(maxsize=4)  # a tensor is its own key: steps on the same cells share it
def _bonds(mask: Tensor, cross: bool) -> _Bonds:
    """All unordered pairs within each group of a cell, an atom with itself included; with `cross` also those between groups."""
    _, slots, length = mask.shape
    place = mask.reshape(-1).nonzero().squeeze(-1)
    cell = place // (slots * length)
    slot = place // length - cell * slots
    atoms = torch.arange(len(cell))
    group = 2 * cell + (slot > 0)  # ascending, as atoms come cell by cell and slot by slot
    ends = torch.bincount(group, minlength=2 * len(mask)).cumsum(0)
    end = ends.index_select(0, group)
    first, second = _runs(atoms, atoms, end - atoms)
    asked = [first, second]
    pair = [torch.arange(len(first))] * 2
    if cross:
        shared = (slot == 0).nonzero().squeeze(-1)
        start = end.index_select(0, shared)
        more = _runs(shared, start, ends.index_select(0, group.index_select(0, shared) + 1) - start)
        asked.append(more[0] + len(cell))
        pair.append(torch.arange(len(first), len(first) + len(more[0])))
        first, second = torch.cat((first, more[0])), torch.cat((second, more[1]))
    start = 3 * (place + (cell + 1) * length)
    pair_cell, itself = cell.index_select(0, first), first == second
    return _Bonds(start, cell, slot, first, second, pair_cell, itself, torch.cat(asked), torch.cat(pair))


def _nearest(coords: Tensor, metric: Tensor, bonds: _Bonds) -> tuple[Tensor, Tensor, Tensor]:
    """Center and other atom and the shift between them `[3, rows]` for each row of `first_neighbours`, in a reduced basis.

    With the wrapped difference w and u = w G, the 27 images are at |w + n|^2 = w.u + n G n +- 2 u.n: one product of matrices.
    """
    first, second = bonds.first, bonds.second
    shifts = SHIFTS.to(coords.dtype)
    lengths = torch.einsum("kx,cxy,ky->kc", shifts, metric, shifts)  # [13, cells]
    difference = coords.index_select(1, second) - coords.index_select(1, first)
    base = -difference.round()
    wrapped = difference + base
    raised = _times(wrapped, _matrices(metric, bonds.pair_cell))
    images = lengths.index_select(1, bonds.pair_cell) - ((2 * shifts) @ raised).abs_()
    gain = images.amin(0)  # of the best image over the wrapped difference itself; only zero itself is no neighbour
    square = (wrapped * raised).sum(0) + gain.clamp_max(0).where(~bonds.itself, gain)
    # One minimum finds distance and pair: the bits of a positive float order as it does, and the candidate's number follows them.
    value = square.clamp_min(0).float().view(torch.int32).long().index_select(0, bonds.pair)
    key = (value << 32) + torch.arange(len(value))
    best = key.new_full((2 * len(bonds.cell),), -1).scatter_reduce_(0, bonds.asked, key, "amin", include_self=False)
    winner = best[best >= 0] & 0xFFFFFFFF
    chosen = bonds.pair.index_select(0, winner)
    first, second, gain = first.index_select(0, chosen), second.index_select(0, chosen), gain.index_select(0, chosen)
    turned = bonds.asked.index_select(0, winner) % len(bonds.cell) != first  # the asking atom is the second of the pair
    which = (images.index_select(1, chosen) == gain) * torch.arange(1, len(shifts) + 1)[:, None]
    least = shifts.T.index_select(1, which.amax(0) - 1)
    sign = torch.where((raised.index_select(1, chosen) * least).sum(0) > 0, -1, 1) * ((gain < 0) | (first == second))
    shift = base.index_select(1, chosen) + sign * least
    return first.where(~turned, second), second.where(~turned, first), torch.where(turned, -1, 1) * shift


def _runs(label: Tensor, start: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """For every row its `label`, `count` times, and the numbers from `start` on."""
    offset = start - (count.cumsum(0) - count)
    return label.repeat_interleave(count), torch.arange(int(count.sum())) + offset.repeat_interleave(count)


@dataclass(frozen=True)
class Limits:
    """A rule's limits for the slots of some cells, as tensors `[slots, slots]`; -inf and inf where nothing is asked."""

    lower: Tensor  # Å
    upper: Tensor  # Å

    @property
    def cross(self) -> bool:
        """Whether anything is asked of the shared element and a metal."""
        return bool((self.lower[0, 1:].isfinite() | self.upper[0, 1:].isfinite()).any())

    def of(self, near: Neighbours) -> tuple[Tensor, Tensor]:
        """Lower and upper limit of each row, Å."""
        return self.lower[near.center_slot, near.other_slot], self.upper[near.center_slot, near.other_slot]

    def excess(self, near: Neighbours, margin: float) -> tuple[Tensor, Tensor, Tensor]:
        """How far each row is too short and too long, Å and zero inside, and whether the rule asks about it.

        Both limits are drawn in by `margin` (Å), at most by a quarter of the interval.
        """
        lower, upper = self.of(near)
        inset = ((upper - lower) / 4).clamp_max(margin)
        judged = lower.isfinite() | upper.isfinite()
        return (lower + inset - near.distance).relu(), (near.distance - upper + inset).relu(), judged


@dataclass(frozen=True)
class Rule:
    """First-neighbour distances that a good cell keeps: limits in Å for pairs of elements, named like "H-Pd".

    Asked of every shared atom and its nearest of the same kind, every metal atom and its nearest metal, and every shared atom and
    its nearest metal; a pair without limits is not judged.
    """

    name: str
    limits: dict[str, tuple[float, float]]

    def for_slots(self, species: tuple[str, ...], dtype: torch.dtype = torch.float32) -> Limits:
        """The limits as tensors for cells with these slots."""
        none = (-math.inf, math.inf)
        table = [[self.limits.get(pair_name(a, b), none) for b in species] for a in species]
        both = torch.tensor(table, dtype=dtype)
        return Limits(both[..., 0], both[..., 1])


@dataclass(frozen=True)
class Broken:
    """One first-neighbour distance outside its limits. Atoms are numbered from 0 in the order of the decoded structure."""

    pair: str
    atom: int
    other: int
    distance: float  # Å
    limit: float  # Å, the one that is broken


@dataclass(frozen=True)
class Verdict:
    """What a rule says of one cell."""

    rule: str
    passed: bool
    broken: tuple[Broken, ...]
    shortest: dict[str, float]  # pair -> shortest first-neighbour distance, Å

    def __str__(self) -> str:
        if self.passed:
            return f"keeps the rule {self.rule}"
        parts = Counter(
            f"{b.pair} {b.distance:.2f} Å {'<' if b.distance < b.limit else '>'} {b.limit:.2f} Å" for b in self.broken
        )
        words = "; ".join(text if times == 1 else f"{times} x {text}" for text, times in parts.items())
        return f"breaks the rule {self.rule}: {words}"


def pair_name(a: str, b: str) -> str:
    """The name of a pair of elements, the same whichever comes first."""
    return f"{min(a, b)}-{max(a, b)}"


def paper_rule(metals: Iterable[str], shared: str = "H", d1: float = 1.8, d2: float = 3.0) -> Rule:
    """Section IV.B: H-H, A-A, B-B and A-B first neighbours between d1 and d2 (Å); A-H and B-H are not judged."""
    pairs = {pair_name(a, b) for a in metals for b in metals} | {pair_name(shared, shared)}
    return Rule("paper", dict.fromkeys(sorted(pairs), (d1, d2)))


def learned_rule(a: Cells, b: Cells, shortest_shared: float = 1.5) -> Rule:
    """Limits for each pair from the two classes' own first-neighbour distances.

    Lower: 0.95 times the 5th percentile; upper: 1.05 times the 95th; A-B: means of those of A-A and B-B; the shared element with
    itself has a lower limit only. Cells with two shared atoms closer than `shortest_shared` (Å) teach nothing.
    """
    limits: dict[str, tuple[float, float]] = {}
    of_shared: list[Tensor] = []
    for cells in (a, b):
        near = first_neighbours(cells.to(torch.float64))
        same = (near.center_slot == 0) & (near.other_slot == 0)
        molecular = torch.zeros(len(cells), dtype=torch.bool)
        molecular[near.cell[same & (near.distance < shortest_shared)]] = True
        sane = ~molecular[near.cell]
        if not sane.any():
            shared, metal = cells.species
            raise InputError(
                f"Every cell of {metal}-{shared} has {shared} atoms closer than {shortest_shared} Å: no limits can be learned; "
                "use the rule paper or a table of your own."
            )
        of_shared.append(near.distance[sane & same])
        for other in (0, 1):
            chosen = near.distance[sane & (near.center_slot == 1 - other) & (near.other_slot == 1)]
            low, high = chosen.quantile(torch.tensor([0.05, 0.95], dtype=chosen.dtype)).tolist()
            limits[pair_name(cells.species[1 - other], cells.species[1])] = (0.95 * low, 1.05 * high)
    (metal_a, metal_b), shared = (a.species[1], b.species[1]), a.species[0]
    ends = zip(limits[pair_name(metal_a, metal_a)], limits[pair_name(metal_b, metal_b)], strict=True)
    low, high = ((x + y) / 2 for x, y in ends)
    limits[pair_name(metal_a, metal_b)] = (low, high)
    limits[pair_name(shared, shared)] = (0.95 * float(torch.cat(of_shared).quantile(0.05)), math.inf)
    return Rule("learned", limits)


def read_rule(path: Path) -> Rule:
    """A user's own table: a TOML file with `[limits]` and lines such as `"H-Pd" = [1.5, 2.2]` (Å; `inf` for no limit)."""
    from pymatgen.core import Element

    try:
        table = tomllib.loads(path.read_text(encoding="utf-8")).get("limits")
    except OSError as error:
        raise InputError(f"{path}: this rule cannot be read ({error.strerror}); give paper, learned or a TOML file.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a TOML file ({error}).") from None
    if not isinstance(table, dict) or not table:
        raise InputError(f'{path}: no [limits] table; write lines such as "H-H" = [1.8, 3.0] below a line [limits].')
    limits = {}
    for pair, ends in table.items():
        elements = pair.split("-")
        if len(elements) != 2 or not all(Element.is_valid_symbol(e) for e in elements):
            raise InputError(f'{path}: {pair!r} is not a pair of elements; write it as "H-Pd".')
        numbers = isinstance(ends, list) and len(ends) == 2 and all(isinstance(x, (int, float)) for x in ends)
        if not numbers or not 0 <= ends[0] < ends[1]:
            raise InputError(f"{path}: the limits of {pair} must be two distances in Å, the smaller first, not {ends}.")
        limits[pair_name(*elements)] = (float(ends[0]), float(ends[1]))
    return Rule(path.stem, limits)


def keeps(cells: Cells, limits: Limits) -> Tensor:
    """Whether each cell (one leading axis) keeps the limits, `[cells]`; a verdict without its reasons."""
    with torch.no_grad():
        near = first_neighbours(cells)
        lower, upper = limits.of(near)
        outside = ~((near.distance >= lower) & (near.distance <= upper))
        return cells.features.isfinite().all(-1).index_fill(0, near.cell[outside], value=False)


def judge(cells: Cells, rule: Rule) -> list[Verdict]:
    """The verdict of `rule` on each cell (one leading axis), in double precision."""
    cells = cells.to(torch.float64)
    near = first_neighbours(cells)
    lower, upper = rule.for_slots(cells.species, torch.float64).of(near)
    first_atom = torch.cat((torch.zeros(1, dtype=torch.long), cells.mask.sum((1, 2)).cumsum(0)[:-1]))[near.cell]
    columns = (near.cell, near.center - first_atom, near.other - first_atom, near.center_slot, near.other_slot)
    broken: list[list[Broken]] = [[] for _ in range(len(cells))]
    shortest: list[dict[str, float]] = [{} for _ in range(len(cells))]
    rows = zip(*(c.tolist() for c in columns), near.distance.tolist(), lower.tolist(), upper.tolist(), strict=True)
    for cell, atom, other, slot, other_slot, distance, low, high in rows:
        pair = pair_name(cells.species[slot], cells.species[other_slot])
        shortest[cell][pair] = min(distance, shortest[cell].get(pair, math.inf))
        if not low <= distance <= high:
            broken[cell].append(Broken(pair, atom, other, distance, low if distance < low else high))
    finite = cells.features.isfinite().all(-1).tolist()  # else no distance is found, and none is broken
    return [Verdict(rule.name, f and not b, tuple(b), s) for f, b, s in zip(finite, broken, shortest, strict=True)]


def refine(cells: Cells, limits: Limits, steps: int, margin: float) -> Cells:
    """Gradient steps of positions and lattice down the sum of squares that break the limits; cells that break none stay.

    One leading axis. Steps are Cartesian displacements and strains, so they mean the same in every basis.
    """
    frac, strain = cells.frac, torch.eye(3, dtype=cells.lattice.dtype).repeat(len(cells), 1, 1)
    atoms = cells.mask.sum((1, 2))[:, None, None]
    for _ in range(steps):
        frac, strain = frac.detach().requires_grad_(), strain.detach().requires_grad_()
        lattice = cells.lattice @ strain
        short, long, _ = limits.excess(first_neighbours(replace(cells, lattice=lattice, frac=frac)), margin)
        loss = short.square().sum() + long.square().sum()
        if not loss > 0:
            break
        by_frac, by_strain = torch.autograd.grad(loss, (frac, strain))
        metric = (lattice @ lattice.mT).detach()[:, None]  # from a gradient in fractional to a step in fractional coordinates
        frac = frac - POSITION_STEP * torch.linalg.solve(metric, by_frac.mT).mT
        strain = strain - STRAIN_STEP * by_strain / atoms
    return replace(cells, lattice=(cells.lattice @ strain).detach(), frac=frac.detach())
