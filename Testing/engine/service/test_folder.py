"""A folder of cases on a server: each as one alone, and a bad one does not stop the others."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from e2enet.events import BadInput
from e2enet.inference.batch import segment_folder
from e2enet.service.connection import Server
from e2enet.service.folder import segment_folder_on_server

from .conftest import Served


def test_a_folder_on_a_server(
    served: Served, volume: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "scans"
    folder.mkdir()
    shutil.copy(volume, folder / "a.nii.gz")
    (folder / "b.nii.gz").write_bytes(b"no image")
    here = segment_folder(folder, tiny_bundle, output=tmp_path / "here", device="cpu")
    server = Server(served.url, served.token())
    there = segment_folder_on_server(folder, "tiny", server=server, output=tmp_path / "there")
    for outcome in (here, there):
        assert [case["case"] for case in outcome["cases"]] == ["a"]
        assert [case["case"] for case in outcome["failed"]] == ["b"]
    assert here["failed"][0]["code"] == there["failed"][0]["code"]
    files = [sorted(p.name for p in (tmp_path / name).iterdir()) for name in ("here", "there")]
    assert files[0] == files[1]
    labels = [
        sitk.GetArrayFromImage(sitk.ReadImage(os.fspath(tmp_path / name / "a.nii.gz")))
        for name in ("here", "there")
    ]
    np.testing.assert_array_equal(*labels)
    assert len(np.unique(labels[0])) > 1
    assert served.ask("GET", "/jobs")[1]["jobs"] == []


def test_a_server_that_is_gone_ends_the_folder(volume: Path, tmp_path: Path) -> None:
    server = Server("http://127.0.0.1:9", "token")
    with pytest.raises(BadInput, match="does not answer") as caught:
        segment_folder_on_server(volume.parent, "tiny", server=server, output=tmp_path / "out")
    assert caught.value.code == "server-away"
    assert not (tmp_path / "out").exists()
