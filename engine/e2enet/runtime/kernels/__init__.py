"""Sparse kernels: Numba and numpy only."""
