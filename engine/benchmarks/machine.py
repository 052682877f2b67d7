"""What this machine is, its measured peak, and the time that a forward would take at that peak.

Run as a program it prints its peak multiply-adds and bandwidth as one JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

WINOGRAD = 36 / 144  # multiply-adds of F(4x4, 3x3) for one of the direct sum


def facts(threads: int) -> dict[str, Any]:
    """What a reader needs to know to compare."""
    import e2enet
    import numba
    from e2enet.runtime.execution import kernels_work

    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        cpu = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), cpu)
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "threads": threads,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "bfloat16": has_bfloat16(),
        "sparse_kernels": kernels_work(),
        "load_at_start": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numba": numba.__version__,
        "e2enet": e2enet.__version__,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
    }


def has_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 by itself."""
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, check, bool)() for check in checks)


def probe() -> dict[str, float]:
    """Multiply-adds a second of dense float32 work, bytes a second of a copy; the best of ten.

    The dense work is a product of matrices or a convolution, whichever is faster; multiply-adds of
    a convolution are those of the direct sum. A copy's bytes count twice: read and written.
    """
    size = 2048
    a, b, c = (torch.rand(size, size) for _ in range(3))
    maps, edge = 256, 64
    x, kernel = torch.rand(1, maps, edge, edge), torch.rand(maps, maps, 3, 3)
    convolution = maps * maps * 9 * edge * edge / _best(lambda: F.conv2d(x, kernel, padding=1))
    product = size**3 / _best(lambda: torch.mm(a, b, out=c))
    source = torch.rand(1 << 27)
    target = torch.empty_like(source)
    return {
        "multiply_adds_per_s": max(product, convolution),
        "bytes_per_s": 2 * 4 * source.numel() / _best(lambda: target.copy_(source)),
    }


def _best(work: Callable[[], Any]) -> float:
    seconds = []
    for _ in range(10):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def floor(
    network: Any, live: dict[str, int], patch: Sequence[int], peak: dict[str, float]
) -> dict[str, float]:
    """The time of a forward if multiply-adds ran at the peak, and maps moved at the bandwidth.

    Args:
        network: An E2ENet.
        live: Live connections by layer.
        patch: (D, H, W).
        peak: What `probe` gives.

    Returns:
        live multiply_adds of the finest head's forward; those left after F(4x4, 3x3), which holds
        for convolutions without a stride; bytes of level-0 maps, each written once and read once,
        of the image and of the logits; and the floor, the sum of both times.
    """
    from e2enet.dsff.complexity import complexity

    direct = left = 0.0
    for layer in complexity(network.lattice, patch, live).layers:
        if layer.kind == "head" and layer.level:
            continue
        strided = layer.kind == "backbone" and layer.level and ".0.conv" in layer.name
        planar = layer.kind in ("backbone", "fusion") and not strided
        direct += layer.live_multiply_adds
        left += layer.live_multiply_adds * (WINOGRAD if planar else 1)
    # Backbone 2, one a stage, and one more in the last node.
    maps = (2 + network.levels) * network.channels[0]
    voxels = patch[0] * patch[1] * patch[2]
    moved = 4 * voxels * (2 * maps + network.in_channels + network.num_classes)
    compute, memory = left / peak["multiply_adds_per_s"], moved / peak["bytes_per_s"]
    return {
        "multiply_adds": direct,
        "multiply_adds_winograd": left,
        "level0_bytes": moved,
        "floor_compute_s": compute,
        "floor_memory_s": memory,
        "floor_s": compute + memory,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    torch.set_num_threads(parser.parse_args().threads)
    print(json.dumps(probe()))
