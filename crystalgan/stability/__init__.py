"""Stability of candidates: relaxation, the convex hull, stored hydrogen, and the export of it all.

Read in this order. `relax.py` relaxes one crystal; `tasks.py` does it within limits and makes an
outcome of whatever happens; `workers.py` runs tasks in processes that may crash. `hull.py` and
`hydrogen.py` are pure functions of energies; `references.py` says what competes. `selection.py`
selects candidates of a run, `relaxations.py` relaxes them and keeps the outcomes in `relaxed.db`,
`table.py` tells the energies above the hull. `export.py` writes candidates into a zip, with inputs
of a VASP relaxation by `vasp.py`. `phonons.py` asks whether one crystal holds together, and
`phonon_rows.py` keeps that of a run's candidates in `phonons.db`; `phonon_products.py` says which
phases a release of hydrogen needs them of too.
"""
