"""The app: `streamlit run app.py`."""

from pathlib import Path

# before any fragment runs, which else could meet it half initialised
import pandas as pd  # noqa: F401
import streamlit as st

from ui import candidate_table, vet

ICON = str(Path(__file__).parent / "assets" / "icon.svg")
st.set_page_config(page_title="CrystalGAN", page_icon=ICON, layout="wide")
st.logo(ICON, size="large")
# Streamlit makes each change of a page's address a step of the browser's history; for Back the page
# is one step, wherever on it
# the visitor was last. Keys that are pressed before `frontend/keys` is there are kept for it.
AT_FIRST = """<script>
if (!window.crystalganHistory) {
  window.crystalganHistory = true;
  const push = window.history.pushState.bind(window.history);
  window.history.pushState = (data, title, url) => {
    const same = new URL(url, window.location.href).pathname === window.location.pathname;
    return same ? window.history.replaceState(data, title, url) : push(data, title, url);
  };
  window.crystalganEarly = [];
  document.addEventListener("keydown", (event) => {
    const isThere = document.querySelector(".st-key-decide_kept");
    if (isThere && !window.crystalganReady) window.crystalganEarly.push(event);
  });
}
</script>
<style>.st-key-unseen { position: absolute; height: 0; overflow: hidden; }</style>"""
PAGES = {
    "pair": ("Pair", ":material/grid_view:"),
    "discover": ("Discover", ":material/travel_explore:"),
    "train": ("Train", ":material/model_training:"),
    "explore": ("Explore", ":material/view_in_ar:"),
    "stability": ("Stability", ":material/landscape:"),
    "compare": ("Compare", ":material/bar_chart:"),
    "export": ("Export", ":material/download:"),
}
with st.container(key="unseen"):
    st.html(AT_FIRST, unsafe_allow_javascript=True)
    keys = st.container()
st.navigation(
    [
        st.Page(f"pages/{name}.py", title=title, icon=icon, url_path=name, default=name == "pair")
        for name, (title, icon) in PAGES.items()
    ],
    position="top",
).run()
with keys:  # on every page, so that what is on its way when the page is left still arrives
    vet.listen()
candidate_table.drawn()
