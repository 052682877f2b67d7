"""Choose the execution plan of a network for a device."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from e2enet.networks import E2ENet
from e2enet.runtime.plans.grouped import GroupedPlan

Precision = Literal["float32", "float16", "bfloat16"]

_ONE_AT_A_TIME = threading.Lock()

# (B, C, D, H, W) on the plan's device -> logits (B, K, D, H, W) float32 at full resolution
Plan = Callable[[Tensor], Tensor]


def compile(
    network: nn.Module,
    device: torch.device | str = "cpu",
    precision: Precision = "float32",
) -> Plan:
    """Turn a trained network with its masks into an execution plan.

    The plan computes the finest logits as the network in eval mode would, without gradients, and is
    meant for one thread at a time. Kernels that are all zeros are dead connections. Later changes
    of the network may or may not reach the plan.

    Args:
        network: An E2ENet on any device; any other network is moved to the device and run as it is.
        device: Where to compute.
        precision: Of the arithmetic on a GPU. A CPU computes in float32 whatever is asked for: the
            sparse kernels are faster in it than dense ones in 16 bit.

    Returns:
        (B, C, D, H, W) -> (B, K, D, H, W) float32, both on the device. It raises ValueError for an
        image that the network does not take.

    Example:
        >>> network = E2ENet(1, 3, [(2, 2, 2)] * 2, base_channels=4)
        >>> tuple(compile(network)(torch.zeros(1, 1, 8, 16, 16)).shape)
        (1, 3, 8, 16, 16)
    """
    device = torch.device(device)
    if not isinstance(network, E2ENet):
        return as_it_is(network, device, precision)
    if device.type == "cpu" and kernels_work():
        from e2enet.runtime.plans.tensors import TensorPlan

        return TensorPlan(network, torch.get_num_threads())
    half = None if device.type == "cpu" or precision == "float32" else getattr(torch, precision)
    return GroupedPlan(network, device, half)


def kernels_work() -> bool:
    """Whether Numba is there and its kernels compute on this machine what PyTorch computes."""
    with _ONE_AT_A_TIME:
        return _kernels_work()


@functools.cache
def _kernels_work() -> bool:
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(0)
        network = E2ENet(1, 2, [(2, 2, 2)], base_channels=3, deep_supervision=False).eval()
        image = torch.randn(1, 1, 4, 6, 10)
        try:
            from e2enet.runtime.plans.tensors import TensorPlan

            found = TensorPlan(network, 1)(image)
        except Exception:
            # Not only ImportError: Numba refuses versions of numpy that it does not know.
            return False
        return bool(torch.allclose(found, network(image), atol=1e-3))


def as_it_is(network: nn.Module, device: torch.device | str, precision: Precision) -> Plan:
    """The reference: the network itself, moved to the device; arguments as `compile`."""
    device = torch.device(device)
    moved: Any = network.to(device).eval()
    half = device.type != "cpu" and precision != "float32"

    def run(image: Tensor) -> Tensor:
        dtype = getattr(torch, precision)
        with torch.inference_mode(), torch.autocast(device.type, dtype=dtype, enabled=half):
            logits = moved(image)
        finest = logits[0] if isinstance(logits, (list, tuple)) else logits
        return finest.float()  # type: ignore[no-any-return]

    return run
