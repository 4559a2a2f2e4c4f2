"""The third step: a generator that learns, while a search goes on, from what its cells became.

Steps 1 and 2 learn from cells of binaries and from transferred ones, which are no crystals. Here
the relaxed end of each ternary is the target of the generator, from its cell as it was proposed;
and the ends that lie low are the real samples of a discriminator (`model.discriminator`). Cells by
feature transfer, moved by this generator, are a source of proposals.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from crystalgan.config import Config
from crystalgan.crystal.cells import Cells
from crystalgan.discovery.sources import cells_of
from crystalgan.discovery.transfers import TransferSource
from crystalgan.model import losses
from crystalgan.model.batches import perturb
from crystalgan.model.discriminator import Discriminator, discriminator_loss, fingerprints
from crystalgan.model.graph import GraphGenerator
from crystalgan.model.learning import Adam

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms
    from torch import Tensor

    from crystalgan.discovery.lower_hull import LowerHull
    from crystalgan.discovery.sources import Request
    from crystalgan.discovery.system import System

STEPS = 6  # of the generator along the neighbour graph
RATE, DISCRIMINATOR_RATE, BETAS = 2e-3, 2e-3, (0.5, 0.99)
ADVERSARIAL = 0.05  # the weight of the adversarial term beside the reconstruction in Å²
PENALTY = 0.1  # of the slope of the discriminator at real samples
MOST_ACCURATE = 0.75  # the discriminator waits where it was right more often than that, lately
PATIENCE = 0.9  # of the running mean of its accuracy
UPDATES, BATCH = 16, 16  # of a round
ENOUGH, MOST_PAIRS = 12, 300  # pairs, before which nothing is learned, and that are kept
LOW, LOWEST = 0.1, 0.05  # eV/atom above the hull of real samples, and where they count 1/e
FAR = 0.3  # eV/atom above the hull of targets
MOST_NOISE = 0.3  # Å, of the starts in training
NOISE = 0.1  # Å, of the transferred cells that are moved
# ms of one usual core: of an update, and for each of its atoms; of a cell that is moved
UPDATE_WORK, ATOM_WORK, MOVE_WORK = 6.0, 0.05, 1.0


class LearnedSource:
    """Transferred cells moved by a generator that learns from the relaxations of the search."""

    name = "learned"

    def __init__(self, system: System, most_atoms: int) -> None:
        self.system, self.length = system, most_atoms
        self.transfers = TransferSource(system, most_atoms)
        rng, slots = torch.Generator().manual_seed(0), len(system.species)
        self.generator = GraphGenerator(Config(steps=STEPS), slots, [rng], 1)
        self.discriminator = Discriminator(slots, rng)
        self.optimizers = {
            "generator": Adam(self.generator.parameters(), RATE, BETAS),
            "discriminator": Adam(self.discriminator.parameters(), DISCRIMINATOR_RATE, BETAS),
        }
        empty = Cells(
            torch.zeros(0, 3, 3),
            torch.zeros(0, slots, most_atoms, 3),
            torch.zeros(0, slots, most_atoms, dtype=torch.bool),
            system.species,
        )
        self.starts, self.ends, self.energies = empty, empty, torch.zeros(0, dtype=torch.float64)
        self.recent = 0.5  # the running mean of the discriminator's accuracy
        self.accuracies: list[float] = []  # of the discriminator, a round's mean
        self.errors: list[tuple[float, float]] = []  # Å, see `_errors`
        self.moves = 0  # of cells since the last learning

    @property
    def trained(self) -> bool:
        """Whether the generator has learned from anything."""
        return bool(self.accuracies)

    def propose(self, request: Request, rng: np.random.Generator) -> Cells | None:
        """A transferred cell that the generator moved, as one cell `[1]`; None where no parents
        give the composition."""
        start = self.transfers.propose(request, rng)
        if start is None or not self.trained:
            return start
        self.moves += 1
        return self.moved(start, rng)

    @torch.no_grad()
    def moved(self, start: Cells, rng: np.random.Generator, noise: float = NOISE) -> Cells:
        """What the generator makes of cells `[n]` (float64) with some noise, each by itself."""
        draws = torch.Generator().manual_seed(int(rng.integers(2**62)))
        cells = perturb(start.to(torch.float32)[None, None], noise, [draws])
        return self.generator.one_way(cells, 0)[0, 0].to(torch.float64)

    def learn(
        self,
        pairs: Sequence[tuple[Atoms, Atoms]],
        energies: Sequence[float],
        hull: LowerHull,
        rng: np.random.Generator,
    ) -> float:
        """Take relaxations in, each a ternary as it was proposed and as it ended (eV/atom), and
        train on all so far; returns the work of it, ms of one usual core."""
        work, self.moves = MOVE_WORK * self.moves, 0
        if pairs:
            self._keep(pairs, energies)
        if len(self.ends) < ENOUGH:
            return work
        above = hull.above(self.ends.mask.sum(-1).numpy(), self.energies.numpy()).clip(0)
        real, target = _shares(above, LOW), _shares(above, FAR)
        right = []
        for _ in range(UPDATES):
            rows = [torch.from_numpy(rng.choice(len(p), BATCH, p=p)) for p in (target, real, real)]
            right.append(self._update(rows, rng))
        self.accuracies.append(float(np.mean(right)))
        atoms = float(self.ends.mask.sum((-2, -1)).float().mean())
        return work + UPDATES * (UPDATE_WORK + ATOM_WORK * BATCH * atoms)

    def _keep(self, pairs: Sequence[tuple[Atoms, Atoms]], energies: Sequence[float]) -> None:
        starts, ends = (
            Cells.cat([_bare(cell, self.length) for cell in cells])
            for cells in zip(*(aligned(*pair, self.system.species) for pair in pairs), strict=True)
        )
        if self.trained:
            self.errors.append(self._errors(starts, ends))
        self.starts = Cells.cat((self.starts, starts))[-MOST_PAIRS:]
        self.ends = Cells.cat((self.ends, ends))[-MOST_PAIRS:]
        new = torch.tensor(energies, dtype=torch.float64)
        self.energies = torch.cat((self.energies, new))[-MOST_PAIRS:]

    @torch.no_grad()
    def _errors(self, starts: Cells, ends: Cells) -> tuple[float, float]:
        """How far new pairs are from their ends, Å, before and after the generator, which has not
        seen them yet."""
        moved = self.generator.one_way(starts[None, None], 0)[0, 0]
        before, after = (float(misfit(cells, ends).mean().sqrt()) for cells in (starts, moved))
        return before, after

    def _update(self, rows: Sequence[Tensor], rng: np.random.Generator) -> float:
        """One step of both networks, on rows of targets, of starts that the discriminator sees,
        and of real samples; how often the discriminator was right before it."""
        target, judged, real = rows
        draws = torch.Generator().manual_seed(int(rng.integers(2**62)))
        noise = float(rng.uniform(0, MOST_NOISE))
        start = perturb(self.starts[torch.cat((target, judged))][None, None], noise, [draws])
        made = self.generator.one_way(start, 0)[0, 0]
        own = misfit(made[: len(target)], self.ends[target]).mean()
        fake, true = (
            fingerprints(cells, self.system.volumes)
            for cells in (made[len(target) :], self.ends[real])
        )
        loss, right = discriminator_loss(self.discriminator, true, fake, PENALTY)
        steps = {"generator": own + ADVERSARIAL * losses.adversarial(self.discriminator(fake))}
        self.recent = PATIENCE * self.recent + (1 - PATIENCE) * right
        if self.recent < MOST_ACCURATE:
            steps["discriminator"] = loss
        gradients = {
            name: torch.autograd.grad(term, self.optimizers[name].parameters, retain_graph=True)
            for name, term in steps.items()
        }
        for name, gradient in gradients.items():
            self.optimizers[name].step(gradient)
        return right

    def state(self) -> dict[str, Any]:
        """What it remembers, but for tensors."""
        names = ("recent", "accuracies", "errors", "moves")
        return {name: getattr(self, name) for name in names}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on with what was remembered."""
        self.recent, self.accuracies = state["recent"], list(state["accuracies"])
        self.errors = [(before, after) for before, after in state["errors"]]
        self.moves = state["moves"]

    def tensors(self) -> dict[str, Tensor]:
        """Weights, what the optimizers remember, and the pairs."""
        out: dict[str, Tensor] = {}
        for name, optimizer in self.optimizers.items():
            out |= {f"{name}.{k}": t.detach() for k, t in enumerate(optimizer.parameters)}
            out |= {
                f"{name}.{key}.{k}": t
                for key, ts in optimizer.state.items()
                for k, t in enumerate(ts)
            }
        for name, cells in (("starts", self.starts), ("ends", self.ends)):
            out |= {f"{name}.lattice": cells.lattice, f"{name}.frac": cells.frac}
        return out | {"mask": self.ends.mask, "energies": self.energies}

    @torch.no_grad()
    def restore_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Go on with what `tensors` gave."""
        for name, optimizer in self.optimizers.items():
            for k, parameter in enumerate(optimizer.parameters):
                parameter.copy_(tensors[f"{name}.{k}"])
            for key, every in optimizer.state.items():
                for k, tensor in enumerate(every):
                    tensor.copy_(tensors[f"{name}.{key}.{k}"])
        mask, species = tensors["mask"], self.system.species
        self.starts, self.ends = (
            Cells(tensors[f"{name}.lattice"], tensors[f"{name}.frac"], mask, species)
            for name in ("starts", "ends")
        )
        self.energies = tensors["energies"]


def _shares(above: np.ndarray, most: float) -> np.ndarray:
    """How often each is drawn: those up to `most` (eV/atom), or a few that are lowest."""
    most = max(most, float(np.sort(above)[ENOUGH - 1]))
    weights = np.where(above <= most, np.exp(-above / LOWEST), 0.0)
    weights /= weights.sum()
    return weights


def aligned(start: Atoms, end: Atoms, species: tuple[str, ...]) -> tuple[Cells, Cells]:
    """A relaxation's start and end as cells `[1]`, each atom in the image that it came from."""
    both = []
    symbols = np.array(start.get_chemical_symbols())
    before = np.linalg.solve(start.cell.array.T, start.positions.T).T
    after = np.linalg.solve(end.cell.array.T, end.positions.T).T
    after -= np.round(after - before)
    for atoms, frac in ((start, before), (end, after)):
        both.append(cells_of(atoms.cell.array, [frac[symbols == s] for s in species], species))
    return both[0], both[1]


def _bare(cells: Cells, length: int) -> Cells:
    """Cells in single precision, with slots of `length` rows."""
    return cells.to(torch.float32).padded(length)


def misfit(made: Cells, end: Cells) -> Tensor:
    """How far cells `[n]` are from others of the same atoms, Å² an atom: the mean square of the
    displacements without the common one, and of the strain at an atom's distance.

    The strain is that of the metric, so that turning a cell changes nothing.
    """
    mask = end.mask.flatten(1)[..., None].to(made.lattice.dtype)
    atoms = mask.sum(1)
    moves = ((made.frac - end.frac).flatten(1, 2) @ end.lattice) * mask
    moves = (moves - moves.sum(1, keepdim=True) / atoms[:, None]) * mask
    inverse = torch.linalg.inv(end.lattice)
    metric = made.lattice @ made.lattice.mT
    strain = (inverse @ metric @ inverse.mT - torch.eye(3, dtype=metric.dtype)) / 2
    size = torch.linalg.det(end.lattice).abs().pow(2 / 3)
    return moves.square().sum((1, 2)) / atoms[:, 0] + size * strain.square().sum((1, 2)) / 3
