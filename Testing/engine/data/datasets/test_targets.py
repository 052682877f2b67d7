"""What the numbers of a prepared label map mean, read off a table written by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from e2enet.data.datasets.raw import Dataset
from e2enet.data.datasets.targets import Targets
from e2enet.events import BadInput

KIDNEYS = {"background": 0, "liver": 1, "left kidney": 2, "right kidney": 3}
BRATS = {"whole": (1, 2, 3), "core": (2, 3), "enhancing": (3,)}


def dataset(labels, **more) -> Dataset:
    return Dataset(Path("made"), "made", ("MRI",), labels, ".nii.gz", (), **more)


def brats(**more) -> Dataset:
    labels = {"background": 0, "whole": 1, "core": 2, "enhancing": 3}
    return dataset(labels, regions=BRATS, **more)


def meaning(targets, number):
    """Of each output: True, False, or None where that is not known."""
    return [
        bool(member) if known else None
        for member, known in zip(targets.member[number], targets.known[number], strict=True)
    ]


def test_labels_that_every_case_has_are_their_values():
    targets = Targets.of(dataset(KIDNEYS, ignore=4))
    assert not targets.partial
    assert meaning(targets, 0) == [True, False, False, False]
    assert meaning(targets, 3) == [False, False, False, True]
    assert meaning(targets, 4) == [None] * 4
    label = np.arange(5, dtype=np.uint8)
    np.testing.assert_array_equal(targets.encode(label, "any"), label)


def test_background_of_a_case_that_lacks_labels_may_be_one_of_them():
    targets = Targets.of(dataset(KIDNEYS, missing={"b": ("liver",)}))
    label = np.array([0, 2, 3], np.uint8)
    number = targets.encode(label, "b")
    assert meaning(targets, number[0]) == [None, None, False, False]
    assert meaning(targets, number[1]) == [False, False, True, False]
    assert meaning(targets, number[2]) == [False, False, False, True]
    np.testing.assert_array_equal(targets.encode(label, "a"), label)


def test_regions_overlap_and_one_that_is_missing_is_known_nowhere():
    targets = Targets.of(brats(ignore=4, missing={"b": ("enhancing",)}))
    assert [meaning(targets, value) for value in range(5)] == [
        [False, False, False],
        [True, False, False],
        [True, True, False],
        [True, True, True],
        [None, None, None],
    ]
    in_b = targets.encode(np.arange(5, dtype=np.uint8), "b")
    assert [meaning(targets, number) for number in in_b] == [
        [False, False, None],
        [True, False, None],
        [True, True, None],
        [True, True, None],
        [None, None, None],
    ]


def test_left_and_right_change_places_with_what_is_missing_of_them():
    targets = Targets.of(dataset(KIDNEYS, missing={"b": ("left kidney",)}))
    partners = targets.swapped([(2, 3)])
    assert (partners[2], partners[3]) == (3, 2)
    unknown_left = int(targets.encode(np.zeros(1, np.uint8), "b")[0])
    unknown_right = partners[unknown_left]
    assert meaning(targets, unknown_left) == [None, False, None, False]
    assert meaning(targets, unknown_right) == [None, False, False, None]
    assert partners[unknown_right] == unknown_left
    assert 0 not in partners


def test_values_of_a_left_region_become_those_of_the_right_one():
    labels = {"background": 0, "left lung": 1, "left lesion": 2, "right lung": 3}
    regions = {"left lung": (1, 2), "left lesion": (2,), "right lung": (3, 4), "right lesion": (4,)}
    targets = Targets.of(dataset({**labels, "right lesion": 4}, regions=regions))
    assert targets.swapped([(1, 3), (2, 4)]) == {1: 3, 2: 4, 3: 1, 4: 2}
    del regions["right lesion"]
    with pytest.raises(BadInput, match="cannot change places"):
        Targets.of(dataset(labels, regions=regions)).swapped([(1, 3)])


def test_many_labels_and_sets_take_more_than_a_byte_in_every_case():
    labels = {"background": 0, **{f"s{value}": value for value in range(1, 91)}}
    targets = Targets.of(dataset(labels, missing={"b": ("s1",), "c": ("s2", "s3")}))
    for case in "abc":
        assert targets.encode(np.zeros(2, np.uint8), case).dtype == np.int16
    number = int(targets.encode(np.full(1, 90, np.uint8), "c")[0])
    assert targets.member[number].nonzero()[0].tolist() == [90]
