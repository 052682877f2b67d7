"""The slices of one series as a volume: sorted in space, complete and evenly spaced."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from e2enet.data.images.dicom.headers import Header
from e2enet.data.images.dicom.series import Series, choose_series, find_series, series_of
from e2enet.data.images.dicom.zipped import folder_of
from e2enet.data.images.silence import quiet
from e2enet.events import BadInput


@dataclass(frozen=True)
class _Slice:
    path: str
    size: tuple[int, ...]
    spacing: tuple[float, ...]
    position: np.ndarray  # (3,) mm, LPS
    rows: np.ndarray  # (2, 3) direction of the x and the y axis
    components: int


def read_series(series: Series, name: str) -> sitk.Image:
    """Read a series as a float32 image.

    Args:
        series: Its images in any order.
        name: What messages call it.

    Raises:
        BadInput: A missing slice, uneven spacing, slices that differ or are damaged.
    """
    slices, spacing = _sorted_slices(series, name)
    reader = sitk.ImageSeriesReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileNames([s.path for s in slices])
    reader.SetOutputPixelType(sitk.sitkFloat32)
    try:
        with quiet():
            image = reader.Execute()
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


@dataclass(frozen=True)
class Source:
    """The files of a series in the order of its slices, and where its voxels lie.

    Attributes:
        files: One a slice, or one of several frames.
        size_xyz, spacing_xyz, origin_xyz, direction: As `e2enet.data.images.volume.Grid`.
    """

    files: list[Path]
    size_xyz: tuple[int, ...]
    spacing_xyz: tuple[float, ...]
    origin_xyz: tuple[float, ...]
    direction: tuple[float, ...]


@contextmanager
def open_source(path: Path, series: str | None = None) -> Iterator[Source]:
    """The files of a series, while the block runs.

    Args:
        path: A DICOM folder, a zip of one, or one file of the series.
        series: Which of a folder's or zip's series (`choose_series`).

    Raises:
        BadInput: No such series, or none that is a volume.
    """
    with folder_of(path) as folder:
        if folder.is_dir():
            chosen = choose_series(find_series(folder), path.name, wanted=series)
        else:
            chosen = series_of(path)
        if chosen.whole_file:
            reader = sitk.ImageFileReader()
            reader.SetFileName(os.fspath(chosen.whole_file))
            with quiet():
                reader.ReadImageInformation()
            place = reader.GetSpacing(), reader.GetOrigin(), reader.GetDirection()
            yield Source([chosen.whole_file], reader.GetSize(), *place)
            return
        slices, spacing = _sorted_slices(chosen, path.name)
        first = slices[0]
        yield Source(
            [Path(one.path) for one in slices],
            (*first.size, len(slices)),
            (*first.spacing, spacing),
            tuple(first.position.tolist()),
            _direction(first.rows),
        )


def _direction(rows: np.ndarray) -> tuple[float, ...]:
    return tuple(np.column_stack((*rows, np.cross(*rows))).ravel().tolist())


def _slice(header: Header, name: str) -> _Slice:
    if header.position is None or header.rows is None:
        raise BadInput(
            f"{header.path.name} in {name} does not say where its slice lies in the patient.",
            help="Export the series again, with its positions.",
            code="dicom-no-position",
        )
    return _Slice(
        os.fspath(header.path),
        header.size[:2],
        header.spacing,
        header.position,
        header.rows,
        header.components,
    )


def _sorted_slices(series: Series, name: str) -> tuple[list[_Slice], float]:
    """The slices along their normal, and their distance in mm."""
    slices = [_slice(header, name) for header in series.headers]
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
                f"({Path(first.path).name} and {Path(other.path).name}).",
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


def _even_spacing(
    slices: list[_Slice], heights: np.ndarray, normal: np.ndarray, name: str
) -> float:
    """The distance between slices in mm, or BadInput where it is not one."""
    gaps = np.diff(heights)
    usual = float(np.median(gaps))
    if gaps.min() < 1e-3:
        raise BadInput(
            f"{name} holds several slices at the same place, such as a time series.",
            help="Put one volume into a folder of its own.",
            code="dicom-repeated-slice",
        )
    wrong = np.flatnonzero(np.abs(gaps - usual) > max(0.02 * usual, 0.01))
    if wrong.size:
        at = int(wrong[0])
        between = f"between {Path(slices[at].path).name} and {Path(slices[at + 1].path).name}"
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
