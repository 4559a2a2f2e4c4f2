"""Search for ternary phases of two metals: how far it is, what was found, cell by cell."""

from __future__ import annotations

import streamlit as st

from ui import discovery, state, work


@work.saying_errors()
def page() -> None:
    left, right = st.columns([5, 6], gap="medium", vertical_alignment="bottom")
    with left:
        state.header("Discover", "Which ternary hydrides could two metals make?")
    runs = state.open_runs()
    run = discovery.choose_search(runs, right)
    discovery.form(run)
    if run is None:
        st.info(
            "No search yet. Choose two metals and press Go: cells are proposed, screened and"
            " relaxed, and the phases found, those nearest to the convex hull first, appear here"
            " from the first minute on."
        )
        return
    every = 2 if work.is_held(run) else None
    st.fragment(discovery.show_search, run_every=every)(run)


state.through_app()
page()
