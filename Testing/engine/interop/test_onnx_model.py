"""ONNX: the same logits in ONNX Runtime and OpenVINO as here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from e2enet.bundle import Bundle
from e2enet.cli.app import app
from e2enet.events import BadInput
from e2enet.interop.onnx_model import write_onnx
from typer.testing import CliRunner


def test_onnx_is_asked_for_by_name(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BadInput, match=r"no name for an ONNX file"):
        write_onnx(tiny_bundle, tmp_path / "model.pt")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"needs onnx, which is not installed") as caught:
        write_onnx(tiny_bundle, tmp_path / "model.onnx")
    assert "e2enet[onnx]" in caught.value.help
    assert not list(tmp_path.iterdir())


def test_other_runtimes_give_the_same_logits(tiny_bundle: Path, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="the onnx extra is not installed")
    pytest.importorskip("onnxscript", reason="the onnx extra is not installed")
    runtime = pytest.importorskip("onnxruntime")
    path = tmp_path / "tiny.onnx"
    done = CliRunner().invoke(app, ["convert", str(tiny_bundle), str(path), "--to", "onnx"])
    assert done.exit_code == 0, done.output
    written = onnx.load(path)
    onnx.checker.check_model(written)
    facts = {entry.key: json.loads(entry.value) for entry in written.metadata_props}
    bundle = Bundle.open(tiny_bundle)
    assert facts["e2enet.plan"] == bundle.plan
    assert [label["name"] for label in facts["e2enet.labels"]] == ["sphere", "cube"]

    network = bundle.load_network()[0]
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for batch in (1, 3):
        image = np.random.default_rng(1).normal(size=(batch, 1, 16, 16, 16)).astype(np.float32)
        with torch.no_grad():
            expected = network(torch.from_numpy(image.copy()))[0].numpy()
        scale = np.abs(expected).max()
        (got,) = session.run(None, {"image": image})
        np.testing.assert_allclose(got, expected, atol=1e-4 * scale)
        openvino = pytest.importorskip("openvino")
        exact = {"INFERENCE_PRECISION_HINT": "f32"}
        compiled = openvino.Core().compile_model(str(path), "CPU", exact)
        np.testing.assert_allclose(compiled(image)[0], expected, atol=1e-4 * scale)
