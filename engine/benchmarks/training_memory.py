"""Peak memory of real training steps on a CPU against the planner's estimate.

Every configuration trains a few steps in a process of its own on random images; measured is the
largest resident size of that process, libraries included. At the end the estimate's factor and
fixed part are fitted anew (least squares of the relative error). POSIX only.

    python engine/benchmarks/training_memory.py [--steps 2]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

# patch, strides, base channels, batch size, channels, classes
CONFIGURATIONS: list[tuple[tuple[int, int, int], list[list[int]], int, int, int, int]] = [
    ((32, 32, 32), [[2, 2, 2]] * 3, 8, 2, 1, 3),
    ((40, 56, 40), [[2, 2, 2]] * 3, 16, 2, 1, 3),
    ((40, 56, 40), [[2, 2, 2]] * 3, 48, 2, 1, 3),
    ((16, 128, 128), [[1, 2, 2], [1, 2, 2], [2, 2, 2], [2, 2, 2]], 24, 2, 1, 5),
    ((48, 96, 96), [[2, 2, 2]] * 4, 24, 1, 4, 16),
    ((32, 64, 64), [[2, 2, 2]] * 5, 48, 2, 1, 16),
    ((64, 96, 96), [[2, 2, 2]] * 5, 32, 2, 1, 5),
]


def step_and_tell(configuration: list[Any], steps: int) -> None:
    """Train in this process and print the largest resident size in bytes."""
    import monai.transforms  # noqa: F401
    import torch
    from e2enet.data.patches.sampling import PatchSampler
    from e2enet.dsff import Connections, Evolution
    from e2enet.networks import E2ENet
    from e2enet.training.loop.recipe import Recipe
    from e2enet.training.loop.trainer import Trainer

    patch, strides, base, batch, channels, classes = configuration
    network = E2ENet(channels, classes, strides, base_channels=base)
    connections = Connections.random(network, 0.8)
    nothing = PatchSampler((), tuple(patch), batch_size=batch, seed=0)
    trainer = Trainer(
        network=network,
        connections=connections,
        evolution=Evolution(connections, total_iterations=steps, period=0),
        training=nothing,
        validation=nothing,
        recipe=Recipe(),
        labels={str(value): value for value in range(1, classes)},
        folder=Path(tempfile.gettempdir()),
    )
    network.train()
    for _ in range(steps):
        image = torch.randn(batch, channels, *patch)
        trainer.step(image, torch.randint(0, classes, (batch, *patch)), 0)
    status = Path("/proc/self/status").read_text().splitlines()
    print(1024 * next(int(line.split()[1]) for line in status if line.startswith("VmHWM")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        step_and_tell(json.loads(options.one), options.steps)
        return
    from e2enet.data.planning import memory

    rows = []
    print(
        "| patch | levels | base | batch | channels | classes | measured (MiB) | estimate (MiB) |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for one in CONFIGURATIONS:
        patch, strides, base, batch, channels, classes = one
        command = [
            sys.executable,
            __file__,
            "--steps",
            str(options.steps),
            "--one",
            json.dumps(one),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        measured = int(done.stdout.split()[-1])
        estimate = memory.training_bytes(
            patch,
            strides,
            in_channels=channels,
            num_classes=classes,
            base_channels=base,
            batch_size=batch,
            mixed=False,
        )
        kept = (estimate - memory._CPU_FIXED) / memory._CPU_FACTOR
        rows.append((measured, kept))
        size = " × ".join(map(str, patch))
        print(
            f"| {size} | {len(strides) + 1} | {base} | {batch} | {channels} | {classes} | "
            f"{measured / 2**20:.0f} | {estimate / 2**20:.0f} |",
            flush=True,
        )
    measured_all, kept_all = np.array(rows).T
    terms = np.stack([np.ones_like(kept_all), kept_all], axis=1) / measured_all[:, None]
    fixed, factor = np.linalg.lstsq(terms, np.ones(len(rows)), rcond=None)[0]
    worst = np.abs((fixed + factor * kept_all) / measured_all - 1).max()
    print(f"\nfixed {fixed / 2**20:.0f} MiB, factor {factor:.3f}, largest error {worst:.1%}")


if __name__ == "__main__":
    main()
