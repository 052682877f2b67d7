"""The training loop: steps, evolution, online Dice, checkpoints, pause and resume.

Whatever is random is a function of (seed, epoch, iteration, sample), and a checkpoint holds all the
rest, so that a run that was killed at any moment ends as if it had never stopped: bit for bit on a
CPU with the same number of threads, with the same data order and schedules on a GPU. This file
needs neither SimpleITK nor MONAI.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from e2enet.data.patches.sampling import BatchKeys, PatchLoader, PatchSampler, patch_loader
from e2enet.dsff import Connections, Evolution
from e2enet.events import BadInput, Reporter
from e2enet.networks import E2ENet
from e2enet.runtime.execution import kernels_work
from e2enet.training.loop.checkpoint import load_checkpoint, save_checkpoint
from e2enet.training.loop.curves import smoothed_dice, write_curves
from e2enet.training.loop.loss import supervised_loss
from e2enet.training.loop.objective import Objective
from e2enet.training.loop.optimizer import (
    load_optimizer_state,
    make_optimizer,
    optimizer_state,
)
from e2enet.training.loop.orders import Orders, Outcome
from e2enet.training.loop.ranks import Ranks
from e2enet.training.loop.recipe import Recipe
from e2enet.training.loop.schedules import poly_lr, supervision_weights, warm_up

CHECKPOINT, BEST = "checkpoint.safetensors", "best.safetensors"
_REPORT_EVERY_S = 0.5
_DRAW_EVERY_S = 20.0
_PATIENCE = 10  # steps without a finite loss, one after the other, that end the run
_SETBACK = 0.5  # of the learning rate, each time that the run ended so


class Trainer:
    """Trains a network on patches and keeps its state in a folder.

    Args:
        network: with deep supervision; moved to the device.
        connections, evolution: its live connections, and what changes them.
        training: the sampler of training patches; its batch size is the training's.
        validation: the sampler for the online Dice after each epoch.
        recipe: schedule and optimiser.
        labels: names of the structures in the order of the network's outputs, without the
            background, for reports.
        folder: where checkpoint, curves and control file lie; exists.
        device: where to train. CUDA trains in mixed precision (float16 with a gradient scaler).
        workers: processes that make patches; 0 makes them between steps. No effect on the result.
        reporter: gets progress as stage "training" and the metric "epoch".
        objective: the loss, and what counts; by default that of classes.
        ranks: the processes that train together; this one alone by default. Only the first writes.
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
        labels: Sequence[str],
        folder: Path,
        device: torch.device | str = "cpu",
        workers: int = 0,
        reporter: Reporter | None = None,
        objective: Objective | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self.device = torch.device(device)
        self.network = network.to(self.device)
        self.connections, self.evolution = connections, evolution
        for name, mask in connections.masks.items():
            connections.masks[name] = mask.to(self.device)
        self.forward: Callable[[Tensor], Any] = self.network
        if self.device.type == "cpu" and isinstance(network, E2ENet) and kernels_work():
            from e2enet.runtime.training.accelerate import SparseTraining

            self.forward = SparseTraining(network, connections)
        self.training, self.validation = training, validation
        self.recipe = recipe
        self.labels = tuple(labels)
        self.objective = objective or Objective()
        self.ranks = ranks or Ranks()
        self.ranks.check(network, training.batch_size)
        self.folder = folder
        self.orders = Orders(folder, self.ranks)
        self.workers = workers
        self.reporter = reporter or Reporter()
        self.optimizer = make_optimizer(network, recipe)
        self.mixed = self.device.type == "cuda"
        self.scaler = torch.amp.GradScaler("cuda", enabled=self.mixed)
        self.weights = supervision_weights(network.num_heads)  # type: ignore[arg-type]
        self.iteration = 0
        self.losses: list[float] = []  # of the epoch under way
        self.rows: list[dict[str, Any]] = []  # one a finished epoch
        self.left_out = 0  # steps of the epoch under way whose loss or gradient was not finite
        self.left_out_in_a_row = 0
        self.setbacks = 0  # how often the run has diverged and begun again at a checkpoint
        self._seconds = 0.0  # of the epoch under way, before a pause
        self._reported = 0.0
        self._drawn = -_DRAW_EVERY_S
        # Validation patches are numbered through: they do not belong to an epoch.
        iterations = recipe.validation_iterations
        self._validation_batches = self._batches(
            validation, first=0, total=iterations, per_epoch=iterations
        )

    @property
    def checkpoint(self) -> Path:
        """Where its state is saved."""
        return self.folder / CHECKPOINT

    def begin(self) -> None:
        """Save the state of a run that has not begun yet."""
        if not self.evolution.history:
            self.connections.apply()
            self.evolution.record()
            self.save()

    def run(self) -> Outcome:
        """Train from where the state stands to the end, or until it is told to stop.

        Returns:
            "finished"; "paused" or "stopped" as the control file said; "interrupted" after
            `orders.interrupt`. Whatever it is, the checkpoint holds the state.

        Raises:
            BadInput: the loss stays infinite or no number, or a checkpoint cannot be written.
        """
        recipe, total = self.recipe, self.recipe.total
        self.begin()
        batches = iter(
            self._batches(
                self._patches(),
                first=self.iteration,
                total=total,
                per_epoch=recipe.iterations_per_epoch,
            )
        )
        self.network.train()
        torch.backends.cudnn.benchmark = self.mixed  # every batch has the same size
        started = time.monotonic() - self._seconds
        began = time.monotonic(), self.iteration
        self.reporter.progress("training", self.iteration, total)
        while self.iteration < total:
            if order := self.orders.agreed():
                self._seconds = time.monotonic() - started
                self.save()
                return order
            image, label = next(batches)
            epoch = self.iteration // recipe.iterations_per_epoch
            self.losses.append(self.step(image, label, epoch))
            self.iteration += 1
            self._report(total)
            if self.iteration % recipe.iterations_per_epoch == 0:
                row = self._finish_epoch(epoch, time.monotonic() - started)
                started = time.monotonic()
                pace = (started - began[0]) / (self.iteration - began[1])
                left_s = round(pace * (total - self.iteration), 1)
                self.reporter.metric("epoch", **row, left_s=left_s)
        return "finished"

    def step(self, image: Tensor, label: Tensor, epoch: int) -> float:
        """One optimiser step on a batch; returns the loss.

        Where the loss or a gradient is not finite the step is left out: weights and momentum stay,
        and the loss that is returned is no number. (In mixed precision the gradient scaler does so
        for the gradients.)

        Args:
            image: (B, C, D, H, W) float32.
            label: (B, D, H, W) whole numbers, as the objective reads them.
            epoch: counted from 0, sets the learning rate.

        Raises:
            BadInput: ten steps in a row were left out.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = self._lr(epoch)
            if self.recipe.optimizer == "adamw":
                group["lr"] *= warm_up(self.iteration, self.recipe.warmup)
        image = image.to(self.device, non_blocking=True)
        target = label.to(self.device, non_blocking=True).long()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, dtype=torch.float16, enabled=self.mixed):
            outputs = self.forward(image)
        loss = supervised_loss(
            [self.ranks.gathered(logits) for logits in outputs],
            self.ranks.gathered(target),
            self.weights,
            batch_dice=self.recipe.batch_dice,
            loss=self.objective.loss,
        )
        value = float(loss.detach())
        if math.isfinite(value) and self._descend(loss):
            self.left_out_in_a_row = 0
        else:
            value = math.nan
            self._leave_out()
        if self.evolution.step(self.optimizer) and self.ranks.size > 1:
            self.ranks.first_ones(self.connections.masks.values())
            self.connections.apply(self.optimizer)
        return value

    def _descend(self, loss: Tensor) -> bool:
        """Change the weights; False leaves them, because a gradient is not finite."""
        self.scaler.scale(loss).backward()
        self.ranks.sum_gradients(self.network.parameters())
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip)
        if not self.mixed and not math.isfinite(float(norm)):
            return False
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return True

    def _leave_out(self) -> None:
        self.left_out += 1
        self.left_out_in_a_row += 1
        if self.left_out_in_a_row == 1:
            self.reporter.warning(
                "step-left-out",
                f"The loss or a gradient of iteration {self.iteration + 1} is not finite; the step "
                "is left out.",
            )
        if self.left_out_in_a_row < _PATIENCE:
            return
        # The same patches at the same rate would lead to the same end: `--resume` begins again at
        # the last checkpoint, but with neither.
        state = load_checkpoint(self.checkpoint)
        state.update(setbacks=self.setbacks + 1, left_out_in_a_row=0, optimizer={})
        if self.ranks.first:
            save_checkpoint(self.checkpoint, state)
        raise BadInput(
            f"The loss was not finite {_PATIENCE} times in a row, the last time at iteration "
            f"{self.iteration + 1}.",
            help=f"--resume goes on after iteration {state['iteration']} with half the learning "
            "rate and other patches. If it comes to this end again, look at the images for odd "
            "intensities, or train anew with a smaller --lr.",
            code="diverged",
        )

    def _lr(self, epoch: int) -> float:
        rate = poly_lr(self.recipe.lr, epoch, self.recipe.epochs)
        return rate * _SETBACK**self.setbacks

    def _patches(self) -> PatchSampler:
        """The training's patches: others after each setback."""
        return replace(self.training, seed=self.training.seed + (self.setbacks << 64))

    @torch.no_grad()
    def validate(self) -> dict[str, float | None]:
        """Dice per label over the voxels of all validation patches, as nnU-Net's online Dice.

        None for a label that occurs neither in the patches nor in their segmentation.
        """
        self.network.eval()
        counts = torch.zeros(len(self.labels), 3, dtype=torch.int64)
        for image, label in self._validation_batches:
            with torch.autocast(self.device.type, dtype=torch.float16, enabled=self.mixed):
                outputs = self.forward(image.to(self.device, non_blocking=True))
            target = label.to(self.device, non_blocking=True).long()
            counts += self.objective.counts(outputs[0], target).cpu()
        self.network.train()
        counts = self.ranks.summed(counts)
        dice: dict[str, float | None] = {}
        for name, (hit, wrong, missed) in zip(self.labels, counts.tolist(), strict=True):
            size = 2 * hit + wrong + missed
            dice[name] = 2 * hit / size if size else None
        return dice

    def save(self) -> None:
        """Write the checkpoint."""
        self._save(self.checkpoint)

    def _save(self, path: Path) -> None:
        if self.ranks.first:
            save_checkpoint(path, self.state_dict())

    def restore(self) -> None:
        """Take over the checkpoint of the folder.

        Raises:
            BadInput: there is none, it is damaged, or it belongs to another recipe or network.
        """
        self.load_state_dict(load_checkpoint(self.checkpoint))

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of the run depends on."""
        return {
            "iteration": self.iteration,
            "recipe": asdict(self.recipe),
            "network": dict(self.network.state_dict()),
            "masks": self.connections.state_dict(),
            "evolution": self.evolution.state_dict(),
            "optimizer": optimizer_state(self.optimizer, self.network),
            "scaler": self.scaler.state_dict() if self.mixed else {},
            "losses": self.losses,
            "left_out": self.left_out,
            "left_out_in_a_row": self.left_out_in_a_row,
            "setbacks": self.setbacks,
            "seconds": self._seconds,
            "rows": self.rows,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken. Raises BadInput for another recipe or network."""
        before = {**asdict(Recipe()), **state["recipe"]}  # a field may have been new
        if before["epochs"] < self.recipe.epochs:  # the run was extended
            before["epochs"] = self.recipe.epochs
        if before != asdict(self.recipe):
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
        self.evolution.total_iterations = self.recipe.total
        load_optimizer_state(self.optimizer, self.network, state["optimizer"], self.device)
        if self.mixed and state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        self.iteration = int(state["iteration"])
        self.losses = [float(v) for v in state["losses"]]
        self.left_out = int(state.get("left_out", 0))  # there was a time without these three
        self.left_out_in_a_row = int(state.get("left_out_in_a_row", 0))
        self.setbacks = int(state.get("setbacks", 0))
        self._seconds = float(state["seconds"])
        self.rows = list(state["rows"])

    def _finish_epoch(self, epoch: int, seconds: float) -> dict[str, Any]:
        dice = self.validate()
        known = [value for value in dice.values() if value is not None]
        losses = [loss for loss in self.losses if math.isfinite(loss)]
        row = {
            "epoch": epoch + 1,
            "iteration": self.iteration,
            "loss": math.fsum(losses) / len(losses) if losses else math.nan,
            "lr": self._lr(epoch),
            "dice": dice,
            "mean_dice": sum(known) / len(known) if known else None,
            "zeta": self.evolution.zeta,
            "live": self.connections.live,
            "left_out": self.left_out,
            "seconds": round(seconds, 2),
        }
        self.rows.append(row)
        self.losses, self.left_out, self._seconds = [], 0, 0.0
        if self.iteration == self.recipe.total:
            self.evolution.record()
        smoothed = smoothed_dice(self.rows)
        # Before the checkpoint: a run that is killed in between does this epoch again.
        if smoothed[-1] is not None and smoothed[-1] == max(v for v in smoothed if v is not None):
            self._save(self.folder / BEST)
        self.save()
        if self.ranks.first:
            self._draw()
        return row

    def _draw(self) -> None:
        """The learning curves, of which the picture is left out where epochs are short."""
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

    def _batches(
        self, sampler: PatchSampler, *, first: int, total: int, per_epoch: int
    ) -> PatchLoader:
        keys = BatchKeys(
            first=first,
            total=total,
            per_epoch=per_epoch,
            samples=self.ranks.share(range(sampler.batch_size)),
        )
        return patch_loader(sampler, keys, workers=self.workers, pin_memory=self.mixed)

    def _report(self, total: int) -> None:
        now = time.monotonic()
        if now - self._reported >= _REPORT_EVERY_S or self.iteration == total:
            self._reported = now
            self.reporter.progress("training", self.iteration, total)
