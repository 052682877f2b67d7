"""A case on its way to the network: read, checked against the model, located and prepared."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from e2enet.bundle import Bundle
from e2enet.data.images.orientation import Undo, to_canonical
from e2enet.data.images.volume import Grid, Volume, read_channels
from e2enet.data.planning.plan import Plan
from e2enet.data.preprocessing.cases import check_depth
from e2enet.events import BadInput, Reporter
from e2enet.inference.case.inputs import InputCase
from e2enet.inference.case.manifest import InputHashes
from e2enet.inference.case.modality import check_modality
from e2enet.inference.localisation.regions import Job, find_regions, prepare_region
from e2enet.inference.localisation.roi import Roi, parse_roi


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
        """Write the seconds of every stage and of all into a manifest."""
        manifest["stages_s"] = self.seconds
        manifest["seconds"] = round(time.perf_counter() - started, 3)


@dataclass(frozen=True)
class OpenCase:
    """A case whose regions are ready for the network.

    Attributes:
        grid: The input's own grid.
        canonical_grid: The same in canonical orientation; all arrays of a prediction lie on it.
        undo: From canonical orientation to the input's own grid.
        jobs: One a region.
        rois: The regions of interest as the person gave them.
        hashes: SHA-256 of the inputs.
        first: The first channel in canonical orientation, for pictures; None unless asked for.
        series_uids: Series Instance UID of each channel; "" for what is no DICOM series.
    """

    grid: Grid
    canonical_grid: Grid
    undo: Undo
    jobs: list[Job]
    rois: list[str]
    hashes: InputHashes
    first: Volume | None = None
    series_uids: tuple[str, ...] = ()


def open_case(
    case: InputCase,
    bundle: Bundle,
    *,
    roi: Any = None,
    reporter: Reporter | None = None,
    clock: Clock | None = None,
    keep_image: bool = False,
    kernels: bool = True,
) -> OpenCase:
    """Read a case and prepare what a model is to look at.

    Args:
        case: Its files.
        bundle: The model.
        roi: As `e2enet.inference.segment`.
        reporter: Receives progress ("read", "locate") and warnings.
        clock: Receives the seconds of "read", "locate" and "prepare".
        keep_image: Keep the first channel in memory.
        kernels: Prepare the sparse kernels meanwhile.

    Raises:
        BadInput: The model cannot take this case.
    """
    reporter, clock = reporter or Reporter(), clock or Clock()
    _check_channels(case, bundle)
    plan = Plan.from_dict(bundle.plan)
    rois = parse_rois(roi, bundle)
    hashes = InputHashes(case.channels)
    with clock("read"):
        reporter.progress("read", 0, 1)
        volumes, grid, undo, series_uids = _read(case, bundle, reporter)
        check_modality(volumes, bundle)
        reporter.progress("read", 1, 1)
    check_depth(volumes[0], plan)
    if kernels:
        threading.Thread(target=_load_runtime).start()
    with clock("locate"):
        regions = find_regions(volumes, bundle, rois, reporter)
    with clock("prepare"):
        jobs = [prepare_region(volumes, region, plan) for region in regions]
    # Without `keep_image` only what the network sees stays in memory.
    first = volumes[0] if keep_image else None
    texts = [one.text for one in rois]
    return OpenCase(grid, volumes[0].grid, undo, jobs, texts, hashes, first, series_uids)


def parse_rois(roi: Any, bundle: Bundle) -> list[Roi]:
    """The regions of interest of `e2enet.inference.segment`. Raises BadInput for a bad one."""
    return [parse_roi(one, _box_names(bundle)) for one in _several(roi)]


def _read(
    case: InputCase, bundle: Bundle, reporter: Reporter
) -> tuple[list[Volume], Grid, Undo, tuple[str, ...]]:
    """The channels in canonical orientation, the input's own grid, the way back, series' UIDs."""
    volumes = read_channels(
        case.channels,
        series=case.series or None,
        modality=str(bundle.model.get("modality") or ""),
        reporter=reporter,
    )
    grid, uids = volumes[0].grid, tuple(volume.series_uid for volume in volumes)
    turned = [to_canonical(Volume(volume.array, grid, volume.name)) for volume in volumes]
    return [volume for volume, _ in turned], grid, turned[0][1], uids


def _load_runtime() -> None:
    """Load the kernels: a second in which registration leaves Python idle."""
    from e2enet.runtime.execution import kernels_work

    kernels_work()


def _check_channels(case: InputCase, bundle: Bundle) -> None:
    names = bundle.channels
    if len(case.channels) != len(names):
        given = ", ".join(channel.name for channel in case.channels)
        raise BadInput(
            f"The model {bundle.name} takes {_counted(names)}, but {len(case.channels)} "
            f"{'was' if len(case.channels) == 1 else 'were'} given ({given}).",
            help="Give one file a channel, in this order; for several cases give a folder.",
            code="channel-count",
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
