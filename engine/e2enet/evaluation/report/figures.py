"""Figures of an evaluation, as PNG in memory."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from e2enet.evaluation.evaluate import Evaluation
from e2enet.evaluation.metrics.measures import METRICS

# Paul Tol's "bright" scheme: distinct also for the colour-blind.
COLORS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb")
REFERENCE, PREDICTION = "#ffd43b", "#ff5ca8"


def box_plots(found: Evaluation) -> bytes:
    """One box a structure, in a panel for Dice, NSD, HD95 and ASSD, with every case as a dot."""
    shown = ("Dice", "NSD", "HD95", "ASSD")
    figure, axes = plt.subplots(
        2, 2, figsize=(10, 2.6 + 0.44 * len(found.names)), layout="constrained"
    )
    random = np.random.default_rng(0)
    for axis, metric in zip(axes.flat, shown, strict=True):
        columns = [_known(found, name, metric) for name in found.names]
        places = range(len(columns), 0, -1)  # the first structure on top
        axis.boxplot(
            columns,
            positions=list(places),
            orientation="horizontal",
            widths=0.55,
            showfliers=False,
            medianprops={"color": "#1d2430", "linewidth": 1.6},
            boxprops={"color": "#8a93a0"},
            whiskerprops={"color": "#8a93a0"},
            capprops={"color": "#8a93a0"},
        )
        for number, (place, column) in enumerate(zip(places, columns, strict=True)):
            jitter = place + random.uniform(-0.16, 0.16, len(column))
            color = COLORS[number % len(COLORS)]
            axis.scatter(column, jitter, s=14, color=color, alpha=0.7, linewidths=0, zorder=3)
        axis.set_yticks(list(places), [_short(name) for name in found.names])
        unit = METRICS[metric].unit
        axis.set_xlabel(f"{metric} ({unit})" if unit else metric)
        _plain(axis)
    return _png(figure)


def volume_against_dice(found: Evaluation) -> bytes:
    """Each structure of each case: volume of the reference (mL, logarithmic) against Dice."""
    figure, axis = plt.subplots(figsize=(7.5, 4.2), layout="constrained")
    for number, name in enumerate(found.names):
        measured = [case[name] for case in found.cases.values() if case[name].reference_ml > 0]
        axis.scatter(
            [one.reference_ml for one in measured],
            [one.values["Dice"] for one in measured],
            s=18,
            color=COLORS[number % len(COLORS)],
            alpha=0.75,
            linewidths=0,
            label=_short(name),
        )
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_xlabel("Volume of the reference (mL)")
    axis.set_ylabel("Dice")
    if found.names:
        axis.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=9)
    _plain(axis)
    return _png(figure)


def disagreement(
    prediction: np.ndarray,
    reference: np.ndarray,
    spacing: Sequence[float],
    image: np.ndarray | None = None,
) -> bytes:
    """Outlines of both on the slice of the first axis where they disagree most, and around it.

    Args:
        prediction, reference: (D, H, W) bool.
        spacing: (D, H, W) in mm.
        image: (D, H, W) to draw them on, or None.
    """
    apart = (prediction != reference).sum(axis=(1, 2))
    if not apart.any():
        apart = reference.sum(axis=(1, 2))
    plane = int(apart.argmax())
    masks = [(reference[plane], REFERENCE), (prediction[plane], PREDICTION)]
    return _outlined(masks, spacing, None if image is None else image[plane], tight=True)


def labelled(image: np.ndarray, label: np.ndarray, spacing: Sequence[float]) -> bytes:
    """The whole slice of the first axis with most of the labels, and their outlines.

    Args:
        image: (D, H, W).
        label: (D, H, W) whole numbers.
        spacing: (D, H, W) in mm.
    """
    plane = int((label > 0).sum(axis=(1, 2)).argmax())
    masks = [
        (label[plane] == value, COLORS[(int(value) - 1) % len(COLORS)])
        for value in np.unique(label[plane])
        if value
    ]
    return _outlined(masks, spacing, image[plane], tight=False)


def _outlined(
    masks: Sequence[tuple[np.ndarray, str]],
    spacing: Sequence[float],
    image: np.ndarray | None,
    *,
    tight: bool,
) -> bytes:
    rows = columns = slice(None)
    if tight:
        rows, columns = _around(np.any([mask for mask, _ in masks], axis=0), spacing[1:])
    inside = np.zeros(masks[0][0].shape)[rows, columns] if image is None else image[rows, columns]
    drawing = Figure(figsize=(3.6, 3.6))
    axis = drawing.add_axes((0, 0, 1, 1))
    low, high = np.percentile(inside, [1, 99.5])
    axis.imshow(
        inside,
        cmap="gray",
        vmin=low,
        vmax=max(high, low + 1e-6),
        aspect=spacing[1] / spacing[2],
        interpolation="nearest",
    )
    for mask, color in masks:
        part = mask[rows, columns]
        if part.any():
            # A margin, so that an outline closes where a structure reaches the picture's edge.
            padded = np.pad(part.astype(float), 1)
            y, x = np.arange(-1, part.shape[0] + 1), np.arange(-1, part.shape[1] + 1)
            axis.contour(x, y, padded, levels=[0.5], colors=[color], linewidths=1.6)
    axis.set_xlim(-0.5, inside.shape[1] - 0.5)
    axis.set_ylim(inside.shape[0] - 0.5, -0.5)
    axis.set_axis_off()
    drawing.patch.set_facecolor("black")
    return _png(drawing)


def _around(mask: np.ndarray, spacing: Sequence[float]) -> tuple[slice, slice]:
    """A square (in mm) around what is set, a third larger."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return slice(None), slice(None)
    extent = max(
        (rows[-1] - rows[0] + 1) * spacing[0], (columns[-1] - columns[0] + 1) * spacing[1], 12.0
    )
    parts = []
    for found, step, length in zip((rows, columns), spacing, mask.shape, strict=True):
        centre, half = (found[0] + found[-1]) / 2, 0.67 * extent / step
        first = max(0, math.floor(centre - half))
        parts.append(slice(first, min(length, math.ceil(centre + half) + 1)))
    return parts[0], parts[1]


def _known(found: Evaluation, name: str, metric: str) -> list[float]:
    values = (case[name].values[metric] for case in found.cases.values())
    return [value for value in values if not math.isnan(value)]


def _short(name: str) -> str:
    return name if len(name) <= 24 else name[:23] + "…"


def _plain(axis: Axes) -> None:
    axis.grid(axis="x", color="#e6e9ed", linewidth=0.8)
    axis.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    axis.tick_params(axis="y", length=0)


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=130)
    plt.close(figure)
    return stream.getvalue()
