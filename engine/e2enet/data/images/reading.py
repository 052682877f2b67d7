"""Opening an image file: whatever is not whole and scalar is refused with a sentence.

An image of two dimensions is a volume of one slice.
"""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from e2enet.data.axes import times
from e2enet.data.images.dicom.headers import SERIES_UID
from e2enet.data.images.dicom.series import Series, choose_series, find_series, series_of
from e2enet.data.images.dicom.stacking import read_series
from e2enet.data.images.dicom.zipped import folder_of, is_zip
from e2enet.data.images.silence import quiet
from e2enet.events import BadInput

_PACKED = (".nii.gz", ".nii", ".mha", ".nrrd")
_LARGEST_DEFLATE_RATIO = 1032


@dataclass(frozen=True)
class Opened:
    """An image as it was found.

    Attributes:
        image: Scalar, of three dimensions.
        series_uid: Series Instance UID; "" for what is no DICOM series.
        notes: (code, sentence) of what a person should know.
    """

    image: sitk.Image
    series_uid: str = ""
    notes: tuple[tuple[str, str], ...] = ()


def open_image(path: Path, *, series: str | None = None, modality: str = "") -> Opened:
    """A 3D scalar image from a file, a DICOM folder, a zip of one, or one file of a DICOM series.

    One of two dimensions becomes a volume of one slice, its spacing 1 mm along z.

    Args:
        path: The file or folder.
        series, modality: Which series of a DICOM folder or zip
            (`e2enet.data.images.dicom.series.choose_series`).

    Raises:
        BadInput: see `images.read_image`.
    """
    if path.is_dir() or is_zip(path):
        return _open_series(path, series, modality)
    if series is not None:
        raise BadInput(
            f"{path.name} is no folder or zip of DICOM files in which a series could be chosen.",
            help="Leave --series out.",
            code="no-dicom",
        )
    return _open_file(path, modality)


def _open_series(path: Path, wanted: str | None, modality: str) -> Opened:
    with folder_of(path) as folder:
        found = find_series(folder)
        series = choose_series(found, path.name, wanted=wanted, modality=modality)
        image = read_series(series, path.name)
    notes = _other_modality(series, path.name, modality)
    if len(found) > 1:
        note = f"Of the {len(found)} DICOM series in {path.name}, this is {series.describe()}."
        notes = (("series-chosen", note), *notes)
    return Opened(image, series.uid, notes)


def _other_modality(series: Series, name: str, modality: str) -> tuple[tuple[str, str], ...]:
    if not series.modality or series.fits(modality):
        return ()
    note = f"{name} is {series.modality}, but the model was made for {modality.upper()}."
    return (("other-modality", note),)


def _open_file(path: Path, modality: str) -> Opened:
    if not path.exists():
        raise BadInput(f"{path} does not exist.", code="missing-file")
    if path.name.lower().endswith((".mha", ".mhd")):
        _check_metaimage(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(os.fspath(path))
    try:
        with quiet():
            reader.ReadImageInformation()
    except RuntimeError as error:
        raise _unreadable(path, error) from error
    if reader.HasMetaDataKey(SERIES_UID):
        series = series_of(path)
        notes = _other_modality(series, path.name, modality)
        return Opened(read_series(series, path.name), series.uid, notes)
    _check_header(reader, path)
    if reader.GetDimension() > 3:
        # A fourth axis of length one is a 3D image in disguise.
        reader.SetExtractSize([*reader.GetSize()[:3], *[0] * (reader.GetDimension() - 3)])
    try:
        with quiet():
            image = reader.Execute()
    except (RuntimeError, MemoryError) as error:
        check_complete(path, reader)
        raise _unreadable(path, error) from error
    if not _is_all_of(image, path, reader):
        check_complete(path, reader)
    image = sitk.JoinSeries(image) if image.GetDimension() == 2 else image
    return Opened(image)


def _check_metaimage(path: Path) -> None:
    """Refuse a MetaImage header on which the library would end the whole process."""
    with open(path, "rb") as stream:
        header = stream.read(1 << 16).split(b"ElementDataFile")[0]
    lines = [line.partition(b"=") for line in header.splitlines()]
    fields = {name.strip(): value.strip() for name, _, value in lines}
    try:
        dimensions = int(fields[b"NDims"])
        sizes = [int(n) for n in fields[b"DimSize"].split()]
        whole = 1 <= dimensions <= 10 and len(sizes) == dimensions and min(sizes) > 0
        whole = whole and int(fields.get(b"ElementNumberOfChannels", 1)) > 0
    except (KeyError, ValueError):
        whole = False
    if not whole:
        raise BadInput(
            f"{path.name} has a damaged header: its number of dimensions or its size is wrong.",
            help="Export the image again.",
            code="bad-header",
        )


def _check_header(reader: sitk.ImageFileReader, path: Path) -> None:
    size = reader.GetSize()
    if reader.GetNumberOfComponents() != 1:
        raise BadInput(
            f"{path.name} holds {reader.GetNumberOfComponents()} values in every voxel (a colour, "
            "vector or tensor image); a scalar volume is needed.",
            help="Extract one component, or give each channel as its own file.",
            code="not-scalar",
        )
    if "complex" in sitk.GetPixelIDValueAsString(reader.GetPixelIDValue()):
        raise BadInput(f"{path.name} is a complex-valued image.", code="not-scalar")
    if len(size) > 3 and any(n > 1 for n in size[3:]):
        raise BadInput(
            f"{path.name} has {len(size)} dimensions ({times(size)}); a 3D volume is needed.",
            help="Choose one volume of the series, or give each channel as its own file.",
            code="not-3d",
        )
    if sum(n > 1 for n in size[:3]) < 2:
        raise BadInput(
            f"{path.name} is no image: it has {times(size)} voxels.",
            help="Give a volume, or an image with at least two rows and columns.",
            code="too-small",
        )
    grid = (*reader.GetSpacing()[:3], *reader.GetOrigin()[:3], *reader.GetDirection())
    if not all(math.isfinite(v) for v in grid) or min(reader.GetSpacing()[:3]) <= 0:
        raise BadInput(
            f"{path.name} has a damaged header: spacing {times(reader.GetSpacing())} mm, "
            f"origin {times(reader.GetOrigin())}.",
            help="Export the image again.",
            code="bad-header",
        )
    if path.name.lower().endswith(_PACKED):
        # A header that promises more than the file can hold must not cost the memory it promises.
        promised, held = math.prod(size), path.stat().st_size
        if promised > held * _LARGEST_DEFLATE_RATIO + 4096:
            raise BadInput(
                f"{path.name} is damaged: its header promises {times(size)} voxels, but the file "
                f"has only {held} bytes.",
                help="Copy or export the image again.",
                code="damaged-file",
            )


def check_written(path: Path, image: sitk.Image) -> None:
    """Refuse a NIfTI file that holds less than the image that was written to it.

    Raises:
        BadInput: the file ends too early.
        RuntimeError: not an image.
    """
    reader = sitk.ImageFileReader()
    reader.SetFileName(os.fspath(path))
    with quiet():
        reader.ReadImageInformation()
    if not _is_all_of(image, path, reader):
        check_complete(path, reader)


def check_complete(path: Path, reader: sitk.ImageFileReader) -> None:
    """Refuse a NIfTI file that ends too early: the library reads zeros, or writes no more.

    Args:
        path: any image file; other formats pass, their library notices itself.
        reader: stands on the file and has read its information.

    Raises:
        BadInput: the file ends too early or its compression is broken.
    """
    if not reader.HasMetaDataKey("nifti_type"):
        return
    data = path
    if path.name.lower().endswith((".hdr", ".hdr.gz")):
        stem = path.name[: path.name.lower().rindex(".hdr")]
        found = [path.with_name(stem + end) for end in (".img", ".img.gz", ".IMG")]
        data = next((one for one in found if one.is_file()), path)
    try:
        needed = math.prod(reader.GetSize()) * int(reader.GetMetaData("bitpix")) // 8
        needed += int(float(reader.GetMetaData("vox_offset")))
    except (RuntimeError, ValueError):
        needed = 0
    try:
        held = _length(data)
    except (OSError, EOFError, zlib.error):
        held = -1
    if held < needed:
        raise BadInput(
            f"{path.name} is damaged: its data end too early or its compression is broken.",
            help="Copy or download it again.",
            code="damaged-file",
        )


def _is_all_of(image: sitk.Image, path: Path, reader: sitk.ImageFileReader) -> bool:
    """Whether a compressed NIfTI file surely holds nothing else than its header and these voxels.

    The checksum at its end then is theirs, which takes a fifth of decompressing it once more. False
    says nothing: the library may have scaled the voxels, or turned their bytes.
    """
    try:
        if not path.name.lower().endswith(".nii.gz"):
            return False
        before = int(float(reader.GetMetaData("vox_offset")))
        with open(path, "rb") as stream:
            header = zlib.decompressobj(wbits=31).decompress(stream.read(1 << 14), before)
            stream.seek(-8, os.SEEK_END)
            checksum, length = struct.unpack("<II", stream.read())
    except (RuntimeError, ValueError, OSError, zlib.error):
        return False
    voxels = sitk.GetArrayViewFromImage(image)
    if len(header) != before or length != (before + voxels.nbytes) % 2**32:
        return False
    return checksum == zlib.crc32(np.ascontiguousarray(voxels).data, zlib.crc32(header))


def _length(path: Path) -> int:
    """Bytes of a file once decompressed. Raises OSError, EOFError or zlib.error if damaged."""
    with open(path, "rb") as stream:
        if stream.read(2) != b"\x1f\x8b":
            return path.stat().st_size
    length = 0
    with gzip.open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            length += len(block)
    return length


def _unreadable(path: Path, error: BaseException) -> BadInput:
    if isinstance(error, MemoryError) or "allocate memory" in str(error):
        return BadInput(
            f"{path.name} does not fit into memory.",
            help="Close other programs, or crop the image.",
            code="out-of-memory",
        )
    if path.stat().st_size == 0:
        return BadInput(f"{path.name} is empty.", code="damaged-file")
    return BadInput(
        f"{path.name} cannot be read as an image: it is damaged or in a format that is not "
        "supported.",
        help="NIfTI-1, NRRD, MHA and DICOM are read; try to open and export it again.",
        code="unreadable-image",
    )
