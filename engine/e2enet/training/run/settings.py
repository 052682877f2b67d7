"""What a person may choose about a training, and how a run remembers it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from e2enet.bundle import Bundle
from e2enet.bundle.description import drop_connection_group
from e2enet.events import BadInput
from e2enet.files import write_atomic
from e2enet.training.loop.schedules import LEARNING_RATES, OptimizerName
from e2enet.transfer.expansion import EXPANSIONS

RUN, PLAN = "run.json", "plan.json"


@dataclass(frozen=True)
class Settings:
    """Choices that decide the result of a training.

    Args:
        fold: "0" … "4", "all", or the number of a fold in the dataset's splits_final.json.
        sparsity: feature sparsity S; a fine-tuned model keeps its own.
        level0_density: live share of the fusion convolutions of level 0 (the released code: 0.2);
            None is 1 - S as everywhere.
        evolve_every: iterations between evolutions; 0 never, None the default of the method.
        epochs, iterations_per_epoch: length.
        optimizer: "sgd", the released recipe, or "adamw".
        lr: initial learning rate; that of the optimiser (`LEARNING_RATES`) unless it is given.
        batch_dice: the loss's Dice over all samples of a batch as one, instead of each by itself.
        base_channels: channels of level 0; None takes the plan's, or 48.
        levels: of the network, None plans them.
        shift_groups: depth-shift groups.
        batch_size, patch: None plans them.
        seed: of everything random.
        network: "e2enet", "omnia", "ds" or "dx".
        encoder: of a network that has one; with "e2enet" it takes the place of the backbone.
        encoder_weights: "imagenet", or a file.
        expansion: of 2D kernels in a 3D encoder, "inflate" or "centre".
        input_slices: of Omnia-Net: slices that it sees at once.
    """

    fold: str = "0"
    sparsity: float = 0.8
    level0_density: float | None = None
    evolve_every: int | None = None
    epochs: int = 1000
    iterations_per_epoch: int = 250
    optimizer: OptimizerName = "sgd"
    lr: float = LEARNING_RATES["sgd"]
    batch_dice: bool = False
    base_channels: int | None = None
    levels: int | None = None
    shift_groups: int = 3
    batch_size: int | None = None
    patch: tuple[int, int, int] | None = None
    seed: int = 0
    network: str = "e2enet"
    encoder: str | None = None
    encoder_weights: str | None = None
    expansion: str = "inflate"
    input_slices: int = 1

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Settings:
        """Defaults, changed by what is given (None means not given).

        Raises:
            BadInput: a value that cannot be, by the name of its option.
        """
        known = {field.name for field in fields(cls)}
        unknown = set(given) - known
        if unknown:
            raise TypeError(f"unknown settings: {', '.join(sorted(unknown))}")
        settings = cls(**{name: v for name, v in given.items() if v is not None})
        settings._check()
        if given.get("lr") is None:
            settings = replace(settings, lr=LEARNING_RATES[settings.optimizer])
        return settings

    def _check(self) -> None:
        for name in ("epochs", "iterations_per_epoch", "shift_groups"):
            self._demand(name, getattr(self, name) >= 1, "1 or more")
        self._demand("sparsity", 0 <= self.sparsity < 1, "at least 0 and below 1")
        self._demand("optimizer", self.optimizer in LEARNING_RATES, "sgd or adamw")
        self._demand("lr", 0 < self.lr < float("inf"), "more than 0")
        self._demand("seed", 0 <= self.seed < 2**63, "0 or more")
        if self.evolve_every is not None:
            self._demand("evolve_every", self.evolve_every >= 0, "0 (never) or more")
        if (density := self.level0_density) is not None:
            self._demand("level0_density", 0 < density <= 1, "above 0 and at most 1")
        for name in ("batch_size", "base_channels"):
            if getattr(self, name) is not None:
                self._demand(name, getattr(self, name) >= 1, "1 or more")
        if self.levels is not None:
            self._demand("levels", self.levels >= 2, "2 or more")
        self._demand("expansion", self.expansion in EXPANSIONS, " or ".join(EXPANSIONS))
        slices = self.input_slices
        self._demand("input_slices", slices > 0 and slices % 2 == 1, "an odd number")

    def _demand(self, name: str, holds: bool, wanted: str) -> None:
        if not holds:
            raise BadInput(
                f"{option(name)} is {getattr(self, name)}; it must be {wanted}.",
                code="bad-setting",
            )


@dataclass(frozen=True)
class Run:
    """A training under way, as `run.json` in its folder describes it.

    Args:
        folder: OUTPUT.run.
        run_id: tells the bundle of this very run from any other.
        settings: what was chosen.
        network: arguments of the network.
        dataset: what it trains on: name, labels, channels, cases, split.
        source: {"name", "weights_sha256"} of the bundle it was started from, or None.
        metadata: goes into model.json at the end.
        kind: of the network, its name in the registry.
    """

    folder: Path
    run_id: str
    settings: Settings
    network: dict[str, Any]
    dataset: dict[str, Any]
    source: dict[str, str] | None
    metadata: dict[str, Any]
    kind: str = "E2ENet"

    @classmethod
    def start(
        cls,
        folder: Path,
        settings: Settings,
        *,
        network: dict[str, Any],
        dataset: dict[str, Any],
        source: dict[str, str] | None,
        metadata: dict[str, Any],
        kind: str = "E2ENet",
    ) -> Run:
        """Make the folder's description. Raises BadInput when it cannot be written."""
        run = cls(folder, uuid.uuid4().hex, settings, network, dataset, source, metadata, kind)
        run._write()
        return run

    def extended(self, epochs: int) -> Run:
        """The same run with more epochs, in its folder too; its evolutions keep their period.

        Learning rate and zeta go on as in a run of that length (`poly_lr` of the new number of
        epochs): they rise once, at the epoch where the run goes on.

        Raises:
            BadInput: the folder cannot be written.
        """
        settings = replace(self.settings, epochs=epochs, evolve_every=self.period)
        run = replace(self, settings=settings)
        run._write()
        return run

    def _write(self) -> None:
        record = {
            "run_id": self.run_id,
            "settings": asdict(self.settings),
            "kind": self.kind,
            "network": self.network,
            "dataset": self.dataset,
            "source": self.source,
            "metadata": self.metadata,
        }
        try:
            write_atomic(self.folder / RUN, json.dumps(record, indent=2) + "\n")
        except OSError as error:
            raise BadInput(
                f"{self.folder} cannot be written: {error.strerror or error}.",
                code="output-not-writable",
            ) from error

    @classmethod
    def load(cls, folder: Path) -> Run:
        """Read the description. Raises BadInput for a damaged one."""
        try:
            record = json.loads((folder / RUN).read_text(encoding="utf-8"))
            chosen = dict(record["settings"])
            drop_connection_group(folder / RUN, chosen)
            if chosen["patch"] is not None:
                chosen["patch"] = tuple(chosen["patch"])
            return cls(
                folder,
                record["run_id"],
                Settings(**chosen),
                record["network"],
                record["dataset"],
                record["source"],
                record["metadata"],
                record.get("kind", "E2ENet"),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadInput(
                f"{folder / RUN} cannot be read: {error}.",
                help=f"Delete {folder} and start the training again.",
                code="damaged-run",
            ) from error

    @property
    def total(self) -> int:
        """Optimiser steps of the whole training."""
        return self.settings.epochs * self.settings.iterations_per_epoch

    @property
    def period(self) -> int:
        """Iterations between evolutions; 0 is never, as fine-tuning does unless it is asked to."""
        from e2enet.dsff import default_period

        if self.settings.evolve_every is not None:
            return self.settings.evolve_every
        return 0 if self.source else default_period(self.total)

    def split(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Training and held-out cases."""
        from e2enet.data.datasets.splits import five_folds

        if recorded := self.dataset.get("split"):
            return tuple(recorded["train"]), tuple(recorded["val"])
        return five_folds(self.dataset["cases"], self.settings.fold)

    def check(
        self,
        given: Mapping[str, Any],
        *,
        dataset: dict[str, Any],
        source: dict[str, str] | None,
    ) -> None:
        """Refuse to resume with anything that differs; what is not given is as it was.

        Raises:
            BadInput: naming the first setting that differs.
        """
        before = asdict(self.settings)
        for name, value in given.items():
            if value is not None and value != before[name]:
                raise BadInput(
                    f"{option(name)} is {_text(value)}, but the run in {self.folder} was started "
                    f"with {_text(before[name])}.",
                    help="Resume without this option, or start anew with another --output.",
                    code="other-settings",
                )
        if source is not None and source != self.source:
            raise BadInput(
                f"--from is {source['name']}, but the run in {self.folder} did not start from it.",
                help="Resume without this option, or start anew with another --output.",
                code="other-settings",
            )
        for name, value in dataset.items():
            if value != self.dataset.get(name):
                raise BadInput(
                    f"The dataset's {name} are not those that the run in {self.folder} was started "
                    "with.",
                    help="Restore the dataset, or start anew with another --output.",
                    code="other-settings",
                )


def is_product(output: Path, run: Run) -> bool:
    """Whether the bundle at `output` is what this run has come to at its end."""
    try:
        provenance = Bundle.open(output).model.get("provenance") or {}
    except BadInput:
        return False
    return provenance.get("run_id") == run.run_id and "unfinished" not in provenance


def option(name: str) -> str:
    """How a setting is written on the command line."""
    return "--" + name.replace("_", "-")


def _text(value: Any) -> str:
    if value is None:
        return "the planned value"
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
