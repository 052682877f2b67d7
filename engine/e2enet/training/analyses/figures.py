"""Figures of the analyses."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from e2enet.evaluation.report.figures import COLORS
from e2enet.files import write_atomic

if TYPE_CHECKING:
    from e2enet.training.analyses.point import Point

_NAMES = {
    "sparsity": "Feature sparsity S",
    "base_channels": "Channels at full resolution",
    "levels": "Levels",
    "shift_groups": "Depth-shift groups",
    "base": "Started from",
    "method": "Method",
}


def draw_convergence(
    path: Path, runs: Mapping[str, Sequence[Mapping[str, Any]]], marks: Mapping[str, Sequence[int]]
) -> None:
    """Loss and Dice against iterations; a tick at the foot for each evolution of a run."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axis, key, label in zip(
        figure.subplots(1, 2), ("loss", "mean_dice"), ("Loss", "Dice on held-out patches"),
        strict=True,
    ):  # fmt: skip
        for number, (name, rows) in enumerate(runs.items()):
            color = COLORS[number % len(COLORS)]
            known = [(row["iteration"], row[key]) for row in rows if row[key] is not None]
            axis.plot(*zip(*known, strict=True) if known else ((), ()), color=color, label=name)
            foot = 0.04 * number
            for step in marks[name]:
                axis.axvline(step, foot, foot + 0.035, color=color, linewidth=1)
        axis.set_xlabel("Iteration (ticks at the foot: evolutions)")
        axis.set_ylabel(label)
        _plain(axis)
        axis.legend(frameon=False, fontsize=9)
    _save(figure, path)


def draw_sweep(path: Path, setting: str, points: Sequence[Point]) -> None:
    """Dice of each value, every seed a dot, and Dice against live multiply-adds."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    values = list(dict.fromkeys(point.value for point in points))
    for number, value in enumerate(values):
        color = COLORS[number % len(COLORS)]
        own = [point for point in points if point.value == value]
        dice = [point.dice for point in own]
        left.scatter([number] * len(own), dice, color=color, s=26, zorder=3)
        left.plot([number - 0.2, number + 0.2], [sum(dice) / len(dice)] * 2, color=color)
        right.scatter(
            [point.live_multiply_adds / 1e9 for point in own], dice, color=color, s=26, label=value
        )
    left.set_xticks(range(len(values)), values)
    left.set_xlim(-0.5, len(values) - 0.5)
    left.set_xlabel(_NAMES[setting])
    right.set_xlabel("Live multiply-adds of a patch (G)")
    right.legend(frameon=False, fontsize=9, title=_NAMES[setting], title_fontsize=9)
    for axis in (left, right):
        axis.set_ylabel("Dice on held-out cases")
        _plain(axis)
    _save(figure, path)


def _plain(axis: Axes) -> None:
    axis.grid(axis="y", color="#e6e9ed", linewidth=0.8)
    axis.set_axisbelow(True)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def _save(figure: Figure, path: Path) -> None:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=130)
    write_atomic(path, stream.getvalue())
