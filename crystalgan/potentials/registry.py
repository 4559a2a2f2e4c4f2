"""Potentials by name, each with its version: CHGNet comes along, SevenNet is an extra, any ASE
calculator will do.

CHGNet works out several crystals at once, on a GPU where there is one (`device`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from crystalgan.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ase import Atoms
    from ase.calculators.calculator import Calculator

    from crystalgan.potentials.batching import Evaluate

NAMES = ("chgnet", "sevennet")
SEVENNET = "7net-0"  # the weights in its wheel
TRIAL = 3.0  # Å, edge of the cubic cell that an element is tried in
# Elements that training left as they were drawn. In CHGNet 0.3.0 (chgnet 0.4.2) their embeddings,
# 64 numbers, have norms of 7.5
# to 8.7 (64 normal numbers: 8.0 ± 0.7), and their own energies are within 0.5 eV of nothing. The
# norms of the other elements
# are 17.9 to 32.4, but for Ne (11.8) and Ar (12.7), which training has moved too. An energy comes
# out for all 94 alike, and for
# none beyond Pu. SevenNet-0 was trained on the same data, MPtrj.
LEFT_OUT = ("Po", "At", "Rn", "Fr", "Ra")
UNTRAINED = dict.fromkeys(NAMES, LEFT_OUT)
# that CHGNet is given at once, for the caches' sake and for the memory's: 3.5 MB an atom
MOST_ATOMS = {"cpu": 64, "cuda": 1024}


@dataclass(frozen=True)
class Potential:
    """A calculator that knows its own name and version, so that every energy can say where it is
    from."""

    name: str
    version: str
    calculator: Calculator
    evaluate: Evaluate | None = None  # several crystals at once, where it can do that


def load_potential(name: str) -> Potential:
    """`chgnet`, `sevennet`, or an ASE calculator by its dotted name, such as
    `ase.calculators.emt.EMT`, made without arguments.

    Raises InputError for a name that is none of them, a package that is missing, or weights that
    cannot be loaded.
    """
    loaders: dict[str, Callable[[], Potential]] = {
        "chgnet": lambda: load_chgnet(device()),
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
    """Those of these elements that the potential gives no energy for: a crystal of each alone is
    tried."""
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
    """A sentence that names those of these elements that a potential was hardly trained on; empty
    where there is none.

    `potential` is a name that `load_potential` takes or that a `Potential` carries. What others
    were trained on is not known.
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


def device() -> str:
    """The torch device that relaxes: a GPU where this process sees one, and otherwise the
    processor."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def load_chgnet(device: str = "cpu") -> Potential:
    """CHGNet with the weights in its wheel, as `chgnet_energy` works it out; `device` is a torch
    device name.

    Forces and stress are worked out only where they are asked for, which the package's own
    calculator does with every energy.
    """
    import contextlib
    import io
    from importlib.metadata import version

    from ase.stress import full_3x3_to_voigt_6_stress
    from chgnet.model import CHGNet

    from crystalgan.potentials.batching import AskingCalculator
    from crystalgan.potentials.chgnet import ChgnetEnergy

    # the constructor prints; stdout belongs to --json
    with contextlib.redirect_stdout(io.StringIO()):
        model = CHGNet.load(verbose=False, use_device=device)
    energy = ChgnetEnergy(model, device)

    def evaluate(crystals: Sequence[Atoms], derivatives: bool) -> list[dict[str, Any]]:
        results: list[dict[str, Any]] = []
        for some in portions(crystals, MOST_ATOMS[device]):
            if derivatives:
                energies, forces, stresses = energy.with_derivatives(some)
                more = [
                    {"forces": f, "stress": full_3x3_to_voigt_6_stress(s)}
                    for f, s in zip(forces, stresses, strict=True)
                ]
            else:
                energies, more = energy.energies(some), [{} for _ in some]
            results += [
                {"energy": float(e), "free_energy": float(e)} | one
                for e, one in zip(energies, more, strict=True)
            ]
        return results

    calculator = AskingCalculator(lambda atoms, derivatives: evaluate([atoms], derivatives)[0])
    return Potential(
        "CHGNet", f"{model.version} (chgnet {version('chgnet')})", calculator, evaluate
    )


def portions(crystals: Sequence[Atoms], most: int) -> Iterator[list[Atoms]]:
    """The crystals in their order, some at a time: at most so many atoms together, or one crystal
    of more."""
    some: list[Atoms] = []
    for one in crystals:
        if some and sum(map(len, some)) + len(one) > most:
            yield some
            some = []
        some.append(one)
    if some:
        yield some


def load_sevennet() -> Potential:
    """SevenNet-0 with the weights in its wheel (Park et al., J. Chem. Theory Comput. 20, 4857
    (2024)).

    Raises ImportError where the package `sevenn` is missing.
    """
    from importlib.metadata import version

    from sevenn.calculator import SevenNetCalculator

    return Potential(
        "SevenNet",
        f"{SEVENNET} (sevenn {version('sevenn')})",
        SevenNetCalculator(SEVENNET, device="cpu"),
    )
