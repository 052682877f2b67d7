"""Time of a training step of each network of `e2enet train --network`, side by side.

    OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python engine/benchmarks/networks.py

One sample, one channel, five classes, S = 0.8, EfficientNet-B0, random weights; a step after a
warm-up, by the trainer that trains. Seconds are those of the processor, which hold still when other
programs run beside it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

NETWORKS = {
    "e2enet": ("E2ENet", {"base_channels": 48}),
    "e2enet --encoder efficientnet-b0": ("EncoderE2ENet", {"base_channels": 48}),
    "omnia": ("OmniaNet", {}),
    "ds": ("DSNet", {}),
    "dx": ("DXNet", {}),
}
CLASSES = 5


def step_seconds(name: str, patch: tuple[int, int, int], steps: int) -> float:
    """Processor seconds of a step, the least of a few."""
    import torch
    from e2enet.data.patches.sampling import PatchSampler
    from e2enet.dsff import Connections, Evolution
    from e2enet.networks import build_network
    from e2enet.training.loop.recipe import Recipe
    from e2enet.training.loop.trainer import Trainer

    kind, own = NETWORKS[name]
    arguments = {"in_channels": 1, "num_classes": CLASSES, **own}
    if kind != "E2ENet":
        arguments["encoder"] = "efficientnet-b0"
    if kind in ("E2ENet", "EncoderE2ENet", "DXNet"):
        arguments["strides"] = [[2, 2, 2]] * 5
    if kind == "DSNet":
        arguments["depth"] = patch[0]
    torch.manual_seed(0)
    network = build_network(kind, arguments)
    connections = Connections.random(network, 0.8)  # type: ignore[arg-type]
    recipe = Recipe()
    nothing = PatchSampler((), patch, batch_size=1, seed=0)
    trainer = Trainer(
        network=network,
        connections=connections,
        evolution=Evolution(connections, total_iterations=recipe.total, period=0),
        training=nothing,
        validation=nothing,
        recipe=recipe,
        labels=[str(value) for value in range(1, CLASSES)],
        folder=Path(tempfile.gettempdir()),
    )
    network.train()
    image, label = torch.randn(1, 1, *patch), torch.randint(CLASSES, (1, *patch))
    seconds = []
    for _ in range(1 + steps):
        began = time.process_time()
        trainer.step(image, label, 0)
        seconds.append(time.process_time() - began)
    return min(seconds[1:])


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--patch", type=int, nargs=3, default=(32, 96, 96))
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--one", choices=NETWORKS, help="measure this alone, in this process")
    chosen = parser.parse_args(words)
    patch = tuple(chosen.patch)
    if chosen.one:
        print(json.dumps(step_seconds(chosen.one, patch, chosen.steps)))
        return
    for name in NETWORKS:
        command = [sys.executable, __file__, "--one", name, "--steps", str(chosen.steps)]
        command += ["--patch", *map(str, patch)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        print(f"{name}: {float(done.stdout.splitlines()[-1]):.2f} s", flush=True)


if __name__ == "__main__":
    main()
