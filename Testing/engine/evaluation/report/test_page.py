"""The page for people: what is on it, and that a report overwrites nothing."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from e2enet.evaluation.evaluate import evaluate
from e2enet.evaluation.report.figures import PREDICTION, REFERENCE, disagreement
from e2enet.evaluation.report.page import write_report
from e2enet.events import BadInput
from PIL import Image

from ..shapes import box, write

SHAPE = (8, 20, 24)


def pictures(page):
    return [base64.b64decode(data) for data in re.findall(r'base64,([^"]+)"', page)]


def test_the_page(tmp_path):
    thing = box(SHAPE, (2, 6), (4, 12), (5, 15))
    for case, moved in (("good <b>", 0), ("bad", 6)):
        write(tmp_path / "data" / "labelsTr" / f"{case}.nii.gz", thing)
        write(tmp_path / "p" / f"{case}.nii.gz", np.roll(thing, moved, 1))
    write(tmp_path / "data" / "imagesTr" / "bad_0000.nii.gz", 50 * thing)
    found = evaluate(tmp_path / "p", tmp_path / "data" / "labelsTr")
    write_report(tmp_path / "out", found)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "metrics.csv", "metrics.json", "report.html", "summary.json",
    }  # fmt: skip
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "<b>" not in page
    assert "good &lt;b&gt;" in page
    assert page.index("bad, 1: Dice 0.250") < page.index("good &lt;b&gt;, 1: Dice 1.000")
    assert "voxel boundary" in page
    assert "http" not in page.replace('"http-equiv', "")
    assert len(pictures(page)) == 4
    for picture in pictures(page):
        assert np.asarray(Image.open(io.BytesIO(picture)).convert("L")).std() > 5


def test_outlines_lie_where_the_masks_are():
    """On the slice with the difference; both colours, each around its own mask."""
    reference = box(SHAPE, (3, 5), (4, 12), (4, 12))
    prediction = box(SHAPE, (4, 5), (4, 12), (12, 20))
    picture = Image.open(io.BytesIO(disagreement(prediction, reference, (1, 1, 1))))
    pixels = np.asarray(picture.convert("RGB")).astype(int)
    columns = []
    for color in (REFERENCE, PREDICTION):
        wanted = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
        near = np.abs(pixels - wanted).sum(axis=2) < 60
        columns.append(np.flatnonzero(near.any(axis=0)))
    assert columns[0].size
    assert columns[1].size
    assert columns[0].mean() < pixels.shape[1] / 2 < columns[1].mean()


def test_nothing_is_overwritten(tmp_path):
    one = write(tmp_path / "one.nii.gz", np.ones((2, 2, 2)))
    found = evaluate(one, one)
    (tmp_path / "out").mkdir()
    with pytest.raises(BadInput, match="exists"):
        write_report(tmp_path / "out", found)
    with pytest.raises(BadInput, match="does not exist"):
        write_report(tmp_path / "none" / "out", found)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.nii.gz", "out"]
