"""Where nnU-Net looks for the trainer: it finds a class by its name in every file of a folder."""

from e2enet.interop.nnunet.trainer import nnUNetTrainerE2ENet

__all__ = ["nnUNetTrainerE2ENet"]
