"""What the files of a run folder must hold. Everything that is read from one is checked by these
schemas, for whoever made it may be a stranger; what they do not name is kept as it is.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    NonNegativeFloat,
    NonNegativeInt,
    ValidationError,
)

from crystalgan.data.files import printable
from crystalgan.errors import InputError
from crystalgan.runs.status import State  # noqa: TC001 - pydantic reads the annotation

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ase.db.row import AtomsRow

MOST_ATOMS = 1000  # of one cell
LARGEST_ELEMENT = 118
PHONON_ARRAYS = ("supercell", "q_points", "frequencies", "band_distance", "band_frequencies")
SMALLEST_VOLUME = 1e-6  # Å³, of a cell that is none
# whatever ASE and its own JSON raise for bytes that they did not write
OF_DAMAGE = (ValueError, TypeError, KeyError, AttributeError, AssertionError, RecursionError)


def _element(symbol: str) -> str:
    from ase.data import chemical_symbols

    if symbol not in chemical_symbols[1:]:
        raise ValueError(f"{printable(symbol)!r} is not a chemical element")
    return symbol


def _pair(metals: list[str]) -> list[str]:
    if metals[0] == metals[1]:
        raise ValueError(f"both metals are {metals[0]}")
    return metals


def _limits(ends: list[float]) -> list[float]:
    if not 0 <= ends[0] <= ends[1]:
        raise ValueError(f"the limits {ends[0]} and {ends[1]} are not two distances in Å")
    return ends


def _pair_of_elements(name: str) -> str:
    first, _, second = name.partition("-")
    _element(first), _element(second)
    return name


def _time(text: str) -> str:
    if text:
        datetime.fromisoformat(text)
    return text


Element = Annotated[str, AfterValidator(_element)]
Time = Annotated[str, AfterValidator(_time)]
Text = Annotated[str, Field(max_length=100_000)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Amount = Annotated[NonNegativeFloat, Field(allow_inf_nan=False)]
Limits = Annotated[list[float], Field(min_length=2, max_length=2), AfterValidator(_limits)]


class _Schema(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")


class RuleOfRun(_Schema):
    """The rule of a run: its name, and limits in Å by pair of elements."""

    name: Name
    limits: dict[Annotated[str, AfterValidator(_pair_of_elements)], Limits]


class ClassOfRun(_Schema):
    """Where one of the classes comes from."""

    cells: NonNegativeInt = 0


class RunFile(_Schema):
    """`config.json`. The settings in it are checked by `Config.of`."""

    pair: Annotated[list[Element], Field(min_length=2, max_length=2), AfterValidator(_pair)]
    shared: Element
    config: dict[str, Any]
    rule: RuleOfRun
    classes: dict[str, ClassOfRun]
    created: Text = ""

    def model_post_init(self, _: Any) -> None:
        """The shared element is neither of the metals."""
        if self.shared in self.pair:
            raise ValueError(f"the shared element {self.shared} is one of the metals")


class StatusFile(_Schema):
    """`status.json`."""

    state: State
    message: Text = ""
    updated: FiniteFloat = 0.0
    epochs: Annotated[list[NonNegativeInt], Field(min_length=1, max_length=2)] | None = None
    step: Annotated[int, Field(ge=0, le=2)] | None = None
    epoch: NonNegativeInt | None = None
    seconds: Amount | None = None


class MetricsLine(_Schema):
    """A line of `metrics.jsonl`: the step, the epoch, and every term by name."""

    __pydantic_extra__: dict[str, float]

    step: Annotated[int, Field(ge=1, le=2)]
    epoch: Annotated[int, Field(ge=1)]


class WishesOfSearch(BaseModel):
    """What a search was asked for."""

    model_config = ConfigDict(strict=True, extra="forbid")

    classes: Annotated[list[dict[str, Any]], Field(min_length=2, max_length=2)]
    formula: Annotated[str, Field(max_length=100)]
    max_atoms: NonNegativeInt
    potential: Name
    seed: NonNegativeInt
    sources: list[Name]
    known_ternaries: bool


class StepOfSearch(BaseModel):
    """How far a search is."""

    model_config = ConfigDict(strict=True, extra="forbid")

    minutes: Amount
    rounds: NonNegativeInt
    screened: NonNegativeInt
    found: NonNegativeInt
    best: Annotated[str, Field(max_length=1000)]
    sources: dict[Name, NonNegativeInt]
    relaxed: NonNegativeInt = 0
    spent: dict[Name, Amount] = {}
    accuracies: list[Annotated[float, Field(ge=0, le=1)]] = []


class DiscoveryFile(_Schema):
    """`discovery.json`."""

    settings: WishesOfSearch
    cpu_seconds: Amount
    asked: Amount = 0.0
    step: StepOfSearch | None = None


class Candidate(_Schema):
    """The columns of a candidate in `candidates.db`."""

    __pydantic_extra__: dict[str, bool | int | float | str]

    decision: Literal["undecided", "kept", "rejected"]
    seed: int
    number: NonNegativeInt
    draw: int
    spacegroup: Annotated[int, Field(ge=1, le=230)]
    spacegroup_symbol: Name
    ternary: bool
    raw_passed: bool
    unique: bool
    duplicate_of: int
    parent_a: int
    parent_b: int
    new: bool | None = None


class VerdictOfRule(_Schema):
    """What one rule says of a candidate."""

    text: Text


class EntryOfHistory(_Schema):
    """One entry of a candidate's history."""

    decision: Name
    note: Text
    time: Time
    what: Name = "decision and note"
    by: Text = ""


class CandidateDetails(_Schema):
    """The data of a candidate beside its columns."""

    shortest: dict[str, NonNegativeFloat]
    note: Text
    verdicts: dict[str, VerdictOfRule]
    matches: Text = ""
    type: Text = ""
    history: list[EntryOfHistory] = []


class Relaxed(_Schema):
    """The columns of what was relaxed, in `relaxed.db`."""

    __pydantic_extra__: dict[str, bool | int | float | str]

    candidate: NonNegativeInt
    phase: Annotated[str, Field(max_length=1000)]
    potential: Name
    version: Text
    settings: Text
    state: Literal["converged", "unfinished", "failed"]
    energy_per_atom: FiniteFloat | None = None


class RelaxedDetails(_Schema):
    """The data of what was relaxed: the reason of a failure, the cells on the way."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    reason: Text
    lattices: np.ndarray | None = None
    positions: np.ndarray | None = None
    refined: dict[str, Any] | None = None


class PhononsOfCell(_Schema):
    """The columns of a cell whose phonons were computed, in `phonons.db`."""

    __pydantic_extra__: dict[str, bool | int | float | str]

    candidate: NonNegativeInt
    phase: Annotated[str, Field(max_length=1000)]
    potential: Name
    version: Text
    settings: Text
    state: Literal["stable", "unstable", "failed"]
    start_volume: FiniteFloat
    energy_per_atom: FiniteFloat | None = None
    zero_point: FiniteFloat | None = None
    helmholtz: FiniteFloat | None = None


class ImaginaryMode(_Schema):
    """The lowest phonon of a cell that is not stable."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    q: np.ndarray
    frequency: FiniteFloat
    real: np.ndarray
    imaginary: np.ndarray


class FollowedMode(_Schema):
    """The cell that an imaginary mode leads to."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    lattice: np.ndarray
    frac: np.ndarray
    numbers: np.ndarray
    energy_per_atom: FiniteFloat
    lower: FiniteFloat
    converged: bool
    spacegroup: Annotated[int, Field(ge=1, le=230)]
    spacegroup_symbol: Name


class PhononDetails(_Schema):
    """The data of a cell whose phonons were computed; all but the reason is missing where it
    failed."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    reason: Text
    supercell: np.ndarray | None = None
    q_points: np.ndarray | None = None
    frequencies: np.ndarray | None = None
    tolerance: FiniteFloat = 0.0
    displacements: NonNegativeInt = 0
    band_distance: np.ndarray | None = None
    band_frequencies: np.ndarray | None = None
    band_places: list[FiniteFloat] = []
    band_labels: list[Annotated[str, Field(max_length=50)]] = []
    mode: ImaginaryMode | None = None
    followed: FollowedMode | None = None


class Making(_Schema):
    """How long candidates took to be made."""

    seconds: Amount
    candidates: NonNegativeInt


class KnownOfRun(_Schema):
    """What candidates were compared with."""

    structures: NonNegativeInt
    ternary: NonNegativeInt
    files: list[Text] = []
    not_compared: list[Annotated[list[Text], Field(min_length=2, max_length=2)]] = []
    builtin_ternary: NonNegativeInt = 0


class Metadata(_Schema):
    """The metadata of a database."""

    making: Making | None = None
    known: KnownOfRun | None = None


def checked(schema: type[BaseModel], data: Any, path: Path, way_out: str) -> None:
    """InputError where `data` is not what the file must hold: which part of it, and why."""
    try:
        schema.model_validate(data)
    except ValidationError as error:
        raise InputError(f"{path}: damaged ({reason(error)}); {way_out}.") from None


def reason(error: Exception) -> str:
    """What is wrong, on one line: of a schema's error the part and the first complaint."""
    if not isinstance(error, ValidationError):
        return printable(str(error) or type(error).__name__)
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "missing":
        return printable(f"{where!r} is missing")
    said = first["msg"].removeprefix("Value error, ")
    return printable(f"{where}: {said}" if where else said)


def check_row(
    row: AtomsRow, columns: type[BaseModel], details: type[BaseModel], with_data: bool
) -> None:
    """One of `OF_DAMAGE` for a row that is none of ours: no crystal, other columns or, where they
    were read, other details."""
    check_crystal(row.numbers, row.positions, row.cell)
    columns.model_validate(row.key_value_pairs)
    if with_data:
        data = dict(row.data)
        check_plain(data)
        details.model_validate(data)
        if details is RelaxedDetails:
            _check_frames(row)
        if details is PhononDetails:
            _check_phonons(row)


SCHEMAS: dict[str, tuple[type[BaseModel], type[BaseModel]]] = {
    "candidates.db": (Candidate, CandidateDetails),
    "relaxed.db": (Relaxed, RelaxedDetails),
    "phonons.db": (PhononsOfCell, PhononDetails),
}


def check_crystal(numbers: np.ndarray, positions: np.ndarray, cell: np.ndarray) -> None:
    """ValueError for what is no crystal: no atoms or too many, no elements, no cell."""
    if not 0 < len(numbers) <= MOST_ATOMS or positions.shape != (len(numbers), 3):
        raise ValueError(f"{len(numbers)} atoms with positions of shape {positions.shape}")
    if numbers.min() < 1 or numbers.max() > LARGEST_ELEMENT:
        raise ValueError("an atom of no element")
    if not (np.isfinite(positions).all() and np.isfinite(cell).all()):
        raise ValueError("coordinates that are not finite")
    if not abs(np.linalg.det(cell)) > SMALLEST_VOLUME:
        raise ValueError("a cell without a volume")


def check_plain(value: Any) -> None:
    """ValueError for details that are more than numbers, words, lists, names and finite arrays."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise ValueError("a name that is no text")  # noqa: TRY004 - as all damage
            check_plain(inner)
    elif isinstance(value, list):
        for inner in value:
            check_plain(inner)
    elif isinstance(value, np.ndarray):
        if value.dtype.kind not in "biuf" or not np.isfinite(value).all():
            raise ValueError("an array of other things than finite numbers")
    elif not isinstance(value, (str, int, float, bool, type(None))):
        raise ValueError(f"an object of type {type(value).__name__}")  # noqa: TRY004


def _check_frames(row: AtomsRow) -> None:
    """ValueError for frames of a relaxation, or for its cell of higher symmetry, that are none."""
    data: Mapping[str, Any] = row.data
    if (lattices := data.get("lattices")) is not None:
        frames, positions = len(lattices), data["positions"]
        if lattices.shape != (frames, 3, 3) or positions.shape != (frames, len(row.numbers), 3):
            raise ValueError("frames of another number of atoms")
        if not (np.abs(np.linalg.det(lattices)) > SMALLEST_VOLUME).all():
            raise ValueError("a frame without a volume")
    refined = data.get("refined")
    if refined and not isinstance(refined.get("text"), str):
        raise ValueError("a cell of higher symmetry without a text")
    if refined and "lattice" in refined:
        lattice, frac = np.asarray(refined["lattice"]), np.asarray(refined["frac"])
        check_crystal(np.asarray(refined["numbers"]), frac @ lattice, lattice)


def _check_phonons(row: AtomsRow) -> None:
    """ValueError for phonons of another number of atoms, or a cell at their end that is none."""
    data: Mapping[str, Any] = row.data
    if row.state == "failed":
        return
    atoms, shapes = len(row.numbers), {name: np.shape(data[name]) for name in PHONON_ARRAYS}
    points, along = len(data["q_points"]), len(data["band_distance"])
    if points < 1 or shapes != {
        "supercell": (3, 3),
        "q_points": (points, 3),
        "frequencies": (points, 3 * atoms),
        "band_distance": (along,),
        "band_frequencies": (along, 3 * atoms),
    }:
        raise ValueError("phonons of another number of atoms")
    if len(data["band_places"]) != len(data["band_labels"]):
        raise ValueError("names of other points than there are")
    mode = data.get("mode")
    if (row.state == "unstable") != (mode is not None):
        raise ValueError("an imaginary mode of a stable cell, or none of another")
    if mode and {mode["real"].shape, mode["imaginary"].shape} != {(atoms, 3)}:
        raise ValueError("a mode of another number of atoms")
    if mode and mode["q"].shape != (3,):
        raise ValueError("a wave vector that is none")
    if end := data.get("followed"):
        check_crystal(end["numbers"], end["frac"] @ end["lattice"], end["lattice"])
