"""The pictures: arrows as thick as their share, colours where the values are."""

from __future__ import annotations

import numpy as np
import pytest
from e2enet.bundle import Bundle
from e2enet.data.images.volume import Grid, Volume
from e2enet.events import BadInput
from e2enet.explain.figures import flow as flow_figure
from e2enet.explain.figures.flow import draw_flow, draw_history
from e2enet.explain.figures.overlay import _heat, _leading, display_range, draw_importance
from e2enet.explain.flow import fusion_flow
from e2enet.explain.maps import NodeMaps
from e2enet.explain.nodes import Node
from matplotlib.image import imread


@pytest.fixture
def flow(tiny_bundle):
    return fusion_flow(Bundle.open(tiny_bundle))


def test_arrows_are_as_thick_as_their_share(flow, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(flow_figure, "_arrow", lambda axes, *arrow: drawn.append(arrow))
    draw_flow(flow, tmp_path / "flow.png", records=[flow.end], quantities=["share"])
    expected = []
    for node in flow.end["nodes"]:
        stage, level = node["stage"], node["level"]
        for direction, source in (("forward", 0), ("upward", 1), ("downward", -1)):
            if direction in node["flows"]:
                share = node["flows"][direction]["share"]
                start, end = (stage - 1, level + source), (stage, level)
                expected.append((start, end, share, direction))
    assert sorted(drawn) == sorted(expected)


def test_a_picture_for_every_shape_of_flow(flow, tmp_path):
    for records in (None, [flow.end]):
        picture = imread(draw_flow(flow, tmp_path / "flow.png", records=records, dpi=40))
        assert picture.shape[0] > 100
        assert picture.std() > 0.02
    assert imread(draw_history(flow, tmp_path / "history.png", dpi=40)).std() > 0.02


def test_a_history_that_is_missing_is_not_drawn(make_bundle, tmp_path):
    flow = fusion_flow(Bundle.open(make_bundle()))
    with pytest.raises(ValueError, match="no history"):
        draw_history(flow, tmp_path / "history.png")
    draw_flow(flow, tmp_path / "flow.png", dpi=40)


def test_a_folder_that_is_missing_is_bad_input(flow, tmp_path):
    with pytest.raises(BadInput, match=r"flow\.png"):
        draw_flow(flow, tmp_path / "none" / "flow.png", dpi=40)
    assert not list(tmp_path.iterdir())


def made_maps() -> NodeMaps:
    raw = {d: np.zeros((6, 8, 10), np.float32) for d in ("forward", "upward", "downward")}
    raw["forward"][:, :4] = 4.0
    raw["upward"][:, 4:] = 2.0
    inside = (slice(0, 6), slice(0, 8), slice(0, 10))
    return NodeMaps(Node(1, 1), None, raw, np.ones((6, 8, 10), bool), inside)


def test_faint_is_transparent_and_colours_tell_who_leads():
    maps = made_maps()
    top = display_range(maps)
    assert top == 1
    heat = _heat(maps.normalised("forward"), top)
    assert heat[0, 0, 0, 3] > 180
    assert not heat[0, 6, 0, 3]
    leading = _leading(maps, top)
    assert tuple(leading[0, 0, 0, :3]) == (0, 158, 115)
    assert tuple(leading[0, 6, 0, :3]) == (213, 94, 0)


def test_the_overlay_is_drawn_with_and_without_labels(tmp_path):
    grid = Grid((10, 8, 6), (1.0, 1.0, 2.0))
    image = Volume(np.random.default_rng(0).normal(100, 10, (6, 8, 10)).astype(np.float32), grid)
    plain = imread(draw_importance(image, made_maps(), tmp_path / "a.png", dpi=40))
    label = np.zeros((6, 8, 10), np.uint8)
    label[2:4, 2:6, 3:7] = 1
    labels = [{"value": 1, "name": "sphere", "color": [255, 0, 0]}]
    outlined = imread(
        draw_importance(
            image, made_maps(), tmp_path / "b.png", label=label, labels=labels, title="x", dpi=40
        )
    )
    assert plain.shape == outlined.shape
    assert not np.array_equal(plain, outlined)
    one = imread(
        draw_importance(image, made_maps(), tmp_path / "c.png", planes=["Coronal"], dpi=40)
    )
    assert one.shape[0] < plain.shape[0]
