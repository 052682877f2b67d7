"""Weights of a trained 2D encoder for an encoder of two or three dimensions, name by name."""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from e2enet.events import BadInput
from e2enet.networks.encoders import Encoder, check_encoder
from e2enet.transfer.expansion import Expansion, expand_kernel, first_kernel

IMAGENET = "imagenet"

# What stands before an encoder's names in files of other networks, our own bundles among them.
_PREFIXES = ("", "module.", "body.", "encoder.body.", "unet.encoder.body.")
# Layers of classification and counters, which an encoder does not have or does not need.
_UNUSED = re.compile(r"(_conv_head|_bn1|_fc|fc)\.|.*num_batches_tracked$")
_IN_STACKS = re.compile(r"(.+)\.\d+(\.\d+\..+)")


def pretrained_state(encoder: str, weights: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The weights that were asked for: "imagenet", or a file.

    Args:
        encoder: Name of the encoder.
        weights: "imagenet", downloaded at first use and then cached by PyTorch's hub, or a
            safetensors file, or a state dict as `torch.save` writes it (read with
            `weights_only=True`: nothing in it is executed).

    Raises:
        BadInput: There is no such file or it cannot be read, or the download fails.
    """
    check_encoder(encoder)
    if os.fspath(weights) == IMAGENET:
        return _imagenet(encoder)
    return _read(Path(weights))


@torch.no_grad()
def load_encoder(
    encoder: Encoder,
    state: Mapping[str, Tensor],
    *,
    source: str,
    expansion: Expansion = "inflate",
) -> tuple[str, ...]:
    """Take over the weights of a 2D encoder; its batch statistics come along.

    Args:
        encoder: Of two or three dimensions; changed in place.
        state: Tensors by MONAI's, EfficientNet-PyTorch's or torchvision's names, or those of a
            network here that holds such an encoder.
        source: What messages call the state.
        expansion: Of kernels, for an encoder of three dimensions.

    Returns:
        Names of the weights that start anew: the first kernel's, if it saw other channels.

    Raises:
        BadInput: It belongs to another network; names what differs first.
    """
    named = _without_prefix(state, encoder)
    target = encoder.state_dict()
    taken: dict[str, Tensor] = {}
    anew = []
    used = set()
    for name, own in target.items():
        short = name.removeprefix("body.")
        found = next((n for n in (short, _IN_STACKS.sub(r"\1\2", short)) if n in named), None)
        if found is None:
            if short.endswith("num_batches_tracked"):
                continue
            raise _another(encoder, source, f"it has no {short}")
        used.add(found)
        value = named[found]
        if name == encoder.first_kernel and value.ndim == 4:
            adapted = first_kernel(value, own.shape[1])
            if adapted is None:
                anew.append(name)
                continue
            value = adapted
        if own.ndim == 5 and value.ndim == 4:
            value = expand_kernel(value, own.shape[2], expansion)
        if value.shape != own.shape:
            raise _another(
                encoder, source, f"its {short} is {tuple(named[found].shape)}, not "
                f"{tuple(own.shape)}"
            )  # fmt: skip
        taken[name] = value.to(own.dtype)
    more = next((n for n in named if n not in used and not _UNUSED.match(n)), None)
    if more is not None:
        raise _another(encoder, source, f"it has {more} beyond that")
    encoder.load_state_dict({**target, **taken})
    return tuple(anew)


def _without_prefix(state: Mapping[str, Tensor], encoder: Encoder) -> dict[str, Tensor]:
    first = encoder.first_kernel.removeprefix("body.")
    for prefix in _PREFIXES:
        if prefix + first in state:
            return {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}
    return dict(state)


def _read(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise BadInput(
            f"There are no encoder weights {path}.",
            help=f'Give a file of weights, or "{IMAGENET}".',
            code="missing-file",
        )
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
        if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
            state = state["state_dict"]
        if not isinstance(state, dict) or not all(isinstance(t, Tensor) for t in state.values()):
            raise ValueError("no tensors by name")
        return state
    except (SafetensorError, OSError, ValueError, RuntimeError, EOFError, KeyError,
            pickle.UnpicklingError) as error:  # fmt: skip
        what = "it is damaged or no file of weights"
        if isinstance(error, pickle.UnpicklingError):
            what = "it is damaged, or holds more than tensors, which is never executed"
        raise BadInput(
            f"{path} cannot be read as weights: {what}.",
            help="Give a safetensors file, or a state dict with tensors only.",
            code="unreadable-weights",
        ) from error


def _imagenet(encoder: str) -> dict[str, Tensor]:
    try:
        from monai.networks.nets.efficientnet import EfficientNetBNFeatures, url_map
    except ImportError as error:
        raise BadInput(
            "The weights of ImageNet come through MONAI, which is not installed.",
            help="pip install 'e2enet[train]'",
            code="needs-monai",
        ) from error
    if encoder not in url_map:
        raise BadInput(
            f"There are no ImageNet weights of {encoder} to download.",
            help="Give a local file with torchvision's names to --encoder-weights, or choose one "
            "of efficientnet-b0 … efficientnet-b7.",
            code="no-imagenet-weights",
        )
    try:
        network = EfficientNetBNFeatures(encoder, pretrained=True, progress=False)
    except (OSError, RuntimeError) as error:
        raise BadInput(
            f"The ImageNet weights of {encoder} cannot be downloaded: {error}.",
            help="They need the internet at first use and are cached afterwards. Offline, give a "
            "local file to --encoder-weights.",
            code="offline",
        ) from error
    return dict(network.state_dict())


def _another(encoder: Encoder, source: str, what: str) -> BadInput:
    return BadInput(
        f"{source} holds no weights of {encoder.name}: {what}.",
        help="Give weights of this encoder, or choose the encoder that they belong to.",
        code="other-weights",
    )
