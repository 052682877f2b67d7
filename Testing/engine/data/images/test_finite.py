"""Voxels that are no numbers, as they lie in the file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from e2enet.data.images.finite import count_not_finite


def holed(dtype: type) -> np.ndarray:
    """4 × 5 × 6 voxels, three of which are no numbers, the first and the last among them."""
    array = np.ones((4, 5, 6), dtype)
    array[0, 0, 0], array[2, 2, 2], array[3, 4, 5] = np.nan, np.inf, -np.inf
    return array


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_they_are_counted(
    save: Callable[..., Path], tmp_path: Path, dtype: type, ending: str
) -> None:
    assert count_not_finite(save(tmp_path / f"a{ending}", holed(dtype))) == 3
    assert count_not_finite(save(tmp_path / f"b{ending}", np.ones((4, 5, 6), dtype))) == 0


def test_the_other_order_of_bytes(save: Callable[..., Path], tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", holed(np.float32))
    data = path.read_bytes()
    header = bytearray(data[:352])
    fields = ((0, 4, 1), (40, 2, 8), (70, 2, 2), (76, 4, 8), (108, 4, 3), (252, 2, 2), (256, 4, 18))
    for first, size, count in fields:
        for at in range(first, first + size * count, size):
            header[at : at + size] = header[at : at + size][::-1]
    path.write_bytes(bytes(header) + np.frombuffer(data[352:], "<f4").astype(">f4").tobytes())
    assert sitk.GetArrayFromImage(sitk.ReadImage(os.fspath(path)))[0, 0, 1] == 1
    assert count_not_finite(path) == 3


def test_whole_numbers_and_other_formats_say_nothing(
    save: Callable[..., Path], tmp_path: Path
) -> None:
    assert count_not_finite(save(tmp_path / "a.nii.gz", np.ones((4, 5, 6), np.int16))) == 0
    assert count_not_finite(save(tmp_path / "a.nrrd", holed(np.float32))) == 0
