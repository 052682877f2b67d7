"""A run on volumes of the scene: written out, computed on, the answer loaded; all or nothing."""

from dataclasses import dataclass
from typing import ClassVar

from E2ENetSegmentationLib.engine.job import Job
from E2ENetSegmentationLib.i18n import tr as _
from E2ENetSegmentationLib.mrml import roi, volumes
from E2ENetSegmentationLib.refusal import Refused


@dataclass
class InputRequest:
    """What every run on volumes is asked.

    Attributes:
        volumeNodes: One volume a channel of the model.
        model: A `Model` of the store.
        roiNode: A markups ROI, or None for the whole volume (or the model's own localisation).
        device: "auto", "cpu", "cuda:N" or "mps".
    """

    VERB: ClassVar[str] = ""

    volumeNodes: list
    model: object
    roiNode: object = None
    device: str = "auto"

    @property
    def title(self) -> str:
        """What a person calls it."""
        first = self.volumeNodes[0] if self.volumeNodes else None
        return first.GetName() if first is not None else self.model.title

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

    def toArguments(self, inputs: list, output: str, region: str) -> list:
        """The command line of the engine.

        Args:
            inputs: The files that were written, one a channel.
            output: Where the answer goes.
            region: A markups file, or "".
        """
        arguments = [self.VERB, *inputs, "--model", str(self.model.path)]
        arguments += ["--output", output, "--device", self.device]
        return [*arguments, "--roi", region] if region else arguments

    def dispose(self) -> None:
        """Called when the run is over, however it ended."""


class InputRun(Job):
    """Writes the input, runs the engine, loads the result; the scene changes only on success.

    Subclasses say what becomes of the engine's answer.

    Args:
        request: What to do.
        onEvent: Called with each event of the engine.
    """

    OUTPUT = "output"

    def __init__(self, request: InputRequest, onEvent=None) -> None:
        super().__init__(onEvent)
        self.request = request

    def _begin(self) -> None:
        request = self.request
        request.prepare()
        request.check()
        box = request.box()
        inputs, names = [], {}
        for index, node in enumerate(request.volumeNodes[: len(request.model.channels)]):
            path = self._folder / f"E2ENetVolume{index}.nrrd"
            inputs.append(str(path))
            names |= dict.fromkeys((str(path), path.name, path.stem), node.GetName())
            volumes.writeVolume(node, path)
        region = ""
        if box is not None:
            path = self._folder / "region.mrk.json"
            path.write_text(roi.markupsText(box, request.volumeNodes[0]), encoding="utf-8")
            region = str(path)
        self._ask(request.toArguments(inputs, str(self._output), region), names)

    def _answered(self) -> bool:
        for node in self.request.volumeNodes[:1]:
            if node.GetScene() is None or node.GetImageData() is None:
                raise Refused(_("The volume was removed from the scene during the run."))
        self._load()
        return False

    @property
    def _output(self):
        return self._folder / self.OUTPUT

    def _load(self) -> None:
        """Bring the engine's answer to the scene and set `result`."""
        raise NotImplementedError

    def _clean(self) -> None:
        super()._clean()
        self.request.dispose()
