"""What each difference between `Config.paper()` and `Config()` is worth: one field at a time is set
as in the other preset."""

from __future__ import annotations

import math
import statistics
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crystalgan.config import Config
from crystalgan.errors import InputError, TrainingError
from crystalgan.studies.stacks import Job, carry_out, mean_and_spread, seeds_of, study_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pymatgen.core import Structure

    from crystalgan.data.classes import BinaryClass
    from crystalgan.runs.folder import Run
    from crystalgan.studies.stacks import Values

FOLDER = "ablation"
CELLS = 250  # of a run, that are compared with each other and searched for symmetry
CRUSHED, HOPELESS = 2.0, 1e6  # Å³/atom; eV, of a cell that no potential has an energy for
MEASURED = 100  # of a run, whose energies CHGNet is asked for
SCORES = ("paper", "learned", "raw", "unique", "symmetric", "energy")


def differences() -> dict[str, tuple[Any, Any]]:
    """Field -> its value by default and in the paper, for all in which the presets differ."""
    default, paper = Config(), Config.paper()
    pairs = {
        one.name: (getattr(default, one.name), getattr(paper, one.name)) for one in fields(Config)
    }
    return {name: values for name, values in pairs.items() if values[0] != values[1]}


# fields of Config
def variants(both: bool = False, **changes: Any) -> dict[str, Config]:
    """Name -> settings: both presets, the default with each field as in the paper, and with `both`
    the paper with each as in the default; `changes` hold for all, and a field that they name is not
    varied.
    """
    default, paper = Config.of(changes), Config.paper(**changes)
    named = {"default": default, "paper": paper}
    for name, (of_default, of_paper) in differences().items():
        if name not in changes:
            named[f"default, {name}={of_paper}"] = replace(default, **{name: of_paper})
            if both:
                named[f"paper, {name}={of_default}"] = replace(paper, **{name: of_default})
    return dict(sorted(named.items(), key=lambda item: item[0].partition(",")[0]))


def ablation(
    a: BinaryClass,
    b: BinaryClass,
    configs: dict[str, Config],
    seeds: int = 3,
    root: Path = Path("runs"),
    processes: int = 1,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Train and measure every variant on two classes; what was done before in this `root` is not
    done again.

    Returns for each of `variants` every score of `assess` as the mean over seeds, and its sample
    standard deviation under `<score>_std`; or an `error` where the training could not go on.
    """
    every = seeds_of(seeds)
    jobs = {}
    for name, config in configs.items():
        settings = replace(config, seed=0)
        folder = study_folder(root / FOLDER, a, b, settings, {"seeds": seeds})
        jobs[folder] = (name, Job(folder, a, b, settings, every, assess))
    found: dict[str, Any] = {}
    for job, values in carry_out([job for _, job in jobs.values()], processes):
        name = jobs[job.folder][0]
        found[name] = (
            {"error": str(values)} if isinstance(values, TrainingError) else _summary(values)
        )
        if progress:
            progress(name)
    return {
        "pair": f"{a.metal}-{b.metal}",
        "shared": a.shared,
        "seeds": seeds,
        "variants": {name: found[name] for name in configs},
    }


def assess(run: Run) -> Values:
    """How many of 1,000 cells of a finished run hold all elements and keep the rules `paper` and
    `learned`.

    And how many kept the run's own as the generator put them out; of the first 250 which share (%)
    repeats none before it, and which has a space group above P1; and of the first 100 the median
    energy (eV/atom) above the hull of the built-in elements and binaries, as they are made, where
    these are built in.
    """
    import torch

    from crystalgan.crystal.canonical import space_group
    from crystalgan.crystal.cells import decode
    from crystalgan.crystal.matching import StructureIndex
    from crystalgan.model.model import BLOCK
    from crystalgan.runs.checking import SYMPREC, rules_of
    from crystalgan.runs.loading import load_model
    from crystalgan.runs.metrics import NO_SYMMETRY, complete, valid

    model = load_model(run)
    batches = [model.draw(block, run.config.seed) for block in range(1000 // BLOCK)]
    blocks = [batch.cells for batch in batches]
    rules = rules_of(model.rule, *model.classes)
    kept = {
        name: (
            1000 * float(torch.cat([valid(cells, rules[name]) for cells in blocks]).double().mean())
        )
        for name in SCORES[:2]
    }
    raw = sum(int((complete(batch.cells) & torch.tensor(batch.raw)).sum()) for batch in batches)
    structures, seen = decode(blocks[0])[:CELLS], StructureIndex[int]()
    unique = sum(seen.find_or_add(structure, k) is None for k, structure in enumerate(structures))
    symmetric = sum(space_group(structure, SYMPREC)[0] > NO_SYMMETRY for structure in structures)
    kept |= {
        "raw": raw,
        "unique": 100 * unique / len(structures),
        "symmetric": 100 * symmetric / len(structures),
    }
    with suppress(InputError):  # no phase of a user's element is built in
        kept["energy"] = median_above_hull(structures[:MEASURED], run.species)
    return kept


def median_above_hull(structures: Sequence[Structure], species: tuple[str, ...]) -> float:
    """The median energy (CHGNet, eV/atom) of cells as they are above the hull of the built-in
    elements and binaries.

    Raises InputError where there are none of these elements.
    """
    from pymatgen.analysis.phase_diagram import PDEntry

    from crystalgan.potentials.registry import load_chgnet
    from crystalgan.stability.hull import diagram_of
    from crystalgan.stability.references import builtin_phases
    from crystalgan.stability.relax import single_point

    diagram, potential = diagram_of(builtin_phases(species)), load_chgnet()
    above = []
    for structure in structures:
        # whose neighbours could fill any memory
        crushed = structure.volume < CRUSHED * len(structure)
        energy = math.inf if crushed else single_point(structure, potential)
        entry = PDEntry(structure.composition, energy if math.isfinite(energy) else HOPELESS)
        above.append(float(diagram.get_e_above_hull(entry, allow_negative=True)))
    return statistics.median(above)


def _summary(values: list[Values]) -> dict[str, float]:
    out = {}
    for score in (score for score in SCORES if score in values[0]):
        out[score], out[f"{score}_std"] = mean_and_spread([value[score] for value in values])
    return out


def as_text(result: dict[str, Any]) -> list[str]:
    """A result in lines."""
    width = max(map(len, result["variants"]))
    lines = [
        (
            f"{result['pair']}-{result['shared']}: cells of 1,000 that keep each rule, mean and"
            f" spread over {result['seeds']} seeds"
        ),
        (
            f"{'':{width}} {'paper':>14} {'learned':>14} {'unrefined':>14} {'unique':>9}"
            f" {'above P1':>9} {'above hull':>16}"
        ),
    ]
    for name, found in result["variants"].items():
        if "error" in found:
            lines.append(f"{name:{width}} {found['error']}")
            continue
        words = " ".join(f"{found[rule]:7.1f} ± {found[f'{rule}_std']:4.1f}" for rule in SCORES[:3])
        energy = f" {found['energy']:7.3f} eV/atom" if "energy" in found else ""
        lines.append(
            f"{name:{width}} {words} {found['unique']:7.1f} % {found['symmetric']:7.1f} %{energy}"
        )
    return lines
