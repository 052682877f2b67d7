"""What a script calls: everything the module does, without any window."""

import time

import slicer

from E2ENetSegmentationLib.engine import paths
from E2ENetSegmentationLib.models.store import ModelStore
from E2ENetSegmentationLib.refusal import Cancelled, Refused
from E2ENetSegmentationLib.segment.run import SegmentRequest, SegmentRun

SECONDS_BETWEEN_LOOKS = 0.05


class Core:
    """Models and runs; MRML and files only.

    Args:
        modelsFolder: A further folder of the user's that holds models.
    """

    def __init__(self, modelsFolder: str = "") -> None:
        self.store = ModelStore(modelsFolder)

    def startSegmentation(self, request: SegmentRequest, onEvent=None) -> SegmentRun:
        """Start a run that the caller polls.

        Raises:
            Refused: Something cannot be segmented.
        """
        run = SegmentRun(request, onEvent)
        run.start()
        return run

    def segment(self, volumeNodes, model: str, *, onEvent=None, **options):
        """Segment and wait for the result; the windows stay alive meanwhile.

        Args:
            volumeNodes: A volume node, or a list with one a channel.
            model: Name or path of a model.
            onEvent: Called with each event of the engine.
            options: The further fields of `SegmentRequest`.

        Returns:
            The vtkMRMLSegmentationNode.

        Raises:
            Refused: One sentence says why not; the scene is as it was.
        """
        nodes = list(volumeNodes) if isinstance(volumeNodes, (list, tuple)) else [volumeNodes]
        request = SegmentRequest(nodes, self.store.open(model), **options)
        run = self.startSegmentation(request, onEvent)
        try:
            while run.poll():
                if hasattr(slicer, "app"):
                    slicer.app.processEvents()
                time.sleep(SECONDS_BETWEEN_LOOKS)
        except Cancelled as error:
            raise Refused("Cancelled.") from error
        finally:
            run.cancel()
        return run.result.segmentationNode

    @staticmethod
    def modelsFolder():
        """Where imported and trained models are kept."""
        return paths.modelsFolder()
