"""Fusion flow as pictures: the lattice with arrows as thick as their share, and its development.

After E2ENet, arXiv 2312.04727, figures 8 and 9. Drawn without pyplot, so that no display is needed
and a user's own figures are left alone.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, FancyArrowPatch

from e2enet.explain.flow import Flow
from e2enet.explain.nodes import COLORS, DIRECTIONS, lattice
from e2enet.files import output_errors, replacing

QUANTITIES = {"share": "live connections", "l1_share": "kernel L1 mass"}
_INK, _FAINT = "#1d2430", "#6b7480"
_NODE, _BACKBONE = "#ffffff", "#e4e8ee"
_RADIUS = 0.17
_THICKEST = 15.0  # points, for a share of 1


def draw_flow(
    flow: Flow,
    path: str | os.PathLike[str],
    *,
    records: Sequence[Mapping[str, Any]] | None = None,
    quantities: Sequence[str] = ("share", "l1_share"),
    dpi: int = 150,
) -> Path:
    """Draw the lattice, one column a record and one row a quantity, and write it as PNG.

    Args:
        flow: The fusion flow of a model.
        path: Where the PNG goes; written under a temporary name and renamed.
        records: Which of `flow.records`; by default four from the start to the end.
        quantities: "share" (of live connections) and "l1_share" (of live kernel L1 mass).
        dpi: Resolution.

    Raises:
        BadInput: The file cannot be written.
    """
    chosen = list(records if records is not None else flow.chosen(4))
    panel = 1.0 + 0.62 * flow.levels
    width, height = 0.91 * panel * len(chosen) + 0.5, (panel * 0.86 + 0.25) * len(quantities) + 1.05
    width = max(width, 6.4)
    figure = Figure(figsize=(width, height), dpi=dpi, facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.subplots(
        len(quantities), len(chosen), squeeze=False,
        gridspec_kw={
            "left": 0.45 / width, "right": 1 - 0.05 / width, "bottom": 0.42 / height,
            "top": 1 - 0.72 / height, "wspace": 0.02, "hspace": 0.06,
        },
    )  # fmt: skip
    for row, quantity in enumerate(quantities):
        for column, record in enumerate(chosen):
            axes = grid[row][column]
            _draw_lattice(axes, flow.levels, record, quantity)
            if row == 0:
                axes.set_title(_when(record), fontsize=11, color=_INK, pad=3)
            if column == 0:
                axes.text(
                    -0.02, 0.5, f"Share of {QUANTITIES[quantity]}", transform=axes.transAxes,
                    rotation=90, ha="right", va="center", fontsize=10.5, color=_INK,
                )  # fmt: skip
    figure.text(
        0.12 / width, 1 - 0.2 / height, f"Fusion flow of {flow.model}", fontsize=13,
        fontweight="bold", color=_INK, va="center",
    )  # fmt: skip
    _legend(figure, 0.16 / height)
    return save_png(figure, Path(path))


def draw_history(
    flow: Flow, path: str | os.PathLike[str], *, quantity: str = "share", dpi: int = 150
) -> Path:
    """Draw each node's shares over the training, nodes in their places, and write it as PNG.

    Args:
        flow, path, dpi: As `draw_flow`.
        quantity: "share" or "l1_share".

    Raises:
        BadInput: The file cannot be written.
        ValueError: There is no history to draw.
    """
    if not flow.has_history:
        raise ValueError(f"the model {flow.model} has no history")
    size = flow.levels - 1
    width, height = 2.3 * size + 0.9, 1.65 * size + 1.4
    figure = Figure(figsize=(max(width, 6.4), height), dpi=dpi, facecolor="white")
    FigureCanvasAgg(figure)
    width = figure.get_figwidth()
    grid = figure.subplots(
        size, size, squeeze=False, sharex=True, sharey=True,
        gridspec_kw={
            "left": 0.75 / width, "right": 1 - 0.2 / width, "bottom": 0.85 / height,
            "top": 1 - 0.62 / height, "wspace": 0.1, "hspace": 0.16,
        },
    )  # fmt: skip
    along, unit = _times(flow.records)
    for stage in range(1, size + 1):
        for level in range(size):
            axes = grid[level][stage - 1]
            if stage + level > size:
                axes.set_visible(False)
                continue
            values = [_node(record, stage, level)["flows"] for record in flow.records]
            names = [d for d in DIRECTIONS if d in values[0]]
            axes.stackplot(
                along, [[v[d][quantity] for v in values] for d in names],
                colors=[COLORS[d] for d in names], alpha=0.85, linewidth=0,
            )  # fmt: skip
            axes.set_xlim(along[0], along[-1] or 1)
            axes.set_ylim(0, 1)
            axes.set_yticks([0, 0.5, 1], ["0", "50 %", "100 %"])
            axes.tick_params(labelsize=8, colors=_FAINT, length=2)
            axes.set_title(f"stage {stage}, level {level}", fontsize=8.5, color=_INK, pad=3)
            for spine in axes.spines.values():
                spine.set_visible(False)
            if stage + level == size:
                axes.tick_params(labelbottom=True)
    figure.text(
        0.12 / width, 1 - 0.2 / height,
        f"Share of {QUANTITIES[quantity]} by direction over the training of {flow.model}",
        fontsize=11.5, fontweight="bold", color=_INK, va="center",
    )  # fmt: skip
    figure.text(0.5, 0.43 / height, unit, ha="center", va="center", fontsize=9.5, color=_FAINT)
    _legend(figure, 0.16 / height)
    return save_png(figure, Path(path))


def _draw_lattice(axes: Axes, levels: int, record: Mapping[str, Any], quantity: str) -> None:
    axes.set_xlim(-0.45, levels - 0.55)
    axes.set_ylim(levels - 0.58, -0.42)
    axes.set_aspect("equal")
    axes.axis("off")
    for node in record["nodes"]:
        stage, level = node["stage"], node["level"]
        for direction, values in node["flows"].items():
            source = level + {"forward": 0, "upward": 1, "downward": -1}[direction]
            _arrow(axes, (stage - 1, source), (stage, level), values[quantity], direction)
    for level in range(levels):
        _circle(axes, 0, level, f"{level}", _BACKBONE)
    for stage, level in lattice(levels):
        _circle(axes, stage, level, f"{stage}:{level}", _NODE)


def _arrow(
    axes: Axes, start: tuple[int, int], end: tuple[int, int], share: float, direction: str
) -> None:
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = math.hypot(dx, dy)
    ux, uy = dx / length, dy / length
    gap = _RADIUS + 0.02
    tail = (start[0] + gap * ux, start[1] + gap * uy)
    head = (end[0] - gap * ux, end[1] - gap * uy)
    thick = max(0.5, _THICKEST * share)
    axes.add_patch(
        FancyArrowPatch(
            tail, head, shrinkA=0, shrinkB=0, color=COLORS[direction], linewidth=0, alpha=0.85,
            arrowstyle=f"simple,tail_width={thick},head_width={thick + 4},head_length=6",
            mutation_scale=1, zorder=1,
        )
    )  # fmt: skip
    at = 0.66 if dy else 0.44
    axes.text(
        start[0] + at * dx, start[1] + at * dy, f"{100 * share:.0f}", ha="center", va="center",
        fontsize=7.5, color=_INK, zorder=3,
        bbox={"facecolor": "white", "alpha": 0.8, "pad": 0.8, "lw": 0, "boxstyle": "round,pad=0.1"},
    )  # fmt: skip


def _circle(axes: Axes, x: float, y: float, text: str, color: str) -> None:
    axes.add_patch(Circle((x, y), _RADIUS, facecolor=color, edgecolor=_INK, lw=0.9, zorder=2))
    axes.text(x, y, text, ha="center", va="center", fontsize=7.5, color=_INK, zorder=3)


def _legend(figure: Figure, y: float) -> None:
    handles = [Line2D([], [], color=COLORS[d], linewidth=6, alpha=0.85) for d in DIRECTIONS]
    texts = [
        "forward (same level)",
        "upward (from the coarser level)",
        "downward (from the finer level)",
    ]
    figure.legend(
        handles, texts, loc="center", bbox_to_anchor=(0.5, y), ncols=3, frameon=False, fontsize=9,
        labelcolor=_INK, handlelength=1.4, columnspacing=1.6,
    )  # fmt: skip


def _when(record: Mapping[str, Any]) -> str:
    if record["epoch"] is not None:
        when = f"epoch {record['epoch']:.4g}"
    elif record["iteration"] is not None:
        when = f"iteration {record['iteration']}"
    else:
        return {"start": "start", "end": "the model"}.get(record["kind"], "")
    return {"start": f"start ({when})", "end": f"end ({when})"}.get(record["kind"], when)


def _times(records: Sequence[Mapping[str, Any]]) -> tuple[list[float], str]:
    for key in ("epoch", "iteration"):
        if all(record[key] is not None for record in records):
            return [float(record[key]) for record in records], key
    return [float(k) for k in range(len(records))], "record"


def _node(record: Mapping[str, Any], stage: int, level: int) -> Mapping[str, Any]:
    return next(n for n in record["nodes"] if (n["stage"], n["level"]) == (stage, level))


def save_png(figure: Figure, path: Path) -> Path:
    """Write a figure under a temporary name and rename it. Raises BadInput if that fails."""
    with output_errors(path), replacing(path) as temporary:
        figure.savefig(temporary, format="png", facecolor=figure.get_facecolor())
    return path
