"""One picture of what training sees of a case: as it is, and nine augmented versions of a patch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from e2enet.data.datasets.raw import Dataset, read_case
from e2enet.data.patches.augmentation import Augmentation
from e2enet.data.patches.sampling import crop
from e2enet.data.planning.plan import Plan
from e2enet.data.preprocessing.cases import prepare, prepare_label
from e2enet.explain.figures.flow import save_png

_PAPER, _INK, _OUTLINE = "#0e1116", "#e6e8eb", "#f2b134"
_VERSIONS = 9
_WINDOW = (1.0, 99.0)  # percentiles of the tissue that become black and white


def draw_augmented(
    dataset: Dataset, plan: Plan, path: str | os.PathLike[str], *, seed: int = 0
) -> Path:
    """Draw ten patches of the dataset's first case as PNG: untouched, and nine augmented versions.

    Each shows the middle slices across depth (above) and height (below) with the labels' outline.

    Args:
        dataset: Its first case with foreground is prepared as training would.
        plan: Patch, spacing and robustness.
        path: Where the PNG goes.
        seed: Of the versions.

    Raises:
        BadInput: A case cannot be read, or the file cannot be written.
    """
    image, label, name = _first_case(dataset, plan)
    start = _centred(label, plan.patch)
    augment = Augmentation(plan)
    shown = [("as it is", crop(image, start, plan.patch), crop(label, start, plan.patch))]
    for number in range(_VERSIONS):
        rng = np.random.default_rng((seed, number))
        made, outline = augment(image, label, start=start, patch=plan.patch, rng=rng)
        shown.append((str(number + 1), made.numpy(), outline.numpy()))

    figure = Figure(figsize=(15.0, 4.4), dpi=110, facecolor=_PAPER)
    FigureCanvasAgg(figure)
    depth, height = (n * s for n, s in zip(plan.patch[:2], plan.spacing[:2], strict=True))
    grid = figure.add_gridspec(
        2, len(shown), left=0.01, right=0.99, bottom=0.02, top=0.84, wspace=0.06, hspace=0.04,
        height_ratios=(height, depth),
    )  # fmt: skip
    for column, (title, x, y) in enumerate(shown):
        for row in range(2):
            axes = figure.add_subplot(grid[row, column])
            _draw(axes, np.take(x[0], x.shape[1 + row] // 2, axis=row),
                  np.take(y, y.shape[row] // 2, axis=row), plan, row)  # fmt: skip
            if row == 0:
                axes.set_title(title, color=_INK, fontsize=11)
    figure.text(
        0.01, 0.94, f"{name}: what training sees (robustness {plan.robustness:g})",
        color=_INK, fontsize=14, fontweight="bold", va="center",
    )  # fmt: skip
    return save_png(figure, Path(path))


def _first_case(dataset: Dataset, plan: Plan) -> tuple[np.ndarray, np.ndarray, str]:
    """Image (C, D, H, W) and label (D, H, W) of the first case that has foreground, or the last."""
    for case in dataset.cases:
        volumes, truth = read_case(dataset, case)
        assert truth is not None  # a training case has one
        prepared = prepare(volumes, plan)
        label = prepare_label(truth, prepared.geometry, plan)
        if label.any():
            break
    return prepared.array, label, case.name


def _centred(label: np.ndarray, patch: tuple[int, int, int]) -> list[int]:
    """The patch round the middle of the foreground, or of the case where there is none."""
    found = np.argwhere(label)
    middle = found.mean(axis=0) if len(found) else np.asarray(label.shape) / 2
    return [round(m - n / 2) for m, n in zip(middle, patch, strict=True)]


def _draw(axes: Axes, image: np.ndarray, label: np.ndarray, plan: Plan, row: int) -> None:
    rows, columns = [s for axis, s in enumerate(plan.spacing) if axis != row]
    # Slices lie with the first axis downwards; depth grows towards the head.
    upwards: Literal["upper", "lower"] = "upper" if row == 0 else "lower"
    tissue = image[image != 0]
    low, high = np.percentile(tissue, _WINDOW) if tissue.size else (0.0, 1.0)
    axes.imshow(
        image, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), origin=upwards,
        aspect=rows / columns, interpolation="nearest",
    )  # fmt: skip
    if label.any() and min(label.shape) > 1:
        axes.contour(label > 0, [0.5], colors=_OUTLINE, linewidths=1.0)
    axes.set_axis_off()
