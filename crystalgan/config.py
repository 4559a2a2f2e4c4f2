"""`Config`: every number that shapes a run, in one flat, frozen place."""

from __future__ import annotations

import difflib
import hashlib
import json
import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from crystalgan import InputError

LARGEST_SEED = 2**63 - 1
MOST = {"steps": 1000, "layers": 1000, "width": 100_000, "origins": 1000, "choose": 1000}  # more fits into no memory
MOST_OTHERWISE = 1_000_000_000  # of any other whole number
METHODS = ("crystalgan", "unconstrained", "discogan", "gan")


def _setting(default: Any, meaning: str, unit: str = "") -> Any:  # noqa: ANN401 - the default of any field
    return field(default=default, metadata={"meaning": meaning, "unit": unit})


@dataclass(frozen=True)
class Config:
    """The default differs from `Config.paper()` only in the fields that `paper` names, so an ablation can switch each alone.

    Every field's metadata say its `meaning` and its `unit`.
    """

    method: Literal["crystalgan", "unconstrained", "discogan", "gan"] = _setting(
        "crystalgan", "which method of Table II: both steps with constraints, without, one cross-domain step, or a GAN from noise"
    )
    shared: str = _setting("H", "the element that both classes share")
    rule: str = _setting("learned", '"paper", "learned" or the path of a TOML table; what the loss aims at and the judge asks')
    seed: int = _setting(0, "of every random number")
    epochs1: int = _setting(1000, "passes over the larger class in step 1", "epochs")
    epochs2: int = _setting(1000, "the same number of samples an epoch in step 2", "epochs")
    batch: int = _setting(35, "cells in one update of the networks", "cells")
    generator: Literal["graph", "mlp"] = _setting(
        "graph", "steps along the neighbour graph, or a perceptron over the flattened tensor"
    )
    steps: int = _setting(12, "steps of a generator along the neighbour graph", "steps")
    layers: int = _setting(5, "hidden layers of each perceptron")
    width: int = _setting(100, "units of each hidden layer")
    beta1: float = _setting(0.5, "first moment's decay of Adam")
    learning_rate: float = _setting(1e-3, "of Adam")
    clip: float = _setting(1.0, "no gradient is longer than this; 0: as long as it is")
    lambda_adversarial1: float = _setting(1.0, "lambda_1 and lambda_3 of eq. 10: how much step 1 heeds its discriminators")
    lambda_reconstruction1: float = _setting(1.0, "lambda_2 and lambda_4 of eq. 10: how much step 1 heeds the way back")
    lambda_adversarial2: float = _setting(1.0, "lambda_1 and lambda_3 of eq. 25: how much step 2 heeds its discriminators")
    lambda_reconstruction2: float = _setting(1.0, "lambda_2 and lambda_4 of eq. 25: how much step 2 heeds the way back")
    lambda_geo1: float = _setting(1.0, "lambda_5 of eq. 25: weight of distances that are too short", "1/Å²")
    lambda_geo2: float = _setting(1.0, "lambda_6 of eq. 25: weight of distances that are too long", "1/Å²")
    lambda_volume: float = _setting(30.0, "of a term that is not in the paper: a cell keeps the volume of its transferred cell")
    lambda_energy: float = _setting(
        30.0, "of a term that is not in the paper: a sum over pairs of atoms, fitted to CHGNet", "atoms/eV"
    )
    residual: bool = _setting(True, "a generator puts out its input plus a correction that starts near zero")
    transfer: Literal["fit", "whole", "paper"] = _setting(
        "fit",
        "how step 2's input is put together from two pseudo-binaries: the second gives its metal, or is put in `whole`, with its "
        "shared atoms; the paper's has neither origins nor volumes of its own",
    )
    symmetry: bool = _setting(
        True, "the parents' symmetry is followed: `fit` looks for origins that keep some, and networks keep it"
    )
    origins: int = _setting(4, "origins that `fit` tries")
    noise: float = _setting(
        0.3,
        "random displacements that a generator of step 2 starts from, standard deviation; strains are a third of this number",
        "Å",
    )
    geometric_loss: Literal["interval", "literal"] = _setting("interval", "eqs. 12-14 as meant, or as printed")
    margin: float = _setting(0.1, "how far the interval loss stays inside the limits", "Å")
    settle: int = _setting(
        150,
        "steps down the energy of pairs, when candidates are made; before them a cell is packed at its usual volume",
        "steps",
    )
    choose: int = _setting(
        2, "cells that are made of each pair of parents, of which the one with the lowest energy of pairs is taken", "cells"
    )
    refine: int = _setting(100, "gradient steps on the geometric loss, last of all when candidates are made", "steps")
    checkpoint_every: int = _setting(100, "between two checkpoints", "epochs")

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for one in fields(self):
            object.__setattr__(self, one.name, _coerce(one.name, getattr(self, one.name), hints[one.name]))
        for name in ("batch", "steps", "layers", "width", "origins", "choose", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)} must be at least 1.")
        for name in (
            "epochs1",
            "epochs2",
            "settle",
            "refine",
            "seed",
            "margin",
            "noise",
            "learning_rate",
            "clip",
        ):
            if getattr(self, name) < 0:
                raise InputError(f"{name}={getattr(self, name)} must not be negative.")
        check_seed(self.seed)
        for one in fields(self):
            value, most = getattr(self, one.name), MOST.get(one.name, MOST_OTHERWISE)
            if hints[one.name] is int and one.name != "seed" and value > most:
                raise InputError(f"{one.name}={value} must be at most {most:,}.")

    @classmethod
    def paper(cls, **changes: Any) -> Config:  # noqa: ANN401 - one for each field, each checked
        """The paper's settings to the letter (section IV.B), its geometric loss as printed, its rule, its feature transfer."""
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
            "settle": 0,
            "choose": 1,
            "refine": 0,
        }
        return cls.of(settings | changes)

    @classmethod
    def of(cls, settings: dict[str, Any]) -> Config:
        """A config from names and values (or their text); an unknown name is an error that lists the known ones."""
        known = [one.name for one in fields(cls)]
        for name in settings:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                hint = f"did you mean {near[0]}? " if near else ""
                raise InputError(f"There is no setting {name!r}; {hint}the settings are {', '.join(known)}.")
        return cls(**settings)

    def weight(self, stage: int, term: str) -> float:
        """The lambda of a named loss term (`adversarial_a`, `reconstruction_b`, `geo1`, ...) in step 1 or 2."""
        kind = term.partition("_")[0]
        return float(getattr(self, f"lambda_{kind}{stage}" if kind in {"adversarial", "reconstruction"} else f"lambda_{kind}"))

    def to_json(self) -> str:
        """One JSON object; `Config.of(json.loads(text))` gives the same config back."""
        return json.dumps(asdict(self), indent=1)


def check_seed(seed: int) -> None:
    """InputError for a seed below zero, which would stand for cells that no seed made, or too large for a database."""
    if not 0 <= seed <= LARGEST_SEED:
        raise InputError(f"The seed {seed} must be a whole number from 0 to {LARGEST_SEED}.")


def mixed(number: int) -> int:
    """A number that torch takes as a seed: itself below 2^64, else a hash of it."""
    if number < 2**64:
        return number
    return int.from_bytes(hashlib.sha256(str(number).encode()).digest()[:8], "big")


def _coerce(name: str, value: object, kind: Any) -> object:  # noqa: ANN401 - a type hint
    """`value` as the field's type, also from text; InputError names the field and what it takes."""
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise InputError(f"{name}={value!r} is not one of {', '.join(map(str, get_args(kind)))}.")
        return value
    if kind is bool:
        words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
        if str(value).lower() not in words:
            raise InputError(f"{name}={value!r} must be true or false.")
        return words[str(value).lower()]
    try:
        number = kind(value)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{name}={value!r} must be {'a whole number' if kind is int else 'a number'}.") from None
    if kind is float and not math.isfinite(number):
        raise InputError(f"{name}={value!r} must be a finite number.")
    if kind is int and isinstance(value, float) and number != value:
        raise InputError(f"{name}={value!r} must be a whole number.")
    return number
