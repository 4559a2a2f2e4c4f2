"""Settings: what each takes, what it refuses, and the names that it had before."""

import json
import math
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest

from crystalgan.config import LARGEST_SEED, RENAMED, RENAMED_TRANSFERS, Config, check_seed, mixed
from crystalgan.errors import InputError

NUMBERS = [one.name for one in fields(Config) if one.type in ("int", "float")]
WEIGHTS = [name for name in NUMBERS if name.startswith("lambda_")]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("beta1", 1.5, "at most"),
        ("beta1", -0.1, "must not be negative"),
        ("seed", -1, "must not be negative"),
        ("seed", 2**80, "at most"),
        ("seed", LARGEST_SEED + 1, "at most"),
        ("seed", 1.5, "must be a whole number"),
        ("seed", "1.5", "must be a whole number"),
        ("seed", float("nan"), "must be a whole number"),
        ("seed", float("inf"), "must be a whole number"),
        ("seed", True, "must be a whole number"),
        ("seed", None, "must be a whole number"),
        ("seed", [1], "must be a whole number"),
        ("seed", {}, "must be a whole number"),
        ("seed", "9" * 5000, "must be a whole number"),
        ("epochs1", 10**12, "at most"),
        ("batch", 0, "must be at least 1"),
        ("steps", 0, "must be at least 1"),
        ("best_of", 0, "must be at least 1"),
        ("learning_rate", "fast", "must be a number"),
        ("learning_rate", True, "must be a number"),
        ("learning_rate", [0.1], "must be a number"),
        ("learning_rate", float("nan"), "must be a finite number"),
        ("learning_rate", float("-inf"), "must be a finite number"),
        ("residual", "perhaps", "must be true or false"),
        ("residual", 2, "must be true or false"),
        ("residual", None, "must be true or false"),
        ("residual", [], "must be true or false"),
        ("shared", "Xx", "not a chemical element"),
        ("shared", "X", "not a chemical element"),
        ("shared", "", "not a chemical element"),
        ("shared", 1, "must be text"),
        ("rule", ["paper"], "must be text"),
        ("rule", None, "must be text"),
        ("method", "wgan", "is not one of"),
        ("method", ["gan"], "is not one of"),
        ("method", {"gan": 1}, "is not one of"),
        ("transfer", None, "is not one of"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused_by_its_name(name, value, words):
    with pytest.raises(InputError) as error:
        Config.of({name: value})
    assert words in str(error.value)
    assert str(error.value).startswith(name)
    with pytest.raises(InputError):
        replace(Config(), **{name: value})


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_weight_is_a_finite_number_from_zero_on(name):
    for value in (-1e-9, math.nan, math.inf, True, "much"):
        with pytest.raises(InputError, match=name):
            Config.of({name: value})
    assert getattr(Config.of({name: "0"}), name) == 0


def test_the_ends_of_what_is_taken_are_taken():
    for one in fields(Config):
        least, most = one.metadata["least"], one.metadata["most"]
        for end in (least, most):
            if one.name in NUMBERS and math.isfinite(end):
                assert getattr(Config.of({one.name: end}), one.name) == end
    check_seed(LARGEST_SEED)
    assert Config.of({"shared": "N"}).shared == "N"
    assert Config.of({"seed": " 7 ", "learning_rate": "1e-3", "residual": "no"}) == Config(
        seed=7, learning_rate=1e-3, residual=False
    )
    assert Config.of({"seed": 7.0}).seed == 7
    assert isinstance(Config.of({"seed": 7.0}).seed, int)
    assert Config.of({"rule": Path("my.toml")}).rule == "my.toml"


@pytest.mark.parametrize("seed", [-1, LARGEST_SEED + 1])
def test_a_seed_outside_is_refused(seed):
    with pytest.raises(InputError, match="must be a whole number from 0"):
        check_seed(seed)


def test_torch_takes_every_mixed_number():
    assert mixed(2**64 - 1) == 2**64 - 1
    assert 0 <= mixed(2**64) < 2**64
    assert mixed(2**64) != mixed(2**64 + 1)


def test_json_gives_the_same_settings_back():
    for config in (Config(seed=3, shared="N"), Config.paper(seed=LARGEST_SEED)):
        assert Config.of(json.loads(config.to_json())) == config


def test_names_of_version_0_1_are_read():
    old = {"refine": 7, "settle": "8", "choose": 3}
    assert RENAMED == {"refine": "repair", "settle": "prerelax", "choose": "best_of"}
    config = Config.of(old)
    assert (config.repair, config.prerelax, config.best_of) == (7, 8, 3)
    for value, (transfer, incoming) in RENAMED_TRANSFERS.items():
        config = Config.of({"transfer": value})
        assert (config.transfer, config.incoming) == (transfer, incoming)
    assert Config.of({"transfer": "paper"}).transfer == "paper"


@pytest.mark.parametrize("name", RENAMED)
def test_an_old_and_a_new_name_together_are_refused(name):
    new = RENAMED[name]
    with pytest.raises(InputError, match=f"{name} and {new} are one setting"):
        Config.of({name: 1, new: 2})


def test_an_old_transfer_and_another_incoming_are_refused():
    with pytest.raises(InputError, match="disagree"):
        Config.of({"transfer": "whole", "incoming": "metal"})
    assert Config.of({"transfer": "whole", "incoming": "all"}).incoming == "all"


def test_an_unknown_name_is_answered_by_the_nearest():
    with pytest.raises(InputError, match=r"no setting 'sed'; did you mean seed\?"):
        Config.of({"sed": 3})
    assert set(asdict(Config())) == {one.name for one in fields(Config)}


def test_a_misspelt_old_name_leads_to_the_new_one():
    with pytest.raises(InputError, match="did you mean prerelax"):
        Config.of({"settel": 3})
