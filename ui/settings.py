"""The settings of a training as form fields: a few in front, all others made from `Config` itself,
the rule as a table."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

import pandas as pd
import streamlit as st

from crystalgan.config import Config
from crystalgan.crystal.rules import read_rule
from crystalgan.errors import InputError
from crystalgan.plot.classes import distance_figure, pairs_of
from crystalgan.storage import write_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

IN_FRONT = ("epochs1", "epochs2", "rule", "seed", "shared")
RULES = {
    "learned": "learned from the two classes",
    "paper": "the paper's 1.8-3.0 Å",
    "own": "my own table",
}
# On one core of a laptop or server, for networks of the default size.
SECONDS_PER_UPDATE = {"mlp": {1: 0.008, 2: 0.016}, "graph": {1: 0.035, 2: 0.039}}
START_SECONDS = 45  # CHGNet's energies among them
MOST_SEEDS = 8


def use_preset() -> None:
    """Put the chosen preset's values into all fields."""
    chosen = Config.paper() if st.session_state["preset"] == "paper" else Config()
    for one in fields(Config):
        if one.name != "shared":
            st.session_state[f"set_{one.name}"] = getattr(chosen, one.name)
    st.session_state["seeds"] = str(chosen.seed)


def set_defaults() -> None:
    """Fields that this session has not seen yet get their defaults; those that were set on an
    earlier visit keep them."""
    for one in fields(Config):
        st.session_state[f"set_{one.name}"] = st.session_state.get(
            f"set_{one.name}", getattr(Config(), one.name)
        )
    st.session_state["seeds"] = st.session_state.get("seeds", "0")
    st.session_state["preset"] = st.session_state.get("preset", "default")


def front_fields(only_step2: bool) -> list[int]:
    """Preset, epochs, seeds; returns the seeds."""
    st.selectbox(
        "Settings",
        ["default", "paper"],
        key="preset",
        on_change=use_preset,
        help=(
            "default: what makes good cells in a few minutes. paper: the paper's settings to the"
            " letter, for comparison."
        ),
    )
    left, right = st.columns(2)
    about = (
        "How often this step goes through all cells of the larger class. 200 gives a first"
        " impression; the paper uses 1000."
    )
    left.number_input(
        "Epochs, step 1", 1, 100_000, step=50, key="set_epochs1", help=about, disabled=only_step2
    )
    right.number_input("Epochs, step 2", 1, 100_000, step=50, key="set_epochs2", help=about)
    words = st.text_input(
        "Seeds",
        key="seeds",
        max_chars=60,
        help=(
            "Another seed gives another training of the same pair. Several, such as 0, 1, 2: one"
            " run each."
        ),
    )
    parts = words.replace(",", " ").split()
    seeds = [int(part) for part in parts if part.isdecimal()]
    if not 1 <= len(set(seeds)) == len(parts) <= MOST_SEEDS or max(seeds) >= 2**31:
        st.error("Seeds are one to eight different whole numbers, not negative, such as 0, 1, 2.")
        return []
    return seeds


def other_fields() -> None:
    """Every other field of `Config`, with its meaning and unit."""
    hints = get_type_hints(Config)
    columns = st.columns(2)
    shown = [one for one in fields(Config) if one.name not in IN_FRONT]
    for i, one in enumerate(shown):
        _field(
            columns[i % 2], one.name, hints[one.name], one.metadata["meaning"], one.metadata["unit"]
        )


# a container and a type hint
def _field(place: Any, name: str, kind: Any, meaning: str, unit: str) -> None:
    label, key = name.replace("_", " ") + (f" / {unit}" if unit else ""), f"set_{name}"
    if get_origin(kind) is Literal:
        place.selectbox(label, get_args(kind), key=key, help=meaning)
    elif kind is bool:
        place.toggle(label, key=key, help=meaning)
    elif kind is int:
        place.number_input(label, 0, step=1, key=key, help=meaning)
    else:
        place.number_input(label, 0.0, format="%g", step=None, key=key, help=meaning)


def choose_rule(
    shared: str,
    metals: Sequence[str],
    distances: Callable[[], Sequence[dict[str, list[float]]]],
    root: Path,
) -> str:
    """The rule as `Config.rule`; `distances` gives those of both classes by pair, to draw behind
    one's own table."""
    rule = st.selectbox(
        "Distance rule",
        list(RULES),
        format_func=RULES.__getitem__,
        key="set_rule",
        help=(
            "Which first-neighbour distances are sensible. Learned: each pair of elements within"
            f" the range seen in the classes, metal-{shared} included. Paper: {shared}-{shared} and"
            f" metal-metal between 1.8 and 3.0 Å, metal-{shared} not asked."
        ),
    )
    if rule != "own":
        return rule
    pairs = pairs_of(shared, *metals)
    st.caption(
        "Limits of first-neighbour distances in Å. Leave both empty and a pair is not checked;"
        " leave d2 empty for no upper limit."
    )
    start = pd.DataFrame({"pair": pairs, "d1": [1.8] * 4 + [1.4] * 2, "d2": [3.0] * 4 + [2.4] * 2})
    column = {
        name: st.column_config.NumberColumn(
            f"{name} / Å", min_value=0.0, max_value=20.0, format="%.2f"
        )
        for name in ("d1", "d2")
    }
    table = st.data_editor(
        start,
        column_config=column,
        disabled=["pair"],
        hide_index=True,
        key=f"limits_{'_'.join(pairs)}",
        num_rows="fixed",
    )
    limits = {
        row.pair: (
            0.0 if pd.isna(row.d1) else float(row.d1),
            math.inf if pd.isna(row.d2) else float(row.d2),
        )
        for row in table.itertuples()
        if not (pd.isna(row.d1) and pd.isna(row.d2))
    }
    series = {
        f"{metal}-{shared}": of_class for metal, of_class in zip(metals, distances(), strict=True)
    }
    st.plotly_chart(
        distance_figure(series, pairs, limits), key="limits_figure", config={"displaylogo": False}
    )
    return str(keep_rule(limits, root))


def keep_rule(limits: dict[str, tuple[float, float]], root: Path) -> Path:
    """The TOML file of a table of limits below `root`; InputError where the core could not read
    it."""
    text = "[limits]\n" + "".join(
        f"{json.dumps(pair)} = [{low}, {high}]\n" for pair, (low, high) in limits.items()
    )
    path = root / ".rules" / hashlib.sha256(text.encode()).hexdigest()[:12] / "own.toml"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():  # another session may be reading the same table
            write_whole(path, text, "set CRYSTALGAN_RUNS")
    except OSError as error:
        raise InputError(
            f"{root}: rules cannot be kept here ({error.strerror}); set CRYSTALGAN_RUNS."
        ) from None
    read_rule(path)
    return path


def changed_settings() -> list[str]:
    """All fields but rule and seed as `--set name=value`."""
    out = []
    for one in fields(Config):
        if one.name not in ("rule", "seed"):
            out += ["--set", f"{one.name}={st.session_state[f'set_{one.name}']}"]
    return out


def expected_seconds(larger: int, only_step2: bool) -> float:
    """About how long one training takes: larger is the number of cells of the larger class."""
    batch = max(1, int(st.session_state["set_batch"]))
    updates = math.ceil(larger / min(batch, larger))
    steps = {2: st.session_state["set_epochs2"]} | (
        {} if only_step2 else {1: st.session_state["set_epochs1"]}
    )
    update = SECONDS_PER_UPDATE[st.session_state["set_generator"]]
    return START_SECONDS + sum(update[step] * updates * epochs for step, epochs in steps.items())
