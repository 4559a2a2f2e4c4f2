"""What a run folder says of its search, `discovery.json`: what was asked for, how far it is."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from crystalgan.discovery.compositions import check_size
from crystalgan.errors import InputError
from crystalgan.runs.schema import DiscoveryFile, checked
from crystalgan.storage import read_json, write_json

if TYPE_CHECKING:
    from crystalgan.runs.folder import Run

RECORD = "discovery.json"
SETTINGS = "discovery"  # what rows say of how they were relaxed
MOST_ATOMS = 24
SOURCES = ("random", "transfer", "hosts", "heredity")  # unless others are asked for
EVERY_SOURCE = (*SOURCES, "learned")
BEGIN_AFRESH = "move the run folder away and begin a new search"


@dataclass(frozen=True)
class Wanted:
    """What a search is asked for; a folder is one search's, with these."""

    formula: str = ""  # empty: all compositions
    max_atoms: int = MOST_ATOMS
    potential: str = "chgnet"
    seed: int = 0
    sources: tuple[str, ...] = SOURCES
    known_ternaries: bool = True  # whether the built-in ones compete, and count as known

    def __post_init__(self) -> None:
        check_size(self.max_atoms)
        if unknown := sorted(set(self.sources) - set(EVERY_SOURCE)):
            raise InputError(
                f"`sources` names {', '.join(unknown)}; there are {', '.join(EVERY_SOURCE)}."
            )
        if not self.sources:
            raise InputError(f"`sources` names none; there are {', '.join(EVERY_SOURCE)}.")


@dataclass(frozen=True)
class Step:
    """How far a search is after a round."""

    minutes: float  # of CPU time, all sittings together
    rounds: int
    screened: int
    found: int
    best: str  # the lowest ternary phase, in words
    sources: dict[str, int] = field(default_factory=dict)  # found by each
    relaxed: int = 0  # relaxations that came to an end
    spent: dict[str, float] = field(default_factory=dict)  # s of one usual core, by source
    # of the discriminator of a source that learns, a round's mean: how often it was right
    accuracies: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Record:
    """The content of `discovery.json`."""

    wanted: Wanted
    classes: tuple[dict[str, Any], ...]  # provenance of both
    cpu_seconds: float = 0.0
    asked: float = 0.0  # CPU minutes of the last sitting and all before; 0: it did not begin
    step: Step | None = None  # None before the first round

    @property
    def settings(self) -> dict[str, Any]:
        """What tells searches from others."""
        wanted = asdict(self.wanted) | {"sources": list(self.wanted.sources)}
        return {"classes": list(self.classes)} | wanted

    def write(self, run: Run) -> None:
        """Replace the file in a run folder."""
        about = {"settings": self.settings, "cpu_seconds": self.cpu_seconds, "asked": self.asked}
        step = {"step": asdict(self.step)} if self.step else {}
        write_json(run.folder / RECORD, about | step)


def is_search(run: Run) -> bool:
    """Whether a run is that of a search."""
    return (run.folder / RECORD).exists()


def read_record(run: Run) -> Record:
    """The record of a run's search.

    Raises InputError where the run is none of a search, or the file is damaged.
    """
    path = run.folder / RECORD
    if not path.exists():
        raise InputError(f"{run.folder}: no search was made in this run; `crystalgan discover`.")
    about = read_json(path, BEGIN_AFRESH)
    checked(DiscoveryFile, about, path, BEGIN_AFRESH)
    settings = dict(about["settings"])
    classes = tuple(settings.pop("classes"))
    settings["sources"] = tuple(settings["sources"])
    try:
        wanted = Wanted(**settings)
    except (InputError, TypeError) as error:
        said = str(error).rstrip(".")
        raise InputError(f"{path}: damaged ({said}); {BEGIN_AFRESH}.") from None
    step = Step(**about["step"]) if about.get("step") else None
    return Record(wanted, classes, about["cpu_seconds"], about.get("asked", 0.0), step)
