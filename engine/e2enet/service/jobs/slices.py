"""`python -m e2enet.service.jobs.slices`: pictures of a result, for the page.

A process of its own, because it opens a file that somebody sent.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from e2enet.data.images.orientation import to_canonical
from e2enet.data.images.volume import read_image, read_label

COUNT = 40  # pictures at most
_LONGEST = 512  # pixels
_OPACITY = 0.45


def write_slices(
    image: Path, label: Path, colors: dict[int, tuple[int, int, int]], folder: Path
) -> int:
    """Write axial slices with the labels over them, from the feet to the head.

    Args:
        image: The volume of the first channel.
        label: Its label map, on the same grid.
        colors: Of each label, 0 … 255.
        folder: Gets 0.png, 1.png, …; exists.

    Returns:
        The number of pictures: slices at equal distances over the labels and a little around.
    """
    volume, _ = to_canonical(read_image(image))
    array, spacing = volume.array, volume.grid.spacing_zyx
    labels = to_canonical(read_label(label))[0].array
    low, high = np.percentile(array, [1, 99.5])
    grey = np.clip((array - low) / max(high - low, 1e-6), 0, 1) * 255
    found = np.flatnonzero(labels.any(axis=(1, 2)))
    first, last = (found[0] - 3, found[-1] + 3) if len(found) else (0, len(array) - 1)
    first, last = max(int(first), 0), min(int(last), len(array) - 1)
    chosen = np.unique(np.linspace(first, last, min(COUNT, last - first + 1)).round().astype(int))
    palette = np.zeros((int(labels.max(initial=0)) + 1, 3), np.float32)
    for value, color in colors.items():
        if value < len(palette):
            palette[value] = color
    # Square pixels: nearest neighbours of a finer grid.
    step = min(spacing[1:])
    size = [max(round(n * s / step), 1) for n, s in zip(array.shape[1:], spacing[1:], strict=True)]
    scale = min(_LONGEST / max(size), 1.0)
    rows, columns = (
        (np.arange(max(round(n * scale), 1)) / max(round(n * scale), 1) * have).astype(int)
        for n, have in zip(size, array.shape[1:], strict=True)
    )
    for number, z in enumerate(chosen):
        plane = np.repeat(grey[z][np.ix_(rows, columns)][..., None], 3, axis=2)
        own = labels[z][np.ix_(rows, columns)]
        inside = own > 0
        plane[inside] = (1 - _OPACITY) * plane[inside] + _OPACITY * palette[own[inside]]
        picture = sitk.GetImageFromArray(plane.astype(np.uint8), isVector=True)
        sitk.WriteImage(picture, os.fspath(folder / f"{number}.png"))
    return len(chosen)


if __name__ == "__main__":
    _image, _label, _colors, _folder = sys.argv[1:]
    _by_value = {int(value): tuple(color) for value, color in json.loads(_colors).items()}
    print(write_slices(Path(_image), Path(_label), _by_value, Path(_folder)))
