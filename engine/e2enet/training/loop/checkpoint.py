"""Checkpoints: one safetensors file a checkpoint, replaced in one step, never pickle.

Tensors lie in the file by path ("optimizer/momentum/heads.0.weight"); everything else is JSON in
the file's header, with each tensor's place marked. One file, so that weights and state can never
come from two different moments.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from e2enet.events import BadInput
from e2enet.files import output_errors, write_atomic

FORMAT = "e2enet-checkpoint-1"
_TENSOR = "__tensor__"


def save_checkpoint(path: str | os.PathLike[str], state: dict[str, Any]) -> None:
    """Write nested dicts and lists of tensors, numbers and texts; all or nothing.

    The file is written under a temporary name, flushed to the disk, and renamed: whenever the
    process dies, `path` holds the old checkpoint or the new one.

    Raises:
        BadInput: the disk is full or the folder cannot be written.
    """
    from safetensors.torch import save

    path = Path(path)
    tensors: dict[str, Tensor] = {}
    skeleton = _split(state, "", tensors)
    header = {"format": FORMAT, "state": json.dumps(skeleton, allow_nan=True)}
    content = save(tensors, metadata=header)
    with output_errors(path, help="Check the space on the disk, then go on with --resume."):
        write_atomic(path, content)


def load_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The state that `save_checkpoint` wrote, tensors on the CPU.

    Raises:
        BadInput: there is no such file, or it is damaged or of another kind.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            if header.get("format") != FORMAT:
                raise ValueError("it is of another kind")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return _join(json.loads(header["state"]), tensors)  # type: ignore[no-any-return]
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise BadInput(
            f"The checkpoint {path} cannot be read: {error}.",
            help="e2enet export --best may still write the best model so far; else train anew with "
            "another --output.",
            code="damaged-checkpoint",
        ) from error


def _split(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        # A copy: the optimiser may go on, and safetensors refuses shared memory.
        tensors[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {_TENSOR: name}
    if isinstance(value, dict):
        return {
            str(k): _split(v, f"{name}/{k}" if name else str(k), tensors) for k, v in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_split(v, f"{name}/{i}", tensors) for i, v in enumerate(value)]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"A checkpoint cannot hold {type(value).__name__} ({name}).")


def _join(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, dict):
        if value.keys() == {_TENSOR}:
            return tensors[value[_TENSOR]]
        return {k: _join(v, tensors) for k, v in value.items()}
    if isinstance(value, list):
        return [_join(v, tensors) for v in value]
    return value
