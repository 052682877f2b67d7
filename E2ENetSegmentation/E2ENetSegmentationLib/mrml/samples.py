"""What comes with the extension for Slicer's own modules: a sample and a terminology."""

from pathlib import Path

import slicer

from E2ENetSegmentationLib.engine import paths
from E2ENetSegmentationLib.i18n import tr as _

CATEGORY = "E2ENet"
HEAD = "MNI152Head"
HEAD_FILE = "MNI152_T1_1mm.nii.gz"
SAMPLES = {"hippocampus-mr": HEAD, "brain-any": HEAD}  # model -> the sample it can be tried on
HEAD_SHA256 = "421a10e872fd6cadae7f61d358dffbcc1795a497d61ee76c5dda2503e1a1e9e6"


def register() -> None:
    """Add the sample; a file of the extension, so it needs no network."""
    import SampleData

    logic = SampleData.SampleDataLogic
    if hasattr(logic, "registerCustomSampleDataCategory"):  # from Slicer 5.12
        logic.registerCustomSampleDataCategory(CATEGORY, title=_("E2ENet"))
    file = paths.extensionResources() / "Samples" / HEAD_FILE
    logic.registerCustomSampleDataSource(
        category=CATEGORY,
        sampleName=HEAD,
        thumbnailFileName=str(Path(paths.LIB).parent / "Resources" / "Icons" / "MNI152Head.png"),
        uris=file.as_uri(),
        fileNames=HEAD_FILE,
        checksums=f"SHA256:{HEAD_SHA256}",
        nodeNames=HEAD,
    )


def loadTerminology() -> None:
    """Let Slicer know the codes of the models, for naming training segments alike."""
    folder = paths.extensionResources() / "Terminology"
    module = getattr(slicer.modules, "terminologies", None)
    if module is None:
        return
    for path in sorted(folder.glob("*.json")):
        module.logic().LoadTerminologyFromFile(str(path))
