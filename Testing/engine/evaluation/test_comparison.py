"""Wilcoxon's test and the effect size against SciPy and by hand; two folders of predictions."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from e2enet.evaluation.comparison import compare, signed_rank, to_dict
from e2enet.events import BadInput
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from .shapes import box, write

SHAPE = (6, 8, 10)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-9, 9), min_size=1, max_size=9))
def test_small_samples_are_exact_with_ties(values):
    """Against SciPy's permutation of all signs, which also takes ties exactly."""
    assume(any(values))
    values = [value for value in values if value]
    p, effect = signed_rank(values)
    ranks = stats.rankdata(np.abs(values))
    signs = np.array(np.meshgrid(*[[-1, 1]] * len(values))).reshape(len(values), -1)
    sums = (signs * ranks[:, None]).sum(axis=0)
    own = (np.sign(values) * ranks).sum()
    assert p == pytest.approx(np.mean(np.abs(sums) >= abs(own) - 1e-9))
    assert effect == pytest.approx(own / ranks.sum())


@pytest.mark.parametrize("decimals", [1, 6])
def test_large_samples_agree_with_scipy(decimals):
    values = np.round(np.random.default_rng(0).normal(0.2, 1, 60), decimals)
    values = values[values != 0]
    theirs = stats.wilcoxon(values, correction=False, method="approx").pvalue
    assert signed_rank(values.tolist())[0] == pytest.approx(theirs, rel=1e-9)


def test_nothing_differs():
    assert all(math.isnan(value) for value in signed_rank([0, 0]))


def made(folder, moved):
    thing = box(SHAPE, (1, 5), (1, 5), (2, 7)).astype(int)
    for number, by in enumerate(moved):
        write(folder / f"c{number}.nii.gz", np.roll(thing, by, 2))
    return folder


def test_two_models(tmp_path):
    references = made(tmp_path / "r", [0] * 6)
    better = made(tmp_path / "a", [0, 0, 1, 1, 1, 2])
    worse = made(tmp_path / "b", [1, 1, 2, 2, 2, 2])
    found = compare(better, worse, references)
    dice = found["1"]["Dice"]
    assert (dice.cases, dice.wins, dice.losses) == (6, 5, 0)
    assert dice.effect == 1
    assert dice.p == pytest.approx(2 / 2**5)  # one of the 32 patterns of signs on either side
    assert dice.mean_difference == pytest.approx(5 * 0.2 / 6)
    assert found["1"]["HD95"].effect == -1
    assert found["mean"]["Dice"] == dice
    swapped = compare(worse, better, references)["1"]["Dice"]
    assert (swapped.p, swapped.effect) == (dice.p, -1)
    assert json.loads(json.dumps(to_dict(found), allow_nan=False))["1"]["VD"]["p"] is None


def test_a_single_case(tmp_path):
    references = made(tmp_path / "r", [0])
    with pytest.raises(BadInput, match="holds one case"):
        compare(references, references, references)


def test_labels_of_only_one_model_need_names(tmp_path):
    references, other = made(tmp_path / "r", [0, 0]), made(tmp_path / "a", [0, 1])
    write(tmp_path / "b" / "c0.nii.gz", np.full(SHAPE, 2))
    write(tmp_path / "b" / "c1.nii.gz", np.zeros(SHAPE))
    with pytest.raises(BadInput, match="has the label 2"):
        compare(other, tmp_path / "b", references)
