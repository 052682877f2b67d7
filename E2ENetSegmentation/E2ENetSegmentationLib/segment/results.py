"""What a run made: written onto the segmentation, and read from it whenever it is shown.

Nothing is remembered beside the scene: a result is there again after the scene was loaded, its
volumes are those of the segments as they are now, and it cannot be mistaken for another volume's.
"""

import json
from dataclasses import dataclass, field

import numpy as np
from vtk.util.numpy_support import vtk_to_numpy

from E2ENetSegmentationLib.mrml import segmentations

USUAL_TAG, DOUBT_TAG = "E2ENet.UsualML", "E2ENet.Doubtful"
WARNINGS, DOUBT = "E2ENet.Warnings", "E2ENet.Doubt"
DOUBTFUL, NOTHING = "doubtful-result", "nothing-found"  # codes of the engine's warnings


@dataclass(frozen=True)
class Row:
    """One segment.

    Attributes:
        name: Of the segment.
        millilitres: Its volume as it is now.
        usual: Smallest and largest volume of the training cases in mL, or None.
        doubtful: Whether the engine says that it should not be believed unseen.
    """

    name: str
    millilitres: float
    usual: tuple | None = None
    doubtful: bool = False


@dataclass
class SegmentResult:
    """What came of one request.

    Attributes:
        segmentationNode: The segmentation in the scene.
        volumeNode: Its first input.
        rows: One a segment, in the order of the bundle.
        centre: A point (world RAS, mm) inside the largest segment, or None where nothing was found.
        doubt: Why it should not be believed unseen, or "".
        warnings: Further sentences of the engine.
        record: The engine's manifest of the run, where this is its first showing.
        sequence: The sequence of results that the segmentation lies in, or None.
        title: Name of the volume.
    """

    segmentationNode: object
    volumeNode: object
    rows: list
    centre: object = None
    doubt: str = ""
    warnings: list = field(default_factory=list)
    record: dict = field(default_factory=dict, compare=False)
    sequence: object = None
    title: str = field(init=False)

    def __post_init__(self) -> None:
        self.title = self.volumeNode.GetName()  # an item of a sequence goes when it is done

    @property
    def empty(self) -> bool:
        return not any(row.millilitres for row in self.rows)


def remember(node, entries, known, warnings) -> None:
    """Keep with a segmentation what cannot be read from its voxels.

    Args:
        entries: The engine's of each label of the result: value, name and `doubtful`.
        known: The labels of the model, with the volumes of its training cases.
        warnings: (code, sentence) of the engine.
    """
    said = {code: text for code, text in warnings if code in (DOUBTFUL, NOTHING)}
    node.SetAttribute(DOUBT, said.get(DOUBTFUL, ""))
    others = [text for code, text in warnings if code not in said]
    node.SetAttribute(WARNINGS, json.dumps(others))
    segmentation = node.GetSegmentation()
    byValue = {int(entry["value"]): entry for entry in entries}
    for identifier in segmentations.ownSegmentIds(segmentation):
        segment = segmentation.GetSegment(identifier)
        entry = byValue.get(segmentations.valueOf(segment))
        if entry is None:
            continue
        usual = usualOf(str(entry["name"]), known)
        if usual is not None:
            segment.SetTag(USUAL_TAG, json.dumps(list(usual)))
        if entry.get("doubtful"):
            segment.SetTag(DOUBT_TAG, "1")


def usualOf(name: str, known):
    """The range of a label in training; "Left Head" is a "Head" of the model."""
    for label in known:
        if name == label.name or name.endswith(f" {label.name}"):
            return label.usual_ml
    return None


def resultOf(node, centre=None):
    """The result on a segmentation, or None where no model made it of a volume in the scene."""
    inputs, model = segmentations.origin(node)
    if not inputs or not model:
        return None
    segmentation, tag = node.GetSegmentation(), segmentations.tagOf
    counts, found = {}, []
    for identifier in segmentations.ownSegmentIds(segmentation):
        segment = segmentation.GetSegment(identifier)
        usual = _read(tag(segment, USUAL_TAG))
        row = Row(
            segment.GetName(),
            _millilitres(segment, counts),
            tuple(usual) if len(usual) == 2 else None,
            bool(tag(segment, DOUBT_TAG)),
        )
        found.append((segmentations.valueOf(segment), row))
    rows = [row for _value, row in sorted(found, key=lambda entry: entry[0])]
    warnings = _read(node.GetAttribute(WARNINGS))
    return SegmentResult(node, inputs[0], rows, centre, node.GetAttribute(DOUBT) or "", warnings)


def _read(text) -> list:
    """A kept list; a scene from elsewhere may hold anything."""
    try:
        found = json.loads(text or "[]")
    except ValueError:
        return []
    return found if isinstance(found, list) else []


def _millilitres(segment, counts: dict) -> float:
    """Its volume now; `counts` keeps those of a label map that segments share."""
    image = segment.GetRepresentation("Binary labelmap")
    scalars = image.GetPointData().GetScalars() if image is not None else None
    if scalars is None:
        return 0.0
    key = image.GetAddressAsString("")
    if key not in counts:
        counts[key] = np.bincount(vtk_to_numpy(scalars).ravel(), minlength=1)
    value, found = segment.GetLabelValue(), counts[key]
    voxel = float(np.prod(image.GetSpacing())) / 1000.0
    return float(found[value] * voxel) if value < len(found) else 0.0
