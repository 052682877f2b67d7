"""Renders importance over a volume and says what is in the pictures (see `harness.views.rendered`).

The maps are made here, so that the test knows which direction is where.
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve()
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parents[2] / "E2ENetSegmentation")]

import numpy as np  # noqa: E402
import slicer  # noqa: E402
from E2ENetSegmentationLib.explain import view  # noqa: E402
from E2ENetSegmentationLib.explain.maps import FusionMaps  # noqa: E402
from E2ENetSegmentationLib.explain.run import ExplainRequest  # noqa: E402
from E2ENetSegmentationLib.models.store import ModelStore  # noqa: E402
from harness.made import add_volume, axes, phantom  # noqa: E402
from harness.views import Views, run_script, save  # noqa: E402

PLACES = {"forward": (8, 8, 8), "upward": (8, 16, 20), "downward": (8, 16, 8)}  # (z, y, x)


def blobs():
    """direction -> a hill of importance (z, y, x) with its summit at PLACES."""
    z, y, x = np.indices(phantom()[1].shape)
    hills = {
        name: np.exp(-((z - p[0]) ** 2 + (y - p[1]) ** 2 + (x - p[2]) ** 2) / 12).astype(np.float32)
        for name, p in PLACES.items()
    }
    return {name: (array, 1.0) for name, array in hills.items()}


def main(folder: Path) -> dict:
    legends = "vtkMRMLColorLegendDisplayableManager"
    factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
    if not factory.IsDisplayableManagerRegistered(legends):
        factory.RegisterDisplayableManager(legends)
    views = Views()
    slicer.mrmlScene = views.scene
    views.scene.RegisterNodeClass(slicer.vtkMRMLColorLegendDisplayNode())
    volume = add_volume(views.scene, "plain", array=np.full(phantom()[0].shape, 100, np.int16))
    volume.GetDisplayNode().AutoWindowLevelOff()
    volume.GetDisplayNode().SetWindowLevelMinMax(0, 200)
    request = ExplainRequest([volume], ModelStore().open("hippocampus-mr"), node=(1, 1))
    # A part of the volume, as the engine gives it.
    shift = np.eye(4)
    shift[:3, 3] = [2, 3, 1]
    matrix = axes("plain") @ shift
    part = {name: (array[1:-2, 3:-1, 2:], top) for name, (array, top) in blobs().items()}
    maps = FusionMaps.make(request, part, matrix, {}, 10.0)
    maps.raw("forward")
    for name in ("dominant", "compare"):
        maps.setThreshold(name, 0.2)
    centre = (axes("plain") @ np.array([13, 12, 8, 1]))[:3]
    points = {n: (axes("plain") @ np.array([*p[::-1], 1]))[:3] for n, p in PLACES.items()}
    points["between"] = (axes("plain") @ np.array([26, 2, 8, 1]))[:3]
    found = {"legend_pixels": {}}
    views.slice("Red", volume, centre)
    for name, node in maps.found.items():
        view.show(node, volume, opacity=1.0, threshold=0.2)
        picture = views.slice("Red", volume, centre, 480)
        save(folder / f"{name}.png", picture)
        white = (picture > 230).all(axis=2)  # the letters of the legend; nothing else is white
        found["legend_pixels"][name] = int(white.sum())
        found[name] = {
            place: [int(c) for c in picture[views.pixel("Red", point)][:3]]
            for place, point in points.items()
        }
    view.hide()
    picture = views.slice("Red", volume, centre, 480)
    found["hidden"] = {
        place: [int(c) for c in picture[views.pixel("Red", point)][:3]]
        for place, point in points.items()
    }
    return found


if __name__ == "__main__":
    run_script(main)
