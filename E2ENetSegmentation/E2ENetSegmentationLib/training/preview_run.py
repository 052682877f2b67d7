"""What a training has come to, on one of its cases: its checkpoint as a model, then a segmentation.

The training is not touched; the engine reads its checkpoint, which is replaced in one step.
"""

import slicer

from E2ENetSegmentationLib.engine.job import Job
from E2ENetSegmentationLib.engine.run import EngineRun
from E2ENetSegmentationLib.i18n import tr as _
from E2ENetSegmentationLib.mrml.segmentations import PREVIEW
from E2ENetSegmentationLib.refusal import Refused
from E2ENetSegmentationLib.segment.run import SegmentRequest, SegmentRun


class PreviewRun(Job):
    """Exports the last checkpoint and segments a case with it; the scene changes only on success.

    Args:
        training: A `Training` with a checkpoint.
        case: Name of one of `training.cases()`.
        store: `ModelStore`.
        onEvent: Called with each event of the engine.

    Attributes:
        result: A `SegmentResult` once it is done.
        epoch: Finished epochs of the model.
    """

    def __init__(self, training, case: str, store, onEvent=None) -> None:
        super().__init__(onEvent)
        self.training, self.case, self.store = training, case, store
        self.epoch = 0
        self._exported = []  # what the export said beside its events
        self._loaded = []  # volumes that were not in the scene

    @property
    def lines(self) -> list:
        return [*self._exported, *super().lines]

    @property
    def title(self) -> str:
        """What a person calls the case."""
        return self.training.titles.get(self.case, self.case)

    def _begin(self) -> None:
        if not self.training.hasCheckpoint:
            raise Refused(_("There is no checkpoint yet."))
        self._ask(["export", str(self.training.runFolder), str(self._model)])

    def _answered(self) -> bool:
        if isinstance(self._engine, EngineRun):
            self.epoch = int(self._engine.result.get("epoch", 0))
            segment = SegmentRun(self._request(), self._onEvent)
            self._exported, self._engine = self._engine.lines, segment
            segment.start()
            return True
        self.result = self._engine.result
        name = _("{case} preview epoch {n}").format(case=self.title, n=self.epoch)
        self.result.segmentationNode.SetName(name)
        self.result.segmentationNode.SetAttribute(PREVIEW, "1")
        if self._loaded:  # they serve the next preview too
            self.training.volumes[self.case], self._loaded = self._loaded, []
        return False

    @property
    def _model(self):
        return self._folder / f"{self.training.bundle.name}-preview"

    def _request(self) -> SegmentRequest:
        model = self.store.open(self._model)
        # While the training holds the graphics card's memory, another process could run it out.
        device = "cpu" if self.training.running else self.training.parameters.device
        return SegmentRequest(self._volumes(), model, device=device, show3D=False)

    def _volumes(self) -> list:
        """The case's nodes; from the dataset where they are no longer, or never were, in the scene.

        Raises:
            Refused: A file cannot be read.
        """
        known = self.training.volumes.get(self.case)
        if known and all(node.GetScene() is not None for node in known):
            return known
        nodes = []
        for channel, path in enumerate(self.training.images(self.case)):
            name = self.title if not channel else f"{self.title} {channel + 1}"
            node = slicer.modules.volumes.logic().AddArchetypeVolume(str(path), name)
            if node is None:
                raise Refused(_("{path} cannot be read.").format(path=path))
            self._loaded.append(node)
            nodes.append(node)
        return nodes

    def _clean(self) -> None:
        """The volumes that were loaded for a run that failed go as well."""
        super()._clean()
        for node in self._loaded:
            remove(node)
        self._loaded = []


def remove(node) -> None:
    """Take a node and its display out of the scene, if they are still there."""
    for one in (node.GetDisplayNode(), node):
        if one is not None and one.GetScene() is not None:
            one.GetScene().RemoveNode(one)
