"""Which device to compute on, and what to call it."""

from __future__ import annotations

import importlib.metadata
import os
import re
import sys

from e2enet.events import BadInput
from e2enet.extras import has_torch, need_torch

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


def choose_device(name: str = "auto") -> str:
    """The device of a name, as PyTorch calls it.

    `auto` is the first CUDA device, or the CPU. Apple's `mps` has to be asked for: it lacks some
    of the network's operations, and PyTorch then runs those on the CPU. PyTorch is imported only
    where there may be a GPU.

    Args:
        name: auto, cpu, cuda, cuda:N or mps.

    Raises:
        BadInput: no such device here, or PyTorch is not installed.
    """
    name = check_device_name(name)
    if name == "cpu" or (name == "auto" and not _may_have_cuda()):
        return "cpu"
    need_torch(f"The device {name}")
    import torch

    if name == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda"):
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(name.partition(":")[2] or 0) >= count:
            found = f"{count} CUDA device{'s' if count > 1 else ''}" if count else "no CUDA device"
            raise BadInput(
                f"The device {name} is not there: PyTorch finds {found}.",
                help="Use --device cpu, or install a PyTorch build for your GPU.",
                code="no-device",
            )
        return name if ":" in name else "cuda:0"
    if name == "mps" and not torch.backends.mps.is_available():
        raise BadInput(
            "The device mps is not there: it needs macOS and Apple hardware.",
            help="Use --device cpu.",
            code="no-device",
        )
    return name


def _may_have_cuda() -> bool:
    """False where PyTorch cannot find a CUDA device: importing it to ask takes two seconds."""
    if not has_torch():
        return False
    if "torch" in sys.modules:
        return True
    if importlib.metadata.version("torch").endswith("+cpu") or sys.platform == "darwin":
        return False
    # The driver's device files on Linux and under Windows' subsystem for it.
    return sys.platform != "linux" or any(map(os.path.exists, ("/dev/nvidiactl", "/dev/dxg")))


def device_name(device: str) -> str:
    """What a person calls the device, such as "NVIDIA H100" or "CPU"."""
    if device.startswith("cuda"):
        import torch

        return str(torch.cuda.get_device_name(device))
    return {"cpu": "CPU", "mps": "Apple GPU"}.get(device, device)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: Python's error, PyTorch's, or one of the libraries under it."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and bool(
        re.search(r"out of memory|can't allocate memory|ALLOC_FAILED", str(error))
    )


def release_memory(device: str) -> None:
    """Give memory that PyTorch holds but does not use back to the device."""
    if device.startswith(("cuda", "mps")):
        import torch

        (torch.cuda if device.startswith("cuda") else torch.mps).empty_cache()
