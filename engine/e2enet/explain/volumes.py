"""Importance maps of one image: over the sliding window and back onto the image's grid.

Windows, Gaussian weights, regions and the way back are those of the segmentation
(`e2enet.inference`), so that a map lies where the label does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
from torch import nn

from e2enet.bundle import Bundle, Label
from e2enet.dsff import Connections
from e2enet.events import Reporter
from e2enet.explain.importance import FusionMaps
from e2enet.explain.maps import NodeMaps
from e2enet.explain.nodes import Node
from e2enet.explain.surroundings import bounds
from e2enet.inference.case.loading import OpenCase
from e2enet.inference.case.restoring import SliceWriter
from e2enet.inference.device import choose_device
from e2enet.inference.localisation.regions import Job, Slices, result_labels
from e2enet.inference.segmenter import predict_labels
from e2enet.inference.sliding_window.arrays import sigmoid, to_array
from e2enet.inference.sliding_window.predictor import Predictor
from e2enet.inference.sliding_window.spill import zeros
from e2enet.networks import E2ENet
from e2enet.networks.segmentation import SegmentationNetwork


class Explainer:
    """A model that is loaded once and explains one image after the other.

    Args:
        bundle: The model.
        device: auto, cpu, cuda, cuda:N or mps.
        reporter: Receives progress and warnings.
    """

    def __init__(
        self, bundle: Bundle, *, device: str = "auto", reporter: Reporter | None = None
    ) -> None:
        self.bundle = bundle
        self.device = choose_device(device)
        self.reporter = reporter or Reporter()
        network, connections = bundle.load_network()
        self.network = cast("E2ENet | SegmentationNetwork", network)
        self.connections: Connections = connections

    def labels(self, case: OpenCase) -> list[Label]:
        """All labels that a segmentation of the case may hold."""
        return result_labels([job.region for job in case.jobs])

    def segment(self, case: OpenCase, network: nn.Module | None = None) -> np.ndarray:
        """The label map (z, y, x) in canonical orientation, by the model or one round it."""
        labels = self.labels(case)
        dtype = np.uint8 if max(label.value for label in labels) <= 255 else np.int16
        canvas = np.zeros(case.canonical_grid.shape, dtype)
        predictor = Predictor(
            network or self.network,
            patch=self.bundle.plan["patch"],
            classes=self.bundle.outputs,
            finish=sigmoid if self.bundle.regions else None,
            device=self.device,
            reporter=self.reporter,
        )
        predict_labels(case.jobs, predictor, canvas, labels=labels, reporter=self.reporter)
        return canvas

    def maps(
        self,
        case: OpenCase,
        nodes: Sequence[Node],
        labels: Sequence[Label] = (),
        *,
        near: np.ndarray | None = None,
    ) -> list[NodeMaps]:
        """The importance of each node, then its form for each label.

        A label of one region alone ("Left Anterior") is looked for in that region alone. Where
        regions overlap, the larger value stays.

        Args:
            case: The image.
            nodes: Which nodes.
            labels: Which labels.
            near: (z, y, x) bool in canonical orientation, the voxels to read the maps at; all that
                the network looked at by default. The maps are of the smallest box around them.
        """
        inside = _box(case, near)
        size = tuple(part.stop - part.start for part in inside)
        jobs = [job for job in case.jobs if not job.empty and job.overlap(inside)]
        classes = [_class_of(label, job, self.bundle) for job in jobs for label in labels]
        wanted = sorted({number for number in classes if number is not None})
        module = FusionMaps(
            self.network, self.connections, nodes, wanted, regions=self.bundle.regions
        )
        predictor = Predictor(
            module,
            patch=self.bundle.plan["patch"],
            classes=len(module.keys),
            device=self.device,
            finish=_as_they_are,
            reporter=self.reporter,
        )
        found = [
            NodeMaps(
                node,
                label,
                {d: zeros(size, np.float32) for d in module.layers[node].flows},
                np.zeros(size, bool),
                inside,
            )
            for label in (None, *labels)
            for node in nodes
        ]
        advance = self._progress(sum(predictor.count(job.image.shape[1:]) for job in jobs))
        for job in jobs:
            overlap = job.overlap(inside)
            assert overlap is not None
            theirs, own = overlap
            chosen: list[list[np.ndarray]] = [[] for _ in module.keys]
            for maps in found:
                number = None
                if maps.label is not None:
                    number = _class_of(maps.label, job, self.bundle)
                    if number is None:
                        continue
                job.turned(maps.seen[theirs])[...] = True
                for place, key in enumerate(module.keys):
                    if key.node == maps.node and key.label == number:
                        chosen[place].append(job.turned(maps.raw[key.direction][theirs]))
            writer = _MapWriter(job, own, chosen)
            for block in predictor.stream(job.image, on_windows=advance):
                writer.add(block)
        if near is not None:
            for maps in found:
                maps.seen[...] &= maps.part(near)
                for raw in maps.raw.values():
                    raw *= maps.seen
        return found

    def _progress(self, total: int) -> Callable[[int], None]:
        done = 0

        def advance(windows: int) -> None:
            nonlocal done
            done += windows
            self.reporter.progress("importance", done, total)

        self.reporter.progress("importance", 0, total)
        return advance


class _MapWriter(SliceWriter):
    """Writes each map into its volumes; where one holds something, the larger value stays.

    Args:
        job: The region that the maps are of.
        part: Voxels (D, H, W) of the region that the volumes hold.
        targets: For each map, volumes (D, H, W) of that part.
    """

    def __init__(self, job: Job, part: Slices, targets: Sequence[Sequence[np.ndarray]]) -> None:
        super().__init__(job.axes)
        self._part, self._targets = part, targets

    def _write(self, plane: Any) -> None:
        depth, height, width = self._part
        if not depth.start <= self._done < depth.stop:
            return
        values = to_array(plane[0])[:, height, width]
        for source, volumes in zip(values, self._targets, strict=True):
            for volume in volumes:
                place = volume[self._done - depth.start]
                np.maximum(place, source, out=place)


def _box(case: OpenCase, near: np.ndarray | None) -> Slices:
    """The box around all that the network looks at, or what of it is to be read."""
    depth, height, width = case.canonical_grid.shape
    whole: Slices = (slice(0, depth), slice(0, height), slice(0, width))
    targets = [job.target for job in case.jobs if not job.empty] or [whole]
    low = [min(target[axis].start for target in targets) for axis in range(3)]
    high = [max(target[axis].stop for target in targets) for axis in range(3)]
    seen = slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2])
    found = bounds(near[seen]) if near is not None else None
    if found is None:
        return seen
    z, y, x = (
        slice(first + part.start, first + part.stop) for first, part in zip(low, found, strict=True)
    )
    return z, y, x


def _class_of(label: Label, job: Job, bundle: Bundle) -> int | None:
    """The output of a label in a region, None where the region cannot give it."""
    first = 0 if bundle.regions else 1  # before the labels comes the background
    if label in job.region.labels:
        return job.region.labels.index(label) + first
    own = tuple(bundle.labels)
    return own.index(label) + first if label in own else None


def _as_they_are(maps: Any) -> Any:
    return maps
