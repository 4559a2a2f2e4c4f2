"""Runs: a folder that explains itself, and all that happens in it. The one place where files that a
stranger may have made are believed only after a look.

To be read in this order: `folder` (the run folder as a value: settings, classes, networks, state),
`schema` and `arrays` (what each of its files must hold), `training` (the loop, and its exact
continuation), `process` (a training that outlives the app), `filedb` (an ASE database that several
processes share), `candidates` (made by a trained run), `database` and `table` (read them, decide
on them), `parents` and `metrics` (what they come from, what they are worth), `listing` (the runs
below one folder, and what is wrong with the others), `run_zip` and `database_copy` (a run as a
file, to and from a colleague).
"""
