"""Folders of the released code, and what is refused; folders of version 2 are in test_trainer."""

from __future__ import annotations

import json
import os
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from e2enet.bundle import Bundle
from e2enet.cli.app import app
from e2enet.data.planning.plan import Plan
from e2enet.dsff import Connections
from e2enet.events import BadInput
from e2enet.inference import segment
from e2enet.interop.nnunet.importing import import_folder
from e2enet.interop.nnunet.plans import plan_of_version_2
from e2enet.interop.official import released_name
from e2enet.networks import E2ENet
from typer.testing import CliRunner

STRIDES = [[2, 2, 2], [2, 2, 2]]


def released_plans() -> dict[Any, Any]:
    """plans.pkl as nnU-Net v1 writes it, without what nothing here reads."""
    intensities = {"mean": 40.0, "sd": 10.0, "percentile_00_5": -5.0, "percentile_99_5": 90.0}
    stage = {
        "batch_size": 2,
        "num_pool_per_axis": [2, 2, 2],
        "patch_size": np.array([16, 16, 16]),
        "current_spacing": np.array([1.0, 1.0, 1.0]),
        "pool_op_kernel_sizes": STRIDES,
        "conv_kernel_sizes": [[3, 3, 3]] * 3,
    }
    return {
        "plans_per_stage": {0: stage},
        "normalization_schemes": OrderedDict([(0, "nonCT")]),
        "modalities": {0: "MRI"},
        "dataset_properties": {"intensityproperties": OrderedDict([(0, intensities)])},
        "use_mask_for_norm": OrderedDict([(0, False)]),
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "all_classes": [1, 2],
        "num_classes": 2,
    }


@pytest.fixture
def released(tmp_path: Path) -> Callable[..., Path]:
    """released(plans=…, checkpoint=…): a folder of the released code with random weights."""

    def write(plans: Any = None, **checkpoint: Any) -> Path:
        folder = tmp_path / "Task900_Tiny" / "nnUNetTrainerV2__nnUNetPlansv2.1"
        (folder / "fold_0").mkdir(parents=True, exist_ok=True)
        plans = released_plans() if plans is None else plans
        (folder / "plans.pkl").write_bytes(pickle.dumps(plans, 4))
        torch.manual_seed(3)
        network = E2ENet(1, 3, STRIDES, base_channels=4, shift_groups=5)
        Connections.random(network, 0.8, seed=3).apply()
        state = {released_name(n, network.levels): t for n, t in network.state_dict().items()}
        content = {
            "epoch": 7,
            "state_dict": OrderedDict(state),
            "plot_stuff": ([np.float64(0.5)], [np.float32(1)], [], [np.array([1.0, 2.0])]),
            **checkpoint,
        }
        torch.save(content, folder / "fold_0" / "model_final_checkpoint.model")
        return folder

    return write


def test_a_released_folder_segments(
    released: Callable[..., Path], tiny_dataset: Path, tmp_path: Path
) -> None:
    arguments = ["import", str(released()), str(tmp_path / "old")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    bundle = Bundle.open(tmp_path / "old")
    network, connections = bundle.load_network()
    assert 0.15 < connections.density < 0.25
    assert (network.arguments["shift_groups"], bundle.plan["patch"]) == (5, [16, 16, 16])
    assert bundle.model["provenance"]["epochs"] == 7
    image = tiny_dataset / "imagesTs" / "tiny_006_0000.nii.gz"
    result = segment(image, bundle, device="cpu")
    assert [label.name for label in result.labels] == ["Label 1", "Label 2"]


class Runs:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.mark}",)


def test_nothing_in_a_folder_is_executed(released: Callable[..., Path], tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    for folder in (
        lambda: released(plans={**released_plans(), "more": Runs(mark)}),
        lambda: released(plot_stuff=Runs(mark)),
    ):
        with pytest.raises(BadInput) as caught:
            import_folder(folder(), tmp_path / "out")
        assert caught.value.code in ("unsafe-pickle", "unsafe-checkpoint")
        assert "\n" not in caught.value.message
        assert not mark.exists()
        assert not (tmp_path / "out").exists()


def changed(**values: Any) -> dict[Any, Any]:
    plans = released_plans()
    plans["plans_per_stage"][0] |= values.pop("stage", {})
    return plans | values


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"plans": [1, 2]}, "holds no plans of nnU-Net"),
        ({"plans": {}}, "lacks 'plans_per_stage'"),
        ({"plans": changed(normalization_schemes={0: "odd"})}, "normalises MRI by odd"),
        ({"plans": changed(stage={"pool_op_kernel_sizes": [[2, 2, 2]]})}, "levels"),
        ({"plans": changed(all_classes=[1])}, "3 classes and 1 channels, its plans have 2 and 1"),
        ({"state_dict": {}}, "no conv_blocks_context"),
        ({"state_dict": None}, "holds no weights"),
    ],
)
def test_what_does_not_fit_is_refused(
    released: Callable[..., Path], tmp_path: Path, options: dict, match: str
) -> None:
    with pytest.raises(BadInput, match=match):
        import_folder(released(**options), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_folders_of_something_else(tmp_path: Path, released: Callable[..., Path]) -> None:
    with pytest.raises(BadInput, match="neither"):
        import_folder(tmp_path, tmp_path / "out")
    folder = released()
    weights = folder / "fold_0" / "model_final_checkpoint.model"
    weights.write_bytes(weights.read_bytes()[:-300])
    with pytest.raises(BadInput, match="cannot be read as weights"):
        import_folder(folder, tmp_path / "out")
    with pytest.raises(BadInput, match=r"no checkpoint.*there are fold_0"):
        import_folder(folder, tmp_path / "out", fold="all")


V2 = {
    "transpose_forward": [1, 0, 2],
    "foreground_intensity_properties_per_channel": {
        "0": {"mean": 40.0, "std": 10.0, "percentile_00_5": -5.0, "percentile_99_5": 90.0}
    },
    "configurations": {
        "3d_fullres": {
            "spacing": [3.0, 1.0, 1.0],
            "patch_size": [16, 32, 32],
            "batch_size": 2,
            "normalization_schemes": ["CTNormalization"],
            "use_mask_for_norm": [False],
            "architecture": {"arch_kwargs": {"strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]]}},
        },
        "3d_lowres": {"inherits_from": "3d_fullres", "spacing": [4.0, 2.0, 2.0]},
        "2d": {"patch_size": [32, 32], "pool_op_kernel_sizes": [[1, 1], [2, 2]]},
        "loop": {"inherits_from": "loop"},
    },
}


def test_plans_of_version_2() -> None:
    plan = plan_of_version_2(V2, "3d_lowres", ["CT"], "plans.json")
    assert (plan.spacing, plan.transpose) == ((4.0, 2.0, 2.0), (1, 0, 2))
    assert (plan.patch, plan.batch_size) == ((16, 32, 32), 2)
    assert plan.strides == ((1, 2, 2), (2, 2, 2))
    (channel,) = plan.channels
    assert (channel.normalisation, channel.mean, channel.std) == ("ct", 40.0, 10.0)
    assert (channel.lower, channel.upper) == (-5.0, 90.0)


def test_a_plan_for_training_from_those_of_nnunet(tiny_dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "nnUNetPlans.json").write_text(json.dumps(V2), encoding="utf-8")
    arguments = ["--nnunet", str(tmp_path / "nnUNetPlans.json"), "--device", "cpu"]
    arguments += ["--output", str(tmp_path / "plan.json")]
    done = CliRunner().invoke(app, ["plan", str(tiny_dataset), *arguments])
    assert done.exit_code == 0, done.output
    plan = Plan.load(tmp_path / "plan.json")
    assert plan == plan_of_version_2(V2, "3d_fullres", ["MRI"], "plans.json")
    assert plan.patch == (16, 32, 32)
    done = CliRunner().invoke(app, ["plan", str(tiny_dataset), *arguments[:1], str(tmp_path)])
    assert done.exit_code == 2


@pytest.mark.parametrize(
    ("name", "match"), [("2d", "two dimensions"), ("3d_high", "3d_high"), ("loop", "itself")]
)
def test_configurations_that_cannot_be_used(name: str, match: str) -> None:
    with pytest.raises(BadInput, match=match) as caught:
        plan_of_version_2(V2, name, ["CT"], "plans.json")
    assert caught.value.code == "not-nnunet"
