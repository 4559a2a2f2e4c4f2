"""`Config`: every number that shapes a run, in one flat, frozen place."""

from __future__ import annotations

import difflib
import hashlib
import json
import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import PurePath
from typing import Any, Literal, get_args, get_origin, get_type_hints

from crystalgan.errors import InputError

LARGEST_SEED = 2**63 - 1
MOST = 1_000_000_000  # of a whole number that has no smaller limit of its own
METHODS = ("crystalgan", "unconstrained", "discogan", "gan")

# Settings of version 0.1 under the names that they have now.
RENAMED = {"refine": "repair", "settle": "prerelax", "choose": "best_of"}
RENAMED_TRANSFERS = {"fit": ("fitted", "metal"), "whole": ("fitted", "all")}


def _setting(
    default: Any,
    meaning: str,
    unit: str = "",
    least: float = -math.inf,
    most: float = math.inf,
) -> Any:
    """One field of `Config`: its meaning, its unit, and the smallest and largest value that it
    takes."""
    return field(
        default=default, metadata={"meaning": meaning, "unit": unit, "least": least, "most": most}
    )


def _weight(default: float, meaning: str, unit: str = "") -> Any:
    """A weight of the loss."""
    return _setting(default, meaning, unit, least=0, most=1e6)


@dataclass(frozen=True)
class Config:
    """All settings of a run.

    The default differs from `Config.paper()` only in the fields that `paper` names, so an ablation
    can switch each alone.

    Every field's metadata say its `meaning`, its `unit`, and its `least` and `most` value.
    InputError names a setting that is none of these.

    >>> Config(rule="paper", seed=3).seed
    3
    """

    method: Literal["crystalgan", "unconstrained", "discogan", "gan"] = _setting(
        "crystalgan",
        "which method of Table II: both steps with constraints, without, one cross-domain step, or"
        " a GAN from noise",
    )
    shared: str = _setting("H", "the element that both classes share")
    rule: str = _setting(
        "learned",
        '"paper", "learned" or the path of a TOML table; what the loss aims at and candidates are'
        " checked by",
    )
    seed: int = _setting(0, "of every random number", least=0, most=LARGEST_SEED)
    epochs1: int = _setting(1000, "passes over the larger class in step 1", "epochs", least=0)
    epochs2: int = _setting(
        1000, "the same number of samples an epoch in step 2", "epochs", least=0
    )
    batch: int = _setting(35, "cells in one update of the networks", "cells", least=1)
    generator: Literal["graph", "mlp"] = _setting(
        "graph", "steps along the neighbour graph, or a perceptron over the flattened tensor"
    )
    steps: int = _setting(
        12, "steps of a generator along the neighbour graph", "steps", least=1, most=1000
    )
    layers: int = _setting(5, "hidden layers of each perceptron", least=1, most=1000)
    width: int = _setting(100, "units of each hidden layer", least=1, most=100_000)
    beta1: float = _setting(0.5, "first moment's decay of Adam", least=0, most=0.9999)
    learning_rate: float = _setting(1e-3, "of Adam", least=0, most=10)
    clip: float = _setting(1.0, "no gradient is longer than this; 0: as long as it is", least=0)
    lambda_adversarial1: float = _weight(
        1.0, "lambda_1 and lambda_3 of eq. 10: how much step 1 heeds its discriminators"
    )
    lambda_reconstruction1: float = _weight(
        1.0, "lambda_2 and lambda_4 of eq. 10: how much step 1 heeds the way back"
    )
    lambda_adversarial2: float = _weight(
        1.0, "lambda_1 and lambda_3 of eq. 25: how much step 2 heeds its discriminators"
    )
    lambda_reconstruction2: float = _weight(
        1.0, "lambda_2 and lambda_4 of eq. 25: how much step 2 heeds the way back"
    )
    lambda_geo1: float = _weight(
        1.0, "lambda_5 of eq. 25: weight of distances that are too short", "1/Å²"
    )
    lambda_geo2: float = _weight(
        1.0, "lambda_6 of eq. 25: weight of distances that are too long", "1/Å²"
    )
    lambda_volume: float = _weight(
        30.0, "of a term that is not in the paper: a cell keeps the volume of its transferred cell"
    )
    lambda_energy: float = _weight(
        30.0,
        "of a term that is not in the paper: the energy of a pair potential fitted to CHGNet",
        "atoms/eV",
    )
    residual: bool = _setting(
        True, "a generator puts out its input plus a correction that starts near zero"
    )
    transfer: Literal["fitted", "paper"] = _setting(
        "fitted",
        "how step 2's input is put together from two pseudo-binaries: `fitted` chooses an origin"
        " and a volume for the two together, the paper's way has neither",
    )
    incoming: Literal["metal", "all"] = _setting(
        "metal",
        "what a fitted transfer takes from the second pseudo-binary: its metal, or all of its"
        " atoms",
    )
    symmetry: bool = _setting(
        True,
        "the parents' symmetry is followed: `fitted` looks for origins that keep some, and networks"
        " keep it",
    )
    origins: int = _setting(4, "origins that a fitted transfer tries", least=1, most=1000)
    noise: float = _setting(
        0.3,
        "random displacements that a generator of step 2 starts from, standard deviation; strains"
        " are a third of this number",
        "Å",
        least=0,
        most=100,
    )
    geometric_loss: Literal["interval", "literal"] = _setting(
        "interval", "eqs. 12-14 as meant, or as printed"
    )
    margin: float = _setting(
        0.1, "how far the interval loss stays inside the limits", "Å", least=0, most=10
    )
    prerelax: int = _setting(
        150,
        "steps down the pair potential when candidates are made; before them a cell is rescaled to"
        " its reference volume",
        "steps",
        least=0,
    )
    best_of: int = _setting(
        2,
        "cells that are made of each pair of parents, of which the one with the lowest energy of"
        " the pair potential is taken",
        "cells",
        least=1,
        most=1000,
    )
    repair: int = _setting(
        100,
        "gradient steps on the geometric loss, last of all when candidates are made",
        "steps",
        least=0,
    )
    checkpoint_every: int = _setting(100, "between two checkpoints", "epochs", least=1)
    known_ternaries: bool = _setting(
        True,
        "the built-in known ternaries of the two metals count as known and compete on the hull; no"
        " training sees them",
    )

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for one in fields(self):
            value = _coerce(one.name, getattr(self, one.name), hints[one.name])
            object.__setattr__(self, one.name, value)
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                least, most = one.metadata["least"], one.metadata["most"]
                _check_bounds(
                    one.name,
                    value,
                    least,
                    min(most, MOST) if isinstance(value, int) and most > LARGEST_SEED else most,
                )
        check_element(self.shared)

    @classmethod
    def paper(cls, **changes: Any) -> Config:
        """The paper's settings to the letter (section IV.B), its geometric loss as printed, its
        rule, its feature transfer."""
        settings = {
            "rule": "paper",
            "learning_rate": 1e-4,
            "clip": 0.0,
            "lambda_volume": 0.0,
            "lambda_energy": 0.0,
            "generator": "mlp",
            "residual": False,
            "transfer": "paper",
            "symmetry": False,
            "noise": 0.0,
            "geometric_loss": "literal",
            "prerelax": 0,
            "best_of": 1,
            "repair": 0,
        }
        return cls.of(settings | changes)

    @classmethod
    def of(cls, settings: dict[str, Any]) -> Config:
        """A config from names and values (or their text); an unknown name is an error that lists
        the known ones.

        Names and values of version 0.1 are taken for what they are called now.

        >>> Config.of({"settle": "10", "transfer": "whole"}).incoming
        'all'
        """
        settings = _renamed(settings)
        known = [one.name for one in fields(cls)]
        for name in settings:
            if name not in known:
                near = difflib.get_close_matches(name, [*known, *RENAMED], 1)
                hint = f"did you mean {RENAMED.get(near[0], near[0])}? " if near else ""
                raise InputError(
                    f"There is no setting {name!r}; {hint}the settings are {', '.join(known)}."
                )
        return cls(**settings)

    def weight(self, stage: int, term: str) -> float:
        """The lambda of a named loss term (`adversarial_a`, `reconstruction_b`, `geo1`, ...) in
        step 1 or 2."""
        kind = term.partition("_")[0]
        return float(
            getattr(
                self,
                (
                    f"lambda_{kind}{stage}"
                    if kind in {"adversarial", "reconstruction"}
                    else f"lambda_{kind}"
                ),
            )
        )

    def to_json(self) -> str:
        """One JSON object; `Config.of(json.loads(text))` gives the same config back."""
        return json.dumps(asdict(self), indent=1)


def _renamed(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings under the names and with the values of this version."""
    new = {RENAMED.get(name, name): value for name, value in settings.items()}
    if len(new) < len(settings):
        twice = next(
            f"{old} and {name}" for old, name in RENAMED.items() if {old, name} <= set(settings)
        )
        raise InputError(f"{twice} are one setting; give the second alone.")
    transfer = new.get("transfer")
    if isinstance(transfer, str) and transfer in RENAMED_TRANSFERS:
        new["transfer"], incoming = RENAMED_TRANSFERS[transfer]
        if new.setdefault("incoming", incoming) != incoming:
            raise InputError(
                f"transfer={transfer} and incoming={new['incoming']} disagree; give incoming alone."
            )
    return new


def _check_bounds(name: str, value: float, least: float, most: float) -> None:
    """InputError for a number outside its limits."""
    if value < least:
        raise InputError(
            f"{name}={value} must not be negative."
            if least == 0
            else f"{name}={value} must be at least {least:g}."
        )
    if value > most:
        raise InputError(f"{name}={value} must be at most {most:,}.")


def check_element(symbol: str) -> None:
    """InputError for a shared element that is none."""
    if symbol == "H":  # nearly always, and the table of elements takes a moment to import
        return
    from ase.data import chemical_symbols

    if symbol not in chemical_symbols[1:]:
        raise InputError(
            f"shared={symbol!r} is not a chemical element; write its symbol, such as H or N."
        )


def check_seed(seed: int) -> None:
    """InputError for a seed below zero, which would stand for cells that no seed made, or too large
    for a database."""
    if not 0 <= seed <= LARGEST_SEED:
        raise InputError(f"The seed {seed} must be a whole number from 0 to {LARGEST_SEED}.")


def mixed(number: int) -> int:
    """A number that torch takes as a seed: itself below 2^64, else a hash of it."""
    if number < 2**64:
        return number
    return int.from_bytes(hashlib.sha256(str(number).encode()).digest()[:8], "big")


def _coerce(name: str, value: object, kind: Any) -> object:
    """`value` as the field's type, also from text; InputError names the field and what it takes."""
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise InputError(
                f"{name}={value!r} is not one of {', '.join(map(str, get_args(kind)))}."
            )
        return value
    if kind is bool:
        words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
        if str(value).lower() not in words:
            raise InputError(f"{name}={value!r} must be true or false.")
        return words[str(value).lower()]
    if kind is str:
        if not isinstance(value, (str, PurePath)):
            raise InputError(f"{name}={value!r} must be text.")
        return str(value)
    if isinstance(value, bool):
        raise InputError(
            f"{name}={value!r} must be {'a whole number' if kind is int else 'a number'}."
        )
    try:
        number = kind(value)
    except (TypeError, ValueError, OverflowError):
        raise InputError(
            f"{name}={value!r} must be {'a whole number' if kind is int else 'a number'}."
        ) from None
    if kind is float and not math.isfinite(number):
        raise InputError(f"{name}={value!r} must be a finite number.")
    if kind is int and isinstance(value, float) and number != value:
        raise InputError(f"{name}={value!r} must be a whole number.")
    return number
