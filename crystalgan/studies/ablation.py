"""Ablation: what each difference between `Config.paper()` and `Config()` is worth.

One setting at a time is as in the other preset.
"""

from __future__ import annotations

import math
import statistics
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crystalgan.config import Config
from crystalgan.errors import InputError, TrainingError
from crystalgan.studies.results import StudyResult
from crystalgan.studies.stacks import (
    Stack,
    mean_and_spread,
    measure_stacks,
    seeds_of,
    stack_pool,
    study_folder,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pymatgen.core import Structure

    from crystalgan.data.classes import BinaryClass
    from crystalgan.runs.folder import Run
    from crystalgan.studies.stacks import Values

STUDY = "ablation"
CELLS = 250  # of a run, that are compared with each other and searched for symmetry
CRUSHED, HOPELESS = 2.0, 1e6  # Å³/atom; eV, of a cell that no potential has an energy for
MEASURED = 100  # of a run, whose energies CHGNet is asked for
# what `assess` measures
SCORES = ("paper", "learned", "raw", "unique", "symmetric", "energy")


@dataclass(frozen=True)
class VariantScores:
    """Every score of one variant, as the mean and sample standard deviation over seeds.

    `error` says why the training could not go on, where it could not.
    """

    mean: dict[str, float]
    std: dict[str, float]
    error: str = ""

    @classmethod
    def of(cls, values: Sequence[Values] | TrainingError) -> VariantScores:
        """The scores of the runs of a stack, as `assess` gives them, or why there are none."""
        if isinstance(values, TrainingError):
            return cls({}, {}, str(values))
        found = {
            score: mean_and_spread([value[score] for value in values])
            for score in SCORES
            if score in values[0]
        }
        means = {score: mean for score, (mean, _) in found.items()}
        return cls(means, {score: std for score, (_, std) in found.items()})

    def as_dict(self) -> dict[str, Any]:
        """What JSON holds of it: each score, its spread as `<score>_std`, or the `error`."""
        if self.error:
            return {"error": self.error}
        out: dict[str, Any] = {}
        for score, mean in self.mean.items():
            out |= {score: mean, f"{score}_std": self.std[score]}
        return out


@dataclass(frozen=True, repr=False)
class AblationResult(StudyResult):
    """The scores of every variant, by its name."""

    pair: str
    shared: str
    seeds: int
    variants: dict[str, VariantScores]

    @property
    def title(self) -> str:
        """What the result is of, in a few words."""
        return (
            f"{self.pair}-{self.shared}: cells of 1,000 that keep each rule, mean and spread over"
            f" {self.seeds} seeds"
        )

    def rows(self) -> list[dict[str, Any]]:
        """A row for each variant."""
        return [{"variant": name} | found.as_dict() for name, found in self.variants.items()]

    def as_dict(self) -> dict[str, Any]:
        """What JSON holds of it."""
        variants = {name: found.as_dict() for name, found in self.variants.items()}
        about = {"pair": self.pair, "shared": self.shared, "seeds": self.seeds}
        return about | {"variants": variants}

    def lines(self) -> list[str]:
        """The result in lines."""
        width = max(map(len, self.variants))
        heads = (
            f"{'':{width}} {'paper':>14} {'learned':>14} {'not repaired':>14} {'unique':>9}"
            f" {'above P1':>9} {'above hull':>16}"
        )
        return [
            self.title,
            heads,
            *(f"{name:{width}} {_line(found)}" for name, found in self.variants.items()),
        ]


def _line(found: VariantScores) -> str:
    """The scores of a variant in words."""
    if found.error:
        return found.error
    mean, std = found.mean, found.std
    rules = " ".join(f"{mean[rule]:7.1f} ± {std[rule]:4.1f}" for rule in SCORES[:3])
    energy = f" {mean['energy']:7.3f} eV/atom" if "energy" in mean else ""
    return f"{rules} {mean['unique']:7.1f} % {mean['symmetric']:7.1f} %{energy}"


def differences() -> dict[str, tuple[Any, Any]]:
    """Setting -> its value by default and in the paper, for all in which the presets differ.

    >>> differences()["repair"][1]
    0
    """
    default, paper = Config(), Config.paper()
    pairs = {
        one.name: (getattr(default, one.name), getattr(paper, one.name)) for one in fields(Config)
    }
    return {name: values for name, values in pairs.items() if values[0] != values[1]}


def variants(both: bool = False, **changes: Any) -> dict[str, Config]:
    """The variants to compare, by name.

    These are both presets, the default with each setting as in the paper, and with `both` the paper
    with each as in the default. `changes` hold for all, and a setting that they name is not varied.

    >>> variants(epochs1=3)["paper"].epochs1
    3
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
) -> AblationResult:
    """Train and measure every variant on two classes.

    `configs` are `variants`, or others by name. What was done before in this `root` is not done
    again. `progress` hears the name of each variant that is done.
    """
    every = seeds_of(seeds)
    names, stacks = {}, []
    for name, config in configs.items():
        settings = replace(config, seed=0)
        folder = study_folder(root / STUDY, a, b, settings, {"seeds": seeds})
        names[folder] = name
        stacks.append(Stack(folder, a, b, settings, every, assess))
    found = {}
    with stack_pool(processes) as pool:
        for stack, values in measure_stacks(stacks, pool):
            name = names[stack.folder]
            found[name] = VariantScores.of(values)
            if progress:
                progress(name)
    return AblationResult(
        f"{a.metal}-{b.metal}", a.shared, seeds, {name: found[name] for name in configs}
    )


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

    diagram, potential = diagram_of(builtin_phases(species, known_ternaries=False)), load_chgnet()
    above = []
    for structure in structures:
        # whose neighbours could fill any memory
        crushed = structure.volume < CRUSHED * len(structure)
        energy = math.inf if crushed else single_point(structure, potential)
        entry = PDEntry(structure.composition, energy if math.isfinite(energy) else HOPELESS)
        above.append(float(diagram.get_e_above_hull(entry, allow_negative=True)))
    return statistics.median(above)
