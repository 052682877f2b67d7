"""Which device to compute on, and what to call it."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from e2enet.events import BadInput

if TYPE_CHECKING:
    import torch

_HELP = "Use auto, cpu, cuda, cuda:N or mps."


def check_device_name(name: str) -> str:
    """The name in lower case; refuses what cannot be a device, before PyTorch is loaded.

    Raises:
        BadInput: not auto, cpu, cuda, cuda:N or mps.
    """
    name = name.strip().lower()
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?|mps", name):
        raise BadInput(f"{name!r} is no device.", help=_HELP, code="no-device")
    if name == "mps":
        # Read when torch is imported, so it has to come first.
        os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
    return name


def choose_device(name: str = "auto") -> torch.device:
    """The device of a name.

    `auto` is the first CUDA device, or the CPU. Apple's `mps` has to be asked for: it lacks some
    of the network's operations, and PyTorch then runs those on the CPU.

    Args:
        name: auto, cpu, cuda, cuda:N or mps.

    Raises:
        BadInput: no such device here.
    """
    name = check_device_name(name)
    import torch

    if name == "auto":
        return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    if name.startswith("cuda"):
        device = torch.device(name if ":" in name else "cuda:0")
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            found = f"{count} CUDA device{'s' if count > 1 else ''}" if count else "no CUDA device"
            raise BadInput(
                f"The device {name} is not there: PyTorch finds {found}.",
                help="Use --device cpu, or install a PyTorch build for your GPU.",
                code="no-device",
            )
        return device
    if name == "mps" and not torch.backends.mps.is_available():
        raise BadInput(
            "The device mps is not there: it needs macOS and Apple hardware.",
            help="Use --device cpu.",
            code="no-device",
        )
    return torch.device(name)


def device_name(device: torch.device) -> str:
    """What a person calls the device, such as "NVIDIA H100" or "CPU"."""
    import torch

    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return {"cpu": "CPU", "mps": "Apple GPU"}.get(device.type, str(device))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether PyTorch ran out of memory: its own error, or one of the libraries under it."""
    import torch

    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and bool(
        re.search(r"out of memory|can't allocate memory|ALLOC_FAILED", str(error))
    )


def release_memory(device: torch.device) -> None:
    """Give memory that PyTorch holds but does not use back to the device."""
    import torch

    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
