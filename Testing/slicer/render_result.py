"""Renders a segmentation and says what is in the pictures (see `harness.views.rendered`)."""

import sys
import types
from pathlib import Path

HERE = Path(__file__).resolve()
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parents[2] / "E2ENetSegmentation")]

import numpy as np  # noqa: E402
import slicer  # noqa: E402
from E2ENetSegmentationLib.mrml.segmentations import importLabels  # noqa: E402
from harness.made import add_volume, axes, phantom  # noqa: E402
from harness.views import Views, run_script, save  # noqa: E402


def main(folder: Path) -> dict:
    views = Views()
    slicer.mrmlScene = views.scene
    logic = views.app.app_logic.GetModuleLogic("Segmentations")
    if logic is None:
        logic = slicer.vtkSlicerSegmentationsModuleLogic()
        logic.SetMRMLScene(views.scene)
    slicer.modules = types.SimpleNamespace(segmentations=types.SimpleNamespace(logic=lambda: logic))
    image, labels = phantom()
    volume = add_volume(views.scene, "oblique", array=np.full_like(image, 100))
    names = {1: ("sphere", (255, 0, 0)), 2: ("cube", (0, 255, 0))}
    described = [
        types.SimpleNamespace(value=value, name=name, color=color, terminology={}, values=())
        for value, (name, color) in names.items()
    ]
    importLabels(labels, volume, described, modelName="made")
    centre = axes("oblique") @ np.append(np.argwhere(labels == 1).mean(axis=0)[::-1], 1)
    picture = views.slice("Red", volume, centre[:3]).astype(int)
    outline = (picture[..., 0] > 150) & (picture[..., 1] < 100)
    rows, columns = np.nonzero(outline)
    solid = views.threed().astype(int)
    found = {
        "outline_pixels": int(outline.sum()),
        "outline_centre": [float(rows.mean()), float(columns.mean())] if len(rows) else None,
        "outline_extent": [int(np.ptp(rows)), int(np.ptp(columns))] if len(rows) else None,
        "wanted_centre": views.pixel("Red", centre[:3]),
        "millimetres_a_pixel": float(
            np.linalg.norm(
                slicer.util.arrayFromVTKMatrix(
                    views.views["Red"]._logic.GetSliceNode().GetXYToRAS()
                )[:3, 0]
            )
        ),
        "red_3d": int(((solid[..., 0] > 120) & (solid[..., 1] < 60)).sum()),
        "green_3d": int(((solid[..., 1] > 120) & (solid[..., 0] < 60)).sum()),
    }
    save(folder / "slice.png", picture)
    save(folder / "3d.png", solid)
    return found


if __name__ == "__main__":
    run_script(main)
