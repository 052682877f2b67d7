"""Loss and Dice of a training as a Slicer plot: a table, a series a curve, one chart."""

import slicer

from E2ENetSegmentationLib.i18n import tr as _

# Paul Tol's "bright" scheme: distinct for most colour vision.
COLORS = (
    (0.27, 0.47, 0.67),
    (0.93, 0.40, 0.47),
    (0.13, 0.53, 0.20),
    (0.80, 0.73, 0.27),
    (0.40, 0.80, 0.93),
    (0.67, 0.20, 0.47),
)
EPOCH = "Epoch"


class TrainingPlot:
    """Curves of one training.

    Args:
        title: Name of the training.
        holdsOut: Whether Dice is that of held-out cases; otherwise of training cases.
    """

    def __init__(self, title: str, holdsOut: bool = False) -> None:
        self.title, self.holdsOut = title, holdsOut
        self.table = None
        self.chart = None
        self.series = {}

    @property
    def exists(self) -> bool:
        """Whether its nodes are in the scene; closing the scene takes them away."""
        return self.chart is not None and self.chart.GetScene() is not None

    def update(self, rows) -> None:
        """Show these rows: {"epoch", "loss", "dice": {label: value or None}}."""
        if not self.exists:
            self._make()
        curves = {_("Loss"): [row.get("loss") for row in rows]}
        for label in dict.fromkeys(name for row in rows for name in row.get("dice") or {}):
            curves[_("Dice {label}").format(label=label)] = [
                (row.get("dice") or {}).get(label) for row in rows
            ]
        self._fill([row["epoch"] for row in rows], curves)
        for name in curves:
            if name not in self.series:
                self._addSeries(name)
        self.chart.Modified()

    def _make(self) -> None:
        scene = slicer.mrmlScene
        self.series = {}
        self.table = scene.AddNewNodeByClass(
            "vtkMRMLTableNode", _("{title} training").format(title=self.title)
        )
        self.chart = scene.AddNewNodeByClass(
            "vtkMRMLPlotChartNode", _("{title} curves").format(title=self.title)
        )
        self.chart.SetTitle(_("Training of {title}").format(title=self.title))
        self.chart.SetXAxisTitle(_("Epoch"))
        self.chart.SetYAxisTitle(
            _("Loss, Dice of held-out cases")
            if self.holdsOut
            else _("Loss, Dice of training cases")
        )

    def _fill(self, epochs, curves: dict) -> None:
        import vtk

        table = vtk.vtkTable()
        for name, values in {EPOCH: epochs, **curves}.items():
            column = vtk.vtkDoubleArray()
            column.SetName(name)
            for value in values:
                column.InsertNextValue(float("nan") if value is None else float(value))
            table.AddColumn(column)
        self.table.SetAndObserveTable(table)

    def _addSeries(self, name: str) -> None:
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLPlotSeriesNode", name)
        node.SetAndObserveTableNodeID(self.table.GetID())
        node.SetXColumnName(EPOCH)
        node.SetYColumnName(name)
        node.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeScatter)
        node.SetMarkerStyle(slicer.vtkMRMLPlotSeriesNode.MarkerStyleNone)
        node.SetColor(*COLORS[len(self.series) % len(COLORS)])
        self.chart.AddAndObservePlotSeriesNodeID(node.GetID())
        self.series[name] = node
