"""Compare runs: every metric side by side, distances against the parents, results of studies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import pandas as pd
import streamlit as st

from crystalgan.errors import InputError
from crystalgan.plot.classes import distance_figure, pairs_of
from crystalgan.plot.studies import benchmark_figure, table2_figure, validity_figure
from crystalgan.runs.metrics import metric
from crystalgan.studies import benchmark, table2
from crystalgan.studies.benchmark import BenchmarkResult
from crystalgan.studies.table2 import Table2Result
from ui import cached, known, state, work

if TYPE_CHECKING:
    from crystalgan.runs.folder import Run
    from crystalgan.runs.metrics import Measured

MOST = 6  # as many colours as there are
AT_FIRST = 3
PLAIN = {"displaylogo": False}
Result = TypeVar("Result", Table2Result, BenchmarkResult)


def choose(runs: list[Run]) -> list[Run]:
    """The runs to compare; those with candidates come first."""
    by_name = {run.folder.name: run for run in sorted(runs, key=lambda run: not cached.stamp(run))}
    before = [name for name in st.session_state.get("compared", []) if name in by_name]
    st.session_state["compared"] = before or list(by_name)[:AT_FIRST]
    labels = {name: state.run_label(run) for name, run in by_name.items()}
    names = st.multiselect(
        "Runs",
        list(by_name),
        format_func=lambda name: labels.get(name, name),
        key="compared",
        max_selections=MOST,
        help="Every training is kept in a folder of its own; those with candidates come first.",
    )
    return [by_name[name] for name in names]


def show_metrics(measured: dict[str, Measured]) -> None:
    """One row a metric, one column a run; the last column says how it is found."""
    names = list(dict.fromkeys(name for values in measured.values() for name in values))
    about = [metric(name) for name in names]
    table: dict[str, list[Any]] = {
        "metric": [m.title for m in about],
        "unit": [m.unit for m in about],
    }
    for run, values in measured.items():
        table[run] = [
            None if (value := values.get(name)) is None else float(f"{value:.3g}") for name in names
        ]
    table["definition"] = [m.definition for m in about]
    config: dict[str, Any] = {
        "metric": st.column_config.TextColumn(
            pinned=True, width=150, help="How each is found is said in the last column."
        ),
        "unit": st.column_config.TextColumn(width=70),
        "definition": st.column_config.TextColumn(width="large", help="How the metric is found."),
    }
    config |= {
        run: st.column_config.NumberColumn(help="Empty: there is nothing to measure it by.")
        for run in measured
    }
    height = 29 * (len(names) + 1) + 8
    st.dataframe(
        pd.DataFrame(table),
        hide_index=True,
        column_config=config,
        row_height=29,
        height=height,
        placeholder="",
    )


def show_distances(runs: list[Run]) -> None:
    """First-neighbour distances of the runs' candidates and of the cells that they learned from,
    one figure a system."""
    for species in dict.fromkeys(run.species for run in runs):
        mine = [run for run in runs if run.species == species]
        parents = cached.parent_distances(str(mine[0].folder))
        shared, *metals = species
        series = {f"{metal}-{shared}": found for metal, found in zip(metals, parents, strict=True)}
        series |= {
            state.run_name(run): cached.run_distances(str(run.folder), cached.MANY_CELLS)
            for run in mine
        }
        figure = distance_figure(series, pairs_of(*species), mine[0].rule.limits)
        st.plotly_chart(figure, key=f"distances_{'-'.join(species)}", config=PLAIN)


def chosen(results: list[Result], key: str, about: str, command: str) -> Result | None:
    """The result that is chosen; where there is none, what it would be and the command that makes
    it."""
    if not results:
        st.caption(
            f"{about} in a shell, where RUNS is the folder of the app's runs, and it is shown here:"
            f" `crystalgan {command} --runs RUNS`"
        )
        return None
    titles = [result.title for result in results]
    number = st.selectbox("Result", range(len(results)), format_func=titles.__getitem__, key=key)
    return results[number]


def show_table2() -> None:
    st.subheader("Table II", anchor=False)
    about = (
        "The four methods on the same cells, counted by the same rule, beside the paper's counts."
        " It takes minutes; have it made"
    )
    results = table2.results(cached.runs_folder())
    result = chosen(results, "table2", about, "table2 --pairs Pd-Ni")
    if result is None:
        return
    left, right = st.columns(2, gap="medium")
    left.plotly_chart(table2_figure([result]), key="table2_figure", config=PLAIN)
    right.dataframe(
        result.table().dropna(axis="columns", how="all"),
        hide_index=True,
        column_config={
            "mean": st.column_config.NumberColumn(
                format="%.1f",
                help=(
                    f"Cells of {result.samples}, as many as both classes have, with all three"
                    " elements, that keep the rule. Mean over seeds."
                ),
            ),
            "spread": st.column_config.NumberColumn(
                format="%.1f", help="Sample standard deviation over seeds."
            ),
            "of 1,000": st.column_config.NumberColumn(
                format="%.1f", help="Good cells of 1,000, mean over seeds."
            ),
            "mean, not repaired": st.column_config.NumberColumn(
                format="%.1f", help="The same before gradient steps on the rule."
            ),
            "paper": st.column_config.NumberColumn(
                help="Table II of the paper; it does not say of how many."
            ),
        },
    )


def show_benchmark() -> None:
    st.subheader("Benchmark", anchor=False)
    about = (
        "Candidates against random structures, swapped metals and random search, relaxed alike in"
        " the same CPU time. Have it run"
    )
    results = benchmark.results(cached.runs_folder())
    result = chosen(results, "benchmark", about, "benchmark Pd Ni --minutes 10")
    if result is None:
        return
    left, right = st.columns(2, gap="medium")
    left.plotly_chart(benchmark_figure([result]), key="benchmark_figure", config=PLAIN)
    right.dataframe(
        result.table(),
        hide_index=True,
        column_config={
            "valid": st.column_config.NumberColumn(help="Keep the learned rule as they were made."),
            "unique": st.column_config.NumberColumn(
                help="Different cells after relaxation, of those that converged."
            ),
            "new": st.column_config.NumberColumn(
                help="Of these, ternaries that match no known structure."
            ),
            "hits_0.1": st.column_config.NumberColumn(
                "within 0.1", help="New ones within 0.1 eV/atom of the hull."
            ),
            "hits_0.05": st.column_config.NumberColumn(
                "within 0.05", help="New ones within 0.05 eV/atom of the hull."
            ),
            "cpu_minutes": st.column_config.NumberColumn(
                "CPU min", format="%.1f", help="Making and relaxing; not training."
            ),
        },
    )
    right.caption(f"The run took {result.training_minutes:.1f} CPU minutes to train.")


@work.saying_errors()
def page() -> None:
    state.header(
        "Compare",
        "Runs side by side: what their candidates are worth, and how each number is found.",
    )
    runs = state.open_runs()
    if not runs:
        st.info(
            "No run yet. Choose two metals on the page Pair and train them; several runs can be"
            " compared here."
        )
        st.page_link("pages/pair.py", label="To the page Pair", icon=":material/arrow_back:")
    else:
        measured, good = {}, []
        for run in choose(runs):
            name = state.run_name(run)
            try:
                found = cached.measured(run)
            except InputError as error:
                st.warning(f"{name} is left out. {work.in_app(error)}")
                continue
            measured[name] = found
            good.append(run)
        if measured:
            if unasked := [state.run_name(run) for run in good if known.ternaries(run) == 0]:
                words = "*New* is against binaries only, not compared with known ternaries yet"
                st.caption(f":material/help: {words}: {'; '.join(unasked)}.")
            show_metrics(measured)
            st.plotly_chart(validity_figure(measured), key="validity", config=PLAIN)
            show_distances(good)
        else:
            st.info("Choose runs that hold candidates; they are generated on the page Explore.")
    show_table2()
    show_benchmark()


state.through_app()
page()
