"""Data elements of DICOM files as other programs store them, and of files that are damaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from e2enet.data.images.dicom.elements import PER_FRAME, PLANE_POSITION, read_elements

Frames = Callable[..., Path]
SLICES = np.arange(3 * 4 * 6, dtype=np.int16).reshape(3, 4, 6)


def heights(path: Path) -> list[float]:
    elements = read_elements(path)
    assert elements is not None
    assert elements.pixels == 144
    places = [frame.item(PLANE_POSITION) for frame in elements.sequences[PER_FRAME]]
    return [float(place.text(0x0020_0032).split("\\")[2]) for place in places if place]


@pytest.mark.parametrize("explicit", [True, False])
@pytest.mark.parametrize("undefined", [True, False])
def test_sequences_of_any_kind(
    tmp_path: Path, dicom_frames: Frames, explicit: bool, undefined: bool
) -> None:
    pydicom = pytest.importorskip("pydicom")
    path = dicom_frames(tmp_path / "a", SLICES)
    stored = pydicom.dcmread(path)
    private = pydicom.Dataset()
    private.add_new(0x2005_1010, "LO", "text")
    stored.add_new(0x2005_0010, "LO", "maker")
    stored.add_new(0x2005_1020, "SQ", [private, private])
    stored.add_new(0x2005_1030, "OB", bytes(5000))
    icon = pydicom.Dataset()
    icon.Rows = 2
    stored.IconImageSequence = [icon]
    for element in stored.iterall():
        if element.VR == "SQ":
            element.is_undefined_length = undefined
            for one in element.value:
                one.is_undefined_length_sequence_item = undefined
    stored.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1" if explicit else "1.2.840.10008.1.2"
    pydicom.dcmwrite(path, stored, implicit_vr=not explicit, little_endian=True)
    assert heights(path) == [3.0, 5.5, 8.0]


def test_a_private_sequence_of_unknown_kind(tmp_path: Path, dicom_frames: Frames) -> None:
    """Other programs store it as UN of undefined length, which hides an implicit sequence."""
    path = dicom_frames(tmp_path / "a", SLICES)
    inner = b"\x05\x20\x10\x10\x04\0\0\0text"
    hidden = (
        b"\x05\x20\x20\x10UN\0\0\xff\xff\xff\xff"
        + b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + inner + b"\xfe\xff\x0d\xe0\0\0\0\0"
        + b"\xfe\xff\xdd\xe0\0\0\0\0"
    )  # fmt: skip
    before, groups, after = path.read_bytes().partition(b"\x00\x52\x29\x92SQ")
    path.write_bytes(before + hidden + groups + after)
    assert heights(path) == [3.0, 5.5, 8.0]


def test_damaged_files(tmp_path: Path, dicom_frames: Frames) -> None:
    path = dicom_frames(tmp_path / "a", SLICES)
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):  # never hangs, never raises
        path.write_bytes(whole[:length])
        read_elements(path)
    nested = b"\x00\x52\x29\x92\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    path.write_bytes(whole[:132] + nested * 5000)
    assert read_elements(path) is None
    assert read_elements(tmp_path) is None
