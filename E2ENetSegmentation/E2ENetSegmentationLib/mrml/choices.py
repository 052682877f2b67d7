"""What is chosen belongs to one volume: when one choice changes, the others follow at once."""

import slicer
import vtk

from E2ENetSegmentationLib.mrml import segmentations


class Choices:
    """Keeps the parameter node of one piece; widgets and panels only ever see the whole of it.

    Make it before any widget is connected: observers are called in the order they came, so that
    everything below has followed before a widget is told of what changed. Nothing else may answer
    one choice with another; a widget that did would be overruled by the parameter node, which still
    has the old one (that is how the previous patient came back).

    Args:
        parameters: The module's parameter node, wrapped.
    """

    def __init__(self, parameters) -> None:
        self._parameters = parameters
        self._seen = self._now()
        self._tag = parameters.AddObserver(vtk.vtkCommand.ModifiedEvent, self._follow)

    def release(self) -> None:
        """Let go of the parameter node."""
        self._parameters.RemoveObserver(self._tag)

    def _now(self) -> tuple:
        """By their IDs: a node that is kept here would not be freed."""
        chosen = (self._parameters.inputVolume, self._parameters.explainedSegmentation)
        return tuple(nodeId(node) for node in chosen)

    def _follow(self, _caller=None, _event=None) -> None:
        (volumeBefore, runBefore), (_volumeNow, runNow) = self._seen, self._now()
        if self._seen == self._now():
            return
        if slicer.mrmlScene.IsBatchProcessing():  # it is being loaded, with what was chosen then
            self._seen = self._now()
            return
        parameters = self._parameters
        with slicer.util.NodeModify(parameters.parameterNode):
            extra = []
            if runNow and runNow != runBefore:  # it knows what it was made from
                inputs, _model = segmentations.origin(parameters.explainedSegmentation)
                if inputs:
                    parameters.inputVolume, extra = inputs[0], inputs[1:]
                    parameters.extraVolumes = extra
            if self._now()[0] != volumeBefore:
                volume = parameters.inputVolume
                parameters.extraVolumes = extra
                parameters.outputSegmentation = segmentations.latestOf(volume)
                for name in ("roi", "explainedSegmentation"):
                    if not segmentations.isOf(getattr(parameters, name), volume):
                        setattr(parameters, name, None)
            self._seen = self._now()


def nodeId(node) -> str:
    return node.GetID() if node is not None else ""
