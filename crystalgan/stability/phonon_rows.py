"""Phonons of a run's relaxed candidates in `phonons.db`, an ASE database beside `relaxed.db`.

Each cell is one row, written as soon as its phonons are known, so that work that is killed goes on
where it was. The cell that an imaginary mode leads to is a phase of `relaxed.db` as well.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from crystalgan.errors import InputError
from crystalgan.runs.database import open_database, structure_of
from crystalgan.runs.folder import Run
from crystalgan.stability import phonons
from crystalgan.stability.hull import short
from crystalgan.stability.hydrogen import Vibrations
from crystalgan.stability.phonon_products import product_structures
from crystalgan.stability.phonons import Bands, Followed, Mode, Phonons
from crystalgan.stability.relax import TooLongError
from crystalgan.stability.relaxations import relaxed_rows, write_relaxed
from crystalgan.stability.selection import select_rows
from crystalgan.stability.tasks import (
    SECONDS,
    Outcome,
    Task,
    about_potential,
    failed_outcome,
    loaded_potential,
    time_limit,
)
from crystalgan.stability.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import pandas as pd
    from ase.db.row import AtomsRow
    from pymatgen.core import Structure

    from crystalgan.runs.filedb import RunDatabase

    Progress = Callable[[int, int, str], None]  # how many are done, of how many, what the last was

SETTINGS = f"{phonons.LENGTH:g} Å, displaced by {phonons.DISPLACEMENT:g} Å"


@dataclass(frozen=True)
class CandidatePhonons:
    """Phonons of one relaxed candidate, or the reason why there are none."""

    candidate: int
    formula: str
    potential: str
    phonons: Phonons | None
    followed: Followed | None  # where a mode is imaginary, the cell that it leads to
    reason: str  # empty but for a failure

    @property
    def state(self) -> str:
        """Return `stable`, `unstable` or `failed`."""
        if self.phonons is None:
            return "failed"
        return "stable" if self.phonons.stable else "unstable"

    def __str__(self) -> str:
        if self.phonons is None:
            return f"failed: {self.reason}"
        return f"{self.phonons}{f'; {self.followed}' if self.followed else ''}"

    def as_dict(self) -> dict[str, Any]:
        """The result in numbers, for JSON; what is not known is None."""
        found, end = self.phonons, self.followed
        mode = found.imaginary if found else None
        return {
            "id": self.candidate,
            "formula": self.formula,
            "state": self.state,
            "lowest_THz": found.lowest if found else None,
            "highest_THz": float(found.frequencies.max()) if found else None,
            "zero_point": found.zero_point if found else None,
            "free_energy_300K": found.free_energy if found else None,
            "q": list(mode.q) if mode else None,
            "followed_lower": end.lower if end else None,
            "followed_spacegroup": end.spacegroup_symbol if end else None,
            "followed_atoms": len(end.structure) if end else None,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class PhononResults:
    """Phonons of the selected candidates, those of earlier calls included."""

    candidates: tuple[CandidatePhonons, ...]

    def __getitem__(self, candidate: int) -> CandidatePhonons:
        """The result of the candidate with this id."""
        return next(found for found in self.candidates if found.candidate == candidate)

    def __iter__(self) -> Iterator[CandidatePhonons]:
        return iter(self.candidates)

    def count(self, state: str) -> int:
        """How many candidates are in this state."""
        return [found.state for found in self.candidates].count(state)

    def __str__(self) -> str:
        counts = ", ".join(f"{self.count(s)} {s}" for s in ("stable", "unstable", "failed"))
        return f"{len(self.candidates)} candidates: {counts}"

    def __repr__(self) -> str:
        return f"PhononResults({self})"

    def table(self) -> pd.DataFrame:
        """One row for each candidate; energies in eV/atom."""
        import pandas as pd

        return pd.DataFrame([found.as_dict() for found in self.candidates])

    def _repr_html_(self) -> str:
        return f"<p>{escape(str(self))}</p>{self.table().to_html(index=False)}"

    def as_dict(self) -> dict[str, Any]:
        """The counts and the candidates, for JSON."""
        counts = {state: self.count(state) for state in ("stable", "unstable", "failed")}
        return counts | {"candidates": [found.as_dict() for found in self.candidates]}


def open_phonons(run: Run, make: bool = False) -> RunDatabase:
    """Open the database of phonons (`runs.database.open_database`)."""
    return open_database(run, "phonons.db", "compute the phonons again", make)


def phonon_rows(
    run: Run, potential: str | None = None, candidate: int | None = None
) -> list[AtomsRow]:
    """Return the rows of phonons, all or those of one potential and one candidate."""
    wanted: dict[str, Any] = {"potential": potential, "candidate": candidate}
    return list(
        open_phonons(run).select(
            **{name: value for name, value in wanted.items() if value is not None}
        )
    )


def compute_phonons(
    run: Run | Path | str,
    select: str,
    potential: str = "chgnet",
    jobs: int = 1,
    seconds: float = SECONDS,
    progress: Progress | None = None,
) -> PhononResults:
    """Compute phonons of the selected candidates, which must be relaxed with this potential.

    Those that are computed already are left. `select` is that of `select_rows`, `potential` that of
    `load_potential`; `jobs` is the number of processes, and `seconds` those after which a cell is
    given up. Where a mode is imaginary it is followed downhill, and the cell at its end is kept in
    `relaxed.db` too. Then come the phases that the stable ones leave when all hydrogen goes, so
    that its release is known with zero-point energies. `progress(done, of, what)` is called after
    each cell. Raises InputError for what cannot be used.

    >>> compute_phonons("runs/Pd-Ni-H_crystalgan_seed0_001", "3,17")  # doctest: +SKIP
    PhononResults(2 candidates: 1 stable, 1 unstable, 0 failed)
    """
    run = run if isinstance(run, Run) else Run.open(run)
    if not seconds > 0:
        raise InputError(f"{seconds:g} seconds a cell were asked for; ask for more than none.")
    ids = [row.id for row in select_rows(run, select)]
    if not ids:
        raise InputError(
            f"{run.folder}: no candidate is selected by {select!r}; generate some, or select"
            " otherwise."
        )
    open_phonons(run)  # says whether it is damaged, before the work
    with run.hold("relax"), Workers(jobs) as workers:
        name, version = workers.call(about_potential, potential, run.species)
        tasks = [
            Task(number, "", structure)
            for number, structure in _relaxed(run, ids, name, version).items()
        ]
        way = _Way(potential, name, version, seconds)
        _compute(run, tasks, workers, way, progress, 0)
        left = [Task(0, *one) for one in product_structures(run, name, _stable(run, ids, name))]
        _compute(run, left, workers, way, progress, len(tasks))
    rows = {row.candidate: row for row in phonon_rows(run, name)}
    return PhononResults(tuple(result_of(rows[number]) for number in ids))


def _relaxed(run: Run, ids: list[int], potential: str, version: str) -> dict[int, Structure]:
    """The relaxed cells of candidates; InputError where some are not relaxed to the end."""
    found = {
        row.candidate: structure_of(row)
        for row in relaxed_rows(run, potential)
        if row.candidate in ids and row.state == "converged" and row.version == version
    }
    if missing := [str(number) for number in ids if number not in found]:
        more = f" and {len(missing) - 10} more" if len(missing) > 10 else ""
        raise InputError(
            f"{run.folder}: not relaxed to the end with {potential} {version}:"
            f" {', '.join(missing[:10])}{more}; relax these candidates first."
        )
    return {number: found[number] for number in ids}


def _stable(run: Run, ids: list[int], potential: str) -> list[int]:
    rows = phonon_rows(run, potential)
    return [row.candidate for row in rows if row.candidate in ids and row.state == "stable"]


@dataclass(frozen=True)
class _Way:
    """How phonons are computed."""

    load: str  # what `load_potential` takes
    potential: str
    version: str
    seconds: float  # after which a cell is given up

    @property
    def columns(self) -> dict[str, str]:
        """What every row says of it."""
        return {"potential": self.potential, "version": self.version, "settings": SETTINGS}

    def has(self, row: AtomsRow, task: Task) -> bool:
        """Whether a row is of this task's cell, and computed like this."""
        return (
            (row.candidate, row.phase) == (task.candidate, task.phase)
            and all(row.get(key) == value for key, value in self.columns.items())
            and self.seconds <= row.get("seconds", np.inf)  # which it was given up after
            and bool(np.isclose(row.start_volume, _volume(task), rtol=1e-6))  # relaxed anew else
        )


def _volume(task: Task) -> float:
    return float(task.structure.volume / len(task.structure))


def _compute(
    run: Run,
    tasks: list[Task],
    workers: Workers,
    way: _Way,
    progress: Progress | None,
    before: int,
) -> None:
    """Compute what is not done; `before` other cells are done already."""
    rows, work = phonon_rows(run, way.potential), partial(phonon_task, way.load, way.seconds)
    left = [task for task in tasks if not any(way.has(row, task) for row in rows)]
    of = before + len(tasks)
    for count, (task, outcome) in enumerate(workers.run_tasks(work, left), of - len(left) + 1):
        _write(run, task, outcome, way.columns)
        if progress:
            said = outcome.data["reason"] or outcome.columns["state"]
            progress(count, of, f"{task.phase or task.candidate}: {said}")


def _write(run: Run, task: Task, outcome: Outcome, about: dict[str, str]) -> None:
    """Write the row of a cell and potential in the place of an older one, and the cell at the end
    of its imaginary mode as a phase."""
    end = outcome.data.get("followed")
    if end and _end_of(end).leads:
        of = f"candidate {task.candidate}" if task.candidate else task.phase
        phase = Task(0, f"{of}, imaginary mode followed", _end_of(end).structure)
        columns = {
            "state": "converged" if end["converged"] else "unfinished",
            "energy_per_atom": end["energy_per_atom"],
            "spacegroup": end["spacegroup"],
            "spacegroup_symbol": end["spacegroup_symbol"],
        }
        write_relaxed(run, phase, Outcome(phase.structure, columns | about, {"reason": ""}))
    with (database := open_phonons(run, make=True)):
        same = {
            "candidate": task.candidate,
            "phase": task.phase,
            "potential": about["potential"],
        }
        old = next((row.id for row in database.select(include_data=False, **same)), None)
        database.write(
            outcome.structure.to_ase_atoms(),
            key_value_pairs=outcome.columns | about | same | {"start_volume": _volume(task)},
            data=outcome.data,
            id=old,
        )


def phonon_task(potential: str, seconds: float, task: Task) -> Outcome:
    """Compute the phonons of a task's cell with the potential of this name.

    Raises nothing: what goes wrong is the outcome's `data["reason"]`.

    >>> from crystalgan import load_candidate, shipped
    >>> task = Task(1, "", load_candidate(shipped(), 1))
    >>> phonon_task("chgnet", 600, task).columns["state"]  # doctest: +SKIP
    'stable'
    """
    in_time = time_limit(seconds)
    try:
        force_field = loaded_potential(potential)
        found = phonons.phonons(task.structure, force_field, progress=in_time, hopeless=in_time)
        end = None if found.stable else phonons.follow(found, force_field, in_time)
    except TooLongError as error:
        return failed_outcome(task, str(error), seconds=seconds)
    # a potential may fail in its own way on one cell and not on the next
    except Exception as error:  # noqa: BLE001
        return failed_outcome(task, str(error) or type(error).__name__)
    columns = {
        "state": "stable" if found.stable else "unstable",
        "energy_per_atom": found.energy / len(found.structure),
        "lowest": found.lowest,  # THz
    }
    if found.zero_point is not None and found.free_energy is not None:
        columns |= {"zero_point": found.zero_point, "helmholtz": found.free_energy}
    return Outcome(found.structure, columns, _data_of(found, end))


def _data_of(found: Phonons, end: Followed | None) -> dict[str, Any]:
    """What a row holds of phonons beside its columns."""
    data: dict[str, Any] = {
        "reason": "",
        "supercell": found.supercell,
        "q_points": found.q_points,
        "frequencies": found.frequencies,
        "tolerance": found.tolerance,
        "displacements": found.displacements,
        "band_distance": found.bands.distance,
        "band_frequencies": found.bands.frequencies,
        "band_places": [place for place, _ in found.bands.labels],
        "band_labels": [label for _, label in found.bands.labels],
    }
    if mode := found.imaginary:
        vector = mode.eigenvector
        data["mode"] = {
            "q": np.array(mode.q),
            "frequency": mode.frequency,
            "real": vector.real.copy(),
            "imaginary": vector.imag.copy(),
        }
    if end:
        cell = end.structure
        data["followed"] = asdict(end) | {
            "lattice": cell.lattice.matrix,
            "frac": cell.frac_coords,
            "numbers": np.array(cell.atomic_numbers),
        }
        del data["followed"]["structure"]
    return data


def result_of(row: AtomsRow) -> CandidatePhonons:
    """Return the phonons that a row of `phonons.db` holds."""
    from pymatgen.core import Structure

    formula, data = short(row.formula), row.data
    about = int(row.candidate), formula, str(row.potential)
    if row.state == "failed":
        return CandidatePhonons(*about, None, None, data["reason"])
    cell = Structure(row.cell, row.symbols, row.positions, coords_are_cartesian=True)
    mode = None
    if found := data.get("mode"):
        x, y, z = (float(part) for part in found["q"])
        mode = Mode((x, y, z), found["frequency"], found["real"] + 1j * found["imaginary"])
    labels = tuple(zip(data["band_places"], data["band_labels"], strict=True))
    result = Phonons(
        cell,
        row.energy_per_atom * len(cell),
        data["supercell"],
        data["q_points"],
        data["frequencies"],
        data["tolerance"],
        row.get("zero_point"),
        row.get("helmholtz"),
        mode,
        Bands(data["band_distance"], data["band_frequencies"], labels),
        data["displacements"],
    )
    end = data.get("followed")
    return CandidatePhonons(*about, result, _end_of(end) if end else None, "")


def _end_of(end: dict[str, Any]) -> Followed:
    from pymatgen.core import Structure

    rest = {key: end[key] for key in Followed.__dataclass_fields__ if key != "structure"}
    return Followed(structure=Structure(end["lattice"], end["numbers"], end["frac"]), **rest)


def vibrations_of(run: Run, potential: str) -> dict[str, Vibrations]:
    """Return the vibrational energies of all stable cells of a run, by reduced formula.

    Of several cells of one formula that of the lowest energy counts.
    """
    rows = [row for row in phonon_rows(run, potential) if row.state == "stable"]
    rows.sort(key=lambda row: -row.energy_per_atom)
    return {short(row.formula): Vibrations(row.zero_point, row.helmholtz) for row in rows}
