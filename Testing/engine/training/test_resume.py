"""A training that is paused, killed, extended or gone on with, and what must not change then."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from e2enet.bundle import Bundle
from e2enet.events import BadInput
from e2enet.training.train import train

from .conftest import Recorder
from .runs import edit_json, small


def test_resuming_what_is_finished_changes_nothing(trained: Path, tiny_dataset: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in trained.iterdir()}
    recorder = Recorder()
    done = small(tiny_dataset, trained, resume=True, reporter=recorder)
    assert done.state == "finished"
    assert done.bundle == trained
    assert {path: path.stat().st_mtime_ns for path in trained.iterdir()} == before
    assert recorder.of("result")[0]["state"] == "finished"


def test_a_kill_before_the_bundle_was_written(
    trained: Path, tiny_dataset: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained.with_name("model.run"), tmp_path / "model.run")
    done = train(tiny_dataset, tmp_path / "model", resume=True, workers=0, device="cpu")
    assert done.state == "finished"
    one, other = (p / "weights.safetensors" for p in (trained, tmp_path / "model"))
    assert one.read_bytes() == other.read_bytes()


def test_a_started_run_is_not_started_again(trained: Path, tiny_dataset: Path) -> None:
    with pytest.raises(BadInput, match="started before") as caught:
        small(tiny_dataset, trained)
    assert "--resume" in caught.value.help


def test_a_run_from_before_the_first_release(
    trained: Path, tiny_dataset: Path, tmp_path: Path
) -> None:
    """Its settings say of connections whether output maps share them."""
    shutil.copytree(trained.with_name("model.run"), tmp_path / "model.run")
    path = tmp_path / "model.run" / "run.json"
    settings = json.loads(path.read_text(encoding="utf-8"))["settings"]
    edit_json(path, settings={**settings, "connection_group": 16})
    with pytest.raises(BadInput, match=r"run\.json has connection_group 16"):
        small(tiny_dataset, tmp_path / "model", resume=True)
    edit_json(path, settings={**settings, "connection_group": 1})
    done = small(tiny_dataset, tmp_path / "model", resume=True)
    assert done.state == "finished"
    one, other = (p / "weights.safetensors" for p in (trained, tmp_path / "model"))
    assert one.read_bytes() == other.read_bytes()


def test_there_must_be_something_to_resume(tiny_dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no training to resume"):
        small(tiny_dataset, tmp_path / "model", resume=True)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [("lr", 0.5, "--lr is 0.5.*with 0.01"), ("epochs", 1, "--epochs is 1.*with 2"),
     ("fold", "1", "--fold"),
     ("patch", (16, 16, 24), "--patch is 16,16,24.*with 16,16,16")],
)  # fmt: skip
def test_a_resumed_run_keeps_its_settings(
    trained: Path, tiny_dataset: Path, name: str, value: Any, text: str
) -> None:
    with pytest.raises(BadInput, match=text) as caught:
        small(tiny_dataset, trained, resume=True, **{name: value})
    assert caught.value.code == "other-settings"


def test_a_resumed_run_keeps_its_dataset_source_and_plan(
    trained: Path, copied: Path, tiny_dataset: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match="dataset's name"):
        small(copied, trained, resume=True)
    with pytest.raises(BadInput, match="--from is tiny"):
        small(tiny_dataset, trained, resume=True, base=tiny_bundle)
    plan = tmp_path / "plan.json"
    shutil.copytree(trained.with_name("model.run"), tmp_path / "model.run")
    shutil.copy(tmp_path / "model.run" / "plan.json", plan)
    edit_json(plan, spacing=[2.0, 1.0, 1.0])
    with pytest.raises(BadInput, match=r"--plan .* differs"):
        small(tiny_dataset, tmp_path / "model", resume=True, plan=plan)


def test_a_finished_run_is_extended(trained: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    for name in ("model", "model.run"):
        shutil.copytree(trained.with_name(name), tmp_path / name)
    recorder = Recorder()
    done = small(tiny_dataset, tmp_path / "model", resume=True, epochs=4, reporter=recorder)
    assert done.state == "finished"
    assert "kept-bundle" in [code for code, _ in recorder.of("warning")]
    before, after = Bundle.open(tmp_path / "model-2-epochs"), Bundle.open(tmp_path / "model")
    assert before.model["provenance"]["epochs"] == 2
    assert after.model["provenance"]["epochs"] == 4
    rates = [row["lr"] for row in recorder.of("metric") if row["name"] == "epoch"]
    assert rates == [pytest.approx(0.01 * (1 - epoch / 4) ** 0.9) for epoch in (2, 3)]
    zetas = [entry["zeta"] for entry in after.history()["history"]]
    assert zetas[-1] == pytest.approx(0.001)
    assert after.history()["total_iterations"] == 20
    # Whoever goes on need not say it again; fewer is another training.
    again = train(tiny_dataset, tmp_path / "model", resume=True, device="cpu")
    assert (again.state, again.dice) == ("finished", done.dice)
    with pytest.raises(BadInput, match="--epochs is 3"):
        small(tiny_dataset, tmp_path / "model", resume=True, epochs=3)


def test_pausing_and_going_on(tiny_dataset: Path, tmp_path: Path, trained: Path) -> None:
    output = tmp_path / "model"

    class Impatient(Recorder):
        def metric(self, name: str, **values: Any) -> None:
            (tmp_path / "model.run" / "control").write_text("pause")

    recorder = Impatient()
    done = small(tiny_dataset, output, reporter=recorder)
    assert (done.state, done.bundle) == ("paused", None)
    assert recorder.of("result") == [{"state": "paused", "run": str(tmp_path / "model.run")}]
    assert not output.exists()
    (tmp_path / "model.run" / "control").write_text("pause")  # to the process before
    done = train(tiny_dataset, output, resume=True, workers=0, device="cpu")
    assert done.state == "finished"
    one, other = (p / "weights.safetensors" for p in (trained, output))
    assert one.read_bytes() == other.read_bytes()


def test_a_damaged_run_is_named(trained: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    run = tmp_path / "model.run"
    shutil.copytree(trained.with_name("model.run"), run)
    (run / "checkpoint.safetensors").write_bytes(b"nothing")
    with pytest.raises(BadInput, match=r"checkpoint.safetensors cannot be read"):
        small(tiny_dataset, tmp_path / "model", resume=True)
    (run / "run.json").write_text("{}")
    with pytest.raises(BadInput, match=r"run.json cannot be read"):
        small(tiny_dataset, tmp_path / "model", resume=True)
