"""The app: `streamlit run app.py`."""

from pathlib import Path

import pandas as pd  # noqa: F401 - before any fragment runs, which else could meet it half initialised
import streamlit as st

ICON = str(Path(__file__).parent / "assets" / "icon.svg")
st.set_page_config(page_title="CrystalGAN", page_icon=ICON, layout="wide")
st.logo(ICON, size="large")
PAGES = {
    "pair": ("Pair", ":material/grid_view:"),
    "train": ("Train", ":material/model_training:"),
    "explore": ("Explore", ":material/view_in_ar:"),
    "stability": ("Stability", ":material/landscape:"),
    "compare": ("Compare", ":material/bar_chart:"),
    "export": ("Export", ":material/download:"),
}
st.navigation(
    [
        st.Page(f"pages/{name}.py", title=title, icon=icon, url_path=name, default=name == "pair")
        for name, (title, icon) in PAGES.items()
    ],
    position="top",
).run()
