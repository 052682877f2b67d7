"""From images to the arrays a network sees: orient, crop, normalise, resample.

The order is nnU-Net's: cropping to what is not background, normalisation, then resampling.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from e2enet.data.axes import three, times
from e2enet.data.datasets.raw import Case, Dataset, read_case
from e2enet.data.datasets.targets import Targets
from e2enet.data.images.orientation import Undo, to_canonical
from e2enet.data.images.volume import Grid, Volume
from e2enet.data.parallel import map_cases
from e2enet.data.planning.plan import ChannelPlan, Plan
from e2enet.data.preprocessing.cropping import Box, bounding_box, fill_holes, occupied
from e2enet.data.preprocessing.resampling import (
    coarse_axis,
    new_shape,
    resample_image,
    resample_label,
)
from e2enet.data.preprocessing.store import PreprocessedCase, PreprocessedDataset, read_case_record
from e2enet.events import BadInput, Reporter
from e2enet.files import replacing
from e2enet.folders import cache_folder

POINTS_PER_LABEL = 10000
# Part of every cache key: raise it when the arrays that this file makes change.
_VERSION = 1
# No sensible image is resampled by more, or to more.
_LARGEST_FACTOR = 50
_LARGEST_VOXELS = 3 << 29


@dataclass(frozen=True)
class Geometry:
    """The way from a prepared array back to the input's grid.

    Args:
        grid: the input's own grid.
        undo: from canonical orientation to that grid.
        canonical_shape: (z, y, x) voxels in canonical orientation.
        crop: (start, stop) for each canonical axis z, y, x.
        transpose: D, H, W as canonical axes.
        source_shape: (D, H, W) voxels of the crop, before resampling.
        source_spacing: (D, H, W) in mm, before resampling.
        shape: (D, H, W) voxels of the prepared array, over the same extent.
    """

    grid: Grid
    undo: Undo
    canonical_shape: tuple[int, int, int]
    crop: Box
    transpose: tuple[int, int, int]
    source_shape: tuple[int, int, int]
    source_spacing: tuple[float, float, float]
    shape: tuple[int, int, int]

    def place(self, array: np.ndarray, *, fill: float = 0) -> np.ndarray:
        """Put an array on the crop's voxels back onto the input's grid.

        Args:
            array: (..., D, H, W) with the source shape (resample to it first).
            fill: what lies outside of the crop.

        Returns:
            (..., z, y, x) on `grid`.
        """
        if array.shape[-3:] != self.source_shape:
            raise ValueError(f"expected {self.source_shape}, got {array.shape[-3:]}")
        first = array.ndim - 3
        inverse = np.argsort(self.transpose)
        turned = array.transpose([*range(first), *(first + int(k) for k in inverse)])
        full = np.full((*array.shape[:-3], *self.canonical_shape), fill, array.dtype)
        z, y, x = (slice(*limits) for limits in self.crop)
        full[..., z, y, x] = turned
        return self.undo(full)


@dataclass(frozen=True)
class Prepared:
    """A case ready for the network: array (C, D, H, W) float32, and the way back."""

    array: np.ndarray
    geometry: Geometry


def prepare(volumes: Sequence[Volume], plan: Plan) -> Prepared:
    """Bring the channels of a case to the plan's orientation, intensities and spacing.

    Args:
        volumes: one a channel, on the same grid.
        plan: what the network expects.

    Returns:
        Prepared with an array (C, D, H, W) float32.

    Raises:
        BadInput: the number of channels differs from the plan's, every channel is constant, a
            single image for a plan of volumes, or the reverse.
    """
    _check_channels(volumes, plan)
    check_depth(volumes[0], plan)
    # All lie on one grid, up to a header's rounding: the first one decides.
    grid = volumes[0].grid
    both = [to_canonical(Volume(volume.array, grid)) for volume in volumes]
    turned, undo = [volume for volume, _ in both], both[0][1]
    if all(volume.array.min() == volume.array.max() for volume in turned):
        raise BadInput(
            f"{volumes[0].name} holds the same value in every voxel; there is nothing to see.",
            code="constant-image",
        )
    canonical = turned[0]
    mask = occupied([volume.array for volume in turned])
    crop = bounding_box(mask)
    inside = tuple(slice(*limits) for limits in crop)
    transpose = plan.transpose
    source_spacing = three(canonical.grid.spacing_zyx[k] for k in transpose)
    if plan.flat:  # a header's spacing across a single image means nothing
        source_spacing = (plan.spacing[0], *source_spacing[1:])
    source_shape = three(crop[k][1] - crop[k][0] for k in transpose)
    shape = new_shape(source_shape, source_spacing, plan.spacing)
    nearest = coarse_axis(source_spacing, plan.spacing)
    _check_size(volumes[0], source_shape, shape)

    cropped = np.stack([volume.array[inside].transpose(transpose) for volume in turned])
    normalise(cropped, plan.channels, mask[inside].transpose(transpose))
    array = resample_image(cropped, shape, nearest_axis=nearest)
    geometry = Geometry(
        grid,
        undo,
        canonical.grid.shape,
        crop,
        transpose,
        source_shape,
        source_spacing,
        shape,
    )
    return Prepared(np.ascontiguousarray(array), geometry)


def check_depth(volume: Volume, plan: Plan) -> None:
    """Raise BadInput for a single image where the plan is of volumes, and for the reverse."""
    shape = to_canonical(volume)[0].grid.shape
    if plan.flat and shape[plan.transpose[0]] > 1:
        raise BadInput(
            f"{volume.name} is a volume of {times(volume.grid.size_xyz)} voxels; single images are "
            "needed here, of two dimensions.",
            help="Give its slices as images of their own, or use a model that was trained on "
            "volumes.",
            code="not-2d",
        )
    if not plan.flat and plan.patch[0] > 1 and min(shape) == 1:
        raise BadInput(
            f"{volume.name} is a single slice ({times(volume.grid.size_xyz)} voxels); a 3D volume "
            "is needed.",
            help="Give the whole stack of slices, or use a model that was trained on single "
            "images.",
            code="single-slice",
        )


def prepare_label(label: Volume, geometry: Geometry, plan: Plan) -> np.ndarray:
    """Bring a label map onto the prepared array's voxels: (D, H, W), the label's dtype."""
    canonical = to_canonical(Volume(label.array, geometry.grid))[0].array
    inside = tuple(slice(*limits) for limits in geometry.crop)
    cropped = canonical[inside].transpose(geometry.transpose)
    nearest = coarse_axis(geometry.source_spacing, plan.spacing)
    return np.ascontiguousarray(resample_label(cropped, geometry.shape, nearest_axis=nearest))


def normalise(array: np.ndarray, channels: Sequence[ChannelPlan], mask: np.ndarray) -> None:
    """Normalise an array (C, D, H, W) float32 in place, each channel by its plan.

    `mask` (D, H, W) bool is where any channel differs from its background (`occupied`).
    """
    filled = None
    for values, channel in zip(array, channels, strict=True):
        if channel.normalisation == "ct":
            np.clip(values, channel.lower, channel.upper, out=values)
            values -= np.float32(channel.mean)
            values /= np.float32(channel.std)
        elif channel.normalisation == "zscore":
            _standardise(values, None)
        elif channel.normalisation == "zscore-masked":
            filled = fill_holes(mask) if filled is None else filled
            _standardise(values, filled)


def preprocess_dataset(
    dataset: Dataset,
    plan: Plan,
    folder: str | os.PathLike,
    *,
    workers: int | None = None,
    reporter: Reporter | None = None,
) -> PreprocessedDataset:
    """Prepare every training case and write it as arrays that training reads.

    A case whose files, labels and plan have not changed since it was last written is kept, so
    that an interrupted run goes on where it stopped.

    Args:
        dataset: what to prepare.
        plan: only spacing, transpose and channels matter here.
        folder: made if missing; one dataset a folder (`case_folder`).
        workers: processes; 0 means in this one, None one a core.
        reporter: gets progress as stage "preprocessing".

    Raises:
        BadInput: a case that cannot be used, or the folder cannot be written.
    """
    folder = Path(folder)
    reporter = reporter or Reporter()
    if len(plan.channels) != len(dataset.channel_names):
        raise BadInput(
            f"The plan is for {len(plan.channels)} channels, but {dataset.name} has "
            f"{len(dataset.channel_names)}.",
            code="channel-count",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        map_cases(
            partial(_preprocess_case, dataset, plan, folder),
            dataset.cases,
            workers=workers,
            reporter=reporter,
            stage="preprocessing",
        )
        record = {
            "name": dataset.name,
            "cases": list(dataset.case_names),
            "labels": dataset.labels,
            "channel_names": list(dataset.channel_names),
            "plan": plan.to_dict(),
        }
        _write_json(folder / "dataset.json", record)
    except OSError as error:
        raise BadInput(
            f"The preprocessed cases cannot be written into {folder}: {error.strerror or error}.",
            help="Check the space on the disk, or set E2ENET_CACHE to another folder.",
            code="output-not-writable",
        ) from error
    return PreprocessedDataset.open(folder)


def case_folder(dataset: Dataset, plan: Plan) -> Path:
    """Where a dataset's preprocessed cases go unless told otherwise.

    In the cache folder, preprocessed/NAME-HASH; the hash covers the dataset's place and whatever
    of the plan matters here.
    """
    key = hashlib.sha256(
        json.dumps([os.fspath(dataset.folder.resolve()), _relevant(dataset, plan)]).encode()
    )
    name = re.sub(r"[^\w.-]", "_", dataset.name)
    return cache_folder() / "preprocessed" / f"{name}-{key.hexdigest()[:12]}"


def _relevant(dataset: Dataset, plan: Plan) -> list:
    """Everything beside the files that decides what a preprocessed case looks like."""
    channels = [{**asdict(channel), "name": ""} for channel in plan.channels]
    values = sorted(dataset.labels.values())
    if dataset.ignore is not None:
        values.append(dataset.ignore)
    more = [sorted(dataset.regions.items()), sorted(dataset.missing.items())]
    if any(more):
        return [_VERSION, plan.spacing, plan.transpose, channels, values, *more]
    if dataset.tissues is not None:
        structure = sorted(dataset.tissues.structure.items())
        return [_VERSION, plan.spacing, plan.transpose, "label maps", structure]
    return [_VERSION, plan.spacing, plan.transpose, channels, values]


def _preprocess_case(dataset: Dataset, plan: Plan, folder: Path, case: Case) -> None:
    content = hashlib.sha256(json.dumps(_relevant(dataset, plan)).encode())
    for path in (*case.images, *([case.label] if case.label else [])):
        with open(path, "rb") as stream:
            while block := stream.read(1 << 20):
                content.update(block)
    key = content.hexdigest()
    if _is_done(folder, case.name, key):
        return
    (folder / f"{case.name}.json").unlink(missing_ok=True)

    volumes, label = read_case(dataset, case)
    assert label is not None  # read_dataset lists no training case without
    prepared = prepare(volumes, plan)
    classes = prepare_label(label, prepared.geometry, plan)
    # Without the ignore label, one above the others: no patch is drawn for its sake.
    counts = np.bincount(classes.ravel())[: dataset.highest + 1]
    array = prepared.array
    if dataset.tissues is not None:  # values are numbers of tissues: nothing between two of them
        array = prepare_label(_whole_numbers(volumes[0]), prepared.geometry, plan)[None]
    _write_array(folder / f"{case.name}.npy", array)
    numbers = Targets.of(dataset).encode(classes, case.name)
    _write_array(folder / f"{case.name}_label.npy", numbers)
    _write_array(folder / f"{case.name}_points.npy", _points(classes, counts, case.name))
    record = {
        "key": key,
        "shape": list(classes.shape),
        "channels": len(volumes),
        "foreground": {int(v): int(counts[v]) for v in np.flatnonzero(counts) if v},
        "case_spacing": list(prepared.geometry.source_spacing),
    }
    _write_json(folder / f"{case.name}.json", record)


def _whole_numbers(volume: Volume) -> Volume:
    return Volume(volume.array.astype(np.int16), volume.grid, volume.name)


def _is_done(folder: Path, name: str, key: str) -> bool:
    try:
        if json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))["key"] != key:
            return False
        case: PreprocessedCase = read_case_record(folder, name)
        # Opening checks the header against the file's length.
        return case.image.shape == (case.channels, *case.shape) == (
            case.channels,
            *case.label.shape,
        ) and bool(case.points() is not None)
    except (OSError, ValueError, KeyError, TypeError, BadInput):
        return False


def _points(classes: np.ndarray, counts: np.ndarray, name: str) -> np.ndarray:
    """Up to 10000 voxels of each label as rows (label, d, h, w), int32; the same every time."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    flat = classes.ravel()
    rows = [np.empty((0, 4), np.int32)]
    for value in np.flatnonzero(counts):
        if value == 0:
            continue
        where = np.flatnonzero(flat == value)
        if where.size > POINTS_PER_LABEL:
            where = np.sort(random.choice(where, POINTS_PER_LABEL, replace=False))
        at = np.unravel_index(where, classes.shape)
        rows.append(np.column_stack([np.full(where.size, value), *at]).astype(np.int32))
    return np.concatenate(rows)


def _check_channels(volumes: Sequence[Volume], plan: Plan) -> None:
    expected = [channel.name for channel in plan.channels]
    if len(volumes) != len(expected):
        given = ", ".join(volume.name for volume in volumes) or "none"
        raise BadInput(
            f"{len(expected)} channel{'s are' if len(expected) > 1 else ' is'} needed "
            f"({', '.join(expected)}), but {len(volumes)} given ({given}).",
            help="Give one file a channel, in this order.",
            code="channel-count",
        )


def _check_size(volume: Volume, source: Sequence[int], shape: Sequence[int]) -> None:
    factors = [new / old for new, old in zip(shape, source, strict=True)]
    if max(factors) > _LARGEST_FACTOR or math.prod(shape) > _LARGEST_VOXELS:
        raise BadInput(
            f"{volume.name} has a spacing of {times(volume.grid.spacing_xyz)} mm, which would "
            f"make {times(shape)} voxels of it for the model.",
            help="Correct the spacing in its header, or crop the image.",
            code="implausible-spacing",
        )


def _standardise(values: np.ndarray, mask: np.ndarray | None) -> None:
    """Mean 0 and standard deviation 1 in place; with a mask, inside it, and 0 outside."""
    inside = values if mask is None else values[mask]
    mean = float(inside.mean(dtype=np.float64)) if inside.size else 0.0
    std = float(inside.std(dtype=np.float64)) if inside.size else 0.0
    values -= np.float32(mean)
    values /= np.float32(max(std, 1e-8))
    if mask is not None:
        values[~mask] = 0


def _write_array(path: Path, array: np.ndarray) -> None:
    with replacing(path) as temporary, temporary.open("wb") as stream:
        np.save(stream, array, allow_pickle=False)


def _write_json(path: Path, record: dict) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
