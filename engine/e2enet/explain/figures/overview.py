"""One picture of a segmentation: three planes with outlines, legend and scale bar.

Radiological convention: the patient's right is on the viewer's left. The figure is drawn by
matplotlib without pyplot, so that it neither needs a display nor touches a user's own figures.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from e2enet.data.images.orientation import to_canonical
from e2enet.data.images.volume import Grid, Volume
from e2enet.explain.figures.flow import save_png

_PAPER = "#0e1116"
_INK = "#e6e8eb"
_FAINT = "#8b93a0"
_CLOSE = 1.3  # the field of view over the labels' largest extent
_SMALLEST_FIELD = 40.0  # mm


@dataclass(frozen=True)
class Plane:
    """A way to cut a canonical volume (z to Superior, y to Posterior, x to Left).

    Args:
        name: What a radiologist calls it.
        through: Array axis that is cut across.
        axes: Array axes that run down and to the right in the picture.
        letters: Left, right, top and bottom of the picture.
        place: Letters of the cut axis for a negative and a positive LPS coordinate.
    """

    name: str
    through: int
    axes: tuple[int, int]
    letters: tuple[str, str, str, str]
    place: tuple[str, str]


PLANES = (
    Plane("Axial", 0, (1, 2), ("R", "L", "A", "P"), ("I", "S")),
    Plane("Coronal", 1, (0, 2), ("R", "L", "S", "I"), ("A", "P")),
    Plane("Sagittal", 2, (0, 1), ("A", "P", "S", "I"), ("R", "L")),
)


def overview(
    volume: Volume,
    label: np.ndarray,
    labels: Sequence[Mapping[str, Any]],
    path: str | os.PathLike[str],
    *,
    title: str = "",
    note: str = "",
    dpi: int = 150,
) -> Path:
    """Draw three orthogonal planes through the labels and write them as PNG.

    Each plane is the one that shows most structures, and of those the one with the largest area.
    Where the labels fill only a part of the image, the planes are close-ups and an inset shows the
    whole slice.

    Args:
        volume: The image, in any orientation.
        label: (z, y, x) label map on the same grid.
        labels: `{"value": int, "name": str, "color": [r, g, b]}` with colours from 0 to 255, in
            the legend's order; further keys do not matter.
        path: Where the PNG goes; it is written under a temporary name and renamed.
        title: Above the picture.
        note: Small, below the picture.
        dpi: Resolution; the picture is 14.4 inches wide.

    Returns:
        The path.

    Raises:
        ValueError: The label map does not fit the image.
        BadInput: The file cannot be written.
    """
    path = Path(path)
    if label.shape != volume.array.shape:
        raise ValueError(f"label map of shape {label.shape} on an image of {volume.array.shape}")
    values = [int(entry["value"]) for entry in labels]
    milliliters = [np.count_nonzero(label == v) * volume.grid.voxel_ml for v in values]
    image, _ = to_canonical(volume)
    names = np.where(np.isin(label, values), label, 0)
    marked = to_canonical(Volume(names, volume.grid))[0].array

    figure = Figure(figsize=(14.4, 6.3), dpi=dpi, facecolor=_PAPER)
    FigureCanvasAgg(figure)
    window = grey_window(image.array)
    center, field = field_of_view(marked, image.grid)
    cuts = [best_cut(marked, axis) for axis in range(3)]
    columns = figure.add_gridspec(1, 3, left=0.02, right=0.98, bottom=0.145, top=0.885, wspace=0.04)
    for column, plane in enumerate(PLANES):
        axes = figure.add_subplot(columns[0, column])
        _draw_plane(axes, plane, image, marked, labels, cuts, center, field, window)
    if title:
        figure.text(0.02, 0.955, title, color=_INK, fontsize=15, fontweight="bold", va="center")
    _draw_legend(figure, labels, milliliters)
    if note:
        figure.text(0.98, 0.025, note, color=_FAINT, fontsize=8.5, ha="right", va="center")

    return save_png(figure, path)


def grey_window(array: np.ndarray) -> tuple[float, float]:
    """Grey values for black and white: what differs from the background, without the extremes."""
    thin = array[tuple(slice(None, None, max(1, n // 128)) for n in array.shape)]
    background = float(np.median(thin[0]))
    shown = thin[thin != background]
    if not shown.size:
        return background - 1.0, background + 1.0
    low, high = (float(v) for v in np.percentile(shown, (0.5, 99.7)))
    return (low, high) if low < high else (low - 1.0, low + 1.0)


def field_of_view(marked: np.ndarray, grid: Grid) -> tuple[np.ndarray, float]:
    """Centre in voxels (z, y, x) and edge length in mm of the cube that is shown."""
    spacing = np.asarray(grid.spacing_zyx)
    whole = np.asarray(grid.shape) * spacing
    largest = float(whole.max())
    found = [np.flatnonzero(marked.any(axis=tuple({0, 1, 2} - {k}))) for k in range(3)]
    if not found[0].size:
        return (np.asarray(grid.shape) - 1) / 2, largest
    low = np.array([f[0] for f in found])
    high = np.array([f[-1] for f in found])
    wanted = max(_SMALLEST_FIELD, _CLOSE * float(((high - low + 1) * spacing).max()))
    if wanted > 0.75 * largest:
        return (np.asarray(grid.shape) - 1) / 2, largest
    return (low + high) / 2, wanted


def best_cut(marked: np.ndarray, axis: int) -> int:
    """The slice with the most structures, and among those with the largest area."""
    across = tuple({0, 1, 2} - {axis})
    area = np.count_nonzero(marked, axis=across)
    if not area.any():
        return marked.shape[axis] // 2
    values = [v for v in np.unique(marked) if v]
    # A structure counts where at least a tenth of its largest area shows.
    shown = np.zeros(len(area), int)
    for value in values:
        each = np.count_nonzero(marked == value, axis=across)
        shown += each >= max(1, 0.1 * each.max())
    return int(np.lexsort((area, shown))[-1])


def _draw_plane(
    axes: Axes,
    plane: Plane,
    image: Volume,
    marked: np.ndarray,
    labels: Sequence[Mapping[str, Any]],
    cuts: Sequence[int],
    center: np.ndarray,
    field: float,
    window: tuple[float, float],
) -> None:
    cut = cuts[plane.through]
    spacing = np.asarray(image.grid.spacing_zyx)
    down, right = plane.axes
    flip = down == 0  # z runs upwards
    picture = np.take(image.array, cut, axis=plane.through)
    outline = np.take(marked, cut, axis=plane.through)
    rows, columns = picture.shape
    # Pictures are in mm, the first voxel's centre at the origin.
    extent = (
        -0.5 * spacing[right],
        (columns - 0.5) * spacing[right],
        *((-0.5 * spacing[down], (rows - 0.5) * spacing[down])[:: 1 if flip else -1]),
    )
    look: dict[str, Any] = {
        "origin": "lower" if flip else "upper",
        "extent": extent,
        "cmap": "gray",
        "vmin": window[0],
        "vmax": window[1],
    }
    axes.imshow(picture, interpolation="bicubic", **look)
    x = np.arange(columns) * spacing[right]
    y = np.arange(rows) * spacing[down]
    for entry in labels:
        inside = outline == int(entry["value"])
        if inside.any():
            color = [c / 255 for c in entry["color"]]
            padded = np.pad(inside, 1).astype(np.float32)
            px = np.concatenate([[x[0] - spacing[right]], x, [x[-1] + spacing[right]]])
            py = np.concatenate([[y[0] - spacing[down]], y, [y[-1] + spacing[down]]])
            axes.contourf(px, py, padded, levels=[0.5, 2], colors=[color], alpha=0.16)
            axes.contour(px, py, padded, levels=[0.5], colors=[color], linewidths=1.8)
    across, along = center[right] * spacing[right], center[down] * spacing[down]
    left, top = across - field / 2, along - field / 2
    axes.set_xlim(left, left + field)
    axes.set_ylim(*((top, top + field) if flip else (top + field, top)))
    axes.set_aspect("equal")
    axes.set_facecolor("black")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color("#2a303a")
    axes.set_title(
        f"{plane.name}  {_position(plane, image.grid, cuts)}", color=_FAINT, fontsize=10.5, pad=7
    )
    draw_letters(axes, plane.letters)
    draw_scale_bar(axes, field)
    if field < 0.75 * max(rows * spacing[down], columns * spacing[right]):
        inset = axes.inset_axes((0.715, 0.715, 0.275, 0.275))
        inset.imshow(picture, interpolation="bilinear", **look)
        inset.add_patch(
            Rectangle((left, top), field, field, fill=False, edgecolor="#ffd24a", linewidth=1.0)
        )
        inset.set_facecolor("black")
        inset.set_anchor("NE")
        inset.set_xticks([])
        inset.set_yticks([])
        for spine in inset.spines.values():
            spine.set_color(_FAINT)


def _position(plane: Plane, grid: Grid, cuts: Sequence[int]) -> str:
    """Where the plane lies, such as "S 14 mm"."""
    index = np.asarray(cuts[::-1], float)  # x, y, z
    matrix = np.reshape(grid.direction, (3, 3)) * np.asarray(grid.spacing_xyz)
    value = float((matrix @ index + np.asarray(grid.origin_xyz))[2 - plane.through])
    return f"{plane.place[value >= 0]} {abs(value):.0f} mm"


def draw_letters(axes: Axes, letters: Sequence[str]) -> None:
    """Write the directions of a plane on its four sides."""
    left, right, top, bottom = letters
    places = ((left, 0.022, 0.5), (right, 0.978, 0.5), (top, 0.5, 0.972), (bottom, 0.5, 0.028))
    for letter, x, y in places:
        axes.text(
            x, y, letter, transform=axes.transAxes, color=_INK, fontsize=11, fontweight="bold",
            ha="center", va="center",
            bbox={"facecolor": "black", "alpha": 0.45, "pad": 1.8, "lw": 0},
        )  # fmt: skip


def draw_scale_bar(axes: Axes, field: float) -> None:
    """Draw a round number of mm, at most a third of the field of view."""
    length = max((v for v in (1, 2, 5, 10, 20, 50, 100, 200) if v <= 0.3 * field), default=1)
    share = length / field
    dark = [withStroke(linewidth=5.5, foreground="black", alpha=0.6)]  # legible on white too
    axes.plot(
        [0.04, 0.04 + share], [0.045, 0.045], transform=axes.transAxes, color=_INK, linewidth=3,
        solid_capstyle="butt", path_effects=dark,
    )  # fmt: skip
    axes.text(
        0.04 + share / 2, 0.062, f"{length} mm", transform=axes.transAxes, color=_INK, fontsize=9,
        ha="center", va="bottom", path_effects=[withStroke(linewidth=2.5, foreground="black")],
    )  # fmt: skip


def _draw_legend(
    figure: Figure, labels: Sequence[Mapping[str, Any]], milliliters: Sequence[float]
) -> None:
    """Colour, name and volume of every structure, four a row."""
    handles = [
        Rectangle((0, 0), 1, 1, facecolor=[c / 255 for c in entry["color"]]) for entry in labels
    ]
    texts = [
        f"{entry['name']}   {volume:.2f} mL"
        for entry, volume in zip(labels, milliliters, strict=True)
    ]
    size = 11.5 if len(labels) <= 8 else 8.5
    legend = figure.legend(
        handles, texts, loc="center", bbox_to_anchor=(0.5, 0.082),
        ncols=min(len(labels), 4 if len(labels) <= 8 else 6) or 1,
        fontsize=size, labelcolor=_INK, frameon=False, columnspacing=3.0, handlelength=1.1,
        handleheight=1.1, handletextpad=0.7,
    )  # fmt: skip
    legend.set_in_layout(False)
