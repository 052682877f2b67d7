"""A result as DICOM SEG beside the series it was made from, in Slicer's DICOM database.

The engine writes the file; the files of the series are found by the instance UIDs that Slicer's
DICOM plugin keeps on a volume.
"""

import json
import os
import shutil

from E2ENetSegmentationLib.engine.job import Job
from E2ENetSegmentationLib.i18n import tr as _
from E2ENetSegmentationLib.mrml import segmentations, volumes
from E2ENetSegmentationLib.refusal import Refused

INSTANCES = "DICOM.instanceUIDs"


def comesFrom(volumeNode, database) -> bool:
    """Whether a volume was loaded from a database, by its first instance."""
    uids = _instances(volumeNode)
    return bool(uids and _isOpen(database) and database.fileForInstance(uids[0]))


def sourceFiles(volumeNode, database) -> list:
    """The files of a volume's instances.

    Raises:
        Refused: The volume did not come from the database, or not all of them are there any more.
    """
    uids = _instances(volumeNode)
    files = [database.fileForInstance(uid) for uid in uids] if _isOpen(database) else []
    if not files or not all(file and os.path.isfile(file) for file in files):
        raise Refused(
            _("The DICOM files of {name} are not in the DICOM database.").format(
                name=volumeNode.GetName()
            ),
            _("Import the series in the module DICOM, load it from there and segment it again."),
        )
    return files


def _instances(volumeNode) -> list:
    return (volumeNode.GetAttribute(INSTANCES) or "").split() if volumeNode is not None else []


def _isOpen(database) -> bool:
    return database is not None and bool(database.isOpen)


class DicomExport(Job):
    """Writes the segments that a model made as they are now, and puts the file into the database.

    Args:
        result: What is to be stored, a `SegmentResult`.
        database: Where its volume came from.
        store: Called with the file that was written; puts it into the database.
        title: Of the model.
        onEvent: Called with each event of the engine.

    Attributes:
        result: The SOP instance UID of what was stored.
    """

    request = None  # it is none of several

    def __init__(self, result, database, store, title: str = "", onEvent=None) -> None:
        super().__init__(onEvent)
        self.volumeNode = result.volumeNode
        self._node = result.segmentationNode
        self._title = title
        self._database, self._store = database, store

    def _begin(self) -> None:
        files = sourceFiles(self.volumeNode, self._database)
        source = self._folder / "source"
        source.mkdir()
        for number, file in enumerate(files):
            _link(file, source / f"{number:05d}.dcm")
        labels, manifest = self._folder / "labels.nrrd", self._folder / "labels.manifest.json"
        array, entries = segmentations.exportLabels(self._node, self.volumeNode)
        volumes.writeLabels(array, self.volumeNode, labels)
        record = {"labels": entries, **self._origin(array)}
        manifest.write_text(json.dumps(record), encoding="utf-8")
        arguments = ["dicom-seg", str(labels), str(source), "--manifest", str(manifest)]
        names = {"source": self.volumeNode.GetName(), labels.name: self._node.GetName()}
        self._ask([*arguments, "--output", str(self._folder / "segmentation.dcm")], names)

    def _origin(self, array) -> dict:
        """Which model made it, and whether somebody changed it since."""
        name = segmentations.origin(self._node)[1]
        weights = self._node.GetAttribute(segmentations.WEIGHTS) or ""
        model = {"name": name, "title": self._title or name, "weights_sha256": weights}
        made = self._node.GetAttribute(segmentations.VOXELS)
        return {"model": model, "edited": made != segmentations.fingerprint(array)}

    def _answered(self) -> bool:
        self._store(self._engine.result["output"])
        uid = str(self._engine.result["sop_instance_uid"])
        if not self._database.fileForInstance(uid):
            raise Refused(
                _("The DICOM database did not take the segmentation."),
                _("See in the module DICOM whether its folder may be written to."),
            )
        self.result = uid
        return False


def _link(file: str, target) -> None:
    """The file under another name; a copy where the disk is another one."""
    try:
        os.link(file, target)
    except OSError:
        shutil.copyfile(file, target)
