"""A folder that nnU-Net trained an E2ENet in, of version 2 or of the released code, as a bundle."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from e2enet.bundle import Bundle, write_bundle
from e2enet.data.planning.plan import Plan
from e2enet.events import BadInput, Reporter
from e2enet.extras import need_torch
from e2enet.interop.nnunet.checkpoints import read_checkpoint
from e2enet.interop.nnunet.pickles import read_plain_pickle
from e2enet.interop.nnunet.plans import plan_of_version_1, plan_of_version_2, read_json
from e2enet.training.product.export import PALETTE

if TYPE_CHECKING:
    from torch import nn

    from e2enet.dsff import Connections

TRAINER = "nnUNetTrainerE2ENet"
RELEASED_SHIFT_GROUPS = 5
_FINAL = ("checkpoint_final.pth", "checkpoint_latest.pth", "checkpoint_best.pth")
_RELEASED = ("model_final_checkpoint.model", "model_latest.model", "model_best.model")


@dataclass(frozen=True)
class _Trained:
    network: nn.Module
    connections: Connections
    plan: Plan
    labels: dict[str, int]
    dataset: str
    epochs: int
    history: list[dict[str, Any]]
    checkpoint: str


def import_folder(
    folder: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    fold: str = "0",
    shift_groups: int = RELEASED_SHIFT_GROUPS,
    reporter: Reporter | None = None,
) -> Bundle:
    """Make a bundle of a trained folder.

    Args:
        folder: `nnUNetTrainerE2ENet__PLANS__CONFIGURATION` of nnU-Net v2, or that of the released
            E2ENet with its plans.pkl; its folds lie inside.
        output: The bundle's folder.
        fold: A number, or "all".
        shift_groups: Of a released model, which no weight shows: 5 in the released code.
        reporter: Hears that nnU-Net takes voxels in the order of the file.

    Raises:
        BadInput: The folder is of another trainer or another nnU-Net, a file holds more than plain
            data, or the weights are not those of an E2ENet. Nothing has been written.
    """
    folder, target = Path(folder), Path(output)
    reporter = reporter or Reporter()
    if target.exists():
        raise BadInput(f"{target} already exists.", help="Choose another name.", code="exists")
    need_torch("Importing a model")
    if (folder / "plans.json").is_file():
        trained = _version_2(folder, fold)
    elif (folder / "plans.pkl").is_file():
        trained = _released(folder, fold, shift_groups)
    else:
        raise BadInput(
            f"{folder} holds neither plans.json nor plans.pkl.",
            help=f"Give the folder {TRAINER}__PLANS__CONFIGURATION that nnU-Net made.",
            code="not-nnunet",
        )
    reporter.warning(
        "order-of-the-file",
        "nnU-Net takes voxels in the order of the file, this project in LPS orientation: unless "
        "the training files were stored in LPS, left and right may be exchanged. Look at a result.",
    )
    from e2enet.training.product.card import model_card

    model = _model(trained, target.name)
    return write_bundle(
        target,
        network=trained.network,
        connections=trained.connections,
        model=model,
        history={"history": trained.history},
        readme=model_card(model, kind=type(trained.network).__name__),
    )


def _version_2(folder: Path, fold: str) -> _Trained:
    import torch

    from e2enet.dsff import Connections
    from e2enet.networks import E2ENet

    trainer, _, configuration = _parts(folder)
    if not trainer.startswith(TRAINER):
        raise BadInput(
            f"{folder.name} was trained by {trainer or 'another trainer'}, not by {TRAINER}.",
            help="Only E2ENets can be imported.",
            code="not-nnunet",
        )
    plans, dataset = read_json(folder / "plans.json"), read_json(folder / "dataset.json")
    labels = _labels(dataset)
    names = dataset.get("channel_names") or dataset.get("modality")
    if not isinstance(names, Mapping):
        raise BadInput(f"{folder / 'dataset.json'} names no channels.", code="not-nnunet")
    channels = [str(names[key]) for key in sorted(names, key=int)]
    plan = plan_of_version_2(plans, configuration, channels, f"plans.json of {folder.name}")
    path = _checkpoint(folder / f"fold_{fold}", _FINAL)
    checkpoint = read_checkpoint(path)
    if checkpoint.get("trainer_name") != trainer or "e2enet" not in checkpoint:
        raise BadInput(
            f"{path.name} was not written by {TRAINER}.",
            help="Only E2ENets can be imported.",
            code="not-nnunet",
        )
    mirrored = checkpoint.get("inference_allowed_mirroring_axes") or ()
    plan = replace(plan, mirror_axes=tuple(int(axis) for axis in mirrored))
    try:
        state = checkpoint["e2enet"]
        with torch.random.fork_rng(devices=[]):
            network = E2ENet(**state["arguments"])
        network.load_state_dict(checkpoint["network_weights"])
        connections = Connections(network, state["masks"])
        epochs = int(checkpoint["current_epoch"])
        history = list(state["evolution"]["history"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise _misfit(path, error) from error
    return _checked(
        _Trained(
            network, connections, plan, labels, str(plans.get("dataset_name") or folder.name),
            epochs, history, path.name,
        ),
        path,
    )  # fmt: skip


def _released(folder: Path, fold: str, shift_groups: int) -> _Trained:
    from e2enet.dsff import Connections
    from e2enet.interop.official import from_state_dict

    plans = read_plain_pickle(folder / "plans.pkl")
    if not isinstance(plans, Mapping):
        raise BadInput(
            f"{folder / 'plans.pkl'} holds no plans of nnU-Net.",
            help="Give the folder that the released code trained in.",
            code="not-nnunet",
        )
    stages = plans.get("plans_per_stage")
    last = max(stages) if isinstance(stages, Mapping) and stages else 0
    plan = plan_of_version_1(plans, last, f"plans.pkl of {folder.name}")
    path = _checkpoint(folder / (fold if fold == "all" else f"fold_{fold}"), _RELEASED)
    checkpoint = read_checkpoint(path)
    state = checkpoint.get("state_dict")
    if not isinstance(state, Mapping):
        raise BadInput(
            f"{path.name} holds no weights of the released code.",
            help="Give the folder that the released code trained in.",
            code="not-nnunet",
        )
    network = from_state_dict(state, plan.strides, shift_groups)
    numbers = [int(n) for n in plans.get("all_classes") or range(1, network.num_classes)]
    labels = {f"Label {number}": number for number in numbers}
    connections = Connections.from_weights(network)
    return _checked(
        _Trained(
            network, connections, plan, labels, folder.parent.name,
            int(checkpoint.get("epoch") or 0), [], path.name,
        ),
        path,
    )  # fmt: skip


def _parts(folder: Path) -> Sequence[str]:
    """Trainer, plans and configuration from the name that nnU-Net gives its folders."""
    parts = folder.resolve().name.split("__")
    if len(parts) != 3:
        raise BadInput(
            f"{folder.name} is no name that nnU-Net gives: TRAINER__PLANS__CONFIGURATION.",
            help="Give the folder itself, with the name it was trained under.",
            code="not-nnunet",
        )
    return parts


def _checkpoint(fold: Path, names: Sequence[str]) -> Path:
    for name in names:
        if (fold / name).is_file():
            return fold / name
    there = sorted(p.name for p in fold.parent.iterdir() if re.fullmatch(r"fold_.*|all", p.name))
    raise BadInput(
        f"{fold} holds no checkpoint of nnU-Net.",
        help=f"Choose another fold; there are {', '.join(there)}." if there else "",
        code="missing-file",
    )


def _labels(dataset: Mapping[str, Any]) -> dict[str, int]:
    labels = dataset.get("labels")
    if not isinstance(labels, Mapping) or not labels:
        raise BadInput("dataset.json names no labels.", code="not-nnunet")
    if any(isinstance(value, (list, tuple)) for value in labels.values()):
        raise BadInput(
            "dataset.json has regions for labels, which cannot be imported.",
            help="Train with labels that exclude each other.",
            code="not-nnunet",
        )
    known = {str(name): int(value) for name, value in labels.items()}
    return {name: value for name, value in known.items() if value and name != "ignore"}


def _checked(trained: _Trained, path: Path) -> _Trained:
    network: Any = trained.network
    classes, channels = len(trained.labels) + 1, len(trained.plan.channels)
    if network.num_classes != classes or network.in_channels != channels:
        raise BadInput(
            f"{path.name} has {network.num_classes} classes and {network.in_channels} channels, "
            f"its plans have {classes} and {channels}.",
            help="The folder's files are not of one training.",
            code="not-nnunet",
        )
    if tuple(network.strides) != tuple(trained.plan.strides):
        raise BadInput(
            f"{path.name} and its plans differ in their strides.",
            help="The folder's files are not of one training.",
            code="not-nnunet",
        )
    return trained


def _misfit(path: Path, error: BaseException) -> BadInput:
    text = str(error).strip().split("\n")[0].rstrip(".")
    return BadInput(
        f"{path.name} does not hold an E2ENet of this version: {text}.",
        help="Import it with the version that trained it.",
        code="not-nnunet",
    )


def _model(trained: _Trained, name: str) -> dict[str, Any]:
    labels = [
        {
            "value": value,
            "name": label,
            "color": list(PALETTE[(value - 1) % len(PALETTE)]),
            "terminology": {},
        }
        for label, value in sorted(trained.labels.items(), key=lambda item: item[1])
    ]
    return {
        "name": name,
        "title": name,
        "plan": trained.plan.to_dict(),
        "labels": labels,
        "channels": [{"name": channel.name} for channel in trained.plan.channels],
        "modality": "CT" if any(c.normalisation == "ct" for c in trained.plan.channels) else "",
        "anatomy": "",
        "locator": None,
        "licence": "",
        "citation": "",
        "provenance": {
            "command": f"imported from {trained.checkpoint} of nnU-Net",
            "data": {"dataset": trained.dataset, "cases": 0},
            "epochs": trained.epochs,
            "iterations": 0,
            "sparsity": round(1 - trained.connections.density, 4),
            "metrics": {"of": "not measured", "dice": {}},
        },
    }
