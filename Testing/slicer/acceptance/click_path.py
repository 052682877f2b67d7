"""The whole click-path on Slicer's own Python layer, with pictures to look at.

Not part of `make test`: it needs a harness `slicer_harness` on PYTHONPATH, which runs a module on
the Python layer of a Slicer release over real Qt widgets, and what that needs (SLICER_SOURCES).

    E2ENET_PYTHON=.venv/bin/python PYTHONPATH=HARNESS SLICER_SOURCES=FOLDER \\
        HVENV/bin/python Testing/slicer/acceptance/click_path.py VOLUME \\
        --ref v5.12.3 --out pictures

Pick a volume, Segment, look at the result; cancel; fine-tune two epochs on two cases; use what came
out. Exit status 1 with a list of problems if anything went wrong, also what Slicer only prints.
"""

import argparse
import os
import sys
import tempfile
import traceback
from pathlib import Path

MODULE = Path(__file__).resolve().parents[3] / "E2ENetSegmentation" / "E2ENetSegmentation.py"
MINUTES = 60_000


def parsed():
    parser = argparse.ArgumentParser()
    parser.add_argument("volume")
    parser.add_argument("--model", default="hippocampus-mr")
    parser.add_argument("--ref", default="v5.12.3")
    parser.add_argument("--out", default="pictures")
    parser.add_argument("--train-arguments", default="--workers 0")
    parser.add_argument("--only-segment", action="store_true", help="stop after the result")
    parser.add_argument("--size", type=int, nargs=2, default=(460, 760))
    return parser.parse_args()


class Walk:
    """The module in the harness, and the steps a person takes."""

    def __init__(self, options):
        import slicer_harness

        self.options, self.out = options, Path(options.out)
        self.out.mkdir(parents=True, exist_ok=True)
        self.h = slicer_harness.start(options.ref, views=True)
        import slicer

        self.slicer = slicer
        self.volume = slicer.util.loadVolume(options.volume)
        self.h.load_module(MODULE)
        self.widget = self.h.open_module("E2ENetSegmentation")
        self.tabs = self.widget.tabs

    def picture(self, name, tab):
        self.widget.ui.tabWidget.currentIndex = tab
        self.h.process_events(50)
        self.h.screenshot(self.widget, self.out / f"{name}.png", tuple(self.options.size))

    def views(self, name):
        for view in ("Red", "Green", "Yellow", "ThreeD"):
            if view == "ThreeD":
                self.h.reset_threed()
            self.h.render(view, self.out / f"{name}-{view}.png", (480, 480))

    def segment(self):
        ui, panel = self.tabs["SegmentTab"], self.widget.segment
        panel.selectModel(self.options.model)
        ui.inputSelector.setCurrentNode(self.volume)
        assert ui.segmentButton.enabled, ui.segmentButton.toolTip
        ui.segmentButton.click()
        assert panel.running, ui.statusLabel.text
        self.h.wait_until(lambda: ui.statusLabel.text.startswith("Segmenting"), 5 * MINUTES)
        self.picture("segment-running", 0)
        self.h.wait_until(lambda: not panel.running, 10 * MINUTES)
        assert ui.statusLabel.text.startswith("Done"), ui.statusLabel.text
        self.h.process_events(50)
        node = panel.result.segmentationNode
        names = [node.GetSegmentation().GetNthSegment(i).GetName() for i in range(2)]
        print("segments:", names, "volumes:", [row[2] for row in panel.result.rows])
        assert ui.outputSelector.currentNode() is node
        assert ui.resultsTable.rowCount >= 2
        self.picture("segment", 0)
        self.look_at(node)
        self.views("result")
        self.result = node

    def look_at(self, node):
        """Slices through the middle of the segmentation."""
        bounds = [0.0] * 6
        node.GetRASBounds(bounds)
        centre = [(bounds[2 * i] + bounds[2 * i + 1]) / 2 for i in range(3)]
        for logic in self.h.slice_logics.values():
            logic.GetSliceCompositeNode().SetBackgroundVolumeID(self.volume.GetID())
            logic.FitSliceToAll()
            logic.GetSliceNode().JumpSliceByCentering(*centre)
        node.GetDisplayNode().SetVisibility2DFill(True)

    def cancel(self):
        ui, panel = self.tabs["SegmentTab"], self.widget.segment
        ui.segmentButton.click()
        self.h.process_events(300)
        ui.cancelButton.click()
        assert ui.statusLabel.text == "Cancelled."
        assert ui.segmentButton.enabled
        assert not panel.running

    def fine_tune(self):
        node = self.result
        ui, panel = self.tabs["FineTuneTab"], self.widget.fineTune
        self.widget.host.setSetting("trainArguments", self.options.train_arguments)
        self.copied_case(node)
        names = ["", *(model.name for model in panel.models)]
        ui.baseComboBox.currentIndex = names.index(self.options.model)
        ui.nameEdit.text = "Mine"
        ui.addAllCasesButton.click()
        assert ui.casesTable.rowCount == 2, ui.trainStatusLabel.text
        ui.epochsSpinBox.value = 2
        ui.iterationsSpinBox.value = 2
        assert ui.effortComboBox.currentIndex == 2
        self.picture("fine-tune-cases", 1)
        ui.startButton.click()
        assert panel.running, ui.trainStatusLabel.text
        self.h.wait_until(lambda: panel.training.rows or not panel.running, 10 * MINUTES)
        ui.casesButton.collapsed = True
        self.picture("fine-tune", 1)
        self.h.wait_until(lambda: not panel.running, 10 * MINUTES)
        assert "is in the list" in ui.trainStatusLabel.text, ui.trainStatusLabel.text
        self.picture("fine-tune-done", 1)
        titles = [model.name for model in self.widget.segment.models]
        assert "Mine" in titles
        assert self.widget.segment.model.name == "Mine"

    def copied_case(self, node):
        """Make a second pair: the same volume and segmentation under other names."""
        logic = self.slicer.modules.volumes.logic()
        scene = self.slicer.mrmlScene
        volume = logic.CloneVolume(scene, self.volume, "Second")
        copy = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Second segmentation")
        copy.GetSegmentation().DeepCopy(node.GetSegmentation())
        copy.CreateDefaultDisplayNodes()
        copy.SetReferenceImageGeometryParameterFromVolumeNode(volume)

    def models(self):
        ui = self.tabs["ModelsTab"]
        ui.modelsTable.selectRow(0)
        self.h.process_events(50)
        ui.readmeButton.click()
        self.picture("models", 2)

    def save_and_load(self):
        """Nodes that were chosen and training cases come back with the scene."""
        segment, cases = self.tabs["SegmentTab"], self.tabs["FineTuneTab"].casesTable
        chosen, count = segment.inputSelector.currentNode().GetName(), cases.rowCount
        assert count > 0
        segment.standardNamesCheckBox.checked = True
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder) / "scene.mrml")
            self.slicer.mrmlScene.SetRootDirectory(folder)
            assert self.slicer.util.saveScene(path)
            self.slicer.mrmlScene.Clear()
            self.h.process_events(50)
            assert cases.rowCount == 0
            self.slicer.util.loadScene(path)
            self.h.process_events(50)
        assert segment.inputSelector.currentNode().GetName() == chosen
        assert segment.standardNamesCheckBox.checked
        assert cases.rowCount == count

    def advanced(self):
        ui = self.tabs["SegmentTab"]
        ui.segmentAdvancedButton.collapsed = False
        ui.manyButton.collapsed = False
        self.picture("segment-advanced", 0)
        ui.segmentAdvancedButton.collapsed = True
        ui.manyButton.collapsed = True

    def close_in_the_middle(self):
        ui, panel = self.tabs["SegmentTab"], self.widget.segment
        ui.segmentButton.click()
        assert panel.running, ui.statusLabel.text
        self.h.process_events(200)
        self.slicer.mrmlScene.Clear()
        self.h.process_events(50)
        assert not panel.running
        assert "scene was closed" in ui.statusLabel.text


def main():
    options = parsed()
    home = tempfile.TemporaryDirectory(prefix="e2enet-acceptance-")
    os.environ["XDG_DATA_HOME"] = home.name
    problems = []
    try:
        walk = Walk(options)
        steps = ["advanced", "segment"]
        if not options.only_segment:
            steps += ["cancel", "fine_tune", "models", "save_and_load", "close_in_the_middle"]
        for step in steps:
            print("step:", step, flush=True)
            getattr(walk, step)()
        walk.widget.cleanup()
    except BaseException:
        problems.append(traceback.format_exc())
    import slicer_harness

    problems += slicer_harness.current().slot_errors
    calls = sorted({f"{c}.{m}" for c, m, _a in slicer_harness.current().unhandled_calls})
    print("calls that did nothing:", calls)
    for text in slicer_harness.current().messages:
        print("message:", text)
    for problem in problems:
        print("PROBLEM", problem)
    print("problems:", len(problems))
    return 1 if problems else 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # offscreen OpenGL contexts do not always survive the interpreter's end
