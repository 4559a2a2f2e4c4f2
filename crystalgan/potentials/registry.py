"""Potentials by name, each with its version: CHGNet comes along, SevenNet is an extra, any ASE
calculator will do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from crystalgan.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ase.calculators.calculator import Calculator

NAMES = ("chgnet", "sevennet")
SEVENNET = "7net-0"  # the weights in its wheel
TRIAL = 3.0  # Å, edge of the cubic cell that an element is tried in
# Elements that training left as they were drawn. In CHGNet 0.3.0 (chgnet 0.4.2) their embeddings,
# 64 numbers, have norms of 7.5 to 8.7 (64 normal numbers: 8.0 ± 0.7), and their own energies are
# within 0.5 eV of nothing. The norms of the other elements are 17.9 to 32.4, but for Ne (11.8) and
# Ar (12.7), which training has moved too. An energy comes out for all 94 alike, and for none beyond
# Pu. SevenNet-0 was trained on the same data, MPtrj.
LEFT_OUT = ("Po", "At", "Rn", "Fr", "Ra")
UNTRAINED = dict.fromkeys(NAMES, LEFT_OUT)


@dataclass(frozen=True)
class Potential:
    """An ASE calculator with its name and version, which every energy is kept with."""

    name: str
    version: str
    calculator: Calculator


def load_potential(name: str) -> Potential:
    """Load a potential: `chgnet`, `sevennet`, or an ASE calculator by its dotted name.

    A calculator such as `ase.calculators.emt.EMT` is made without arguments. Raises InputError for
    a name that is none of them, a package that is missing, or weights that cannot be loaded.

    >>> load_potential("ase.calculators.emt.EMT").name
    'EMT'
    """
    loaders: dict[str, Callable[[], Potential]] = {
        "chgnet": load_chgnet,
        "sevennet": load_sevennet,
    }
    try:
        return loaders[name.lower()]() if name.lower() in loaders else _by_dotted_name(name)
    except ImportError as error:
        way = "pip install '.[sevennet]'" if name.lower() == "sevennet" else "install its package"
        raise InputError(f"The potential {name!r} cannot be loaded ({error}); {way}.") from None
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"The potential {name!r} cannot be loaded ({type(error).__name__}: {error})."
        ) from None


def _by_dotted_name(name: str) -> Potential:
    from importlib import import_module, metadata

    module, _, kind = name.rpartition(".")
    if not module:
        raise InputError(
            f"{name!r} is no potential; give {', '.join(NAMES)}, or an ASE calculator as"
            " package.module.Class."
        )
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
    """Return those of these elements that the potential gives no energy for.

    A crystal of each element alone is tried.

    >>> unknown_elements(load_potential("ase.calculators.emt.EMT"), ["H", "Pd", "Mg"])
    ['Mg']
    """
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


def untrained(potential: str, symbols: Iterable[str]) -> str:
    """Warn, in a sentence, of those elements that a potential was hardly trained on; else empty.

    `potential` is a name that `load_potential` takes or that a `Potential` carries. What other
    potentials than CHGNet and SevenNet were trained on is not known.

    >>> untrained("chgnet", ["H", "Ra"])
    'CHGNet was hardly trained on Ra: its energies mean nothing.'
    """
    name = {"chgnet": "CHGNet", "sevennet": "SevenNet"}.get(potential.lower(), potential)
    found = [
        symbol
        for symbol in dict.fromkeys(symbols)
        if symbol in UNTRAINED.get(potential.lower(), ())
    ]
    return (
        f"{name} was hardly trained on {' and '.join(found)}: its energies mean nothing."
        if found
        else ""
    )


def load_chgnet(device: str = "cpu") -> Potential:
    """Load CHGNet with the weights in its wheel, computed by `ChgnetEnergy` on a torch device."""
    import contextlib
    import io
    from importlib.metadata import version

    from chgnet.model import CHGNet

    from crystalgan.potentials.chgnet import ChgnetCalculator, ChgnetEnergy

    # the constructor prints; stdout belongs to --json
    with contextlib.redirect_stdout(io.StringIO()):
        model = CHGNet.load(verbose=False, use_device=device)
    return Potential(
        "CHGNet",
        f"{model.version} (chgnet {version('chgnet')})",
        ChgnetCalculator(ChgnetEnergy(model, device)),
    )


def load_sevennet() -> Potential:
    """Load SevenNet-0 with the weights in its wheel.

    Source: Park et al., J. Chem. Theory Comput. 20, 4857 (2024). Raises ImportError where
    the package `sevenn` is missing.
    """
    from importlib.metadata import version

    from sevenn.calculator import SevenNetCalculator

    return Potential(
        "SevenNet",
        f"{SEVENNET} (sevenn {version('sevenn')})",
        SevenNetCalculator(SEVENNET, device="cpu"),
    )
