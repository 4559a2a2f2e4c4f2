"""Formats other than CIF, one module each: a reader yields the places of a file with their cells.

`source` holds what they share: the contents of a file, the limits of a cell, numbers. Then in any
order: `extxyz`, `poscar` (with `poscar_lines` and `poscar_cell`; XDATCAR too), `json_cells`,
`ase_rows` (ASE's databases) and `mat` (the files of the paper's authors). No file is given to a
reader that imports or opens what the file names, or that takes memory before it has looked.
"""
