"""Every metric: shapes with known answers, nothing, the image's edge, CHAOS's example."""

from __future__ import annotations

import math

import numpy as np
import pytest
from e2enet.evaluation.metrics.measures import METRICS, measure
from scipy import ndimage
from scipy.spatial import KDTree

from ..shapes import ball, box

DISTANCES = ("HD95", "HD", "ASSD", "MSSD", "MAD")
SHAPE = (12, 14, 16)


def values(prediction, reference, spacing=(1.0, 1.0, 1.0), tolerance=1.0):
    return measure(prediction, reference, spacing, tolerance=tolerance).values


def test_the_same_shape_twice_is_perfect():
    mask = box(SHAPE, (2, 8), (3, 9), (4, 12))
    assert values(mask, mask) == {key: metric.best for key, metric in METRICS.items()}


@pytest.mark.parametrize(("axis", "spacing"), [(0, 7.0), (1, 0.5), (2, 1.25)])
def test_a_shift_is_measured_in_millimetres(axis, spacing):
    """Fails if spacing is ignored or its axes are mixed up."""
    apart = (7.0, 0.5, 1.25)
    mask = box(SHAPE, (2, 8), (3, 9), (4, 12))
    found = values(np.roll(mask, 2, axis), mask, apart)
    assert found["HD"] == found["MSSD"] == pytest.approx(2 * spacing)
    assert found["RAVD"] == found["VD"] == 0


def test_volumes_in_millilitres():
    big, small = box(SHAPE, (2, 8), (3, 9), (4, 12)), box(SHAPE, (2, 8), (3, 9), (4, 8))
    measured = measure(big, small, (2.0, 1.0, 0.5), tolerance=1)
    assert measured.reference_ml == pytest.approx(6 * 6 * 4 / 1000)
    assert measured.values["VD"] == pytest.approx(6 * 6 * 4 / 1000)
    assert measured.values["RAVD"] == pytest.approx(100)
    swapped = values(small, big)
    assert swapped["RAVD"] == pytest.approx(50)
    assert swapped["VD"] < 0


def test_two_voxels_have_answers_that_can_be_written_down():
    """One voxel against two: to the reference 0; back 0 and 3 mm."""
    prediction, reference = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    prediction[5, 5, 5] = True
    reference[5, 5, [5, 8]] = True
    found = values(prediction, reference, tolerance=1)
    assert found["HD"] == found["MSSD"] == 3
    assert found["ASSD"] == pytest.approx(1)  # (0 + 0 + 3) / 3, pooled
    assert found["MAD"] == pytest.approx(0.75)  # (0 + 1.5) / 2, of both directions
    assert found["HD95"] == pytest.approx(2.85)  # pooled it would be 2.7
    assert found["NSD"] == pytest.approx(2 / 3)
    assert found["LesionF1"] == pytest.approx(2 / 3)


def test_the_tolerance_counts():
    mask = box(SHAPE, (2, 8), (3, 9), (4, 12))
    moved = np.roll(mask, 2, 0)
    assert values(moved, mask, tolerance=2)["NSD"] == 1
    assert values(moved, mask, tolerance=1.9)["NSD"] < 1


def test_a_single_image_has_an_outline_and_no_thickness():
    reference = box((1, 20, 20), (0, 1), (4, 14), (4, 14))
    prediction = box((1, 20, 20), (0, 1), (6, 12), (6, 12))
    found = values(prediction, reference, (5.0, 1.0, 1.0))
    assert found["HD"] == found["MSSD"] == pytest.approx(math.hypot(2, 2), abs=1e-5)
    assert found["NSD"] == 0  # nothing within 1 mm, though both fill the image's only slice
    nothing = np.zeros_like(reference)
    assert values(nothing, reference, (5.0, 1.0, 1.0))["HD"] == pytest.approx(math.hypot(20, 20))


def test_neither_has_it():
    nothing = np.zeros(SHAPE, bool)
    measured = measure(nothing, nothing, (1, 1, 1), tolerance=1)
    assert all(math.isnan(value) for value in measured.values.values())
    assert measured.predicted_ml == measured.reference_ml == 0


@pytest.mark.parametrize("missing", ["prediction", "reference"])
def test_only_one_has_it(missing):
    nothing, mask = np.zeros(SHAPE, bool), box(SHAPE, (2, 8), (3, 9), (4, 12))
    pair = (nothing, mask) if missing == "prediction" else (mask, nothing)
    found = values(*pair, spacing=(2.0, 1.0, 0.5))
    assert found["Dice"] == found["NSD"] == found["LesionF1"] == 0
    diagonal = math.hypot(12 * 2.0, 14 * 1.0, 16 * 0.5)
    assert [found[key] for key in DISTANCES] == [pytest.approx(diagonal)] * 5
    ravd = found["RAVD"]
    assert ravd == 100 if missing == "prediction" else math.isnan(ravd)


def chaos(prediction, reference, spacing):
    """CHAOS's four, written again with other tools; the image's edge is no surface."""
    cross = ndimage.generate_binary_structure(3, 1)
    borders = []
    for mask in (prediction, reference):
        inside = ndimage.binary_erosion(mask, cross, border_value=1)
        borders.append(np.argwhere(mask & ~inside) * spacing)
    ours, theirs = borders
    both = np.concatenate([KDTree(theirs).query(ours)[0], KDTree(ours).query(theirs)[0]])
    sizes = int(prediction.sum()), int(reference.sum())
    return {
        "Dice": 2 * int((prediction & reference).sum()) / sum(sizes),
        "RAVD": 100 * abs(sizes[0] - sizes[1]) / sizes[1],
        "ASSD": both.mean(),
        "MSSD": both.max(),
    }


@pytest.mark.parametrize("cut", [0, 1, 2])
def test_beyond_the_edge_is_outside_but_not_for_chaos(cut):
    """A structure that the image cuts off: its flat end is surface for HD and NSD only."""
    reference = box(SHAPE, (2, 8), (3, 9), (4, 12))
    reference = np.roll(reference, -[2, 3, 4][cut], cut)  # now at index 0
    prediction = reference.copy()
    prediction[tuple(slice(0, 3) if k == cut else slice(None) for k in range(3))] = False
    spacing = (3.0, 1.0, 2.0)
    found = values(prediction, reference, spacing)
    assert {key: found[key] for key in ("ASSD", "MSSD")} == pytest.approx(
        {key: value for key, value in chaos(prediction, reference, spacing).items() if "SSD" in key}
    )
    assert found["MAD"] != pytest.approx(found["ASSD"])
    assert found["HD"] == pytest.approx(3 * spacing[cut])


def test_what_fills_the_image_has_no_surface_for_chaos():
    full, mask = np.ones(SHAPE, bool), box(SHAPE, (2, 8), (3, 9), (4, 12))
    found = values(full, mask)
    diagonal = math.hypot(*SHAPE)
    assert found["ASSD"] == found["MSSD"] == pytest.approx(diagonal)
    assert 0 < found["HD"] < diagonal
    both = values(full, full)
    assert both["ASSD"] == both["MSSD"] == 0


def test_the_numbers_of_the_chaos_example_come_out():
    """A made twin of the example that CHAOS publishes with its evaluation code.

    A ball and one that is moved and a little smaller, with a spike seven slices of 2 mm high, whose
    four numbers are those of the challenge's example: 0.978, 0.665, 0.734 and 14.
    """
    spacing, radius, shift = (2.0, 1.5, 1.5), 47.8, 1.235
    shape = (67, 74, 74)
    centre = [n // 2 * s for n, s in zip(shape, spacing, strict=True)]
    reference = ball(shape, spacing, centre, radius)
    moved = (centre[0], centre[1] + shift, centre[2] + shift / 2)
    prediction = ball(shape, spacing, moved, radius * 0.997485)
    top = int(np.flatnonzero(reference[:, 37, 37])[-1])
    prediction[top : top + 8, 37, 37] = True
    prediction[tuple(np.argwhere(reference & ~prediction)[0])] = True

    found = values(prediction, reference, spacing)
    published = {"Dice": "0.978", "RAVD": "0.665", "ASSD": "0.734", "MSSD": "14.000"}
    assert {key: f"{found[key]:.3f}" for key in published} == published
    second = chaos(prediction, reference, spacing)
    assert {key: found[key] for key in published} == pytest.approx(second, rel=1e-5)
