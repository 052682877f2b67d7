"""CHAOS (Kavur et al., Medical Image Analysis 2021): DICOM images with PNG masks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from e2enet.data.datasets.importing.found import (
    Found,
    FoundCase,
    Image,
    check_labels,
    files,
    folders,
)
from e2enet.data.images.reading import open_image
from e2enet.events import BadInput

_ORGANS = {"background": 0, "liver": 1, "right kidney": 2, "left kidney": 3, "spleen": 4}
# Ranges that the challenge gives for its masks, around 63, 126, 189 and 252.
_RANGES = ((55, 70), (110, 135), (175, 200), (240, 255))


@dataclass(frozen=True)
class Masks:
    """Opens a label map of PNGs, one a slice, on the grid of its DICOM series.

    The n-th PNG belongs to the n-th DICOM file by name, wherever that lies in space.

    Args:
        images: the DICOM folder.
        masks: the PNG folder.
        organs: whether grey values tell four organs apart; else what is not 0 is liver.
    """

    images: Path
    masks: Path
    organs: bool

    def __call__(self) -> sitk.Image:
        image = open_image(self.images).image
        slices, masks = files(self.images, "*.dcm"), files(self.masks, "*.png")
        if not len(slices) == len(masks) == image.GetSize()[2]:
            raise BadInput(
                f"{self.masks} holds {len(masks)} masks for the {len(slices)} slices of "
                f"{self.images}.",
                help="Download the case again.",
                code="missing-mask",
            )
        labels = np.zeros(image.GetSize()[::-1], np.uint8)
        reader = sitk.ImageFileReader()
        for path, mask in zip(slices, masks, strict=True):
            reader.SetFileName(str(path))
            reader.ReadImageInformation()
            place = image.TransformPhysicalPointToIndex(reader.GetOrigin()[:3])[2]
            grey = sitk.GetArrayFromImage(sitk.ReadImage(str(mask)))
            if grey.shape != labels.shape[1:]:
                raise BadInput(f"{mask} has another size than {path.name}.", code="grid-mismatch")
            labels[place] = self._labels(grey)
        result = sitk.GetImageFromArray(labels)
        result.CopyInformation(image)
        return result

    def _labels(self, grey: np.ndarray) -> np.ndarray:
        if not self.organs:
            return (grey > 0).astype(np.uint8)
        labels = np.zeros(grey.shape, np.uint8)
        for value, (low, high) in enumerate(_RANGES, 1):
            labels[(grey >= low) & (grey <= high)] = value
        return labels


def read_chaos(folder: Path, *, part: str) -> Found:
    """One of CHAOS's sets: Train_Sets and Test_Sets, or the folder that holds CT / MR.

    A set in which no case has masks is one of test cases.

    Args:
        folder: as downloaded.
        part: "ct" (liver), "t1" (in and opposed phase as two channels) or "t2" (four organs).

    Raises:
        BadInput: a case without its images, or without masks among others with them.
    """
    kind = "CT" if part == "ct" else "MR"
    parts = [folder / "Train_Sets", folder / "Test_Sets", folder]
    cases = []
    for root in parts:
        found = []
        for case in folders(root / kind):
            sequence = case / {"ct": "", "t1": "T1DUAL", "t2": "T2SPIR"}[part]
            dicom, masks = sequence / "DICOM_anon", sequence / "Ground"
            images = [dicom / "InPhase", dicom / "OutPhase"] if part == "t1" else [dicom]
            for path in images:
                if not path.is_dir():
                    raise BadInput(
                        f"{path} does not exist.",
                        help="Download the case again.",
                        code="missing-file",
                    )
            label = Masks(images[0], masks, part != "ct") if masks.is_dir() else None
            name = f"chaos_{part}_{case.name}"
            found.append(FoundCase(name, tuple(map(Image, images)), label, test=label is None))
        check_labels(root / kind, found)
        cases += found
    channels = {"ct": ("CT",), "t1": ("T1 in phase", "T1 opposed phase"), "t2": ("T2 SPIR",)}[part]
    labels = {"background": 0, "liver": 1} if part == "ct" else dict(_ORGANS)
    return Found(channels, labels, cases, {"licence": "CC BY-NC-SA 4.0"})
