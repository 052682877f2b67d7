"""Everything the panels need of Slicer's windows. The only file of the Lib that knows Qt.

Tests hand the panels another host with the same methods.
"""

import slicer

from E2ENetSegmentationLib.mrml import segmentations

PREFIX = "E2ENetSegmentation/"
WARNING = (255, 213, 128)


class SlicerHost:
    """Timers, settings, dialogs, tables and other modules of the running Slicer."""

    def __init__(self) -> None:
        self.entered = False  # whether the module is the one that is shown
        self._kept = []  # PythonQt drops objects that only C++ refers to

    # Time and settings

    def timer(self, milliseconds: int, callback):
        """A stopped timer with start() and stop()."""
        import qt

        timer = qt.QTimer()
        timer.setInterval(milliseconds)
        timer.connect("timeout()", callback)
        self._kept.append(timer)
        return timer

    def setting(self, key: str, default=""):
        """A value that was kept between sessions, as text, or the default."""
        value = slicer.app.userSettings().value(PREFIX + key)
        return default if value is None else str(value)

    def setSetting(self, key: str, value) -> None:
        slicer.app.userSettings().setValue(PREFIX + key, str(value))

    # Dialogs

    def confirm(self, text: str) -> bool:
        return bool(slicer.util.confirmOkCancelDisplay(text))

    def progress(self, title: str):
        """A window above Slicer's with show(text, percent), `cancelled` and close()."""
        return _ProgressWindow(title)

    def openFile(self, title: str, pattern: str) -> str:
        import qt

        return qt.QFileDialog.getOpenFileName(slicer.util.mainWindow(), title, "", pattern) or ""

    def saveFile(self, title: str, name: str, pattern: str) -> str:
        import qt

        return qt.QFileDialog.getSaveFileName(slicer.util.mainWindow(), title, name, pattern) or ""

    def openFolder(self, title: str) -> str:
        import qt

        return qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), title) or ""

    # Widgets

    def volumeSelector(self, container, text: str, changed):
        """A volume selector with its label as a new row of a form; `changed` is its slot."""
        import qt

        selector = slicer.qMRMLNodeComboBox()
        selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
        selector.addEnabled = False
        selector.removeEnabled = False
        selector.noneEnabled = True
        selector.setMRMLScene(slicer.mrmlScene)
        selector.connect("currentNodeChanged(vtkMRMLNode*)", changed)
        label = qt.QLabel(text)
        container.layout().addRow(label, selector)
        self._kept += [selector, label]
        return selector

    def clearForm(self, container) -> None:
        """Take all rows out of a form."""
        layout = container.layout()
        while layout.count():
            widget = layout.takeAt(0).widget()
            if widget is not None:
                widget.hide()
                widget.setParent(None)

    def fillTable(
        self,
        table,
        rows,
        *,
        editable=(),
        checkable=(),
        stretch=(0,),
        choices=None,
        marked=(),
    ) -> None:
        """Show rows of texts; a bool in a checkable column is a check box.

        Columns in `stretch` share the width that the others leave; rows in `marked` stand out.
        `choices` has the texts that are offered in a column; another one can be typed.
        """
        import qt

        blocked = table.blockSignals(True)
        table.setRowCount(len(rows))
        for r, row in enumerate(rows):
            for c, value in enumerate(row):
                item = qt.QTableWidgetItem("" if c in checkable else str(value))
                flags = qt.Qt.ItemIsSelectable | qt.Qt.ItemIsEnabled
                if c in checkable:
                    flags = flags | qt.Qt.ItemIsUserCheckable
                    item.setCheckState(qt.Qt.Checked if value else qt.Qt.Unchecked)
                if c in editable:
                    flags = flags | qt.Qt.ItemIsEditable
                if r in marked:  # both colours, for a dark theme's text is light
                    item.setBackground(qt.QBrush(qt.QColor(*WARNING)))
                    item.setForeground(qt.QBrush(qt.QColor(0, 0, 0)))
                item.setFlags(flags)
                item.setToolTip(item.text())
                table.setItem(r, c, item)
                if c in (choices or {}):
                    table.setCellWidget(r, c, self._choice(table, r, c, choices[c]))
        table.blockSignals(blocked)
        header = table.horizontalHeader()
        for c in range(table.columnCount):
            mode = qt.QHeaderView.Stretch if c in stretch else qt.QHeaderView.ResizeToContents
            header.setSectionResizeMode(c, mode)
        table.verticalHeader().setSectionResizeMode(qt.QHeaderView.ResizeToContents)

    def fillLattice(self, table, rows, columns, cells: dict) -> None:
        """A table of cells of which those in `cells` can be chosen, the others cannot.

        Args:
            rows: Titles of the rows.
            columns: Titles of the columns.
            cells: (row, column) -> text and tool tip.
        """
        import qt

        blocked = table.blockSignals(True)
        table.setRowCount(len(rows))
        table.setColumnCount(len(columns))
        table.setVerticalHeaderLabels(list(rows))
        table.setHorizontalHeaderLabels(list(columns))
        for r in range(len(rows)):
            for c in range(len(columns)):
                text, tip = cells.get((r, c), ("", ""))
                item = qt.QTableWidgetItem(text)
                if (r, c) in cells:
                    item.setFlags(qt.Qt.ItemIsSelectable | qt.Qt.ItemIsEnabled)
                else:
                    item.setFlags(qt.Qt.NoItemFlags)
                    item.setBackground(table.palette.window())
                item.setTextAlignment(qt.Qt.AlignCenter)
                item.setToolTip(tip)
                table.setItem(r, c, item)
        table.blockSignals(blocked)
        table.horizontalHeader().setSectionResizeMode(qt.QHeaderView.Stretch)
        table.verticalHeader().setSectionResizeMode(qt.QHeaderView.ResizeToContents)

    def _choice(self, table, row: int, column: int, texts):
        """A combo box over a cell; what is chosen or typed becomes the cell's text."""
        import qt

        box = qt.QComboBox()
        box.editable = True
        for text in texts:
            box.addItem(text)
        box.currentText = table.item(row, column).text()
        box.lineEdit().cursorPosition = 0  # where it is narrow the beginning tells more
        box.connect(
            "currentTextChanged(QString)", lambda text: table.item(row, column).setText(text)
        )
        return box

    def setTableText(self, table, row: int, column: int, text: str) -> None:
        """Change a cell; tells nobody."""
        blocked = table.blockSignals(True)
        table.item(row, column).setText(text)
        table.blockSignals(blocked)

    def tableText(self, table, row: int, column: int) -> str:
        item = table.item(row, column)
        return item.text() if item is not None else ""

    def tableChecked(self, table, row: int, column: int) -> bool:
        import qt

        item = table.item(row, column)
        return item is not None and int(item.checkState()) == int(qt.Qt.Checked)

    def showMarkdown(self, browser, text: str, folder) -> None:
        """Show a text, with the pictures that lie in a folder."""
        browser.searchPaths = [str(folder)]
        browser.setMarkdown(text)

    # Other parts of Slicer

    def processEvents(self) -> None:
        slicer.app.processEvents()

    def showVolume(self, volumeNode) -> None:
        """Bring a volume to the slice views unless they show it already."""
        segmentations.show(volumeNode, slicer.app.applicationLogic())

    def jumpTo(self, point) -> None:
        """Bring every slice view to a point (world RAS), and the 3D view to what it shows."""
        segmentations.jumpTo(point)
        manager = slicer.app.layoutManager()
        widget = manager.threeDWidget(0) if manager and manager.threeDViewCount else None
        if widget is not None:
            widget.threeDView().resetCamera(False, True, True)  # as far away as it is large

    def loadSample(self, name: str):
        """A volume of Sample Data by name."""
        import SampleData

        return SampleData.SampleDataLogic().downloadSample(name)

    @property
    def dicomDatabase(self):
        """Slicer's DICOM database; None where Slicer was built without DICOM."""
        return getattr(slicer, "dicomDatabase", None)

    def storeDicom(self, path: str) -> None:
        """Copy a DICOM file into the database."""
        import ctk

        indexer = ctk.ctkDICOMIndexer()
        indexer.addFile(slicer.dicomDatabase, path, True)
        indexer.waitForImportFinished()

    def loadVolume(self, path: str):
        """An image file as a volume of the scene."""
        return slicer.util.loadVolume(path)

    def openStatistics(self, segmentationNode, volumeNode) -> None:
        """Segment Statistics with both nodes chosen."""
        slicer.util.selectModule("SegmentStatistics")
        widget = getattr(slicer.modules, "SegmentStatisticsWidget", None)
        if widget is not None:
            widget.segmentationSelector.setCurrentNode(segmentationNode)
            widget.scalarSelector.setCurrentNode(volumeNode)

    def openEditor(self, segmentationNode, volumeNode) -> None:
        """Segment Editor with both nodes chosen."""
        slicer.util.selectModule("SegmentEditor")
        representation = slicer.modules.segmenteditor.widgetRepresentation()
        editor = representation.self().editor
        editor.setSegmentationNode(segmentationNode)
        editor.setSourceVolumeNode(volumeNode)

    def showPlot(self, chartNode) -> None:
        """A layout with a plot view that shows the chart."""
        slicer.modules.plots.logic().ShowChartInLayout(chartNode)


class _ProgressWindow:
    """A bar with Cancel; while it is open nothing else can be clicked."""

    def __init__(self, title: str) -> None:
        import qt

        self._dialog = slicer.util.createProgressDialog(
            windowTitle=title, labelText=title, value=0, maximum=100
        )
        self._dialog.windowModality = qt.Qt.ApplicationModal
        self._dialog.autoClose = False
        self._dialog.autoReset = False

    def show(self, text: str, percent: int) -> None:
        self._dialog.labelText = text
        self._dialog.value = percent

    @property
    def cancelled(self) -> bool:
        return bool(self._dialog.wasCanceled)

    def close(self) -> None:
        self._dialog.close()
