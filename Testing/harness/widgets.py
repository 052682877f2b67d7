"""Fakes of the widgets of a .ui file, with PythonQt's interface: an unknown name is an error.

The table below is written by hand from Qt's, CTK's and Slicer's headers (5.10 to 5.12): what is not
in it does not exist for a panel, neither property, signal nor method.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

COMMON = {
    "enabled": True,
    "visible": True,
    "toolTip": "",
    "text": None,
    "minimumSize": None,
    "maximumSize": None,
    "sizePolicy": None,
    "styleSheet": "",
}
BUTTON = (
    {"text": "", "checkable": False, "checked": False},
    ("clicked()", "clicked(bool)", "toggled(bool)"),
    ("click",),
)
NODE_BOX = (
    {
        "nodeTypes": (),
        "noneEnabled": False,
        "noneDisplay": "None",
        "addEnabled": True,
        "removeEnabled": True,
        "editEnabled": False,
        "renameEnabled": False,
        "sizeAdjustPolicy": 0,
    },
    (
        "currentNodeChanged(vtkMRMLNode*)",
        "currentNodeChanged(bool)",
        "nodeActivated(vtkMRMLNode*)",
    ),
    ("currentNode", "setCurrentNode", "setMRMLScene"),
)
SPIN = (
    {
        "value": 0,
        "minimum": 0,
        "maximum": 99,
        "singleStep": 1,
        "suffix": "",
        "specialValueText": "",
    },
    (),
    (),
)
CLASSES = {  # class: (properties with defaults, signals, methods)
    "QWidget": ({}, (), ()),
    "QLabel": ({"text": "", "textFormat": 0, "wordWrap": False}, (), ()),
    "QPushButton": BUTTON,
    "QCheckBox": BUTTON,
    "QComboBox": (
        {
            "currentIndex": -1,
            "currentText": "",
            "count": 0,
            "sizeAdjustPolicy": 0,
            "minimumContentsLength": 0,
        },
        ("currentIndexChanged(int)",),
        ("addItem", "clear", "blockSignals"),
    ),
    "QLineEdit": (
        {"text": "", "placeholderText": "", "echoMode": 0},
        ("textChanged(QString)",),
        (),
    ),
    "QSpinBox": (SPIN[0], ("valueChanged(int)",), ("setValue",)),
    "QDoubleSpinBox": (
        {**SPIN[0], "decimals": 2, "value": 0.0},
        ("valueChanged(double)",),
        ("setValue",),
    ),
    "ctkSliderWidget": (
        {"value": 0.0, "minimum": 0.0, "maximum": 99.0, "singleStep": 1.0, "decimals": 0}
        | {"suffix": ""},
        ("valueChanged(double)",),
        (),
    ),
    "QProgressBar": ({"value": 0, "minimum": 0, "maximum": 100}, (), ()),
    "QPlainTextEdit": (
        {"plainText": "", "readOnly": False, "maximumBlockCount": 0},
        (),
        ("appendPlainText", "clear"),
    ),
    "QTextBrowser": (
        {"html": "", "plainText": "", "openExternalLinks": False},
        (),
        ("setMarkdown",),
    ),
    "QTabWidget": ({"currentIndex": 0}, ("currentChanged(int)",), ("addTab",)),
    "QTableWidget": (
        {
            "rowCount": 0,
            "columnCount": 0,
            "editTriggers": 0,
            "selectionBehavior": 0,
            "selectionMode": 0,
            "tabKeyNavigation": True,
            "cornerButtonEnabled": True,
            "horizontalScrollBarPolicy": 0,
            "verticalScrollBarPolicy": 0,
            "sizeAdjustPolicy": 0,
        },
        (
            "itemSelectionChanged()",
            "itemChanged(QTableWidgetItem*)",
            "currentCellChanged(int,int,int,int)",
        ),
        ("currentRow", "currentColumn", "selectRow", "setCurrentCell", "blockSignals"),
    ),
    "ctkCollapsibleButton": ({"text": "", "collapsed": False}, ("contentsCollapsed(bool)",), ()),
    "ctkPathLineEdit": ({"currentPath": "", "filters": 0}, ("currentPathChanged(QString)",), ()),
    "qMRMLWidget": ({}, ("mrmlSceneChanged(vtkMRMLScene*)",), ("setMRMLScene",)),
    "qMRMLNodeComboBox": NODE_BOX,
    "qMRMLCheckableNodeComboBox": (
        NODE_BOX[0],
        (*NODE_BOX[1], "checkedNodesChanged()"),
        (*NODE_BOX[2], "checkedNodes", "setCheckState"),
    ),
}
DYNAMIC = {"SlicerParameterName"}  # read by parameterNodeWrapper


class FakeWidget:
    """One widget. Attributes are Qt properties; `connect` knows the class's signals only."""

    def __init__(self, cls: str, name: str) -> None:
        properties, signals, methods = CLASSES[cls]
        common = {k: v for k, v in COMMON.items() if k != "text"}
        self.__dict__.update(
            _cls=cls,
            _name=name,
            _props={**common, **properties},
            _slots={signal: [] for signal in signals},
            _methods=methods,
            _node=None,
            _items=[],
            _rows=[],
            _marked=[],
            _row=-1,
            _column=-1,
            _cells={},
            _checked=[],
            _blocked=False,
        )

    def __getattr__(self, attribute):
        if attribute in self._props:
            return self._props[attribute]
        if attribute in self._methods:
            return getattr(self, "_m_" + attribute)
        raise AttributeError(f"{self._cls} {self._name} has no attribute {attribute}")

    def __setattr__(self, attribute, value):
        if attribute.startswith("_"):
            self.__dict__[attribute] = value
            return
        if attribute not in self._props:
            raise AttributeError(f"{self._cls} {self._name} has no property {attribute}")
        before = self._props[attribute]
        if isinstance(before, str) and not isinstance(value, str):
            raise TypeError(f"{self._cls} {self._name}.{attribute} takes a text, not {value!r}")
        self._props[attribute] = value
        if before == value:
            return
        if attribute == "currentIndex":
            self._props["currentText"] = self._items[value] if 0 <= value < len(self._items) else ""
            self._emit("currentIndexChanged(int)", value)
        elif attribute == "checked":
            self._emit("toggled(bool)", value)
        elif attribute == "currentPath":
            self._emit("currentPathChanged(QString)", value)
        elif attribute == "text" and self._cls == "QLineEdit":
            self._emit("textChanged(QString)", value)
        elif attribute == "value":
            for signal in ("valueChanged(int)", "valueChanged(double)"):
                if signal in self._slots:
                    self._emit(signal, value)

    def connect(self, signal, slot):
        self._slots[signal].append(slot)  # KeyError: no such signal

    def _emit(self, signal, *args):
        """Call slots as PythonQt does: with as many arguments as each can take."""
        if self._blocked:
            return
        for slot in list(self._slots.get(signal, ())):
            code = getattr(slot, "__code__", None) or slot.__func__.__code__
            count = code.co_argcount - (1 if hasattr(slot, "__self__") else 0)
            slot(*(args if code.co_flags & 4 else args[:count]))

    # Buttons

    def _m_click(self):
        if not self.enabled:
            raise AssertionError(f"{self._name} is disabled: a person cannot click it")
        if self._cls == "QCheckBox":
            self.checked = not self.checked
        self._emit("clicked()")
        self._emit("clicked(bool)", self.checked)

    def _m_blockSignals(self, blocked):
        before, self._blocked = self._blocked, blocked
        return before

    # Combo boxes

    def _m_clear(self):
        self._items = []
        if self._cls == "QPlainTextEdit":
            self._props["plainText"] = ""
            return
        self._props.update(count=0)
        self.currentIndex = -1

    def _m_addItem(self, text, data=None):
        self._items.append(text)
        self._props["count"] = len(self._items)
        if len(self._items) == 1:
            self.currentIndex = 0

    # Spin boxes

    def _m_setValue(self, value):
        self.value = value

    # Texts

    def _m_appendPlainText(self, text):
        self._props["plainText"] += ("\n" if self._props["plainText"] else "") + text

    def _m_setMarkdown(self, text):
        self._props["plainText"] = text

    # Tables: filled through the host, looked at and selected here

    def _m_currentRow(self):
        return self._row

    def _m_selectRow(self, row):
        self._row = row
        self._emit("itemSelectionChanged()")

    def _m_currentColumn(self):
        return self._column

    def _m_setCurrentCell(self, row, column):
        if (row, column) not in self._cells:
            raise AssertionError(f"{self._name} has no cell {row}, {column} to choose")
        before = (self._row, self._column)
        self._row, self._column = row, column
        if before != (row, column):
            self._emit("currentCellChanged(int,int,int,int)", row, column, *before)

    # Tabs

    def _m_addTab(self, widget, title):
        self._items.append((widget, title))
        return len(self._items) - 1

    # MRML

    def _m_currentNode(self):
        if self._node is not None and self._node.GetScene() is None:
            self._node = None  # the real one notices that the node went away
        return self._node

    def _m_setCurrentNode(self, node):
        if node is not self._m_currentNode():
            self._node = node
            self._emit("currentNodeChanged(vtkMRMLNode*)", node)

    def _m_setMRMLScene(self, scene):
        pass

    def _m_checkedNodes(self):
        return tuple(self._checked)

    def _m_setCheckState(self, node, state):
        if node in self._checked:
            self._checked.remove(node)
        if state:
            self._checked.append(node)
        self._emit("checkedNodesChanged()")


def _value(element: ET.Element):
    if element.tag == "bool":
        return element.text == "true"
    if element.tag == "number":
        return int(element.text)
    if element.tag == "double":
        return float(element.text)
    if element.tag == "stringlist":
        return tuple(child.text for child in element)
    return element.text or ""


class Ui:
    """The named widgets of a .ui file as attributes, like `slicer.util.childWidgetVariables`."""

    def __init__(self, path: Path) -> None:
        self.parameterNames = {}
        root = ET.parse(path).getroot()
        for description in root.iter("widget"):
            widget = FakeWidget(description.get("class"), description.get("name"))
            for entry in description.findall("property"):
                name = entry.get("name")
                if name in DYNAMIC:
                    self.parameterNames[widget._name] = entry[0].text
                elif name in widget._props:
                    widget._props[name] = _value(entry[0])
                else:
                    raise AttributeError(f"{path}: {widget._cls} has no property {name}")
            if hasattr(self, widget._name):
                raise AttributeError(f"{path}: two widgets are called {widget._name}")
            setattr(self, widget._name, widget)
        for connection in root.iter("connection"):
            for end in ("sender", "receiver"):
                if not hasattr(self, connection.findtext(end)):
                    raise AttributeError(f"{path}: no widget {connection.findtext(end)}")
