"""`discover` and `verify_phases` as a notebook calls them: metals by name, and a bar."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crystalgan.bars import reporting
from crystalgan.data.classes import load_class

if TYPE_CHECKING:
    from pathlib import Path

    from crystalgan.bars import Progress
    from crystalgan.data.classes import BinaryClass
    from crystalgan.discovery.phases import Phases
    from crystalgan.discovery.record import Step
    from crystalgan.runs.folder import Run


def discover(
    a: BinaryClass | str,
    b: BinaryClass | str,
    minutes: float = 10.0,
    formula: str = "",
    max_atoms: int = 24,
    potential: str = "chgnet",
    seed: int = 0,
    root: Path | str = "runs",
    jobs: int = 1,
    new: bool = False,
    known_ternaries: bool = True,
    progress: Progress = False,
    verify: str = "",
) -> Phases:
    """Search for ternary phases of two metals until so many CPU minutes are spent.

    All small compositions are looked at, or the one `formula`, in cells of at most `max_atoms`. The
    same call goes on with what is in `root` already, with more `minutes` further, unless `new`.
    Without `known_ternaries` the built-in ones of the system neither compete nor count as known.
    `verify` is a second potential that the 20 lowest phases are relaxed with again. Raises
    InputError for what cannot be used.

    >>> discover("Zr", "Ni", minutes=1, formula="ZrNiH3", progress=True)  # doctest: +SKIP
    12 ternary phases in 1.0 CPU minutes
    """
    from crystalgan.discovery import discover as core
    from crystalgan.discovery.record import Wanted
    from crystalgan.discovery.verify import check_other
    from crystalgan.stability.tasks import about_potential

    both = [load_class(c) if isinstance(c, str) else c for c in (a, b)]
    wanted = Wanted(formula, max_atoms, potential, seed, known_ternaries=known_ternaries)
    report = reporting(progress, "discover")

    def told(step: Step) -> None:
        report(min(100, int(100 * step.minutes / minutes)), 100, step.best)

    if verify:
        species = (both[0].shared, both[0].metal, both[1].metal)
        check_other(verify, about_potential(potential, species)[0], species)
    phases = core.discover(both[0], both[1], minutes, wanted, root, jobs, new, told)
    return verify_phases(phases.run, verify, jobs, progress) if verify else phases


def verify_phases(run: Run, potential: str, jobs: int = 1, progress: Progress = False) -> Phases:
    """Relax the 20 lowest phases of a search again with another potential, what competes first.

    The table of what comes back has both energies above the hull. Raises InputError for what cannot
    be used.

    >>> verify_phases(open_run("runs/Zr-Ni-H_discovery_seed0_001"), "sevennet-l3i5").table
    ... # doctest: +SKIP
    """
    from crystalgan.discovery.verify import verify

    return verify(run, potential, jobs, progress=reporting(progress, "verify"))
