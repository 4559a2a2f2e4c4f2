"""Train the chosen pair, watch it learn, stop and resume it; load what was trained before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from crystalgan.discovery.record import is_search
from crystalgan.errors import InputError
from crystalgan.potentials.registry import untrained
from crystalgan.runs.process import start, stop
from crystalgan.runs.run_zip import unpack_run
from ui import cached, components, discovery, settings, state, work
from ui.classes import SHARED

if TYPE_CHECKING:
    from crystalgan.runs.folder import Run
    from crystalgan.runs.status import Status

SMOOTHED = 20  # epochs
WORDS = {
    "created": "not started",
    "starting": "starting",
    "running": "training",
    "stopped": "stopped",
    "failed": "failed",
    "finished": "finished",
}


def new_training(runs: list[Run], shown: Run | None) -> None:
    """The form that starts a training of the chosen pair, by default the shown run's, or of step 2
    on a trained step 1."""
    a, b = state.get_pair()
    if (
        shown
        and not (a or b)
        and shown.species[0] == SHARED
        and set(shown.species[1:]) <= cached.class_sizes().keys()
    ):
        state.set_pair(*shown.species[1:])
        a, b = state.get_pair()
    trained = [
        run
        for run in runs
        if (run.folder / "step1.safetensors").exists()
        and run.config.method in ("crystalgan", "unconstrained")
    ]
    base = choose_base(trained)
    if base is None and not (a != b and state.source_of("a") and state.source_of("b")):
        st.info("Choose two metals on the page Pair first.")
        st.page_link("pages/pair.py", label="To the page Pair", icon=":material/arrow_back:")
        return
    problems = (
        []
        if base
        else [problem for which in "ab" if (problem := state.class_problem(which, SHARED))]
    )
    if problems:
        st.error(" ".join(problems))
        st.page_link("pages/pair.py", label="To the page Pair", icon=":material/arrow_back:")
        return
    state.in_address(a=a, b=b)
    settings.set_defaults()
    seeds = settings.front_fields(only_step2=base is not None)
    rule = chosen_rule(base)
    larger = largest_class(base)
    expected = settings.expected_seconds(larger, base is not None)
    several = f", {len(seeds)} runs side by side" if len(seeds) > 1 else ""
    pressed = st.button(
        "Train step 2" if base else f"Train {a}-{b}-{SHARED}",
        type="primary",
        icon=":material/play_arrow:",
        disabled=not seeds,
        width="stretch",
        key="train",
    )
    if words := untrained("CHGNet", base.species if base else (str(a), str(b), SHARED)):
        st.warning(f"{words} Step 2 learns from them unless its energies are set to 0.")
    st.caption(
        f"About {work.in_words(expected)}{several}. It goes on when you leave this page or close"
        " the browser."
    )
    with st.expander("All other settings"):
        settings.other_fields()
    if pressed:
        start_runs(base, rule, seeds)


def choose_base(trained: list[Run]) -> Run | None:
    """The run whose step 1 is taken, None to train both steps."""
    a, b = state.get_pair()
    whole = f"Both steps of {a} and {b}" if a and b else "Both steps of a new pair"
    names = {run.folder.name: f"Step 2 on step 1 of {state.run_label(run)}" for run in trained}
    chosen = st.selectbox(
        "What to train",
        ["", *names],
        format_func=lambda name: names.get(name, whole),
        key="base",
        help=(
            "Step 1 learns to translate one binary class into the other; step 2 makes ternary cells"
            " of what it puts together."
        ),
    )
    return next((run for run in trained if run.folder.name == chosen), None)


def chosen_rule(base: Run | None) -> str:
    """The rule, chosen with the parents' distances in sight."""
    root = cached.runs_folder()
    if base is not None:
        shared, *metals = base.species
        return settings.choose_rule(
            shared, metals, lambda: cached.parent_distances(str(base.folder)), root
        )
    metals = [str(metal) for metal in state.get_pair()]
    sources = [str(state.source_of(which)) for which in "ab"]

    def distances() -> list[dict[str, list[float]]]:
        return [
            cached.class_distances(source, metal, SHARED)
            for source, metal in zip(sources, metals, strict=True)
        ]

    return settings.choose_rule(SHARED, metals, distances, root)


def largest_class(base: Run | None) -> int:
    if base is not None:
        return max(int(source.get("cells", 0)) for source in base.about["classes"].values())
    return max(
        (
            len(cached.class_cells(source, st.session_state[w], SHARED)[0])
            if state.own_cells(w)
            else cached.class_sizes()[st.session_state[w]]
        )
        for w in "ab"
        if (source := state.source_of(w))
    )


def start_runs(base: Run | None, rule: str, seeds: list[int]) -> None:
    """Start one training for each seed and show the first."""
    a, b = state.get_pair()
    arguments = ["step2", str(base.folder)] if base else ["train", str(a), str(b), "--skip-bad"]
    if base is None:
        for which in "ab":
            if own := state.own_cells(which):
                arguments += [f"--{which}", own["path"]]
    arguments += [*settings.changed_settings(), "--set", f"rule={rule}"]
    with st.spinner("Preparing the run ..."):
        folders = [
            work.start_training([*arguments, "--set", f"seed={seed}"], cached.runs_folder())
            for seed in seeds
        ]
    state.show_run(folders[0].name)
    st.rerun()


def load_zip() -> None:
    """A run folder from a colleague."""
    file = st.file_uploader(
        "Zip of a run folder",
        ["zip"],
        key="run_zip",
        help="Made on the page Export; at most 50 MB.",
    )
    if file is None or st.session_state.get("loaded_zip") == file.file_id:
        return
    with work.saying_errors():
        run = unpack_run(file, cached.runs_folder(), file.name)
        st.session_state["loaded_zip"] = file.file_id
        state.show_run(run.folder.name)
        st.rerun()


@work.saying_errors()
def show_training(run: Run) -> None:
    """State, progress and losses; polls once a second while a process trains the run, then
    refreshes the page once."""
    status = run.status()
    running = status.is_training
    if not running and st.session_state.get("watched") == str(run.folder):
        st.session_state["watched"] = None
        st.rerun()
    st.session_state["watched"] = str(run.folder) if running else None
    said, buttons = st.columns([3, 2], vertical_alignment="center")
    said.markdown(progress_in_words(run, status))
    with buttons.container(horizontal=True, horizontal_alignment="right"):
        training_buttons(run, status)
    st.progress(status.share_done)
    explain(run, status)
    row = st.container(horizontal=True, vertical_alignment="center")
    smooth = row.toggle(
        "Smooth curves", key="smooth", help=f"Each point is the mean of the last {SMOOTHED} epochs."
    )
    row.caption("Losses as they are, before their weights. Drag to zoom, double-click to see all.")
    figure = cached.losses(run, SMOOTHED if smooth else 1)
    components.chart(
        figure,
        key="losses",
        label="Loss terms of both steps by epoch",
        height=400,
        revision=run.folder.name,
    )


def progress_in_words(run: Run, status: Status) -> str:
    epochs = status.epochs or (run.config.epochs1, run.config.epochs2)
    step = status.step or 1
    words = [f"**{WORDS[status.state]}**"]
    if status.state != "finished":
        words.append(
            f"step {step} of {len(epochs)}, epoch {status.epoch or 0} of {epochs[step - 1]}"
        )
    else:
        words.append(" + ".join(map(str, epochs)) + " epochs")
    if status.state == "running" and status.message:
        words.append(status.message)
    left = time_left(status, epochs)
    if left is not None:
        words.append(f"about {work.in_words(left)} left")
    valid = [line["valid"] for line in cached.metrics(run)[-20:] if "valid" in line]
    if valid:
        words.append(f"{valid[-1]:.0%} of step 2's raw cells keep the rule")
    return " · ".join(words)


def time_left(status: Status, epochs: tuple[int, ...]) -> float | None:
    """Seconds that a running training still takes at its present pace; step 2 takes half as long
    again an epoch as step 1."""
    step, epoch = status.step or 1, status.epoch or 0
    if status.state != "running" or not epoch or not status.seconds:
        return None
    pace = status.seconds / epoch
    return pace * (epochs[step - 1] - epoch) + sum(1.5 * pace * later for later in epochs[step:])


def training_buttons(run: Run, status: Status) -> None:
    if status.is_training:
        pressed = st.button(
            "Stop",
            icon=":material/stop_circle:",
            key="stop",
            disabled=status.state == "starting",
            help=(
                "Ends after this epoch, and keeps all that was learned: Resume goes on exactly from"
                " there, today or next week."
            ),
        )
        if pressed:
            stop(run)
            st.toast("Stopping after this epoch; Resume goes on from there.")
    elif status.state == "finished":
        if st.button(
            "Explore its cells", type="primary", icon=":material/view_in_ar:", key="to_explore"
        ):
            st.switch_page("pages/explore.py", query_params={"run": run.folder.name})
    elif st.button("Resume", type="primary", icon=":material/play_arrow:", key="resume"):
        start(run)
        st.rerun()


def explain(run: Run, status: Status) -> None:
    """Why a run stands still, and what its process said last."""
    if status.state == "failed":
        st.error(work.in_app(status.message or "The training ended with an error."))
    elif status.state == "stopped":
        st.info(
            work.in_app(
                status.message
                or "The training was stopped. Resume goes on from the last checkpoint."
            )
        )
    if status.state in {"failed", "stopped"} and (lines := work.last_lines(run)):
        with st.expander("What the training said last"):
            st.code(lines, language=None, wrap_lines=True)


@work.saying_errors()
def page() -> None:
    state.header(
        "Train",
        "Two adversarial trainings, one after the other: step 1 on the binaries, step 2 towards"
        " ternary cells.",
    )
    runs = state.open_runs()
    left, right = st.columns([3, 5], gap="large")
    with right:
        run = state.choose_run(runs)
    with left:
        kinds = ["New training", "Zip from a colleague"]
        kind = st.segmented_control(
            "Start from", kinds, default=kinds[0], key="kind", required=True
        )
        try:
            new_training(runs, run) if kind == kinds[0] else load_zip()
        except InputError as error:
            st.error(work.in_app(error))
    with right:
        if run is None:
            st.info("No run yet. Choose the settings and press Train; its losses appear here.")
            return
        status = run.status()
        if is_search(run) and status.state == "created":
            discovery.say_search(
                run, "This run is a search for phases: it has no networks, and none to train."
            )
            return
        running = status.is_training
        st.fragment(show_training, run_every=1 if running else None)(run)


state.through_app()
page()
