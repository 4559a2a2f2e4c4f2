"""The names that `crystalgan` exports, and the run as a notebook holds it."""
