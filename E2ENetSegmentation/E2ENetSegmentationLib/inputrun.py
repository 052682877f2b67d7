"""A run on volumes of the scene: written out, computed on, the answer loaded; all or nothing."""

import shutil
from dataclasses import dataclass

from . import paths, roi, volumes
from .enginerun import EngineRun
from .i18n import tr as _
from .models import Model
from .refusal import Refused


@dataclass
class InputRequest:
    """What every run on volumes is asked.

    Attributes:
        volumeNodes: One volume a channel of the model.
        model: The model.
        roiNode: A markups ROI, or None for the whole volume (or the model's own localisation).
        device: "auto", "cpu", "cuda:N" or "mps".
    """

    volumeNodes: list
    model: Model
    roiNode: object = None
    device: str = "auto"

    def prepare(self) -> None:
        """Called first; a subclass may make its volume here."""

    def check(self) -> None:
        """Refuse what cannot be done, before anything is written."""
        volumes.checkVolumes(self.volumeNodes, self.model.channels)

    def box(self):
        """The voxels the work is limited to, or None."""
        if self.roiNode is None or not self.volumeNodes:
            return None
        return roi.voxelBox(self.roiNode, self.volumeNodes[0])

    def dispose(self) -> None:
        """Called when the run is over, however it ended."""


class InputRun:
    """Writes the input, runs the engine, loads the result; the scene changes only on success.

    Subclasses say what the engine is asked and what becomes of its answer.

    Args:
        request: What to do.
        onEvent: Called with each event of the engine.
    """

    OUTPUT = "output"

    def __init__(self, request: InputRequest, onEvent=None) -> None:
        self.request = request
        self.result = None
        self._onEvent = onEvent
        self._folder = None
        self._engine = None

    @property
    def running(self) -> bool:
        return self._engine is not None and self._engine.running

    @property
    def lines(self) -> list:
        return self._engine.lines if self._engine else []

    def start(self) -> None:
        """Check everything, write the input and start the engine.

        Raises:
            Refused: It cannot be done; nothing was left behind.
        """
        request = self.request
        try:
            request.prepare()
            request.check()
            box = request.box()
            self._folder = paths.temporaryFolder()
            inputs = []
            for index, node in enumerate(request.volumeNodes[: len(request.model.channels)]):
                inputs.append(str(self._folder / f"input_{index:04d}.nrrd"))
                volumes.writeVolume(node, inputs[-1])
            region = ""
            if box is not None:
                path = self._folder / "region.mrk.json"
                path.write_text(roi.markupsText(box, request.volumeNodes[0]), encoding="utf-8")
                region = str(path)
            arguments = self._arguments(inputs, region)
            self._engine = EngineRun(arguments, self._folder, self._onEvent)
            self._engine.start()
        except BaseException:
            self._clean()
            raise

    def poll(self) -> bool:
        """Let it go on; True while it runs. Afterwards `result` is there.

        Raises:
            Refused: It failed; the scene is as it was.
            Cancelled: The engine says that it was cancelled.
        """
        try:
            if self._engine.poll():
                return True
            for node in self.request.volumeNodes[:1]:
                if node.GetScene() is None or node.GetImageData() is None:
                    raise Refused(_("The volume was removed from the scene during the run."))
            self._load()
        except BaseException:
            self._clean()
            raise
        self._clean()
        return False

    def cancel(self) -> None:
        """End the engine and remove its files."""
        if self._engine is not None:
            self._engine.kill()
        self._clean()

    @property
    def _output(self):
        return self._folder / self.OUTPUT

    def _arguments(self, inputs: list, region: str) -> list:
        """The command line of the engine.

        Args:
            inputs: The files that were written, one a channel.
            region: A markups file, or "".
        """
        raise NotImplementedError

    def _load(self) -> None:
        """Bring the engine's answer to the scene and set `result`."""
        raise NotImplementedError

    def _clean(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
        self.request.dispose()
