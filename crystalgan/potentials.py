"""Potentials by name, each with its version: CHGNet comes along, SevenNet is an extra, any ASE calculator will do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

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
    """A calculator that knows its own name and version, so that every energy can say where it is from."""

    name: str
    version: str
    calculator: Calculator


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


def load_chgnet(device: str = "cpu") -> Potential:
    """CHGNet with the weights in its wheel (Deng et al., Nature Machine Intelligence 5, 1031 (2023)).

    `device` is a torch device name. The calculator differentiates the energy once, by positions and lattice together, and only
    where forces or stress are asked for: the package's own one does so twice, ready for a second derivative that no relaxation
    needs, even for an energy alone (here 2 to 3 times faster, and memory does not grow).
    """
    import contextlib
    import io
    from importlib.metadata import version

    import torch
    from ase.calculators.calculator import Calculator, all_changes
    from ase.stress import full_3x3_to_voigt_6_stress
    from chgnet.model import CHGNet
    from pymatgen.io.ase import AseAtomsAdaptor

    with contextlib.redirect_stdout(io.StringIO()):  # the constructor prints; stdout belongs to --json
        model = CHGNet.load(verbose=False, use_device=device).eval().requires_grad_(requires_grad=False)
    model.graph_converter.set_isolated_atom_response("ignore")

    class CHGNetEnergy(Calculator):
        implemented_properties: ClassVar = ["energy", "free_energy", "forces", "stress"]

        def calculate(
            self, atoms: Atoms | None = None, properties: Sequence[str] = ("energy",), system_changes: Sequence[str] = all_changes
        ) -> None:
            super().calculate(atoms, properties, system_changes)
            assert atoms is not None
            graph = model.graph_converter(AseAtomsAdaptor.get_structure(atoms)).to(device)
            derive = not {"forces", "stress"}.isdisjoint(properties)
            graph.lattice = graph.lattice.detach().requires_grad_(derive)
            graph.atom_frac_coord = graph.atom_frac_coord.detach().requires_grad_(derive)
            with torch.set_grad_enabled(derive):
                per_atom = model([graph], task="e")["e"].sum()
            energy = per_atom.item() * len(atoms)
            self.results = {"energy": energy, "free_energy": energy}
            if derive:
                by_frac, by_lattice = torch.autograd.grad(per_atom * len(atoms), (graph.atom_frac_coord, graph.lattice))
                lattice = np.asarray(atoms.cell)
                stress = lattice.T @ by_lattice.double().cpu().numpy() / atoms.get_volume()  # dE/d(strain) / V
                self.results["forces"] = -by_frac.double().cpu().numpy() @ np.linalg.inv(lattice).T
                self.results["stress"] = full_3x3_to_voigt_6_stress(stress)

    return Potential("CHGNet", f"{model.version} (chgnet {version('chgnet')})", CHGNetEnergy())


def load_sevennet() -> Potential:
    """SevenNet-0 with the weights in its wheel (Park et al., J. Chem. Theory Comput. 20, 4857 (2024)).

    Raises ImportError where the package `sevenn` is missing.
    """
    from importlib.metadata import version

    from sevenn.calculator import SevenNetCalculator

    return Potential("SevenNet", f"{SEVENNET} (sevenn {version('sevenn')})", SevenNetCalculator(SEVENNET, device="cpu"))
