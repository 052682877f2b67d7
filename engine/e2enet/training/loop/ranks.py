"""Several processes that train one network: PyTorch's own `torchrun` starts them.

Each rank has its samples of the global batch. What comes out of the network is gathered, every rank
computes the loss of the whole batch and differentiates it by its own share, and the gradients are
summed. So the loss, whatever it is, is that of one process, and so is the step but for the order of
sums. All that is decided, masks above all, is the first rank's.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from e2enet.events import BadInput

_PATIENCE = timedelta(hours=12)  # the first rank prepares the data meanwhile
T = TypeVar("T")


class Ranks:
    """This process among those that train together; alone by default.

    Args:
        rank: Its number, from 0.
        size: How many there are.
        device: Where it trains.
    """

    def __init__(self, rank: int = 0, size: int = 1, device: torch.device | None = None) -> None:
        self.rank, self.size = rank, size
        self._device = device or torch.device("cpu")

    @property
    def first(self) -> bool:
        """Whether it is the one that writes files and talks."""
        return self.rank == 0

    def check(self, network: nn.Module, batch_size: int) -> None:
        """Raise BadInput for what cannot be trained by so many."""
        if batch_size % self.size:
            raise BadInput(
                f"A batch of {batch_size} cannot be shared by {self.size} processes.",
                help="Start as many as divide the batch, or plan with another --batch-size.",
                code="ranks-do-not-divide",
            )
        batch_norm = nn.modules.batchnorm._BatchNorm
        if self.size > 1 and any(isinstance(module, batch_norm) for module in network.modules()):
            raise BadInput(
                "This network norms over the batch, which several processes would share.",
                help="Train it in one process, or choose --network e2enet.",
                code="ranks-batch-norm",
            )

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """This rank's part of a batch, in the batch's order."""
        each = len(items) // self.size
        return items[self.rank * each : (self.rank + 1) * each]

    def gathered(self, part: Tensor) -> Tensor:
        """(B, …) of all ranks from the part (B / size, …) of each; own gradients flow back."""
        if self.size == 1:
            return part
        own = part.detach().contiguous()
        parts = [torch.empty_like(own) for _ in range(self.size)]
        dist.all_gather(parts, own)
        parts[self.rank] = part
        return torch.cat(parts)

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Add up what each rank found."""
        if self.size == 1:
            return
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            parameter.grad = parameter.grad.contiguous()
            dist.all_reduce(parameter.grad)

    def summed(self, counts: Tensor) -> Tensor:
        """The sum of whole numbers over all ranks."""
        if self.size == 1:
            return counts
        moved = counts.to(self._device)
        dist.all_reduce(moved)
        return moved.to(counts.device)

    def largest(self, number: int) -> int:
        """The largest of a number that each rank has."""
        if self.size == 1:
            return number
        told = torch.tensor([number], device=self._device)
        dist.all_reduce(told, dist.ReduceOp.MAX)
        return int(told)

    def first_ones(self, masks: Iterable[Tensor]) -> None:
        """Overwrite bool tensors by the first rank's."""
        if self.size == 1:
            return
        for mask in masks:
            told = mask.to(torch.uint8)
            dist.broadcast(told, 0)
            mask.copy_(told.bool())

    def meet(self) -> None:
        """Wait until all ranks have come here."""
        if self.size > 1:
            self.largest(0)


def is_launched() -> bool:
    """Whether `torchrun` started this process."""
    return dist.is_available() and dist.is_torchelastic_launched()


def own_device(name: str) -> str:
    """The device of this rank: of several GPUs its own."""
    local = os.environ.get("LOCAL_RANK", "0")
    several = torch.cuda.is_available() and torch.cuda.device_count() > 1
    return f"cuda:{local}" if name in ("auto", "cuda") and several else name


@contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """The ranks of this run, while the block lasts.

    Raises:
        BadInput: Another rank ended in the middle; the run's checkpoint stands as it was.
    """
    if not is_launched():
        yield Ranks(device=device)
        return
    options: dict[str, Any] = {"timeout": _PATIENCE}
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", **options)
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size(), device)
    except RuntimeError as error:
        if not _is_lost(error):
            raise
        raise BadInput(
            "Another process of this training ended.",
            help="The last checkpoint stands; the same command with --resume goes on from it, also "
            "with another number of processes.",
            code="rank-lost",
        ) from error
    finally:
        dist.destroy_process_group()


def _is_lost(error: RuntimeError) -> bool:
    text = str(error).lower()
    lost = ("connection closed", "connection reset", "connection refused", "broken pipe")
    return any(one in text for one in lost) or isinstance(error, dist.DistBackendError)
