"""What one DICOM file says about its image, read without its pixels."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from e2enet.data.images.silence import quiet
from e2enet.events import BadInput

SERIES_UID = "0020|000e"
_POSITION, _ORIENTATION = "0020|0032", "0020|0037"
_SPACING, _BITS = "0028|0030", "0028|0100"
_PREAMBLE, _MAGIC = 128, b"DICM"
# A file without preamble begins with its first group, 0002 or 0008.
_FIRST_GROUPS = (b"\x02\x00", b"\x08\x00")
_SOP_CLASS = b"\x02\x00\x02\x00UI"
# CT, MR, PET and their enhanced forms: what cannot be read although it says so is damaged.
_IMAGES = tuple(b"1.2.840.10008.5.1.4.1.1." + end for end in (b"2", b"4", b"128", b"130"))


@dataclass(frozen=True)
class Header:
    """One DICOM image.

    Attributes:
        path: Its file.
        uid: Series Instance UID.
        patient: Patient ID and name.
        number, description, modality: Of the series; "" where the file does not say.
        localizer: Whether it is a scout image.
        size: Columns, rows and, in a file of several frames, frames.
        spacing: Of columns and rows in mm; None where the file does not say.
        position: (3,) of the first voxel in mm, LPS; None where the file does not say.
        rows: (2, 3) directions of the x and the y axis; None where the file does not say.
        components: Values a voxel.
        bits: That one value takes in the file.
    """

    path: Path
    uid: str
    patient: tuple[str, str]
    number: str
    description: str
    modality: str
    localizer: bool
    size: tuple[int, ...]
    spacing: tuple[float, ...] | None
    position: np.ndarray | None
    rows: np.ndarray | None
    components: int
    bits: int

    @property
    def frames(self) -> int:
        """Number of images in the file."""
        return self.size[2] if len(self.size) > 2 else 1


def read_header(path: Path) -> Header | None:
    """The header of a DICOM image; None for any other file.

    Raises:
        BadInput: It says that it is an image and cannot be read.
    """
    try:
        with open(path, "rb") as stream:
            start = stream.read(1024)
    except OSError:
        return None
    magic = start[_PREAMBLE : _PREAMBLE + len(_MAGIC)] == _MAGIC
    if not magic and start[:2] not in _FIRST_GROUPS:
        return None
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(os.fspath(path))
    try:
        with quiet():
            reader.ReadImageInformation()
    except RuntimeError:
        if magic and _sop_class(start) in _IMAGES:
            raise BadInput(
                f"{path.name} in {path.parent.name} is damaged and cannot be read.",
                help="Export the series again.",
                code="damaged-file",
            ) from None
        return None
    if not reader.HasMetaDataKey(SERIES_UID):
        return None

    def text(key: str) -> str:
        value = reader.GetMetaData(key).strip("\0 ") if reader.HasMetaDataKey(key) else ""
        # Bytes of another character set arrive as surrogates, which cannot be printed.
        return value.encode("utf-8", "replace").decode()

    position, rows = numbers(text(_POSITION), 3), numbers(text(_ORIENTATION), 6)
    bits = numbers(text(_BITS), 1)
    return Header(
        path,
        text(SERIES_UID),
        (text("0010|0020"), text("0010|0010")),
        text("0020|0011"),
        text("0008|103e"),
        text("0008|0060"),
        "LOCALIZER" in text("0008|0008").upper(),
        tuple(reader.GetSize()),
        spacing_of(text(_SPACING)),
        position,
        None if rows is None else rows.reshape(2, 3),
        reader.GetNumberOfComponents(),
        0 if bits is None else int(bits[0]),
    )


def spacing_of(text: str) -> tuple[float, float] | None:
    """The distance of columns and of rows in mm from PixelSpacing; None where it is not usable."""
    values = numbers(text, 2)
    if values is None or values.min() <= 0:
        return None
    return float(values[1]), float(values[0])


def numbers(text: str, count: int) -> np.ndarray | None:
    """The finite numbers of a value; None where there are more or fewer of them."""
    try:
        values = np.array([float(v) for v in text.split("\\")])
    except ValueError:
        return None
    return values if values.shape == (count,) and np.isfinite(values).all() else None


def _sop_class(start: bytes) -> bytes:
    """SOP class of the file meta information, which is always explicit and little-endian."""
    at = start.find(_SOP_CLASS)
    if at < 0:
        return b""
    length = int.from_bytes(start[at + 6 : at + 8], "little")
    return start[at + 8 : at + 8 + length].rstrip(b"\0 ")
