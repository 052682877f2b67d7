"""Checkpoints of nnU-Net, read as tensors and plain data only."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from e2enet.events import BadInput
from e2enet.extras import need_torch


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a .pth or .model file, on the CPU.

    PyTorch reads it with `weights_only`: tensors and plain data, to which numpy's numbers are
    added, because nnU-Net's logs hold them.

    Raises:
        BadInput: It is missing or damaged, or holds anything else. Nothing of it was executed.
    """
    need_torch("Reading a checkpoint")
    import torch

    if not path.is_file():
        raise BadInput(
            f"{path} does not exist.",
            help="Give the folder of a training that has come to a checkpoint.",
            code="missing-file",
        )
    try:
        with torch.serialization.safe_globals(_numbers()):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, zipfile.BadZipFile, RuntimeError, EOFError, OSError) as error:
        raise _refused(path, error) from error
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, AssertionError) as error:
        raise _refused(path, error) from error
    if not isinstance(content, Mapping):
        raise _refused(path, ValueError("it holds no dictionary"))
    return dict(content)


def _numbers() -> list[Any]:
    """What numpy's numbers and arrays are made of; none of it does anything but hold them."""
    multiarray = getattr(np, "_core", None) or np.core
    made = {name: getattr(multiarray.multiarray, name) for name in ("scalar", "_reconstruct")}
    rooms = ("numpy.core.multiarray", "numpy._core.multiarray")  # of numpy 1 and 2
    named = [(value, f"{room}.{name}") for name, value in made.items() for room in rooms]
    kinds = [type(np.dtype(kind)) for kind in "?bhilqBHILQefd"]
    return [*named, np.ndarray, np.dtype, *dict.fromkeys(kinds)]


def _refused(path: Path, error: BaseException) -> BadInput:
    text = str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__
    named = re.search(r"GLOBAL ([\w.]+)", str(error))
    if named or "weights_only" in str(error).lower():
        text = f"it names {named[1]}" if named else "it holds more than plain data"
    return BadInput(
        f"{path.name} cannot be read as weights: {text}.",
        help="Only tensors and plain data are read; nothing was executed.",
        code="unsafe-checkpoint",
    )
