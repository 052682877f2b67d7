"""nnU-Net's plans, of version 2 (plans.json) and 1 (plans.pkl), as plans of this project."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from e2enet.data.planning.plan import ChannelPlan, Plan
from e2enet.events import BadInput

_SCHEMES = {
    "ZScoreNormalization": "zscore",
    "CTNormalization": "ct",
    "NoNormalization": "none",
    "nonCT": "zscore",
    "CT": "ct",
    "noNorm": "none",
}


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises BadInput where there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(
            f"{path} does not exist.",
            help="Give the folder that nnU-Net's training wrote, with plans and folds inside.",
            code="missing-file",
        ) from None
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} is not readable JSON: {error}.", code="not-nnunet") from error
    if not isinstance(content, dict):
        raise BadInput(f"{path} holds no JSON object.", code="not-nnunet")
    return content


def plan_of_version_2(
    plans: Mapping[str, Any], configuration: str, channels: Sequence[str], name: str
) -> Plan:
    """The plan of a configuration of nnUNetPlans.json.

    Spacing, patch, strides, batch size and normalisation are those of nnU-Net, so that both
    train on patches of the same size and content. nnU-Net takes voxels in the order of the file,
    this project in LPS orientation: they are the same for files that are stored so.

    Args:
        plans: Content of plans.json.
        configuration: Such as "3d_fullres".
        channels: Their names in dataset.json.
        name: What messages call the file.

    Raises:
        BadInput: A field is missing, or says something that a plan here cannot.
    """
    try:
        chosen = _inherited(plans["configurations"], configuration)
        strides = _strides(chosen)
        properties = plans["foreground_intensity_properties_per_channel"]
        schemes = chosen["normalization_schemes"]
        masks = chosen.get("use_mask_for_norm") or [False] * len(channels)
        if len(schemes) != len(channels):
            raise ValueError(f"{len(schemes)} normalisations for {len(channels)} channels")
        return _plan(
            spacing=chosen["spacing"],
            transpose=plans["transpose_forward"],
            patch=chosen["patch_size"],
            strides=strides,
            batch_size=chosen["batch_size"],
            channels=[
                _channel(channel, schemes[i], bool(masks[i]), properties.get(str(i)), name)
                for i, channel in enumerate(channels)
            ],
        )
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise _damaged(name, error) from error


def plan_of_version_1(plans: Mapping[str, Any], stage: int, name: str) -> Plan:
    """The plan of a stage of plans.pkl, as the released E2ENet has it. Raises as above."""
    try:
        chosen = plans["plans_per_stage"][stage]
        properties = plans["dataset_properties"].get("intensityproperties") or {}
        schemes, modalities = plans["normalization_schemes"], plans["modalities"]
        masks = plans.get("use_mask_for_norm") or {}
        return _plan(
            spacing=chosen["current_spacing"],
            transpose=plans["transpose_forward"],
            patch=chosen["patch_size"],
            strides=chosen["pool_op_kernel_sizes"],
            batch_size=chosen["batch_size"],
            channels=[
                _channel(
                    str(modalities[i]), schemes[i], bool(masks.get(i)), properties.get(i), name
                )
                for i in sorted(modalities)
            ],
        )
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise _damaged(name, error) from error


def _plan(**values: Any) -> Plan:
    """Checked as a plan that was edited by hand is."""
    channels = values.pop("channels")
    numbers = {key: _numbers(value) for key, value in values.items()}
    integers = ("transpose", "patch", "strides", "batch_size")
    numbers |= {key: _whole(numbers[key]) for key in integers}
    record = Plan(
        channels=tuple(channels), mirror_axes=(0, 1, 2), robustness=0.0, **numbers
    ).to_dict()
    return Plan.from_dict(record)


def _numbers(value: Any) -> Any:
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, (list, tuple)):
        return tuple(_numbers(one) for one in value)
    return float(value)


def _whole(value: Any) -> Any:
    return tuple(_whole(one) for one in value) if isinstance(value, tuple) else int(value)


def _inherited(configurations: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A configuration with what it inherits from others."""
    chain: list[Mapping[str, Any]] = []
    while name:
        if len(chain) > len(configurations):
            raise ValueError(f"{name} inherits from itself")
        chain.append(configurations[name])
        name = str(chain[-1].get("inherits_from") or "")
    merged: dict[str, Any] = {}
    for one in reversed(chain):
        merged |= one
    return merged


def _strides(chosen: Mapping[str, Any]) -> Sequence[Sequence[int]]:
    """Pooling between levels; the first stage of nnU-Net's architecture has a stride of one."""
    architecture = chosen.get("architecture") or {}
    strides = (architecture.get("arch_kwargs") or {}).get("strides")
    strides = chosen["pool_op_kernel_sizes"] if strides is None else strides
    if len(chosen["patch_size"]) != 3:
        raise ValueError("it is a configuration of two dimensions")
    return list(strides)[1:]


def _channel(
    channel: str, scheme: str, masked: bool, properties: Mapping[str, Any] | None, name: str
) -> ChannelPlan:
    kind = _SCHEMES.get(str(scheme))
    if kind is None:
        raise BadInput(
            f"{name} normalises {channel} by {scheme}, which this project does not do.",
            help="Plan the dataset anew with e2enet plan.",
            code="not-nnunet",
        )
    if kind == "zscore" and masked:
        kind = "zscore-masked"
    if kind != "ct":
        return ChannelPlan(channel, kind)
    if properties is None:
        raise ValueError(f"the intensities of {channel} are missing")
    std = properties["std"] if "std" in properties else properties["sd"]
    low, high = properties["percentile_00_5"], properties["percentile_99_5"]
    return ChannelPlan(
        channel, kind, float(properties["mean"]), float(std), float(low), float(high)
    )


def _damaged(name: str, error: BaseException) -> BadInput:
    what = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
    return BadInput(
        f"{name} cannot be used as plans of nnU-Net: {what}.",
        help="Give the folder of a training with 3d_fullres or 3d_lowres.",
        code="not-nnunet",
    )
