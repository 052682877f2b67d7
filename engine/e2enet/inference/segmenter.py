"""The use case behind `e2enet segment`: from image files and a model to a label map.

Reads, finds the regions, prepares, runs the sliding window and brings the labels back onto the
input's own grid. Imports are lazy where they cost time: a wrong path is refused before PyTorch is
loaded.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from ..bundle import Bundle, Label
from ..data.images import Grid, Volume, read_channels
from ..data.orientation import to_canonical
from ..data.plan import Plan
from ..events import BadInput, Reporter
from .cases import InputCase, find_case
from .manifest import InputHashes, make_manifest
from .regions import Job, Region, find_regions, prepare_region, result_labels
from .result import LabelVolume, Outputs, Result
from .roi import parse_roi
from .spill import zeros

if TYPE_CHECKING:
    from torch import nn

    from .predictor import Predictor

PathLike = str | os.PathLike[str]
_PROBABILITY_BUDGET = 256 * 2**20  # bytes; larger ones go to a temporary file


def segment(
    inputs: PathLike | Sequence[PathLike],
    model: PathLike | Bundle,
    *,
    output: PathLike | None = None,
    device: str = "auto",
    tta: bool = False,
    roi: Any = None,
    save_probabilities: bool = False,
    reporter: Reporter | None = None,
) -> Result:
    """Segment one case.

    Args:
        inputs: An image file, a DICOM folder, or one of these for each of the model's channels.
        model: Name of an installed model, path of a bundle, or an open bundle.
        output: Where to save the result; nothing is written without it.
        device: auto, cpu, cuda, cuda:N or mps.
        tta: Average over mirrored versions where the model's plan allows mirroring; slower by
            2 to the number of its axes.
        roi: Region of interest or several (`e2enet.inference.roi.parse_roi`).
        save_probabilities: Keep the probabilities of all labels.
        reporter: Receives progress ("read", "locate", "inference", "write") and warnings.

    Returns:
        The label map on the input's own grid, volumes in mL and the manifest.

    Raises:
        BadInput: Something given cannot be used; nothing has been written.

    Example:
        >>> result = segment("head.nii.gz", "hippocampus-mr")  # doctest: +SKIP
        >>> result.label.shape, result.volumes_ml  # doctest: +SKIP
    """
    paths = [inputs] if isinstance(inputs, (str, os.PathLike)) else list(inputs)
    segmenter = Segmenter(model, device=device, tta=tta, reporter=reporter)
    return segmenter.run(
        find_case(paths), output=output, roi=roi, save_probabilities=save_probabilities
    )


class Segmenter:
    """A model that is loaded once and segments one case after the other.

    Args:
        model, device, tta, reporter: As `segment`.

    Raises:
        BadInput: No such model or device.
    """

    def __init__(
        self,
        model: PathLike | Bundle,
        *,
        device: str = "auto",
        tta: bool = False,
        reporter: Reporter | None = None,
    ) -> None:
        self.bundle = model if isinstance(model, Bundle) else Bundle.open(model)
        self.plan = Plan.from_dict(self.bundle.plan)
        self.tta = tta
        self._device_name = device
        self._reporter = reporter or Reporter()
        self._network: nn.Module | None = None

    def run(
        self,
        case: InputCase,
        *,
        output: PathLike | None = None,
        roi: Any = None,
        save_probabilities: bool = False,
    ) -> Result:
        """Segment one case; arguments, result and errors as `segment`."""
        started = time.perf_counter()
        outputs = Outputs.of(output) if output is not None else None
        if outputs:
            outputs.check(case.paths)
        self._check_channels(case)
        rois = [parse_roi(one, _box_names(self.bundle)) for one in _several(roi)]
        heard = Recorder(self._reporter)
        clock = Clock()
        hashes = InputHashes(case.paths)
        with clock("read"):
            heard.progress("read", 0, 1)
            volumes, grid, undo = _read(case, heard)
            heard.progress("read", 1, 1)
        canonical_grid = volumes[0].grid
        with clock("locate"):
            regions = find_regions(volumes, self.bundle, rois, heard)
        with clock("prepare"):
            jobs = [prepare_region(volumes, region, self.plan) for region in regions]
        del volumes  # from here on only what the network sees is in memory
        with clock("load"):
            predictor = self._predictor(heard)
        labels = result_labels(self.bundle, regions)
        shape = canonical_grid.shape
        canvas = np.zeros(shape, np.uint8 if labels[-1].value <= 255 else np.int16)
        kept = None
        if save_probabilities:
            kept = zeros((len(labels), *shape), np.float16, budget=_PROBABILITY_BUDGET)
        with clock("inference"):
            _predict(jobs, predictor, canvas, kept, labels, heard)
        counts = np.bincount(canvas.ravel(), minlength=labels[-1].value + 1)
        found = [_measured(label, int(counts[label.value]), grid) for label in labels]
        if not any(label.voxels for label in found):
            heard.warning(
                "nothing-found", f"None of the model's structures was found in {case.name}."
            )
        manifest = make_manifest(
            case=case,
            bundle=self.bundle,
            device=predictor.device,
            options={
                "device": self._device_name,
                "tta": self.tta,
                "roi": [one.text for one in rois],
                "save_probabilities": save_probabilities,
            },
            grid=grid,
            regions=[region.to_dict(canonical_grid) for region in regions],
            labels=[label.to_dict() for label in found],
            warnings=heard.warnings,
            hashes=hashes,
        )
        clock.fill(manifest, started)
        result = Result(undo(canvas), grid, found, manifest, kept, undo)
        if output is not None:
            heard.progress("write", 0, 1)
            result.save(output)
            heard.progress("write", 1, 1)
        return result

    def _check_channels(self, case: InputCase) -> None:
        names = self.bundle.channels
        if len(case.paths) != len(names):
            given = ", ".join(path.name for path in case.paths)
            raise BadInput(
                f"The model {self.bundle.name} takes {_counted(names)}, but {len(case.paths)} "
                f"{'was' if len(case.paths) == 1 else 'were'} given ({given}).",
                help="Give one file a channel, in this order; for several cases give a folder.",
                code="channel-count",
            )

    def _predictor(self, reporter: Reporter) -> Predictor:
        from .device import choose_device
        from .predictor import Predictor

        device = choose_device(self._device_name)
        if self._network is None:
            self._network, _ = self.bundle.load_network()
        return Predictor(
            self._network,
            patch=self.plan.patch,
            classes=len(self.bundle.labels) + 1,
            device=device,
            mirror_axes=self.plan.mirror_axes if self.tta else (),
            left_right_axis=self.plan.left_right_axis,
            left_right_pairs=self.plan.left_right_pairs,
            reporter=reporter,
        )


class Recorder(Reporter):
    """Passes progress and warnings on, and keeps the warnings for the manifest."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self.warnings: list[dict[str, str]] = []

    def progress(self, stage: str, done: int, total: int) -> None:
        self._reporter.progress(stage, done, total)

    def warning(self, code: str, message: str) -> None:
        self.warnings.append({"code": code, "message": message})
        self._reporter.warning(code, message)


class Clock:
    """Seconds of each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[stage] = round(time.perf_counter() - start, 3)

    def fill(self, manifest: dict[str, Any], started: float) -> None:
        manifest["stages_s"] = self.seconds
        manifest["seconds"] = round(time.perf_counter() - started, 3)


def _read(case: InputCase, reporter: Reporter) -> tuple[list[Volume], Grid, Any]:
    """The channels in canonical orientation, the input's own grid and the way back to it."""
    volumes = read_channels(case.paths, reporter=reporter)
    grid = volumes[0].grid
    turned = [to_canonical(Volume(volume.array, grid, volume.name)) for volume in volumes]
    return [volume for volume, _ in turned], grid, turned[0][1]


def _predict(
    jobs: Sequence[Job],
    predictor: Predictor,
    canvas: np.ndarray,
    kept: np.ndarray | None,
    labels: Sequence[Label],
    reporter: Reporter,
) -> None:
    """Run the windows of all jobs and write labels and probabilities into canonical arrays."""
    from .restore import LabelWriter

    jobs = [job for job in jobs if not job.empty]
    total = sum(predictor.count(job.image.shape[1:]) for job in jobs)
    done = 0

    def advance(windows: int) -> None:
        nonlocal done
        done += windows
        reporter.progress("inference", done, total)

    reporter.progress("inference", 0, total)
    values = [label.value for label in labels]
    for number, job in enumerate(jobs):
        own = canvas if number == 0 else np.zeros_like(canvas[job.target])
        first = values.index(job.region.labels[0].value)
        last = first + len(job.region.labels)
        writer = LabelWriter(
            job.axes,
            values=[0, *(label.value for label in job.region.labels)],
            labels=job.view(canvas) if number == 0 else job.turned(own),
            probabilities=None if kept is None else job.view(kept[first:last]),
        )
        for block in predictor.stream(job.image, on_windows=advance):
            writer.add(block)
        if number:
            _merge(canvas, own, job, [one.region for one in jobs[:number]])


def _merge(canvas: np.ndarray, own: np.ndarray, job: Job, earlier: Sequence[Region]) -> None:
    """Put a job's labels onto the canvas; a voxel that two claim goes to the nearer centre."""
    target = canvas[job.target]
    mine = own > 0
    for d, h, w in np.argwhere(mine & (target > 0)):
        at = [int(v) + part.start for v, part in zip((d, h, w), job.target, strict=True)]
        owner = next(r for r in earlier if target[d, h, w] in {one.value for one in r.labels})
        if owner.distance(at) <= job.region.distance(at):
            mine[d, h, w] = False
    target[mine] = own[mine]


def _measured(label: Label, voxels: int, grid: Grid) -> LabelVolume:
    return LabelVolume(
        label.value, label.name, label.color, label.terminology, voxels * grid.voxel_ml, voxels
    )


def _several(roi: Any) -> list[Any]:
    if roi is None:
        return []
    if isinstance(roi, (str, os.PathLike)):
        return [roi]
    roi = list(roi)
    return [roi] if roi and isinstance(roi[0], (int, float)) else roi


def _box_names(bundle: Bundle) -> list[str]:
    boxes = (bundle.locator or {}).get("boxes")
    return [str(box.get("name")) for box in boxes] if isinstance(boxes, list) else []


def _counted(names: Sequence[str]) -> str:
    return f"{len(names)} channel{'s' if len(names) > 1 else ''} ({', '.join(names)})"
