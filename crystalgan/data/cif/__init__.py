"""Crystallographic Information Files, from their words to the one cell that a block means.

In the order of reading: `block` splits a file into blocks of names and values; `reader` takes
lattice and listed atoms of each; `stated` finds the operations and names of its symmetry, with
`operations` and the table of 530 settings in `space_groups`; `unfold` makes all atoms of the cell;
`contents` compares them with formula, Z and density; `symmetry` decides which reading is meant, and
refuses a block that leaves two.
"""
