"""Training cases of the scene, written as a dataset in nnU-Net's raw layout."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import slicer

from E2ENetSegmentationLib.i18n import tr as _
from E2ENetSegmentationLib.mrml import volumes
from E2ENetSegmentationLib.mrml.segmentations import PREVIEW, segmentIds
from E2ENetSegmentationLib.refusal import Refused

ENDING = ".nrrd"
SPLITS = "splits_final.json"  # nnU-Net's own file: which cases of imagesTr train, which do not


@dataclass
class TrainingCase:
    """One pair of image and truth.

    Attributes:
        volumeNodes: One volume a channel.
        segmentationNode: Its segments are the truth.
        heldOut: Kept away from the training, to measure and preview on.
    """

    volumeNodes: list
    segmentationNode: object
    heldOut: bool = False

    def exists(self) -> bool:
        """Whether its nodes are still in the scene."""
        nodes = [*self.volumeNodes, self.segmentationNode]
        return all(node is not None and node.GetScene() is not None for node in nodes)

    def check(self, channels) -> None:
        """Refuse a case that cannot teach, in one sentence.

        Raises:
            Refused: The volumes cannot be used, or the segmentation does not overlap them.
        """
        volumes.checkVolumes(self.volumeNodes, channels)
        node = self.segmentationNode
        if node is None:
            raise Refused(_("Choose a segmentation."))
        segmentation = node.GetSegmentation()
        if segmentation is None or segmentation.GetNumberOfSegments() == 0:
            raise Refused(_("{name} has no segments.").format(name=node.GetName()))
        bounds, other = [0.0] * 6, [0.0] * 6
        node.GetRASBounds(bounds)
        self.volumeNodes[0].GetRASBounds(other)
        for axis in range(3):
            low = max(bounds[2 * axis], other[2 * axis])
            high = min(bounds[2 * axis + 1], other[2 * axis + 1])
            if low > high:
                raise Refused(
                    _("{segmentation} does not lie in {volume}.").format(
                        segmentation=node.GetName(), volume=self.volumeNodes[0].GetName()
                    )
                )


def segmentNames(cases) -> list:
    """Names of all segments, each once, in the order they are met."""
    found = {}
    for case in cases:
        if case.segmentationNode is None or case.segmentationNode.GetSegmentation() is None:
            continue
        segmentation = case.segmentationNode.GetSegmentation()
        for identifier in segmentIds(segmentation):
            found[segmentation.GetSegment(identifier).GetName()] = None
    return list(found)


def proposedLabel(segmentName: str, baseLabels, sides=()) -> str:
    """The label a segment teaches unless a person says otherwise: its own, or the base's.

    Args:
        segmentName: Of the segment.
        baseLabels: Of the model to start from.
        sides: Of that model, as `Model.sides`: its result has "Left Anterior" for its "Anterior".
    """
    known = {label.name.lower(): label.name for label in baseLabels}
    name = segmentName.lower()
    names = [name, *(name.removeprefix(f"{side.lower()} ") for side in sides)]
    return next((known[name] for name in names if name in known), segmentName)


def pairsInScene(scene) -> list:
    """Every segmentation with the volume it was made on; a preview is no truth."""
    pairs = []
    for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
        volume = node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole())
        if volume is None or node.GetAttribute(PREVIEW):
            continue
        if node.GetSegmentation().GetNumberOfSegments() > 0:
            pairs.append((volume, node))
    return pairs


def labelValues(mapping: dict, baseLabels) -> dict:
    """Label name -> value from 1 up.

    When every label is one of the base model's, all of the base's labels are kept, so that its
    last layer is; otherwise the base's come first.
    """
    wanted = {label for label in mapping.values() if label}
    base = [label.name for label in baseLabels]
    if wanted <= set(base):
        return {label.name: label.value for label in baseLabels}
    names = [name for name in base if name in wanted]
    names += [name for name in dict.fromkeys(mapping.values()) if name and name not in names]
    return {name: value for value, name in enumerate(names, 1)}


def caseNames(cases) -> list:
    """What the cases are called in the dataset that `writeDataset` makes."""
    return [f"case_{index:03d}" for index in range(len(cases))]


def checkHeldOut(cases) -> None:
    """Refuse to measure on what teaches.

    Raises:
        Refused: A volume is in a case that trains and in one that is held out.
    """
    teaching = [node for case in cases if not case.heldOut for node in case.volumeNodes]
    for case in cases:
        for node in case.volumeNodes if case.heldOut else ():
            if node in teaching:
                raise Refused(
                    _(
                        "{volume} is held out and trains as well; hold out all of its cases, or "
                        "none."
                    ).format(volume=node.GetName())
                )


def ownFolds(folder) -> int:
    """Number of folds that a dataset folder's own splits_final.json names; 0 without one."""
    try:
        return len(json.loads((Path(folder) / SPLITS).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return 0


def writeDataset(folder, cases, mapping: dict, channels, base=None, *, between=lambda: None):
    """Write images, label maps, dataset.json and metadata.json.

    Held-out cases lie beside the others; a splits_final.json with a single fold names them.

    Args:
        folder: Is made; must not exist.
        cases: At least one that trains.
        mapping: Segment name -> label name; "" leaves a segment out.
        channels: Names of the channels.
        base: The model to start from, or None.
        between: Called after each case, so that the windows stay alive.

    Returns:
        Label name -> value.

    Raises:
        Refused: A case or the mapping cannot be used; the folder is gone again.
    """
    if all(case.heldOut for case in cases):
        raise Refused(_("At least one case has to train; hold fewer out."))
    checkHeldOut(cases)
    values = labelValues(mapping, base.labels if base else [])
    if not values or not any(mapping.values()):
        raise Refused(_("Give at least one segment a label."))
    folder = Path(folder)
    try:
        folder.mkdir(parents=True)
        taught = set()
        names = caseNames(cases)
        for index, (name, case) in enumerate(zip(names, cases, strict=True)):
            if not case.exists():
                raise Refused(_("A node of case {n} was removed.").format(n=index + 1))
            case.check(channels)
            found = _writeCase(folder, name, case, mapping, values)
            taught |= found if not case.heldOut else set()
            if not found:
                raise Refused(
                    _("No mapped segment of {segmentation} has a voxel in {volume}.").format(
                        segmentation=case.segmentationNode.GetName(),
                        volume=case.volumeNodes[0].GetName(),
                    )
                )
            between()
        lacking = [n for n in dict.fromkeys(mapping.values()) if n and values[n] not in taught]
        if lacking:
            raise Refused(
                _("No training case shows {labels}.").format(labels=", ".join(lacking)),
                _("Empty the label, or add a case with it."),
            )
        _writeJson(
            folder / "dataset.json",
            {
                "channel_names": {str(i): name for i, name in enumerate(channels)},
                "labels": {"background": 0, **values},
                "numTraining": len(cases),
                "file_ending": ENDING,
            },
        )
        heldOut = [name for name, case in zip(names, cases, strict=True) if case.heldOut]
        if heldOut:
            training = [name for name in names if name not in heldOut]
            _writeJson(folder / SPLITS, [{"train": training, "val": heldOut}])
        _writeJson(folder / "metadata.json", _metadata(cases, mapping, values, base))
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise Refused(
            _("The training cases cannot be written to {folder}: {reason}.").format(
                folder=folder, reason=error.strerror or error
            )
        ) from error
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return values


def _writeCase(folder: Path, name: str, case, mapping: dict, values: dict) -> set:
    """Write one case; returns the label values that occur."""
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(exist_ok=True)
    for channel, node in enumerate(case.volumeNodes):
        volumes.writeVolume(node, folder / "imagesTr" / f"{name}_{channel:04d}{ENDING}")
    labels = labelArray(case, mapping, values)
    scene = case.volumeNodes[0].GetScene()
    node = scene.CreateNodeByClass("vtkMRMLLabelMapVolumeNode")
    node.UnRegister(None)
    slicer.util.updateVolumeFromArray(node, labels)
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(volumes.ijkToRas(case.volumeNodes[0])))
    node.SetName(name)
    volumes.writeVolume(node, folder / "labelsTr" / f"{name}{ENDING}")
    return set(np.unique(labels).tolist()) - {0}


def labelArray(case, mapping: dict, values: dict) -> np.ndarray:
    """Labels (z, y, x) on the grid of the case's first volume; later segments win an overlap."""
    volumeNode, node = case.volumeNodes[0], case.segmentationNode
    array = np.zeros(volumeNode.GetImageData().GetDimensions()[::-1], np.uint8)
    segmentation = node.GetSegmentation()
    for identifier in segmentIds(segmentation):
        label = mapping.get(segmentation.GetSegment(identifier).GetName(), "")
        if not label:
            continue
        inside = slicer.util.arrayFromSegmentBinaryLabelmap(node, identifier, volumeNode)
        if inside is not None and inside.shape == array.shape:
            array[inside > 0] = values[label]
    return array


def _metadata(cases, mapping: dict, values: dict, base) -> dict:
    """What model.json should say that the training does not know: colours, codes, origin."""
    known = {label.name: label.to_dict() for label in base.labels} if base else {}
    entries = {}
    for name, value in values.items():
        if name in known:
            entries[name] = {**known[name], "value": value}
    for case in cases:
        segmentation = case.segmentationNode.GetSegmentation()
        for identifier in segmentIds(segmentation):
            segment = segmentation.GetSegment(identifier)
            label = mapping.get(segment.GetName(), "")
            if label and label not in entries:
                entries[label] = {
                    "value": values[label],
                    "name": label,
                    "color": [round(255 * c) for c in segment.GetColor()],
                    "terminology": terminologyOf(segment),
                }
    metadata = {"labels": list(entries.values())}
    if base:
        for key in ("modality", "anatomy", "licence", "citation"):
            if base.content.get(key):
                metadata[key] = base.content[key]
    return metadata


def terminologyOf(segment) -> dict:
    """A segment's terminology tag as the bundle stores codes; {} without one."""
    parts = [part.split("^") for part in segment.GetTerminology().split("~")]
    if len(parts) < 4 or len(parts[1]) != 3 or not parts[2][1:2] or not parts[2][1]:
        return {}
    names = {1: "category", 2: "type", 3: "modifier"}
    return {
        name: {"scheme": parts[i][0], "code": parts[i][1], "meaning": parts[i][2]}
        for i, name in names.items()
        if len(parts[i]) == 3 and parts[i][1]
    }


def _writeJson(path: Path, content) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
