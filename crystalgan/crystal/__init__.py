"""Crystals: descriptions, distances, rules and symmetry of single structures and of batches.

Read `cells` first: `Cells`, a batch of crystals as tensors, encoded from the one description that
`canonical` gives each crystal, with lattices that `lattice` reduces. `distances` finds first
neighbours with gradients; `rules` says which of their distances are allowed, `limits` holds a rule
as tensors and learns one from two classes, `repair` checks cells against it and moves them towards
it. `symmetry` holds the operations of cells and `operations` finds them; `supercells` lists the
different supercells of a crystal, `wyckoff` the positions of all space groups, and `random_cells`
draws crystals with them. `matching` tells which structures are the same, and `describe` answers
what a chemist asks of one structure. `describe`, `rules`, `canonical`, `lattice` and `matching`
need no torch. Loops are compiled (`kernels`).
"""
