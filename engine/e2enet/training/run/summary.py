"""What a training will do, told before it begins, and what will go wrong with it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from e2enet.data.datasets.labels import Structures
from e2enet.data.planning.plan import Plan
from e2enet.data.preprocessing.store import PreprocessedCase
from e2enet.dsff import complexity
from e2enet.events import Reporter
from e2enet.inference.device import device_name
from e2enet.networks.lattice import Lattice
from e2enet.training.run.settings import Run

# Dense multiply-adds of a forward pass that a training step gets done in a second, a thread: a
# step of the full network (506 G) takes 8.6 s on two threads of an AMD EPYC.
_PACE = 30e9
_LONG_DAYS = 1.0


def summary(
    run: Run,
    plan: Plan,
    output: Path,
    *,
    sparsity: float,
    device: torch.device,
    memory_bytes: float,
    step_s: float | None = None,
) -> dict[str, Any]:
    """What a run will do, in the units of its names.

    Args:
        run, plan: of the training.
        output: the bundle that it will write.
        sparsity: of its network, 0 to 1.
        device: where it trains.
        memory_bytes: estimated need.
        step_s: measured seconds of a step, or None.
    """
    training, held_out = run.split()
    settings = run.settings
    found = {
        "dataset": run.dataset["name"],
        "training_cases": len(training),
        "held_out_cases": len(held_out),
        "labels": [name for name, value in run.dataset["labels"].items() if value],
        "channels": list(run.dataset["channels"]),
        "spacing_mm": list(plan.spacing),
        "patch": list(plan.patch),
        "batch_size": plan.batch_size,
        "levels": plan.levels,
        "base_channels": run.network.get("base_channels"),
        "sparsity": round(sparsity, 3),
        "epochs": settings.epochs,
        "iterations_per_epoch": settings.iterations_per_epoch,
        "evolve_every": run.period,
        "device": device_name(str(device)),
        "memory_gb": round(memory_bytes / 2**30, 1),
        "output": str(output),
    }
    if step_s is not None:
        # A fifth as many batches validate, at the cost of a forward pass, a third of a step's.
        found["step_s"] = round(step_s, 3)
        found["training_s"] = round(run.total * step_s * (1 + 1 / 15))
    return found


def warn_of_missing_labels(
    structures: Structures, cases: Iterable[PreprocessedCase], reporter: Reporter
) -> None:
    """Warn of structures that no training case has: the network cannot learn them."""
    present = {
        name
        for case in cases
        for name, values in structures.judged(case.name).items()
        if not case.foreground.keys().isdisjoint(values)
    }
    if missing := [name for name in structures.values if name not in present]:
        reporter.warning(
            "label-without-cases",
            f"No training case has {', '.join(missing)}: the model will not find "
            f"{'it' if len(missing) == 1 else 'them'}.",
        )


def warn_of_days(
    run: Run,
    plan: Plan,
    device: torch.device,
    reporter: Reporter,
    *,
    done: int = 0,
    step_s: float | None = None,
) -> None:
    """Warn of a training that would take a CPU more than a day.

    Args:
        run, plan, device: of the training.
        reporter: gets the warning "long-training".
        done: iterations that are behind.
        step_s: measured seconds of a step; estimated without.
    """
    if device.type != "cpu" or "base_channels" not in run.network:
        return
    if step_s is None:
        network = run.network
        lattice = Lattice(
            network["in_channels"],
            network["num_classes"],
            network["strides"],
            base_channels=network["base_channels"],
        )
        adds = complexity(lattice, plan.patch).total.multiply_adds * plan.batch_size
        step_s = adds / (_PACE * torch.get_num_threads())
    days = (run.total - done) * step_s / 86400
    if days > _LONG_DAYS:
        reporter.warning(
            "long-training",
            f"{run.total - done} iterations will take this CPU about {math.ceil(days)} days. "
            "Fewer --epochs, a smaller --base-channels or --patch, or a GPU would shorten that; "
            "--dry-run measures it.",
        )
