"""The module's parameter node in tests: a real MRML node, bound to the fakes as Slicer binds it.

Slicer's parameterNodeWrapper is not in the wheel. What matters of it is kept: a widget's change is
written and told to all observers in the order they came; an observer writes every parameter into
every bound widget, and what the widgets say meanwhile is not written back. The acceptance runs use
the real one.
"""

from __future__ import annotations

import ast
from pathlib import Path

import slicer
import vtk

SCRIPT = Path(__file__).resolve().parents[2] / "E2ENetSegmentation" / "E2ENetSegmentation.py"
SIGNALS = {
    "qMRMLNodeComboBox": "currentNodeChanged(vtkMRMLNode*)",
    "QCheckBox": "toggled(bool)",
    "QLineEdit": "textChanged(QString)",
    "ctkPathLineEdit": "currentPathChanged(QString)",
}
PROPERTIES = {"QCheckBox": "checked", "QLineEdit": "text", "ctkPathLineEdit": "currentPath"}


def declared() -> dict:
    """Name -> (type, default) of the module's own parameter node class."""
    tree = ast.parse(SCRIPT.read_text(encoding="utf-8"))
    body = next(
        n.body
        for n in tree.body
        if isinstance(n, ast.ClassDef) and n.name == "E2ENetSegmentationParameterNode"
    )
    entries = [entry for entry in body if isinstance(entry, ast.AnnAssign)]
    return {
        e.target.id: (ast.unparse(e.annotation), ast.literal_eval(e.value) if e.value else None)
        for e in entries
    }


class Parameters:
    """Attributes are the declared parameters."""

    def __init__(self, scene) -> None:
        blank = {"str": "", "bool": False, "pathlib.Path": ""}
        node = scene.AddNewNodeByClass("vtkMRMLScriptedModuleNode", "Parameters")
        self.__dict__.update(parameterNode=node, _plain={}, _bound=[], _updating=False)
        for name, (kind, default) in declared().items():
            if not kind.startswith("vtkMRML") and not kind.startswith("list[vtkMRML"):
                empty = {} if kind.startswith("dict") else []
                self._plain[name] = blank.get(kind, empty) if default is None else default

    def __getattr__(self, name):
        if name in self._plain:
            return self._plain[name]
        kind = declared()[name][0]
        if kind.startswith("list"):
            count = int(self.parameterNode.GetParameter(f"{name}.len") or 0)
            return [self.parameterNode.GetNodeReference(f"{name}.{i}") for i in range(count)]
        return self.parameterNode.GetNodeReference(name)

    def __setattr__(self, name, value) -> None:
        node = self.parameterNode
        with slicer.util.NodeModify(node):
            if name in self._plain:
                if self._plain[name] != value:
                    self._plain[name] = value
                    node.Modified()
            elif declared()[name][0].startswith("list"):
                for index, entry in enumerate(value):
                    self._refer(f"{name}.{index}", entry)
                node.SetParameter(f"{name}.len", str(len(value)))
            else:
                self._refer(name, value)

    def _refer(self, name, value) -> None:
        self.parameterNode.SetNodeReferenceID(name, value.GetID() if value is not None else None)

    def AddObserver(self, event, callback):
        return self.parameterNode.AddObserver(event, callback)

    def RemoveObserver(self, tag) -> None:
        self.parameterNode.RemoveObserver(tag)

    def connectGui(self, ui) -> None:
        """Bind the widgets that the .ui file says."""
        for widgetName, name in ui.parameterNames.items():
            widget = getattr(ui, widgetName)
            self._bound.append((name, widget))
            self._write(name, widget)
            widget.connect(SIGNALS[widget._cls], self._told(name, widget))
        self.AddObserver(vtk.vtkCommand.ModifiedEvent, self._update_widgets)

    def _told(self, name, widget):
        def callback():
            if not self._updating:
                is_node = widget._cls == "qMRMLNodeComboBox"
                value = widget.currentNode() if is_node else widget._props[PROPERTIES[widget._cls]]
                setattr(self, name, value)

        return callback

    def _write(self, name, widget) -> None:
        if widget._cls == "qMRMLNodeComboBox":
            widget.setCurrentNode(getattr(self, name))
        else:
            setattr(widget, PROPERTIES[widget._cls], getattr(self, name))

    def _update_widgets(self, _caller, _event) -> None:
        if self._updating:
            return
        self.__dict__["_updating"] = True
        for name, widget in self._bound:
            self._write(name, widget)
        self.__dict__["_updating"] = False
