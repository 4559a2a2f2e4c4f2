"""Studies: many runs trained or many cells relaxed, to compare what they are worth.

Read `stacks` first: runs of several seeds that are trained and measured together, and kept. On it
stand `table2` (the paper's four methods), `ablation` (what each setting is worth) and `tuning`
(better settings by cross-validation). `baselines` says where candidates can come from without
training, `trials` gives each of these sources its CPU time, and on both stand `benchmark` (hits a
CPU minute) and `rediscovery` (known ternaries looked for). `results` is what all results can do.
`builtin` makes the built-in classes, and `datacard` checks them; `builtin_ternaries` makes the file
of known ternaries.
"""
