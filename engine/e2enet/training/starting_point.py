"""A 2D bundle becomes a 3D one to fine-tune: the work behind `e2enet transfer`."""

from __future__ import annotations

import os
import platform
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

import e2enet
from e2enet.bundle import Bundle, write_bundle
from e2enet.data.axes import Triple, three, times
from e2enet.data.planning.laterality import mirroring
from e2enet.data.planning.plan import Plan, within
from e2enet.data.planning.topology import divisor_of, encoder_strides, padded
from e2enet.dsff import Connections
from e2enet.events import BadInput, Reporter
from e2enet.networks import build_network
from e2enet.transfer.encoder_weights import load_encoder
from e2enet.transfer.expansion import Expansion
from e2enet.transfer.slices import volume_network

TARGETS = ("e2enet", "ds", "dx")
_DEPTH = 16  # of a patch, unless it is given
_BATCH = 2


def transfer_bundle(
    source: Bundle,
    output: Path,
    *,
    to: str,
    patch: Sequence[int] | None = None,
    plan: str | os.PathLike[str] | None = None,
    norm_axes: str = "volume",
    shift_groups: int = 3,
    expansion: Expansion = "inflate",
    reporter: Reporter | None = None,
) -> Bundle:
    """Write a bundle of a 3D network that starts from what a 2D bundle has learned.

    An E2ENet of slices becomes an E2ENet of volumes as it is. The encoder of any other network
    becomes the encoder of DX-Net (expanded), the 2D part of DS-Net, or the backbone of an E2ENet.

    Args:
        source: A bundle that was trained on images or slices.
        output: The bundle to write; must not exist.
        to: "e2enet", "ds" or "dx".
        patch: (D, H, W) of the new plan; 16 slices of the source's patch by default.
        plan: A file with the new plan; needed where the source has seen single images only, whose
            depth has no spacing.
        norm_axes, shift_groups: Of an E2ENet (`volume_network`).
        expansion: Of kernels for DX-Net.
        reporter: Gets a warning for what starts anew.

    Raises:
        BadInput: The source is no 2D bundle, cannot become such a network, or the output exists.
    """
    kind = source.model["network"]["kind"]
    if to not in TARGETS:
        raise BadInput(f"--to is {to!r}.", help=f"Choose one of {', '.join(TARGETS)}.")
    if kind in ("DSNet", "DXNet") or not _is_flat(source):
        raise BadInput(
            f"{source.name} is a 3D model ({kind}, patch {times(source.plan['patch'])}) already.",
            help="Fine-tune it with e2enet train --from.",
            code="not-2d",
        )
    if kind == "E2ENet" and to != "e2enet":
        raise BadInput(
            f"{source.name} is an E2ENet, which has no encoder that {to} could take.",
            help="Use --to e2enet.",
            code="bad-setting",
        )
    if output.exists():
        raise BadInput(f"{output} already exists.", help="Choose another --output.", code="exists")
    use = _plan(source, kind, to, patch, plan)
    trained, connections = source.load_network()
    network, masks, anew = _moved(
        trained, connections, use, to, norm_axes=norm_axes, shift_groups=shift_groups,
        expansion=expansion,
    )  # fmt: skip
    if anew and reporter is not None:
        reporter.warning("starts-anew", f"These parts start anew: {', '.join(anew)}.")
    model = {
        **{name: value for name, value in source.model.items() if name not in _WRITTEN},
        "name": output.name,
        "title": output.name,
        "plan": use.to_dict(),
        "provenance": {
            "from": {"name": source.name, "weights_sha256": source.weights_sha256()},
            "command": shlex.join(
                ["e2enet", "transfer", source.name, "--to", to, "--output", output.name]
            ),
            "epochs": 0,
            "iterations": 0,
            "sparsity": round(1 - masks.density, 3),
            "anew": list(anew),
            "versions": {
                "e2enet": e2enet.__version__,
                "torch": str(torch.__version__),
                "python": platform.python_version(),
            },
        },
    }
    return write_bundle(
        output,
        network=network,
        connections=masks,
        model=model,
        history={"history": []},
        readme=_readme(output.name, source.name, anew),
    )


_WRITTEN = ("schema_version", "network", "files", "results", "locator")


def _is_flat(source: Bundle) -> bool:
    neighbours = int(source.model["network"]["arguments"].get("input_slices", 1)) > 1
    return source.plan["patch"][0] == 1 or neighbours


def _plan(
    source: Bundle,
    kind: str,
    to: str,
    patch: Sequence[int] | None,
    path: str | os.PathLike[str] | None,
) -> Plan:
    """The plan of volumes; intensities, spacing and orientation are those of the source."""
    flat = Plan.from_dict(source.plan)
    if path is not None:
        loaded = Plan.load(path)
        if loaded.patch[0] == 1:
            raise BadInput(
                f"The patch of {path} is a single slice.",
                help="Give the plan of a dataset of volumes.",
                code="bad-plan",
            )
        return replace(loaded, channels=flat.channels)
    if flat.flat:
        raise BadInput(
            f"{source.name} has seen single images only, so that the distance of slices is not "
            "known.",
            help="Give --plan, as e2enet plan writes it for a dataset of volumes.",
            code="bad-plan",
        )
    wanted = three(int(n) for n in (patch or (_DEPTH, *flat.patch[1:])))
    if wanted[0] < 2:
        raise BadInput("--patch is a single slice.", help="Give a deeper one.", code="bad-plan")
    strides: tuple[Triple, ...] = flat.strides
    if to == "dx" or (to == "e2enet" and kind != "E2ENet"):
        strides = encoder_strides(wanted, flat.spacing, depth=True)
    fitting = padded(wanted, divisor_of(strides))
    if patch is not None and fitting != wanted:
        raise BadInput(
            f"A patch of {times(wanted)} does not divide by {times(divisor_of(strides))}.",
            help=f"Use {times(fitting)}.",
            code="bad-plan",
        )
    labels = {label.name: label.value for label in source.labels}
    axes, _ = mirroring({"background": 0, **labels})
    return replace(
        flat,
        patch=fitting,
        strides=strides,
        batch_size=_BATCH,
        mirror_axes=within(fitting, sorted(flat.transpose.index(axis) for axis in axes)),
    )


def _moved(
    trained: Any,
    connections: Connections,
    plan: Plan,
    to: str,
    *,
    norm_axes: str,
    shift_groups: int,
    expansion: Expansion,
) -> tuple[nn.Module, Connections, tuple[str, ...]]:
    """The new network, its connections, and the parts of it that start anew."""
    kind = type(trained).__name__
    if kind == "E2ENet":
        if [list(stride) for stride in plan.strides] != trained.arguments["strides"]:
            raise BadInput(
                "The plan's strides are not those of the network, whose kernels would not fit.",
                help="Keep the strides of the source's plan.",
                code="bad-plan",
            )
        deep, masks = volume_network(
            trained, connections, norm_axes=norm_axes, shift_groups=shift_groups
        )
        return deep, masks, ()
    common = {
        "in_channels": trained.in_channels,
        "num_classes": trained.num_classes,
        "encoder": trained.encoder.name,
    }
    strides = [list(stride) for stride in plan.strides]
    target: Any
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            if to == "dx":
                target = build_network("DXNet", {**common, "strides": strides})
            elif to == "ds":
                target = build_network("DSNet", {**common, "depth": plan.patch[0]})
            else:
                own = trained.arguments if kind == "EncoderE2ENet" else {}
                widths = {n: own[n] for n in ("base_channels", "max_channels") if n in own}
                given = {**common, **widths, "strides": strides, "shift_groups": shift_groups}
                target = build_network("EncoderE2ENet", given)
        except ValueError as error:
            raise BadInput(str(error), code="bad-plan") from error
    kept = _copy_what_fits(trained, target)
    first = load_encoder(
        target.encoder, trained.encoder.state_dict(), source=kind, expansion=expansion
    )
    kept |= {name for name in target.state_dict() if "encoder." in name}
    anew = {name.split(".")[0] for name in target.state_dict() if name not in kept} | set(first)
    masks = connections
    if to == "e2enet" and kind == "EncoderE2ENet":
        masks = Connections(target, connections.state_dict())
    elif to == "e2enet":
        masks = Connections.random(target, 0.8)
        masks.apply()
    return target.eval(), masks, tuple(sorted(anew))


@torch.no_grad()
def _copy_what_fits(source: nn.Module, target: nn.Module) -> set[str]:
    old, new = source.state_dict(), target.state_dict()
    kept = {
        name: old[name] for name, t in new.items() if name in old and old[name].shape == t.shape
    }
    target.load_state_dict({**new, **kept})
    return set(kept)


def _readme(name: str, source: str, anew: Sequence[str]) -> str:
    parts = f" These parts start anew: {', '.join(anew)}." if anew else ""
    return f"""# {name}

A starting point for training on volumes, made of {source}; not a model to segment with.{parts}

    e2enet train DATASET --from {name} --output my-model
"""
