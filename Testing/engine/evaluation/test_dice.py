"""Dice by its definition, and folders of label maps."""

from __future__ import annotations

import json
import math
import os

import numpy as np
import pytest
import SimpleITK as sitk
from e2enet.evaluation.dice import dice, evaluate
from e2enet.events import BadInput, Reporter
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

maps = hnp.arrays(np.uint8, (2, 3, 4), elements=st.integers(0, 3))


@given(maps, maps)
def test_dice_is_that_of_sets(prediction, reference):
    for value, score in dice(prediction, reference, range(1, 5)).items():
        a = set(np.flatnonzero(prediction == value))
        b = set(np.flatnonzero(reference == value))
        if a or b:
            assert score == pytest.approx(2 * len(a & b) / (len(a) + len(b)))
        else:
            assert math.isnan(score)


def test_shapes_that_differ():
    with pytest.raises(ValueError, match="shapes differ"):
        dice(np.zeros((2, 2)), np.zeros((2, 3)), [1])


def write(path, array, spacing=1.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(np.asarray(array, np.uint8).reshape(2, 2, 2))
    image.SetSpacing((spacing,) * 3)
    sitk.WriteImage(image, os.fspath(path))
    return path


def test_means_leave_out_what_neither_has(tmp_path):
    predictions, references = tmp_path / "p", tmp_path / "r"
    write(predictions / "a.nii.gz", [1, 1, 0, 0, 0, 0, 0, 0])
    write(references / "a.nii.gz", [1, 1, 0, 0, 0, 0, 0, 0])
    write(predictions / "b.nii.gz", [1, 2, 2, 0, 0, 0, 0, 0])
    write(references / "b.nrrd", [0, 2, 0, 0, 0, 0, 0, 0])
    found = evaluate(predictions, references)
    assert found.cases["a"][1] == 1
    assert math.isnan(found.cases["a"][2])
    assert found.cases["b"] == {1: 0, 2: pytest.approx(2 / 3)}
    assert found.of_case("a") == 1
    assert found.of_label(1) == 0.5
    assert found.of_label(2) == pytest.approx(2 / 3)
    assert found.mean == pytest.approx((0.5 + 2 / 3) / 2)
    assert found.to_dict()["cases"]["a"]["labels"]["2"] is None
    json.dumps(found.to_dict(), allow_nan=False)


def test_names_come_from_the_dataset(tmp_path):
    write(tmp_path / "p" / "a.nii.gz", [1] + 7 * [0])
    write(tmp_path / "data" / "labelsTs" / "a.nii.gz", [1] + 7 * [0])
    (tmp_path / "data" / "dataset.json").write_text(
        json.dumps({"labels": {"background": 0, "liver": 1, "spleen": 2}}), encoding="utf-8"
    )
    found = evaluate(tmp_path / "p", tmp_path / "data" / "labelsTs")
    assert found.names == {1: "liver", 2: "spleen"}
    assert found.to_dict()["mean_by_label"] == {"liver": 1.0, "spleen": None}
    assert found.mean == 1


def test_two_files(tmp_path):
    one = write(tmp_path / "one.nii.gz", [1, 1, 1, 0, 0, 0, 0, 0])
    other = write(tmp_path / "other.nii.gz", [1, 0, 0, 0, 0, 0, 0, 0])
    assert evaluate(one, other).cases == {"other": {1: 0.5}}


def test_only_background_has_no_mean(tmp_path):
    one = write(tmp_path / "one.nii.gz", [0] * 8)
    assert math.isnan(evaluate(one, one).mean)


def test_different_grids(tmp_path):
    one = write(tmp_path / "one.nii.gz", [1] * 8)
    other = write(tmp_path / "other.nii.gz", [1] * 8, spacing=2)
    with pytest.raises(BadInput, match="different grids"):
        evaluate(one, other)


def test_missing_ones_are_named_and_extra_ones_told(tmp_path):
    for name in "abc":
        write(tmp_path / "r" / f"{name}.nii.gz", [1] * 8)
    for name in "az":
        write(tmp_path / "p" / f"{name}.nii.gz", [1] * 8)
    with pytest.raises(BadInput, match="lacks 2 of 3 cases: b, c"):
        evaluate(tmp_path / "p", tmp_path / "r")

    class Heard(Reporter):
        told = ""

        def warning(self, code, message):
            self.told += message

    for name in "bc":
        write(tmp_path / "p" / f"{name}.nii.gz", [1] * 8)
    heard = Heard()
    assert len(evaluate(tmp_path / "p", tmp_path / "r", reporter=heard).cases) == 3
    assert "z" in heard.told


@pytest.mark.parametrize("swap", [False, True])
def test_a_file_and_a_folder(tmp_path, swap):
    pair = [write(tmp_path / "r" / "a.nii.gz", [1] * 8), tmp_path / "r"]
    with pytest.raises(BadInput, match="are a file and a folder"):
        evaluate(*(reversed(pair) if swap else pair))


def test_what_is_not_there(tmp_path):
    with pytest.raises(BadInput, match="does not exist"):
        evaluate(tmp_path / "none", tmp_path)
