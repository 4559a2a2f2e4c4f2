"""`Config`: every number that shapes a run, in one flat, frozen place."""

from __future__ import annotations

import difflib
import json
import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from crystalgan import InputError

METHODS = ("crystalgan", "unconstrained", "discogan", "gan")


@dataclass(frozen=True)
class Config:
    """The default differs from `Config.paper()` only in the fields that `paper` names, so an ablation can switch each alone."""

    method: Literal["crystalgan", "unconstrained", "discogan", "gan"] = "crystalgan"  # the columns of Table II
    shared: str = "H"  # the element that both classes share
    rule: str = "learned"  # "paper", "learned" or the path of a TOML table; what the loss aims at and the judge asks
    seed: int = 0
    epochs1: int = 1000  # passes over the larger class in step 1
    epochs2: int = 1000  # the same number of samples an epoch in step 2
    batch: int = 35  # cells
    layers: int = 5  # hidden layers of each network
    width: int = 100  # units of each hidden layer
    beta1: float = 0.5  # of Adam
    learning_rate: float = 1e-3  # of Adam
    lambda_adversarial1: float = 0.1  # lambda_1 and lambda_3 of eq. 10
    lambda_reconstruction1: float = 1.0  # lambda_2 and lambda_4 of eq. 10
    lambda_adversarial2: float = 0.1  # lambda_1 and lambda_3 of eq. 25
    lambda_reconstruction2: float = 1.0  # lambda_2 and lambda_4 of eq. 25
    lambda_geo1: float = 10.0  # lambda_5 of eq. 25
    lambda_geo2: float = 10.0  # lambda_6 of eq. 25
    lambda_volume: float = 10.0  # of a term that is not in the paper: a cell keeps the volume of its transferred cell
    residual: bool = True  # a generator puts out its input plus a correction that starts near zero
    spectral_norm: bool = True  # every layer of a discriminator has a spectral norm of at most one
    transfer: Literal["fit", "paper"] = "fit"  # how step 2's input is put together
    origins: int = 8  # random origins that `fit` chooses from
    favour_large: float = 2.0  # parents are drawn with a chance that grows as their number of atoms to this power
    transfer_pool: int = 2048  # transferred samples that step 2 trains on; 0: as many as the larger class has cells
    geometric_loss: Literal["interval", "literal"] = "interval"  # eqs. 12-14 as meant, or as printed
    margin: float = 0.05  # Å that the interval loss stays inside the limits
    refine: int = 50  # gradient steps on the geometric loss after step 2's generator, when candidates are made
    checkpoint_every: int = 100  # epochs

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for field in fields(self):
            object.__setattr__(self, field.name, _coerce(field.name, getattr(self, field.name), hints[field.name]))
        for name in ("batch", "layers", "width", "origins", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)} must be at least 1.")
        for name in ("epochs1", "epochs2", "transfer_pool", "refine", "seed", "margin", "learning_rate"):
            if getattr(self, name) < 0:
                raise InputError(f"{name}={getattr(self, name)} must not be negative.")

    @classmethod
    def paper(cls, **changes: Any) -> Config:  # noqa: ANN401 - one for each field, each checked
        """The paper's settings to the letter (section IV.B), its geometric loss as printed, its rule, its feature transfer."""
        settings = {
            "rule": "paper",
            "learning_rate": 1e-4,
            "lambda_adversarial1": 1.0,
            "lambda_adversarial2": 1.0,
            "lambda_geo1": 1.0,
            "lambda_geo2": 1.0,
            "lambda_volume": 0.0,
            "residual": False,
            "spectral_norm": False,
            "transfer": "paper",
            "favour_large": 0.0,
            "transfer_pool": 0,
            "geometric_loss": "literal",
            "refine": 0,
        }
        return cls.of(settings | changes)

    @classmethod
    def of(cls, settings: dict[str, Any]) -> Config:
        """A config from names and values (or their text); an unknown name is an error that lists the known ones."""
        known = [field.name for field in fields(cls)]
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
    except (TypeError, ValueError):
        raise InputError(f"{name}={value!r} must be {'a whole number' if kind is int else 'a number'}.") from None
    if kind is float and not math.isfinite(number):
        raise InputError(f"{name}={value!r} must be a finite number.")
    if kind is int and isinstance(value, float) and number != value:
        raise InputError(f"{name}={value!r} must be a whole number.")
    return number
