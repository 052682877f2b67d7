"""The training loop: steps, evolution, online Dice, checkpoints, pause and resume.

Whatever is random is a function of (seed, epoch, iteration, sample), and a checkpoint holds all the
rest, so that a run that was killed at any moment ends as if it had never stopped: bit for bit on a
CPU with the same number of threads, with the same data order and schedules on a GPU. This file
needs neither SimpleITK nor MONAI.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from e2enet.data.patches.sampling import BatchKeys, PatchSampler
from e2enet.dsff import Connections, Evolution
from e2enet.events import BadInput, Reporter
from e2enet.networks import E2ENet
from e2enet.runtime.execution import kernels_work
from e2enet.training.loop.checkpoint import load_checkpoint, save_checkpoint
from e2enet.training.loop.curves import write_curves
from e2enet.training.loop.loss import hard_counts, supervised_loss
from e2enet.training.loop.schedules import poly_lr, supervision_weights

CHECKPOINT = "checkpoint.safetensors"
CONTROL = "control"
_REPORT_EVERY_S = 0.5
_DRAW_EVERY_S = 20.0

Outcome = Literal["finished", "paused", "stopped"]


@dataclass(frozen=True)
class Recipe:
    """How long and how hard to train; the released recipe by default.

    Args:
        epochs: of `iterations_per_epoch` optimiser steps each.
        validation_iterations: batches of the online Dice after each epoch.
        lr: initial learning rate of the poly schedule.
        momentum: of Nesterov SGD.
        clip: largest norm of the gradient.
        batch_dice: as in `e2enet.training.loop.loss.dice_ce`.
    """

    epochs: int = 1000
    iterations_per_epoch: int = 250
    validation_iterations: int = 50
    lr: float = 0.01
    momentum: float = 0.99
    weight_decay: float = 3e-5
    clip: float = 12.0
    batch_dice: bool = False

    @property
    def total(self) -> int:
        """Optimiser steps of the whole training."""
        return self.epochs * self.iterations_per_epoch


class Trainer:
    """Trains a network on patches and keeps its state in a folder.

    Args:
        network: with deep supervision; moved to the device.
        connections, evolution: its live connections, and what changes them.
        training: the sampler of training patches; its batch size is the training's.
        validation: the sampler for the online Dice after each epoch.
        recipe: schedule and optimiser.
        labels: {name: value} without the background, for reports.
        folder: where checkpoint, curves and control file lie; exists.
        device: where to train. CUDA trains in mixed precision (float16 with a gradient scaler).
        workers: processes that make patches; 0 makes them between steps. No effect on the result.
        reporter: gets progress as stage "training" and the metric "epoch".
    """

    def __init__(
        self,
        *,
        network: nn.Module,
        connections: Connections,
        evolution: Evolution,
        training: PatchSampler,
        validation: PatchSampler,
        recipe: Recipe,
        labels: Mapping[str, int],
        folder: Path,
        device: torch.device | str = "cpu",
        workers: int = 0,
        reporter: Reporter | None = None,
    ) -> None:
        self.device = torch.device(device)
        self.network = network.to(self.device)
        self.connections, self.evolution = connections, evolution
        for name, mask in connections.masks.items():
            connections.masks[name] = mask.to(self.device)
        if self.device.type == "cpu" and isinstance(network, E2ENet) and kernels_work():
            from e2enet.runtime.training.accelerate import accelerate

            accelerate(network, connections)
        self.training, self.validation = training, validation
        self.recipe = recipe
        self.labels = dict(sorted(labels.items(), key=lambda item: item[1]))
        self.folder = folder
        self.workers = workers
        self.reporter = reporter or Reporter()
        self.optimizer = torch.optim.SGD(
            network.parameters(),
            lr=recipe.lr,
            momentum=recipe.momentum,
            nesterov=True,
            weight_decay=recipe.weight_decay,
        )
        self.mixed = self.device.type == "cuda"
        self.scaler = torch.amp.GradScaler("cuda", enabled=self.mixed)
        self.weights = supervision_weights(network.num_heads)  # type: ignore[arg-type]
        self.iteration = 0
        self.losses: list[float] = []  # of the epoch under way
        self.rows: list[dict[str, Any]] = []  # one a finished epoch
        self._seconds = 0.0  # of the epoch under way, before a pause
        self._reported = 0.0
        self._drawn = -_DRAW_EVERY_S
        # Validation patches are numbered through: they do not belong to an epoch.
        turns = recipe.validation_iterations
        self._validation_batches = self._loader(validation, first=0, total=turns, per_epoch=turns)

    @property
    def checkpoint(self) -> Path:
        return self.folder / CHECKPOINT

    def run(self) -> Outcome:
        """Train from where the state stands to the end, or until the control file says otherwise.

        Raises:
            BadInput: the loss is no longer a number, or a checkpoint cannot be written.
        """
        recipe, total = self.recipe, self.recipe.total
        if not self.evolution.history:
            self.connections.apply()
            self.evolution.record()
            self.save()
        batches = iter(
            self._loader(
                self.training,
                first=self.iteration,
                total=total,
                per_epoch=recipe.iterations_per_epoch,
            )
        )
        self.network.train()
        torch.backends.cudnn.benchmark = self.mixed  # every batch has the same size
        started = time.monotonic() - self._seconds
        self.reporter.progress("training", self.iteration, total)
        while self.iteration < total:
            if order := self._order():
                self._seconds = time.monotonic() - started
                self.save()
                return order
            image, label = next(batches)
            epoch = self.iteration // recipe.iterations_per_epoch
            self.losses.append(self.step(image, label, epoch))
            self.iteration += 1
            self._report(total)
            if self.iteration % recipe.iterations_per_epoch == 0:
                self._finish_epoch(epoch, time.monotonic() - started)
                started = time.monotonic()
        return "finished"

    def step(self, image: Tensor, label: Tensor, epoch: int) -> float:
        """One optimiser step on a batch; returns the loss.

        Args:
            image: (B, C, D, H, W) float32.
            label: (B, D, H, W) whole numbers.
            epoch: counted from 0, sets the learning rate.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = poly_lr(self.recipe.lr, epoch, self.recipe.epochs)
        image = image.to(self.device, non_blocking=True)
        target = label.to(self.device, non_blocking=True).long()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, dtype=torch.float16, enabled=self.mixed):
            outputs = self.network(image)
        loss = supervised_loss(outputs, target, self.weights, batch_dice=self.recipe.batch_dice)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise BadInput(
                f"The loss is no longer a number at iteration {self.iteration} "
                f"(epoch {epoch + 1}).",
                help="Train anew with a smaller --lr, and look at the images for odd intensities.",
                code="diverged",
            )
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.evolution.step(self.optimizer)
        return value

    @torch.no_grad()
    def validate(self) -> dict[str, float | None]:
        """Dice per label over the voxels of all validation patches, as nnU-Net's online Dice.

        None for a label that occurs neither in the patches nor in their segmentation.
        """
        self.network.eval()
        counts = torch.zeros(len(self.labels), 3, dtype=torch.int64)
        for image, label in self._validation_batches:
            with torch.autocast(self.device.type, dtype=torch.float16, enabled=self.mixed):
                outputs = self.network(image.to(self.device, non_blocking=True))
            counts += hard_counts(outputs[0], label.to(self.device, non_blocking=True)).cpu()
        self.network.train()
        dice: dict[str, float | None] = {}
        for name, value in self.labels.items():
            hit, wrong, missed = counts[value - 1].tolist()
            size = 2 * hit + wrong + missed
            dice[name] = 2 * hit / size if size else None
        return dice

    def save(self) -> None:
        """Write the checkpoint."""
        save_checkpoint(self.checkpoint, self.state_dict())

    def restore(self) -> None:
        """Take over the checkpoint of the folder.

        Raises:
            BadInput: there is none, it is damaged, or it belongs to another recipe or network.
        """
        self.load_state_dict(load_checkpoint(self.checkpoint))

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of the run depends on."""
        momentum = {}
        for name, parameter in self.network.named_parameters():
            buffer = self.optimizer.state.get(parameter, {}).get("momentum_buffer")
            if buffer is not None:
                momentum[name] = buffer
        return {
            "iteration": self.iteration,
            "recipe": asdict(self.recipe),
            "network": dict(self.network.state_dict()),
            "masks": self.connections.state_dict(),
            "evolution": self.evolution.state_dict(),
            "momentum": momentum,
            "scaler": self.scaler.state_dict() if self.mixed else {},
            "losses": self.losses,
            "seconds": self._seconds,
            "rows": self.rows,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken. Raises BadInput for another recipe or network."""
        if {**asdict(Recipe()), **state["recipe"]} != asdict(self.recipe):  # one may have been new
            raise BadInput(
                f"The checkpoint {self.checkpoint} belongs to another training recipe.",
                help="Resume with the settings the run was started with.",
                code="other-settings",
            )
        try:
            self.network.load_state_dict(state["network"])
            self.connections.load_state_dict(state["masks"])
        except (RuntimeError, ValueError) as error:
            raise BadInput(
                f"The checkpoint {self.checkpoint} belongs to another network: "
                f"{str(error).splitlines()[0]}",
                code="other-settings",
            ) from error
        self.evolution.load_state_dict(state["evolution"])
        for name, parameter in self.network.named_parameters():
            if name in state["momentum"]:
                buffer = state["momentum"][name].to(self.device)
                self.optimizer.state[parameter]["momentum_buffer"] = buffer
        if self.mixed and state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        self.iteration = int(state["iteration"])
        self.losses = [float(v) for v in state["losses"]]
        self._seconds = float(state["seconds"])
        self.rows = list(state["rows"])

    def _finish_epoch(self, epoch: int, seconds: float) -> None:
        dice = self.validate()
        known = [value for value in dice.values() if value is not None]
        row = {
            "epoch": epoch + 1,
            "iteration": self.iteration,
            "loss": math.fsum(self.losses) / len(self.losses),
            "lr": poly_lr(self.recipe.lr, epoch, self.recipe.epochs),
            "dice": dice,
            "mean_dice": sum(known) / len(known) if known else None,
            "zeta": self.evolution.zeta,
            "live": self.connections.live,
            "seconds": round(seconds, 2),
        }
        self.rows.append(row)
        self.losses, self._seconds = [], 0.0
        if self.iteration == self.recipe.total:
            self.evolution.record()
        self.save()
        now = time.monotonic()
        # Drawing takes half a second: short epochs do not wait for it every time.
        picture = now - self._drawn >= _DRAW_EVERY_S or self.iteration == self.recipe.total
        try:
            write_curves(self.folder, self.rows, self.evolution.history, picture=picture)
        except OSError as error:  # the next checkpoint says whether training can go on
            self.reporter.warning(
                "curves-not-written",
                f"The learning curves in {self.folder} cannot be written: {error.strerror}.",
            )
        if picture:
            self._drawn = now
        self.reporter.metric("epoch", **row)

    def _order(self) -> Outcome | None:
        """What the control file asks for; it is taken away once it is read."""
        path = self.folder / CONTROL
        try:
            word = path.read_text(encoding="utf-8").strip().lower()
        except OSError:
            return None
        if word not in ("pause", "stop"):
            return None  # still being written
        path.unlink(missing_ok=True)
        return "paused" if word == "pause" else "stopped"

    def _loader(
        self, sampler: PatchSampler, *, first: int, total: int, per_epoch: int
    ) -> DataLoader:
        keys = BatchKeys(
            first=first, total=total, per_epoch=per_epoch, batch_size=sampler.batch_size
        )
        workers = min(self.workers, len(keys))
        return DataLoader(
            sampler,
            batch_sampler=keys,  # type: ignore[arg-type]
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=self.mixed,
            generator=torch.Generator(),  # else torch's global random state would be advanced
        )

    def _report(self, total: int) -> None:
        now = time.monotonic()
        if now - self._reported >= _REPORT_EVERY_S or self.iteration == total:
            self._reported = now
            self.reporter.progress("training", self.iteration, total)
