"""Regions of interest: numbers in LPS, Slicer's markups files, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from e2enet.data.images.volume import Grid
from e2enet.events import BadInput
from e2enet.inference.localisation.roi import parse_roi
from hypothesis import given
from hypothesis import strategies as st

GRID = Grid((10, 20, 30), (1.0, 2.0, 0.5), (-5.0, 0.0, 100.0))
TURNED = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0)


def markups(path, *, system="LPS", center=(0, 0, 0), size=(2, 2, 2), orientation=None, **more):
    markup = {"type": "ROI", "coordinateSystem": system, "center": center, "size": size, **more}
    if orientation is not None:
        markup["orientation"] = orientation
    path.write_text(json.dumps({"markups": [markup]}), encoding="utf-8")
    return path


def test_numbers_are_lps_corners_in_any_order():
    expected = (slice(0, 4), slice(2, 4), slice(5, 8))
    for text in ("-0.2,4,100,2.1,6,101.5", "2.1,6,101.5,-0.2,4,100", " 2.1, 4,100,-0.2,6,101.5"):
        assert parse_roi(text).slices(GRID) == expected


def test_a_voxel_that_is_touched_belongs_to_it():
    # Voxel 5 of x reaches from -0.5 to 0.5.
    assert parse_roi("-0.5,0,100,0.5,1,101").slices(GRID)[2] == slice(5, 6)
    assert parse_roi("-0.5,0,100,0.6,1,101").slices(GRID)[2] == slice(5, 7)


def test_it_is_cut_at_the_border():
    assert parse_roi((-99, -99, -99, 999, 999, 999)).slices(GRID) == tuple(
        slice(0, n) for n in GRID.shape
    )


def test_outside_is_said_with_where_the_image_is():
    with pytest.raises(BadInput, match="outside the image") as caught:
        parse_roi("50,0,100,60,1,101").slices(GRID)
    assert caught.value.code == "roi-outside"
    assert "(-5, 0, 100) to (4, 38, 114)" in caught.value.help


def test_ras_and_lps_markups_are_the_same_box(tmp_path):
    lps = markups(tmp_path / "a.mrk.json", center=(1, 6, 105), size=(2, 4, 3))
    ras = markups(tmp_path / "b.mrk.json", system="RAS", center=(-1, -6, 105), size=(2, 4, 3))
    typed = parse_roi("0,4,103.5,2,8,106.5").slices(GRID)
    assert parse_roi(lps).slices(GRID) == typed
    assert parse_roi(str(ras)).slices(GRID) == typed
    early = markups(tmp_path / "c.mrk.json", system="0", center=(-1, -6, 105), size=(2, 4, 3))
    assert parse_roi(early).slices(GRID) == typed


@given(st.permutations(range(3)), st.tuples(*[st.sampled_from([-1, 1])] * 3))
def test_a_markups_box_may_name_its_axes_as_it_likes(tmp_path_factory, order, signs):
    """Slicer writes the axes of a box as columns; each permutation is the same box."""
    size, center = np.array([2.0, 4.0, 3.0]), (1, 6, 105)
    axes = np.eye(3)[:, list(order)] * signs
    path = markups(
        tmp_path_factory.mktemp("roi") / "a.mrk.json",
        center=center,
        size=size[list(order)].tolist(),
        orientation=axes.ravel().tolist(),
    )
    assert parse_roi(path).slices(GRID) == parse_roi("0,4,103.5,2,8,106.5").slices(GRID)


def test_a_turned_box_on_a_grid_turned_the_same_way_is_exact(tmp_path):
    grid = Grid((10, 20, 30), (1.0, 2.0, 0.5), (-5.0, 0.0, 100.0), TURNED)
    matrix = np.reshape(TURNED, (3, 3)) * grid.spacing_xyz
    center = matrix @ (4, 6, 8) + grid.origin_xyz
    path = markups(
        tmp_path / "a.mrk.json",
        center=center.tolist(),
        size=(3 * 1.0, 5 * 2.0, 7 * 0.5),
        orientation=list(TURNED),
    )
    assert parse_roi(path).slices(grid) == (slice(5, 12), slice(4, 9), slice(3, 6))


def test_names_of_the_models_regions(tmp_path):
    roi = parse_roi("left:0,0,100,1,1,101", ["Left", "Right"])
    assert roi.name == "Left"
    path = markups(tmp_path / "a.mrk.json")
    assert parse_roi(f"Right:{path}", ["Left", "Right"]).name == "Right"
    assert parse_roi(path, ["Left", "Right"]).name is None
    with pytest.raises(BadInput, match="no region 'Middle'") as caught:
        parse_roi("Middle:0,0,0,1,1,1", ["Left", "Right"])
    assert "Left, Right" in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "1,2,3", "0,0,0,1,1,nan", "a,b,c,d,e,f", "0,0,0,1,1,0", "nothing.mrk.json"]
)
def test_what_is_no_region(text):
    with pytest.raises(BadInput) as caught:
        parse_roi(text)
    assert caught.value.code == "bad-roi"
    assert "mrk.json" in caught.value.help


@pytest.mark.parametrize(
    "content",
    [
        "not json",
        "[]",
        '{"markups": []}',
        '{"markups": [{"type": "Fiducial"}]}',
        '{"markups": [{"type": "ROI"}, {"type": "ROI"}]}',
        '{"markups": [{"type": "ROI", "center": [0, 0], "size": [1, 1, 1]}]}',
        '{"markups": [{"type": "ROI", "center": [0, 0, 0], "size": [1, 0, 1]}]}',
        '{"markups": [{"type": "ROI", "center": [0, 0, 0], "size": [1, 1, 1], '
        '"coordinateSystem": "IJK"}]}',
    ],
)
def test_broken_markups_files(tmp_path, content):
    path = tmp_path / "roi.mrk.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(BadInput, match=r"roi\.mrk\.json"):
        parse_roi(path)
