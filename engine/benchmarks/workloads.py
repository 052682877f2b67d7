"""What is measured, each in a process of its own, so that peak memory is that of one workload.

Run as a program with a workload as JSON it prints one JSON line: seconds and MiB.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import deployed
import numpy as np
import torch
from e2enet.dsff import Connections, Evolution
from e2enet.networks import E2ENet
from e2enet.runtime import Precision, execution_plan
from released import MaskedDense
from torch import Tensor, nn

SIZE = (64, 128, 128)
CLASSES = 16
STRIDES = [(2, 2, 2)] * 5
SEED = 0

Forward = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Workload:
    """One thing to measure.

    Attributes:
        kind: compiled (the execution plan), reference (the network itself), released (its forward
            as the released code computes it), trainer (a training step as the engine's trainer does
            it), nnunet or nnunet-channels-last, and nnU-Net's as it is deployed (`deployed.py`).
        sparsity: Of an E2ENet's connections.
        precision, device: Of a forward.
        train: Measure a training step instead of a forward; kinds are trainer and nnunet.
        size: Patch (D, H, W).
        folder: Where the models lie that a kind reads.
    """

    kind: Literal[
        "compiled",
        "reference",
        "released",
        "trainer",
        "nnunet",
        "nnunet-channels-last",
        "openvino",
        "openvino-int8",
        "onnxruntime",
        "torch-compile",
    ]
    sparsity: float = 0.8
    precision: Precision = "float32"
    device: str = "cpu"
    train: bool = False
    size: tuple[int, ...] = SIZE
    folder: str = ""

    @property
    def of_others(self) -> bool:
        return self.kind.startswith("nnunet") or self.kind in deployed.NEEDS


def e2enet(workload: Workload) -> tuple[E2ENet, Connections]:
    """The paper's E2ENet (base 48, six levels) with random live connections."""
    torch.manual_seed(SEED)
    network = E2ENet(1, CLASSES, STRIDES, deep_supervision=workload.train)
    connections = Connections.random(network, workload.sparsity, seed=SEED)
    connections.apply()
    return network, connections


def nnunet(workload: Workload) -> nn.Module:
    """nnU-Net's plain U-Net as its planner makes it: 32…320 channels, six stages, 3x3x3."""
    from dynamic_network_architectures.architectures.unet import PlainConvUNet

    torch.manual_seed(SEED)
    network = PlainConvUNet(
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
        deep_supervision=workload.train,
    )
    if workload.kind.endswith("channels-last"):
        network = network.to(memory_format=torch.channels_last_3d)
    return network  # type: ignore[no-any-return]


def forward(workload: Workload) -> Callable[[], Forward]:
    """Build the network; what is returned does the rest of the preparation, to be measured too."""
    if workload.kind in deployed.NEEDS:
        network = nnunet(workload).eval() if workload.kind == "torch-compile" else nn.Identity()
        return lambda: deployed.prepare(workload, network)
    if workload.of_others:
        network = nnunet(workload).to(workload.device).eval()
        if workload.device == "cpu":
            network = network.to(getattr(torch, workload.precision))
        if workload.kind.endswith("channels-last"):
            last = torch.channels_last_3d
            return lambda: _other(network, workload, lambda x: x.contiguous(memory_format=last))
        return lambda: _other(network, workload, lambda x: x)
    network, _ = e2enet(workload)
    if workload.kind == "released":
        network = MaskedDense(network)
    if workload.kind != "compiled":
        return lambda: execution_plan(
            network, workload.device, workload.precision, runtime="reference"
        )
    # Compiles the kernels where this machine has not done so yet, and loads what they need.
    execution_plan(E2ENet(1, 2, [(2, 2, 2)], base_channels=4), workload.device, workload.precision)
    return lambda: execution_plan(network, workload.device, workload.precision)


def _other(network: nn.Module, workload: Workload, layout: Callable[[Tensor], Tensor]) -> Forward:
    dtype = getattr(torch, workload.precision)
    if workload.device != "cpu":  # as nnU-Net itself predicts
        half = workload.precision != "float32"

        def autocast(image: Tensor) -> Tensor:
            with torch.inference_mode(), torch.autocast("cuda", dtype=dtype, enabled=half):
                return network(layout(image))  # type: ignore[no-any-return]

        return autocast

    def run(image: Tensor) -> Tensor:
        with torch.inference_mode():
            return network(layout(image.to(dtype)))  # type: ignore[no-any-return]

    return run


def training_step(workload: Workload) -> Callable[[Tensor, Tensor], Any]:
    """One optimiser step on (B, C, D, H, W) and (B, D, H, W): E2ENet's is the trainer's own."""
    from e2enet.data.patches.sampling import PatchSampler
    from e2enet.training.loop.loss import supervised_loss
    from e2enet.training.loop.recipe import Recipe
    from e2enet.training.loop.schedules import supervision_weights
    from e2enet.training.loop.trainer import Trainer

    recipe = Recipe()
    if not workload.of_others:
        network, connections = e2enet(workload)
        nothing = PatchSampler((), workload.size, batch_size=1, seed=SEED)  # type: ignore[arg-type]
        trainer = Trainer(
            network=network,
            connections=connections,
            evolution=Evolution(connections, total_iterations=recipe.total, period=1200, seed=SEED),
            training=nothing,
            validation=nothing,
            recipe=recipe,
            labels={str(value): value for value in range(1, CLASSES)},
            folder=Path(tempfile.gettempdir()),
        )
        network.train()
        return lambda image, label: trainer.step(image, label, 0)
    network = nnunet(workload).train()
    weights = supervision_weights(4)  # nnU-Net gives its fifth, coarsest head no weight
    optimizer = torch.optim.SGD(
        network.parameters(),
        lr=recipe.lr,
        momentum=recipe.momentum,
        nesterov=True,
        weight_decay=recipe.weight_decay,
    )

    def step(image: Tensor, label: Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        supervised_loss(network(image)[:4], label, weights).backward()
        nn.utils.clip_grad_norm_(network.parameters(), recipe.clip)
        optimizer.step()

    return step


def measure(workload: Workload, logits: Path | None = None) -> dict[str, float]:
    """Time a pass after a warm-up, and the memory it needs beyond network and input.

    Args:
        workload: What to measure.
        logits: Save those of a forward here, float32, once the measurement is over.
    """
    cuda = workload.device != "cpu"
    # Else PyTorch's reference would round to 10 bits on a GPU.
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = cuda
    image = torch.randn(1, 1, *workload.size, generator=torch.Generator().manual_seed(SEED))
    label = torch.randint(CLASSES, (1, *workload.size), generator=torch.Generator().manual_seed(1))
    image = image.to(workload.device)
    seconds = []
    if workload.train:
        step = training_step(workload)
        with peak_mib(cuda) as peak:
            for _ in range(2):
                seconds.append(_timed(lambda: step(image, label), cuda)[0])
    else:
        prepare = forward(workload)
        with peak_mib(cuda) as peak:
            run = prepare()
            for _ in range(13 if cuda else 2):
                y = None  # the last result makes room for the next
                taken, y = _timed(lambda: run(image), cuda)
                seconds.append(taken)
        if logits is not None:
            np.save(logits, y.float().cpu().numpy())
    return {"seconds": statistics.median(seconds[3 if cuda else 1 :]), "peak_mib": peak[0]}


def _timed(work: Callable[[], Any], cuda: bool) -> tuple[float, Any]:
    if cuda:
        torch.cuda.synchronize()
    start = time.perf_counter()
    result = work()
    if cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start, result


@contextmanager
def peak_mib(cuda: bool) -> Iterator[list[float]]:
    """How far this process's resident memory (or what it has allocated on a GPU) rises inside."""
    gc.collect()
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    else:
        with suppress(OSError):  # Linux: forgets the peak so far, which is the parent's at first
            Path("/proc/self/clear_refs").write_text("5")
    before = torch.cuda.memory_allocated() / 2**20 if cuda else _resident_mib()
    risen: list[float] = []
    yield risen
    peak = torch.cuda.max_memory_allocated() / 2**20 if cuda else _resident_mib()
    risen.append(peak - before)


def _resident_mib() -> float:
    """Largest resident size so far."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # macOS counts bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workload", type=json.loads, help="the fields of a Workload")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--logits", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(json.dumps(measure(Workload(**options.workload), options.logits)))


if __name__ == "__main__":
    main()
