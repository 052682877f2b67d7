"""The plan: everything that turns an image into what the network sees, printable and editable.

Reference: Isensee et al., nnU-Net, Nature Methods 2021, supplementary note 2; its planner v2 for
the details.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from e2enet.data.axes import Triple, three, times
from e2enet.data.datasets.raw import Dataset
from e2enet.data.planning.fields import checked
from e2enet.data.planning.fingerprint import Fingerprint
from e2enet.data.planning.laterality import mirroring
from e2enet.data.planning.memory import training_bytes
from e2enet.data.planning.topology import (
    divisor_of,
    encoder_strides,
    padded,
    strides_for,
)
from e2enet.events import BadInput
from e2enet.files import output_errors, replacing

ANISOTROPIC = 3.0
BASE_CHANNELS = 48  # the paper's
_MASK_BELOW = 0.75
_SMALLEST_PLANE = 32  # what five halvings leave a voxel of

# How a network brings the resolution down: "lattice" by nnU-Net's rules; "encoder" as a
# classification network in the plane, the depth by the rules; "planes" likewise, the depth stays.
Pyramid = Literal["lattice", "encoder", "planes"]
StridesOf = Callable[[Sequence[int], Sequence[float]], tuple[Triple, ...]]
_LARGEST_PATCH_VOXELS = 256**3


@dataclass(frozen=True)
class ChannelPlan:
    """How one channel is normalised.

    Args:
        name: what the channel shows, such as "T1".
        normalisation: "zscore" (mean and std of the cropped image), "zscore-masked" (of the
            region that is not background; the rest is set to 0), "ct" (clip to lower … upper,
            then subtract mean and divide by std, all from the training set's foreground) or
            "none".
        mean, std, lower, upper: for "ct", in the image's unit (HU).
    """

    name: str
    normalisation: str = "zscore"
    mean: float | None = None
    std: float | None = None
    lower: float | None = None
    upper: float | None = None


@dataclass(frozen=True)
class Plan:
    """How images are brought to the network. All axes are (D, H, W), after the transpose.

    Args:
        spacing: target spacing (D, H, W) in mm.
        transpose: D, H, W as canonical array axes (0 = z, 1 = y, 2 = x); D is the coarsest.
        patch: (D, H, W) voxels, divisible by `divisor`.
        strides: one (sd, sh, sw) for each step between levels.
        batch_size: patches in a training batch.
        channels: one a channel.
        mirror_axes: axes (0 = D, 1 = H, 2 = W) that may be flipped in training and at test time.
        left_right_axis: the axis whose flip swaps `left_right_pairs`; None without pairs.
        left_right_pairs: label values (left, right).
        robustness: 0 (nnU-Net's augmentation alone) … 1, how often training patches are changed to
            look like scans from elsewhere (`e2enet.data.patches.robustness`).
        flat: the images are single ones, not slices of volumes: their depth has no spacing.
        base_channels: channels of the network's level 0, for which patch and batch were fitted into
            memory; None in plans that were written without it.
    """

    spacing: tuple[float, float, float]
    transpose: Triple
    patch: Triple
    strides: tuple[Triple, ...]
    batch_size: int
    channels: tuple[ChannelPlan, ...]
    mirror_axes: tuple[int, ...] = ()
    left_right_axis: int | None = None
    left_right_pairs: tuple[tuple[int, int], ...] = ()
    robustness: float = 0.0
    flat: bool = False
    base_channels: int | None = None

    @property
    def levels(self) -> int:
        """Levels of the network."""
        return len(self.strides) + 1

    @property
    def divisor(self) -> Triple:
        """What a patch must be divisible by (D, H, W)."""
        return divisor_of(self.strides)

    def to_dict(self) -> dict[str, Any]:
        """A dictionary that json can write; values a channel does not use are left out."""
        record = json.loads(json.dumps(asdict(self)))
        record["channels"] = [
            {key: value for key, value in channel.items() if value is not None}
            for channel in record["channels"]
        ]
        return record

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Plan:
        """The plan of a dictionary, perhaps edited by hand.

        Raises:
            BadInput: naming the first field that is missing, unknown or wrong.
        """
        values = checked(
            record,
            fields=tuple(cls.__dataclass_fields__),
            channel_fields=tuple(ChannelPlan.__dataclass_fields__),
        )
        channels = tuple(ChannelPlan(**channel) for channel in values.pop("channels"))
        return cls(channels=channels, **values)

    @classmethod
    def load(cls, path: str | os.PathLike) -> Plan:
        """Read a plan from a JSON file. Raises BadInput as `from_dict`."""
        try:
            record = json.loads(Path(path).read_text(encoding="utf-8-sig"))
        except (OSError, ValueError) as error:
            raise BadInput(
                f"{path} cannot be read as a plan: {error}.",
                help="Write one with e2enet plan DATASET --output plan.json.",
                code="bad-plan",
            ) from error
        try:
            return cls.from_dict(record)
        except BadInput as error:
            raise BadInput(
                f"{Path(path).name}: {error.message}", help=error.help, code=error.code
            ) from error

    def save(self, path: str | os.PathLike) -> None:
        """Write the plan as JSON, under a temporary name that is then renamed."""
        path = Path(path)
        with output_errors(path), replacing(path) as temporary:
            temporary.write_text(self.to_json() + "\n", encoding="utf-8")

    def to_json(self) -> str:
        """The plan as JSON for a person, with each list of numbers on one line."""

        def on_one_line(match: re.Match[str]) -> str:
            return re.sub(r"\s+", " ", match[0]).replace("[ ", "[").replace(" ]", "]")

        return re.sub(r"\[[^\[\]{}\"]*\]", on_one_line, json.dumps(self.to_dict(), indent=2))


def make_plan(
    fingerprint: Fingerprint,
    dataset: Dataset,
    *,
    memory_gb: float = 12.0,
    mixed: bool = True,
    levels: int | None = None,
    patch: Sequence[int] | None = None,
    batch_size: int | None = None,
    base_channels: int = BASE_CHANNELS,
    pyramid: Pyramid = "lattice",
    depth: int | None = None,
) -> Plan:
    """Plan a dataset after nnU-Net's published rules.

    Target spacing is the median, with the 10th percentile on an axis that is more than three
    times as coarse and has less than a third of the voxels. Depth is the coarsest axis; axes
    within one per cent of each other count as equally coarse, and the axial one is preferred.
    The patch has the shape of the median image, shrunk until a batch of two fits into memory;
    then the batch grows, up to five per cent of the dataset's voxels. Beyond nnU-Net, images that
    are neither CT nor used as they are get `robustness` 1, unless they are trained on in slices.
    Images of two dimensions are volumes of one slice, and so is their patch.

    Args:
        fingerprint: of the dataset.
        dataset: names channels and labels.
        memory_gb: memory to plan for, in GiB.
        mixed: on a GPU in mixed precision; else on a CPU in float32.
        levels: of the network; as many as make sense (at most 6) by default.
        patch: (D, H, W) voxels instead of the planned ones.
        batch_size: instead of the planned one.
        base_channels: width of the network that will be trained, for the memory estimate.
        pyramid: how that network brings the resolution down.
        depth: most slices of a planned patch; 1 trains slice by slice.

    Raises:
        BadInput: levels or patch that cannot be, images too small for the network; the message
            says what would do.
    """
    spacings = np.array(fingerprint.spacings)
    sizes = np.array(fingerprint.sizes)
    target = _target_spacing(spacings, sizes)
    coarsest = int(np.argmax(target))
    if target[0] >= 0.99 * target[coarsest]:
        coarsest = 0
    single = np.flatnonzero((sizes == 1).all(axis=0))
    if single.size:  # images of two dimensions: the spacing across them means nothing
        coarsest = int(single[0])
    transpose = three([coarsest, *(k for k in range(3) if k != coarsest)])

    spacing = three(round(float(target[k]), 6) for k in transpose)
    shapes = np.rint(sizes * spacings / target)[:, transpose]
    typical = np.maximum(np.median(shapes, axis=0), 1)
    if single.size or depth is not None:
        typical[0] = 1 if single.size else min(typical[0], depth or 1)
    if pyramid != "lattice" and typical[1:].min() < _SMALLEST_PLANE:
        raise BadInput(
            f"The images of {dataset.name} have about {times(typical[1:])} pixels in the plane, "
            f"but the encoder of this network halves them five times and needs {_SMALLEST_PLANE}.",
            help="Train with --network e2enet, or use larger images.",
            code="too-small",
        )
    strides_of: StridesOf = partial(strides_for, levels=levels)
    if pyramid != "lattice":
        strides_of = partial(encoder_strides, depth=pyramid == "encoder")
    network: dict[str, Any] = {
        "mixed": mixed,
        "in_channels": len(dataset.channel_names),
        "num_classes": dataset.num_classes,
        "base_channels": base_channels,
    }
    budget = memory_gb * 2**30
    if levels is not None and levels < 2:
        raise BadInput(f"levels is {levels}; the network has at least 2.", code="bad-plan")
    if patch is not None:
        patch = _given_patch(patch)
        strides = strides_of(patch, spacing)
        fitting = padded(patch, divisor_of(strides))
        if fitting != patch:
            raise BadInput(
                f"A patch of {times(patch)} does not divide by {times(divisor_of(strides))}.",
                help=f"Use {times(fitting)}, or fewer levels.",
                code="bad-plan",
            )
    else:
        patch, strides = _fit_patch(typical, spacing, strides_of, network, budget)
    if not strides or (levels is not None and len(strides) != levels - 1):
        raise BadInput(
            f"A patch of {times(patch)} allows {len(strides) + 1} levels, not {levels or 2}.",
            help="Use fewer levels or a larger patch.",
            code="bad-plan",
        )
    if batch_size is None:
        one = training_bytes(patch, strides, batch_size=1, **network)
        share = 0.05 * float(shapes.prod(axis=1).sum()) / math.prod(patch)
        batch_size = max(2, min(int(budget // one), round(share)))
    axes, pairs = mirroring(dataset.labels)
    # What lies round a synthesised head has any intensity: nothing is left out of the mean.
    crop_share = fingerprint.crop_share if dataset.tissues is None else 1.0
    channels = tuple(
        _channel(name, statistics, crop_share)
        for name, statistics in zip(dataset.channel_names, fingerprint.intensities, strict=True)
    )
    return Plan(
        spacing=spacing,
        transpose=transpose,
        patch=patch,
        strides=strides,
        batch_size=int(batch_size),
        channels=channels,
        mirror_axes=within(patch, sorted(transpose.index(axis) for axis in axes)),
        left_right_axis=transpose.index(2) if pairs else None,
        left_right_pairs=pairs,
        # MR has no units: contrast and resolution differ from scanner to scanner. CT has HU.
        robustness=float(
            patch[0] > 1 and all(one.normalisation.startswith("zscore") for one in channels)
        ),
        flat=bool(single.size),
        base_channels=base_channels,
    )


def within(patch: Sequence[int], axes: Sequence[int]) -> tuple[int, ...]:
    """The axes along which a patch has something to mirror: more than one voxel."""
    return tuple(axis for axis in axes if patch[axis] > 1)


def _target_spacing(spacings: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    target = np.median(spacings, axis=0)
    typical = np.median(sizes, axis=0)
    axis = int(np.argmax(target))
    others = [k for k in range(3) if k != axis]
    coarse = target[axis] > ANISOTROPIC * target[others].max()
    few = typical[axis] * ANISOTROPIC < typical[others].min()
    if coarse and few:
        fine = float(np.percentile(spacings[:, axis], 10))
        target[axis] = max(fine, float(target[others].max()))
    return target


def _fit_patch(
    typical: np.ndarray,
    spacing: Sequence[float],
    strides_of: StridesOf,
    network: dict[str, Any],
    budget: float,
) -> tuple[Triple, tuple[Triple, ...]]:
    """The largest patch in the shape of the median image that a batch of two leaves room for."""
    density = 1 / np.asarray(spacing)
    side = (_LARGEST_PATCH_VOXELS / density.prod()) ** (1 / 3)
    wanted = np.minimum(np.rint(density * side), typical).astype(int)
    strides = strides_of(wanted, spacing)
    patch = padded(wanted, divisor_of(strides))
    while training_bytes(patch, strides, batch_size=2, **network) > budget:
        for axis in np.argsort(np.asarray(patch) / typical)[::-1]:
            step = divisor_of(strides)[axis]
            smaller = [n - step * (k == axis) for k, n in enumerate(patch)]
            if smaller[axis] > 0:
                break
        else:
            break
        # A smaller patch may allow fewer poolings, hence smaller steps.
        step = divisor_of(strides_of(smaller, spacing))[axis]
        smaller = [n - step * (k == axis) for k, n in enumerate(patch)]
        strides = strides_of(smaller, spacing)
        shrunk = padded(smaller, divisor_of(strides))
        if math.prod(shrunk) >= math.prod(patch):
            break
        patch = shrunk
    return three(int(n) for n in patch), strides


def _given_patch(patch: Sequence[int]) -> Triple:
    if len(patch) != 3 or any(int(n) != n or n < 1 for n in patch) or min(patch[1:]) < 2:
        raise BadInput(
            f"A patch of {times(patch)} cannot be; it has three sizes (D, H, W), of which only the "
            "first may be 1.",
            code="bad-plan",
        )
    return three(int(n) for n in patch)


def is_ct(name: str) -> bool:
    """Whether a channel's name says CT."""
    words = re.findall(r"[a-z0-9]+", name.lower())
    return bool(words) and words[0] == "ct" and "pet" not in words


def _channel(name: str, statistics: dict[str, float], crop_share: float) -> ChannelPlan:
    if is_ct(name):
        return ChannelPlan(
            name,
            "ct",
            mean=round(statistics["mean"], 6),
            std=round(max(statistics["std"], 1e-6), 6),
            lower=round(statistics["percentile_00_5"], 6),
            upper=round(statistics["percentile_99_5"], 6),
        )
    if name.lower() == "nonorm":
        return ChannelPlan(name, "none")
    return ChannelPlan(name, "zscore-masked" if crop_share < _MASK_BELOW else "zscore")
