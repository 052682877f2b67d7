"""Slices of files and frames of one file: the same geometry is asked of both."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from e2enet.data.images.volume import read_image
from e2enet.events import BadInput

Frames = Callable[..., Path]
Series = Callable[..., list[Path]]
SLICES = np.random.default_rng(2).integers(1, 200, (9, 6, 8)).astype(np.int16)
DEFLATED, IMPLICIT, RLE = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2", "1.2.840.10008.1.2.5"


def check(path: Path, expected: np.ndarray = SLICES) -> None:
    for given in (path, path.parent):
        volume = read_image(given)
        np.testing.assert_array_equal(volume.array, expected)
        assert volume.grid.spacing_xyz == pytest.approx((0.7, 0.9, 2.5))
        assert volume.grid.origin_xyz == pytest.approx((11, -5, 3))
        assert volume.grid.direction == pytest.approx(np.eye(3).ravel())
        assert volume.series_uid == "1.2.3.4"


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1", DEFLATED, IMPLICIT, RLE])
@pytest.mark.parametrize("order", [range(9), range(8, -1, -1), (4, 0, 8, 2, 1, 3, 7, 6, 5)])
def test_frames_are_sorted_in_space(
    tmp_path: Path, dicom_frames: Frames, syntax: str, order: list[int]
) -> None:
    order = np.array(order)
    check(dicom_frames(tmp_path / "e" / "a", SLICES[order], heights=2.5 * order, syntax=syntax))


def test_a_volume_in_two_files_of_frames(tmp_path: Path, dicom_frames: Frames) -> None:
    dicom_frames(tmp_path / "e" / "a", SLICES[5:], heights=2.5 * np.arange(5, 9))
    check(dicom_frames(tmp_path / "e" / "b", SLICES[:5]))


@pytest.mark.parametrize(
    ("scales", "expected"),
    [
        ([(2.5, -7)], SLICES * 2.5 - 7),
        ([(i + 0.3, -i) for i in range(9)], [(i + 0.3) * SLICES[i] - i for i in range(9)]),
    ],
)
def test_every_frame_has_its_own_scale(
    tmp_path: Path, dicom_frames: Frames, scales: list, expected: list
) -> None:
    path = dicom_frames(tmp_path / "e" / "a", SLICES, scales=scales)
    check(path, np.asarray(expected, np.float32))


@pytest.mark.parametrize("intercept", [0, 5])
def test_a_scale_of_zero(tmp_path: Path, dicom_frames: Frames, intercept: int) -> None:
    path = dicom_frames(tmp_path / "a.dcm", SLICES, scales=[(0, intercept), *[(1, 0)] * 8])
    with pytest.raises(BadInput, match=r"^a\.dcm .*damaged"):
        read_image(path)


@pytest.mark.parametrize(
    ("options", "code", "sentence"),
    [
        ({"heights": [0, 1, 2, 3, 5, 6, 7, 8, 9]}, "dicom-missing-slice",
         r"misses a slice: 2\.00 mm between frame 4 of a\.dcm and frame 5 of a\.dcm"),
        ({"heights": [0, 1, 2, 3.2, 4, 5, 6, 7, 8]}, "dicom-uneven", "unevenly spaced"),
        ({"heights": [0, 0, 1, 1, 2, 2, 3, 3, 4]}, "dicom-repeated-slice", "time series"),
        ({"heights": [0, 1, 2, 0, 1, 2, 0, 1, 2]}, "dicom-repeated-slice", "time series"),
        ({"shift": 0.5}, "dicom-tilted", "tilted gantry"),
        ({"rows": [(1, 0, 0, 0, 1, 0), (0, 1, 0, 0, 0, -1)]}, "dicom-mixed",
         r"frame 1 of a\.dcm and frame 2 of a\.dcm"),
        ({"placed": False}, "dicom-no-position", "does not say where its 9 frames lie"),
    ],
)  # fmt: skip
def test_frames_that_are_no_volume(
    tmp_path: Path, dicom_frames: Frames, options: dict, code: str, sentence: str
) -> None:
    path = dicom_frames(tmp_path / "odd" / "a.dcm", SLICES, **options)
    for given in (path, path.parent):
        with pytest.raises(BadInput, match=sentence) as caught:
            read_image(given)
        assert caught.value.code == code


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1", IMPLICIT, "1.2.840.10008.1.2.2"])
def test_too_few_pixels(tmp_path: Path, dicom_series: Series, syntax: str) -> None:
    pydicom = pytest.importorskip("pydicom")
    for path in dicom_series(tmp_path / "ct", SLICES):
        stored = pydicom.dcmread(path)
        big = syntax == "1.2.840.10008.1.2.2"
        stored.PixelData = stored.pixel_array.astype(">i2" if big else "<i2").tobytes()
        stored.file_meta.TransferSyntaxUID = syntax
        pydicom.dcmwrite(
            path, stored, little_endian=not big, implicit_vr=syntax == IMPLICIT, overwrite=True
        )
    np.testing.assert_array_equal(read_image(tmp_path / "ct").array, SLICES)
    stored.PixelData = stored.PixelData[:40]
    pydicom.dcmwrite(path, stored, little_endian=not big, implicit_vr=syntax == IMPLICIT)
    with pytest.raises(BadInput, match=rf"^{path.name} in ct .* 40 of the 96 bytes") as caught:
        read_image(tmp_path / "ct")
    assert caught.value.code == "damaged-file"


@pytest.mark.parametrize("spacing", [None, [0, 0], [-1, 1]])
def test_pixels_of_unknown_size(
    tmp_path: Path, dicom_series: Series, spacing: list[int] | None
) -> None:
    pydicom = pytest.importorskip("pydicom")
    path = dicom_series(tmp_path / "ct", SLICES)[3]
    stored = pydicom.dcmread(path)
    stored.ImagerPixelSpacing = [0.5, 0.5]  # on the detector, not in the patient
    del stored.PixelSpacing
    if spacing:
        stored.PixelSpacing = spacing
    stored.save_as(path)
    for given in (path, path.parent):
        with pytest.raises(BadInput, match=rf"^{path.name} in .* no usable PixelSp") as caught:
            read_image(given)
        assert caught.value.code == "dicom-no-spacing"


def test_frames_with_pixels_of_unknown_size_or_too_few(
    tmp_path: Path, dicom_frames: Frames
) -> None:
    pydicom = pytest.importorskip("pydicom")
    path = dicom_frames(tmp_path / "a.dcm", SLICES)
    stored = pydicom.dcmread(path)
    pixels, stored.PixelData = stored.PixelData, stored.PixelData[:-2]
    stored.save_as(path)
    with pytest.raises(BadInput, match="holds 862 of the 864 bytes"):
        read_image(path)
    stored.PixelData = pixels
    del stored.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
    stored.save_as(path)
    with pytest.raises(BadInput, match="no usable PixelSpacing"):
        read_image(path)
