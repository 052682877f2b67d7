"""The page about a dataset."""

from __future__ import annotations

import json

import numpy as np
from e2enet.data.datasets.checking import check_dataset
from e2enet.evaluation.report.dataset_page import write_check

from ..shapes import box, write


def test_the_page_shows_the_doubtful_case(tmp_path):
    folder = tmp_path / "Dataset001_<b>"
    for number in range(3):
        label = box((6, 10, 12), (1, 3), (1, 5), (1 + number, 5)) * 1
        write(folder / "imagesTr" / f"c{number}_0000.nii.gz", 50 * label + number)
        write(
            folder / "labelsTr" / f"c{number}.nii.gz", np.flip(label, 2) if number == 1 else label
        )
    record = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "thing": 1}}
    (folder / "dataset.json").write_text(json.dumps(record), encoding="utf-8")
    found = check_dataset(folder, workers=0)
    write_check(tmp_path / "out", found)
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "mirrored from left to right" in page
    assert "<b>" not in page
    assert page.count("<img") == 1
    record = json.loads((tmp_path / "out" / "check.json").read_text(encoding="utf-8"))
    assert record["findings"][0]["case"] == "c1"
    assert record["cases"][0]["voxels"] == {"1": 32}
