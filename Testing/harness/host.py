"""The panels' host in tests: time stands still until a test pumps it, dialogs answer as told."""

from __future__ import annotations

import time

from .widgets import FakeWidget


class FakeTimer:
    def __init__(self, callback) -> None:
        self.callback, self.active = callback, False

    def start(self) -> None:
        self.active = True

    def stop(self) -> None:
        self.active = False


class FakeProgress:
    """The window of an installation: Cancel is clicked once `patience` looks are over."""

    def __init__(self, title, patience) -> None:
        self.title, self.shown, self.open, self._left = title, [], True, patience

    def show(self, text, percent):
        self.shown.append((text, percent))

    @property
    def cancelled(self):
        self._left -= 1
        return self._left < 0

    def close(self):
        self.open = False


class FakeHost:
    """Same methods as `E2ENetSegmentationLib.ui.host.SlicerHost`."""

    def __init__(self) -> None:
        self.entered = True
        self.timers = []
        self.settings = {}
        self.answers = []  # for the next dialogs
        self.asked = []
        self.opened = []
        self.shown = []
        self.jumps = []
        self.charts = []
        self.windows = []
        self.patience = 10**9
        self.dicomDatabase = None

    def timer(self, milliseconds, callback):
        self.timers.append(FakeTimer(callback))
        return self.timers[-1]

    def pump(self, until, seconds: float = 600.0) -> None:
        """Let time pass: fire the running timers until `until()`.

        Raises:
            AssertionError: It took longer than `seconds`.
        """
        end = time.monotonic() + seconds
        while not until():
            if time.monotonic() > end:
                raise AssertionError("nothing happened in time")
            self.tick()
            time.sleep(0.02)

    def tick(self) -> None:
        """Fire the running timers; Qt does so too in the event loop of a dialog or an import."""
        for timer in list(self.timers):
            if timer.active:
                timer.callback()

    def setting(self, key, default=""):
        return self.settings.get(key, default)

    def setSetting(self, key, value):
        self.settings[key] = str(value)

    def confirm(self, text):
        self.asked.append(text)
        self.tick()
        return self.answers.pop(0) if self.answers else False

    def progress(self, title):
        self.windows.append(FakeProgress(title, self.patience))
        return self.windows[-1]

    def openFile(self, title, pattern):
        return self.answers.pop(0) if self.answers else ""

    saveFile = lambda self, title, name, pattern: self.openFile(title, pattern)  # noqa: E731
    openFolder = lambda self, title: self.openFile(title, "")  # noqa: E731

    def volumeSelector(self, container, text, changed):
        selector = FakeWidget("qMRMLNodeComboBox", text)
        selector.connect("currentNodeChanged(vtkMRMLNode*)", changed)
        container._items.append((text, selector))
        return selector

    def clearForm(self, container):
        container._items = []

    def fillTable(
        self, table, rows, *, editable=(), checkable=(), stretch=(0,), choices=None, marked=()
    ):
        table._rows = [list(row) for row in rows]
        table._marked = list(marked)
        table._props["rowCount"] = len(rows)
        table._row = min(table._row, len(rows) - 1)

    def fillLattice(self, table, rows, columns, cells):
        table._rows, table._items, table._cells = list(rows), list(columns), dict(cells)
        table._props.update(rowCount=len(rows), columnCount=len(columns))
        if (table._row, table._column) not in cells:
            table._row = table._column = -1

    def setTableText(self, table, row, column, text):
        table._rows[row][column] = text

    def tableText(self, table, row, column):
        return str(table._rows[row][column])

    def tableChecked(self, table, row, column):
        return bool(table._rows[row][column])

    def showMarkdown(self, browser, text, folder):
        browser.setMarkdown(text)

    def processEvents(self):
        pass

    def showVolume(self, volumeNode):
        self.shown.append(volumeNode)

    def jumpTo(self, point):
        from E2ENetSegmentationLib.mrml import segmentations

        self.jumps.append(point)
        segmentations.jumpTo(point)

    def loadSample(self, name):
        self.opened.append(("SampleData", name))
        return None

    def storeDicom(self, path):
        self.tick()
        self.dicomDatabase.addFile(path)

    def loadVolume(self, path):
        self.opened.append(("volume", path))

    def openStatistics(self, segmentationNode, volumeNode):
        self.opened.append(("SegmentStatistics", segmentationNode, volumeNode))

    def openEditor(self, segmentationNode, volumeNode):
        self.opened.append(("SegmentEditor", segmentationNode, volumeNode))

    def showPlot(self, chartNode):
        self.charts.append(chartNode)
