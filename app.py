"""The app: `streamlit run app.py`."""

from pathlib import Path

import pandas as pd  # noqa: F401 - before any fragment runs, which else could meet it half initialised
import streamlit as st

st.set_page_config(page_title="CrystalGAN", page_icon=str(Path(__file__).parent / "assets" / "icon.svg"), layout="wide")
st.navigation([st.Page("pages/first_ternaries.py", title="First ternaries")]).run()
