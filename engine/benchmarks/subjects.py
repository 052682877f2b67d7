"""What is measured: each subject is a network and a way to lay out its memory.

Run as a program it measures one subject in a process of its own and prints one JSON line, so that
peak memory is that of this subject alone.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from typing import Any

import torch
from torch import nn

SIZE = (64, 128, 128)
CLASSES = 16
STRIDES = [(2, 2, 2)] * 5


def e2enet(sparsity: float) -> nn.Module:
    """The paper's E2ENet (base 48, six levels) with random live connections."""
    from e2enet.dsff import Connections
    from e2enet.networks import E2ENet

    network = E2ENet(1, CLASSES, STRIDES, deep_supervision=False)
    Connections.random(network, sparsity).apply()
    return network


def nnunet() -> nn.Module:
    """nnU-Net's plain U-Net as its planner makes it: 32…320 channels, six stages, 3x3x3."""
    from dynamic_network_architectures.architectures.unet import PlainConvUNet

    return PlainConvUNet(
        input_channels=1,
        n_stages=6,
        features_per_stage=(32, 64, 128, 256, 320, 320),
        conv_op=nn.Conv3d,
        kernel_sizes=3,
        strides=(1, 2, 2, 2, 2, 2),
        n_conv_per_stage=(2,) * 6,
        num_classes=CLASSES,
        n_conv_per_stage_decoder=(2,) * 5,
        conv_bias=True,
        norm_op=nn.InstanceNorm3d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        deep_supervision=False,
    )


SUBJECTS = {
    "e2enet": lambda: e2enet(0.8),
    "nnunet": nnunet,
    "nnunet-channels-last": nnunet,
}


def peak_mib() -> float:
    """Largest resident size of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(name: str, threads: int) -> dict[str, Any]:
    """Time one forward pass after a warm-up, and the memory it needs beyond network and input."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    network = SUBJECTS[name]().eval()
    image = torch.randn(1, 1, *SIZE)
    if name.endswith("channels-last"):
        network = network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        image = image.contiguous(memory_format=torch.channels_last_3d)
    before = peak_mib()
    with torch.inference_mode():
        network(image)
        start = time.perf_counter()
        network(image)
        seconds = time.perf_counter() - start
    return {"subject": name, "seconds": seconds, "mib": peak_mib() - before}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("subject", choices=SUBJECTS)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.subject, arguments.threads)))
