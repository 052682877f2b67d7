"""A folder of cases that is gone on with: after a kill, a change of the model, of an image."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from e2enet.events import Reporter
from e2enet.inference.batch import segment_folder

from .test_segmenter import made_image, write

CASES = ("a", "b", "c", "d", "e", "f")
KILLS = int(os.environ.get("E2ENET_TEST_KILLS", "2"))  # more find what two may miss


class Listener(Reporter):
    """Keeps which cases were computed, and the first progress of all."""

    def __init__(self) -> None:
        self.segmented: list[str] = []
        self.first: tuple[int, int] | None = None

    def metric(self, name, **values):
        if name == "segmented":
            self.segmented.append(values["case"])

    def progress(self, stage, done, total):
        if stage == "cases" and self.first is None:
            self.first = (done, total)


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "scans").mkdir()
    for seed, name in enumerate(CASES):
        write(tmp_path / "scans" / f"{name}.nii.gz", made_image(seed=seed))
    return tmp_path / "scans"


def again(folder: Path, model: Path, **options) -> tuple[list[str], dict]:
    """The cases that were computed now, and what is said of all."""
    heard = Listener()
    output = folder.parent / "out"
    outcome = segment_folder(
        folder, model, output=output, resume=True, reporter=heard, device="cpu", **options
    )
    return heard.segmented, outcome


def state(output: Path) -> dict[str, tuple[int, bytes]]:
    return {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in output.iterdir()}


def label(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(os.fspath(path)))


def test_what_is_done_is_neither_computed_nor_written_again(folder, tiny_bundle):
    computed, whole = again(folder, tiny_bundle)
    assert computed == list(CASES)
    before = state(folder.parent / "out")
    heard = Listener()
    told = segment_folder(
        folder, tiny_bundle, output=folder.parent / "out", resume=True, reporter=heard
    )
    assert heard.segmented == []
    assert heard.first == (6, 6)
    assert state(folder.parent / "out") == before
    for one, other in zip(told["cases"], whole["cases"], strict=True):
        assert one.pop("resumed")
        assert one == json.loads(json.dumps(other))


def test_without_being_asked_all_is_computed(folder, tiny_bundle):
    again(folder, tiny_bundle)
    heard = Listener()
    outcome = segment_folder(folder, tiny_bundle, output=folder.parent / "out", reporter=heard)
    assert heard.segmented == list(CASES)
    assert not any("resumed" in case for case in outcome["cases"])


def test_what_was_made_of_something_else_is_computed_again(folder, tiny_bundle, make_bundle):
    output = folder.parent / "out"
    again(folder, tiny_bundle)
    write(folder / "b.nii.gz", made_image(seed=20))  # another image
    (output / "c.nii.gz").unlink()
    (output / "d.volumes.csv").unlink()
    (output / "e.manifest.json").write_text("{", encoding="utf-8")
    computed, outcome = again(folder, tiny_bundle)
    assert computed == ["b", "c", "d", "e"]
    assert [case["case"] for case in outcome["cases"]] == list(CASES)
    fresh = folder.parent / "fresh"
    segment_folder(folder, tiny_bundle, output=fresh, device="cpu")
    for name in CASES:
        np.testing.assert_array_equal(
            label(output / f"{name}.nii.gz"), label(fresh / f"{name}.nii.gz")
        )
    assert again(folder, tiny_bundle, tta=True)[0] == list(CASES)
    assert again(folder, make_bundle(), tta=True)[0] == list(CASES)
    two = [make_bundle(), make_bundle()]
    assert again(folder, two, tta=True)[0] == list(CASES)
    assert again(folder, two, tta=True)[0] == []


def test_what_model_json_says_of_the_use_of_its_weights_counts(folder, tiny_bundle):
    """Not what it tells a person: a card that gains results makes nothing old."""
    model = folder.parent / "model"
    shutil.copytree(tiny_bundle, model)
    again(folder, model)
    content = json.loads((model / "model.json").read_text(encoding="utf-8"))
    content["results"] = [{"cases": []}]
    (model / "model.json").write_text(json.dumps(content), encoding="utf-8")
    assert again(folder, model)[0] == []
    content["plan"]["spacing"] = [1.0, 1.0, 1.25]
    (model / "model.json").write_text(json.dumps(content), encoding="utf-8")
    assert again(folder, model)[0] == list(CASES)


def test_a_region_in_a_file_that_was_changed(folder, tiny_bundle):
    roi = folder.parent / "region.mrk.json"

    def place(x: float) -> None:
        box = {"type": "ROI", "coordinateSystem": "LPS", "roiType": "Box", "center": [x, 15, 38],
               "size": [9, 9, 9], "orientation": [1, 0, 0, 0, 1, 0, 0, 0, 1]}  # fmt: skip
        roi.write_text(json.dumps({"markups": [box]}), encoding="utf-8")

    place(-5.0)
    assert again(folder, tiny_bundle, roi=[str(roi)])[0] == list(CASES)
    assert again(folder, tiny_bundle, roi=[str(roi)])[0] == []
    place(-3.0)
    later = time.time() + 5  # file systems may count in seconds
    os.utime(roi, (later, later))
    assert again(folder, tiny_bundle, roi=[str(roi)])[0] == list(CASES)


def test_what_failed_is_tried_again(folder, tiny_bundle):
    good = (folder / "b.nii.gz").read_bytes()
    (folder / "b.nii.gz").write_bytes(good[:200])
    computed, outcome = again(folder, tiny_bundle)
    assert computed == ["a", "c", "d", "e", "f"]
    assert [case["case"] for case in outcome["failed"]] == ["b"]
    computed, outcome = again(folder, tiny_bundle)
    assert computed == []
    assert [case["case"] for case in outcome["failed"]] == ["b"]
    (folder / "b.nii.gz").write_bytes(good)
    computed, outcome = again(folder, tiny_bundle)
    assert computed == ["b"]
    assert outcome["failed"] == []


def test_a_correction_by_hand_is_kept(folder, tiny_bundle):
    output = folder.parent / "out"
    again(folder, tiny_bundle)
    corrected = sitk.ReadImage(os.fspath(output / "a.nii.gz")) * 0
    sitk.WriteImage(corrected, os.fspath(output / "a.nii.gz"))
    assert again(folder, tiny_bundle)[0] == []
    assert not label(output / "a.nii.gz").any()


def test_what_a_killed_process_left_is_removed_once_it_is_old(folder, tiny_bundle):
    output = folder.parent / "out"
    old, young = output / ".e2enet-old.part", output / ".e2enet-young.part"
    for litter in (old, young):
        litter.mkdir(parents=True)
        (litter / "a.nii.gz").write_bytes(b"half")
    before = time.time() - 2 * 3600
    os.utime(old, (before, before))
    again(folder, tiny_bundle)
    assert not old.exists()
    assert young.exists()


@pytest.mark.parametrize("renames", [0, 1, 2])
def test_ended_between_two_renames(folder, tiny_bundle, make_bundle, monkeypatch, renames):
    """An older result of another model is never taken for one of this model."""
    output, other = folder.parent / "out", make_bundle()
    again(folder, tiny_bundle)
    count = 0

    def replace(source, target):
        nonlocal count
        count += 1
        if count > renames:
            raise KeyboardInterrupt
        os.rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr("e2enet.inference.case.result.os.replace", replace)
        with pytest.raises(KeyboardInterrupt):
            segment_folder(folder, other, output=output, device="cpu")
    assert "a" in again(folder, other)[0]
    segment_folder(folder, other, output=folder.parent / "fresh", device="cpu")
    np.testing.assert_array_equal(
        label(output / "a.nii.gz"), label(folder.parent / "fresh" / "a.nii.gz")
    )


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")
def test_killed_at_random_moments(folder, tiny_bundle):
    """Every case is written once, and what is there after a kill is whole."""
    calm, stormy = folder.parent / "calm", folder.parent / "stormy"

    def start(output: Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "e2enet", "segment", os.fspath(folder), "--resume",
             "--model", os.fspath(tiny_bundle), "--output", os.fspath(output),
             "--device", "cpu", "--progress", "json"],
            stdout=subprocess.PIPE, text=True, encoding="utf-8",
        )  # fmt: skip

    def until_the_first_case(process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if json.loads(line).get("name") == "segmented":
                return

    process = start(calm)
    until_the_first_case(process)
    began = time.monotonic()
    process.communicate()
    duration = time.monotonic() - began
    assert process.returncode == 0
    done: dict[str, int] = {}
    for _ in range(KILLS):
        process = start(stormy)
        until_the_first_case(process)
        time.sleep(random.uniform(0, duration / KILLS))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()  # type: ignore[union-attr]
        manifests = {p.name: p.stat().st_mtime_ns for p in stormy.glob("*.manifest.json")}
        assert manifests
        assert done.items() <= manifests.items()  # nothing was written a second time
        for name in manifests:
            case = name.removesuffix(".manifest.json")
            np.testing.assert_array_equal(
                label(stormy / f"{case}.nii.gz"), label(calm / f"{case}.nii.gz")
            )
        done = manifests
    process = start(stormy)
    assert process.communicate()[0]
    assert process.returncode == 0
    for litter in stormy.glob(".e2enet-*.part"):
        shutil.rmtree(litter)
    assert {p.name for p in stormy.iterdir()} == {p.name for p in calm.iterdir()}
    for path in calm.glob("*.nii.gz"):
        np.testing.assert_array_equal(label(path), label(stormy / path.name))
    after = {p.name: p.stat().st_mtime_ns for p in stormy.glob("*.manifest.json")}
    assert done.items() <= after.items()
