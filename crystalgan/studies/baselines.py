"""Where candidates can come from: the trained run, and baselines that need no training.

Each source in `SOURCES` is a function from a `BaselineTask` to a stream of ternary cells. A stream
gives None where an attempt came to nothing, so that its reader can look at the clock: some never
come to anything. The baselines are given the run's compositions, in its order, and the volume that
its atoms have in both classes.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pymatgen.core import Structure

    from crystalgan.crystal.cells import Cells
    from crystalgan.model.model import Model

Composition = tuple[int, int, int]  # atoms of the shared element and of both metals
Counts = Sequence[Sequence[int]]  # atoms of both elements of each cell of a class

GROUP_TRIES = 5  # space groups that PyXtal is asked for in turn before a composition is given up
CLOSEST = 0.7  # of the sum of covalent radii: how near ASE's random atoms may be
# primitive cells in a conventional one, by centring
REPEATS = {"P": 1, "A": 2, "B": 2, "C": 2, "I": 2, "R": 3, "F": 4}
# cells from which each of the run's is chosen: to make one costs a hundredth of relaxing it
CHOICE = 8
SOME = 400  # cells that are made at once where all have one composition
LARGEST = 3  # supercell of a parent, in which metals are swapped


@dataclass(frozen=True)
class BaselineTask:
    """What every source of candidates is given."""

    run: Path
    species: tuple[str, str, str]
    compositions: tuple[Composition, ...]
    volumes: tuple[float, float, float]  # of an atom of each species, Å³
    # cells of both classes, and known ternary ones of a user's, whose metals are swapped
    hosts: tuple[Structure, ...]
    seed: int
    only: bool = False  # the run is to make these compositions alone, not those that it draws

    def volume(self, composition: Composition) -> float:
        """The volume of so many atoms in the classes, Å³."""
        return sum(n * v for n, v in zip(composition, self.volumes, strict=True))

    def symbols(self, composition: Composition) -> list[str]:
        """The elements of the atoms, one after the other."""
        return [
            symbol for symbol, n in zip(self.species, composition, strict=True) for _ in range(n)
        ]


# `Run`, imported late
def compositions_of(run: Any, count: int, seed: int) -> tuple[Composition, ...]:
    """The compositions of the first cells that a run draws."""
    from crystalgan.model.model import BLOCK
    from crystalgan.runs.loading import load_model

    model = load_model(run)
    blocks = [
        model.draw(block, seed).cells.mask.sum(-1).tolist() for block in range(-(-count // BLOCK))
    ]
    return tuple((h, a, b) for h, a, b in itertools.chain(*blocks))[:count]


def from_the_run(task: BaselineTask) -> Iterator[Structure | None]:
    """The run's own cells: those that keep its rule and repeat no earlier one."""
    from crystalgan.crystal.cells import decode
    from crystalgan.crystal.matching import StructureIndex
    from crystalgan.crystal.repair import satisfies
    from crystalgan.runs.loading import load_model

    model, seen = load_model(task.run), StructureIndex[int]()
    every = (model.draw(block, task.seed, CHOICE).cells for block in itertools.count())
    for some in _targeted(model, task) if task.only else ([cells] for cells in every):
        kept = [cells[satisfies(cells, model.limits)] for cells in some]
        made = [structure for cells in kept for structure in decode(cells)]
        if task.only:
            made = [made[k] for k in _by_energy(model, kept)]
        for structure in made:
            if seen.find_or_add(structure, 0) is None:
                yield structure
        yield None


def _by_energy(model: Model, some: Sequence[Cells]) -> list[int]:
    """The rows of some cells of one composition, one after the other, by the energy of the pair
    potential where the model has one."""
    import torch

    energy = model.potential
    if not energy:
        return list(range(sum(map(len, some))))
    order: list[int] = torch.cat([energy(cells) for cells in some]).argsort().tolist()
    return order


def origins_of(
    composition: Composition, a: Counts, b: Counts
) -> dict[bool, list[tuple[int, int, int]]]:
    """Which pairs of parents give a composition: rows of both classes, and 1 where the first's cell
    takes the other one in.

    `a` and `b` are atoms of both elements of each parent. Metals change places: a cell of A takes B
    in and becomes one of B. It keeps its hydrogen alone (under False), or gets that of the other
    one too (True).
    """
    h, n_a, n_b = composition
    out: dict[bool, list[tuple[int, int, int]]] = {False: [], True: []}
    for (i, (h_a, m_a)), (j, (h_b, m_b)) in itertools.product(enumerate(a), enumerate(b)):
        if (m_a, m_b) == (n_b, n_a):
            out[False] += [(i, j, to_b) for to_b, own in ((1, h_a), (0, h_b)) if own == h]
            out[True] += [(i, j, to_b) for to_b in (1, 0) if h_a + h_b == h]
    return out


def _targeted(model: Model, task: BaselineTask) -> Iterator[list[Cells]]:
    """Cells of the task's composition, many at once, from all pairs of parents that give it, again
    and again.

    Second parents come in with and without their hydrogen; the paper's transfer knows one way, and
    so does a perceptron, whose inputs are as many as in its training.
    """
    import torch

    (composition,), config = task.compositions, model.config
    fitting = origins_of(composition, *(cells.mask.sum(-1).tolist() for cells in model.classes))
    if config.generator == "mlp" or config.transfer == "paper":
        fitting[config.incoming != "all"] = []
    ways = {whole: torch.tensor(rows) for whole, rows in fitting.items() if rows}
    rng = torch.Generator().manual_seed(task.seed)
    while ways:
        some = []
        for whole, every in ways.items():
            rows = every[torch.randint(len(every), (SOME // len(ways),), generator=rng)]
            incoming: Literal["metal", "all"] = "all" if whole else "metal"
            batch = model.sample(rows[:, :2], rows[:, 2] == 1, rng, best_of=1, incoming=incoming)
            some.append(batch.cells)
        yield some


def from_pyxtal(task: BaselineTask) -> Iterator[Structure | None]:
    """Random cells with the symmetry of a random space group that the composition allows
    (Fredericks et al., CPC 261, 107810)."""
    from pyxtal import pyxtal
    from pyxtal.msg import Comp_CompatibilityError, VolumeError

    rng = np.random.default_rng(task.seed)
    for composition in itertools.cycle(task.compositions):
        there = [n > 0 for n in composition]
        species = list(itertools.compress(task.species, there))
        for group, repeats in rng.permutation(_groups(composition))[:GROUP_TRIES].tolist():
            cell = pyxtal()
            counts = [n * repeats for n in itertools.compress(composition, there)]
            try:
                cell.from_random(3, group, species, counts, random_state=int(rng.integers(2**31)))
            except (Comp_CompatibilityError, VolumeError, RuntimeError, ValueError):
                continue
            if cell.valid:
                yield cell.to_pymatgen().get_primitive_structure()
                break
        else:
            yield None


@cache
def _groups(composition: Composition) -> list[tuple[int, int]]:
    """Space groups above P1 whose sites can hold a composition, each with the primitive cells in
    its conventional one."""
    from pyxtal.symmetry import Group

    out = []
    for number in range(2, 231):
        group = Group(number)
        repeats = REPEATS[group.symbol[0]]
        if group.check_compatible([n * repeats for n in composition if n])[0]:
            out.append((number, repeats))
    return out


def by_substitution(task: BaselineTask) -> Iterator[Structure | None]:
    """Metals swapped at random in cells of both classes, and in a user's ternary ones, that have
    the composition's sites.

    Compositions without such a cell are passed over.
    """
    rng = np.random.default_rng(task.seed)
    counts = [
        (sum(s.specie.symbol == task.species[0] for s in host), len(host)) for host in task.hosts
    ]
    for composition in itertools.cycle(task.compositions):
        shared, atoms = composition[0], sum(composition)
        fitting = [
            (host, atoms // size)
            for host, (own, size) in zip(task.hosts, counts, strict=True)
            if not atoms % size and atoms // size <= LARGEST and own * (atoms // size) == shared
        ]
        if not fitting:
            yield None
            continue
        host, repeats = fitting[rng.integers(len(fitting))]
        cell = host.copy().make_supercell(rng.permutation([repeats, 1, 1]).tolist())
        metals = [i for i, site in enumerate(cell) if site.specie.symbol != task.species[0]]
        for place, i in enumerate(rng.permutation(metals)):
            cell.replace(int(i), task.species[1] if place < composition[1] else task.species[2])
        yield cell.scale_lattice(task.volume(composition))


def from_ase(task: BaselineTask) -> Iterator[Structure | None]:
    """Random positions in random cells, atoms no nearer than 0.7 of their covalent radii: ASE's
    start of a genetic search."""
    from ase import Atoms
    from ase.data import atomic_numbers
    from ase_ga.startgenerator import StartGenerator
    from ase_ga.utilities import CellBounds, closest_distances_generator
    from pymatgen.io.ase import AseAtomsAdaptor

    rng = np.random.RandomState(task.seed)
    apart = closest_distances_generator(
        [atomic_numbers[symbol] for symbol in task.species], ratio_of_covalent_radii=CLOSEST
    )
    bounds = CellBounds(
        {
            "phi": [35, 145],
            "chi": [35, 145],
            "psi": [35, 145],
            "a": [2, 20],
            "b": [2, 20],
            "c": [2, 20],
        }
    )
    for composition in itertools.cycle(task.compositions):
        generator = StartGenerator(
            Atoms(pbc=True),
            task.symbols(composition),
            apart,
            box_volume=task.volume(composition),
            number_of_variable_cell_vectors=3,
            cellbounds=bounds,
            test_too_far=False,
            rng=rng,
        )
        found = generator.get_new_candidate(maxiter=200)
        whole = found and Atoms(found.symbols, found.positions, cell=found.cell, pbc=True)
        yield AseAtomsAdaptor.get_structure(whole) if whole else None


SOURCES: dict[str, Callable[[BaselineTask], Iterator[Structure | None]]] = {
    "crystalgan": from_the_run,
    "pyxtal": from_pyxtal,
    "substitution": by_substitution,
    "ase": from_ase,
}
