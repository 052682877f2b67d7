"""Networks and images as the tests of the runtime want them: every odd thing that may come."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from e2enet.dsff import Connections
from e2enet.networks import E2ENet
from e2enet.runtime import ExecutionPlan, Precision
from e2enet.runtime.plans.sparse import SparsePlan
from e2enet.runtime.plans.weights import arrays_of
from hypothesis import strategies as st
from torch import Tensor


def made_network(
    strides: Sequence[Sequence[int]],
    *,
    inputs: int = 1,
    classes: int = 3,
    base: int = 4,
    most: int = 24,
    shift_groups: int = 3,
    sparsity: float = 0.5,
    seed: int = 0,
    deep_supervision: bool = False,
) -> E2ENet:
    """In eval mode, with dead connections and norms that are negative, zero and shifted."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        network = E2ENet(
            inputs,
            classes,
            strides,
            base_channels=base,
            max_channels=most,
            shift_groups=shift_groups,
            deep_supervision=deep_supervision,
        )
        for name, parameter in network.named_parameters():
            if name.endswith("norm.weight"):
                parameter.normal_(1, 0.7)
                parameter[torch.rand(len(parameter)) < 0.15] = 0
            elif name.endswith("bias"):
                parameter.normal_(0, 0.5)
        Connections.random(network, sparsity, seed=seed).apply()
    return network.eval()


class TensorPlan(ExecutionPlan):
    """The sparse plan of a network, whether this machine's kernels were tried or not."""

    def __init__(self, network: E2ENet, threads: int, precision: Precision = "float32") -> None:
        plan = SparsePlan(network.lattice, arrays_of(network), threads, precision)
        super().__init__("sparse", plan, precision=precision)


def made_image(network: E2ENet, times: Sequence[int], *, batch: int = 1, seed: int = 0) -> Tensor:
    """Normal noise whose axes are so many times the network's divisor."""
    size = [divisor * n for divisor, n in zip(network.divisor, times, strict=True)]
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, network.in_channels, *size, generator=generator)


def kill(network: E2ENet, *names: str) -> None:
    """Make every connection of these weights a dead one."""
    with torch.no_grad():
        for name in names:
            network.get_parameter(name).zero_()


def exact(network: E2ENet, image: Tensor) -> Tensor:
    """The finest logits (B, K, D, H, W) of the network itself, in float64."""
    with torch.inference_mode():
        logits = network.double()(image.double())
    network.float()
    return logits[0] if isinstance(logits, list) else logits


def difference(found: Tensor, wanted: Tensor) -> float:
    """Largest difference; infinite where only one of them is a number or the shapes differ."""
    if found.shape != wanted.shape or not torch.equal(found.isnan(), wanted.isnan()):
        return math.inf
    return float((found.double() - wanted).nan_to_num().abs().max())


# How much coarser than float32, with 24 bits, a precision rounds.
COARSER = {"float32": 1, "float16": 2**13, "bfloat16": 2**16}


def assert_same(
    found: Tensor, network: E2ENet, image: Tensor, precision: Precision = "float32"
) -> None:
    """The logits err from double precision by no more than the network itself in float32.

    Beyond 1e-4 of their size, in which sums in another order and minimal filtering (three times the
    rounding of a direct sum, measured) may differ, up to ten times the network's own error. In 16
    bit beyond 1 % (float16) and 5 % (bfloat16), and as much more as it rounds coarser.
    """
    wanted = exact(network, image)
    with torch.inference_mode():
        logits = network(image.float())
    own = difference(logits[0] if isinstance(logits, list) else logits, wanted)
    size = float(wanted.nan_to_num().abs().max())
    share = {"float32": 1e-4, "float16": 1e-2, "bfloat16": 5e-2}[precision]
    assert difference(found, wanted) <= 10 * own * COARSER[precision] + share * max(1.0, size)
    assert found.dtype == torch.float32


@dataclass(frozen=True)
class Setup:
    """What `made_network` and `made_image` are given."""

    strides: list[tuple[int, int, int]]
    inputs: int
    classes: int
    base: int
    most: int
    shift_groups: int
    sparsity: float
    deep_supervision: bool
    times: tuple[int, int, int]
    batch: int
    seed: int

    def network(self) -> E2ENet:
        return made_network(
            self.strides,
            inputs=self.inputs,
            classes=self.classes,
            base=self.base,
            most=self.most,
            shift_groups=self.shift_groups,
            sparsity=self.sparsity,
            seed=self.seed,
            deep_supervision=self.deep_supervision,
        )

    def image(self, network: E2ENet) -> Tensor:
        return made_image(network, self.times, batch=self.batch, seed=self.seed)


_LEAST_VOXELS = 16  # of a map


@st.composite
def setups(draw: st.DrawFn, most_voxels: int = 6000) -> Setup:
    """Any strides, shifts, channel counts, sparsities and sizes, as far as they are quick.

    The coarsest maps have 16 voxels or more: the norm of two that are nearly equal is all rounding,
    and no bound would mean anything.
    """
    stride = st.tuples(*[st.integers(1, 3)] * 3)
    strides = draw(st.lists(stride, min_size=1, max_size=3))
    while len(strides) > 1 and _LEAST_VOXELS * math.prod(map(math.prod, strides)) > most_voxels:
        strides.pop()
    left = most_voxels // math.prod(map(math.prod, strides))  # of the coarsest maps
    times = {}
    first, second, third = draw(st.permutations(range(3)))
    times[first] = draw(st.integers(1, min(7, left // 4)))
    times[second] = draw(st.integers(2, max(2, min(7, left // times[first] // 4))))
    least = -(-_LEAST_VOXELS // (times[first] * times[second]))
    most = max(least, min(16, left // (times[first] * times[second])))
    times[third] = draw(st.integers(least, most))
    return Setup(
        strides=strides,
        inputs=draw(st.integers(1, 4)),
        classes=draw(st.integers(1, 17)),
        base=draw(st.sampled_from([1, 2, 3, 5, 7, 8, 13])),
        most=draw(st.sampled_from([7, 13, 24])),
        shift_groups=draw(st.sampled_from([1, 2, 3, 5])),
        sparsity=draw(st.sampled_from([0.0, 0.3, 0.5, 0.8, 0.9, 0.98])),
        deep_supervision=draw(st.booleans()),
        times=(times[0], times[1], times[2]),
        batch=draw(st.integers(1, 3)),
        seed=draw(st.integers(0, 2**16)),
    )
