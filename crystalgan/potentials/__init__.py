"""Energies, forces and stress of crystals from machine-learned interatomic potentials.

Read `registry.py` first: potentials by name, what elements they know, and which of those they were
hardly trained on. `chgnet.py` computes CHGNet, the default, in a third of its package's time.
"""
