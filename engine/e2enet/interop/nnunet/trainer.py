"""E2ENet with dynamic sparse feature fusion inside nnU-Net's own training loop (v2.8).

nnU-Net finds it where the environment variable nnUNet_extTrainer names `TRAINERS`:
`nnUNetv2_train DATASET 3d_fullres 0 -tr nnUNetTrainerE2ENet`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import nn

from e2enet.dsff import Connections
from e2enet.dsff.evolution import Evolution, default_period
from e2enet.files import replacing
from e2enet.interop.nnunet.checkpoints import read_checkpoint
from e2enet.networks import E2ENet
from e2enet.networks.lattice import Lattice

_STATE = "e2enet"  # key of a checkpoint


class nnUNetTrainerE2ENet(nnUNetTrainer):  # type: ignore[misc]  # noqa: N801 - nnU-Net's style
    """Trains an E2ENet on nnU-Net's plans; a subclass may set other numbers.

    Attributes:
        feature_sparsity: Share of connections that are dead (S).
        base_channels: Channels of level 0.
        shift_groups: Depth-shift groups.
        zeta_start: First share of live connections that an evolution replaces.
    """

    feature_sparsity = 0.8
    base_channels = 48
    shift_groups = 3
    zeta_start = 0.5

    @classmethod
    def build_network_architecture(  # type: ignore[override]
        cls,
        plans_manager: Any,
        configuration_manager: Any,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> nn.Module:
        """The network, dense; training and prediction call it."""
        return E2ENet(
            num_input_channels,
            num_output_channels,
            _strides(configuration_manager),
            base_channels=cls.base_channels,
            shift_groups=cls.shift_groups,
            deep_supervision=enable_deep_supervision,
        )

    def initialize(self) -> None:
        """Network, optimiser and loss as nnU-Net has them, then the connections."""
        super().initialize()
        network = self._plain_network()
        self.connections = Connections.random(network, self.feature_sparsity, seed=_seed(self.fold))
        for name, mask in self.connections.masks.items():
            self.connections.masks[name] = mask.to(self.device)
        self.connections.apply()
        total = self.num_epochs * self.num_iterations_per_epoch
        self.evolution = Evolution(
            self.connections,
            total_iterations=total,
            period=default_period(total),
            zeta_start=self.zeta_start,
            seed=_seed(self.fold),
        )
        self.evolution.record()

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """A step of nnU-Net's, then the masks and, when it is due, an evolution."""
        result: dict[str, Any] = super().train_step(batch)
        self.evolution.step(self.optimizer)
        return result

    def set_deep_supervision_enabled(self, enabled: bool) -> None:
        """Logits of all heads, or of the finest."""
        self._plain_network().deep_supervision = enabled

    def save_checkpoint(self, filename: str) -> None:
        """As nnU-Net, with the masks and the evolution beside the weights."""
        super().save_checkpoint(filename)
        if self.local_rank == 0 and not self.disable_checkpointing:
            checkpoint = read_checkpoint(Path(filename))  # nnU-Net adds nothing by itself
            checkpoint[_STATE] = {
                "arguments": self._plain_network().arguments,
                "masks": {name: mask.cpu() for name, mask in self.connections.masks.items()},
                "evolution": self.evolution.state_dict(),
            }
            with replacing(Path(filename)) as whole:
                torch.save(checkpoint, whole)

    def load_checkpoint(self, filename_or_checkpoint: Any) -> None:
        """As nnU-Net, but of a file only plain data; the evolution goes on where it was."""
        checkpoint = filename_or_checkpoint
        if isinstance(checkpoint, (str, os.PathLike)):
            checkpoint = read_checkpoint(Path(checkpoint))
        super().load_checkpoint(filename_or_checkpoint)  # a dictionary stops nnU-Net 2.8.1
        state = checkpoint[_STATE]
        for name, mask in state["masks"].items():
            self.connections.masks[name].copy_(mask)
        self.evolution.load_state_dict(state["evolution"])
        # A training that goes on may be longer than it was meant to be.
        self.evolution.total_iterations = self.num_epochs * self.num_iterations_per_epoch
        self.connections.apply(self.optimizer)

    def _plain_network(self) -> E2ENet:
        network = self.network.module if self.is_ddp else self.network
        assert isinstance(network, E2ENet)  # it is never compiled
        return network

    def _do_i_compile(self) -> bool:
        return False  # the depth-shift is one function of our own already

    def _get_deep_supervision_scales(self) -> list[list[float]] | None:
        if not self.enable_deep_supervision:
            return None
        lattice = Lattice(1, 2, _strides(self.configuration_manager), self.base_channels)
        scales, size = [[1.0, 1.0, 1.0]], [1.0, 1.0, 1.0]
        for stride in lattice.strides[: lattice.num_heads - 1]:
            size = [one / step for one, step in zip(size, stride, strict=True)]
            scales.append(size)
        return scales

    def _build_loss(self) -> nn.Module:
        scales = self._get_deep_supervision_scales()
        self.enable_deep_supervision = False  # the wrapper below has weights of our own
        loss: nn.Module = super()._build_loss()
        self.enable_deep_supervision = scales is not None
        if scales is None:
            return loss
        weights = [0.5**head for head in range(len(scales))]
        return DeepSupervisionWrapper(loss, [one / sum(weights) for one in weights])  # type: ignore


def _strides(configuration_manager: Any) -> list[tuple[int, ...]]:
    """Between levels; nnU-Net's first stage has a stride of one."""
    return [tuple(int(n) for n in s) for s in configuration_manager.pool_op_kernel_sizes[1:]]


def _seed(fold: Any) -> int:
    return int(fold) if str(fold).isdigit() else 0
