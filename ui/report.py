"""The data doctor's report on a class, and the cleaned copy that one may take instead."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from crystalgan.plot.classes import distance_figure
from ui import cached, state, work

if TYPE_CHECKING:
    from collections.abc import Sequence

PLAIN = {"displaylogo": False}
FOLDERS = re.compile(r"/\S*/")


def short(where: str) -> str:
    """A place in a file without the folders that lead to it."""
    return where.rsplit("/", 1)[-1] if where.startswith("/") else where


def show_report(report: dict[str, Any], key: str = "doctor") -> None:
    """What was found in a class."""
    columns, shared = st.columns(3), report["shared"]
    columns[0].metric("Cells", report["cells"])
    columns[1].metric("Left out", len(report["left_out"]))
    columns[2].metric(
        "Keep the paper's rule",
        report["keep_paper_rule"],
        help=f"{shared}-{shared} and metal-metal within 1.8 to 3.0 Å.",
    )
    for words in report.get("warnings", []):
        st.warning(words)
    show_list(
        "Could not be used",
        ["cell", "why"],
        [(x["where"], x["reason"]) for x in report["left_out"]],
    )
    show_list(
        "Read otherwise than written",
        ["cell", "what"],
        [(x["where"], x["remark"]) for x in report["remarks"]],
    )
    if "volume" not in report:
        return
    st.caption(
        "Volume of a cell: {lowest:.1f} to {highest:.1f} Å³ per atom, median {median:.1f}.".format(
            **report["volume"]
        )
    )
    show_pairs(report, key)
    show_oddities(report)
    types = Counter(report["prototypes"].values())
    with st.expander(
        f"{sum(types.values())} of {report['cells']} cells are of a known structure type"
    ):
        st.dataframe(
            pd.DataFrame(types.most_common(), columns=["structure type", "cells"]), hide_index=True
        )
    if report["oxidation"]:
        st.caption(
            f"No common oxidation states balance {', '.join(report['oxidation'])}."
            + " In a metallic hydride that is nothing odd." * (shared == "H")
        )


def show_pairs(report: dict[str, Any], key: str) -> None:
    """Each pair's shortest distance and limits, and the distances themselves."""
    learned, paper = report["limits"]["learned"], report["limits"]["paper"]
    rows = [
        {
            "pair": pair,
            "shortest / Å": found["distance"],
            "in": short(found["where"]),
            "learned d1-d2": span(learned.get(pair)),
            "paper d1-d2": span(paper.get(pair)),
        }
        for pair, found in report["shortest"].items()
    ]
    st.dataframe(pd.DataFrame(rows), hide_index=True)
    name = f"{report['metal']}-{report['shared']}"
    figure = distance_figure(
        {name: report["distances"]}, list(report["distances"]), learned or paper
    )
    figure.update_layout(showlegend=False)
    st.plotly_chart(figure, key=f"distances_{key}", config=PLAIN)
    whose = "learned from this class alone" if learned else "the paper's"
    st.caption(f"First-neighbour distances; d1 and d2, dashed, are {whose}.")


def span(limits: Sequence[float] | None) -> str:
    """The limits of a pair in words."""
    if not limits:
        return "not checked"
    low, high = limits
    return f"{low:.2f}-{high:.2f}" if math.isfinite(high) else f"from {low:.2f}"


def show_oddities(report: dict[str, Any]) -> None:
    """Cells that a chemist may want to look at."""
    pairs = [(first, again) for first, again in report["duplicates"]]
    show_list("The same cell twice", ["first", "again"], pairs)
    close = [
        (x["where"], x["pair"], f"{x['distance']:.2f}", f"{x['least']:.2f}")
        for x in report["close"]
    ]
    show_list("Atoms too close", ["cell", "pair", "distance / Å", "least / Å"], close)
    odd = [(x["where"], f"{x['volume']:.1f}", f"{x['expected']:.1f}") for x in report["outliers"]]
    show_list("Volume unlike the others'", ["cell", "Å³ per metal atom", "expected"], odd)
    show_list(
        "Large cells",
        ["cell", "atoms of one kind"],
        [(x["where"], x["atoms_of_one_kind"]) for x in report["large"]],
    )


def show_list(title: str, names: list[str], rows: Sequence[Sequence[object]]) -> None:
    """A folded table, where there is anything in it."""
    if rows:
        with st.expander(f"{title} ({len(rows)})"):
            st.dataframe(
                pd.DataFrame(
                    [[work.in_app(short(str(x))) for x in row] for row in rows], columns=names
                ),
                hide_index=True,
            )


def show_proposals(which: str, source: str, report: dict[str, Any]) -> None:
    """What the doctor would leave out; nothing is left out before the button is pressed."""
    proposals = report["proposals"]
    if not proposals:
        st.success("The doctor would keep every cell.", icon=":material/check_circle:")
        return
    st.markdown(f"**The doctor would leave out {len(proposals)}**")
    types = report["prototypes"]
    rows = [
        (short(x["where"]), FOLDERS.sub("", x["why"]), types.get(x["where"], "")) for x in proposals
    ]
    table = pd.DataFrame(rows, columns=["cell", "why", "type"])
    names = ["cell", "why", "type"] if any(table["type"]) else ["cell", "why"]
    st.dataframe(
        table[names],
        hide_index=True,
        height=min(250, 38 + 35 * len(rows)),
        column_config={"type": st.column_config.TextColumn(width=80)},
    )
    if st.button(
        f"Use a copy without {'these' if len(proposals) > 1 else 'this'}",
        key=f"clean_{which}",
        icon=":material/cleaning_services:",
        help="The class itself stays as it is, and you can go back to it at any time.",
    ):
        use_cleaned(which, source, report)
        st.rerun()


def use_cleaned(which: str, source: str, report: dict[str, Any]) -> None:
    """Make a cleaned copy of a class, and that the class."""
    digest = hashlib.sha256(json.dumps(report, sort_keys=True).encode()).hexdigest()[:16]
    shared = report["shared"]
    name = f"{report['metal']}-{shared}"
    out = cached.runs_folder() / ".uploads" / digest / f"{name}_cleaned.extxyz"
    if not out.exists():
        with st.spinner("Making the copy ..."):
            work.carried_out(
                [
                    "check",
                    source,
                    "--shared",
                    shared,
                    "--metal",
                    report["metal"],
                    "--cleaned",
                    str(out),
                    "--json",
                ]
            )
    left = report["cells"] - len(report["proposals"])
    about = (
        f"{left} of {report['cells']} cells of {name}: a copy without those that the doctor would"
        " leave out"
    )
    state.set_own(which, {"path": str(out), "about": about, "whole": state.own_cells(which)})
