"""Importance of an image: windows, blending and the way back, against a direct computation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from e2enet.bundle import Bundle
from e2enet.data.images.orientation import to_canonical
from e2enet.data.images.volume import Volume, read_image
from e2enet.events import BadInput
from e2enet.explain.maps import NodeMaps, find_label
from e2enet.explain.nodes import Node, lattice
from e2enet.explain.volumes import Explainer
from e2enet.inference.case.inputs import find_case
from e2enet.inference.case.loading import open_case
from e2enet.inference.localisation.regions import Region, prepare_region

LEFT_HANDED_OBLIQUE = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, -1.0)


@pytest.fixture
def explainer(tiny_bundle) -> Explainer:
    return Explainer(Bundle.open(tiny_bundle))


def opened(path, explainer, **options):
    return open_case(find_case([path]), explainer.bundle, keep_image=True, **options)


def directly(explainer: Explainer, node: Node, window: np.ndarray) -> dict[str, np.ndarray]:
    """A_d over one window (C, 16, 16, 16), as the definition reads."""
    name = f"nodes.{node.stage}_{node.level}.0.conv"
    layer = explainer.connections.layers[name]
    kept = {}
    handle = layer.module.register_forward_pre_hook(lambda m, args: kept.update(x=args[0].clone()))
    with torch.no_grad():
        explainer.network(torch.from_numpy(window)[None])
    handle.remove()
    weight = layer.weight.detach() * explainer.connections.masks[name][..., None, None, None]
    maps = (weight.abs().sum((0, 2, 3, 4)).view(-1, 1, 1, 1) * kept["x"][0].abs()).numpy()
    result = {}
    for direction, (start, stop) in layer.flows.items():
        coarse = torch.from_numpy(maps[start:stop].sum(0))[None, None]
        fine = torch.nn.functional.interpolate(
            coarse, (16, 16, 16), mode="trilinear", align_corners=False
        )
        result[direction] = fine[0, 0].numpy()
    return result


def gaussian() -> np.ndarray:
    """Weights of a window of 16: sigma an eighth of it, at least a thousandth of the middle."""
    at = np.arange(16) - 7.5
    one = np.exp(-(at**2) / (2 * 2.0**2))
    one = np.maximum(one / one.max(), 1e-3)
    return one[:, None, None] * one[None, :, None] * one[None, None, :]


def test_one_window(write_case, explainer):
    case = opened(write_case(shape=(16, 16, 16)), explainer)
    found = explainer.maps(case, lattice(3))
    assert [maps.node for maps in found] == lattice(3)
    for maps in found:
        assert maps.label is None
        assert maps.inside == (slice(0, 16),) * 3
        assert maps.seen.all()
        for direction, expected in directly(explainer, maps.node, case.jobs[0].image).items():
            np.testing.assert_allclose(maps.raw[direction], expected, rtol=1e-4, atol=1e-5)


def test_several_windows_are_blended_as_the_segmentation_is(write_case, explainer):
    case = opened(write_case(shape=(24, 16, 30)), explainer)
    image = case.jobs[0].image
    assert image.shape == (1, 24, 16, 30)
    node = Node(1, 1)
    sums = {d: np.zeros(image.shape[1:]) for d in node.directions}
    total = np.zeros(image.shape[1:])
    # Evenly from border to border, no more than half a window apart.
    for d, w in itertools.product((0, 8), (0, 7, 14)):
        at = (slice(d, d + 16), slice(0, 16), slice(w, w + 16))
        for direction, one in directly(explainer, node, image[(slice(None), *at)].copy()).items():
            sums[direction][at] += gaussian() * one
        total[at] += gaussian()
    (maps,) = explainer.maps(case, [node])
    for direction in node.directions:
        expected = sums[direction] / total
        np.testing.assert_allclose(maps.raw[direction], expected, rtol=1e-3, atol=1e-4)


def test_maps_follow_the_file_s_axes(write_case, explainer):
    """The same voxels stored left-handed and oblique give a map on that very grid."""
    path = write_case("turned.nrrd", shape=(20, 16, 18), direction=LEFT_HANDED_OBLIQUE)
    case = opened(path, explainer)
    (maps,) = explainer.maps(case, [Node(2, 0)])
    volume = read_image(path)
    for raw in maps.raw.values():
        back = case.undo(raw)
        assert back.shape == volume.array.shape
        np.testing.assert_array_equal(to_canonical(Volume(back, volume.grid))[0].array, raw)
    assert case.grid == volume.grid


def test_a_region_of_interest_leaves_the_rest_unseen(write_case, explainer):
    whole = opened(write_case(shape=(24, 20, 40)), explainer)
    x, y, z = -12.0, 7.0, 31.5
    roi = [x, y, z, x + 9, y + 19, z + 23]
    case = opened(write_case(shape=(24, 20, 40)), explainer, roi=roi)
    (maps,) = explainer.maps(case, [Node(2, 0)])
    assert maps.inside == (slice(0, 24), slice(0, 20), slice(0, 10))
    assert maps.seen.all()
    for raw in maps.raw.values():
        assert raw.shape == (24, 20, 10)
        assert (raw > 0).mean() > 0.9  # depth-shift leaves empty slices at the border
    (everything,) = explainer.maps(whole, [Node(2, 0)])
    assert everything.inside == (slice(0, 24), slice(0, 20), slice(0, 40))
    assert everything.seen.all()


@pytest.mark.parametrize("direction", [None, LEFT_HANDED_OBLIQUE])
def test_maps_near_something_are_a_part_of_the_whole(write_case, explainer, direction):
    options = {"direction": direction} if direction else {}
    case = opened(write_case(shape=(24, 20, 40), **options), explainer)
    (whole,) = explainer.maps(case, [Node(1, 1)])
    near = np.zeros(case.canonical_grid.shape, bool)
    near[5:9, 3:8, 30:36] = near[7:12, 6:10, 28:33] = True
    (maps,) = explainer.maps(case, [Node(1, 1)], near=near)
    assert maps.inside == (slice(5, 12), slice(3, 10), slice(28, 36))
    np.testing.assert_array_equal(maps.seen, maps.part(near))
    for name, raw in maps.raw.items():
        np.testing.assert_array_equal(raw, np.where(near, whole.raw[name], 0)[maps.inside])


def test_nothing_is_read_beyond_the_region(write_case, explainer):
    x, y, z = -12.0, 7.0, 31.5
    case = opened(write_case(shape=(24, 20, 40)), explainer, roi=[x, y, z, x + 9, y + 19, z + 23])
    near = np.zeros(case.canonical_grid.shape, bool)
    near[2:8, 4:9, 5:30] = True  # the region has ten columns
    (maps,) = explainer.maps(case, [Node(2, 0)], near=near)
    assert maps.inside == (slice(2, 8), slice(4, 9), slice(5, 10))
    assert maps.seen.all()


@pytest.mark.parametrize(
    "sides",
    [
        (slice(3, 9), slice(1, 4), slice(10, 20)),  # of both
        (slice(0, 16), slice(5, 18), slice(22, 31)),  # of the mirrored one
        (slice(15, 16), slice(17, 18), slice(0, 3)),  # of the other
    ],
)
def test_a_part_of_two_regions_one_of_them_mirrored(write_case, explainer, sides):
    """The writer clips what it is handed: the same as clipping afterwards."""
    case = opened(write_case(shape=(16, 18, 32)), explainer)
    labels = tuple(explainer.bundle.labels)
    jobs = [
        prepare_region(
            [case.first],
            Region(name, (slice(0, 16), slice(1, 18), part), labels, cropped=True, mirror=mirror),
            _plan(explainer),
        )
        for name, part, mirror in (("a", slice(0, 17), False), ("b", slice(12, 32), True))
    ]
    case = _with_jobs(case, jobs)
    near = np.zeros(case.canonical_grid.shape, bool)
    near[sides] = True
    (whole,) = explainer.maps(case, [Node(2, 0)])
    (maps,) = explainer.maps(case, [Node(2, 0)], near=near)
    assert maps.inside == sides
    seen = np.zeros(near.shape, bool)
    seen[whole.inside] = whole.seen
    np.testing.assert_array_equal(maps.seen, seen[sides])
    for name, one in maps.raw.items():
        raw = np.zeros(near.shape, np.float32)
        raw[whole.inside] = whole.raw[name]
        np.testing.assert_array_equal(one, raw[sides])


def test_a_mirrored_region_is_mirrored_back(write_case, explainer):
    """Two regions of a locator, the second one flipped on its way in and out."""
    case = opened(write_case(shape=(16, 16, 16)), explainer)
    volume = case.first
    labels = tuple(explainer.bundle.labels)
    inside = (slice(0, 16),) * 3
    plain = prepare_region([volume], Region("L", inside, labels, cropped=True), _plan(explainer))
    flipped_volume = Volume(np.ascontiguousarray(volume.array[..., ::-1]), volume.grid, "flipped")
    mirrored = Region("R", inside, labels, cropped=True, mirror=True)
    job = prepare_region([flipped_volume], mirrored, _plan(explainer))
    one = explainer.maps(_with_jobs(case, [plain]), [Node(1, 1)])[0]
    two = explainer.maps(_with_jobs(case, [job]), [Node(1, 1)])[0]
    for direction in one.raw:
        np.testing.assert_allclose(
            one.raw[direction], two.raw[direction][..., ::-1], rtol=1e-5, atol=1e-6
        )


def test_overlapping_regions_keep_the_larger_value(write_case, explainer):
    case = opened(write_case(shape=(16, 16, 24)), explainer)
    labels = tuple(explainer.bundle.labels)
    jobs = [
        prepare_region(
            [case.first],
            Region(name, (slice(0, 16), slice(0, 16), part), labels, cropped=True),
            _plan(explainer),
        )
        for name, part in (("a", slice(0, 16)), ("b", slice(8, 24)))
    ]
    both = explainer.maps(_with_jobs(case, jobs), [Node(2, 0)])[0]
    each = [explainer.maps(_with_jobs(case, [job]), [Node(2, 0)])[0] for job in jobs]
    assert both.seen.all()
    for direction, raw in both.raw.items():
        expected = np.zeros_like(raw)
        for one in each:
            expected[one.inside] = np.maximum(expected[one.inside], one.raw[direction])
        np.testing.assert_array_equal(raw, expected)


def test_label_maps_come_after_the_importance(write_case, explainer):
    case = opened(write_case(shape=(16, 16, 16)), explainer)
    label = find_label("cube", case, explainer.bundle)
    found = explainer.maps(case, [Node(2, 0), Node(1, 1)], [label])
    assert [(maps.node, maps.label and maps.label.name) for maps in found] == [
        ((2, 0), None),
        ((1, 1), None),
        ((2, 0), "cube"),
        ((1, 1), "cube"),
    ]
    segmented = explainer.segment(case)
    assert found[2].scale > 0 or not (segmented == label.value).any()


def test_a_label_of_one_region_is_looked_for_there(write_case, explainer):
    from dataclasses import replace

    case = opened(write_case(shape=(16, 16, 32)), explainer)
    own = explainer.bundle.labels
    jobs = []
    for number, (name, part) in enumerate((("Left", slice(0, 16)), ("Right", slice(16, 32)))):
        labels = tuple(
            replace(one, value=number * 2 + one.value, name=f"{name} {one.name}") for one in own
        )
        region = Region("", (slice(0, 16), slice(0, 16), part), labels, cropped=True)
        jobs.append(prepare_region([case.first], region, _plan(explainer)))
    case = _with_jobs(case, jobs)
    left = jobs[0].region.labels[0]
    found = explainer.maps(case, [Node(2, 0)], [left, own[0]])
    assert found[1].seen[..., :16].all()
    assert not found[1].seen[..., 16:].any()
    assert not any(raw[..., 16:].any() for raw in found[1].raw.values())
    assert found[2].seen.all()
    for direction, raw in found[1].raw.items():
        np.testing.assert_array_equal(raw[..., :16], found[2].raw[direction][..., :16])


@pytest.mark.parametrize(("text", "value"), [("sphere", 1), ("CUBE", 2), ("2", 2), (" 1 ", 1)])
def test_labels_go_by_name_or_number(write_case, explainer, text, value):
    case = opened(write_case(shape=(16, 16, 16)), explainer)
    assert find_label(text, case, explainer.bundle).value == value


def test_an_unknown_label_lists_those_there_are(write_case, explainer):
    case = opened(write_case(shape=(16, 16, 16)), explainer)
    with pytest.raises(BadInput) as caught:
        find_label("spleen", case, explainer.bundle)
    assert caught.value.code == "no-label"
    assert "sphere, cube" in caught.value.help


def test_one_scale_for_all_directions_and_who_leads():
    raw = {
        "forward": np.array([[[4.0, 1.0, 0.0]]], np.float32),
        "upward": np.array([[[2.0, 2.0, 0.0]]], np.float32),
        "downward": np.array([[[1.0, 2.0, 0.0]]], np.float32),
    }
    maps = NodeMaps(Node(1, 1), None, raw, np.ones((1, 1, 3), bool), (slice(0, 3),) * 3)
    assert maps.scale == 4
    assert maps.normalised("upward").tolist() == [[[0.5, 0.5, 0.0]]]
    assert maps.dominant().tolist() == [[[1, 2, 0]]]  # of equals the first
    assert maps.shares() == pytest.approx({"forward": 5 / 12, "upward": 4 / 12, "downward": 3 / 12})
    first = np.array([[[True, False, False]]])
    assert maps.shares(first) == pytest.approx(
        {"forward": 4 / 7, "upward": 2 / 7, "downward": 1 / 7}
    )


def test_maps_of_nothing_stay_finite():
    raw = {d: np.zeros((2, 2, 2), np.float32) for d in ("forward", "upward")}
    maps = NodeMaps(Node(2, 0), None, raw, np.zeros((2, 2, 2), bool), (slice(0, 2),) * 3)
    assert not maps.normalised("forward").any()
    assert not maps.dominant().any()
    assert maps.shares() == {"forward": 0.0, "upward": 0.0}


def _plan(explainer):
    from e2enet.data.planning.plan import Plan

    return Plan.from_dict(explainer.bundle.plan)


def _with_jobs(case, jobs):
    from dataclasses import replace

    return replace(case, jobs=jobs)
