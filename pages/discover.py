"""Search for ternary phases of two metals: how far it is, what was found, cell by cell."""

from __future__ import annotations

import streamlit as st

from ui import discovery, state, work


@work.saying_errors()
def page() -> None:
    state.header(
        "Discover",
        "Which ternary hydrides could two metals make? Cells are proposed, screened and relaxed;"
        " the lowest above the convex hull come first.",
    )
    discovery.form()
    place = st.container()
    run = discovery.choose_search(state.open_runs(), place)
    if run is None:
        st.info(
            "No search yet. Choose two metals and press Go: the first phases appear within a"
            " minute, and the table grows until the CPU minutes are spent."
        )
        return
    every = 2 if work.is_held(run) else None
    st.fragment(discovery.show_search, run_every=every)(run)


state.through_app()
page()
