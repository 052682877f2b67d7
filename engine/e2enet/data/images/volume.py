"""Reading and writing volumes, with their geometry kept exactly.

Every image format goes through SimpleITK; DICOM series are sorted in space (see `dicom.py`).
Whatever cannot be a 3D volume is refused with one sentence (`BadInput`).
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from e2enet.data.axes import three, times
from e2enet.data.images.reading import check_written, open_image
from e2enet.data.images.silence import quiet
from e2enet.events import BadInput, Reporter
from e2enet.files import not_writable, replacing

WRITABLE = (".nii.gz", ".nii", ".nrrd", ".mha", ".png")
_LARGEST_LABEL = 32767
# No medical quantity is this large, and a variance of such values has no place in float32.
_LARGEST_VALUE = 1e15


@dataclass(frozen=True)
class Grid:
    """Where the voxels of a volume lie in the patient (LPS, mm).

    Args:
        size_xyz: voxels along the image's x, y and z axis (a numpy array has them as z, y, x).
        spacing_xyz: distance of neighbouring voxel centres along each axis, in mm.
        origin_xyz: position of the centre of voxel (0, 0, 0), in mm, LPS.
        direction: nine numbers, row by row; column j is the direction of axis j. May be
            left-handed (determinant -1).
    """

    size_xyz: tuple[int, int, int]
    spacing_xyz: tuple[float, float, float]
    origin_xyz: tuple[float, float, float] = (0.0, 0.0, 0.0)
    direction: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)

    @classmethod
    def from_image(cls, image: sitk.Image | sitk.ImageFileReader) -> Grid:
        """The grid of a 3D SimpleITK image (or of a reader that has read its information)."""
        return cls(
            three(int(n) for n in image.GetSize()),
            three(float(v) for v in image.GetSpacing()),
            three(float(v) for v in image.GetOrigin()),
            tuple(float(v) for v in image.GetDirection()),
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the numpy array on this grid: (z, y, x)."""
        return three(reversed(self.size_xyz))

    @property
    def spacing_zyx(self) -> tuple[float, float, float]:
        """Spacing in the order of the numpy axes, in mm."""
        return three(reversed(self.spacing_xyz))

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in mL."""
        return math.prod(self.spacing_xyz) / 1000.0

    def part(self, inside: tuple[slice, slice, slice]) -> Grid:
        """The grid of some of its voxels (z, y, x)."""
        first = np.array([float(part.start) for part in reversed(inside)])
        matrix = np.reshape(self.direction, (3, 3)) * np.asarray(self.spacing_xyz)
        return Grid(
            three(part.stop - part.start for part in reversed(inside)),
            self.spacing_xyz,
            three(float(v) for v in matrix @ first + np.asarray(self.origin_xyz)),
            self.direction,
        )

    def corners(self) -> np.ndarray:
        """Positions of the eight corner voxels' centres: (8, 3), mm, LPS."""
        index = np.array(list(itertools.product(*((0, n - 1) for n in self.size_xyz))), float)
        matrix = np.reshape(self.direction, (3, 3)) * np.asarray(self.spacing_xyz)
        return index @ matrix.T + np.asarray(self.origin_xyz)

    def same_as(self, other: Grid, tolerance: float | None = None) -> bool:
        """Whether both grids put every voxel at the same place.

        Args:
            other: the grid to compare with.
            tolerance: largest distance of corresponding corner voxels in mm; by default 1e-3 mm
                or one hundredth of the smallest spacing, whichever is larger, which covers the
                single precision of NIfTI headers.
        """
        return self.difference(other, tolerance) is None

    def difference(self, other: Grid, tolerance: float | None = None) -> str | None:
        """What differs between the grids, in words, or None (arguments as `same_as`)."""
        if self.size_xyz != other.size_xyz:
            return f"{times(self.size_xyz)} against {times(other.size_xyz)} voxels"
        if tolerance is None:
            tolerance = max(1e-3, 0.01 * min(self.spacing_xyz))
        if not np.allclose(self.spacing_xyz, other.spacing_xyz, rtol=1e-3, atol=1e-6):
            ours, theirs = times(self.spacing_xyz), times(other.spacing_xyz)
            return f"a spacing of {ours} against {theirs} mm"
        distance = float(np.linalg.norm(self.corners() - other.corners(), axis=1).max())
        if not distance <= tolerance:
            return f"positions up to {distance:.3g} mm apart"
        return None

    def image(self, array: np.ndarray) -> sitk.Image:
        """A SimpleITK image of an array (z, y, x) on this grid."""
        image = sitk.GetImageFromArray(np.ascontiguousarray(array))
        image.SetSpacing(self.spacing_xyz)
        image.SetOrigin(self.origin_xyz)
        image.SetDirection(self.direction)
        return image


@dataclass(frozen=True)
class Volume:
    """A scalar 3D image: array (z, y, x) on a grid; a 2D image has one slice.

    `name` is what messages call it; `warnings` are (code, sentence) pairs from reading it;
    `series_uid` is the Series Instance UID of a DICOM series.
    """

    array: np.ndarray
    grid: Grid
    name: str = "image"
    warnings: tuple[tuple[str, str], ...] = ()
    series_uid: str = ""


def read_image(
    path: str | os.PathLike,
    *,
    series: str | None = None,
    modality: str = "",
    reporter: Reporter | None = None,
) -> Volume:
    """Read an image file or a DICOM series as float32.

    NaN and infinite voxels do not stop the reading, because masked images are often stored so:
    NaN and -Inf become the lowest finite value, or 0 where nothing is below 0 (air in CT,
    background in MR), +Inf becomes the highest finite value, and a warning says how many. Values
    of 1e15 and more count as infinite. (In NIfTI files the reading library itself turns NaN and
    Inf into 0, without a word.)

    Args:
        path: a file in any format SimpleITK reads, a DICOM folder or a zip of one, or one file
            of a DICOM series (then that series is read from the file's folder).
        series: which series of a DICOM folder or zip: its number, a part of its description, or
            its UID; by default the only one that is a volume of the modality.
        modality: "MR", "CT", or "" for any; used where a series is looked for.
        reporter: gets the warnings; they are also in `Volume.warnings`.

    Returns:
        Volume with a float32 array (z, y, x).

    Raises:
        BadInput: missing, not an image, damaged, more than three dimensions, not scalar, no
            finite voxel; a DICOM folder with several series or patients, a missing slice or
            uneven spacing.
    """
    path = Path(path)
    opened = open_image(path, series=series, modality=modality)
    image = opened.image
    read = Volume(
        sitk.GetArrayViewFromImage(image), Grid.from_image(image), path.name, opened.notes,
        opened.series_uid,
    )  # fmt: skip
    return _checked(read, reporter)


def read_label(path: str | os.PathLike) -> Volume:
    """Read a label map; float files are accepted if every voxel is a whole number.

    Returns:
        Volume with an array (z, y, x), uint8 or, with a label above 255, int16.

    Raises:
        BadInput: as `read_image`, and NaN, fractions, negative labels or labels above 32767.
    """
    path = Path(path)
    image = open_image(path).image
    array = sitk.GetArrayFromImage(image)
    if array.dtype.kind == "f":
        rounded = np.rint(array)
        # Comparing with <= also catches NaN and Inf, for which it is false.
        with np.errstate(invalid="ignore"):
            whole = bool((np.abs(array - rounded) <= 1e-3).all())
        if not whole:
            raise BadInput(
                f"{path.name} holds values that are not whole numbers, so it is not a label map.",
                help="Give a label map; probabilities have to be thresholded first.",
                code="label-not-integral",
            )
        array = rounded
    low, high = array.min(), array.max()
    if low < 0 or high > _LARGEST_LABEL:
        raise BadInput(
            f"{path.name} holds the label {low if low < 0 else high:g}; labels lie between 0 and "
            f"{_LARGEST_LABEL}.",
            help="Renumber the labels.",
            code="label-out-of-range",
        )
    array = array.astype(np.uint8 if high <= 255 else np.int16)
    return Volume(array, Grid.from_image(image), path.name)


def read_channels(
    channels: Sequence[str | os.PathLike | Volume],
    *,
    series: Sequence[str | None] | None = None,
    modality: str = "",
    reporter: Reporter | None = None,
) -> list[Volume]:
    """Read the channels of one case and check that they lie on the same grid.

    Args:
        channels: A path each, as `read_image` takes it, or an image, which is checked like one.
        series: Which DICOM series each is, as `read_image`.
        modality, reporter: As `read_image`.

    Raises:
        BadInput: as `read_image`, and channels on different grids.
    """
    volumes = [
        _checked(channel, reporter)
        if isinstance(channel, Volume)
        else read_image(channel, series=one, modality=modality, reporter=reporter)
        for channel, one in zip(channels, series or [None] * len(channels), strict=True)
    ]
    for volume in volumes[1:]:
        check_same_grid(volumes[0], volume)
    return volumes


def check_same_grid(first: Volume, second: Volume) -> None:
    """Raise BadInput unless both volumes lie on the same grid."""
    difference = first.grid.difference(second.grid)
    if difference:
        raise BadInput(
            f"{first.name} and {second.name} lie on different grids: {difference}.",
            help="Resample one onto the other first.",
            code="grid-mismatch",
        )


def write_label(path: str | os.PathLike, array: np.ndarray, grid: Grid) -> None:
    """Write a label map (z, y, x), compressed, under a temporary name that is then renamed.

    Raises:
        BadInput: an ending that cannot be written, a label outside 0 … 32767, no space left.
    """
    high = int(array.max(initial=0))
    if high > _LARGEST_LABEL or int(array.min(initial=0)) < 0:
        raise BadInput(
            f"{Path(path).name} cannot be written: a label is outside 0 … {_LARGEST_LABEL}.",
            code="label-out-of-range",
        )
    wide = np.uint16 if Path(path).suffix.lower() == ".png" else np.int16
    write_image(path, array.astype(np.uint8 if high <= 255 else wide, copy=False), grid)


def write_image(path: str | os.PathLike, array: np.ndarray, grid: Grid) -> None:
    """Write an array (z, y, x) as an image, atomically and compressed.

    Raises:
        BadInput: an ending that cannot be written, PNG for more than one slice, a folder that is
            missing, no space left.
    """
    path = Path(path)
    if array.shape != grid.shape:
        raise ValueError(f"array of shape {array.shape} on a grid of {grid.shape}")
    ending = next((e for e in WRITABLE if path.name.lower().endswith(e)), None)
    if ending is None:
        raise BadInput(
            f"{path.name} cannot be written: the ending is none of {', '.join(WRITABLE)}.",
            help="Choose a name that ends in .nii.gz.",
            code="output-format",
        )
    if ending == ".png" and (len(array) > 1 or array.dtype.kind != "u"):
        raise BadInput(
            f"{path.name} cannot be written: PNG takes whole numbers in a single slice.",
            help="Choose a name that ends in .nii.gz.",
            code="output-format",
        )
    if not path.parent.is_dir():
        raise BadInput(
            f"{path.name} cannot be written: the folder {path.parent} does not exist.",
            code="output-folder",
        )
    try:
        with replacing(path, ending) as temporary:
            image = grid.image(array)
            with quiet():
                sitk.WriteImage(image, os.fspath(temporary), useCompression=True)
            check_written(temporary, image)
    except (RuntimeError, OSError, BadInput) as error:
        raise not_writable(path) from error


def _checked(volume: Volume, reporter: Reporter | None) -> Volume:
    """A volume as float32 with every voxel finite; its warnings are told."""
    if volume.array.shape != volume.grid.shape:
        raise BadInput(
            f"{volume.name} is an array of {times(volume.array.shape)} voxels on a grid of "
            f"{times(volume.grid.shape)} (z, y, x).",
            help="Arrays are in the order z, y, x, grids in the order x, y, z.",
            code="grid-mismatch",
        )
    array, replaced = _finite(volume.array, volume.name)
    warnings = (*volume.warnings, *replaced)
    if reporter is not None:
        for code, message in warnings:
            reporter.warning(code, message)
    return replace(volume, array=array, warnings=warnings)


def _finite(array: np.ndarray, name: str) -> tuple[np.ndarray, tuple[tuple[str, str], ...]]:
    """Array as float32 with every voxel finite, and the warnings."""
    with np.errstate(over="ignore"):
        array = array.astype(np.float32)
    # A NaN makes both extremes NaN and every comparison false.
    if array.min() > -_LARGEST_VALUE and array.max() < _LARGEST_VALUE:
        return array, ()
    finite = np.abs(array) < _LARGEST_VALUE
    wrong = int(array.size - np.count_nonzero(finite))
    if wrong == array.size:
        raise BadInput(
            f"{name} holds no finite voxel (all are NaN or infinite).",
            help="Export the image again.",
            code="not-finite",
        )
    low, high = float(array[finite].min()), float(array[finite].max())
    above = array >= _LARGEST_VALUE
    array = np.where(finite, array, np.float32(min(0.0, low)))
    array[above] = high
    message = f"{name} holds {wrong} NaN or infinite voxels; they were replaced."
    return array, (("not-finite", message),)
