"""A run as a notebook holds it, and the functions that give one."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crystalgan.bars import reporting, reporting_epochs
from crystalgan.runs import folder

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from pymatgen.core import Structure

    from crystalgan.bars import Progress
    from crystalgan.config import Config
    from crystalgan.data.classes import BinaryClass
    from crystalgan.data.fetch import Fetched
    from crystalgan.runs.candidates import Generated, Novelty
    from crystalgan.runs.metrics import Measured
    from crystalgan.stability.phonon_rows import PhononResults
    from crystalgan.stability.relaxations import Relaxations
    from crystalgan.stability.tasks import Settings

    Files = Sequence[Path | str]


@dataclass(frozen=True, repr=False)
class Run(folder.Run):
    """A run folder, with what can be done with it as methods.

    >>> run = Run.open(shipped())
    >>> run
    <Run Pd-Ni-H_shipped: crystalgan, Pd-Ni-H, finished>
    >>> len(run.candidates())
    200
    """

    def __repr__(self) -> str:
        pair = "-".join((*self.species[1:], self.species[0]))
        state = self.status().state
        return f"<Run {self.folder.name}: {self.config.method}, {pair}, {state}>"

    def _repr_html_(self) -> str:
        return f"<code>{escape(repr(self))}</code>"

    def generate(
        self, n: int = 1000, seed: int = 0, known: Files = (), progress: Progress = False
    ) -> Generated:
        """Make candidates until the run holds `n` of this seed; see `crystalgan.generate`."""
        return generate(self, n, seed, known, progress)

    def candidate(self, number: int) -> Structure:
        """The cell of one candidate."""
        from crystalgan.runs.database import load_candidate

        return load_candidate(self, number)

    def measure(self) -> Measured:
        """Every metric of the run's candidates by its name."""
        from crystalgan.runs.metrics import measure

        return measure(self)

    def relax(self, select: str = "good", progress: Progress = False, **how: Any) -> Relaxations:
        """Relax candidates with a machine-learned potential; see `crystalgan.relax_candidates`."""
        return relax_candidates(self, select, progress=progress, **how)

    def phonons(self, select: str, progress: Progress = False, **how: Any) -> PhononResults:
        """Phonons of relaxed candidates; see `crystalgan.compute_phonons`."""
        return compute_phonons(self, select, progress=progress, **how)

    def hull(self, potential: str = "CHGNet") -> pd.DataFrame:
        """Energies above the hull of the relaxed candidates; see `crystalgan.hull`."""
        return hull(self, potential)

    def export(self, out: Path | str, select: str = "good", **how: Any) -> int:
        """Write selected candidates into a zip; see `crystalgan.export`."""
        from crystalgan.stability.export import export

        return export(self, out, select, **how)


def shipped() -> Path:
    """The folder of the trained Pd-Ni-H run that comes along; it is for reading.

    >>> shipped().name
    'Pd-Ni-H_shipped'
    """
    return folder.SHIPPED / "Pd-Ni-H_shipped"


def open_run(path: Path | str) -> Run:
    """The run in a folder; InputError where there is none or it is damaged.

    >>> open_run(shipped()).species
    ('H', 'Pd', 'Ni')
    """
    return Run.open(path)


def list_runs(root: Path | str = "runs") -> list[Run]:
    """The runs below a folder, the newest first.

    >>> [run.folder.name for run in list_runs(shipped().parent)]
    ['Pd-Ni-H_shipped']
    """
    from crystalgan.runs.listing import list_runs as found

    return [Run(run.folder) for run in found(root)]


def unpack_run(path: Path | str, root: Path | str = "runs", name: str = "run") -> Run:
    """A run from the zip of its folder (`pack_run`), in a new folder below `root`.

    >>> import tempfile; from crystalgan import pack_run
    >>> with tempfile.TemporaryDirectory() as place:
    ...     zipped = Path(place, "run.zip")
    ...     _ = zipped.write_bytes(pack_run(open_run(shipped())))
    ...     len(unpack_run(zipped, place).candidates())
    200
    """
    from crystalgan.runs.run_zip import unpack_run as unpack

    return Run(unpack(Path(path), Path(root), name).folder)


def train(
    a: BinaryClass | str,
    b: BinaryClass | str,
    config: Config | None = None,
    runs: Path | str = "runs",
    progress: Progress = False,
) -> Run:
    """Train both steps on two classes, built-in ones by their metals, in a new folder below `runs`.

    TrainingError when a loss is no longer finite, Stopped when `stop` was asked for.

    >>> from crystalgan import Config
    >>> run = train("Pd", "Ni", Config(rule="paper"), progress=True)  # doctest: +SKIP
    """
    from crystalgan.runs.training import train as begin

    return Run(begin(a, b, config, runs, reporting_epochs(progress)).folder)


def resume(run: folder.Run | Path | str, progress: Progress = False) -> Run:
    """Go on with a run that was stopped or killed; it ends as if it never had been.

    >>> resume(shipped()).status().state  # doctest: +SKIP
    'finished'
    """
    from crystalgan.runs.training import resume as go_on

    return Run(go_on(run, reporting_epochs(progress)).folder)


def train_step2(
    source: folder.Run | Path | str,
    config: Config,
    runs: Path | str = "runs",
    progress: Progress = False,
) -> Run:
    """Train step 2 anew on the trained step 1 of a run, in a new folder; the old run stays.

    >>> from crystalgan import Config
    >>> run = train_step2(shipped(), Config(lambda_energy=10))  # doctest: +SKIP
    """
    from crystalgan.runs.training import new_step2

    opened = source if isinstance(source, folder.Run) else folder.Run.open(source)
    return resume(new_step2(opened, config, runs), progress)


def generate(
    run: folder.Run | Path | str,
    n: int = 1000,
    seed: int = 0,
    known: Files = (),
    progress: Progress = False,
) -> Generated:
    """Make candidates until a run holds `n` of this seed; check, compare and store each.

    `known` are files of structures that count as known, beside the built-in cells. Returns counts.

    >>> generate("runs/Pd-Ni-H_crystalgan_seed0_001", 100, progress=True)  # doctest: +SKIP
    """
    from crystalgan.runs.candidates import generate as make

    return make(run, n, seed, reporting(progress, "candidates"), known)


def compare_with_known(
    run: folder.Run | Path | str, known: Files = (), progress: Progress = False
) -> Novelty:
    """Compare a run's candidates with known structures again, after some were added.

    >>> compare_with_known("runs/my_run", ["known.extxyz"])  # doctest: +SKIP
    """
    from crystalgan.runs.candidates import compare_with_known as compare

    return compare(run, known, reporting(progress, "compared"))


def relax_candidates(
    run: folder.Run | Path | str,
    select: str = "good",
    potential: str = "chgnet",
    settings: Settings | None = None,
    progress: Progress = False,
    **how: Any,
) -> Relaxations:
    """Relax the candidates that `select` names, those that are not relaxed like this yet.

    `how` goes to `stability.relaxations.relax_candidates`: `jobs`, `references`, `phases`,
    `raise_symmetry`. Returns counts.

    >>> relax_candidates("runs/my_run", "1,2,3", progress=True)  # doctest: +SKIP
    """
    from crystalgan.stability.relaxations import relax_candidates as relax

    how |= {"potential": potential, "settings": settings}
    return relax(run, select, progress=reporting(progress, "relaxed"), **how)


def compute_phonons(
    run: folder.Run | Path | str,
    select: str,
    potential: str = "chgnet",
    progress: Progress = False,
    **how: Any,
) -> PhononResults:
    """Phonons of the relaxed candidates that `select` names: stable, or where a mode leads to.

    `how` goes to `stability.phonon_rows.compute_phonons`: `jobs`, `seconds`.

    >>> compute_phonons("runs/my_run", "3,17", progress=True)[17].phonons  # doctest: +SKIP
    Phonons(MgH2, 6 atoms: stable, from 1.62 to 44.68 THz, zero-point energy 0.104 eV/atom)
    """
    from crystalgan.stability.phonon_rows import compute_phonons as compute

    return compute(run, select, potential, progress=reporting(progress, "phonons"), **how)


def hull(run: folder.Run | Path | str, potential: str = "CHGNet") -> pd.DataFrame:
    """One row for each relaxed candidate, the lowest above the convex hull first.

    Energies in eV/atom; products, stored hydrogen, and whether other potentials agree. InputError
    where nothing of this potential can be compared.

    >>> hull("runs/my_run")[["formula", "above_hull"]]  # doctest: +SKIP
    """
    from crystalgan.stability.hull import diagram_of
    from crystalgan.stability.table import phases_of, table_of, with_trust

    opened = run if isinstance(run, folder.Run) else folder.Run.open(run)
    diagram = diagram_of(phases_of(opened, potential))
    return with_trust(opened, potential, table_of(opened, potential, diagram))


def fetch(elements: Sequence[str], source: str, progress: Progress = False, **how: Any) -> Fetched:
    """All structures of exactly these elements from a database, as one extended XYZ file on disk.

    `source` is `mp`, `oqmd`, `alexandria`, `cod`, the address of an OPTIMADE provider, or `mp-api`.
    `how` goes to `data.fetch.fetch`: `cache`, `refresh`, `max_atoms`, `api_key`.

    >>> fetch(["Pd", "H"], "mp", progress=True).path  # doctest: +SKIP
    """
    from crystalgan.data.fetch import fetch as ask

    return ask(elements, source, progress=reporting(progress, "structures"), **how)
