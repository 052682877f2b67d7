"""A DICOM series in a database with the methods of Slicer's that the module calls."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pydicom
import slicer


class FakeDatabase:
    """Files in a folder by the UIDs that are read from them, as ctkDICOMDatabase keeps them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.isOpen = folder, True
        self._files: dict[str, Path] = {}
        folder.mkdir()

    def addFile(self, path) -> None:
        """What ctkDICOMIndexer does with a file that is to be copied."""
        header = pydicom.dcmread(path, stop_before_pixels=True)
        place = self.folder / header.StudyInstanceUID / header.SeriesInstanceUID
        place.mkdir(parents=True, exist_ok=True)
        self._files[header.SOPInstanceUID] = place / header.SOPInstanceUID
        shutil.copyfile(path, place / header.SOPInstanceUID)

    def fileForInstance(self, uid: str) -> str:
        """The path, or an empty text for an instance that is not there."""
        return str(self._files[uid]) if uid in self._files else ""

    def stored(self, modality: str) -> list:
        """The data sets of a modality that it has got."""
        found = [pydicom.dcmread(path) for path in self._files.values() if path.is_file()]
        return [header for header in found if header.Modality == modality]


def load(scene, database: FakeDatabase, files, name: str):
    """A volume as Slicer's DICOM plugin loads it: geometry of the series, and its instance UIDs."""
    headers = [pydicom.dcmread(file) for file in files]
    for file in files:
        database.addFile(file)
    rows = np.reshape([float(v) for v in headers[0].ImageOrientationPatient], (2, 3))
    normal = np.cross(*rows)
    headers.sort(key=lambda header: float(np.dot(header.ImagePositionPatient, normal)))
    first, second = (np.array(h.ImagePositionPatient, float) for h in headers[:2])
    down, right = (float(v) for v in headers[0].PixelSpacing)
    matrix = np.eye(4)
    matrix[:3, 0], matrix[:3, 1], matrix[:3, 2] = rows[0] * right, rows[1] * down, second - first
    matrix[:3, 3] = first
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    slicer.util.updateVolumeFromArray(node, np.stack([h.pixel_array for h in headers]))
    toRas = np.diag([-1.0, -1.0, 1.0, 1.0]) @ matrix
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(toRas))
    node.CreateDefaultDisplayNodes()
    node.SetAttribute("DICOM.instanceUIDs", " ".join(h.SOPInstanceUID for h in headers))
    return node
