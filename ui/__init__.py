"""Streamlit pieces that pages share: cached calls of the core, and the processes that work while a
page shows something else."""
