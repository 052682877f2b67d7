"""The slices of one series as a volume: sorted in space, complete and evenly spaced."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from e2enet.data.images.dicom.series import Series, choose_series, find_series, series_of
from e2enet.data.images.dicom.slices import Slice, slices_of
from e2enet.data.images.dicom.zipped import folder_of
from e2enet.data.images.silence import quiet
from e2enet.events import BadInput


def read_series(series: Series, name: str) -> sitk.Image:
    """Read a series as a float32 image.

    Args:
        series: Its images in any order.
        name: What messages call it.

    Raises:
        BadInput: A missing slice, uneven spacing, slices that differ, are damaged or do not say
            where they lie.
    """
    slices, spacing = _sorted_slices(series, name)
    several_frames = any(header.frames > 1 for header in series.headers)
    try:
        with quiet():
            image = _read_frames(slices) if several_frames else _read_files(slices)
    except (RuntimeError, MemoryError) as error:
        raise BadInput(
            f"{name} holds a damaged DICOM file.",
            help="Export the series again.",
            code="damaged-file",
        ) from error
    image.SetSpacing((*slices[0].spacing, spacing))
    image.SetOrigin(tuple(slices[0].position))
    image.SetDirection(_direction(slices[0].rows))
    return image


def _read_files(slices: list[Slice]) -> sitk.Image:
    reader = sitk.ImageSeriesReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileNames([os.fspath(one.path) for one in slices])
    reader.SetOutputPixelType(sitk.sitkFloat32)
    return reader.Execute()


def _read_frames(slices: list[Slice]) -> sitk.Image:
    array = np.empty((len(slices), *slices[0].size[::-1]), np.float32)
    for path in {one.path for one in slices}:
        own = [(z, one) for z, one in enumerate(slices) if one.path == path]
        first = next(one for _, one in own if one.frame == 0)
        reader = sitk.ImageFileReader()
        reader.SetImageIO("GDCMImageIO")
        reader.SetFileName(os.fspath(path))
        same = all(one.scale == first.scale for _, one in own)
        reader.SetOutputPixelType(sitk.sitkFloat32 if same else sitk.sitkFloat64)
        image = reader.Execute()
        frames = sitk.GetArrayViewFromImage(image).reshape(-1, *array.shape[1:])
        for z, one in own:
            array[z] = _rescaled(frames[one.frame], first.scale, one)
    return sitk.GetImageFromArray(array)


def _rescaled(values: np.ndarray, applied: tuple[float, float], one: Slice) -> np.ndarray:
    """A frame with its own slope and intercept; the library applies those of the first to all."""
    if one.scale == applied:
        return values
    slope, intercept = applied  # the library refuses a slope of 0
    return np.rint((values - intercept) / slope) * one.scale[0] + one.scale[1]


@dataclass(frozen=True)
class Source:
    """The files of a series in the order of its slices, and where its voxels lie.

    Attributes:
        files: One a slice, or one of several frames.
        frames: Of one file of several frames, which one each slice is, from 0; else empty.
        size_xyz, spacing_xyz, origin_xyz, direction: As `e2enet.data.images.volume.Grid`.
    """

    files: list[Path]
    frames: list[int]
    size_xyz: tuple[int, ...]
    spacing_xyz: tuple[float, ...]
    origin_xyz: tuple[float, ...]
    direction: tuple[float, ...]


@contextmanager
def open_source(path: Path, series: str | None = None, *, likely: str = "") -> Iterator[Source]:
    """The files of a series, while the block runs.

    Args:
        path: A DICOM folder, a zip of one, or one file of the series.
        series: Which of a folder's or zip's series (`choose_series`).
        likely: UID of the one that is meant where nothing is said, if it is there.

    Raises:
        BadInput: No such series, none that is a volume, or one in several files of several frames.
    """
    with folder_of(path) as folder:
        if folder.is_dir():
            found = find_series(folder)
            if series is None and any(one.uid == likely for one in found):
                series = likely
            chosen = choose_series(found, path.name, wanted=series)
        else:
            chosen = series_of(path)
        slices, spacing = _sorted_slices(chosen, path.name)
        first = slices[0]
        several_frames = any(header.frames > 1 for header in chosen.headers)
        if several_frames and len(chosen.headers) > 1:
            raise BadInput(
                f"{path.name} is a volume in {len(chosen.headers)} files of several frames, to "
                "which no DICOM SEG can refer.",
                help="Export the series as one file, or as one file a slice.",
                code="dicom-several-files",
            )
        yield Source(
            [first.path] if several_frames else [one.path for one in slices],
            [one.frame for one in slices] if several_frames else [],
            (*first.size, len(slices)),
            (*first.spacing, spacing),
            tuple(first.position.tolist()),
            _direction(first.rows),
        )


def _direction(rows: np.ndarray) -> tuple[float, ...]:
    return tuple(np.column_stack((*rows, np.cross(*rows))).ravel().tolist())


def _sorted_slices(series: Series, name: str) -> tuple[list[Slice], float]:
    """The slices along their normal, and their distance in mm."""
    slices = [one for header in series.headers for one in slices_of(header, name)]
    if len(slices) == 1:
        raise BadInput(
            f"{name} is a single slice; a 3D volume is needed.",
            help="Put all files of the series into one folder.",
            code="single-slice",
        )
    first = slices[0]
    for other in slices[1:]:
        if (
            other.size != first.size
            or not np.allclose(other.spacing, first.spacing, rtol=1e-4)
            or not np.allclose(other.rows, first.rows, atol=1e-3)
        ):
            raise BadInput(
                f"{name} mixes slices of different size or orientation "
                f"({first.name} and {other.name}).",
                help="Leave scout images out of the folder.",
                code="dicom-mixed",
            )
    if first.components != 1:
        raise BadInput(f"{name} holds colour images; a scalar volume is needed.", code="not-scalar")
    normal = np.cross(*first.rows)
    heights = np.array([float(s.position @ normal) for s in slices])
    order = np.argsort(heights, kind="stable")
    slices, heights = [slices[i] for i in order], heights[order]
    return slices, _even_spacing(slices, heights, normal, name)


def _even_spacing(slices: list[Slice], heights: np.ndarray, normal: np.ndarray, name: str) -> float:
    """The distance between slices in mm, or BadInput where it is not one."""
    gaps = np.diff(heights)
    usual = float(np.median(gaps))
    if gaps.min() < 1e-3:
        raise BadInput(
            f"{name} holds several slices at the same place, such as a time series.",
            help="Put one volume into a folder or file of its own.",
            code="dicom-repeated-slice",
        )
    wrong = np.flatnonzero(np.abs(gaps - usual) > max(0.02 * usual, 0.01))
    if wrong.size:
        at = int(wrong[0])
        between = f"between {slices[at].name} and {slices[at + 1].name}"
        if gaps[at] > 1.5 * usual:
            raise BadInput(
                f"{name} misses a slice: {gaps[at]:.2f} mm {between}, {usual:.2f} mm elsewhere.",
                help="Export the whole series again.",
                code="dicom-missing-slice",
            )
        raise BadInput(
            f"{name} is unevenly spaced: {gaps[at]:.2f} mm {between}, {usual:.2f} mm elsewhere.",
            help="Resample the series to an even spacing first.",
            code="dicom-uneven",
        )
    track = slices[-1].position - slices[0].position
    sideways = float(np.linalg.norm(track - (track @ normal) * normal))
    if sideways > 0.1 * usual + 0.01:
        raise BadInput(
            f"{name} was taken with a tilted gantry: its slices are shifted by {sideways:.1f} mm "
            "against each other.",
            help="Correct the tilt first (3D Slicer does so on import).",
            code="dicom-tilted",
        )
    return float(gaps.mean())
