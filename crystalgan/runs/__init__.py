"""Runs: a training and what came out of it, in a folder that explains itself.

To be read in this order: `folder` (the run folder as a value), `schema` and `arrays` (what each of
its files must hold before it is believed), `training` with `fitting` and `checkpoint` (the loop,
and its exact continuation), `process` (a training that outlives the app), `loading` (a trained run
as a `Model`), `candidates` with `checking` and `symmetrizing` (sample, check, store), `filedb` (an
ASE database that several processes share), `database` and `table` (read candidates, decide on
them), `parents` and `metrics` (where they come from, what they are worth), `listing` (the runs of
one folder, and what is wrong with the others), `run_zip` and `database_copy` (a run as a file).
"""
