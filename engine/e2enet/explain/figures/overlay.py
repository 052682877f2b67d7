"""Fusion importance over an image: one row a plane, one column a direction, and who leads where."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from e2enet.data.images.volume import Volume
from e2enet.explain.figures.flow import save_png
from e2enet.explain.figures.overview import (
    PLANES,
    Plane,
    best_cut,
    draw_letters,
    draw_scale_bar,
    field_of_view,
    grey_window,
)
from e2enet.explain.maps import NodeMaps
from e2enet.explain.nodes import COLORS, DIRECTIONS

_PAPER, _INK, _FAINT = "#0e1116", "#e6e8eb", "#8b93a0"
_COLORMAP = "inferno"
_OPACITY = 0.75


def display_range(maps: NodeMaps) -> float:
    """Upper end of a good display of the normalised maps: their 99.9th percentile where seen."""
    values = np.concatenate([maps.normalised(d)[maps.seen] for d in maps.raw])
    return max(float(np.percentile(values, 99.9)), 1e-6) if values.size else 1.0


def draw_importance(
    image: Volume,
    maps: NodeMaps,
    path: str | os.PathLike[str],
    *,
    label: np.ndarray | None = None,
    labels: Sequence[Mapping[str, Any]] = (),
    planes: Sequence[str] = ("Axial", "Coronal", "Sagittal"),
    title: str = "",
    dpi: int = 130,
) -> Path:
    """Draw the maps of one node over the image and write them as PNG.

    Args:
        image: In canonical orientation.
        maps: Of one node, on a part of its grid.
        path: Where the PNG goes; written under a temporary name and renamed.
        label: (z, y, x) label map on the grid, for outlines and for choosing the slices.
        labels: `{"value", "name", "color"}` of the structures to outline.
        planes: Which of Axial, Coronal and Sagittal.
        title: Above the picture.
        dpi: Resolution.

    Raises:
        BadInput: The file cannot be written.
    """
    shown = [plane for plane in PLANES if plane.name in planes]
    values = [int(entry["value"]) for entry in labels]
    marked = np.zeros(image.array.shape, np.uint8)
    if label is not None:
        marked = np.where(np.isin(label, values), label, 0)
    seen = np.zeros(image.array.shape, bool)
    seen[maps.inside] = maps.seen
    center, field = field_of_view(marked if marked.any() else seen, image.grid)
    cuts = [best_cut(marked, k) if marked.any() else _strongest(maps, k) for k in range(3)]
    columns = [d for d in DIRECTIONS if d in maps.raw]
    top = display_range(maps)
    layers = {d: _heat(maps.normalised(d), top) for d in columns}
    layers["leading direction"] = _leading(maps, top)

    cell = 2.75
    width, height = cell * (len(layers) + 1), cell * len(shown) + 1.2
    figure = Figure(figsize=(width, height), dpi=dpi, facecolor=_PAPER)
    FigureCanvasAgg(figure)
    grid = figure.subplots(
        len(shown), len(layers) + 1, squeeze=False,
        gridspec_kw={
            "left": 0.34 / width, "right": 1 - 0.08 / width, "bottom": 0.5 / height,
            "top": 1 - 0.7 / height, "wspace": 0.03, "hspace": 0.03,
        },
    )  # fmt: skip
    grey = grey_window(image.array)
    for row, plane in enumerate(shown):
        for column, name in enumerate(["image", *layers]):
            axes = grid[row][column]
            layer = layers.get(name)
            _draw(axes, plane, image.array, image.grid.spacing_zyx, cuts, grey)
            if layer is not None:
                _cover(axes, plane, layer, maps.inside, image.grid.spacing_zyx, cuts)
            _outline(axes, plane, marked, labels, image.grid.spacing_zyx, cuts)
            _frame(axes, plane, center, field, image.grid.spacing_zyx)
            if column == 0:
                axes.set_ylabel(plane.name, color=_FAINT, fontsize=10.5)
                draw_letters(axes, plane.letters)
                draw_scale_bar(axes, field)
            if row == 0:
                color = COLORS.get(name, _INK)
                axes.set_title(name, color=_lighter(color), fontsize=11, pad=6)
    if title:
        figure.text(0.12 / width, 1 - 0.22 / height, title, color=_INK, fontsize=13,
                    fontweight="bold", va="center")  # fmt: skip
    _legend(figure, columns, labels, top, width, height)
    return save_png(figure, Path(path))


def _heat(values: np.ndarray, top: float) -> np.ndarray:
    """(z, y, x) from 0 to 1 -> (z, y, x, 4) uint8; faint is transparent."""
    share = np.clip(values / top, 0, 1)
    rgba = colormaps[_COLORMAP](share, bytes=True)
    rgba[..., 3] = (255 * _OPACITY * np.clip(2 * share, 0, 1)).astype(np.uint8)
    return rgba


def _leading(maps: NodeMaps, top: float) -> np.ndarray:
    """Colour of the largest direction, as opaque as it is strong."""
    rgba = np.zeros((*maps.seen.shape, 4), np.uint8)
    dominant = maps.dominant()
    for number, direction in enumerate(DIRECTIONS, 1):
        if direction in maps.raw:
            where = dominant == number
            rgba[where, :3] = (255 * np.array(to_rgb(COLORS[direction]))).astype(np.uint8)
            strength = np.clip(2 * maps.normalised(direction)[where] / top, 0, 1)
            rgba[where, 3] = (255 * _OPACITY * strength).astype(np.uint8)
    return rgba


def _strongest(maps: NodeMaps, axis: int) -> int:
    across = tuple({0, 1, 2} - {axis})
    sums = sum(one.sum(axis=across, dtype=np.float64) for one in maps.raw.values())
    return maps.inside[axis].start + int(np.argmax(sums))


def _draw(
    axes: Axes,
    plane: Plane,
    image: np.ndarray,
    spacing: Sequence[float],
    cuts: Sequence[int],
    grey: tuple[float, float],
) -> None:
    picture = np.take(image, cuts[plane.through], axis=plane.through)
    placed = _placed(plane, tuple(slice(0, size) for size in image.shape), spacing)
    axes.imshow(picture, cmap="gray", vmin=grey[0], vmax=grey[1], interpolation="bicubic", **placed)


def _cover(
    axes: Axes,
    plane: Plane,
    layer: np.ndarray,
    inside: Sequence[slice],
    spacing: Sequence[float],
    cuts: Sequence[int],
) -> None:
    """Lay a box of colours (z, y, x, 4) over the picture, where the cut goes through it."""
    at = cuts[plane.through] - inside[plane.through].start
    if 0 <= at < layer.shape[plane.through]:
        over = np.take(layer, at, axis=plane.through)
        axes.imshow(over, interpolation="bilinear", **_placed(plane, inside, spacing))


def _placed(plane: Plane, inside: Sequence[slice], spacing: Sequence[float]) -> dict[str, Any]:
    """Where a box of voxels lies in the picture, in mm, and which way up."""
    down, right = plane.axes
    left, end, top, bottom = (
        (place - 0.5) * spacing[axis]
        for axis in (right, down)
        for place in (inside[axis].start, inside[axis].stop)
    )
    flip = down == 0  # z runs upwards
    vertical = (top, bottom) if flip else (bottom, top)
    return {"origin": "lower" if flip else "upper", "extent": (left, end, *vertical)}


def _outline(
    axes: Axes,
    plane: Plane,
    marked: np.ndarray,
    labels: Sequence[Mapping[str, Any]],
    spacing: Sequence[float],
    cuts: Sequence[int],
) -> None:
    down, right = plane.axes
    names = np.take(marked, cuts[plane.through], axis=plane.through)
    for entry in labels:
        inside = np.pad(names == int(entry["value"]), 1).astype(np.float32)
        if inside.any():
            y = (np.arange(inside.shape[0]) - 1) * spacing[down]
            x = (np.arange(inside.shape[1]) - 1) * spacing[right]
            color = [c / 255 for c in entry["color"]]
            axes.contour(x, y, inside, levels=[0.5], colors=["black"], linewidths=2.4, alpha=0.5)
            axes.contour(x, y, inside, levels=[0.5], colors=[color], linewidths=1.3)


def _frame(
    axes: Axes, plane: Plane, center: np.ndarray, field: float, spacing: Sequence[float]
) -> None:
    down, right = plane.axes
    left = center[right] * spacing[right] - field / 2
    top = center[down] * spacing[down] - field / 2
    axes.set_xlim(left, left + field)
    axes.set_ylim(*((top, top + field) if down == 0 else (top + field, top)))
    axes.set_aspect("equal")
    axes.set_facecolor("black")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color("#2a303a")


def _legend(
    figure: Figure,
    directions: Sequence[str],
    labels: Sequence[Mapping[str, Any]],
    top: float,
    width: float,
    height: float,
) -> None:
    bar = figure.add_axes((0.34 / width, 0.27 / height, 1.9 / width, 0.11 / height))
    colorbar = figure.colorbar(
        ScalarMappable(Normalize(0, 100 * top), _COLORMAP), cax=bar, orientation="horizontal"
    )
    colorbar.outline.set_visible(False)  # type: ignore[operator]
    bar.tick_params(colors=_FAINT, labelsize=7.5, length=2, pad=1)
    bar.set_title("% of the node's largest value", fontsize=8, color=_FAINT, pad=2)
    entries: list[tuple[Any, str]] = [(COLORS[d], f"led by {d}") for d in directions]
    entries += [([c / 255 for c in e["color"]], e["name"]) for e in labels]
    handles = [Rectangle((0, 0), 1, 1, facecolor=color) for color, _ in entries]
    figure.legend(
        handles, [text for _, text in entries], loc="center left",
        bbox_to_anchor=(2.5 / width, 0.24 / height), ncols=len(entries), frameon=False,
        fontsize=8.5, labelcolor=_INK, handlelength=1.1, handleheight=1.1, columnspacing=1.4,
        handletextpad=0.5,
    )  # fmt: skip


def _lighter(color: str) -> tuple[float, float, float]:
    """Legible on the dark paper."""
    red, green, blue = (0.65 * c + 0.35 for c in to_rgb(color))
    return red, green, blue
