"""Sparse runtime: what DSFF removed takes no time.

`compile` turns a trained network into an execution plan for a device. On a CPU that is `sparse`,
whose kernels Numba compiles; where Numba is missing or does not work, and on a GPU, it is
`grouped`, which PyTorch alone runs.
"""

from e2enet.runtime.execution import Plan, Precision, as_it_is, compile

__all__ = ["Plan", "Precision", "as_it_is", "compile"]
