"""A run's trainer: network, connections, evolution, patches and recipe as the run chose them."""

from __future__ import annotations

from typing import Any

from torch import nn

from e2enet.bundle import Bundle
from e2enet.data.datasets.targets import Targets
from e2enet.data.patches.augmentation import Augmentation
from e2enet.data.patches.sampling import VALIDATION, PatchSampler
from e2enet.data.patches.synthesis import Synthesis
from e2enet.data.planning.plan import Plan
from e2enet.data.preprocessing.store import PreprocessedDataset
from e2enet.dsff import Connections, Evolution
from e2enet.events import Reporter
from e2enet.training.finetune import transfer
from e2enet.training.loop.objective import Objective
from e2enet.training.loop.ranks import Ranks
from e2enet.training.loop.recipe import Recipe
from e2enet.training.loop.trainer import CHECKPOINT, Trainer
from e2enet.training.run.labels import match_labels
from e2enet.training.run.memory import patch_workers
from e2enet.training.run.networks import initial_network
from e2enet.training.run.preparation import TrainingInputs
from e2enet.training.run.settings import Run

ZETA, FINE_TUNING_ZETA = 0.5, 0.1


def make_trainer(
    run: Run,
    cases: PreprocessedDataset,
    plan: Plan,
    inputs: TrainingInputs,
    reporter: Reporter,
    ranks: Ranks | None = None,
) -> Trainer:
    """The trainer of a run, at its checkpoint if it has one.

    Args:
        run: what was chosen, and the folder of the state.
        cases: the preprocessed dataset.
        plan: patch, batch size and augmentation.
        inputs: dataset, source of a fine-tuning, device, workers.
        reporter: what the trainer reports to.
        ranks: the processes that train together; this one alone by default.

    Raises:
        BadInput: the checkpoint cannot be read or belongs to other settings.
    """
    settings = run.settings
    resume = (run.folder / CHECKPOINT).exists()
    training, held_out = run.split()
    network, connections = _network(run, None if resume else inputs.source, resume, reporter)
    recipe = Recipe(
        epochs=settings.epochs,
        iterations_per_epoch=settings.iterations_per_epoch,
        validation_iterations=max(1, settings.iterations_per_epoch // 5),
        lr=settings.lr,
        optimizer=settings.optimizer,
        batch_dice=settings.batch_dice,
    )
    evolution = Evolution(
        connections,
        total_iterations=recipe.total,
        period=run.period,
        zeta_start=FINE_TUNING_ZETA if run.source else ZETA,
        seed=settings.seed,
    )
    if not held_out:
        reporter.warning(
            "no-held-out-cases",
            "Every case trains, so the Dice shown is that of training cases without augmentation.",
        )

    def sampler(names: tuple[str, ...], **more: Any) -> PatchSampler:
        return PatchSampler(
            cases=tuple(cases[name] for name in names),
            patch=plan.patch,
            batch_size=plan.batch_size,
            seed=settings.seed,
            **more,
        )

    tissues, targets = inputs.info.tissues, Targets.of(inputs.info)
    synthesis = Synthesis(plan, tissues) if tissues else None
    trainer = Trainer(
        network=network,
        connections=connections,
        evolution=evolution,
        training=sampler(training, augment=synthesis or Augmentation(plan, targets)),
        validation=sampler(held_out or training, stream=VALIDATION, augment=synthesis),
        recipe=recipe,
        labels=list(inputs.info.structures.values),
        folder=run.folder,
        device=inputs.device,
        workers=patch_workers(inputs.workers, inputs.device),
        reporter=reporter,
        objective=Objective(targets),
        ranks=ranks,
    )
    if resume:
        trainer.restore()
    return trainer


def _network(
    run: Run, source: Bundle | None, resume: bool, reporter: Reporter
) -> tuple[nn.Module, Connections]:
    seed = run.settings.seed
    pretrained = not resume and source is None
    network = initial_network(
        run.kind, run.network, run.settings, pretrained=pretrained, reporter=reporter
    )
    if source is None:  # a new model, or one whose checkpoint replaces these masks
        settings = run.settings
        return network, Connections.random(
            network,  # type: ignore[arg-type]
            settings.sparsity,
            level0_density=settings.level0_density,
            seed=seed,
        )
    trained, connections = source.load_network()
    match = match_labels(
        run.dataset["labels"],
        run.metadata.get("labels", []),
        source.labels,
        regions=bool(run.dataset.get("regions")),
    )
    moved = transfer(trained, connections, network, classes=match.classes, seed=seed)
    if moved.reinitialised:
        reporter.warning(
            "re-initialised",
            f"{len(moved.kept)} tensors of {source.name} were taken over; these do not fit and "
            f"start anew: {', '.join(moved.reinitialised)}.",
        )
    return network, moved.connections
