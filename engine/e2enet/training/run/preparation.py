"""What a call of `train` asks for, and the run that answers it: a new one, or one to resume."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from e2enet.bundle import Bundle
from e2enet.data.datasets.raw import Dataset
from e2enet.data.datasets.splits import split
from e2enet.data.planning.plan import Plan
from e2enet.data.preprocessing.store import PreprocessedDataset
from e2enet.events import BadInput, Reporter
from e2enet.files import output_errors
from e2enet.locks import locked
from e2enet.training.loop.ranks import Ranks
from e2enet.training.loop.trainer import CHECKPOINT
from e2enet.training.product.metadata import inherited, volumes_ml, with_files_kept, with_locator
from e2enet.training.run.labels import match_labels
from e2enet.training.run.memory import check_memory, patch_workers
from e2enet.training.run.networks import initial_network, kind_of, network_arguments
from e2enet.training.run.planning import changed, planned, tuned
from e2enet.training.run.settings import PLAN, RUN, Run, Settings, is_product, option
from e2enet.training.run.summary import warn_of_missing_labels

# A model that a training starts from keeps its own.
OF_A_NETWORK = (
    "sparsity", "level0_density", "base_channels", "shift_groups", "network", "encoder",
    "encoder_weights", "expansion", "input_slices",
)  # fmt: skip


@dataclass(frozen=True)
class TrainingInputs:
    """What a call of `train` asks for, with its files read.

    Args:
        output: the bundle to write, an absolute path.
        info: the dataset.
        source: the bundle to fine-tune, or None.
        plan: a plan's file, or None.
        metadata: of `load_metadata`.
        given: the settings that were given; None means not given.
        device: where to train.
        memory_gb: GiB that the training may use; None is what is free.
        workers, reporter: for planning and preprocessing.
        tensorboard: whether the figures also go there.
    """

    output: Path
    info: Dataset
    source: Bundle | None
    plan: str | os.PathLike[str] | None
    metadata: dict[str, Any]
    given: dict[str, Any]
    device: torch.device
    memory_gb: float | None
    workers: int | None
    reporter: Reporter
    tensorboard: bool = False

    @property
    def folder(self) -> Path:
        """Where the run keeps its state."""
        return self.output.with_name(self.output.name + ".run")

    @property
    def dataset(self) -> dict[str, Any]:
        """What a resumed run has to find again."""
        return {
            "name": self.info.name,
            "labels": dict(self.info.labels),
            "channels": list(self.info.channel_names),
            "cases": list(self.info.case_names),
            "regions": {name: list(values) for name, values in self.info.regions.items()} or None,
            "missing": {case: list(lacks) for case, lacks in self.info.missing.items()} or None,
        }

    @property
    def origin(self) -> dict[str, str] | None:
        """Which bundle this is fine-tuned from."""
        if self.source is None:
            return None
        return {"name": self.source.name, "weights_sha256": self.source.weights_sha256()}

    def started(
        self, lock: ExitStack, ranks: Ranks | None = None
    ) -> tuple[Run, Plan, PreprocessedDataset]:
        """Plan a new run and make its folder, once everything is known to be usable.

        Args:
            lock: gets the folder's lock, as soon as there is a folder.
            ranks: the processes that will train together; this one alone by default.

        Raises:
            BadInput: something cannot be used; nothing has been written but the cache.
        """
        settings = Settings.of(self.given)
        if self.source:
            _refuse_what_is_kept(self.given, self.source)
        kind = kind_of(settings, self.source)
        training, held_out = split(self.info, settings.fold)
        more: dict[str, Any] = {
            "plan": self.plan,
            "workers": self.workers,
            "reporter": self.reporter,
        }
        if self.source:
            use = tuned(self.info, settings, source=self.source, **more)
        else:
            device, memory_gb = self.device, self.memory_gb
            use = planned(self.info, settings, device=device, memory_gb=memory_gb, **more)
        network = network_arguments(kind, self.info, use, settings, self.source)
        # Whatever is wrong with the encoder or its weights is said before hours of preparation.
        module = initial_network(kind, network, settings, pretrained=self.source is None)
        (ranks or Ranks()).check(module, use.batch_size)
        self._check_memory(use, network, len(training), changeable=True)
        cases = self.preprocessed(use)
        if not any(cases[name].foreground for name in training):
            raise BadInput(
                f"The training cases of {self.info.name} hold no foreground: every label map is "
                "empty.",
                help="Check the label maps in labelsTr.",
                code="no-foreground",
            )
        warn_of_missing_labels(
            self.info.structures, [cases[name] for name in training], self.reporter
        )
        metadata, regions = self.metadata, bool(self.info.regions)
        if self.source:
            match = match_labels(
                self.info.labels, metadata.get("labels", []), self.source.labels, regions=regions
            )
            self.reporter.warning("labels-matched", match.sentence(self.source.name))
            metadata = inherited(metadata, self.source, match, self.info.labels, self.reporter)
            metadata = with_locator(metadata, self.source, match.new, self.reporter)
        _make(self.folder)
        lock.enter_context(locked(self.folder))
        if (self.folder / RUN).exists():  # another process was faster
            raise started_before(self.folder)
        use.save(self.folder / PLAN)
        run = Run.start(
            self.folder,
            settings,
            kind=kind,
            network=network,
            dataset={
                **self.dataset,
                "split": {"train": list(training), "val": list(held_out)},
                "volumes_ml": volumes_ml(
                    [cases[name] for name in training], use, self.info.structures
                ),
            },
            source=self.origin,
            metadata=with_files_kept(metadata, self.folder),
        )
        return run, use, cases

    def resumed(self) -> tuple[Run, Plan]:
        """The run in the folder, unless something was asked for that differs.

        Raises:
            BadInput: naming what differs, or a file of the run that is damaged.
        """
        run = Run.load(self.folder)
        longer = self.given.get("epochs") or 0
        given = dict(self.given)
        if longer > run.settings.epochs:
            del given["epochs"]
        run.check(given, dataset=self.dataset, source=self.origin)
        if split(self.info, run.settings.fold) != run.split():
            raise BadInput(
                f"The dataset holds out other cases than when the run in {self.folder} was "
                "started.",
                help="Restore its splits_final.json, or start anew with another --output.",
                code="other-settings",
            )
        if run.source and not self.source and not (self.folder / CHECKPOINT).exists():
            raise BadInput(
                f"The run in {self.folder} has not begun yet and needs the bundle it starts from.",
                help=f"Give --from {run.source['name']} again.",
                code="needs-from",
            )
        use = Plan.load(self.folder / PLAN)
        if self.plan is not None and changed(Plan.load(self.plan), run.settings) != use:
            raise BadInput(
                f"--plan {self.plan} differs from the plan that the run in {self.folder} was "
                "started with.",
                help="Resume without --plan, or start anew with another --output.",
                code="other-settings",
            )
        self._check_memory(use, run.network, len(run.split()[0]), changeable=False)
        if longer > run.settings.epochs:
            run = self._extended(run, longer)
        return run, use

    def _extended(self, run: Run, epochs: int) -> Run:
        """The run with more epochs; the bundle of its first end, if there is one, makes room."""
        if is_product(self.output, run):
            before = self.output.with_name(f"{self.output.name}-{run.settings.epochs}-epochs")
            refuse_existing(before)
            with output_errors(before):
                self.output.rename(before)
            self.reporter.warning("kept-bundle", f"The model so far is kept as {before}.")
        return run.extended(epochs)

    def _check_memory(
        self, plan: Plan, network: dict[str, Any], cases: int, *, changeable: bool
    ) -> None:
        if "base_channels" not in network:
            return  # a guess must not refuse anything
        check_memory(
            plan,
            network,
            device=self.device,
            workers=patch_workers(self.workers, self.device),
            cases=cases,
            memory_gb=self.memory_gb,
            changeable=changeable,
            width=self.source is None,
        )

    def preprocessed(self, plan: Plan) -> PreprocessedDataset:
        """The cases as the plan wants them; those that are in the cache are only looked at."""
        from e2enet.data.preprocessing.cases import case_folder, preprocess_dataset

        folder = case_folder(self.info, plan)
        return preprocess_dataset(
            self.info, plan, folder, workers=self.workers, reporter=self.reporter
        )


def started_before(folder: Path) -> BadInput:
    """The answer to a second start."""
    return BadInput(
        f"{folder} holds a training that was started before.",
        help="Go on with it with --resume, or choose another --output.",
        code="run-exists",
    )


def _refuse_what_is_kept(given: dict[str, Any], source: Bundle) -> None:
    for name in OF_A_NETWORK:
        if given.get(name) is not None:
            raise BadInput(
                f"{option(name)} cannot be chosen with --from: {source.name} keeps its own.",
                help=f"Leave {option(name)} out, or train without --from.",
                code="bad-setting",
            )


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(
            f"{folder} cannot be made: {error.strerror or error}.",
            help="Choose an --output in a folder that you may write to.",
            code="output-not-writable",
        ) from error


def refuse_existing(output: Path) -> None:
    """Raise BadInput if there is anything at `output`."""
    if output.exists():
        raise BadInput(
            f"{output} already exists and is not overwritten.",
            help="Choose another --output.",
            code="exists",
        )
