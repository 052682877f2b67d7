"""Collections that come as NIfTI: the Medical Segmentation Decathlon, AMOS22, BTCV."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from e2enet.data.datasets.importing.found import Found, FoundCase, Image, files
from e2enet.data.images.naming import image_stem
from e2enet.events import BadInput

_BTCV = (
    "background", "spleen", "right kidney", "left kidney", "gallbladder", "esophagus", "liver",
    "stomach", "aorta", "inferior vena cava", "portal vein and splenic vein", "pancreas",
    "right adrenal gland", "left adrenal gland",
)  # fmt: skip
_AMOS_FIRST_MR = 501


def read_msd(folder: Path) -> Found:
    """A task of the Medical Segmentation Decathlon (Antonelli et al., 2022), as downloaded.

    Several channels lie in one 4D file there (Task01: four, Task05: two).
    """
    record = _record(folder)
    channels = _numbered(record, "modality", folder)
    labels = {name: value for value, name in enumerate(_numbered(record, "labels", folder))}

    def channel_images(path: Path) -> tuple[Image, ...]:
        if len(channels) == 1:
            return (Image(path),)
        return tuple(Image(path, number) for number in range(len(channels)))

    cases = [
        FoundCase(
            image_stem(path),
            channel_images(path),
            Image(folder / "labelsTr" / path.name) if part == "imagesTr" else None,
            test=part == "imagesTs",
        )
        for part in ("imagesTr", "imagesTs")
        for path in files(folder / part, "*.nii.gz")
    ]
    about: dict[str, str] = {
        key: str(record[key]) for key in ("licence", "reference") if key in record
    }
    return Found(tuple(channels), labels, cases, about)


def read_amos(folder: Path, *, modality: str) -> Found:
    """AMOS22 (Ji et al., NeurIPS 2022): CT to number 500, MR above; Va is the test set.

    Args:
        folder: with imagesTr, labelsTr, imagesVa, labelsVa.
        modality: "CT" or "MRI".

    Raises:
        BadInput: no usable dataset.json, or an image of imagesTr without its label map.
    """
    labels = {
        name: value for value, name in enumerate(_numbered(_record(folder), "labels", folder))
    }
    cases = []
    for images, truth, test in (("imagesTr", "labelsTr", False), ("imagesVa", "labelsVa", True)):
        for path in files(folder / images, "amos_*.nii.gz"):
            number = image_stem(path).partition("_")[2]
            if number.isdigit() and (int(number) >= _AMOS_FIRST_MR) == (modality == "MRI"):
                label = folder / truth / path.name
                known = Image(label) if label.is_file() else None
                if not known and not test:
                    raise BadInput(
                        f"{path} has no label map {label}.",
                        help="Download the dataset again, or move the image away.",
                        code="missing-label",
                    )
                cases.append(FoundCase(image_stem(path), (Image(path),), known, test))
    return Found((modality,), labels, cases, {"licence": "CC BY-NC-SA 4.0"})


def read_btcv(folder: Path) -> Found:
    """Synapse's "Beyond the Cranial Vault" abdomen: Training/img and label, Testing/img."""
    if (folder / "RawData").is_dir():
        folder = folder / "RawData"
    cases = [
        FoundCase(
            path.name.removesuffix(".nii.gz"),
            (Image(path),),
            Image(folder / "Training" / "label" / path.name.replace("img", "label"))
            if part == "Training"
            else None,
            test=part == "Testing",
        )
        for part in ("Training", "Testing")
        for path in files(folder / part / "img", "img*.nii.gz")
    ]
    return Found(("CT",), {name: value for value, name in enumerate(_BTCV)}, cases)


def _record(folder: Path) -> dict[str, Any]:
    path = folder / "dataset.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8-sig"))
        if not isinstance(record, dict):
            raise ValueError("not an object")
    except (OSError, ValueError) as error:
        raise BadInput(
            f"{path} cannot be read: {error}.",
            help="Give the folder that was downloaded, with its dataset.json.",
            code="bad-dataset-json",
        ) from error
    return record


def _numbered(record: dict[str, Any], key: str, folder: Path) -> list[str]:
    """["background", "liver"] of {"0": "background", "1": "liver"}."""
    try:
        names = record[key]
        return [str(names[str(number)]) for number in range(len(names))]
    except (KeyError, TypeError) as error:
        raise BadInput(
            f'{folder / "dataset.json"}: "{key}" does not name 0, 1, 2 ….', code="bad-dataset-json"
        ) from error
