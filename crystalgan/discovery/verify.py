"""A second opinion on what a search found: its lowest phases, relaxed with another potential."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crystalgan.discovery.phases import phases_of_run
from crystalgan.errors import InputError
from crystalgan.runs.database import structure_of
from crystalgan.stability.relaxations import relax_again, relaxed_rows
from crystalgan.stability.tasks import Task, about_potential

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crystalgan.discovery.phases import Phases
    from crystalgan.runs.folder import Run
    from crystalgan.stability.relaxations import Progress

MOST = 20  # phases that are relaxed again
FAR = 0.1  # eV/atom above the search's hull; what is beyond does not compete in another potential


def verify(
    run: Run, potential: str, jobs: int = 1, most: int = MOST, progress: Progress | None = None
) -> Phases:
    """Relax the lowest phases of a search again with another potential, what competes first.

    The phases start from the cells that the search's own potential gave; all energies above the
    hull of `potential` are above its own hull, of the elements, binaries, known ternaries and
    compounds of the metals, of what else is on the search's hull, and of these phases. Binaries and
    known ternaries more than 0.1 eV/atom above the search's hull are left out. Rows go into
    `relaxed.db`, and what is there already is left. `potential` is that of `load_potential`,
    `progress(done, of, what)` is called after each structure. Raises InputError for what cannot be
    used.

    >>> verify(open_run("runs/Zr-Ni-H_discovery_seed0_001"), "sevennet-l3i5")  # doctest: +SKIP
    12 ternary phases in 1.0 CPU minutes
    """
    phases = phases_of_run(run)
    if phases.table.empty or phases.diagram is None:
        raise InputError(f"{run.folder}: no phase is found yet that could be verified; search on.")
    check_other(potential, phases.potential, run.species)
    on_hull = {entry.name for entry in phases.diagram.stable_entries}
    above = phases.diagram.get_e_above_hull
    far = {e.name for e in phases.diagram.all_entries if not e.is_element and above(e) > FAR}
    ids = {int(i) for i in phases.table["id"].head(most)}
    tasks = [
        Task(row.candidate, row.phase, structure_of(row))
        for row in relaxed_rows(run, phases.potential)
        if row.candidate in ids or row.phase in on_hull
    ]
    return phases_of_run(run, relax_again(run, tasks, potential, jobs, far, progress))


def check_other(potential: str, own: str, species: Sequence[str]) -> None:
    """InputError where a potential cannot be used, or is the search's `own` (its name in rows)."""
    name, _ = about_potential(potential, species)
    if name == own:
        raise InputError(f"The search itself took {name}; verify it with another potential.")
