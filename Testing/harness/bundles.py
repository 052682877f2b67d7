"""Bundles that the real engine runs, made after the tiny one."""

from __future__ import annotations

from pathlib import Path


def variant(tiny: Path, folder: Path, *, channels=("MRI",), blind: bool = False, **changes) -> Path:
    """Write a bundle with random weights.

    Args:
        tiny: The tiny bundle: its plan, labels and strides.
        folder: The bundle to write; its name is the model's.
        channels: Names of the channels.
        blind: The model takes everything for background.
        changes: Further entries of model.json.
    """
    import torch
    from e2enet.bundle import Bundle, write_bundle
    from e2enet.dsff import Connections
    from e2enet.networks import E2ENet

    bundle = Bundle.open(tiny)
    added = ("schema_version", "network", "files")
    model = {key: value for key, value in bundle.model.items() if key not in added}
    plans = [{"name": name, "normalisation": "zscore"} for name in channels]
    arguments = {**bundle.model["network"]["arguments"], "in_channels": len(channels)}
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(5)
        network = E2ENet(**arguments)
        for head in network.heads if blind else ():
            for parameter in head.parameters():
                parameter.zero_()
    model |= {"name": folder.name, "title": folder.name.capitalize(), **changes}
    model |= {"channels": [{"name": name} for name in channels]}
    model |= {"plan": {**model["plan"], "channels": plans}}
    return write_bundle(
        folder,
        network=network,
        connections=Connections.dense(network),
        model=model,
        history=bundle.history(),
        readme=f"# {folder.name}\n",
    ).path
