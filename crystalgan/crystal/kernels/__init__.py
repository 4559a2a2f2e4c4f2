"""What is compiled with numba: loops over the atoms, edges and operations of many small cells.

They take numpy arrays, and packages above call them through `Cells` and torch. Read `compiled`
first, the decorator and its cache on disk; then `distances`, lattice reduction and nearest
neighbours, on which the others stand; `graph`, edges of the periodic neighbour graph and steps
along them; `pair_potential`, energies and relaxation along the same edges; `projection`, the
part of a change that keeps a cell's operations; `descent`, steps towards limits of distances; and
`symmetry`, special points and common operations.
"""
