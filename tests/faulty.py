"""Potentials that go wrong, by their dotted names: each relaxation imports them in a process of its
own."""

import os
import time
from types import SimpleNamespace

import numpy as np
from ase.calculators.emt import EMT

from crystalgan.stability import tasks as relaxing


class Crashes(EMT):
    """Ends its process on cells of more than 9 atoms."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        if len(atoms) > 9:
            os._exit(9)
        super().calculate(atoms, properties, system_changes)


class NotANumber(EMT):
    """An energy that is not finite for cells of more than one atom."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        super().calculate(atoms, properties, system_changes)
        if len(atoms) > 1:
            self.results["energy"] = np.nan


class Higher(EMT):
    """Sees cells of three elements 0.2 eV/atom higher."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        super().calculate(atoms, properties, system_changes)
        if len(set(atoms.get_chemical_symbols())) > 2:
            self.results["energy"] += 0.2 * len(atoms)


class Slow(EMT):
    """Takes 5 s for cells of more than three atoms by the clock of relaxations, which it puts
    forward; nobody waits."""

    ahead = 0.0

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        if len(atoms) > 3:
            Slow.ahead += 5.0
            relaxing.time = SimpleNamespace(monotonic=lambda: time.monotonic() + Slow.ahead)
        super().calculate(atoms, properties, system_changes)
