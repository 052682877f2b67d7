"""The trainer in nnU-Net's own loop: planned, trained, resumed, predicted and imported.

Runs where nnunetv2 is: in this environment, or in the one whose Python `NNUNET_PYTHON` names.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from e2enet.bundle import Bundle
from e2enet.cli.app import app
from e2enet.events import BadInput
from e2enet.inference import segment
from e2enet.interop.nnunet import TRAINERS
from e2enet.interop.nnunet.checkpoints import read_checkpoint
from e2enet.interop.nnunet.importing import import_folder
from typer.testing import CliRunner

ENGINE = Path(__file__).resolve().parents[4] / "engine"
PYTHON = os.environ.get("NNUNET_PYTHON", sys.executable)
if sys.executable == PYTHON and importlib.util.find_spec("nnunetv2") is None:
    pytest.skip(
        "nnunetv2 is not installed, nor does NNUNET_PYTHON name it", allow_module_level=True
    )

# A training of two epochs, the same whenever it runs; the name begins as the real one's does.
TINY = """
import numpy
import torch
from e2enet.interop.nnunet.trainer import nnUNetTrainerE2ENet

class nnUNetTrainerE2ENetTiny(nnUNetTrainerE2ENet):
    base_channels = 8

    def __init__(self, plans, configuration, fold, dataset_json, device):
        super().__init__(plans, configuration, fold, dataset_json, device)
        torch.manual_seed(0)
        numpy.random.seed(0)
        self.num_epochs, self.num_iterations_per_epoch = {epochs}, 51
        self.num_val_iterations_per_epoch, self.save_every = 1, 1
"""


class Side:
    """nnU-Net with folders of its own."""

    def __init__(self, root: Path) -> None:
        self.root, self.trainers = root, root / "trainers"
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(ENGINE),
            "nnUNet_raw": str(root / "raw"),
            "nnUNet_preprocessed": str(root / "preprocessed"),
            "nnUNet_results": str(root / "results"),
            "nnUNet_extTrainer": os.pathsep.join((str(TRAINERS), str(self.trainers))),
            "nnUNet_n_proc_DA": "1",
            "OMP_NUM_THREADS": "1",
        }
        self.trainers.mkdir()
        self.trainer(2)

    def trainer(self, epochs: int) -> None:
        """How long the tiny training is."""
        text = TINY.format(epochs=epochs)
        (self.trainers / "nnUNetTrainerE2ENetTiny.py").write_text(text, encoding="utf-8")

    def run(self, module: str, *words: str) -> str:
        """One of nnU-Net's commands by its module and function."""
        name, function = module.split(":")
        code = f"import sys; sys.argv = ['nnunet', *{list(words)!r}]; "
        code += f"from nnunetv2.{name} import {function} as main\n"
        code += "if __name__ == '__main__': main()"
        script = self.root / "command.py"
        script.write_text(code, encoding="utf-8")
        done = subprocess.run(
            [PYTHON, str(script)], env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
        return done.stdout

    def train(self, *words: str) -> str:
        self.environment["nnUNet_n_proc_DA"] = "0"  # no worker beside the one process
        return self.run(
            "run.run_training:run_training_entry", "900", "3d_fullres", "0",
            "-tr", "nnUNetTrainerE2ENetTiny", "-device", "cpu", *words,
        )  # fmt: skip

    @property
    def folder(self) -> Path:
        name = "nnUNetTrainerE2ENetTiny__nnUNetPlans__3d_fullres"
        return self.root / "results" / "Dataset900_Tiny" / name


@pytest.fixture(scope="module")
def side(tmp_path_factory: pytest.TempPathFactory, tiny_dataset: Path) -> Side:
    root = tmp_path_factory.mktemp("nnunet")
    shutil.copytree(tiny_dataset, root / "raw" / "Dataset900_Tiny")
    side = Side(root)
    side.run(
        "experiment_planning.plan_and_preprocess_entrypoints:plan_and_preprocess_entry",
        "-d", "900", "-c", "3d_fullres", "-np", "1", "-npfp", "1",
    )  # fmt: skip
    side.train()
    return side


def checkpoint(side: Side) -> dict:
    return read_checkpoint(side.folder / "fold_0" / "checkpoint_final.pth")


def test_the_connections_evolved_and_kept_their_number(side: Side) -> None:
    state = checkpoint(side)["e2enet"]
    history = state["evolution"]["history"]
    assert len(history) > 1  # the start, and what evolved in 102 iterations
    assert len({entry["live"] for entry in history}) == 1
    assert 0.15 < history[0]["live"] / history[0]["total"] < 0.25
    weights = checkpoint(side)["network_weights"]
    for name, mask in state["masks"].items():
        alive = weights[f"{name}.weight"].flatten(2).ne(0).any(2)
        assert not (alive & ~mask).any()


def test_imported_and_predicted_alike(side: Side, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["import", str(side.folder), str(tmp_path / "imported")])
    assert done.exit_code == 0, done.output
    bundle = Bundle.open(tmp_path / "imported")
    assert [label.name for label in bundle.labels] == ["sphere", "cube"]
    assert len(bundle.history()["history"]) > 1

    images = tmp_path / "images"
    shutil.copytree(side.root / "raw" / "Dataset900_Tiny" / "imagesTs", images)
    side.run(
        "inference.predict_from_raw_data:predict_entry_point", "-i", str(images),
        "-o", str(tmp_path / "theirs"), "-d", "900", "-c", "3d_fullres", "-f", "0",
        "-tr", "nnUNetTrainerE2ENetTiny", "-device", "cpu", "--disable_tta", "-npp", "1",
        "-nps", "1", "--save_probabilities",
    )  # fmt: skip
    for image in sorted(images.iterdir()):
        ours = segment(image, bundle, device="cpu", save_probabilities=True)
        name = image.name.replace("_0000", "")
        theirs = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "theirs" / name)))
        assert np.mean(ours.label == theirs) > 0.99
        # So short a training may find nothing: the probabilities say more than the labels.
        with np.load(tmp_path / "theirs" / name.replace(".nii.gz", ".npz")) as saved:
            for value, wanted in enumerate(saved["probabilities"][1:], start=1):
                assert wanted.std() > 1e-3
                # nnU-Net weights a window in float16, which is coarse in its corners.
                near = np.isclose(ours.probability(value), wanted, rtol=0, atol=5e-3)
                assert near.mean() > 0.98


def test_resumed(side: Side) -> None:
    before = checkpoint(side)["e2enet"]["evolution"]["iteration"]
    assert before == 102
    final = side.folder / "fold_0" / "checkpoint_final.pth"
    final.rename(final.with_name("checkpoint_latest.pth"))
    side.trainer(3)
    side.train("--c")
    state = checkpoint(side)["e2enet"]["evolution"]
    assert state["iteration"] == 153


def test_other_trainers_are_refused(side: Side, tmp_path: Path) -> None:
    other = tmp_path / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    shutil.copytree(side.folder, other)
    with pytest.raises(BadInput, match=r"was trained by nnUNetTrainer, not by") as caught:
        import_folder(other, tmp_path / "out")
    assert caught.value.code == "not-nnunet"
    with pytest.raises(BadInput, match=r"holds no checkpoint.*there are fold_0"):
        import_folder(side.folder, tmp_path / "out", fold="3")
    assert not (tmp_path / "out").exists()
