"""Every item of a volume sequence; the results are a sequence of their own in the same browser."""

from dataclasses import dataclass, fields

import slicer

from E2ENetSegmentationLib.i18n import tr as _
from E2ENetSegmentationLib.mrml import segmentations
from E2ENetSegmentationLib.refusal import Refused
from E2ENetSegmentationLib.segment.results import SegmentResult
from E2ENetSegmentationLib.segment.run import SegmentRequest


@dataclass
class SequenceRequest(SegmentRequest):
    """One item of a sequence.

    Attributes:
        sequence: The input vtkMRMLSequenceNode.
        index: The item.
        target: Shared by all items: {"node": the sequence of results, made with the first of them}.
    """

    sequence: object = None
    index: int = 0
    target: dict = None

    @property
    def title(self) -> str:
        return f"{self.sequence.GetName()} {self.sequence.GetNthIndexValue(self.index)}"

    def prepare(self) -> None:
        """Put a copy of the item into the scene; the voxels are shared."""
        scene, item = self.sequence.GetScene(), self.sequence.GetNthDataNode(self.index)
        if scene is None:
            raise Refused(_("The sequence was removed from the scene."))
        node = scene.CreateNodeByClass(item.GetClassName())
        node.UnRegister(None)
        node.SetName(self.title)
        node.SetHideFromEditors(True)
        node.SetSaveWithScene(False)
        node = scene.AddNode(node)
        node.CopyContent(item, False)
        self.volumeNodes = [node]

    def accept(self, result: SegmentResult) -> None:
        """Move the segmentation from the scene into the sequence of results."""
        scene, node = self.sequence.GetScene(), result.segmentationNode
        results = self.target.get("node")
        if results is None or results.GetScene() is None:
            name = _("{sequence} segmentation").format(sequence=self.sequence.GetName())
            results = scene.AddNewNodeByClass("vtkMRMLSequenceNode", scene.GenerateUniqueName(name))
            results.SetIndexName(self.sequence.GetIndexName())
            results.SetIndexUnit(self.sequence.GetIndexUnit())
            results.SetIndexType(self.sequence.GetIndexType())
            segmentations.rememberInputs(results, [self.sequence])
            self.target["node"] = results
        node.SetName(results.GetName())
        value = self.sequence.GetNthIndexValue(self.index)
        result.segmentationNode = results.SetDataNodeAtValue(node, value)
        result.sequence = results
        _remove(node)
        _synchronise(self.sequence, results)

    def dispose(self) -> None:
        """Take the copy of the item out of the scene again."""
        for node in self.volumeNodes:
            if node is not None and node.GetScene() is not None:
                _remove(node)


def jobs(sequence, template: SegmentRequest) -> list:
    """One request an item.

    Raises:
        Refused: The sequence is empty or holds no scalar volumes.
    """
    count = sequence.GetNumberOfDataNodes()
    if count == 0:
        raise Refused(_("{name} has no items.").format(name=sequence.GetName()))
    for index in range(count):
        if not sequence.GetNthDataNode(index).IsA("vtkMRMLScalarVolumeNode"):
            raise Refused(_("{name} holds no volumes.").format(name=sequence.GetName()))
    target = {}
    common = {f.name: getattr(template, f.name) for f in fields(SegmentRequest)}
    return [
        SequenceRequest(**common, sequence=sequence, index=index, target=target)
        for index in range(count)
    ]


def _synchronise(sequence, results) -> None:
    """Play the results together with the volumes, where a browser plays those."""
    for browser in _browsers(sequence):
        if not browser.IsSynchronizedSequenceNode(results, True):
            browser.AddSynchronizedSequenceNode(results)
            # An item that failed has no segmentation; that of the item before is not its own.
            browser.SetMissingItemMode(results, browser.MissingItemSetToDefault)


def played(results) -> tuple:
    """(segmentation, volume) of the scene in which a browser plays a sequence of results.

    Raises:
        Refused: No browser does.
    """
    sequence = results.GetNodeReference(segmentations.INPUT_ROLE)
    for browser in _browsers(sequence):
        nodes = browser.GetProxyNode(results), browser.GetProxyNode(sequence)
        if None not in nodes:
            return nodes
    raise Refused(
        _("No sequence browser plays {name} with its volumes.").format(name=results.GetName()),
        _("Add both to one in the module Sequences."),
    )


def _browsers(sequence) -> list:
    """What plays a sequence."""
    browsers = slicer.util.getNodesByClass("vtkMRMLSequenceBrowserNode")
    return [browser for browser in browsers if browser.IsSynchronizedSequenceNode(sequence, True)]


def _remove(node) -> None:
    """Remove a node with its display nodes."""
    scene = node.GetScene()
    for index in reversed(range(node.GetNumberOfDisplayNodes())):
        display = node.GetNthDisplayNode(index)
        if display is not None:
            scene.RemoveNode(display)
    scene.RemoveNode(node)
