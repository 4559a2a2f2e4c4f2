"""A search under way as arrays and JSON, for `discovery.safetensors` in its run folder."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from ase import Atoms

from crystalgan.crystal.matching import StructureIndex
from crystalgan.discovery.descent import Descent
from crystalgan.discovery.found import Found
from crystalgan.discovery.search import Proposal, Search

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymatgen.core import Structure
    from torch import Tensor

FILE = "discovery.safetensors"
COUNTERS = ("tally", "spent", "paid")
OF_FOUND = ("id", "source", "counts", "energy", "converged")
NUMBERS = ("seed", "rounds", "proposed", "gains")


def packed(search: Search) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All that a search needs to go on as if it had never ended."""
    waiting, found = search.waiting, search.found
    arrays = {
        "made": _joined([_crystal(p.made) for p in waiting]),
        "now": _joined([_crystal(p.descent.atoms) for p in waiting]),
        "start": _joined([p.descent.start for p in waiting]),
        "moves": _joined([p.descent.moves for p in waiting]),
        "turns": _joined([p.descent.turns for p in waiting]),
        "numbers": _joined([p.made.numbers for p in waiting]),
        "found": _joined([_of_structure(f.structure) for f in found]),
    }
    state: dict[str, Any] = {name: getattr(search, name) for name in NUMBERS}
    state |= {name: dict(getattr(search, name)) for name in COUNTERS}
    state |= {
        "visits": [[*formula, n] for formula, n in search.visits.items()],
        "hopes": [[*formula, energy] for formula, energy in search.hopes.items()],
        "guesses": [[list(formula), guesses] for formula, guesses in search.guesses.items()],
        "prints": [[list(formula), prints] for formula, prints in search.prints.items()],
        "sources": {source.name: source.state() for source in search.sources},
        "waiting": [
            {
                "id": p.id,
                "source": p.source,
                "counts": p.counts,
                "rung": p.rung,
                "start_energy": p.start_energy,
                "energies": p.energies,
                "energy": p.descent.energy,
                "force": min(p.descent.force, 1e9),
                "steps": p.descent.steps,
                "memory": len(p.descent.moves),
            }
            for p in waiting
        ],
        "found": [{name: getattr(f, name) for name in OF_FOUND} for f in found],
    }
    arrays |= {f"surrogate.{k}": x for k, x in search.surrogate.state().items()}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}, {"search": state}


def restore(search: Search, tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    """Have a search go on where a packed one was; a new search of the same system is given."""
    state = header["search"]
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    streams = {name: _Stream(array) for name, array in arrays.items()}
    for name in NUMBERS:
        setattr(search, name, state[name])
    search.tally = Counter(state["tally"])
    search.spent = defaultdict(float, state["spent"])
    search.paid = defaultdict(float, state["paid"])
    search.visits = Counter({(h, a, b): n for h, a, b, n in state["visits"]})
    search.hopes = {(h, a, b): energy for h, a, b, energy in state["hopes"]}
    search.prints = defaultdict(list)
    for (h, a, b), prints in state["prints"]:
        search.prints[h, a, b] = [(e, v) for e, v in prints]
    search.guesses = defaultdict(list)
    for (h, a, b), guesses in state["guesses"]:
        search.guesses[h, a, b] = guesses
    for source in search.sources:
        source.restore(state["sources"][source.name])
    search.waiting = [_proposal(row, streams) for row in state["waiting"]]
    search.found = [_found(row, streams["found"]) for row in state["found"]]
    search.index = StructureIndex()
    for one in search.found:
        search.index.add(one.structure, one.id)
    search.surrogate.restore(
        {k.removeprefix("surrogate."): x for k, x in arrays.items() if k.startswith("surrogate.")}
    )
    search.update_hull()


def _proposal(row: dict[str, Any], streams: dict[str, _Stream]) -> Proposal:
    atoms = sum(row["counts"])
    numbers = streams["numbers"].take(atoms).astype(int)
    coordinates = 3 * (atoms + 3)
    length = row["memory"]
    moves, turns = (
        streams[name].take(length * coordinates).reshape(length, coordinates)
        for name in ("moves", "turns")
    )
    made, now = (_atoms(streams[name], numbers) for name in ("made", "now"))
    start = streams["start"].take(9).reshape(3, 3)
    force = row["force"] if row["steps"] or row["rung"] else np.inf
    descent = Descent(now, start, row["energy"], force, row["steps"], moves=moves, turns=turns)
    h, a, b = row["counts"]
    return Proposal(
        row["id"],
        row["source"],
        (h, a, b),
        made,
        descent,
        row["rung"],
        row["start_energy"],
        tuple(row["energies"]),
    )


def _found(row: dict[str, Any], stream: _Stream) -> Found:
    from pymatgen.core import Structure

    h, a, b = row["counts"]
    atoms = h + a + b
    lattice = stream.take(9).reshape(3, 3)
    frac = stream.take(3 * atoms).reshape(atoms, 3)
    structure = Structure(lattice, stream.take(atoms).astype(int), frac)
    return Found(row["id"], row["source"], (h, a, b), structure, row["energy"], row["converged"])


def _of_structure(structure: Structure) -> np.ndarray:
    numbers = np.array(structure.atomic_numbers, float)
    return np.concatenate(
        [structure.lattice.matrix.ravel(), structure.frac_coords.ravel(), numbers]
    )


def _crystal(atoms: Atoms) -> np.ndarray:
    return np.concatenate([atoms.cell.array.ravel(), atoms.positions.ravel()])


def _joined(arrays: Sequence[np.ndarray]) -> np.ndarray:
    flat = [np.asarray(array, float).ravel() for array in arrays]
    return np.concatenate([*flat, np.zeros(0)])


def _atoms(stream: _Stream, numbers: np.ndarray) -> Atoms:
    cell = stream.take(9).reshape(3, 3)
    return Atoms(numbers, stream.take(3 * len(numbers)).reshape(-1, 3), cell=cell, pbc=True)


class _Stream:
    """An array that is read from its beginning on."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.place = array, 0

    def take(self, count: int) -> np.ndarray:
        """The next so many numbers."""
        if self.place + count > len(self.array):
            raise ValueError("fewer numbers than crystals")
        self.place += count
        return self.array[self.place - count : self.place].copy()
