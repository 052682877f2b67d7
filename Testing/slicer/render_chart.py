"""Draws the flow charts and says what is in the pictures (see `harness.views.rendered`)."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve()
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parents[2] / "E2ENetSegmentation")]

import numpy as np  # noqa: E402
import slicer  # noqa: E402, F401  (first: it imports what lies in a folder of its name, also this)
from E2ENetSegmentationLib.explain.nodes import COLORS  # noqa: E402
from E2ENetSegmentationLib.explain.plot import FlowPlot  # noqa: E402
from E2ENetSegmentationLib.models.store import ModelStore  # noqa: E402
from harness import charts, mrml  # noqa: E402
from harness.views import run_script, save  # noqa: E402

SHARES = {(1, 0): (0.7, 0.3, 0.0), (1, 1): (0.5, 0.3, 0.2), (2, 0): (0.6, 0.4, 0.0)}


def flow() -> dict:
    """A flow that does not change over three epochs."""
    nodes = [
        {
            "stage": stage,
            "level": level,
            "flows": {
                name: {"share": share, "l1_share": share}
                for name, share in zip(COLORS, shares, strict=True)
                if share
            },
        }
        for (stage, level), shares in SHARES.items()
    ]
    return {"records": [{"epoch": e, "iteration": None, "nodes": nodes} for e in range(3)]}


def main(folder: Path) -> dict:
    mrml.start()
    plot = FlowPlot.make(ModelStore().open("hippocampus-mr"), flow(), (1, 1))
    found = {}
    for name in ("final", "history"):
        picture, chart = charts.draw(getattr(plot, name))
        save(folder / f"{name}.png", picture)
        found[name] = {direction: _pixels(picture, COLORS[direction]) for direction in COLORS}
        found[name]["tooltips"] = _tooltips(chart)
    return found


def _pixels(picture, color) -> int:
    """How many pixels of the plot, below the legend, have a colour."""
    lower = picture[int(0.25 * len(picture)) :]
    return int((np.abs(lower[..., :3] - np.array(color) * 255).max(axis=2) < 3).sum())


def _tooltips(chart) -> list:
    """What a person reads who points at the first series' bars."""
    plot = chart.GetPlot(0)
    labels = plot.GetIndexedLabels()
    return [labels.GetValue(i) for i in range(labels.GetNumberOfValues())] if labels else []


if __name__ == "__main__":
    run_script(main)
