"""MONAI bundles: run by monai.bundle itself, on images in several orientations."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from e2enet.bundle import Bundle
from e2enet.events import BadInput
from e2enet.inference import segment
from e2enet.interop.monai_bundle import write_monai_bundle
from e2enet.interop.monai_network import MonaiNetwork
from monai.bundle import run, verify_metadata

# Facts of MONAI's schema of 2024-07-25: what must be there, and of which type.
REQUIRED = {
    "schema": str, "version": str, "monai_version": str, "pytorch_version": str,
    "numpy_version": str, "required_packages_version": dict, "task": str, "description": str,
    "authors": str, "copyright": str, "network_data_format": dict, "changelog": dict,
    "references": list, "supported_apps": dict,
}  # fmt: skip
TENSOR = {
    "type": str, "format": str, "num_channels": int, "spatial_shape": list, "dtype": str,
    "value_range": list, "is_patch_data": bool, "channel_def": dict,
}  # fmt: skip

JSON = {str: "string", int: "integer", bool: "boolean", list: "array", dict: "object"}
FLAT = {"flat": True, "patch": [1, 16, 16], "strides": [[1, 2, 2]] * 2}


def typed(kinds: dict[str, type]) -> dict[str, dict[str, str]]:
    """Names and types as a JSON schema says them."""
    return {name: {"type": JSON[kind]} for name, kind in kinds.items()}


def test_metadata_has_what_the_schema_asks_for(tiny_bundle: Path, tmp_path: Path) -> None:
    folder = write_monai_bundle(tiny_bundle, tmp_path / "out" / "tiny")
    metadata = json.loads((folder / "configs" / "metadata.json").read_text(encoding="utf-8"))
    for name, kind in REQUIRED.items():
        assert isinstance(metadata[name], kind), name
    formats = metadata["network_data_format"]
    for tensor in (formats["inputs"]["image"], formats["outputs"]["pred"]):
        for name, kind in TENSOR.items():
            assert isinstance(tensor[name], kind), name
    assert formats["outputs"]["pred"]["channel_def"]["2"] == "cube"
    state = torch.load(folder / "models" / "model.pt", weights_only=True)
    assert len(state) == len(Bundle.open(tiny_bundle).load_network()[0].state_dict())
    with pytest.raises(BadInput, match="already exists"):
        write_monai_bundle(tiny_bundle, folder)


def test_monai_verifies_the_metadata(tiny_bundle: Path, tmp_path: Path) -> None:
    """Its own check, which would fetch the schema where the file is not there already."""
    tensor = {"type": "object", "properties": typed(TENSOR), "required": [*TENSOR]}
    ends = {"type": "object", "minProperties": 1, "additionalProperties": tensor}
    formats = {"properties": {"inputs": ends, "outputs": ends}, "required": ["inputs", "outputs"]}
    properties = {**typed(REQUIRED), "network_data_format": {"type": "object", **formats}}
    schema = tmp_path / "schema.json"
    schema.write_text(
        json.dumps({"type": "object", "properties": properties, "required": [*REQUIRED]})
    )
    folder = write_monai_bundle(tiny_bundle, tmp_path / "tiny")
    written = folder / "configs" / "metadata.json"
    verify_metadata(str(written), str(schema))
    metadata = json.loads(written.read_text(encoding="utf-8"))
    metadata["network_data_format"]["inputs"]["image"]["num_channels"] = "one"
    (tmp_path / "wrong.json").write_text(json.dumps(metadata))
    with pytest.raises(ValueError, match="Failed validating"):
        verify_metadata(str(tmp_path / "wrong.json"), str(schema))


def test_axes_of_the_network_are_those_of_monai() -> None:
    arguments = {"in_channels": 1, "num_classes": 2, "strides": [(1, 2, 2)], "base_channels": 4}
    network = MonaiNetwork("E2ENet", arguments, transpose=(1, 0, 2)).eval()  # D is y
    image = torch.randn(1, 1, 4, 5, 6)  # x, y, z; y is odd, and only D has no stride
    with torch.no_grad():
        got = network(image)
        turned = image[0, 0].permute(1, 2, 0)  # y, z, x
        expected = network.network(turned[None, None].contiguous())[0][0].permute(0, 3, 1, 2)
    torch.testing.assert_close(got[0], expected)


@pytest.mark.parametrize(
    ("channels", "what"),
    [
        ([{"name": "A", "normalisation": "ct", "mean": 1, "std": 1, "lower": 0, "upper": 2},
          {"name": "B", "normalisation": "zscore"}], "normalised differently"),
        (None, "single images"),
    ],
)  # fmt: skip
def test_what_a_configuration_cannot_say(
    tiny_bundle: Path, tmp_path: Path, channels: list | None, what: str
) -> None:
    bundle = Bundle.open(tiny_bundle)
    plan = bundle.plan | ({"channels": channels} if channels else FLAT)
    changed = Bundle(bundle.path, {**bundle.model, "plan": plan})
    with pytest.raises(BadInput, match=what):
        write_monai_bundle(changed, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_run_by_monai(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_monai_bundle(tiny_bundle, tmp_path / "tiny")
    (folder / "images").mkdir()
    array = np.random.default_rng(2).normal(100, 20, (16, 16, 16)).astype(np.float32)
    directions = {
        "lps": (1, 0, 0, 0, 1, 0, 0, 0, 1),
        "turned": (0, 0, -1, 1, 0, 0, 0, 1, 0),
    }
    for name, direction in directions.items():
        image = sitk.GetImageFromArray(array)
        image.SetDirection(direction)
        image.SetOrigin((3, -4, 5))
        sitk.WriteImage(image, str(folder / "images" / f"{name}.nii.gz"))
    monkeypatch.chdir(folder)
    run(config_file="configs/inference.json")
    for name in directions:
        ours = segment(folder / "images" / f"{name}.nii.gz", tiny_bundle, device="cpu")
        theirs = sitk.ReadImage(str(folder / "eval" / f"{name}_seg.nii.gz"))
        assert len(np.unique(ours.label)) == 3
        same = np.mean(sitk.GetArrayFromImage(theirs) == ours.label)
        assert same > 0.999
        np.testing.assert_allclose(theirs.GetDirection(), directions[name], atol=1e-5)
        np.testing.assert_allclose(theirs.GetOrigin(), (3, -4, 5), atol=1e-4)
