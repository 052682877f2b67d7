"""Images of other tools: every voxel at the place where a file of the same has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import monai.data
import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from e2enet.data.images.memory import is_image, to_metatensor, to_nibabel, volumes_of
from e2enet.data.images.volume import Grid, Volume, read_image
from e2enet.events import BadInput
from monai.transforms import LoadImage

ARRAY = np.random.default_rng(0).normal(100, 20, (4, 6, 5)).astype(np.float32)  # z, y, x


def rotated() -> Grid:
    """Left-handed, turned round two axes, uneven spacing."""
    a, b = np.deg2rad(20), np.deg2rad(-35)
    z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    direction = z @ x @ np.diag([1, -1, 1])
    return Grid((5, 6, 4), (0.7, 0.8, 3.0), (-30.0, 12.0, 5.5), tuple(direction.ravel()))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "image.nii.gz"
    sitk.WriteImage(rotated().image(ARRAY), path)
    return path


def same(found: Volume, path: Path) -> None:
    wanted = read_image(path)
    np.testing.assert_array_equal(found.array, wanted.array)
    assert found.grid.same_as(wanted.grid)


def test_simpleitk(path: Path) -> None:
    (volume,) = volumes_of(sitk.ReadImage(path))
    same(volume, path)


def test_nibabel(path: Path) -> None:
    (volume,) = volumes_of(nibabel.load(path))
    same(volume, path)


@pytest.mark.parametrize("first", [False, True])
def test_monai(path: Path, first: bool) -> None:
    (volume,) = volumes_of(LoadImage(image_only=True, ensure_channel_first=first)(path))
    same(volume, path)


def test_channels_of_a_metatensor() -> None:
    tensor = monai.data.MetaTensor(torch.rand(3, 5, 6, 4), affine=torch.eye(4))
    volumes = volumes_of(tensor)
    assert len(volumes) == 3
    np.testing.assert_array_equal(volumes[1].array, tensor[1].numpy().T)


def test_there_and_back(path: Path) -> None:
    label = (ARRAY > 100).astype(np.uint8)
    for image in (to_nibabel(label, rotated()), to_metatensor(label, rotated())):
        (volume,) = volumes_of(image)
        np.testing.assert_array_equal(volume.array, label)
        assert volume.grid.same_as(rotated())


SHEARED = np.array([[1, 0.3, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])


@pytest.mark.parametrize(
    ("image", "code"),
    [
        (ARRAY, "array-without-grid"),
        (torch.zeros(4, 5, 6), "array-without-grid"),
        (nibabel.Nifti1Image(ARRAY, SHEARED), "sheared-grid"),
        (nibabel.Nifti1Image(np.zeros((3, 4, 5, 2), np.float32), np.eye(4)), "not-3d"),
        (sitk.Image([4, 5], sitk.sitkFloat32), "not-3d"),
        (sitk.Image([4, 5, 6], sitk.sitkVectorUInt8, 3), "not-3d"),
        (monai.data.MetaTensor(torch.zeros(1, 2, 3, 4, 5)), "not-3d"),
    ],
)
def test_what_cannot_be_a_volume(image: Any, code: str) -> None:
    assert is_image(image)
    with pytest.raises(BadInput) as caught:
        volumes_of(image)
    assert caught.value.code == code


def test_a_path_is_no_image() -> None:
    assert not is_image("head.nii.gz")
    assert not is_image(Path("head.nii.gz"))
