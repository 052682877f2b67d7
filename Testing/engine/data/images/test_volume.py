"""Reading and writing keeps voxels and geometry; what is no volume is refused in one sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from e2enet.data.images import volume as images
from e2enet.data.images.volume import Grid, Volume, read_channels, read_image, read_label
from e2enet.events import BadInput, Reporter
from hypothesis import given, settings
from hypothesis import strategies as st


def rotation(angles: tuple[float, float, float]) -> np.ndarray:
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        c, s = np.cos(angle), np.sin(angle)
        turn = np.eye(3)
        i, j = [k for k in range(3) if k != axis]
        turn[i, i] = turn[j, j] = c
        turn[i, j], turn[j, i] = -s, s
        matrix = turn @ matrix
    return matrix


def grid(direction: np.ndarray | None = None, **changes: object) -> Grid:
    values = {
        "size_xyz": (7, 6, 5),
        "spacing_xyz": (0.7, 0.9, 7.0),
        "origin_xyz": (-101.25, 33.5, 12.125),
        "direction": tuple(np.ravel(np.eye(3) if direction is None else direction)),
    }
    return Grid(**{**values, **changes})


OBLIQUE = rotation((0.3, -0.2, 0.5))
LEFT_HANDED = OBLIQUE @ np.diag([1.0, 1.0, -1.0])


@pytest.mark.parametrize("ending", images.WRITABLE[:-1])
@pytest.mark.parametrize("direction", [np.eye(3), OBLIQUE, LEFT_HANDED, -np.eye(3)])
def test_label_returns_with_its_geometry(
    tmp_path: Path, ending: str, direction: np.ndarray
) -> None:
    array = np.random.default_rng(1).integers(0, 4, (5, 6, 7))
    path = tmp_path / f"label{ending}"
    images.write_label(path, array, grid(direction))
    read = read_label(path)
    np.testing.assert_array_equal(read.array, array)
    assert read.array.dtype == np.uint8
    # NIfTI holds geometry in single precision and as a quaternion; the others are exact.
    tolerance = 1e-4 if "nii" in ending else 1e-9
    assert read.grid.same_as(grid(direction), tolerance)
    assert np.linalg.det(np.reshape(read.grid.direction, (3, 3))) == pytest.approx(
        np.linalg.det(direction)
    )
    assert os.listdir(tmp_path) == [path.name]


def test_geometry_is_stable_from_the_first_nifti_on(tmp_path: Path) -> None:
    array = np.ones((5, 6, 7), np.uint8)
    images.write_label(tmp_path / "a.nii.gz", array, grid(LEFT_HANDED))
    first = read_label(tmp_path / "a.nii.gz").grid
    images.write_label(tmp_path / "b.nii.gz", array, first)
    assert read_label(tmp_path / "b.nii.gz").grid.same_as(first, 1e-6)


def test_large_labels_are_kept(tmp_path: Path) -> None:
    array = np.full((2, 3, 4), 2035)
    images.write_label(tmp_path / "a.nii.gz", array, grid(size_xyz=(4, 3, 2)))
    read = read_label(tmp_path / "a.nii.gz").array
    assert read.dtype == np.int16
    assert (read == 2035).all()


def test_grid_comparison() -> None:
    here = grid()
    assert here.same_as(grid(origin_xyz=(-101.2495, 33.5, 12.125)))
    assert "apart" in str(here.difference(grid(origin_xyz=(-101.0, 33.5, 12.125))))
    assert "voxels" in str(here.difference(grid(size_xyz=(7, 6, 4))))
    assert "spacing" in str(here.difference(grid(spacing_xyz=(0.7, 0.9, 7.1))))
    assert not here.same_as(grid(LEFT_HANDED))
    # A label whose header was rounded to single precision lies on the same grid.
    rounded = tuple(float(np.float32(v)) for v in here.spacing_xyz)
    assert here.same_as(grid(spacing_xyz=rounded))
    assert here.shape == (5, 6, 7)
    assert here.voxel_ml == pytest.approx(0.7 * 0.9 * 7 / 1000)


@settings(max_examples=40, deadline=None)
@given(st.tuples(*[st.floats(-3, 3)] * 3), st.booleans())
def test_corners_are_where_simpleitk_says(angles: tuple, left_handed: bool) -> None:
    direction = rotation(angles) @ np.diag([1, 1, -1 if left_handed else 1])
    here = grid(direction)
    image = here.image(np.zeros(here.shape))
    assert Grid.from_image(image) == here
    far = image.TransformIndexToPhysicalPoint((6, 5, 4))
    np.testing.assert_allclose(here.corners()[-1], far, atol=1e-6)


def test_channels_have_to_lie_on_one_grid(tmp_path: Path) -> None:
    array = np.ones((5, 6, 7), np.float32)
    images.write_image(tmp_path / "a.nii.gz", array, grid())
    images.write_image(tmp_path / "b.nii.gz", array, grid(origin_xyz=(0.0, 0.0, 0.0)))
    assert len(read_channels([tmp_path / "a.nii.gz"] * 2)) == 2
    with pytest.raises(BadInput, match=r"a\.nii\.gz and b\.nii\.gz lie on different grids"):
        read_channels([tmp_path / "a.nii.gz", tmp_path / "b.nii.gz"])


def test_nan_and_infinite_voxels_are_replaced_with_a_warning(
    tmp_path: Path, save: Callable[..., Path]
) -> None:
    class Listener(Reporter):
        heard: list = []  # noqa: RUF012

        def warning(self, code: str, message: str) -> None:
            self.heard.append((code, message))

    array = np.full((4, 5, 6), 7.0, np.float32)
    array[0, 0, :4] = np.nan, np.inf, -np.inf, 1e30
    array[1] = 3
    path = save(tmp_path / "odd.nrrd", array)
    listener = Listener()
    volume = read_image(path, reporter=listener)
    assert volume.array[0, 0, :4].tolist() == [0, 7, 0, 7]
    assert listener.heard == list(volume.warnings)
    assert "odd.nrrd holds 4 NaN" in volume.warnings[0][1]

    array[1] = -1000
    assert read_image(save(path, array)).array[0, 0, 0] == -1000
    with pytest.raises(BadInput, match="no finite voxel"):
        read_image(save(path, np.full((4, 5, 6), np.nan)))


def test_labels_stored_as_floats(tmp_path: Path, save: Callable[..., Path]) -> None:
    path = tmp_path / "label.nrrd"
    array = np.zeros((4, 5, 6))
    array[0, 0] = 3
    assert read_label(save(path, array)).array.max() == 3
    for wrong, message in [
        (0.5, "not whole"), (np.nan, "not whole"), (-1, "label -1"), (4e4, "label 40000"),
    ]:  # fmt: skip
        array[0, 0, 0] = wrong
        with pytest.raises(BadInput, match=rf"label\.nrrd holds .*{message}"):
            read_label(save(path, array))


def test_write_refuses_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array = np.zeros((5, 6, 7), np.uint8)
    with pytest.raises(BadInput, match="ending"):
        images.write_label(tmp_path / "a.jpg", array, grid())
    with pytest.raises(BadInput, match="does not exist"):
        images.write_label(tmp_path / "no" / "a.nii.gz", array, grid())
    with pytest.raises(BadInput, match="outside"):
        images.write_label(tmp_path / "a.nii.gz", array.astype(int) - 1, grid())
    (tmp_path / "a.nii.gz").write_bytes(b"before")

    def fail(image: sitk.Image, path: str, **options: object) -> None:
        Path(path).write_bytes(b"half")
        raise RuntimeError("no space")

    monkeypatch.setattr(sitk, "WriteImage", fail)
    with pytest.raises(BadInput, match="space on the disk"):
        images.write_label(tmp_path / "a.nii.gz", array, grid())
    assert os.listdir(tmp_path) == ["a.nii.gz"]
    assert (tmp_path / "a.nii.gz").read_bytes() == b"before"


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are POSIX")
@pytest.mark.parametrize("ending", images.WRITABLE[:-1])
def test_full_disk_leaves_nothing(tmp_path: Path, ending: str) -> None:
    """A file size limit is what a full disk looks like to the writing library."""
    code = f"""
import resource, signal, numpy as np
from e2enet.data.images.volume import Grid, write_image
from e2enet.events import BadInput
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
array = np.random.default_rng(0).normal(size=(30, 40, 50))
try:
    write_image({str(tmp_path / ("a" + ending))!r}, array, Grid((50, 40, 30), (1.0, 1.0, 1.0)))
except BadInput as error:
    print("refused", error.code)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, encoding="utf-8", check=True
    )
    assert done.stdout.strip() == "refused output-not-writable"
    assert os.listdir(tmp_path) == []


def test_no_torch_is_needed_for_reading() -> None:
    code = (
        "import sys, e2enet.data.images.volume, e2enet.data.images.orientation, "
        "e2enet.data.datasets.raw, e2enet.data.planning.plan; "
        "print([m for m in ('torch', 'monai', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, encoding="utf-8", check=True
    )
    assert done.stdout.strip() == "[]"


def test_volume_has_defaults() -> None:
    volume = Volume(np.zeros((5, 6, 7)), grid())
    assert (volume.name, volume.warnings) == ("image", ())
