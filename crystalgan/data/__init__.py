"""Cells of atoms from files, from databases and from what comes along with the package.

In the order of reading: `files` finds and measures the files of a path, folder or zip;
`file_formats` tells their format by name, and `formats` and `cif` read each; `elements` says which
element a name means, and `cell_checks` what is no cell. `readers` joins these: `read_entries` gives
all cells of a path and what was left out. `classes` makes classes of binary compounds of them,
built-in or a user's; `doctor` examines a class (its report is a `diagnosis`). `prototypes` are
structure types, `known_ternaries` the known ternaries that are built in, `known` all that is known
already of a system. `providers` asks databases (`optimade`, `materials_project`, both by `asking`),
and `fetch` keeps their answers as files.

This package imports `potentials`, `crystal` and what is below them, and nothing that trains or
relaxes.
"""
