"""What is sent is a volume of a size that was agreed to, or is refused."""

from __future__ import annotations

import gzip
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from e2enet.events import BadInput
from e2enet.service.jobs.uploads import check_upload


def nifti(path: Path, shape: tuple[int, ...] = (4, 5, 6)) -> Path:
    sitk.WriteImage(sitk.GetImageFromArray(np.ones(shape, np.int16)), os.fspath(path))
    return path


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_nifti_is_taken_whatever_it_is_called(tmp_path: Path, ending: str) -> None:
    path = nifti(tmp_path / f"a{ending}").rename(tmp_path / "sent")
    assert check_upload(path, 10_000) == ending


def test_the_second_version_and_the_other_byte_order(tmp_path: Path) -> None:
    path = tmp_path / "sent"
    for order in "<>":
        head = struct.pack(order + "i8s", 540, b"n+2\0\r\n\x1a\n").ljust(16, b"\0")
        head += struct.pack(order + "8q", 3, 4, 5, 6, 1, 1, 1, 1)
        path.write_bytes(head.ljust(1000, b"\0"))
        assert check_upload(path, 10_000) == ".nii"
        first = struct.pack(order + "i", 348).ljust(40, b"\0")
        first += struct.pack(order + "8h", 3, 4, 5, 6, 1, 1, 1, 1)
        path.write_bytes(first.ljust(344, b"\0") + b"n+1\0" + bytes(500))
        assert check_upload(path, 10_000) == ".nii"


def test_what_is_no_nifti(tmp_path: Path) -> None:
    outside = tmp_path / "outside.raw"
    outside.write_bytes(bytes(60))
    header = "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 3 4 5\nencoding: raw\n"
    sent = {
        "nrrd": f"{header}data file: {outside}\n\n".encode(),
        "mha": b"ObjectType = Image\nNDims = 3\nDimSize = 3 4 5\nElementDataFile = outside.raw\n",
        "empty": b"",
        "text": b"not an image at all" * 50,
        "zip": b"PK\x03\x04" + bytes(1000),
        "no size": struct.pack("<i", 348).ljust(344, b"\0") + b"n+1\0" + bytes(500),
    }
    for name, content in sent.items():
        path = tmp_path / "sent"
        path.write_bytes(content)
        with pytest.raises(BadInput) as caught:
            check_upload(path, 10**9)
        assert caught.value.code == "not-nifti", name
    path.write_bytes(gzip.compress(nifti(tmp_path / "b.nii").read_bytes())[:-20])
    with pytest.raises(BadInput, match="damaged"):
        check_upload(path, 10**9)


def test_a_bomb_costs_no_more_than_its_limit(tmp_path: Path) -> None:
    small = nifti(tmp_path / "a.nii").read_bytes()
    path = tmp_path / "sent"
    path.write_bytes(gzip.compress(small + bytes(50_000_000)))
    assert path.stat().st_size < 100_000
    with pytest.raises(BadInput) as caught:
        check_upload(path, 10_000_000)
    assert caught.value.code == "too-large"
    huge = bytearray(small)  # a header that promises what is not there
    struct.pack_into("<8h", huge, 40, 3, 30000, 30000, 30000, 1, 1, 1, 1)
    path.write_bytes(huge)
    with pytest.raises(BadInput) as caught:
        check_upload(path, 10_000_000)
    assert caught.value.code == "too-large"
