"""Images that are in memory already, in the forms in which other tools hold them.

None of those tools is imported here unless the program has it loaded: an image of theirs cannot be
there otherwise, and what is asked for in their form needs them anyway.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk

from e2enet.data.axes import three
from e2enet.data.images.volume import Grid, Volume
from e2enet.events import BadInput
from e2enet.extras import need_package

if TYPE_CHECKING:
    import monai.data
    import nibabel

_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])  # between LPS and RAS, either way
_SQUARE = 1e-3  # how far from a right angle axes may be, as a cosine


def is_image(given: Any) -> bool:
    """Whether something is an image or an array, and not a path."""
    return (
        isinstance(given, (Volume, sitk.Image, np.ndarray))
        or _is(given, "nibabel", "SpatialImage")
        or _is(given, "torch", "Tensor")
    )


def volumes_of(image: Any, name: str = "image") -> list[Volume]:
    """The channels of an image in memory.

    Args:
        image: A `Volume`; a scalar SimpleITK image of three dimensions; a nibabel image (x, y, z);
            a MONAI MetaTensor (x, y, z) or (C, x, y, z) whose affine is in RAS, MONAI's default.
        name: What messages call it.

    Returns:
        Volumes (z, y, x), one a channel.

    Raises:
        BadInput: An array that says nothing of its spacing, axes that are not at right angles, or
            other dimensions.
    """
    if isinstance(image, Volume):
        return [image]
    if isinstance(image, sitk.Image):
        if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
            raise _dimensions(name, image.GetDimension(), image.GetNumberOfComponentsPerPixel())
        return [Volume(sitk.GetArrayFromImage(image), Grid.from_image(image), name)]
    if _is(image, "nibabel", "SpatialImage"):
        return [_volume(np.asanyarray(image.dataobj), image.affine, name)]
    if _is(image, "monai", "MetaTensor"):
        array = image.detach().cpu().numpy()
        channels = [array] if array.ndim == 3 else list(array)
        affine = image.affine.detach().cpu().numpy()
        return [_volume(channel, affine, name) for channel in channels]
    raise BadInput(
        f"The {name} is an array, which says nothing of its spacing and orientation.",
        help="Give e2enet.Volume(array, e2enet.Grid(size_xyz, spacing_xyz)), or an image of "
        "SimpleITK, nibabel or MONAI.",
        code="array-without-grid",
    )


def to_nibabel(array: np.ndarray, grid: Grid) -> nibabel.Nifti1Image:
    """A nibabel image of an array (z, y, x) on a grid."""
    import nibabel

    return nibabel.Nifti1Image(np.ascontiguousarray(array.T), _affine(grid))


def to_metatensor(array: np.ndarray, grid: Grid) -> monai.data.MetaTensor:
    """A MetaTensor (1, x, y, z), in RAS, of an array (z, y, x) on a grid.

    Raises:
        BadInput: Without MONAI.
    """
    need_package("monai", "train", "A MetaTensor")
    import torch
    from monai.data import MetaTensor

    voxels = torch.from_numpy(np.ascontiguousarray(array.T)[None])
    return MetaTensor(voxels, affine=torch.from_numpy(_affine(grid)))


def _is(given: Any, package: str, name: str) -> bool:
    """Whether something is of a package's class, told without importing the package."""
    return any(
        cls.__module__.partition(".")[0] == package and cls.__name__ == name
        for cls in type(given).__mro__
    )


def _volume(array: np.ndarray, affine: np.ndarray, name: str) -> Volume:
    """From voxels (x, y, z) and the affine in RAS."""
    if array.ndim != 3 or array.dtype.kind not in "biuf":
        raise _dimensions(name, array.ndim, 1 if array.dtype.kind in "biuf" else 2)
    matrix = _RAS @ np.asarray(affine, float)
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        direction = matrix[:3, :3] / spacing
    if not np.abs(direction.T @ direction - np.eye(3)).max() <= _SQUARE:
        raise BadInput(
            f"The axes of the {name} are not at right angles to each other.",
            help="Resample it onto a grid that is not sheared.",
            code="sheared-grid",
        )
    grid = Grid(
        three(array.shape),
        three(float(v) for v in spacing),
        three(float(v) for v in matrix[:3, 3]),
        tuple(float(v) for v in direction.ravel()),
    )
    return Volume(array.T, grid, name)


def _affine(grid: Grid) -> np.ndarray:
    """From voxels (x, y, z) to mm in RAS: (4, 4)."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(grid.direction, (3, 3)) * np.asarray(grid.spacing_xyz)
    matrix[:3, 3] = grid.origin_xyz
    return _RAS @ matrix


def _dimensions(name: str, dimensions: int, components: int) -> BadInput:
    what = f"{dimensions} dimensions" if dimensions != 3 else f"{components} values a voxel"
    return BadInput(
        f"The {name} has {what}; a model takes volumes of one value a voxel.",
        help="Give one volume a channel.",
        code="not-3d",
    )
