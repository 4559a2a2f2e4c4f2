"""The command line: options in, one call of the library, one JSON object or some lines out.

`common` holds what commands share. Then `data` (classes, check, fetch), `runs` (train, generate,
export), `stability` (relax, stability), `studies` (table2, ablation, benchmark) and `app`; each
command is a few lines over a function that a notebook calls alike. `crystalgan.__main__` puts them
together and says an error in one sentence.
"""
