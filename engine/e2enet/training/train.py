"""From a dataset to a bundle: the work behind `e2enet train`.

A run keeps its state in `OUTPUT.run` beside the bundle: `run.json` (what was chosen), `plan.json`,
`checkpoint.safetensors`, `metrics.csv`, `curves.png`. Writing "pause" into `OUTPUT.run/control`
ends the process at the next iteration with everything saved; `resume=True` goes on.
"""

from __future__ import annotations

import importlib.util
import os
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from e2enet.bundle import Bundle
from e2enet.data.axes import times
from e2enet.data.datasets.raw import read_dataset
from e2enet.data.planning.plan import Plan
from e2enet.data.preprocessing.store import PreprocessedDataset
from e2enet.events import BadInput, Cancelled, Reporter
from e2enet.inference.device import choose_device, is_out_of_memory
from e2enet.locks import locked, used
from e2enet.training.assembly import make_trainer
from e2enet.training.loop.orders import CONTROL, saved_first
from e2enet.training.loop.pace import step_seconds
from e2enet.training.loop.ranks import Ranks, joined, own_device
from e2enet.training.loop.trainer import Trainer
from e2enet.training.loop.validation import mean_dice, validate_cases
from e2enet.training.product.export import Snapshot, export_bundle
from e2enet.training.product.metadata import load_metadata, merged
from e2enet.training.run.log import LOG, Logged
from e2enet.training.run.memory import needed_bytes, patch_workers
from e2enet.training.run.preparation import TrainingInputs, refuse_existing, started_before
from e2enet.training.run.presets import Preset, with_preset
from e2enet.training.run.settings import PLAN, RUN, Run, is_product
from e2enet.training.run.summary import summary, warn_of_days
from e2enet.training.run.tensorboard import FOLDER, TensorBoard, check_tensorboard


@dataclass(frozen=True)
class Trained:
    """How a call of `train` ended.

    Args:
        state: "finished", "paused", "stopped", "dry-run", or "followed" (a rank but the first).
        run: the run's folder.
        bundle: the model, once finished.
        dice: per label: mean over the held-out cases, or the online Dice of the last epoch where
            there are none or training has not finished.
    """

    state: str
    run: Path
    bundle: Path | None
    dice: dict[str, float | None]


def train(
    dataset: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    base: str | os.PathLike[str] | None = None,
    plan: str | os.PathLike[str] | None = None,
    metadata: str | os.PathLike[str] | None = None,
    resume: bool = False,
    dry_run: bool = False,
    device: str = "auto",
    workers: int | None = None,
    preset: Preset | None = None,
    memory_gb: float | None = None,
    tensorboard: bool = False,
    reporter: Reporter | None = None,
    **given: Any,
) -> Trained:
    """Train a model, or go on with a run that was paused or killed.

    Args:
        dataset: folder in nnU-Net's raw layout.
        output: the bundle to write; must not exist.
        base: name or path of a bundle to fine-tune. Its masks, S and plan are kept, the
            normalisation too: its first layer has learned the scale of those intensities.
        plan: JSON file to use instead of planning.
        metadata: JSON file with what model.json should say about licence, colours, codes …
        resume: go on in OUTPUT.run. Settings that are not given are as they were; only a larger
            number of epochs may be given, which extends the run, finished or not (its bundle is
            kept under another name): the learning rate goes on as in a run of that length.
        dry_run: tell what would be done and measure a few steps; only the cache is written.
        device: auto, cpu, cuda, cuda:N or mps.
        workers: processes for reading and for patches; no effect on the result.
        preset: values of the settings that are not given.
        memory_gb: GiB that the training may use: patch and batch are planned for it, and one that
            needs more is refused. None is what is free; then at most 12 are planned for.
        tensorboard: also write the figures of every epoch to OUTPUT.run/tensorboard.
        reporter: gets progress ("fingerprint", "preprocessing", "training"), the metrics "summary"
            and "epoch", and the result. All but progress is kept in OUTPUT.run/log.txt.
        given: the settings of `Settings` by name; None means not given.

    Raises:
        BadInput: something given cannot be used; nothing that was there is overwritten.
        Cancelled: SIGINT or SIGTERM came while the network trained; the run was saved first.
    """
    reporter = reporter or Reporter()
    _check_extra()
    if tensorboard:
        check_tensorboard()
    if base is not None and preset is not None:
        raise BadInput(
            "--preset cannot be chosen with --from, which keeps the network of its model.",
            help="Leave --preset out, or train without --from.",
            code="bad-setting",
        )
    chosen = torch.device(choose_device(own_device(device)))
    inputs = TrainingInputs(
        output=Path(os.path.abspath(output)),
        info=read_dataset(dataset),
        source=Bundle.open(base) if base is not None else None,
        plan=plan,
        metadata=load_metadata(metadata) if metadata is not None else {},
        given=with_preset(given, preset),
        device=chosen,
        memory_gb=memory_gb,
        workers=workers,
        tensorboard=tensorboard,
        reporter=reporter,
    )
    with ExitStack() as lock:
        if dry_run:
            return _rehearsed(inputs, lock, resume=resume)
        ranks = lock.enter_context(joined(chosen))
        if not ranks.first:
            return _followed(replace(inputs, reporter=Reporter()), ranks)
        return _carried_out(inputs, lock, ranks, resume=resume)


def _check_extra() -> None:
    """Raise BadInput without the extra for training, before anything is written."""
    try:
        found = importlib.util.find_spec("monai") is not None
    except ValueError:  # something stands in its place
        found = False
    if not found:
        raise BadInput(
            "Training needs MONAI, which is not installed.",
            help="Install it with: pip install 'e2enet[train]'.",
            code="missing-extra",
        )


def _rehearsed(inputs: TrainingInputs, lock: ExitStack, *, resume: bool) -> Trained:
    """Start the run in a folder that goes away, and measure instead of training."""
    if resume:
        raise BadInput(
            "--dry-run shows what a new training would do; --resume goes on with one.",
            help="Leave one of them out.",
            code="bad-setting",
        )
    if (inputs.folder / RUN).exists():
        raise started_before(inputs.folder)
    refuse_existing(inputs.output)
    folder = lock.enter_context(TemporaryDirectory())
    with ExitStack() as inner:  # the lock's file is closed before its folder goes
        trial = replace(inputs, output=Path(folder) / inputs.output.name)
        run, use, cases = trial.started(inner)
        trainer = make_trainer(run, cases, use, inputs, inputs.reporter)
        step_s = step_seconds(trainer)
        told = _summary(run, use, inputs, trainer, step_s=step_s)
        inputs.reporter.metric("summary", **told)
        warn_of_days(run, use, inputs.device, inputs.reporter, step_s=step_s)
    inputs.reporter.result(state="dry-run", summary=told)
    return Trained("dry-run", inputs.folder, None, {})


def _followed(inputs: TrainingInputs, ranks: Ranks) -> Trained:
    """Train along in a run that the first rank has prepared; it alone writes and measures."""
    ranks.meet()
    run, plan = Run.load(inputs.folder), Plan.load(inputs.folder / PLAN)
    trainer = make_trainer(run, inputs.preprocessed(plan), plan, inputs, inputs.reporter, ranks)
    with saved_first(trainer.orders, trainer.rows):
        state = trainer.run()
    if state == "interrupted":
        raise Cancelled
    return Trained("followed", run.folder, None, {})


def _carried_out(inputs: TrainingInputs, lock: ExitStack, ranks: Ranks, *, resume: bool) -> Trained:
    """Start or resume the run, and bring it to its end; `lock` gets the run's lock."""
    if (inputs.folder / RUN).exists():
        if not resume:
            raise started_before(inputs.folder)
        lock.enter_context(locked(inputs.folder))
        run, use = inputs.resumed()
        if (dice := _finished(inputs.output, run)) is not None:
            return _tell(Trained("finished", run.folder, inputs.output, dice), inputs.reporter)
        refuse_existing(inputs.output)
        cases = inputs.preprocessed(use)
    else:
        if resume:
            raise BadInput(
                f"There is no training to resume in {inputs.folder}.",
                help="Leave --resume out to start one.",
                code="no-run",
            )
        refuse_existing(inputs.output)
        run, use, cases = inputs.started(lock, ranks)
    lock.enter_context(used(cases.folder))
    (run.folder / CONTROL).unlink(missing_ok=True)  # an order to the process before this one
    reporter: Reporter
    reporter = log = Logged(inputs.reporter, run.folder / LOG)
    if inputs.tensorboard:
        reporter = TensorBoard(log, run.folder / FOLDER)
    try:
        return _trained(run, use, cases, inputs, reporter, ranks)
    except (BadInput, Cancelled) as error:
        log.error("ended", error.message, error.help)
        raise
    finally:
        if reporter is not log:
            reporter.close()


def _trained(
    run: Run,
    plan: Plan,
    cases: PreprocessedDataset,
    inputs: TrainingInputs,
    reporter: Reporter,
    ranks: Ranks,
) -> Trained:
    trainer = make_trainer(run, cases, plan, inputs, reporter, ranks)
    trainer.begin()
    ranks.meet()  # the others start from this checkpoint
    told = _summary(run, plan, inputs, trainer)
    reporter.metric("summary", **told)
    warn_of_days(run, plan, inputs.device, reporter, done=trainer.iteration)
    try:
        with saved_first(trainer.orders, trainer.rows):
            state = trainer.run()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise BadInput(
            f"{told['device']} ran out of memory after iteration {trainer.iteration}, with patches "
            f"of {times(plan.patch)} in batches of {plan.batch_size}.",
            help="Close other programs and go on with --resume, or start anew with --memory-gb "
            f"{0.75 * told['memory_gb']:.1f}, for which a smaller patch or batch is planned.",
            code="out-of-memory",
        ) from error
    if state == "interrupted":
        raise Cancelled(
            f"Stopped after iteration {trainer.iteration} of {trainer.recipe.total}; everything is "
            f"saved in {run.folder}.",
            help="Go on with the same command and --resume.",
        )
    dice = trainer.rows[-1]["dice"] if trainer.rows else {}
    if state != "finished":
        return _tell(Trained(state, run.folder, None, dice), reporter)
    scores = validate_cases(
        trainer.network,
        () if inputs.info.tissues else run.split()[1],  # without images there is nothing to see
        dataset=inputs.info,
        plan=plan,
        device=inputs.device,
        reporter=reporter,
    )
    export_bundle(
        inputs.output,
        run=run,
        state=Snapshot.of(trainer),
        plan=plan,
        metadata=merged(run.metadata, inputs.metadata),
        scores=scores,
    )
    done = Trained("finished", run.folder, inputs.output, mean_dice(scores) or dice)
    return _tell(done, reporter)


def _summary(
    run: Run, plan: Plan, inputs: TrainingInputs, trainer: Trainer, *, step_s: float | None = None
) -> dict[str, Any]:
    memory = needed_bytes(
        plan,
        run.network,
        mixed=inputs.device.type == "cuda",
        workers=patch_workers(inputs.workers, inputs.device),
        cases=len(run.split()[0]),
    )
    return summary(
        run,
        plan,
        inputs.output,
        sparsity=1 - trainer.connections.density,
        device=inputs.device,
        memory_bytes=memory,
        step_s=step_s,
    )


def _tell(done: Trained, reporter: Reporter) -> Trained:
    if done.bundle:
        reporter.result(
            state=done.state, bundle=str(done.bundle), run=str(done.run), dice=done.dice
        )
    else:
        reporter.result(state=done.state, run=str(done.run))
    return done


def _finished(output: Path, run: Run) -> dict[str, float | None] | None:
    """The Dice in the bundle at `output` if it is the product of this run."""
    if not is_product(output, run):
        return None
    metrics = Bundle.open(output).model["provenance"].get("metrics") or {}
    return metrics.get("dice") or {}
