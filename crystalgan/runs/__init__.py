"""Runs: a training and what came out of it, in a folder that explains itself.

Read `folder` first, then `training`, which fills it (`checkpoint`, `fitting`). `loading` reads a
trained run into a `Model`; `candidates` samples, checks (`checking`) and stores new cells, and
`symmetrizing` adds symmetrized ones. `database` reads candidates and writes decisions, `metrics`
says what they are worth.
"""
