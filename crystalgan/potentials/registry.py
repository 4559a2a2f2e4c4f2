"""Potentials by name, each with its version.

CHGNet comes along, SevenNet is an extra with three models in its wheel or a file of one's own, and
any ASE calculator will do.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crystalgan.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ase.calculators.calculator import Calculator

TRIAL = 3.0  # Å, edge of the cubic cell that an element is tried in
CHECKSUM = 12  # digits of a SHA-256 that tell a file from others
MOST_WORDS = 100  # letters of keyword arguments in a name; longer ones are told by a checksum
OWN_FILE = "give a checkpoint of SevenNet as sevennet:FILE"
OWN_MODAL = "name one, as sevenn.calculator.SevenNetCalculator:model=FILE,modal=NAME,device=cpu"


@dataclass(frozen=True)
class SevenNetModel:
    """A model of SevenNet whose weights are in the wheel of `sevenn`."""

    name: str  # that energies are kept with; in small letters, the name that `load_potential` takes
    weights: str  # their name in the package
    modal: str | None = None  # which of the functionals of a multi-fidelity model


# Park et al., J. Chem. Theory Comput. 20, 4857 (2024); MF: Kim et al., arXiv:2409.07947 (2024).
# SevenNet-0 and l3i5 give PBE energies, this modal of MF-0 r2SCAN.
SEVENNET_MODELS = (
    SevenNetModel("SevenNet", "7net-0"),
    SevenNetModel("SevenNet-l3i5", "7net-l3i5"),
    SevenNetModel("SevenNet-MF-r2SCAN", "7net-mf-0", "R2SCAN"),
)
SEVENNET = {model.name.lower(): model for model in SEVENNET_MODELS}
TITLES = ("CHGNet", *(model.name for model in SEVENNET_MODELS))  # as energies carry them
NAMES = tuple(title.lower() for title in TITLES)
CHOICE = (
    f"{', '.join(NAMES)}, sevennet:FILE for a checkpoint of your own, or an ASE calculator as"
    " package.module.Class or package.module.Class:key=value,key=value"
)
# Elements that training left as they were drawn. In CHGNet 0.3.0 (chgnet 0.4.2) their embeddings,
# 64 numbers, have norms of 7.5 to 8.7 (64 normal numbers: 8.0 ± 0.7), and their own energies are
# within 0.5 eV of nothing. The norms of the other elements are 17.9 to 32.4, but for Ne (11.8) and
# Ar (12.7), which training has moved too. An energy comes out for all 94 alike, and for none beyond
# Pu. SevenNet's models were trained on the same data, MPtrj, and name no other elements.
LEFT_OUT = ("Po", "At", "Rn", "Fr", "Ra")
UNTRAINED = dict.fromkeys(NAMES, LEFT_OUT)


@dataclass(frozen=True)
class Potential:
    """An ASE calculator with its name and version, which every energy is kept with."""

    name: str
    version: str
    calculator: Calculator


def load_potential(name: str) -> Potential:
    """Load a potential by its name.

    `chgnet`, `sevennet`, `sevennet-l3i5` and `sevennet-mf-r2scan` have their weights in a wheel;
    `sevennet:FILE` is a checkpoint of SevenNet, which is a pickle and runs what is in it. Else
    `name` is an ASE calculator by its dotted name, which may have keyword arguments: after a colon,
    `key=value` with commas between them, values as Python literals, else text. Raises InputError
    for a name that is none of them, a package that is missing, or weights that cannot be loaded.

    >>> load_potential("ase.calculators.emt.EMT").name
    'EMT'
    >>> load_potential("ase.calculators.emt.EMT:asap_cutoff=True").name
    'EMT:asap_cutoff=True'
    """
    kind, _, rest = name.partition(":")
    is_sevennet = kind.lower() in SEVENNET
    try:
        if kind.lower() == "sevennet" and rest:
            return load_sevennet_file(rest)
        if name.lower() in SEVENNET:
            return load_sevennet(name)
        return load_chgnet() if name.lower() == "chgnet" else _by_dotted_name(kind, rest)
    except ImportError as error:
        way = "pip install '.[sevennet]'" if is_sevennet else "install its package"
        raise InputError(f"The potential {name!r} cannot be loaded ({error}); {way}.") from None
    except InputError:
        raise
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"The potential {name!r} cannot be loaded ({type(error).__name__}: {error})."
        ) from None


def _by_dotted_name(name: str, words: str = "") -> Potential:
    from importlib import import_module, metadata

    module, _, kind = name.rpartition(".")
    if not module:
        raise InputError(f"{name!r} is no potential; give {CHOICE}.")
    make = getattr(import_module(module), kind, None)
    if make is None:
        raise InputError(f"{name!r} is no potential: the module {module} has no {kind}.")
    package = module.partition(".")[0]
    try:
        version = f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        version = "unknown"
    arguments = keyword_arguments(words)
    calculator = _made(make, name, arguments)
    for value in arguments.values():  # a file may be another one tomorrow
        if isinstance(value, str) and Path(value).is_file():
            version += f", {_checksum(Path(value).read_bytes())}"
    said = ",".join(f"{key}={value!r}" for key, value in sorted(arguments.items()))
    if len(said) > MOST_WORDS:
        said = _checksum(said.encode())
    return Potential(f"{kind}:{said}" if said else kind, version, calculator)


def _made(make: Callable[..., Calculator], name: str, arguments: dict[str, Any]) -> Calculator:
    """The calculator with these arguments; InputError where it takes others."""
    if arguments:
        _check_arguments(make, name, arguments)
    try:
        return make(**arguments)
    except ImportError:
        raise
    except Exception as error:  # noqa: BLE001 - each calculator has its own
        why = f"{type(error).__name__}: {error}"
        raise InputError(f"The potential {name!r} cannot be made ({why}).") from None


def _check_arguments(make: Callable[..., Calculator], name: str, arguments: Iterable[str]) -> None:
    import inspect

    from ase.calculators.calculator import Calculator

    takes = inspect.signature(make).parameters.values()
    names = [p.name for p in takes if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    loose = any(p.kind is p.VAR_KEYWORD for p in takes)
    own = getattr(make, "default_parameters", {})
    if loose and own:  # ASE's own calculators swallow every keyword
        common = inspect.signature(Calculator).parameters.values()
        names += [*own, *(p.name for p in common if p.kind is not p.VAR_KEYWORD)]
    unknown = [key for key in arguments if key not in names]
    if unknown and (own or not loose):
        raise InputError(
            f"{name} takes no argument {' nor '.join(unknown)}; it takes"
            f" {', '.join(names) or 'none'}."
        )


def keyword_arguments(words: str) -> dict[str, Any]:
    """Keyword arguments as they are written: `key=value` with commas between them.

    Values are Python literals (`true` and `false` too, in any case), else text. A comma within
    brackets or quotes separates nothing. Raises InputError for words that are none.

    >>> keyword_arguments("cutoff=3.5,device=cpu,sizes=(1,2),fast=true")
    {'cutoff': 3.5, 'device': 'cpu', 'sizes': (1, 2), 'fast': True}
    """
    out: dict[str, Any] = {}
    for part in _parts(words):
        key, sign, value = (word.strip() for word in part.partition("="))
        if not (sign and key.isidentifier()) or key in out:
            why = "is given twice" if key in out else "is no key=value"
            raise InputError(
                f"The argument {part.strip()!r} of a potential {why}; write"
                " package.module.Class:key=value,key=value."
            )
        out[key] = _literal(value)
    return out


def _parts(words: str) -> list[str]:
    """The words between commas that are in no brackets or quotes."""
    parts, depth, quote = [""], 0, ""
    for letter in words:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        else:
            depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and not quote and depth <= 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts if words else []


def _literal(word: str) -> Any:
    from ast import literal_eval

    if word.lower() in ("true", "false"):
        return word.lower() == "true"
    try:
        return literal_eval(word)
    except (SyntaxError, ValueError):
        return word


def _checksum(data: bytes) -> str:
    from hashlib import sha256

    return sha256(data).hexdigest()[:CHECKSUM]


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
    potentials than CHGNet and the models of SevenNet in its wheel were trained on is not known.

    >>> untrained("chgnet", ["H", "Ra"])
    'CHGNet was hardly trained on Ra: its energies mean nothing.'
    """
    name = dict(zip(NAMES, TITLES, strict=True)).get(potential.lower(), potential)
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


def load_sevennet(name: str = "sevennet") -> Potential:
    """Load a model of SevenNet with the weights in its wheel, by its name in `SEVENNET`.

    Raises ImportError where the package `sevenn` is missing.
    """
    model = SEVENNET[name.lower()]
    version = model.weights + (f" {model.modal}" if model.modal else "")
    return _sevennet(model.name, version, model.weights, model.modal)


def load_sevennet_file(path: str) -> Potential:
    """Load a checkpoint of SevenNet, which is a pickle and runs what is in it.

    Name and version hold a checksum of the file. Raises InputError for a file that cannot be used,
    ImportError where the package `sevenn` is missing.
    """
    from crystalgan.storage import saying

    file = Path(path).expanduser()
    with saying(file, OWN_FILE, writing=False):
        checksum = _checksum(file.read_bytes())
    try:
        return _sevennet(f"SevenNet:{file.stem}-{checksum[:8]}", checksum, str(file.resolve()))
    except ImportError:
        raise
    except Exception as error:  # noqa: BLE001 - torch and pickle have many
        why = f"{type(error).__name__}: {error}".splitlines()[0].rstrip(".")
        if "modal" in why:
            raise InputError(f"{file}: is of several functionals ({why}); {OWN_MODAL}.") from None
        raise InputError(
            f"{file}: is no checkpoint that SevenNet reads ({why}); {OWN_FILE}."
        ) from None


def _sevennet(name: str, version: str, weights: str, modal: str | None = None) -> Potential:
    import warnings
    from importlib import metadata

    from sevenn.calculator import SevenNetCalculator

    with warnings.catch_warnings():  # that no accelerator of a GPU is there
        warnings.simplefilter("ignore", UserWarning)
        calculator = SevenNetCalculator(weights, device="cpu", modal=modal)
    return Potential(name, f"{version} (sevenn {metadata.version('sevenn')})", calculator)
