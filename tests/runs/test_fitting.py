"""Fitted pair potentials are kept for the next run of the same classes, and taken from nowhere else."""

from dataclasses import replace

import pytest
import torch

from crystalgan.config import Config
from crystalgan.crystal.cells import encode
from crystalgan.crystal.limits import learned_rule
from crystalgan.model.model import Model
from crystalgan.resources import cache_folder
from crystalgan.runs import fitting


@pytest.fixture
def model(palladium, nickel, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    a, b = (
        encode([entry.structure for entry in sorted(c.entries, key=lambda e: len(e.structure))[:4]],
               ("H", c.metal))
        for c in (palladium, nickel)
    )  # fmt: skip
    return Model.of(Config(), learned_rule(a, b), a, b)


def kept():
    return sorted((cache_folder() / "pair-potentials").glob("*"))


def test_a_fit_is_kept_and_taken_where_nothing_differs(model, monkeypatch):
    first, about = fitting.fit_to_chgnet(model)
    (path,) = kept()
    monkeypatch.setattr(fitting, "fit_pair_potential", None)  # would raise TypeError if asked again
    again, told = fitting.fit_to_chgnet(model)
    assert torch.equal(first.tables, again.tables)
    assert about == told
    for other in (
        replace(model, config=replace(model.config, margin=0.2)),
        replace(model, rule=replace(model.rule, limits={"H-H": (1.9, 9.0)})),
        model.with_classes(model.classes[0][:3], model.classes[1]),
    ):
        with pytest.raises(TypeError):
            fitting.fit_to_chgnet(other)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(TypeError):
        fitting.fit_to_chgnet(model)


def test_a_cache_that_cannot_be_written_is_none(model, tmp_path):
    (tmp_path / "crystalgan").write_text("a file where the folder should be")
    potential, _ = fitting.fit_to_chgnet(model)
    assert potential.tables.isfinite().all()
