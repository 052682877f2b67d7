"""Learning curves as CSV and PNG."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from e2enet.files import write_atomic

CSV, PNG = "metrics.csv", "curves.png"


def write_curves(
    folder: Path,
    rows: Sequence[dict[str, Any]],
    history: Sequence[dict[str, Any]],
    *,
    picture: bool = True,
) -> None:
    """Write `metrics.csv` and `curves.png`, each in one step.

    Args:
        folder: where to.
        rows: one an epoch: epoch, iteration, loss, lr, dice {label: value}, mean_dice, zeta, live,
            left_out (steps whose loss was not finite), seconds.
        history: of the evolution; each entry with a turnover is marked in the picture.
        picture: off writes the CSV only.
    """
    if not rows:
        return
    write_atomic(folder / CSV, _csv(rows))
    if picture:
        write_atomic(folder / PNG, _png(rows, history))


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    labels = list(rows[-1]["dice"])
    plain = [key for key in rows[-1] if key != "dice"]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*plain, *(f"dice {name}" for name in labels)])
    for row in rows:
        # A run that began with an earlier version has rows without the newest columns.
        writer.writerow([*(row.get(key) for key in plain), *(row["dice"].get(n) for n in labels)])
    return stream.getvalue()


def _png(rows: Sequence[dict[str, Any]], history: Sequence[dict[str, Any]]) -> bytes:
    # Not through pyplot: no window system, no global state.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 9), layout="constrained")
    FigureCanvasAgg(figure)
    loss, dice, rate = figure.subplots(3, 1, sharex=True, height_ratios=(3, 3, 1.5))
    steps = [row["iteration"] for row in rows]

    loss.plot(steps, [row["loss"] for row in rows], color="tab:blue", marker=".", markersize=3)
    loss.set_ylabel("training loss (1 - Dice + CE)")
    for name in rows[-1]["dice"]:
        dice.plot(steps, [_number(row["dice"].get(name)) for row in rows], linewidth=1, label=name)
    mean = [_number(row["mean_dice"]) for row in rows]
    dice.plot(steps, mean, color="black", linewidth=1.5, label="mean")
    dice.set_ylabel("online Dice")
    dice.set_ylim(0, 1)
    dice.grid(alpha=0.3)
    dice.legend(loc="lower right", fontsize="small", ncols=2)
    rate.plot(steps, [row["lr"] for row in rows], color="tab:green", label="learning rate")
    rate.set_ylabel("learning rate")
    rate.set_xlabel("iteration (grey: the connections evolved)")
    zeta = rate.twinx()
    zeta.plot(steps, [row["zeta"] for row in rows], color="tab:orange", linestyle="--")
    zeta.set_ylabel("ζ (dashed)")
    for entry in history:
        if entry["turnover"] is not None:
            for axes in (loss, dice):
                axes.axvline(entry["iteration"], color="grey", alpha=0.25, linewidth=0.8)

    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110)
    return stream.getvalue()


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def smoothed_dice(rows: Sequence[Mapping[str, Any]]) -> list[float | None]:
    """Mean online Dice after each epoch, smoothed as nnU-Net v2 does to find its best checkpoint.

    Each value is 0.9 of the one before and 0.1 of the epoch's; None before the first that is known.
    """
    values: list[float | None] = []
    last: float | None = None
    for row in rows:
        if (dice := row["mean_dice"]) is not None:
            last = dice if last is None else 0.9 * last + 0.1 * dice
        values.append(last)
    return values
