"""DICOM series: the slices of one series, sorted in space and checked for gaps."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from e2enet.data.images.silence import quiet
from e2enet.events import BadInput

_POSITION, _ORIENTATION = "0020|0032", "0020|0037"
_SERIES_UID, _DESCRIPTION, _MODALITY = "0020|000e", "0008|103e", "0008|0060"


@dataclass(frozen=True)
class _Slice:
    path: str
    size: tuple[int, ...]
    spacing: tuple[float, ...]
    position: np.ndarray  # (3,) mm, LPS
    rows: np.ndarray  # (2, 3) direction of the x and the y axis
    components: int


def is_single_slice(reader: sitk.ImageFileReader) -> bool:
    """Whether a reader that has read its information stands on one slice of a DICOM series."""
    size = reader.GetSize()
    return reader.HasMetaDataKey(_SERIES_UID) and (len(size) < 3 or size[2] == 1)


def read_folder(folder: Path) -> sitk.Image:
    """Read the one DICOM series in a folder as a float32 image.

    Raises:
        BadInput: no series or several, a missing slice, uneven spacing, slices that differ.
    """
    series = _series_in(folder)
    if not series:
        raise BadInput(
            f"{folder.name} holds no DICOM series.",
            help="Give an image file, or the folder in which the DICOM files lie.",
            code="no-dicom",
        )
    if len(series) > 1:
        found = "; ".join(_describe(files) for files in series.values())
        raise BadInput(
            f"{folder.name} holds {len(series)} DICOM series: {found}.",
            help="Choose one by giving the path of one of its files.",
            code="several-series",
        )
    return _read_series(next(iter(series.values())), folder.name)


def read_series_of(path: Path) -> sitk.Image:
    """Read the series that one DICOM file belongs to, from the file's folder."""
    for files in _series_in(path.parent).values():
        if any(os.path.samefile(file, path) for file in files):
            return _read_series(files, path.name)
    return _read_series([os.fspath(path)], path.name)


def _series_in(folder: Path) -> dict[str, list[str]]:
    with quiet():
        ids = sitk.ImageSeriesReader.GetGDCMSeriesIDs(os.fspath(folder))
        names = {
            uid: list(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(os.fspath(folder), uid))
            for uid in ids
        }
    return {uid: files for uid, files in names.items() if files}


def _describe(files: list[str]) -> str:
    reader = _information(files[0])
    text = " ".join(
        reader.GetMetaData(key).strip()
        for key in (_MODALITY, _DESCRIPTION)
        if reader is not None and reader.HasMetaDataKey(key)
    )
    return f"{text or 'unnamed'} ({len(files)} files, such as {Path(files[0]).name})"


def _information(file: str) -> sitk.ImageFileReader | None:
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(file)
    try:
        with quiet():
            reader.ReadImageInformation()
    except RuntimeError:
        return None
    return reader


def _slice(file: str, name: str) -> _Slice:
    reader = _information(file)
    if reader is None:
        raise BadInput(
            f"{Path(file).name} in {name} is damaged and cannot be read.",
            help="Export the series again.",
            code="damaged-file",
        )
    try:
        position = _numbers(reader, _POSITION, 3)
        rows = _numbers(reader, _ORIENTATION, 6).reshape(2, 3)
    except (ValueError, RuntimeError) as error:
        raise BadInput(
            f"{Path(file).name} in {name} does not say where its slice lies in the patient.",
            help="Export the series again, with its positions.",
            code="dicom-no-position",
        ) from error
    return _Slice(
        file,
        reader.GetSize()[:2],
        reader.GetSpacing()[:2],
        position,
        rows,
        reader.GetNumberOfComponents(),
    )


def _numbers(reader: sitk.ImageFileReader, key: str, count: int) -> np.ndarray:
    values = np.array([float(v) for v in reader.GetMetaData(key).split("\\")])
    if values.shape != (count,) or not np.isfinite(values).all():
        raise ValueError(key)
    return values


def _read_series(files: list[str], name: str) -> sitk.Image:
    slices = [_slice(file, name) for file in files]
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
    spacing = _even_spacing(slices, heights, normal, name)

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
    image.SetDirection(tuple(np.column_stack((*first.rows, normal)).ravel()))
    return image


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
