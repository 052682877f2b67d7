"""Choose what runs a trained network on a device."""

from __future__ import annotations

import functools
import importlib.metadata
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from e2enet.bundle.weights import StoredNetwork
from e2enet.events import BadInput
from e2enet.extras import TORCH_HELP, has_torch, need_torch
from e2enet.networks import LATTICES, Lattice
from e2enet.runtime.kernels.workers import default_threads
from e2enet.runtime.plans.weights import arrays_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

Precision = Literal["float32", "float16", "bfloat16"]
Runtime = Literal["sparse", "reference"]
Image = TypeVar("Image", np.ndarray, "Tensor")

_ONE_AT_A_TIME = threading.Lock()


class ExecutionPlan:
    """Maps images (B, C, D, H, W) to the finest logits (B, K, D, H, W) float32.

    Takes an array or a tensor and answers with the same; a tensor comes from and stays on the
    plan's device. Computes without gradients, what the network would in eval mode, and is meant for
    one thread at a time. Raises ValueError for an image that the network does not take.

    Attributes:
        name: "sparse" for the kernels that Numba compiles, "gathered" for PyTorch without dead
            maps, "network" for the network itself.
        device: Where it computes.
        precision: What it computes in, which need not be what was asked for: "float32"; on a GPU
            "float16" or "bfloat16" throughout; with the kernels "float16" for maps that lie in
            memory in it and arithmetic in float32, "bfloat16" for such maps and products of numbers
            rounded to bfloat16, added up in float32.
        fallback: Why PyTorch computes where the kernels were asked for; None otherwise.
    """

    def __init__(
        self,
        name: str,
        run: Callable[..., Any],
        device: str = "cpu",
        *,
        precision: Precision = "float32",
        fallback: str | None = None,
    ) -> None:
        self.name, self.device, self.fallback = name, device, fallback
        self.precision = precision
        self.run = run

    def __call__(self, image: Image) -> Image:
        if self.name == "sparse":
            if isinstance(image, np.ndarray):
                return self.run(image)  # type: ignore[no-any-return]
            import torch

            return torch.from_numpy(self.run(image.detach().float().numpy()))
        if not isinstance(image, np.ndarray):
            return self.run(image)  # type: ignore[no-any-return]
        import torch

        tensor = torch.from_numpy(np.ascontiguousarray(image)).to(self.device)
        return self.run(tensor).cpu().numpy()  # type: ignore[no-any-return]

    def describe(self) -> dict[str, Any]:
        """For the record of a run: what computed, its version, in which precision, and why."""
        library = "numba" if self.name == "sparse" else "torch"
        version = importlib.metadata.version(library)
        about = {"name": self.name, library: version, "precision": self.precision}
        return {**about, "fallback": self.fallback} if self.fallback else about


def execution_plan(
    network: nn.Module | StoredNetwork,
    device: torch.device | str = "cpu",
    precision: Precision = "float32",
    *,
    runtime: Runtime = "sparse",
    threads: int | None = None,
) -> ExecutionPlan:
    """Turn a trained network with its masks into what runs it.

    Kernels that are all zeros are dead connections. Later changes of the network may or may not
    reach the plan.

    Args:
        network: A module of PyTorch on any device, or the stored network of a bundle. Without a
            lattice it is moved to the device and run as it is.
        device: Where to compute.
        precision: What to compute in. "float16" and "bfloat16" overflow beyond 65504, which leaves
            logits that are not finite. A CPU takes what it has instructions for, first bfloat16
            (AVX512-BF16), then float16 (F16C, NEON), else float32; PyTorch on a CPU computes in
            float32. See `ExecutionPlan.precision`.
        runtime: "sparse" skips what DSFF removed; "reference" runs the network itself.
        threads: Of the kernels; one a physical core by default.

    Raises:
        BadInput: PyTorch is needed and not installed.

    Example:
        >>> from e2enet.networks import E2ENet
        >>> network = E2ENet(1, 3, [(2, 2, 2)] * 2, base_channels=4)
        >>> execution_plan(network)(np.zeros((1, 1, 8, 16, 16), np.float32)).shape
        (1, 3, 8, 16, 16)
    """
    place = str(device)
    kind = network.kind if isinstance(network, StoredNetwork) else type(network).__name__
    # A network that adds something to its lattice is not all that the lattice says.
    lattice: Lattice | None = getattr(network, "lattice", None) if kind in LATTICES else None
    fallback = None
    if runtime == "sparse" and lattice is not None and place.startswith("cpu"):
        fallback = why_no_kernels()
        if fallback is None:
            from e2enet.runtime.plans.sparse import SparsePlan

            arrays = network.arrays if isinstance(network, StoredNetwork) else arrays_of(network)
            precision = kernel_precision(precision)
            sparse = SparsePlan(lattice, arrays, threads or default_threads(), precision)
            return ExecutionPlan("sparse", sparse, precision=precision)
        if not has_torch():
            raise BadInput(
                f"The sparse kernels do not run here ({fallback}), and PyTorch, which could take "
                "their place, is not installed.",
                help=TORCH_HELP,
                code="no-torch",
            )
    need_torch("The reference runtime" if runtime == "reference" else f"The network {kind}")
    module = network.module() if isinstance(network, StoredNetwork) else network
    if runtime == "reference" or lattice is None:
        from e2enet.runtime.plans.network import network_plan

        if runtime == "sparse" and getattr(module, "sparse_layers", dict)():
            fallback = f"the kernels do not know all layers of {kind}"
        if place.startswith("cpu"):
            precision = "float32"
        run = network_plan(module, place, precision)
        return ExecutionPlan("network", run, place, precision=precision, fallback=fallback)
    import torch

    from e2enet.runtime.plans.gathered import GatheredPlan

    if place.startswith("cpu"):
        precision = "float32"
    half = None if precision == "float32" else getattr(torch, precision)
    gathered = GatheredPlan(module, torch.device(place), half)  # type: ignore[arg-type]
    return ExecutionPlan("gathered", gathered, place, precision=precision, fallback=fallback)


def kernels_work() -> bool:
    """Whether Numba's kernels are what a CPU computes with here."""
    return why_no_kernels() is None


def kernel_precision(asked: Precision) -> Precision:
    """What the kernels compute in on this machine where this is asked for.

    16 bit is tried once a process, against the definition.
    """
    from e2enet.runtime.kernels import cpu
    from e2enet.runtime.kernels.pairs import has_pairs

    if asked == "bfloat16" and not (has_pairs() and _works_in(asked)):
        asked = "float16"
    if asked == "float16" and not (cpu.has("f16c", elsewhere=True) and _works_in(asked)):
        asked = "float32"
    return asked


@functools.cache
def _works_in(precision: Precision) -> bool:
    from e2enet.runtime.plans.direct import direct_logits
    from e2enet.runtime.plans.sparse import SparsePlan

    lattice, weights, image = _trial()
    wanted = direct_logits(lattice, weights, image)
    try:
        found = SparsePlan(lattice, weights, 1, precision)(image[None])[0]
    except Exception:  # an LLVM that does not know the instructions
        return False
    # Rounding makes 3 % in bfloat16; lanes in another order make all of it.
    return bool(np.abs(found - wanted).max() < 0.1 * np.abs(wanted).max())


def why_no_kernels() -> str | None:
    """Why Numba's kernels are not used on this machine; None where they are.

    They are tried once a process, against the definition.
    """
    with _ONE_AT_A_TIME:
        return _why_no_kernels()


@functools.cache
def _why_no_kernels() -> str | None:
    try:
        from e2enet.runtime.kernels import cpu
        from e2enet.runtime.plans.sparse import SparsePlan

        if has_torch() and not cpu.has("fma", elsewhere=True):
            return "the CPU has no fused multiply-add, without which PyTorch is faster"
        lattice, weights, image = _trial()
        found = SparsePlan(lattice, weights, 1)(image[None])[0]
    except Exception as error:
        # Not only ImportError: Numba refuses versions of numpy that it does not know.
        return f"{type(error).__name__}: {error}".split("\n")[0]
    from e2enet.runtime.plans.direct import direct_logits

    if np.allclose(found, direct_logits(lattice, weights, image), atol=1e-3):
        return None
    return "they compute something else than they should"


def _trial() -> tuple[Lattice, dict[str, np.ndarray], np.ndarray]:
    # The least lattice with flows of all kinds, so that every kernel is tried, and compiled.
    lattice = Lattice(1, 2, [(2, 2, 2), (1, 2, 2)], base_channels=3)
    random = np.random.default_rng(0)
    weights = {
        name: random.normal(size=shape).astype(np.float32)
        for name, shape in lattice.parameters.items()
    }
    return lattice, weights, random.normal(size=(1, 4, 8, 12)).astype(np.float32)
