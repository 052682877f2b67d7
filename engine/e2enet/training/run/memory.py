"""Whether a training fits into the memory of this machine, before its first step."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from e2enet.data.axes import three
from e2enet.data.planning.memory import training_bytes
from e2enet.data.planning.plan import Plan
from e2enet.events import BadInput

DEFAULT_GB = 12.0  # what is planned for where more is free, so that plans differ little
_SHARE = 0.9  # of what is free
_POINTS_BYTES = 12 * 10000  # of a label of a case: where it lies
_CACHED_CASES = 256
_WORKER_BYTES = 0.3 * 2**30  # of a process that makes patches, beside them
_AHEAD = 2  # batches that a worker makes ahead
_CUT = 6  # times the patch: what is cut before it is turned, and the copies on the way
_ENCODER_WIDTH = 16  # what the other networks, with 16 maps at full resolution, are counted as
_NARROWER = (40, 32, 24, 16, 8, 4)


def patch_workers(workers: int | None, device: torch.device) -> int:
    """Processes that make patches, by default none on a CPU.

    There patches cost a few per cent of a step, and workers would take its cores.
    """
    if workers is not None:
        return workers
    return 0 if device.type == "cpu" else min(12, max(1, (os.cpu_count() or 2) - 1))


def free_bytes(device: torch.device) -> float:
    """Memory in bytes that a training on the device may use; infinite where nobody knows."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    return _free_of_the_machine()


def budget_gb(device: torch.device, memory_gb: float | None) -> float:
    """GiB to plan for: what was given, else 12 or what is free, whichever is less."""
    if memory_gb is not None:
        return memory_gb
    return min(DEFAULT_GB, _SHARE * free_bytes(device) / 2**30)


def needed_bytes(
    plan: Plan,
    network: Mapping[str, Any],
    *,
    mixed: bool,
    workers: int,
    cases: int,
) -> float:
    """Estimated memory of a training, where its network computes: maps, weights, what loads data.

    In mixed precision what loads data lies in the machine's memory and not in the GPU's.

    Args:
        plan: patch, strides and batch.
        network: arguments of the network; without `base_channels` a rough guess.
        mixed: on a GPU.
        workers: processes that make patches.
        cases: of the training.
    """
    compute = training_bytes(
        plan.patch,
        plan.strides,
        in_channels=network["in_channels"],
        num_classes=network["num_classes"],
        base_channels=network.get("base_channels", _ENCODER_WIDTH),
        batch_size=plan.batch_size,
        mixed=mixed,
    )
    if mixed:
        return compute
    sample = math.prod(plan.patch) * (4 * network["in_channels"] + 2)
    points = min(cases, _CACHED_CASES) * network["num_classes"] * _POINTS_BYTES
    ahead = workers * _AHEAD * plan.batch_size * sample
    making = max(1, workers) * (_CUT * sample + points)
    return compute + workers * _WORKER_BYTES + ahead + making


def check_memory(
    plan: Plan,
    network: Mapping[str, Any],
    *,
    device: torch.device,
    workers: int,
    cases: int,
    memory_gb: float | None,
    changeable: bool = True,
    width: bool = True,
) -> float:
    """Refuse a training that will not fit, and say what would.

    Args:
        plan, network, workers, cases: as `needed_bytes`.
        device: where to train.
        memory_gb: GiB that it may use; what is free by default.
        changeable: patch and batch may still be chosen.
        width: and the width too.

    Returns:
        What it needs, in bytes.

    Raises:
        BadInput: it needs more; the help names options that fit.
    """
    mixed = device.type == "cuda"

    def needed(batch: int, patch: tuple[int, int, int], base: int) -> float:
        return needed_bytes(
            replace(plan, batch_size=batch, patch=patch),
            {**network, "base_channels": base},
            mixed=mixed,
            workers=workers,
            cases=cases,
        )

    limit = memory_gb * 2**30 if memory_gb is not None else free_bytes(device)
    base = int(network["base_channels"])
    need = needed(plan.batch_size, plan.patch, base)
    if need <= limit:
        return need
    found = []
    smaller = [b for b in range(plan.batch_size - 1, 0, -1) if needed(b, plan.patch, base) <= limit]
    if smaller:
        found.append(f"--batch-size {smaller[0]}")
    least = min(2, plan.batch_size)
    patch = plan.patch
    while needed(least, patch, base) > limit and (cut := _cut(patch, plan.divisor)) != patch:
        patch = cut
    if patch != plan.patch and needed(least, patch, base) <= limit:
        found.append(f"--patch {','.join(map(str, patch))} --batch-size {least}")
    narrower = [
        b for b in _NARROWER if b < base and needed(plan.batch_size, plan.patch, b) <= limit
    ]
    if width and narrower:
        found.append(f"--base-channels {narrower[0]}")
    choice = f"Choose {', or '.join(found)}." if found and changeable else "Close other programs."
    what = "may be used" if memory_gb is not None else "are free"
    raise BadInput(
        f"Training patches of {'×'.join(map(str, plan.patch))} in batches of {plan.batch_size} "
        f"with {base} channels needs about {need / 2**30:.1f} GB, but {limit / 2**30:.1f} GB "
        f"{what}.",
        help=f"{choice} --memory-gb says how much may be used.",
        code="too-little-memory",
    )


def _cut(patch: tuple[int, int, int], divisor: tuple[int, int, int]) -> tuple[int, int, int]:
    """One step smaller along the axis that has most steps; the same where there is none left."""
    steps = [n // d for n, d in zip(patch, divisor, strict=True)]
    axis = steps.index(max(steps))
    if steps[axis] < 2:
        return patch
    return three(n - divisor[k] * (k == axis) for k, n in enumerate(patch))


def _free_of_the_machine() -> float:
    """Bytes that are free or can be made so, within the limit of a container."""
    return min(_system_free(), _container_free())


def _system_free() -> float:
    if sys.platform == "win32":
        import ctypes

        class Status(ctypes.Structure):
            _fields_ = [
                ("dwLength", ctypes.c_ulong),
                ("dwMemoryLoad", ctypes.c_ulong),
                *(
                    (name, ctypes.c_ulonglong)
                    for name in ("total", "available", "a", "b", "c", "d")
                ),
                ("e", ctypes.c_ulonglong),
            ]

        status = Status(dwLength=ctypes.sizeof(Status))
        if ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
            return float(status.available)
        return math.inf
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return 1024.0 * int(line.split()[1])
    except (OSError, ValueError):
        pass
    try:  # macOS does not tell what is free without a program of its own
        return 0.75 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return math.inf


def _container_free(folder: Path = Path("/sys/fs/cgroup")) -> float:
    """What a container's limit (cgroup v2 or v1) leaves; infinite without one."""
    for limit, used, stat in (
        ("memory.max", "memory.current", "memory.stat"),
        (
            "memory/memory.limit_in_bytes",
            "memory/memory.usage_in_bytes",
            "memory/memory.stat",
        ),
    ):
        try:
            most = int((folder / limit).read_text())
            now = int((folder / used).read_text())
            pages = dict(line.split() for line in (folder / stat).read_text().splitlines())
        except (OSError, ValueError):
            continue
        cached = int(pages.get("inactive_file", 0))  # pages of files that are given back at need
        return math.inf if most >= 1 << 60 else float(max(0, most - now + cached))
    return math.inf
