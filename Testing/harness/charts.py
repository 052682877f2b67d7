"""A plot as a person sees it, without a window.

Slicer draws charts in qMRMLPlotView, which is Qt; what it sets on VTK's chart for a chart node and
its series is set here (title, axes, legend, fonts; bars, lines, index labels in tooltips only).
"""

from __future__ import annotations

import vtk
from slicer import vtkMRMLPlotSeriesNode as Series
from vtk.util.numpy_support import vtk_to_numpy

PENS = {
    Series.LineStyleSolid: vtk.vtkPen.SOLID_LINE,
    Series.LineStyleDash: vtk.vtkPen.DASH_LINE,
    Series.LineStyleDot: vtk.vtkPen.DOT_LINE,
}


def draw(chartNode, size=(760, 480)):
    """(rows, columns, RGB) of the chart, and VTK's chart."""
    view, chart = vtk.vtkContextView(), vtk.vtkChartXY()
    view.GetRenderWindow().SetOffScreenRendering(1)
    view.GetRenderWindow().SetSize(*size)
    view.GetScene().AddItem(chart)
    for index in range(chartNode.GetNumberOfPlotSeriesNodes()):
        _addPlot(chart, chartNode.GetNthPlotSeriesNode(index))
    brush = chart.GetBackgroundBrush()
    brush.SetColor(255, 253, 246, 255)
    chart.SetTitle(chartNode.GetTitle())
    chart.GetTitleProperties().SetFontSize(chartNode.GetTitleFontSize())
    chart.SetShowLegend(chartNode.GetLegendVisibility())
    chart.GetLegend().GetLabelProperties().SetFontSize(chartNode.GetLegendFontSize())
    axes = {
        vtk.vtkAxis.BOTTOM: (
            chartNode.GetXAxisTitle(),
            None if chartNode.GetXAxisRangeAuto() else chartNode.GetXAxisRange(),
        ),
        vtk.vtkAxis.LEFT: (
            chartNode.GetYAxisTitle(),
            None if chartNode.GetYAxisRangeAuto() else chartNode.GetYAxisRange(),
        ),
    }
    for place, (title, fixed) in axes.items():
        axis = chart.GetAxis(place)
        axis.SetTitle(title)
        axis.GetTitleProperties().SetFontSize(chartNode.GetAxisTitleFontSize())
        axis.GetLabelProperties().SetFontSize(chartNode.GetAxisLabelFontSize())
        axis.SetGridVisible(chartNode.GetGridVisibility())
        if fixed is not None:
            axis.SetBehavior(vtk.vtkAxis.FIXED)
            axis.SetUnscaledRange(fixed)
    view.GetRenderWindow().Render()
    grab = vtk.vtkWindowToImageFilter()
    grab.SetInput(view.GetRenderWindow())
    grab.ReadFrontBufferOff()
    grab.Update()
    width, height, _depth = grab.GetOutput().GetDimensions()
    pixels = vtk_to_numpy(grab.GetOutput().GetPointData().GetScalars())
    return pixels.reshape(height, width, -1)[::-1].copy(), chart


def _addPlot(chart, series) -> None:
    table = series.GetTableNode().GetTable()
    bars = series.GetPlotType() in (Series.PlotTypeBar, Series.PlotTypeScatterBar)
    plot = vtk.vtkPlotBar() if bars else vtk.vtkPlotLine()
    plot.SetWidth(series.GetLineWidth())
    plot.SetColorF(*series.GetColor())
    if not bars:
        plot.GetPen().SetLineType(PENS[series.GetLineStyle()])
        plot.SetMarkerStyle(0 if series.GetMarkerStyle() == Series.MarkerStyleNone else 4)
    label = series.GetLabelColumnName()
    plot.SetIndexedLabels(table.GetColumnByName(label) if label else None)
    y = series.GetYColumnName()
    plot.SetUseIndexForXSeries(not series.IsXColumnRequired())
    plot.SetInputData(table, series.GetXColumnName() if series.IsXColumnRequired() else y, y)
    plot.SetLabel(series.GetName())
    chart.AddPlot(plot)
