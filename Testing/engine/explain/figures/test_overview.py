"""The picture of a segmentation: it shows what is there, where it is, and the right way round."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from e2enet.data.images.volume import Grid, Volume
from e2enet.events import BadInput
from e2enet.explain.figures import overview as module
from e2enet.explain.figures.overview import overview
from matplotlib import image as mpl_image

RED = {"value": 1, "name": "Left thing", "color": [255, 0, 0]}
GREEN = {"value": 2, "name": "Right thing", "color": [0, 255, 0]}
RAS = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0)


def scene(
    direction: tuple[float, ...] = (1, 0, 0, 0, 1, 0, 0, 0, 1),
) -> tuple[Volume, np.ndarray]:
    """A head-sized volume of 2 × 2 × 4 mm with a cube on either side (LPS: left at high x)."""
    array = np.random.default_rng(0).normal(100, 10, (40, 90, 80)).astype(np.float32)
    label = np.zeros(array.shape, np.uint8)
    label[18:22, 40:50, 55:63] = 1
    label[18:22, 40:50, 17:25] = 2
    if direction == RAS:
        array, label = array[:, ::-1, ::-1], label[:, ::-1, ::-1]
        origin = (79 * 2.0, 89 * 2.0, 0.0)
    else:
        origin = (0.0, 0.0, 0.0)
    grid = Grid((80, 90, 40), (2.0, 2.0, 4.0), origin, direction)
    return Volume(array, grid), label


def columns_of(picture: np.ndarray, channel: int) -> np.ndarray:
    """Columns of the axial panel in which a saturated red or green line is drawn."""
    rows, width = picture.shape[:2]
    part = picture[rows // 6 : int(0.85 * rows), : width // 3]
    others = [c for c in range(3) if c != channel]
    hit = (part[..., channel] > 0.85) & (part[..., others].max(axis=-1) < 0.25)
    return np.flatnonzero(hit.any(axis=0))


@pytest.mark.parametrize("direction", [(1, 0, 0, 0, 1, 0, 0, 0, 1), RAS])
def test_right_is_on_the_left_however_the_file_stores_it(direction, tmp_path: Path) -> None:
    volume, label = scene(direction)
    path = overview(volume, label, [RED, GREEN], tmp_path / "a.png", title="Two things", dpi=60)
    picture = mpl_image.imread(path)
    assert picture.shape[1] == round(14.4 * 60)
    left, right = columns_of(picture, 0), columns_of(picture, 1)
    assert left.size
    assert right.size
    assert right.max() < left.min()
    assert list(tmp_path.iterdir()) == [path]


def test_outlines_keep_their_shape_with_thick_slices() -> None:
    """The shown field is a cube in mm, and lies in the image's middle only without labels."""
    volume, label = scene()
    center, field = module.field_of_view(label, volume.grid)
    assert np.allclose(center, [19.5, 44.5, 39.5])
    assert field == pytest.approx(1.3 * 46 * 2)
    center, field = module.field_of_view(np.zeros_like(label), volume.grid)
    assert np.allclose(center, [19.5, 44.5, 39.5])
    assert field == 180.0


def test_cuts_where_most_structures_show() -> None:
    _, label = scene()
    label[20, 44:47, 56:60] = 3
    assert module.best_cut(label, 0) == 20
    assert 44 <= module.best_cut(label, 1) < 47
    assert module.best_cut(np.zeros_like(label), 2) == 40


def test_places_are_told_in_the_patient() -> None:
    volume, _ = scene()
    axial, coronal, sagittal = module.PLANES
    shifted = Grid(volume.grid.size_xyz, volume.grid.spacing_xyz, (-100.0, -50.0, -90.0))
    assert module._position(axial, shifted, (18, 40, 30)) == "I 18 mm"
    assert module._position(coronal, shifted, (18, 40, 30)) == "P 30 mm"
    assert module._position(sagittal, shifted, (18, 40, 30)) == "R 40 mm"


def test_without_any_label(tmp_path: Path) -> None:
    volume, label = scene()
    path = overview(volume, np.zeros_like(label), [RED], tmp_path / "a.png", dpi=30)
    assert path.stat().st_size > 1000
    constant = Volume(np.zeros_like(volume.array), volume.grid)
    assert overview(constant, label, [], tmp_path / "b.png", dpi=30).exists()


def test_refusals_leave_nothing_behind(tmp_path: Path) -> None:
    volume, label = scene()
    with pytest.raises(ValueError, match="shape"):
        overview(volume, label[1:], [RED], tmp_path / "a.png")
    with pytest.raises(BadInput, match="cannot be written"):
        overview(volume, label, [RED], tmp_path / "none" / "a.png", dpi=30)
    assert list(tmp_path.iterdir()) == []
