"""The use case behind `e2enet segment`: from image files and a model to a label map.

Reads, finds the regions, prepares, runs the sliding window and brings the labels back onto the
input's own grid. Imports are lazy where they cost time: a wrong path is refused before PyTorch is
loaded.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from e2enet.bundle import Bundle, Label
from e2enet.data.images.memory import is_image
from e2enet.data.images.volume import Grid
from e2enet.data.planning.plan import Plan
from e2enet.events import BadInput, Reporter
from e2enet.inference.case.components import keep_largest
from e2enet.inference.case.doubt import find_doubts, sentence
from e2enet.inference.case.inputs import InputCase, case_in_memory, find_case
from e2enet.inference.case.loading import Clock, open_case
from e2enet.inference.case.manifest import make_manifest
from e2enet.inference.case.result import LabelVolume, Outputs, Result
from e2enet.inference.device import check_device_name, choose_device, device_name
from e2enet.inference.ensemble import open_models
from e2enet.inference.localisation.regions import Job, Region, result_labels
from e2enet.inference.sliding_window.spill import DEFAULT_BUDGET, zeros

if TYPE_CHECKING:
    from e2enet.bundle.weights import StoredNetwork
    from e2enet.inference.sliding_window.ensemble import MeanPredictor
    from e2enet.inference.sliding_window.predictor import Precision, Predictor, Runtime

PathLike = str | os.PathLike[str]
_PROBABILITY_BUDGET = 256 * 2**20  # bytes; larger ones go to a temporary file


def segment(
    inputs: Any,
    model: PathLike | Bundle | Sequence[PathLike | Bundle],
    *,
    output: PathLike | None = None,
    device: str = "auto",
    tta: bool = False,
    roi: Any = None,
    series: str | Sequence[str] | None = None,
    save_probabilities: bool = False,
    runtime: Runtime = "sparse",
    precision: Precision | None = None,
    reporter: Reporter | None = None,
) -> Result:
    """Segment one case.

    Args:
        inputs: An image file, a DICOM folder or a zip of one, or an image in memory (a `Volume`, or
            one of SimpleITK, nibabel or MONAI, as `e2enet.data.images.memory.volumes_of`); or one
            of these for each of the model's channels.
        model: Name of an installed model, path of a bundle, or an open bundle; several, or the
            folder of a cross-validation, answer with their mean probabilities.
        output: Where to save the result; nothing is written without it.
        device: auto, cpu, cuda, cuda:N or mps.
        tta: Average over mirrored versions where the model's plan allows mirroring; slower by
            2 to the number of its axes.
        roi: Region of interest or several (`e2enet.inference.localisation.roi.parse_roi`).
        series: Which series of a DICOM folder or zip: its number, a part of its description, or its
            UID; one for each channel. By default the only one that is a volume of the model's
            modality.
        save_probabilities: Keep the probabilities of all labels.
        runtime: "sparse" skips what DSFF removed; "reference" runs the network as it was trained.
        precision: As far as the device has it; None for float16 on CUDA and float32 elsewhere.
        reporter: Receives progress ("read", "locate", "inference", "write") and warnings.

    Returns:
        The label map on the input's own grid, volumes in mL and the manifest.

    Raises:
        BadInput: Something given cannot be used; nothing has been written.

    Example:
        >>> result = segment("head.nii.gz", "hippocampus-mr")  # doctest: +SKIP
        >>> result.label.shape, result.volumes_ml  # doctest: +SKIP
    """
    several = not (isinstance(inputs, (str, os.PathLike)) or is_image(inputs))
    listed = list(inputs) if several else [inputs]
    if any(is_image(one) for one in listed):
        case = case_in_memory(listed)
    else:
        case = find_case(listed, [series] if isinstance(series, str) else series)
    segmenter = Segmenter(
        model, device=device, tta=tta, runtime=runtime, precision=precision, reporter=reporter
    )
    return segmenter.run(case, output=output, roi=roi, save_probabilities=save_probabilities)


class Segmenter:
    """A model that is loaded once and segments one case after the other.

    Args:
        model, device, tta, runtime, precision, reporter: As `segment`.

    Raises:
        BadInput: No such model or device.
    """

    def __init__(
        self,
        model: PathLike | Bundle | Sequence[PathLike | Bundle],
        *,
        device: str = "auto",
        tta: bool = False,
        runtime: Runtime = "sparse",
        precision: Precision | None = None,
        reporter: Reporter | None = None,
    ) -> None:
        self.ensemble = open_models(model)
        self.bundle = self.ensemble.bundles[0]
        self.plan = Plan.from_dict(self.bundle.plan)
        self.tta = tta
        self.runtime, self.precision = runtime, precision
        self._device_name = check_device_name(device)
        self._reporter = reporter or Reporter()
        self._networks: list[StoredNetwork] = []
        self._weights_sha256: list[str] = []

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
        recorder = Recorder(self._reporter)
        clock = Clock()
        if so_far := (self.bundle.model.get("provenance") or {}).get("unfinished"):
            recorder.warning(
                "unfinished-model",
                f"The training of {self.bundle.name} is not finished: this is its state after "
                f"epoch {so_far['epoch']} of {so_far['epochs']}.",
            )
        device = choose_device(self._device_name)
        kernels = device == "cpu" and self.runtime == "sparse"
        opened = open_case(
            case, self.bundle, roi=roi, reporter=recorder, clock=clock, kernels=kernels
        )
        if outputs:
            outputs.check_grid(opened.grid)
        grid, canonical_grid, jobs = opened.grid, opened.canonical_grid, opened.jobs
        regions = [job.region for job in jobs]
        with clock("load"):
            predictor = self._predictor(device, recorder)
        recorder.metric("device", device=device_name(predictor.plan.device))
        labels = result_labels(regions)
        shape, highest = canonical_grid.shape, max(label.value for label in labels)
        canvas = np.zeros(shape, np.uint8 if highest <= 255 else np.int16)
        kept = None
        if save_probabilities:
            kept = zeros((len(labels), *shape), np.float16, budget=_PROBABILITY_BUDGET)
        with clock("inference"):
            predict_labels(jobs, predictor, canvas, labels=labels, kept=kept, reporter=recorder)
        jobs.clear()  # the prepared image is no longer needed
        one_piece = [label.values or (label.value,) for label in labels if label.one_piece]
        for values in self.ensemble.keep_largest or one_piece:
            keep_largest(canvas, values)
        counts = _counts(canvas, highest)
        voxels = {
            label.value: int(counts[[*(label.values or (label.value,))]].sum()) for label in labels
        }
        volumes = {value: count * grid.voxel_ml for value, count in voxels.items()}
        doubts = []
        if any(counts[1:]):
            doubts = find_doubts(
                canvas,
                canonical_grid,
                labels=labels,
                volumes_ml=volumes,
                regions=regions,
                pairs=self.plan.left_right_pairs,
            )
        else:
            recorder.warning(
                "nothing-found", f"None of the model's structures was found in {case.name}."
            )
        if doubts:
            recorder.warning("doubtful-result", sentence(doubts), first=True)
        doubted = {value for doubt in doubts for value in doubt.labels}
        found = [
            _measured(label, voxels[label.value], grid, doubtful=label.value in doubted)
            for label in labels
        ]
        manifest = make_manifest(
            case=case,
            bundle=self.bundle,
            weights_sha256=self._weights_sha256[0],
            plan=predictor.plan,
            options={
                "device": self._device_name,
                **self.options(opened.rois, save_probabilities, self._weights_sha256),
            },
            grid=grid,
            regions=[region.to_dict(canonical_grid) for region in regions],
            labels=[label.to_dict() for label in found],
            warnings=recorder.warnings,
            doubts=doubts,
            hashes=opened.hashes,
            series_uids=opened.series_uids,
        )
        clock.fill(manifest, started)
        result = Result(opened.undo(canvas), grid, found, manifest, kept, opened.undo)
        if output is not None:
            recorder.progress("write", 0, 1)
            result.save(output)
            recorder.progress("write", 1, 1)
        return result

    def options(
        self, rois: list[str], save_probabilities: bool, weights_sha256: Sequence[str]
    ) -> dict[str, Any]:
        """What decides a result beside its input and its first model, as a manifest says it."""
        options: dict[str, Any] = {
            "tta": self.tta,
            "runtime": self.runtime,
            "roi": rois,
            "save_probabilities": save_probabilities,
        }
        options |= {"precision": self.precision} if self.precision else {}
        if len(self.ensemble.bundles) > 1:
            options["ensemble"] = [
                {"name": bundle.name, "weights_sha256": sha256}
                for bundle, sha256 in zip(self.ensemble.bundles, weights_sha256, strict=True)
            ]
            options["keep_largest"] = [list(values) for values in self.ensemble.keep_largest]
        if one_piece := [label.name for label in self.bundle.labels if label.one_piece]:
            options["one_piece"] = one_piece
        return options

    def _predictor(self, device: str, reporter: Reporter) -> Predictor | MeanPredictor:
        from e2enet.inference.sliding_window.arrays import sigmoid
        from e2enet.inference.sliding_window.ensemble import MeanPredictor
        from e2enet.inference.sliding_window.predictor import Predictor

        if not self._networks:
            self._networks = [self._load(bundle) for bundle in self.ensemble.bundles]
            # Of what was loaded: the file may be replaced while a batch runs.
            self._weights_sha256 = [bundle.weights_sha256() for bundle in self.ensemble.bundles]
        first = 0 if self.bundle.regions else 1  # before the labels comes the background
        place = {label.value: number for number, label in enumerate(self.bundle.labels, first)}
        members = [
            Predictor(
                network,
                patch=self.plan.patch,
                classes=self.bundle.outputs,
                finish=sigmoid if self.bundle.regions else None,
                device=device,
                mirror_axes=self.plan.mirror_axes if self.tta else (),
                left_right_axis=self.plan.left_right_axis,
                left_right_pairs=[(place[a], place[b]) for a, b in self.plan.left_right_pairs],
                budget=DEFAULT_BUDGET // len(self._networks),
                runtime=self.runtime,
                precision=self.precision,
                reporter=reporter,
            )
            for network in self._networks
        ]
        return members[0] if len(members) == 1 else MeanPredictor(members)

    def _load(self, bundle: Bundle) -> StoredNetwork:
        """The network, checked against the labels and the plan of its own model.json."""
        network = bundle.load_weights()
        classes = bundle.outputs
        values = {label.value for label in bundle.labels}
        paired = {value for pair in self.plan.left_right_pairs for value in pair}
        graph = network.lattice
        fits = graph is None or (
            graph.num_classes == classes
            and all(n % d == 0 for n, d in zip(self.plan.patch, graph.divisor, strict=True))
        )
        if not fits or not paired <= values:
            raise BadInput(
                f"The labels or the plan of the model {bundle.name} do not fit its network.",
                help="The model is damaged; import or download it again.",
                code="damaged-model",
            )
        return network


class Recorder(Reporter):
    """Passes everything on, and keeps the warnings for the manifest."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self.warnings: list[dict[str, str]] = []

    def progress(self, stage: str, done: int, total: int) -> None:
        self._reporter.progress(stage, done, total)

    def metric(self, name: str, **values: Any) -> None:
        self._reporter.metric(name, **values)

    def warning(self, code: str, message: str, *, first: bool = False) -> None:
        """Pass a warning on; `first` puts it before those of the manifest that came earlier."""
        self.warnings.insert(0 if first else len(self.warnings), {"code": code, "message": message})
        self._reporter.warning(code, message)


def predict_labels(
    jobs: Sequence[Job],
    predictor: Predictor | MeanPredictor,
    canvas: np.ndarray,
    *,
    labels: Sequence[Label],
    kept: np.ndarray | None = None,
    reporter: Reporter | None = None,
) -> None:
    """Run the windows of all jobs and write labels and probabilities into canonical arrays.

    Args:
        jobs: The regions of one case.
        predictor: The model.
        canvas: (z, y, x) zeros for the labels.
        labels: All labels that the jobs may give (`result_labels`).
        kept: (len(labels), z, y, x) for the probabilities, or None.
        reporter: Receives progress as stage "inference".
    """
    from e2enet.inference.case.restoring import LabelWriter

    reporter = reporter or Reporter()
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
        regions = bool(job.region.labels[0].values)
        own_values = [label.value for label in job.region.labels]
        writer = LabelWriter(
            job.axes,
            values=own_values if regions else [0, *own_values],
            regions=regions,
            labels=job.view(canvas) if number == 0 else job.turned(own),
            probabilities=None if kept is None else job.view(kept[first:last]),
        )
        for block in predictor.stream(job.image, on_windows=advance):
            writer.add(block)
        if job.region.one_piece:
            keep_largest(own[job.target] if number == 0 else own)
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


def _counts(canvas: np.ndarray, highest: int) -> np.ndarray:
    """Voxels of each label 0 … highest; slice by slice, because bincount makes 64-bit copies."""
    counts = np.zeros(highest + 1, np.int64)
    for plane in canvas:
        counts += np.bincount(plane[plane > 0], minlength=highest + 1)
    counts[0] = canvas.size - counts.sum()
    return counts


def _measured(label: Label, voxels: int, grid: Grid, *, doubtful: bool) -> LabelVolume:
    return LabelVolume(
        label.value,
        label.name,
        label.color,
        label.terminology,
        voxels * grid.voxel_ml,
        voxels,
        doubtful,
        label.values,
    )
