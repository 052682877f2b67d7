"""A model as ONNX: the dense equivalent of its network, with what is needed to use it."""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from e2enet import __version__
from e2enet.bundle import Bundle
from e2enet.data.planning.plan import Plan
from e2enet.events import BadInput
from e2enet.extras import need_package, need_torch
from e2enet.files import check_writable, output_errors, replacing

OPSET = 18
ENDING = ".onnx"


def write_onnx(model: str | os.PathLike[str] | Bundle, output: str | os.PathLike[str]) -> Path:
    """Write the network of a model as ONNX.

    The input `image` is (batch, channels, D, H, W) of the plan's patch size, prepared as the plan
    says; the output `logits` is (batch, classes, D, H, W). The file's metadata hold the plan, the
    labels and the channels as JSON.

    Args:
        model: A name, a path or an open bundle.
        output: A name that ends in .onnx.

    Raises:
        BadInput: No such model, no PyTorch or onnx, or the file cannot be written.
    """
    path = Path(output)
    if path.suffix.lower() != ENDING:
        raise BadInput(
            f"{path} is no name for an ONNX file.",
            help=f"Choose a file name that ends in {ENDING}.",
            code="output-format",
        )
    need_torch("ONNX export")
    for name in ("onnx", "onnxscript"):
        need_package(name, "onnx", "ONNX export")
    check_writable(path)
    bundle = model if isinstance(model, Bundle) else Bundle.open(model)
    network = bundle.load_network()[0]
    made = _export(network, (len(bundle.channels), *Plan.from_dict(bundle.plan).patch))
    _describe(made, bundle)
    with output_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, ENDING) as temporary:
            temporary.write_bytes(made.SerializeToString())
    return path


def _export(network: Any, shape: tuple[int, ...]) -> Any:
    import torch

    from e2enet.interop.portable import Portable

    image = torch.zeros(2, *shape)  # one sample would make the batch a constant
    with warnings.catch_warnings(), _quiet("torch.onnx"):
        warnings.simplefilter("ignore")  # about the exporter's own versions
        program = torch.onnx.export(
            Portable(network),
            (image,),
            input_names=["image"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None  # it is returned where no file is named
    return program.model_proto


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Without a logger's warnings: the exporter names packages that no network here needs."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _describe(made: Any, bundle: Bundle) -> None:
    made.producer_name, made.producer_version = "e2enet", __version__
    made.graph.name = bundle.name
    made.doc_string = f"{bundle.title}. Not for clinical use."
    model = bundle.model
    facts = {key: model.get(key) for key in ("plan", "labels", "channels", "modality", "licence")}
    for name, value in {"name": bundle.name, **facts}.items():
        entry = made.metadata_props.add()
        entry.key, entry.value = f"e2enet.{name}", json.dumps(value, ensure_ascii=False)
