"""The whole click-path on Slicer's own Python layer, with pictures to look at.

Not part of `make test`: it needs a harness `slicer_harness` on PYTHONPATH, which runs a module on
the Python layer of a Slicer release over real Qt widgets, and what that needs (SLICER_SOURCES).

    E2ENET_PYTHON=.venv/bin/python PYTHONPATH=HARNESS SLICER_SOURCES=FOLDER \\
        HVENV/bin/python Testing/slicer/acceptance/click_path.py VOLUME \\
        --ref v5.12.3 --out pictures

Pick a volume, Segment, look at the result; two more volumes in between; see it explained;
cancel; fine-tune two epochs on two cases; use what came out; save and load. Exit status 1 with a
list of problems if anything went wrong, also what Slicer only prints.

With --install and without E2ENET_PYTHON the engine's packages are installed before, by the real pip
from the network into a folder of their own, and nothing else is on the engine's path: those for
the CPU, and the steps that need PyTorch are left out.
"""

import argparse
import os
import sys
import tempfile
import traceback
from pathlib import Path

MODULE = Path(__file__).resolve().parents[3] / "E2ENetSegmentation" / "E2ENetSegmentation.py"
MINUTES = 60_000
SEGMENT, FINE_TUNE, MODELS, EXPLAIN, ADVANCED = range(5)
VIEWS = {  # with Slicer's colours, in the order of its conventional layout
    "Red": (243, 74, 51),
    "ThreeD": (116, 144, 221),
    "Green": (110, 176, 75),
    "Yellow": (237, 213, 76),
}


def parsed():
    parser = argparse.ArgumentParser()
    parser.add_argument("volume", type=os.path.abspath)  # a saved scene names it
    parser.add_argument("--model", default="hippocampus-mr")
    parser.add_argument("--ref", default="v5.12.3")
    parser.add_argument("--out", default="pictures")
    parser.add_argument("--train-arguments", default="--workers 0")
    parser.add_argument("--only-segment", action="store_true", help="stop after the result")
    parser.add_argument("--install", action="store_true", help="the engine's packages first")
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
        # Slicer's module Colors does it, which the harness lacks.
        slicer.mrmlScene.RegisterNodeClass(slicer.vtkMRMLColorLegendDisplayNode())
        self.centre = None
        self.volume = slicer.util.loadVolume(options.volume)
        self.h.load_module(MODULE)
        self.widget = self.h.open_module("E2ENetSegmentation")
        self.tabs = self.widget.tabs
        jump = self.widget.host.jumpTo
        self.widget.host.jumpTo = lambda point: (setattr(self, "centre", point), jump(point))

    def picture(self, name, tab):
        self.widget.ui.tabWidget.currentIndex = tab
        self.h.process_events(50)
        width, height = self.options.size  # at least: Slicer's panel scrolls to what is below
        shown = self.widget.ui.tabWidget.widget(tab)
        height = max(height, shown.heightForWidth(width - 24) + 80)  # 24, 80: what is around it
        self.widget.parent.resize(width, height)
        self.h.process_events(50)
        self.h.screenshot(self.widget, self.out / f"{name}.png", (width, height))

    def views(self, name):
        """Every view as a person gets it, and all beside the panel."""
        from PIL import Image

        panel = Image.open(self.out / f"{name}.png").convert("RGB")
        half = (panel.height - 18) // 2
        sheet = Image.new("RGB", (panel.width + 8 + 2 * half + 6, panel.height), (64, 64, 70))
        sheet.paste(panel, (0, 0))
        for place, (view, color) in enumerate(VIEWS.items()):
            path = self.out / f"{name}-{view}.png"
            self.h.render(view, path, (half, half))
            if view == "ThreeD":
                self.h.reset_threed()
            elif self.centre is not None:  # the harness showed all of the volume, from its middle
                self.h.slice_logics[view].GetSliceNode().JumpSliceByCentering(*self.centre)
            self.grab(view, path)
            left = panel.width + 8 + (place % 2) * (half + 6)
            top = (place // 2) * (half + 12)
            sheet.paste(color, (left, top, left + half, top + 6))
            sheet.paste(Image.open(path).convert("RGB"), (left, top + 6))
        sheet.save(self.out / f"{name}-beside.png", optimize=True)

    def grab(self, view, path):
        """A view as it is now; the harness's own picture shows all of the volume."""
        import vtk

        window = self.h.view_objects[view]
        window.render()
        grabbed, writer = vtk.vtkWindowToImageFilter(), vtk.vtkPNGWriter()
        grabbed.SetInput(window.render_window())
        grabbed.ReadFrontBufferOff()
        writer.SetInputConnection(grabbed.GetOutputPort())
        writer.SetFileName(str(path))
        writer.Write()

    def install(self):
        """The engine's packages for the CPU, on a page that shows what is there then."""
        ui, panel = self.tabs["AdvancedTab"], self.widget.engine
        assert ui.installButton.enabled, "an interpreter of its own is named by E2ENET_PYTHON"
        ui.installButton.click()
        self.h.wait_until(
            lambda: ui.engineProgressBar.value > 20 or not panel.running, 10 * MINUTES
        )
        self.picture("advanced-installing", ADVANCED)
        self.h.wait_until(lambda: not panel.running, 20 * MINUTES)
        assert ui.engineStatusLabel.text == "Installed and tried.", ui.engineStatusLabel.text
        self.picture("advanced", ADVANCED)

    def segment(self):
        ui, panel = self.tabs["SegmentTab"], self.widget.segment
        panel.selectModel(self.options.model)
        ui.inputSelector.setCurrentNode(self.volume)
        assert ui.segmentButton.enabled, ui.segmentButton.toolTip
        ui.segmentButton.click()
        assert panel.running, ui.statusLabel.text
        self.h.wait_until(lambda: ui.statusLabel.text.startswith("Segmenting"), 5 * MINUTES)
        self.picture("segment-running", SEGMENT)
        self.h.wait_until(lambda: not panel.running, 10 * MINUTES)
        assert ui.statusLabel.text.startswith("Done"), ui.statusLabel.text
        self.h.process_events(50)
        node = panel.result.segmentationNode
        names = [node.GetSegmentation().GetNthSegment(i).GetName() for i in range(2)]
        print("segments:", names, "volumes:", [row.millilitres for row in panel.result.rows])
        assert ui.outputSelector.currentNode() is node
        assert ui.resultsTable.rowCount >= 2
        self.jumped()
        self.picture("segment", SEGMENT)
        self.views("segment")
        self.result = node

    def other_patients(self):
        """Two more volumes, chosen after a run and during one: nobody gets another's result."""
        ui, panel = self.tabs["SegmentTab"], self.widget.segment
        scene, logic = self.slicer.mrmlScene, self.slicer.modules.volumes.logic()
        second, third = (logic.CloneVolume(scene, self.volume, n) for n in ("Second", "Third"))
        self.choose(ui.inputSelector, second)  # after a run
        self.chosen(second, None)
        assert panel.result is None
        assert ui.statusLabel.text == "", ui.statusLabel.text
        ui.segmentButton.click()
        self.h.process_events(300)
        assert panel.running, ui.statusLabel.text
        self.choose(ui.inputSelector, third)  # during a run
        self.chosen(third, None)
        self.h.wait_until(lambda: not panel.running, 10 * MINUTES)
        self.chosen(third, None)
        assert panel.result is None
        assert "Choose Second to see it" in ui.statusLabel.text, ui.statusLabel.text
        ui.segmentButton.click()
        self.h.wait_until(lambda: not panel.running, 10 * MINUTES)
        results = self.slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
        made = [node.GetNodeReference("E2ENet.Input").GetName() for node in results]
        assert made == [self.volume.GetName(), "Second", "Third"], (made, ui.statusLabel.text)
        inputs = [node.GetNodeReference("E2ENet.Input") for node in results]
        assert inputs == [self.volume, second, third], inputs
        for volume, node in zip((second, self.volume), (results[1], results[0]), strict=True):
            self.choose(ui.inputSelector, volume)  # back: its own result is there again
            self.chosen(volume, node)
            assert panel.result.segmentationNode is node
            assert [n.GetDisplayNode().GetVisibility() for n in results] == [
                int(n is node) for n in results
            ]
        self.choose(self.tabs["ExplainTab"].runSelector, results[2])  # brings its volume along
        self.chosen(third, results[2])
        self.choose(ui.inputSelector, self.volume)
        assert self.tabs["ExplainTab"].runSelector.currentNode() is None
        for node in (*results[1:], second, third):
            scene.RemoveNode(node)
        self.chosen(self.volume, self.result)

    def choose(self, selector, node):
        selector.setCurrentNode(node)
        self.h.process_events(50)

    def chosen(self, volume, output):
        """The selectors of both tabs and the parameter node agree."""
        parameters = self.widget.logic.getParameterNode()
        for tab in ("SegmentTab", "ExplainTab"):
            assert self.tabs[tab].inputSelector.currentNode() is volume
        assert parameters.inputVolume is volume
        assert self.tabs["SegmentTab"].outputSelector.currentNode() is output
        assert parameters.outputSegmentation is output

    def jumped(self):
        """The slices have come to the result by themselves."""
        centre = self.centre
        for logic in self.h.slice_logics.values():
            matrix = logic.GetSliceNode().GetSliceToRAS()
            for row in range(3):
                assert abs(matrix.GetElement(row, 3) - centre[row]) < 0.01

    def explain(self):
        """What the middle levels brought in, over the slices, and the charts."""
        ui, panel = self.tabs["ExplainTab"], self.widget.explain
        ui.runSelector.setCurrentNode(self.result)
        assert panel.model.name == self.options.model
        assert ui.inputSelector.currentNode() is self.volume
        ui.nodeTable.setCurrentCell(1, 0)
        assert panel.node == (1, 1)
        ui.showButton.click()
        assert panel.running, ui.statusLabel.text
        self.h.wait_until(lambda: not panel.running, 10 * MINUTES)
        assert "stage 1, level 1" in ui.statusLabel.text, ui.statusLabel.text
        for name in ("dominant", "forward", "compare"):
            ui.directionComboBox.currentIndex = panel._directions.index(name)
            for logic in self.h.slice_logics.values():
                shown = logic.GetSliceCompositeNode().GetForegroundVolumeID()
                assert shown == panel.maps.found[name].GetID()
            self.picture(f"explain-{name}", EXPLAIN)
            self.views(f"explain-{name}")
        ui.directionComboBox.currentIndex = panel._directions.index("forward")
        ui.rawCheckBox.checked = True
        assert "forward raw" in panel.maps.found
        ui.flowButton.click()
        assert not panel.running, "a chart needs no run"
        ui.allFlowsButton.click()
        assert "all parts" in ui.statusLabel.text, ui.statusLabel.text
        ui.hideButton.click()

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
        self.picture("fine-tune-cases", FINE_TUNE)
        ui.startButton.click()
        assert panel.running, ui.trainStatusLabel.text
        self.h.wait_until(lambda: panel.training.rows or not panel.running, 10 * MINUTES)
        ui.casesButton.collapsed = True
        self.picture("fine-tune", FINE_TUNE)
        self.h.wait_until(lambda: not panel.running, 10 * MINUTES)
        assert "is in the list" in ui.trainStatusLabel.text, ui.trainStatusLabel.text
        self.picture("fine-tune-done", FINE_TUNE)
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
        self.picture("models", MODELS)

    def save_and_load(self):
        """Nodes that were chosen and training cases come back with the scene."""
        segment, cases = self.tabs["SegmentTab"], self.tabs["FineTuneTab"].casesTable
        chosen, count = segment.inputSelector.currentNode().GetName(), cases.rowCount
        explained = self.tabs["ExplainTab"].runSelector.currentNode().GetName()
        assert self.widget.explain.node == (1, 1)
        assert self.widget.logic.getParameterNode().explainedNode == "1:1"
        assert count > 0
        self.choose(segment.inputSelector, self.volume)
        self.choose(segment.outputSelector, self.result)
        rows = segment.resultsTable.rowCount
        assert self.widget.segment.result is not None
        segment.standardNamesCheckBox.checked = True
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder) / "scene.mrml")
            self.slicer.mrmlScene.SetRootDirectory(folder)
            self.result.AddDefaultStorageNode()  # Slicer's dialog does that, the call does not
            assert self.slicer.util.saveNode(self.result, str(Path(folder) / "result.seg.nrrd"))
            assert self.slicer.util.saveScene(path)
            self.slicer.mrmlScene.Clear()
            self.h.process_events(50)
            assert cases.rowCount == 0
            assert segment.statusLabel.text == "", segment.statusLabel.text
            self.slicer.util.loadScene(path)
            self.h.process_events(50)
        assert segment.inputSelector.currentNode().GetName() == chosen
        explain = self.tabs["ExplainTab"]
        assert explain.runSelector.currentNode().GetName() == explained
        assert self.widget.explain.node == (1, 1)
        assert segment.standardNamesCheckBox.checked
        assert cases.rowCount == count
        result = self.widget.segment.result
        assert result.volumeNode.GetName() == chosen
        assert segment.resultsTable.rowCount == len(result.rows) == rows
        assert segment.statusLabel.text.startswith("Done: "), segment.statusLabel.text
        self.picture("segment-loaded", SEGMENT)

    def advanced(self):
        ui = self.tabs["SegmentTab"]
        ui.segmentAdvancedButton.collapsed = False
        ui.manyButton.collapsed = False
        self.picture("segment-advanced", SEGMENT)
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
        steps = ["advanced", "segment", "other_patients"]
        if options.install:  # the rest needs PyTorch
            steps = ["install", *steps]
        else:
            steps.append("explain")
        if not (options.install or options.only_segment):
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
