"""Slice and 3D views without a window: what a person sees, as a picture in an array.

Needs `trame-slicer` and an OpenGL library. A render window without one ends the whole process, so
`missing` tries in a process of its own first.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

TRY = """
import vtk
window = vtk.vtkRenderWindow()
window.SetOffScreenRendering(1)
window.SetSize(8, 8)
window.AddRenderer(vtk.vtkRenderer())
window.Render()
"""
PACKAGES = "libx11-6 libosmesa6, or libx11-6 libegl1 libegl-mesa0 libgl1-mesa-dri"


def missing() -> str:
    """Why nothing can be rendered here, or ""."""
    try:
        import trame_slicer.core  # noqa: F401
    except ImportError as error:
        return f"the views of trame-slicer cannot be imported: {error}"
    environment = {**os.environ}
    environment.pop("DISPLAY", None)
    done = subprocess.run([sys.executable, "-c", TRY], capture_output=True, env=environment)
    if done.returncode:
        return f"no OpenGL library for rendering without a screen (Debian: {PACKAGES})"
    return ""


def rendered(script: str, folder: Path) -> dict:
    """What a script of Testing/slicer found in its pictures; skips where nothing can be rendered.

    The script runs in a process of its own: the views need a scene of their own, and a broken
    OpenGL must not end the tests. It leaves pictures and found.json in the folder.
    """
    import pytest

    if reason := missing():
        pytest.skip(reason)
    path = Path(__file__).resolve().parents[1] / "slicer" / script
    done = subprocess.run([sys.executable, path, folder], capture_output=True, text=True)
    assert (folder / "found.json").is_file(), done.stderr[-2000:]
    return json.loads((folder / "found.json").read_text(encoding="utf-8"))


def run_script(main) -> None:
    """The end of such a script: `main(folder)` makes pictures and returns what is in them."""
    folder = Path(sys.argv[1])
    (folder / "found.json").write_text(json.dumps(main(folder)), encoding="utf-8")
    sys.stdout.flush()
    os._exit(0)  # offscreen contexts do not always survive the interpreter's end


def save(path: Path, picture) -> None:
    """Write a picture (rows, columns, RGB) as PNG."""
    from matplotlib.image import imsave

    imsave(path, picture.astype("uint8"))


class Views:
    """Red, Green, Yellow and 3D over a scene of their own."""

    def __init__(self) -> None:
        from trame_slicer.core import SlicerApp
        from trame_slicer.views import DirectViewFactory, ViewLayoutDefinition
        from trame_slicer.views.render_scheduler import NoScheduleRendering

        self.app = SlicerApp()
        self.scene = self.app.scene
        manager = self.app.view_manager
        manager.register_factory(DirectViewFactory(do_render_offscreen=True))
        kinds = {
            "Red": ViewLayoutDefinition.axial_view(),
            "Green": ViewLayoutDefinition.coronal_view(),
            "Yellow": ViewLayoutDefinition.sagittal_view(),
            "1": ViewLayoutDefinition.threed_view(name="1"),
        }
        self.views = {name: manager.create_view(kind) for name, kind in kinds.items()}
        manager.set_current_view_ids(list(kinds))  # others show no segmentations
        for view in self.views.values():
            view.set_scheduled_render(NoScheduleRendering())

    def slice(self, name: str, volumeNode, centre, size: int = 320):
        """A slice view through a point (RAS), the whole volume in sight: (rows, columns, RGB)."""
        view = self.views[name]
        self._ready(view, size)
        view.render()
        logic = view._logic
        logic.GetSliceCompositeNode().SetBackgroundVolumeID(volumeNode.GetID())
        logic.ResizeSliceNode(size, size)
        logic.FitSliceToAll()
        logic.GetSliceNode().JumpSliceByOffsetting(*centre)
        return self._picture(view)

    def threed(self, size: int = 320):
        """The 3D view with everything in sight."""
        view = self.views["1"]
        self._ready(view, size)
        view.reset_focal_point()
        view.reset_camera()
        return self._picture(view)

    def pixel(self, name: str, point):
        """(row, column) of a point (RAS) in the picture of a slice view."""
        import vtk

        matrix = vtk.vtkMatrix4x4()
        vtk.vtkMatrix4x4.Invert(self.views[name]._logic.GetSliceNode().GetXYToRAS(), matrix)
        x, y, _z, _w = matrix.MultiplyPoint([*point, 1.0])
        height = self.views[name].render_window().GetSize()[1]
        return round(height - 1 - y), round(x)

    def _ready(self, view, size: int) -> None:
        view.set_mapped_in_layout(True)  # clearing the scene takes it back
        view.update_size(size, size)
        view.render_window().SetSize(size, size)

    def _picture(self, view):
        import vtk
        from vtk.util.numpy_support import vtk_to_numpy

        view.render()
        grab = vtk.vtkWindowToImageFilter()
        grab.SetInput(view.render_window())
        grab.ReadFrontBufferOff()
        grab.Update()
        image = grab.GetOutput()
        width, height, _depth = image.GetDimensions()
        return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width, -1)[::-1]
