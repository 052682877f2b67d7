"""The labels of dataset.json: values, regions, ignore, and notations that are refused."""

from __future__ import annotations

import pytest
from e2enet.data.datasets.labels import Structures, check_order, parse_structures
from e2enet.events import BadInput

BRATS = {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing": [3]}


def parse(labels, **more):
    return parse_structures({"labels": labels, **more}, "dataset.json")


def test_values():
    found = parse({"background": 0, "liver": 1, "spleen": 2})
    assert found == Structures({"liver": (1,), "spleen": (2,)})
    assert found.known == {0, 1, 2}


@pytest.mark.parametrize(
    "labels", [{"0": "background", "1": "liver"}, {"0": "background", 1: "liver"}]
)
def test_the_decathlons_notation(labels):
    assert parse(labels).values == {"liver": (1,)}


def test_regions_with_their_order():
    found = parse(BRATS, regions_class_order=[1, 2, 3])
    assert found.values == {"whole tumor": (1, 2, 3), "tumor core": (2, 3), "enhancing": (3,)}
    assert found.order == (1, 2, 3)


def test_regions_that_overlap_need_an_order():
    with pytest.raises(BadInput, match='"whole tumor" and "tumor core" overlap') as caught:
        parse(BRATS)
    assert caught.value.code == "regions-without-order"


def test_regions_that_do_not_overlap_need_none():
    found = parse({"background": 0, "kidneys": [1, 2], "liver": 3})
    assert found.order == (1, 3)


def test_ignore():
    found = parse({"background": 0, "liver": 1, "ignore": 2})
    assert found == Structures({"liver": (1,)}, ignore=2)
    assert found.known == {0, 1, 2}
    with pytest.raises(BadInput, match="highest, 2 here"):
        parse({"background": 0, "liver": 1, "ignore": 255})
    with pytest.raises(BadInput, match="highest"):
        parse({"background": 0, "liver": 2, "ignore": 1})


@pytest.mark.parametrize(
    "labels",
    [None, [], {}, {"background": 0}, {"liver": "one"}, {"liver": None}, {"liver": -1},
     {"liver": []}, {"liver": [0, 1]}],
)  # fmt: skip
def test_what_makes_no_sense(labels):
    with pytest.raises(BadInput, match='"labels" is missing or wrong'):
        parse(labels)


@pytest.mark.parametrize("order", [[1, 2], [1, 2, 2], [1, 2, "3"], 3, [0, 1, 2]])
def test_an_order_that_does_not_fit(order):
    with pytest.raises(BadInput, match="regions_class_order"):
        parse(BRATS, regions_class_order=order)


@pytest.mark.parametrize("order", [[3, 2, 1], [1, 3, 2], [2, 1, 3]])
def test_an_order_that_hides_regions(order):
    """nnU-Net would take it, and no prediction could ever equal its reference."""
    with pytest.raises(BadInput, match="would get the value") as caught:
        check_order(parse(BRATS, regions_class_order=order), "dataset.json")
    assert caught.value.code == "bad-dataset-json"


def test_an_order_in_which_values_do_not_rise():
    """KiTS in nnU-Net's documentation: kidney [1, 2, 3], masses [2, 3], tumour 2."""
    labels = {"background": 0, "kidney": [1, 2, 3], "masses": [2, 3], "tumour": 2}
    found = parse(labels, regions_class_order=[1, 3, 2])
    check_order(found, "dataset.json")
    assert found.order == (1, 3, 2)


def test_labels_that_a_case_lacks():
    labels = {"background": 0, "liver": 1, "spleen": 2}
    found = parse(labels, missing_labels={"a": ["spleen"], "b": []})
    assert found.missing == {"a": ("spleen",)}
    assert found.judged("a") == {"liver": (1,)}
    assert found.judged("c") == found.values


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ([], "lists of labels by case"),
        ({"a": "liver"}, "lists of labels by case"),
        ({"a": [1]}, "lists of labels by case"),
        ({"a": ["kidney"]}, "none of the labels"),
        ({"a": ["background"]}, "none of the labels"),
        ({"a": ["liver", "spleen"]}, "lacks every label"),
    ],
)
def test_missing_labels_that_make_no_sense(missing, message):
    with pytest.raises(BadInput, match=message):
        parse({"background": 0, "liver": 1, "spleen": 2}, missing_labels=missing)
