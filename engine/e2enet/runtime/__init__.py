"""Sparse runtime: what DSFF removed is not computed.

`execution_plan` turns a trained network into what runs it on a device. On a CPU that are kernels
that Numba compiles; where Numba is missing or does not work, and on a GPU, PyTorch runs it without
dead maps.
"""

from e2enet.runtime.execution import ExecutionPlan, Precision, Runtime, execution_plan

__all__ = ["ExecutionPlan", "Precision", "Runtime", "execution_plan"]
