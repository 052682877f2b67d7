"""Folders of label maps: means, intervals, names, regions, the ignore label, bad input."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from e2enet.evaluation.evaluate import evaluate
from e2enet.events import BadInput, Reporter

from .shapes import box
from .shapes import write as write_map


def write(path, values, spacing=1.0):
    return write_map(path, np.reshape(values, (2, 2, 2)), (spacing,) * 3)


def describe(folder, labels, **more):
    folder.mkdir(parents=True, exist_ok=True)
    record = {"labels": labels, **more}
    (folder / "dataset.json").write_text(json.dumps(record), encoding="utf-8")


def dice(found, case):
    return {name: one.values["Dice"] for name, one in found.cases[case].items()}


def test_means_leave_out_what_neither_has(tmp_path):
    predictions, references = tmp_path / "p", tmp_path / "r"
    write(predictions / "a.nii.gz", [1, 1, 0, 0, 0, 0, 0, 0])
    write(references / "a.nii.gz", [1, 1, 0, 0, 0, 0, 0, 0])
    write(predictions / "b.nii.gz", [1, 2, 2, 0, 0, 0, 0, 0])
    write(references / "b.nrrd", [0, 2, 0, 0, 0, 0, 0, 0])
    found = evaluate(predictions, references)
    assert dice(found, "a")["1"] == 1
    assert math.isnan(dice(found, "a")["2"])
    assert found.cases["a"]["2"].counts.tn == 8
    assert dice(found, "b") == {"1": 0, "2": pytest.approx(2 / 3)}
    assert found.of_case("a") == 1
    assert found.of_structure("1") == 0.5
    assert found.of_structure("2") == pytest.approx(2 / 3)
    assert found.mean() == pytest.approx((0.5 + 2 / 3) / 2)


def test_names_come_from_the_dataset(tmp_path):
    write(tmp_path / "p" / "a.nii.gz", [1] + 7 * [0])
    write(tmp_path / "data" / "labelsTs" / "a.nii.gz", [1] + 7 * [0])
    describe(tmp_path / "data", {"background": 0, "liver": 1, "spleen": 2})
    found = evaluate(tmp_path / "p", tmp_path / "data" / "labelsTs")
    assert found.names == ["liver", "spleen"]
    assert math.isnan(found.of_structure("spleen"))
    assert found.mean() == 1


def test_regions_are_unions(tmp_path):
    write(tmp_path / "p" / "a.nii.gz", [1, 2, 3, 0, 0, 0, 0, 0])
    write(tmp_path / "r" / "a.nii.gz", [1, 1, 2, 3, 0, 0, 0, 0])
    regions = {"background": 0, "whole": [1, 2, 3], "core": [2, 3]}
    describe(tmp_path / "r", regions, regions_class_order=[1, 2])
    found = evaluate(tmp_path / "p", tmp_path / "r")
    assert dice(found, "a") == {"whole": pytest.approx(6 / 7), "core": pytest.approx(2 / 4)}


def test_ignored_voxels_count_in_neither(tmp_path):
    write(tmp_path / "p" / "a.nii.gz", [1, 1, 1, 1, 0, 0, 0, 0])
    write(tmp_path / "r" / "a.nii.gz", [1, 1, 2, 2, 2, 0, 0, 0])
    describe(tmp_path / "r", {"background": 0, "liver": 1, "ignore": 2})
    found = evaluate(tmp_path / "p", tmp_path / "r")
    assert dice(found, "a") == {"liver": 1}
    assert found.cases["a"]["liver"].values["HD"] == 0
    counts = found.cases["a"]["liver"].counts
    assert (counts.tp, counts.fp, counts.fn, counts.tn) == (2, 0, 0, 3)  # as nnU-Net counts


def test_what_nobody_drew_in_a_case_has_no_volume(tmp_path):
    for folder in "pr":
        for case in "ab":
            write(tmp_path / folder / f"{case}.nii.gz", [1, 2, 2, 0, 0, 0, 0, 0])
    labels = {"background": 0, "liver": 1, "spleen": 2, "aorta": 3}
    describe(tmp_path / "r", labels, missing_labels={"a": ["spleen"]})
    found = evaluate(tmp_path / "p", tmp_path / "r").cases
    assert math.isnan(found["a"]["spleen"].predicted_ml)
    assert math.isnan(found["a"]["spleen"].reference_ml)
    assert found["b"]["spleen"].reference_ml == pytest.approx(0.002)
    assert found["b"]["aorta"].reference_ml == 0


def test_different_grids_are_named_by_their_paths(tmp_path):
    write(tmp_path / "p" / "a.nii.gz", [1] * 8)
    write(tmp_path / "r" / "a.nii.gz", [1] * 8, spacing=2.0)
    with pytest.raises(BadInput, match="different grids") as caught:
        evaluate(tmp_path / "p", tmp_path / "r")
    for folder in "pr":
        assert str(tmp_path / folder / "a.nii.gz") in caught.value.message


@pytest.mark.parametrize("side", ["p", "r"])
def test_a_label_that_the_dataset_does_not_name(tmp_path, side):
    for folder in "pr":
        write(tmp_path / folder / "a.nii.gz", [1, 7 if folder == side else 0] + 6 * [0])
    describe(tmp_path / "r", {"background": 0, "liver": 1})
    with pytest.raises(BadInput, match="label 7, which") as caught:
        evaluate(tmp_path / "p", tmp_path / "r")
    assert str(tmp_path / side / "a.nii.gz") in caught.value.message


def test_damaged_dataset_json(tmp_path):
    write(tmp_path / "p" / "a.nii.gz", [1] * 8)
    write(tmp_path / "r" / "a.nii.gz", [1] * 8)
    (tmp_path / "dataset.json").write_text("{", encoding="utf-8")
    with pytest.raises(BadInput, match="not valid JSON"):
        evaluate(tmp_path / "p", tmp_path / "r")


def test_two_files(tmp_path):
    one = write(tmp_path / "one.nii.gz", [1, 1, 1, 0, 0, 0, 0, 0])
    other = write(tmp_path / "other.nii.gz", [1, 0, 0, 0, 0, 0, 0, 0])
    assert dice(evaluate(one, other), "other") == {"1": 0.5}


def test_only_background(tmp_path):
    one = write(tmp_path / "one.nii.gz", [0] * 8)
    with pytest.raises(BadInput, match="Nothing is labelled"):
        evaluate(one, one)
    describe(tmp_path, {"background": 0, "liver": 1})
    assert math.isnan(evaluate(one, one).mean())


def test_tolerances_by_structure(tmp_path):
    shape = (8, 8, 8)
    two = box(shape, (1, 3), (1, 7), (1, 7)) + 2 * box(shape, (5, 7), (1, 7), (1, 7))
    write_map(tmp_path / "r" / "a.nii.gz", two)
    write_map(tmp_path / "p" / "a.nii.gz", np.roll(two, 1, 0), (1, 1, 1))
    found = evaluate(tmp_path / "p", tmp_path / "r", tolerance=0.5, tolerances={"2": 1})
    assert found.tolerances == {"1": 0.5, "2": 1}
    assert found.of_structure("1", "NSD") < 1
    assert found.of_structure("2", "NSD") == 1
    with pytest.raises(BadInput, match="tolerance is given for liver"):
        evaluate(tmp_path / "p", tmp_path / "r", tolerances={"liver": 1})


def test_several_processes_find_the_same(tmp_path):
    for folder, seed in (("p", 0), ("r", 1)):
        random = np.random.default_rng(seed)
        for case in "abc":
            write_map(tmp_path / folder / f"{case}.nii.gz", random.integers(0, 3, (5, 6, 7)))
    alone = evaluate(tmp_path / "p", tmp_path / "r")
    together = evaluate(tmp_path / "p", tmp_path / "r", workers=2)
    assert together.cases == alone.cases


def test_intervals_hold_the_mean_and_know_their_cases(tmp_path):
    """Of n cases with Dice 0 or 1, the resampled mean is binomial: its quantiles are known."""
    n, ones = 40, 30
    for number in range(n):
        write(tmp_path / "r" / f"{number}.nii.gz", [1, 0, 0, 0, 0, 0, 0, 0])
        right = [1, 0] if number < ones else [0, 1]
        write(tmp_path / "p" / f"{number}.nii.gz", [*right, 0, 0, 0, 0, 0, 0])
    interval = evaluate(tmp_path / "p", tmp_path / "r").intervals("Dice")["1"]
    assert interval.mean == 0.75
    spread = 1.96 * math.sqrt(0.75 * 0.25 / n)
    assert interval.low == pytest.approx(0.75 - spread, abs=0.03)
    assert interval.high == pytest.approx(0.75 + spread, abs=0.03)


def test_one_case_has_no_interval(tmp_path):
    one = write(tmp_path / "one.nii.gz", [1] * 8)
    interval = evaluate(one, one).intervals("Dice")["1"]
    assert interval.mean == 1
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)


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
