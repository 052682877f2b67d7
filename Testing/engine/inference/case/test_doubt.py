"""Doubts: what cannot be right is said, once and first; what can be is left alone."""

from __future__ import annotations

import numpy as np
import pytest
from e2enet.bundle import Label
from e2enet.data.images.volume import Grid
from e2enet.inference.case.doubt import FACE_MM2, Doubt, find_doubts, sentence
from e2enet.inference.localisation.regions import Region

GRID = Grid((20, 20, 20), (1.0, 1.0, 3.0), (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))


def label(value: int, name: str, usual: tuple[float, float] | None = None) -> Label:
    return Label(value, name, (1, 2, 3), {}, usual)


def region(name: str, first: int, labels: tuple[Label, ...]) -> Region:
    return Region(name, (slice(2, 18), slice(2, 18), slice(first, first + 8)), labels, cropped=True)


def doubts(
    canvas: np.ndarray | None = None,
    *,
    labels: tuple[Label, ...],
    volumes: dict[int, float],
    regions: tuple[Region, ...] = (),
    pairs: tuple[tuple[int, int], ...] = (),
) -> list[Doubt]:
    return find_doubts(
        np.zeros((20, 20, 20), np.uint8) if canvas is None else canvas,
        GRID,
        labels=labels,
        volumes_ml=volumes,
        regions=regions,
        pairs=pairs,
    )


@pytest.mark.parametrize(
    ("volume", "doubted"), [(1.0, False), (0.67, False), (0.66, True), (3.0, False), (3.1, True)]
)
def test_a_volume_may_lie_one_and_a_half_times_beyond_the_training_cases(
    volume: float, doubted: bool
) -> None:
    found = doubts(labels=(label(1, "Thing", (1.0, 2.0)),), volumes={1: volume})
    assert [doubt.code for doubt in found] == ["unusual-volume"] * doubted
    if doubted:
        assert f"Thing measures {volume:.2f} mL" in sentence(found)
        assert "1.00 to 2.00 mL" in sentence(found)


def test_without_a_usual_volume_nothing_is_said_about_it() -> None:
    assert not doubts(labels=(label(1, "Thing"),), volumes={1: 0.0})


@pytest.mark.parametrize(("right", "doubted"), [(2.0, False), (1.01, False), (0.9, True)])
def test_sides_are_compared_as_a_whole(right: float, doubted: bool) -> None:
    left_labels = (label(1, "Left A"), label(2, "Left B"))
    right_labels = (label(3, "Right A"), label(4, "Right B"))
    found = doubts(
        labels=(*left_labels, *right_labels),
        volumes={1: 2.0, 2: 0.0, 3: 0.0, 4: right},  # parts may differ, sides may not
        regions=(region("Left", 10, left_labels), region("Right", 2, right_labels)),
    )
    assert [doubt.code for doubt in found] == ["sides-differ"] * doubted
    if doubted:
        assert found[0].labels == (1, 2, 3, 4)
        assert "left side measures 2.00 mL and the right side 0.90 mL" in sentence(found)


def test_one_side_alone_is_compared_with_nothing() -> None:
    labels = (label(1, "Left A"),)
    assert not doubts(labels=labels, volumes={1: 2.0}, regions=(region("Left", 10, labels),))


def test_the_pairs_of_a_plan_are_compared() -> None:
    labels = (label(2, "right kidney"), label(3, "left kidney"))
    found = doubts(labels=labels, volumes={2: 150.0, 3: 60.0}, pairs=((3, 2),))
    assert found[0].labels == (3, 2)
    assert "left kidney measures 60.00 mL and right kidney 150.00 mL" in sentence(found)
    assert not doubts(labels=labels, volumes={2: 150.0, 3: 80.0}, pairs=((3, 2),))


@pytest.mark.parametrize("face", range(6))
def test_what_touches_the_border_of_its_box_goes_on_beyond_it(face: int) -> None:
    labels = (label(1, "Left A"), label(2, "Left B"))
    box = region("Left", 10, labels)
    canvas = np.zeros((20, 20, 20), np.uint8)
    axis, end = divmod(face, 2)
    inner = [slice(5, 10), slice(5, 11), slice(12, 17)]
    canvas[tuple(inner)] = 1  # in the middle of the box
    volumes = {1: 1.0, 2: 1.0}
    assert not doubts(canvas, labels=labels, volumes=volumes, regions=(box,))
    inner[axis] = (
        slice(box.inside[axis].stop - 1, None) if end else slice(0, box.inside[axis].start + 1)
    )
    canvas[tuple(inner)] = 2
    (found,) = doubts(canvas, labels=labels, volumes=volumes, regions=(box,))
    assert found.code == "cut-off"
    assert found.labels == (2,)
    assert "left side" in found.message


def test_a_few_voxels_at_the_border_are_no_doubt() -> None:
    labels = (label(1, "Left A"),)
    canvas = np.zeros((20, 20, 20), np.uint8)
    canvas[2, 2:6, 10:15] = 1  # 20 mm² of a face across z
    assert canvas.sum() == FACE_MM2
    box = (region("Left", 10, labels),)
    assert not doubts(canvas, labels=labels, volumes={1: 1.0}, regions=box)
    canvas[2, 6, 10] = 1
    assert doubts(canvas, labels=labels, volumes={1: 1.0}, regions=box)


def test_labels_of_another_box_do_not_count() -> None:
    mine, other = (label(1, "Left A"),), (label(2, "Right A"),)
    canvas = np.zeros((20, 20, 20), np.uint8)
    canvas[2:18, 2:18, 10] = 2
    found = doubts(canvas, labels=(*mine, *other), volumes={1: 1.0, 2: 1.0},
                   regions=(region("Left", 10, mine),))  # fmt: skip
    assert not found


def test_an_image_without_boxes_may_be_filled_to_its_border() -> None:
    labels = (label(1, "Cord"),)
    whole = Region("", (slice(0, 20),) * 3, labels)
    canvas = np.ones((20, 20, 20), np.uint8)
    assert not doubts(canvas, labels=labels, volumes={1: 1.0}, regions=(whole,))


def test_one_sentence_names_the_first_of_each_kind() -> None:
    many = [Doubt("unusual-volume", (k,), f"{k} measures 0 mL") for k in range(1, 5)]
    text = sentence([*many, Doubt("cut-off", (1,), "it reaches the border")])
    assert text == (
        "This result is doubtful, look at it before you use it: 1 measures 0 mL (and 3 more); it "
        "reaches the border."
    )
