"""Largest parts are chosen where they help, and only there."""

from __future__ import annotations

import numpy as np
import pytest
from e2enet.data.datasets.labels import Structures
from e2enet.evaluation.pairs import Pair
from e2enet.evaluation.postprocessing import choose_postprocessing

from .shapes import box, write

SHAPE = (8, 8, 12)


def test_islands_of_one_label_and_two_true_parts_of_another(tmp_path):
    """Label 1 has a false island; label 2 really comes in two parts."""
    reference = box(SHAPE, (1, 5), (1, 5), (1, 5)).astype(int)
    reference[6:8, 6:8, 0:2] = reference[6:8, 6:8, 9:12] = 2
    prediction = reference.copy()
    prediction[0, 0, 10:12] = 1
    pair = Pair(
        "a", write(tmp_path / "p.nii.gz", prediction), write(tmp_path / "r.nii.gz", reference)
    )
    found = choose_postprocessing([pair], Structures({"one": (1,), "two": (2,)}))
    one, two = found.structures["one"], found.structures["two"]
    assert one.keep_largest
    assert (one.before, one.after) == (pytest.approx(128 / 130), 1)
    assert not two.keep_largest
    assert two.after == pytest.approx(2 * 12 / (12 + 20))
    # As one, both lose: label 2 touches nothing.
    assert found.foreground is not None
    assert (found.foreground.values, found.foreground.harms) == ((1, 2), True)
    assert found.foreground.after == pytest.approx(1 / 2)
    assert found.kept == [(1,)]


def test_the_foreground_as_a_whole_comes_first(tmp_path):
    """Labels that touch, with an island of each: what is left needs no more of it."""
    reference = box(SHAPE, (1, 5), (1, 5), (1, 5)).astype(int)
    reference[1:5, 1:5, 5:8] = 2
    prediction = reference.copy()
    prediction[7, 7, 11], prediction[7, 7, 0] = 1, 2
    pair = Pair(
        "a", write(tmp_path / "p.nii.gz", prediction), write(tmp_path / "r.nii.gz", reference)
    )
    found = choose_postprocessing([pair], Structures({"one": (1,), "two": (2,)}))
    assert found.foreground is not None
    assert found.foreground.before == pytest.approx((128 / 129 + 96 / 97) / 2)
    assert found.foreground.after == 1
    assert found.kept == [(1, 2)]
    assert [one.before for one in found.structures.values()] == [1, 1]


def test_a_foreground_that_gains_at_the_cost_of_one_label_is_left_alone(tmp_path):
    """Label 1 has many islands; a true part of label 2 lies apart."""
    reference = box(SHAPE, (1, 5), (1, 5), (1, 5)).astype(int)
    reference[1:5, 1:5, 5:9] = reference[7, 7, 7] = 2
    prediction = reference.copy()
    prediction[6, :, ::2] = 1
    prediction[7, 7, 7] = 2
    prediction[5:7, 5:8, 4:9] = 0
    pair = Pair(
        "a", write(tmp_path / "p.nii.gz", prediction), write(tmp_path / "r.nii.gz", reference)
    )
    found = choose_postprocessing([pair], Structures({"one": (1,), "two": (2,)}))
    assert found.foreground is not None
    assert found.foreground.after > found.foreground.before
    assert found.foreground.harms
    assert found.kept == [(1,)]


def test_a_region_must_not_cost_those_around_it(tmp_path):
    """An island of the core is wrong as core, but right as a part of the whole."""
    reference = box(SHAPE, (1, 7), (1, 7), (1, 11)).astype(int)
    reference[3:5, 3:5, 3:5] = 2
    prediction = reference.copy()
    prediction[3:5, 3:5, 8] = 2
    pair = Pair(
        "a", write(tmp_path / "p.nii.gz", prediction), write(tmp_path / "r.nii.gz", reference)
    )
    regions = Structures({"whole": (1, 2), "core": (2,)}, order=(1, 2))
    found = choose_postprocessing([pair], regions)
    core = found.structures["core"]
    assert core.after > core.before
    assert core.harms
    assert found.kept == []


def test_a_label_that_a_case_lacks_decides_nothing(tmp_path):
    reference = box(SHAPE, (1, 5), (1, 5), (1, 5)).astype(int)
    prediction = np.where(reference, 1, 0)
    prediction[7, 7, 8:] = 2  # perhaps right: nobody drew it
    pair = Pair(
        "a", write(tmp_path / "p.nii.gz", prediction), write(tmp_path / "r.nii.gz", reference)
    )
    both = Structures({"one": (1,), "two": (2,)}, missing={"a": ("two",)})
    found = choose_postprocessing([pair], both)
    assert np.isnan(found.structures["two"].before)
    assert found.kept == []


def test_no_change_is_no_reason(tmp_path):
    mask = write(tmp_path / "r.nii.gz", np.ones(SHAPE))
    found = choose_postprocessing([Pair("a", mask, mask)], Structures({"one": (1,)}))
    assert found.foreground is None
    assert found.kept == []
