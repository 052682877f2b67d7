"""A bundle from a run that has not come to its end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from e2enet.events import BadInput
from e2enet.inference import segment
from e2enet.training.loop.checkpoint import load_checkpoint
from e2enet.training.loop.curves import smoothed_dice
from e2enet.training.loop.trainer import BEST, CHECKPOINT
from e2enet.training.product.export import export_run
from e2enet.training.train import train

from ..conftest import Recorder

SMALL: dict[str, Any] = {
    "epochs": 3, "iterations_per_epoch": 2, "base_channels": 4, "levels": 3, "patch": (16, 16, 16),
    "batch_size": 2, "workers": 0, "device": "cpu",
}  # fmt: skip


class Impatient(Recorder):
    """Asks for a pause once `after` epochs are done; 0 asks before the first step."""

    def __init__(self, control: Path, after: int = 1) -> None:
        super().__init__()
        self.control, self.after = control, after

    def progress(self, stage: str, done: int, total: int) -> None:
        if stage == "training" and not self.after:
            self.control.write_text("pause")

    def metric(self, name: str, **values: Any) -> None:
        if values.get("epoch") == self.after:
            self.control.write_text("pause")


@pytest.fixture(scope="module")
def paused(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run after one epoch of three, not to be written in."""
    folder = tmp_path_factory.mktemp("paused")
    control = folder / "m.run" / "control"
    done = train(tiny_dataset, folder / "m", **SMALL, reporter=Impatient(control))
    assert done.state == "paused"
    return folder / "m.run"


def test_the_state_after_an_epoch(paused: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in paused.rglob("*")}
    bundle = export_run(paused, tmp_path / "so-far")
    assert {path: path.read_bytes() for path in paused.rglob("*")} == before
    provenance = bundle.model["provenance"]
    assert bundle.name == "so-far"
    assert provenance["unfinished"] == {"epoch": 1, "epochs": 3}
    assert (provenance["epochs"], provenance["iterations"]) == (1, 2)
    assert provenance["metrics"]["of"] == "patches of held-out cases"
    assert set(provenance["metrics"]["dice"]) == {"sphere", "cube"}
    readme = (bundle.path / "README.md").read_text(encoding="utf-8")
    assert "**Unfinished**: after epoch 1 of 3." in readme
    state = load_checkpoint(paused / "checkpoint.safetensors")
    network, connections = bundle.load_network()
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, state["network"][name]), name
    for name, mask in connections.masks.items():
        assert torch.equal(mask, state["masks"][name]), name
    assert bundle.history()["total_iterations"] == 6
    assert all(label.usual_ml is None for label in bundle.labels)  # four cases say too little
    recorder = Recorder()
    image = tiny_dataset / "imagesTs" / "tiny_006_0000.nii.gz"
    found = segment(image, bundle.path, device="cpu", reporter=recorder)
    assert set(found.volumes_ml) == {"sphere", "cube"}
    said = dict(recorder.of("warning"))["unfinished-model"]
    assert said.endswith("this is its state after epoch 1 of 3.")


def test_before_the_first_epoch(tiny_dataset: Path, tmp_path: Path) -> None:
    control = tmp_path / "m.run" / "control"
    train(tiny_dataset, tmp_path / "m", **SMALL, fold="all", reporter=Impatient(control, 0))
    provenance = export_run(tmp_path / "m.run", tmp_path / "b").model["provenance"]
    assert provenance["unfinished"] == {"epoch": 0, "epochs": 3}
    assert provenance["metrics"] == {
        "dice": {}, "of": "patches of training cases", "loss": None,
    }  # fmt: skip


def test_what_is_finished_is_not_called_unfinished(tiny_dataset: Path, tmp_path: Path) -> None:
    train(tiny_dataset, tmp_path / "m", **{**SMALL, "epochs": 1})
    again = export_run(tmp_path / "m.run", tmp_path / "again")
    assert "unfinished" not in again.model["provenance"]
    one, other = (tmp_path / name / "weights.safetensors" for name in ("m", "again"))
    assert one.read_bytes() == other.read_bytes()


def test_an_unfinished_bundle_is_not_taken_for_the_product(
    paused: Path, tiny_dataset: Path, tmp_path: Path
) -> None:
    shutil.copytree(paused, tmp_path / "m.run")
    export_run(tmp_path / "m.run", tmp_path / "m")
    with pytest.raises(BadInput, match="already exists"):
        train(tiny_dataset, tmp_path / "m", resume=True, workers=0)
    shutil.rmtree(tmp_path / "m")
    done = train(tiny_dataset, tmp_path / "m", resume=True, workers=0, device="cpu")
    assert done.state == "finished"


def test_what_cannot_be_exported(paused: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"not the folder of a training: it has no run\.json"):
        export_run(tmp_path, tmp_path / "b")
    run = tmp_path / "m.run"
    shutil.copytree(paused, run)
    (tmp_path / "there").mkdir()
    with pytest.raises(BadInput, match="already exists"):
        export_run(run, tmp_path / "there")
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    record["network"]["base_channels"] = 8
    (run / "run.json").write_text(json.dumps(record))
    with pytest.raises(BadInput, match="belongs to another network"):
        export_run(run, tmp_path / "b")
    (run / "checkpoint.safetensors").write_bytes(b"nothing")
    with pytest.raises(BadInput, match="cannot be read"):
        export_run(run, tmp_path / "b")
    (run / "checkpoint.safetensors").unlink()
    with pytest.raises(BadInput, match="holds no checkpoint yet"):
        export_run(run, tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_the_best_checkpoint_is_that_of_the_smoothed_dice(
    paused: Path, tmp_path: Path, tiny_dataset: Path
) -> None:
    shutil.copytree(paused, tmp_path / "m.run")
    train(tiny_dataset, tmp_path / "m", **SMALL, resume=True)
    rows = load_checkpoint(tmp_path / "m.run" / CHECKPOINT)["rows"]
    smoothed = smoothed_dice(rows)
    wanted = max(range(3), key=lambda epoch: (smoothed[epoch], epoch)) + 1
    best = load_checkpoint(tmp_path / "m.run" / BEST)
    assert len(best["rows"]) == wanted
    bundle = export_run(tmp_path / "m.run", tmp_path / "best", best=True)
    assert bundle.model["provenance"]["epochs"] == wanted
    weights = bundle.load_network()[0].state_dict()
    for name, tensor in best["network"].items():
        torch.testing.assert_close(weights[name], tensor, atol=0, rtol=0)


def test_smoothing_by_hand() -> None:
    rows = [{"mean_dice": value} for value in (None, 0.5, 1.0, None, 0.0)]
    assert smoothed_dice(rows) == [None, 0.5, pytest.approx(0.55), pytest.approx(0.55),
                                   pytest.approx(0.495)]  # fmt: skip
