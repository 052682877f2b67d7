"""ONNX: the same logits in ONNX Runtime and OpenVINO as here."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
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


class Warned(logging.Handler):
    """What the exporter would have told a person."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


@pytest.fixture(scope="module")
def written(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as the command writes it."""
    path = tmp_path_factory.mktemp("onnx") / "tiny.onnx"
    warned = Warned()
    logging.getLogger("torch.onnx").addHandler(warned)
    done = CliRunner().invoke(app, ["convert", str(tiny_bundle), str(path), "--to", "onnx"])
    logging.getLogger("torch.onnx").removeHandler(warned)
    assert done.exit_code == 0, done.output
    assert not warned.said
    return path


def images_and_logits(bundle: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches of one and of three, and what PyTorch makes of them."""
    network = Bundle.open(bundle).load_network()[0]
    for batch in (1, 3):
        image = np.random.default_rng(1).normal(size=(batch, 1, 16, 16, 16)).astype(np.float32)
        with torch.no_grad():
            yield image, network(torch.from_numpy(image.copy()))[0].numpy()


def test_the_file_says_what_it_is(written: Path, tiny_bundle: Path) -> None:
    model = onnx.load(written)
    onnx.checker.check_model(model)
    facts = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    bundle = Bundle.open(tiny_bundle)
    assert facts["e2enet.plan"] == bundle.plan
    assert [label["name"] for label in facts["e2enet.labels"]] == ["sphere", "cube"]


def test_onnx_runtime_gives_the_same_logits(written: Path, tiny_bundle: Path) -> None:
    session = onnxruntime.InferenceSession(str(written), providers=["CPUExecutionProvider"])
    for image, expected in images_and_logits(tiny_bundle):
        (got,) = session.run(None, {"image": image})
        np.testing.assert_allclose(got, expected, atol=1e-4 * np.abs(expected).max())


def test_openvino_gives_the_same_logits(written: Path, tiny_bundle: Path) -> None:
    openvino = pytest.importorskip("openvino", reason="180 MB that the test extra leaves out")
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(str(written), "CPU", exact)
    for image, expected in images_and_logits(tiny_bundle):
        np.testing.assert_allclose(compiled(image)[0], expected, atol=1e-4 * np.abs(expected).max())
