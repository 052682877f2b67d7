"""The fusion flow as Slicer plots: which share of a node's connections each direction has.

Two charts: one node over the training, and all nodes at its end. A model without a history has the
second one only. Shares are in percent; those "by weight" are of the summed absolute weights.
"""

import slicer
import vtk

from E2ENetSegmentationLib.explain.nodes import (
    COLORS,
    directionName,
    identityOf,
    nodeName,
    nodeTitle,
)
from E2ENetSegmentationLib.i18n import tr as _

MARK = "E2ENet.Flow"


class FlowPlot:
    """Charts with their tables and series.

    Attributes:
        history: Chart of one node over the training, or None without a history.
        final: Chart of all nodes at the end.
    """

    def __init__(self, history, final, nodes) -> None:
        self.history, self.final = history, final
        self._nodes = nodes

    def chart(self, allNodes: bool = False):
        """The chart of the node, unless that of all nodes is wanted or there is no other."""
        return self.final if allNodes else self.history or self.final

    def nodes(self) -> list:
        """Every node that belongs to it."""
        return list(self._nodes)

    @classmethod
    def make(cls, model, flow: dict, node) -> "FlowPlot":
        """Charts of a flow; those of an earlier call for the same model and node are replaced.

        Args:
            model: The model.
            flow: As `flowOf` has it.
            node: (stage, level) that the history is of.
        """
        keys = _keys(model, node)
        for key in keys:
            _remove(key)
        made = []
        final = _finalChart(model, flow["records"][-1], keys[0], made)
        history = None
        if len(flow["records"]) > 1:
            history = _historyChart(model, flow["records"], node, keys[1], made)
        return cls(history, final, made)


def _keys(model, node) -> tuple:
    """Names the chart of all nodes and that of one node in the scene."""
    identity = identityOf(model)
    return identity, f"{identity}|{nodeName(node)}"


def _finalChart(model, record: dict, key: str, made: list):
    """Bars: each node's share of live connections by direction.

    Slicer's plots write no texts on an axis: a bar stands at its stage and a tenth a level, and its
    tooltip names the node.
    """
    names, places, columns = [], [], {direction: [] for direction in COLORS}
    for node in record["nodes"]:
        names.append(nodeTitle((node["stage"], node["level"])))
        places.append(node["stage"] + node["level"] / 10.0)
        for direction, values in columns.items():
            values.append(100.0 * (node["flows"].get(direction) or {}).get("share", 0.0))
    title = _("{model}: connections at the end of the training").format(model=model.title)
    axis = _("Part of the network (1.2: stage 1, level 2)")
    named = {directionName(direction): values for direction, values in columns.items()}
    table = _table(title, {_("Node"): names, axis: places, **named}, key, made)
    chart = _newChart(title, axis, key, made)
    for direction in columns:
        series = _series(chart, table, directionName(direction), direction, key, made)
        series.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeScatterBar)
        series.SetXColumnName(axis)
        series.SetLabelColumnName(_("Node"))
    return chart


def _historyChart(model, records, node, key: str, made: list):
    """Lines over the training: connections solid, kernel L1 dashed."""
    lines = {}
    steps = []
    for place, record in enumerate(records):
        found = [n for n in record["nodes"] if (n["stage"], n["level"]) == tuple(node)]
        if not found:
            continue
        at = record["epoch"] if record["epoch"] is not None else record["iteration"]
        steps.append(float(place if at is None else at))
        for direction, flow in found[0]["flows"].items():
            lines.setdefault((direction, "share"), []).append(100.0 * flow["share"])
            lines.setdefault((direction, "l1_share"), []).append(100.0 * flow["l1_share"])
    inEpochs = all(record["epoch"] is not None for record in records)
    axis = _("Epoch") if inEpochs else _("Iteration")
    title = _("{model}: connections into {node}").format(model=model.title, node=nodeTitle(node))
    names = {
        (direction, kind): directionName(direction)
        if kind == "share"
        else _("{direction}, by weight").format(direction=directionName(direction))
        for direction, kind in lines
    }
    columns = {axis: steps, **{names[one]: values for one, values in lines.items()}}
    table = _table(title, columns, key, made)
    chart = _newChart(title, axis, key, made)
    kinds = slicer.vtkMRMLPlotSeriesNode
    for one in lines:
        series = _series(chart, table, names[one], one[0], key, made)
        series.SetPlotType(kinds.PlotTypeScatter)
        series.SetXColumnName(axis)
        series.SetMarkerStyle(kinds.MarkerStyleNone)
        solid = one[1] == "share"
        series.SetLineStyle(kinds.LineStyleSolid if solid else kinds.LineStyleDash)
        series.SetLineWidth(3 if solid else 2)
    return chart


def _table(title: str, columns: dict, key: str, made: list):
    table = vtk.vtkTable()
    for name, values in columns.items():
        texts = bool(values) and isinstance(values[0], str)
        column = vtk.vtkStringArray() if texts else vtk.vtkDoubleArray()
        column.SetName(name)
        for value in values:
            column.InsertNextValue(value)
        table.AddColumn(column)
    node = _new("vtkMRMLTableNode", _("{title} (table)").format(title=title), key, made)
    node.SetAndObserveTable(table)
    return node


def _newChart(title: str, axis: str, key: str, made: list):
    chart = _new("vtkMRMLPlotChartNode", title, key, made)
    chart.SetTitle(title)
    chart.SetXAxisTitle(axis)
    chart.SetYAxisTitle(_("Share of its connections (%)"))
    # The legend has no other place than the upper right corner: leave it free.
    chart.SetYAxisRangeAuto(False)
    chart.SetYAxisRange(0.0, 100.0)
    chart.SetTitleFontSize(16)
    chart.SetLegendFontSize(12)
    return chart


def _series(chart, table, column: str, direction: str, key: str, made: list):
    series = _new("vtkMRMLPlotSeriesNode", column, key, made)
    series.SetAndObserveTableNodeID(table.GetID())
    series.SetYColumnName(column)
    series.SetColor(*COLORS[direction])
    chart.AddAndObservePlotSeriesNodeID(series.GetID())
    return series


def _new(kind: str, name: str, key: str, made: list):
    node = slicer.mrmlScene.AddNewNodeByClass(kind, name)
    node.SetAttribute(MARK, key)
    made.append(node)
    return node


def _ofKey(key: str) -> list:
    found = []
    for kind in ("vtkMRMLPlotChartNode", "vtkMRMLPlotSeriesNode", "vtkMRMLTableNode"):
        for index in range(slicer.mrmlScene.GetNumberOfNodesByClass(kind)):
            node = slicer.mrmlScene.GetNthNodeByClass(index, kind)
            if node.GetAttribute(MARK) == key:
                found.append(node)
    return found


def _remove(key: str) -> None:
    for node in _ofKey(key):
        slicer.mrmlScene.RemoveNode(node)
