"""One setting varied, everything else kept: sparsity, width, depth, shift groups, starting point.

The paper (arXiv 2312.04727) has each as a table. A value is a run like any other, so the sweep can
be interrupted and goes on.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Literal

from e2enet.bundle import Bundle
from e2enet.data.planning.plan import Plan
from e2enet.dsff import complexity
from e2enet.evaluation.pt_score import pt_scores
from e2enet.events import BadInput, Reporter
from e2enet.files import output_errors, write_atomic
from e2enet.training.analyses.figures import draw_sweep
from e2enet.training.analyses.point import Point
from e2enet.training.run.networks import kind_of
from e2enet.training.run.planning import changed
from e2enet.training.run.preparation import OF_A_NETWORK
from e2enet.training.run.settings import Settings
from e2enet.training.train import train

Setting = Literal["sparsity", "base_channels", "levels", "shift_groups", "base", "method"]
# What the method stands on: without sparsity, with connections that stay, with DSFF.
METHODS: dict[str, dict[str, Any]] = {
    "dense": {"sparsity": 0.0},
    "static": {"evolve_every": 0},
    "dsff": {},
}


def sweep(
    dataset: str | os.PathLike[str],
    output: str | os.PathLike[str],
    setting: Setting,
    values: Sequence[Any],
    *,
    seeds: Sequence[int] = (0,),
    reporter: Reporter | None = None,
    **options: Any,
) -> list[Point] | None:
    """Train a model for each value and seed; write sweep.csv and sweep.png.

    Args:
        dataset: folder in nnU-Net's raw layout.
        output: folder; made, and gone on with if it is there.
        setting: what is varied; "base" is the model to start from, None for none; "method" one of
            `METHODS`.
        values: at least two, each once.
        seeds: of each value, each once.
        reporter: gets progress as stages "sweep" and those of training.
        options: of `train`, the same for all; what belongs to a network is for those from scratch,
            a model to start from keeps its own.

    Returns:
        One point a value and seed, or None where a run was paused.

    Raises:
        BadInput: fewer than two values, one or a seed twice, no case held out, or as `train`; what
            can be known of a value is said before any of them is trained.
    """
    reporter = reporter or Reporter()
    texts = ["scratch" if value is None else Path(str(value)).name for value in values]
    if len(texts) < 2 or len(set(texts)) < len(texts):
        raise BadInput(
            f"A sweep needs two different values or more, not {', '.join(texts) or 'none'}.",
            code="bad-setting",
        )
    if len(set(seeds)) < len(seeds):
        raise BadInput(
            f"A sweep needs different seeds, not {', '.join(map(str, seeds))}.", code="bad-setting"
        )
    if options.get("fold") == "all":
        raise BadInput(
            "A sweep compares Dice on held-out cases, and --fold all holds none out.",
            help="Choose a fold by its number.",
            code="bad-setting",
        )
    if setting == "method" and (unknown := sorted(set(texts) - set(METHODS))):
        raise BadInput(
            f"There is no method {unknown[0]}; there are {', '.join(METHODS)}.", code="bad-setting"
        )
    folder = Path(output)
    bundles: list[tuple[str, int, Path]] = []
    wanted = [
        (value, text, seed) for value, text in zip(values, texts, strict=True) for seed in seeds
    ]
    for value, _, seed in wanted:
        _check({**options, "seed": seed, **_changed(setting, value)})
    for number, (value, text, seed) in enumerate(wanted):
        reporter.progress("sweep", number, len(wanted))
        bundle = folder / f"{setting}-{text}-seed{seed}"
        done = train(
            dataset,
            bundle,
            resume=bundle.with_name(f"{bundle.name}.run").is_dir(),
            reporter=reporter,
            **{**options, "seed": seed, **_changed(setting, value)},
        )
        if done.state != "finished":
            return None
        bundles.append((text, seed, bundle))
    reporter.progress("sweep", len(wanted), len(wanted))
    points = _points(bundles)
    table = io.StringIO()
    writer = csv.DictWriter(table, [setting, *list(asdict(points[0]))[1:]])
    writer.writeheader()
    for point in points:
        row = asdict(point)
        writer.writerow({setting: row.pop("value"), **row})
    with output_errors(folder):
        write_atomic(folder / "sweep.csv", table.getvalue())
        draw_sweep(folder / "sweep.png", setting, points)
    reporter.result(sweep=setting, points=[asdict(point) for point in points])
    return points


def _changed(setting: Setting, value: Any) -> dict[str, Any]:
    if setting == "method":
        return METHODS[value]
    if setting == "base" and value is not None:
        return {**dict.fromkeys(OF_A_NETWORK), "base": value}  # those of `options` are for scratch
    return {setting: value}


def _check(wanted: dict[str, Any]) -> None:
    """Refuse what a training would refuse as soon as its turn comes."""
    known = {field.name for field in fields(Settings)}
    settings = Settings.of({name: value for name, value in wanted.items() if name in known})
    source = Bundle.open(wanted["base"]) if wanted.get("base") is not None else None
    kind_of(settings, source)
    if source is None and wanted.get("plan") is not None:
        changed(Plan.load(wanted["plan"]), settings)


def _points(bundles: Sequence[tuple[str, int, Path]]) -> list[Point]:
    dice, parameters, operations = [], [], []
    for _, _, path in bundles:
        bundle = Bundle.open(path)
        scores = bundle.model["provenance"]["metrics"]["dice"]
        known = [value for value in scores.values() if value is not None]
        live, adds = cost_of(bundle)
        dice.append(sum(known) / len(known) if known else 0.0)
        parameters.append(live)
        operations.append(adds)
    # Where nothing was learned there is no best Dice to compare with.
    scores = pt_scores(dice, parameters, operations) if max(dice) > 0 else [0.0] * len(dice)
    return [
        Point(value, seed, d, p, o, s)
        for (value, seed, _), d, p, o, s in zip(
            bundles, dice, parameters, operations, scores, strict=True
        )
    ]


def cost_of(bundle: Bundle) -> tuple[int, int]:
    """Live parameters of a model, and live multiply-adds of a forward pass of its patch."""
    stored = bundle.load_weights()
    size = tuple(bundle.plan["patch"])
    total = complexity(stored.lattice, size, stored.live_by_layer).total  # type: ignore[arg-type]
    return total.live_parameters, total.live_multiply_adds
