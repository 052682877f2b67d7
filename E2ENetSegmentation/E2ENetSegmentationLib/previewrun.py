"""What a training has come to, on one of its cases: its checkpoint as a model, then a segmentation.

The training is not touched; the engine reads its checkpoint, which is replaced in one step.
"""

import shutil

import slicer

from . import paths
from .enginerun import EngineRun
from .i18n import tr as _
from .refusal import Refused
from .segmentrun import SegmentRequest, SegmentRun


class PreviewRun:
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
        self.training, self.case, self.store = training, case, store
        self.result = None
        self.epoch = 0
        self._onEvent = onEvent
        self._folder = None
        self._run = None
        self._exported = []  # what the export said beside its events
        self._loaded = []  # volumes that were not in the scene

    @property
    def lines(self) -> list:
        return [*self._exported, *(self._run.lines if self._run else [])]

    @property
    def title(self) -> str:
        """What a person calls the case."""
        return self.training.titles.get(self.case, self.case)

    def start(self) -> None:
        """Start the export.

        Raises:
            Refused: There is no checkpoint yet, or no place to work.
        """
        if not self.training.hasCheckpoint:
            raise Refused(_("There is no checkpoint yet."))
        self._folder = paths.temporaryFolder()
        arguments = ["export", str(self.training.runFolder), str(self._model)]
        try:
            self._run = EngineRun([*arguments, "--progress", "json"], self._folder, self._onEvent)
            self._run.start()
        except BaseException:
            self.cancel()
            raise

    def poll(self) -> bool:
        """Let it go on; True while it runs. Afterwards `result` is there.

        Raises:
            Refused: It failed; the scene is as it was.
        """
        try:
            if self._run.poll():
                return True
            if isinstance(self._run, EngineRun):
                self.epoch = int(self._run.result.get("epoch", 0))
                self._exported = self._run.lines
                self._run = SegmentRun(self._request(), self._onEvent)
                self._run.start()
                return True
        except BaseException:
            self.cancel()
            raise
        self.result = self._run.result
        name = _("{case} preview epoch {n}").format(case=self.title, n=self.epoch)
        self.result.segmentationNode.SetName(name)
        if self._loaded:  # they serve the next preview too
            self.training.volumes[self.case] = self._loaded
        self._clean()
        return False

    def cancel(self) -> None:
        """End the engine; take away its files and the volumes that were loaded for it."""
        if isinstance(self._run, EngineRun):
            self._run.kill()
        elif self._run is not None:
            self._run.cancel()
        for node in self._loaded:
            remove(node)
        self._clean()

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
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
        self._loaded = []


def remove(node) -> None:
    """Take a node and its display out of the scene, if they are still there."""
    for one in (node.GetDisplayNode(), node):
        if one is not None and one.GetScene() is not None:
            one.GetScene().RemoveNode(one)
