"""Potentials by name, each with its version: CHGNet comes along, SevenNet is an extra, any ASE calculator will do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from crystalgan import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ase import Atoms
    from ase.calculators.calculator import Calculator

NAMES = ("chgnet", "sevennet")
SEVENNET = "7net-0"  # the weights in its wheel
TRIAL = 3.0  # Å, edge of the cubic cell that an element is tried in


@dataclass(frozen=True)
class Potential:
    """A calculator that knows its own name and version, so that every energy can say where it is from.

    `evaluate`, where a potential has it, gives what ASE calls the results of many crystals at once.
    """

    name: str
    version: str
    calculator: Calculator
    evaluate: Callable[[Sequence[Atoms]], list[dict[str, Any]]] | None = None


def load_potential(name: str) -> Potential:
    """`chgnet`, `sevennet`, or an ASE calculator by its dotted name, such as `ase.calculators.emt.EMT`, made without arguments.

    Raises InputError for a name that is none of them, a package that is missing, or weights that cannot be loaded.
    """
    loaders: dict[str, Callable[[], Potential]] = {"chgnet": load_chgnet, "sevennet": load_sevennet}
    try:
        return loaders[name.lower()]() if name.lower() in loaders else _by_dotted_name(name)
    except ImportError as error:
        way = "pip install '.[sevennet]'" if name.lower() == "sevennet" else "install its package"
        raise InputError(f"The potential {name!r} cannot be loaded ({error}); {way}.") from None
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"The potential {name!r} cannot be loaded ({type(error).__name__}: {error}).") from None


def _by_dotted_name(name: str) -> Potential:
    from importlib import import_module, metadata

    module, _, kind = name.rpartition(".")
    if not module:
        raise InputError(f"{name!r} is no potential; give {', '.join(NAMES)}, or an ASE calculator as package.module.Class.")
    make = getattr(import_module(module), kind, None)
    if make is None:
        raise InputError(f"{name!r} is no potential: the module {module} has no {kind}.")
    package = module.partition(".")[0]
    try:
        version = f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        version = "unknown"
    return Potential(kind, version, make())


def unknown_elements(potential: Potential, symbols: Iterable[str]) -> list[str]:
    """Those of these elements that the potential gives no energy for: a crystal of each alone is tried."""
    from ase import Atoms

    unknown = []
    for symbol in symbols:
        try:
            atoms = Atoms(symbol, cell=[TRIAL] * 3, pbc=True, calculator=potential.calculator)
            known = bool(np.isfinite(atoms.get_potential_energy()))
        except Exception:  # noqa: BLE001 - each potential has its own error for this
            known = False
        if not known:
            unknown.append(symbol)
    return unknown


def best_device() -> str:
    """A GPU where torch finds one, else the processor."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def load_chgnet(device: str | None = None) -> Potential:
    """CHGNet with the weights in its wheel, as `chgnet_energy` works it out; `device` as torch names it, the best by default.

    Forces and stress are worked out only where they are asked for, which the package's own calculator does with every energy.
    """
    import contextlib
    import io
    from importlib.metadata import version

    from ase.calculators.calculator import Calculator, all_changes
    from ase.stress import full_3x3_to_voigt_6_stress
    from chgnet.model import CHGNet

    from crystalgan.chgnet_energy import ChgnetEnergy

    device = device or best_device()
    with contextlib.redirect_stdout(io.StringIO()):  # the constructor prints; stdout belongs to --json
        model = CHGNet.load(verbose=False, use_device=device)
    chgnet = ChgnetEnergy(model, device)

    def evaluate(crystals: Sequence[Atoms]) -> list[dict[str, Any]]:
        energies, forces, stresses = chgnet.with_derivatives(crystals)
        return [
            {"energy": float(e), "free_energy": float(e), "forces": f, "stress": full_3x3_to_voigt_6_stress(s)}
            for e, f, s in zip(energies, forces, stresses, strict=True)
        ]

    class CHGNetCalculator(Calculator):
        implemented_properties: ClassVar = ["energy", "free_energy", "forces", "stress"]

        def calculate(
            self, atoms: Atoms | None = None, properties: Sequence[str] = ("energy",), system_changes: Sequence[str] = all_changes
        ) -> None:
            super().calculate(atoms, properties, system_changes)
            assert atoms is not None
            if {"forces", "stress"}.isdisjoint(properties):
                (energy,) = chgnet.energies([atoms])
                self.results = {"energy": float(energy), "free_energy": float(energy)}
            else:
                (self.results,) = evaluate([atoms])

    return Potential("CHGNet", f"{model.version} (chgnet {version('chgnet')})", CHGNetCalculator(), evaluate)


def load_sevennet() -> Potential:
    """SevenNet-0 with the weights in its wheel (Park et al., J. Chem. Theory Comput. 20, 4857 (2024)).

    Raises ImportError where the package `sevenn` is missing.
    """
    from importlib.metadata import version

    from sevenn.calculator import SevenNetCalculator

    return Potential("SevenNet", f"{SEVENNET} (sevenn {version('sevenn')})", SevenNetCalculator(SEVENNET, device="cpu"))
