"""Data -> plotly figures.

A plot takes data and returns a `plotly.graph_objects.Figure`; it reads no file, shows nothing, and
imports plotly only when it draws.

Read `style` first, the colours that all share; then `training`, the losses of a run; `classes`,
distances, powder patterns and maps of cells; `stability`, the convex hull and storage; `studies`,
what the studies found. `scene` is one cell for the 3D viewer of the app, and `structure` the same
cell as a figure for notebooks.
"""
