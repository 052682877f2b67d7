"""DICOM series: sorted in space, complete, and one at a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from e2enet.data.images.volume import read_image
from e2enet.events import BadInput


def noise(shape: tuple[int, ...], seed: int = 0, dtype: type = np.int16) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 200, shape).astype(dtype)


Series = Callable[..., list[Path]]
SLICES = noise((9, 6, 8))


@pytest.mark.parametrize(
    "rows", [(1, 0, 0, 0, 1, 0), (0, 1, 0, 0, 0, -1), (0.8, 0.6, 0, 0, 0, -1), (-1, 0, 0, 0, 1, 0)]
)
def test_slices_are_sorted_in_space(tmp_path: Path, dicom_series: Series, rows: tuple) -> None:
    order = np.random.default_rng(3).permutation(9)
    dicom_series(tmp_path / "ct", SLICES[order], heights=2.5 * order, rows=rows)
    volume = read_image(tmp_path / "ct")
    np.testing.assert_array_equal(volume.array, SLICES)
    assert volume.grid.spacing_xyz == pytest.approx((0.7, 0.9, 2.5))
    direction = np.reshape(volume.grid.direction, (3, 3))
    x, y = np.reshape(rows, (2, 3))
    np.testing.assert_allclose(direction, np.column_stack((x, y, np.cross(x, y))), atol=1e-6)
    np.testing.assert_allclose(volume.grid.origin_xyz, (11, -5, 3), atol=1e-6)


def test_several_series_are_listed_and_one_can_be_chosen(
    tmp_path: Path, dicom_series: Series
) -> None:
    dicom_series(tmp_path / "two", SLICES, prefix="a", description="thin")
    chosen = dicom_series(
        tmp_path / "two", SLICES[:4] + 1, prefix="b", description="thick", uid="1.2.3.5"
    )
    with pytest.raises(
        BadInput, match=r"2 DICOM series: .*thin.*9 files.*thick.*4 files"
    ) as caught:
        read_image(tmp_path / "two")
    assert caught.value.code == "several-series"
    np.testing.assert_array_equal(read_image(chosen[2]).array, SLICES[:4] + 1)


def test_missing_slice(tmp_path: Path, dicom_series: Series) -> None:
    dicom_series(tmp_path / "gap", SLICES)[4].unlink()
    with pytest.raises(BadInput, match=r"misses a slice: 5\.00 mm between") as caught:
        read_image(tmp_path / "gap")
    assert caught.value.code == "dicom-missing-slice"


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"heights": [0, 1, 2, 3.2, 4, 5, 6, 7, 8]}, "dicom-uneven"),
        ({"heights": [0, 1, 2, 2, 3, 4, 5, 6, 7]}, "dicom-repeated-slice"),
        ({"shift": 0.5}, "dicom-tilted"),
    ],
)
def test_uneven_series(tmp_path: Path, dicom_series: Series, options: dict, code: str) -> None:
    dicom_series(tmp_path / "odd", SLICES, **options)
    with pytest.raises(BadInput, match=r"^odd ") as caught:
        read_image(tmp_path / "odd")
    assert caught.value.code == code


def test_positions_that_are_rounded_are_even(tmp_path: Path, dicom_series: Series) -> None:
    heights = np.round(np.arange(9) * 0.3333, 2)
    dicom_series(tmp_path / "rounded", SLICES, heights=heights)
    assert read_image(tmp_path / "rounded").grid.spacing_xyz[2] == pytest.approx(0.3333, rel=0.01)


def test_one_slice_and_mixed_sizes(tmp_path: Path, dicom_series: Series) -> None:
    path = dicom_series(tmp_path / "one", SLICES[:1])[0]
    for given in (path, path.parent):
        with pytest.raises(BadInput) as caught:
            read_image(given)
        assert caught.value.code == "single-slice"
    dicom_series(tmp_path / "mixed", SLICES, prefix="a")
    dicom_series(tmp_path / "mixed", noise((1, 4, 4)), prefix="b", heights=[30.0])
    with pytest.raises(BadInput) as caught:
        read_image(tmp_path / "mixed")
    assert caught.value.code == "dicom-mixed"


def test_folder_without_dicom(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(BadInput, match="no DICOM series"):
        read_image(tmp_path)


def test_real_series(shared: Path) -> None:
    volume = read_image(shared / "data" / "dicom_hippocampus_crop")
    assert volume.array.shape == (32, 51, 35)
    assert volume.grid.spacing_xyz == pytest.approx((1, 1, 1))
    one_file = shared / "data" / "dicom_hippocampus_crop" / "7.dcm"
    np.testing.assert_array_equal(read_image(one_file).array, volume.array)
