"""Pictures of every tab, narrow and wide, with small and large fonts, to look at.

Not part of `make test`; needs what `click_path.py` needs.

    E2ENET_PYTHON=.venv/bin/python PYTHONPATH=HARNESS SLICER_SOURCES=FOLDER \\
        HVENV/bin/python Testing/slicer/acceptance/looks.py VOLUME --ref v5.12.3 --out pictures

Segment is seen with a result that can be stored as DICOM, and with a server; Fine-tune with a
case; all foldouts are open. Exit status 1 with a list of what is wider than it may be.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

MODULE = Path(__file__).resolve().parents[3] / "E2ENetSegmentation" / "E2ENetSegmentation.py"
MINUTES = 60_000
VOLUME = "sub-01_ses-followup_acq-mprage_run-01_desc-preproc_T1w"  # a name as people give them
SERVER = "https://segmentation.radiology.hospital.example:8443"


def parsed():
    parser = argparse.ArgumentParser()
    parser.add_argument("volume")
    parser.add_argument("--ref", default="v5.12.3")
    parser.add_argument("--out", default="pictures")
    parser.add_argument("--widths", type=int, nargs="+", default=(300, 600))
    parser.add_argument("--points", type=int, default=9, help="size of the font")
    return parser.parse_args()


def fill(h, widget, path):
    """Segment a volume that says it came from a database, make a case of it, open everything."""
    import slicer

    volume = slicer.util.loadVolume(path)
    volume.SetName(VOLUME)
    volume.SetAttribute("DICOM.instanceUIDs", "1.2.3")
    slicer.dicomDatabase = SimpleNamespace(isOpen=True, fileForInstance=lambda uid: path)
    segment, tune = widget.tabs["SegmentTab"], widget.tabs["FineTuneTab"]
    segment.inputSelector.setCurrentNode(volume)
    segment.segmentButton.click()
    h.wait_until(lambda: not widget.segment.running, 10 * MINUTES)
    assert segment.statusLabel.text.startswith("Done"), segment.statusLabel.text
    widget.tabs["AdvancedTab"].serverEdit.text = SERVER
    widget.segment.update()
    segment.serverCheckBox.checked = True
    tune.addAllCasesButton.click()
    tune.nameEdit.text = "Mine"
    widget.tabs["ModelsTab"].modelsTable.selectRow(0)
    explain = widget.tabs["ExplainTab"]
    explain.runSelector.setCurrentNode(widget.segment.result.segmentationNode)
    explain.nodeTable.setCurrentCell(1, 0)
    h.process_events(50)


def unfold(tab):
    """Open the foldouts, and give node selectors the width they have in Slicer."""
    from PySide6 import QtWidgets

    for part in vars(tab).values():
        if hasattr(part, "collapsed"):
            part.collapsed = False
        if hasattr(part, "sizeAdjustPolicy") and not isinstance(part, QtWidgets.QComboBox):
            for box in part.findChildren(QtWidgets.QComboBox):  # Slicer does, the harness does not
                policy = QtWidgets.QComboBox.SizeAdjustPolicy(int(part.sizeAdjustPolicy))
                QtWidgets.QComboBox.setSizeAdjustPolicy(box, policy)
                box.setMinimumWidth(60)  # whatever stands there while nothing is chosen


def widest(tab):
    """What asks for the most room, for whoever has to mend it."""
    from PySide6 import QtWidgets

    parts = [part for part in tab.findChildren(QtWidgets.QWidget) if part.objectName]
    parts.sort(key=lambda part: -part.minimumSizeHint().width())
    return [(part.objectName, part.minimumSizeHint().width()) for part in parts[:12]]


def main():
    options = parsed()
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    home = tempfile.TemporaryDirectory(prefix="e2enet-looks-")
    os.environ["XDG_DATA_HOME"] = home.name
    import slicer_harness

    h = slicer_harness.start(options.ref)
    from PySide6 import QtWidgets

    font = QtWidgets.QApplication.font()
    font.setPointSize(options.points)
    QtWidgets.QApplication.setFont(font)
    h.load_module(MODULE)
    widget = h.open_module("E2ENetSegmentation")
    fill(h, widget, os.path.abspath(options.volume))
    for tab in widget.tabs.values():
        unfold(tab)
    wide, frame, tabs = [], widget.parent, widget.ui.tabWidget
    frame.show()
    h.process_events(200)
    for index in range(tabs.count):
        tabs.currentIndex = index
        name = tabs.tabText(index).split(" ")[0].lower()
        for width in options.widths:
            h.process_events(20)
            # As high as it wants to be: Slicer's panel scrolls up and down.
            frame.resize(width, 400)
            h.process_events(20)
            height = max(frame.heightForWidth(frame.width), frame.sizeHint().height())
            frame.resize(width, height)
            h.process_events(50)
            h.screenshot(widget, out / f"{name}-{width}-{options.points}pt.png", (width, height))
        least = tabs.widget(index).minimumSizeHint().width()
        print(f"{name}: {options.points} points, at least {least} wide")
        if least > min(options.widths):
            wide.append(f"{name} is {least} wide because of {widest(tabs.widget(index))}")
    widget.cleanup()
    problems = [*slicer_harness.current().slot_errors, *wide]
    for problem in problems:
        print("PROBLEM", problem)
    return 1 if problems else 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)
