"""What a run made: written onto the segmentation, and read from it whenever it is shown.

Nothing is remembered beside the scene: a result is there again after the scene was loaded, its
volumes are those of the segments as they are now, and it cannot be mistaken for another volume's.
"""

import json
from dataclasses import dataclass, field

import numpy as np
from vtk.util.numpy_support import vtk_to_numpy

from E2ENetSegmentationLib.mrml import segmentations

USUAL_TAG, WARNINGS = "E2ENet.UsualML", "E2ENet.Warnings"


@dataclass(frozen=True)
class Row:
    """One segment.

    Attributes:
        name: Of the segment.
        millilitres: Its volume as it is now.
        usual: Smallest and largest volume of the training cases in mL, or None.
        unusual: Whether the engine found it far from that.
    """

    name: str
    millilitres: float
    usual: tuple | None = None
    unusual: bool = False


@dataclass
class SegmentResult:
    """What came of one request.

    Attributes:
        segmentationNode: The segmentation in the scene.
        volumeNode: Its first input.
        rows: One a segment, in the order of the bundle.
        centre: A point (world RAS, mm) inside the largest segment, or None where nothing was found.
        warnings: Sentences of the engine.
        title: Name of the volume.
    """

    segmentationNode: object
    volumeNode: object
    rows: list
    centre: object = None
    warnings: list = field(default_factory=list)
    title: str = field(init=False)

    def __post_init__(self) -> None:
        self.title = self.volumeNode.GetName()  # an item of a sequence goes when it is done

    @property
    def doubtful(self) -> list:
        """Rows outside their usual range."""
        return [row for row in self.rows if row.unusual]

    @property
    def empty(self) -> bool:
        return not any(row.millilitres for row in self.rows)


def remember(node, entries, warnings) -> None:
    """Keep with a segmentation what cannot be read from its voxels.

    Args:
        entries: The engine's of each label: value, and `usual_ml` and `unusual` where known.
        warnings: Sentences.
    """
    node.SetAttribute(WARNINGS, json.dumps(list(warnings)))
    segmentation = node.GetSegmentation()
    usual = {int(e["value"]): e for e in entries if e.get("usual_ml")}
    for identifier in segmentations.segmentIds(segmentation):
        segment = segmentation.GetSegment(identifier)
        entry = usual.get(segmentations.valueOf(segment))
        if entry is not None:
            kept = [*map(float, entry["usual_ml"]), bool(entry.get("unusual"))]
            segment.SetTag(USUAL_TAG, json.dumps(kept))


def resultOf(node, centre=None):
    """The result on a segmentation, or None where no model made it of a volume in the scene."""
    inputs, model = segmentations.origin(node)
    if not inputs or not model:
        return None
    segmentation = node.GetSegmentation()
    counts, found = {}, []
    for identifier in segmentations.segmentIds(segmentation):
        segment = segmentation.GetSegment(identifier)
        if not segment.HasTag(segmentations.MADE_BY_TAG):
            continue
        low, high, unusual = _read(segmentations.tagOf(segment, USUAL_TAG), [None, None, False])
        usual = None if low is None else (low, high)
        row = Row(segment.GetName(), _millilitres(segment, counts), usual, bool(unusual))
        found.append((segmentations.valueOf(segment), row))
    rows = [row for _value, row in sorted(found, key=lambda entry: entry[0])]
    return SegmentResult(node, inputs[0], rows, centre, _read(node.GetAttribute(WARNINGS), []))


def _read(text, otherwise: list) -> list:
    """A kept list; a scene from elsewhere may hold anything."""
    try:
        found = json.loads(text or "null")
    except ValueError:
        return otherwise
    fits = isinstance(found, list) and (not otherwise or len(found) == len(otherwise))
    return found if fits else otherwise


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
