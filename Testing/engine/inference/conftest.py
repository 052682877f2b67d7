"""Bundles for the tests of this folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def make_bundle(tiny_bundle, tmp_path_factory) -> Callable[..., Path]:
    """A function that writes a tiny bundle with random weights: other channels, or a locator."""
    content = json.loads((tiny_bundle / "model.json").read_text(encoding="utf-8"))
    for key in ("schema_version", "network", "files"):
        del content[key]

    def make(*, channels: Sequence[str] = ("MRI",), **changes: Any) -> Path:
        import torch
        from e2enet.bundle import write_bundle
        from e2enet.dsff import Connections
        from e2enet.networks import E2ENet

        extra, plan = changes.pop("extra", None), changes.pop("plan", {})
        classes = changes.pop("classes", 3)
        model = {**content, **changes}
        model["channels"] = [{"name": name} for name in channels]
        model["plan"] = {
            **model["plan"],
            "channels": [{"name": name, "normalisation": "zscore"} for name in channels],
            **plan,
        }
        with torch.random.fork_rng():
            torch.manual_seed(5)
            network = E2ENet(len(channels), classes, model["plan"]["strides"], base_channels=4)
        connections = Connections.dense(network)
        folder = tmp_path_factory.mktemp("bundles") / "made"
        write_bundle(
            folder,
            network=network,
            connections=connections,
            model=model,
            history={"history": []},
            readme="# Made\n",
            extra=extra,
        )
        return folder

    return make
