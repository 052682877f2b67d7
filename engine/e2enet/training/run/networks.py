"""The network of a training: its kind, its arguments, and what it knows before the first step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from e2enet.bundle import Bundle
from e2enet.data.datasets.raw import Dataset
from e2enet.data.planning.plan import BASE_CHANNELS, Plan
from e2enet.events import BadInput, Reporter
from e2enet.networks import build_network
from e2enet.networks.encoders import check_encoder
from e2enet.training.run.settings import Settings
from e2enet.transfer.encoder_weights import IMAGENET, load_encoder, pretrained_state

KINDS = {"e2enet": "E2ENet", "omnia": "OmniaNet", "ds": "DSNet", "dx": "DXNet"}
DEFAULT_ENCODER = "efficientnet-b0"
_SLICES_A_WINDOW = 4  # of each set of input slices: those at a window's border see it repeated


def kind_of(settings: Settings, source: Bundle | None) -> str:
    """The network to train by its registered name.

    Raises:
        BadInput: the network or the encoder does not exist, or options do not go together.
    """
    if source:
        return str(source.model["network"]["kind"])
    if settings.network not in KINDS:
        raise _bad(f"--network is {settings.network!r}.", f"Choose one of {', '.join(KINDS)}.")
    if settings.encoder is not None:
        check_encoder(settings.encoder)
    if settings.network == "e2enet" and settings.encoder is None:
        if settings.encoder_weights is not None:
            raise _bad(
                "--encoder-weights needs --encoder, because E2ENet has a backbone of its own.",
                f"Add --encoder {DEFAULT_ENCODER}, or leave the weights out.",
            )
        return "E2ENet"
    if settings.network != "omnia" and settings.input_slices > 1:
        raise _bad("--input-slices goes with --network omnia only.", "Leave it out.")
    if settings.levels is not None:
        raise _bad(
            "--levels cannot be chosen with an encoder, which halves the plane five times.",
            "Leave it out.",
        )
    return "EncoderE2ENet" if settings.network == "e2enet" else KINDS[settings.network]


def planning_for(kind: str, settings: Settings) -> dict[str, Any]:
    """What `make_plan` has to know of a network.

    Networks of the second method are planned for as much memory as an E2ENet of a third of its
    width: their maps at full resolution are 16.
    """
    if kind == "E2ENet":
        return {}
    width = settings.base_channels or BASE_CHANNELS // 3
    if kind == "OmniaNet":
        slices = settings.input_slices
        deep = 1 if slices == 1 else _SLICES_A_WINDOW * slices
        return {"pyramid": "planes", "depth": deep, "base_channels": width}
    if kind == "DSNet":
        return {"pyramid": "planes", "base_channels": width}
    return {"pyramid": "encoder", "base_channels": width}


def network_arguments(
    kind: str, info: Dataset, plan: Plan, settings: Settings, source: Bundle | None
) -> dict[str, Any]:
    """Constructor arguments of the network; a fine-tuned one is as wide as its bundle's.

    Raises:
        BadInput: the plan's strides are not those of the network.
    """
    strides = [list(stride) for stride in plan.strides]
    encoder = {"encoder": settings.encoder or DEFAULT_ENCODER}
    lattice = {
        "base_channels": settings.base_channels or plan.base_channels or BASE_CHANNELS,
        # A shift would move the only slice of a patch out of it.
        "shift_groups": settings.shift_groups if plan.patch[0] > 1 else 1,
    }
    arguments: dict[str, Any]
    if source:
        arguments = dict(source.model["network"]["arguments"])
    elif kind == "OmniaNet":
        arguments = {**encoder, "input_slices": settings.input_slices}
    elif kind == "DSNet":
        arguments = {**encoder, "depth": plan.patch[0]}
    elif kind == "DXNet":
        arguments = {**encoder, "strides": strides}
    elif kind == "EncoderE2ENet":
        arguments = {**encoder, **lattice, "strides": strides}
    else:
        arguments = {**lattice, "strides": strides}
        if plan.patch[0] == 1 and all(stride[0] == 1 for stride in strides):
            arguments["norm_axes"] = "slice"  # the same, and still the same on deeper windows
    if "strides" in arguments:
        arguments["strides"] = strides
    arguments.update(in_channels=len(info.channel_names), num_classes=info.num_classes)
    _check_strides(kind, plan)
    return arguments


def initial_network(
    kind: str,
    arguments: dict[str, Any],
    settings: Settings,
    *,
    pretrained: bool,
    reporter: Reporter | None = None,
) -> nn.Module:
    """The network before the first step.

    Args:
        kind, arguments: Of `kind_of` and `network_arguments`.
        settings: Seed, encoder weights and the expansion of their kernels.
        pretrained: Take over the encoder weights, if there are any.
        reporter: Gets a warning for what starts anew.

    Raises:
        BadInput: The weights cannot be read, or belong to another network.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network: Any = build_network(kind, arguments)
    weights = settings.encoder_weights
    if not pretrained or weights is None:
        return network  # type: ignore[no-any-return]
    name = weights if weights == IMAGENET else Path(weights).name
    state = pretrained_state(network.encoder.name, weights)
    anew = load_encoder(
        network.encoder,
        state,
        source=name,
        expansion=settings.expansion,  # type: ignore[arg-type]
    )
    if anew and reporter is not None:
        reporter.warning(
            "re-initialised",
            f"The encoder's weights were taken over from {name}; its first kernel starts anew, "
            f"because the images have {arguments['in_channels']} channels.",
        )
    return network  # type: ignore[no-any-return]


def _check_strides(kind: str, plan: Plan) -> None:
    if kind == "E2ENet":
        return
    planes = [stride[1:] for stride in plan.strides]
    if planes != [(2, 2)] * 5 or any(stride[0] > 2 for stride in plan.strides):
        raise BadInput(
            f"The plan's strides {[list(s) for s in plan.strides]} are not those of an encoder, "
            "which halves the plane five times.",
            help="Leave --plan out, or change its strides to five of [1, 2, 2] or [2, 2, 2].",
            code="bad-plan",
        )
    if kind in ("OmniaNet", "DSNet") and any(stride[0] > 1 for stride in plan.strides):
        raise BadInput(
            f"The plan's strides halve the depth, which {kind} keeps.",
            help="Leave --plan out, or change its strides to five of [1, 2, 2].",
            code="bad-plan",
        )


def _bad(message: str, help: str) -> BadInput:
    return BadInput(message, help=help, code="bad-setting")
