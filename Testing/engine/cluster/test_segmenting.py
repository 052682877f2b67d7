"""A folder on a real local Ray of two workers, of which one is killed in the middle."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from e2enet.cluster.segmenting import segment_on_cluster
from e2enet.events import BadInput, Reporter
from e2enet.inference.batch import segment_folder

if sys.platform != "linux":
    pytest.skip("Ray is a part of the test extra on Linux alone", allow_module_level=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six cases, the fourth of which is none."""
    made = tmp_path_factory.mktemp("cases")
    for number in range(6):
        array = np.random.default_rng(number).normal(100, 20, (12, 18, 16)).astype(np.float32)
        sitk.WriteImage(sitk.GetImageFromArray(array), os.fspath(made / f"c{number}.nii.gz"))
    (made / "c3.nii.gz").write_bytes(b"nothing")
    return made


def workers() -> list[int]:
    """Processes of Ray that hold a model, below this one's user."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().startswith(b"ray::Worker"):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


class Killer(Reporter):
    """Kills one worker after the first case, and notes what it is told."""

    def __init__(self) -> None:
        self.killed: list[int] = []
        self.told: list[tuple[int, int]] = []

    def progress(self, stage: str, done: int, total: int) -> None:
        if stage != "cases":
            return
        self.told.append((done, total))
        if done and not self.killed and (alive := workers()):
            self.killed.append(alive[0])
            os.kill(alive[0], signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_killed_worker_loses_and_doubles_nothing(
    folder: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    alone = segment_folder(folder, tiny_bundle, output=tmp_path / "alone", device="cpu")
    killer = Killer()
    there = segment_on_cluster(
        folder, tiny_bundle, address="ray", output=tmp_path / "cluster", workers=2, device="cpu",
        reporter=killer,
    )  # fmt: skip
    assert killer.killed
    assert killer.told[-1] == (6, 6)
    names = [case["case"] for case in there["cases"]]
    assert names == [case["case"] for case in alone["cases"]] == ["c0", "c1", "c2", "c4", "c5"]
    assert [case["case"] for case in there["failed"]] == ["c3"]
    assert there["failed"][0]["code"] == alone["failed"][0]["code"]
    files = [sorted(p.name for p in (tmp_path / n).iterdir()) for n in ("alone", "cluster")]
    assert files[0] == files[1]
    for name in names:
        images = [sitk.ReadImage(os.fspath(tmp_path / n / f"{name}.nii.gz"))
                  for n in ("alone", "cluster")]  # fmt: skip
        np.testing.assert_array_equal(*map(sitk.GetArrayFromImage, images))
    # Nothing is left to do but what failed: no cluster is started for the others.
    (folder / "c3.nii.gz").unlink()
    again = segment_on_cluster(
        folder, tiny_bundle, address="ray://nowhere:1", output=tmp_path / "cluster", device="cpu",
        resume=True,
    )  # fmt: skip
    assert [case.get("resumed") for case in again["cases"]] == [True] * 5


def test_a_cluster_that_does_not_start(
    folder: Path, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(**options: object) -> None:
        raise Exception("The current node timed out during startup.")  # as Ray says it

    monkeypatch.setattr("ray.init", late)
    with pytest.raises(BadInput, match=r"does not answer: .*during startup"):
        segment_on_cluster(folder, tiny_bundle, address="ray", output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("address", ["slurm", "ray://", "http://x"])
def test_what_is_no_cluster(folder: Path, tiny_bundle: Path, tmp_path: Path, address: str) -> None:
    with pytest.raises(BadInput) as caught:
        segment_on_cluster(folder, tiny_bundle, address=address, output=tmp_path / "out")
    assert caught.value.code == "bad-cluster"
    assert not (tmp_path / "out").exists()
