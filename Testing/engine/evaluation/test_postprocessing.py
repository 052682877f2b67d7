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
    found = choose_postprocessing([pair], Structures({"one": (1,), "two": (2,), "both": (1, 2)}))
    assert set(found) == {"one", "two"}
    assert found["one"].keep_largest
    assert (found["one"].before, found["one"].after) == (pytest.approx(128 / 130), 1)
    assert not found["two"].keep_largest
    assert found["two"].after == pytest.approx(2 * 12 / (12 + 20))


def test_no_change_is_no_reason(tmp_path):
    mask = write(tmp_path / "r.nii.gz", np.ones(SHAPE))
    found = choose_postprocessing([Pair("a", mask, mask)], Structures({"one": (1,)}))
    assert not found["one"].keep_largest
