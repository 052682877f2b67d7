"""What the CPU has, as far as Numba may use it."""

from __future__ import annotations

import functools
import platform

_X86 = ("x86_64", "amd64", "i686", "x86")


@functools.cache
def has(feature: str, *, elsewhere: bool = False) -> bool:
    """Whether kernels are compiled for a CPU with a feature of x86.

    Not what this CPU has: NUMBA_CPU_NAME and NUMBA_CPU_FEATURES may allow less, and LLVM ends the
    process where it finds no instruction.

    Args:
        feature: By LLVM's name for it.
        elsewhere: What is answered on another CPU than an x86.
    """
    if platform.machine().lower() not in _X86:
        return elsewhere
    from numba.core.registry import cpu_target

    _, _, features = cpu_target.target_context.codegen().magic_tuple()
    return f"+{feature}" in features.split(",")
