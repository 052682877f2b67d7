"""The use case behind `e2enet explain`: flow of a model, importance for an image, and a report.

What lies in the output folder afterwards is listed in `explain.json`:

    {"schema_version": 1, "created": ISO time,
     "model": {"name", "title", "weights_sha256"},
     "input": {"case", "paths"} or null (flow alone),
     "device": …,
     "nodes": [{"stage", "level", "directions"}]     every fused node of the model
     "flow": {"json", "csv", "figure", "history_figure" (null without a history)} or null (U-Net),
     "segmentation": path or null,
     "labels": [{"value", "name", "color", "terminology"}]   of the segmentation
     "volumes": [{"stage", "level", "label": null or {"value", "name"},
                  "direction": "forward" | "upward" | "downward" | null,
                  "kind": "raw" | "normalised" | "dominant",
                  "path", "range": [least, largest], "display": [0, upper end for a good window]}],
     "region": null or {"first": [i, j, k], "size": [i, j, k] of the input's voxels,
                        "margin_mm": around the structures, null where nothing was found}
     "shares": [{"stage", "level", "label", "where": "region" or a structure's name,
                 "directions": {direction: share}}],
     "scales": [{"label", "nodes": [{"stage", "level", "share"}]}]   U-Net: of the encoder's skips
     "figures": [{"stage", "level", "label", "path"}],
     "faithfulness": null or as `Faithfulness.to_dict`,
     "report": path, "warnings": [{"code", "message"}]}

Paths are relative to the folder; in the `result` event, which says the same, they are absolute.
"label" null is the importance, else the label form (`e2enet.explain.importance` says what both
mean). Volumes are NRRD on the voxels of the input that lie in "region", the box around what was
found and a margin; beyond the margin, and where nothing was found beyond what the network looked
at, they are 0. "raw" is float32 in the measure's own unit; "normalised" from 0 to 1, all directions
of a node divided by one number; "dominant" uint8 with 1 forward, 2 upward, 3 downward and 0
nothing.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from e2enet.bundle import Bundle, Label
from e2enet.data.images.volume import write_image, write_label
from e2enet.events import BadInput, Reporter
from e2enet.explain.figures.flow import draw_flow, draw_history
from e2enet.explain.figures.overlay import display_range, draw_importance
from e2enet.explain.flow import Flow, fusion_flow, no_fusion
from e2enet.explain.folder import INDEX, check_folder, fill_folder
from e2enet.explain.maps import NodeMaps, find_label, scale_shares
from e2enet.explain.nodes import DECODERS, nodes_of, parse_nodes
from e2enet.explain.report import write_report
from e2enet.explain.surroundings import MARGIN_MM, surroundings
from e2enet.extras import need_torch
from e2enet.inference.case.inputs import find_case, is_case_folder
from e2enet.inference.case.loading import OpenCase, open_case
from e2enet.inference.device import choose_device, device_name
from e2enet.inference.localisation.regions import result_labels
from e2enet.inference.segmenter import Recorder

if TYPE_CHECKING:
    from e2enet.explain.faithfulness import Faithfulness
    from e2enet.explain.volumes import Explainer

SCHEMA_VERSION = 1
REPORT, SEGMENTATION = "report.html", "segmentation.nrrd"
PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class Explanation:
    """A written explanation: its folder and the content of explain.json."""

    folder: Path
    index: dict[str, Any]

    def describe(self) -> dict[str, Any]:
        """The content of the `result` event: the index with absolute paths."""
        folder = self.folder.absolute()

        def there(name: str | None) -> str | None:
            return None if name is None else os.fspath(folder / name)

        def placed(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
            return [{**entry, "path": there(entry["path"])} for entry in entries]

        index = self.index
        return {
            **index,
            "output": os.fspath(folder),
            "index": there(INDEX),
            "flow": index["flow"] and {key: there(name) for key, name in index["flow"].items()},
            "segmentation": there(index["segmentation"]),
            "volumes": placed(index["volumes"]),
            "figures": placed(index["figures"]),
            "report": there(index["report"]),
        }


def explain(
    inputs: PathLike | Sequence[PathLike] | None,
    model: PathLike | Bundle,
    *,
    output: PathLike,
    nodes: str | Sequence[str] | None = None,
    labels: Sequence[str] = (),
    device: str = "auto",
    roi: Any = None,
    series: str | Sequence[str] | None = None,
    faithfulness_on: tuple[PathLike, PathLike] | None = None,
    cases: int | None = 10,
    reporter: Reporter | None = None,
) -> Explanation:
    """Show what a model's nodes take from which side, in general and for one image.

    Args:
        inputs: An image file, a DICOM folder or a zip of one, or one of these a channel; None shows
            the flow alone.
        model: Name of an installed model, path of a bundle, or an open bundle.
        output: Folder; an earlier explanation in it is replaced.
        nodes: `STAGE:LEVEL`, several with commas, or `all`; the last diagonal by default.
        labels: Names or values of labels to show the gradient-weighted form for.
        device: auto, cpu, cuda, cuda:N or mps.
        roi, series: As `e2enet.inference.segment`.
        faithfulness_on: Folders of images and of their label maps to try deletions on.
        cases: How many of them, from the first by name; None for all.
        reporter: Receives progress ("read", "locate", "inference", "importance", "faithfulness",
            "figures", "write") and warnings.

    Raises:
        BadInput: Something given cannot be used; nothing has been written.

    Example:
        >>> found = explain("head.nii.gz", "hippocampus-mr", output="why")  # doctest: +SKIP
        >>> found.index["shares"][0]  # doctest: +SKIP
    """
    recorder = Recorder(reporter or Reporter())
    folder = Path(output)
    check_folder(folder)
    bundle = model if isinstance(model, Bundle) else Bundle.open(model)
    case_files = None
    if inputs is not None:
        paths = [inputs] if isinstance(inputs, (str, os.PathLike)) else list(inputs)
        case_files = find_case(paths, [series] if isinstance(series, str) else series)
        if len(case_files.paths) == 1 and is_case_folder(case_files.paths[0]):
            raise BadInput(
                f"{case_files.paths[0]} is a folder of cases; an explanation is of one case.",
                help="Name one image file, or one file a channel.",
                code="several-cases",
            )
    chosen_device = choose_device(device)
    # The flow alone is read off the weights, without PyTorch.
    decoder = bundle.model["network"]["kind"] in DECODERS
    if decoder and (case_files is None or faithfulness_on is not None):
        raise no_fusion(bundle)
    known = nodes_of(bundle)
    chosen = parse_nodes(nodes, list(known))
    explainer: Explainer | None = None
    if case_files is not None or faithfulness_on is not None:
        need_torch("The importance of the flows")
        from e2enet.explain.volumes import Explainer

        explainer = Explainer(bundle, device=chosen_device, reporter=recorder)
        recorder.metric("device", device=device_name(chosen_device))
    flow = None
    if not decoder:
        flow = fusion_flow(bundle, explainer.connections if explainer else None, reporter=recorder)
    case, found, label_map = None, [], None
    if case_files is not None and explainer is not None:
        case = open_case(case_files, bundle, roi=roi, reporter=recorder, keep_image=True)
        named = [find_label(text, case, bundle) for text in labels]
        wanted = [label for k, label in enumerate(named) if label not in named[:k]]
        label_map = explainer.segment(case)
        _warn_missing(wanted, label_map, case, explainer, recorder)
        near = surroundings(label_map, case.canonical_grid.spacing_zyx)
        found = explainer.maps(case, chosen, wanted, near=near)
    elif labels or series:
        raise BadInput(
            f"--{'label' if labels else 'series'} needs an image.",
            help="Name the INPUT to explain.",
            code="no-input",
        )
    check = None
    if faithfulness_on is not None and explainer is not None:
        from e2enet.explain.faithfulness import faithfulness

        images, references = faithfulness_on
        check = faithfulness(explainer, images, references, count=cases, reporter=recorder)
    index = {
        "schema_version": SCHEMA_VERSION,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "model": {
            "name": bundle.name,
            "title": bundle.title,
            "weights_sha256": bundle.weights_sha256(),
        },
        "input": case_files
        and {"case": case_files.name, "paths": [os.fspath(p) for p in case_files.paths]},
        "device": chosen_device,
        "nodes": [
            {"stage": node.stage, "level": node.level, "directions": list(directions)}
            for node, directions in known.items()
        ],
        "faithfulness": check and check.to_dict(),
        "report": REPORT,
        "warnings": recorder.warnings,
    }
    writer = _Writer(bundle, flow, case, label_map, found, check, recorder)
    inputs_given = case_files.paths if case_files else ()
    return Explanation(
        folder, fill_folder(folder, inputs_given, lambda at: writer.write(at, index))
    )


class _Writer:
    """Writes all files of an explanation into a folder."""

    def __init__(
        self,
        bundle: Bundle,
        flow: Flow | None,
        case: OpenCase | None,
        label_map: np.ndarray | None,
        found: list[NodeMaps],
        check: Faithfulness | None,
        reporter: Reporter,
    ) -> None:
        self.flow, self.case = flow, case
        self.label_map, self.found, self.check, self.reporter = label_map, found, check, reporter
        given = result_labels([job.region for job in case.jobs]) if case else []
        self.labels = [label.to_dict() for label in given]

    def write(self, folder: Path, index: dict[str, Any]) -> dict[str, Any]:
        index["flow"] = self._flow(folder)
        index["segmentation"] = self._segmentation(folder)
        index["labels"] = self.labels
        index["region"] = self._region()
        index["volumes"] = self._volumes(folder)
        index["shares"] = self._shares()
        index["scales"] = [] if self.flow else scale_shares(self.found)
        index["figures"] = self._figures(folder)
        write_report(folder, index, self.flow)
        text = json.dumps(index, indent=2, ensure_ascii=False, allow_nan=False)
        (folder / INDEX).write_text(text + "\n", encoding="utf-8")
        return index

    def _flow(self, folder: Path) -> dict[str, str | None] | None:
        if self.flow is None:
            return None
        content = json.dumps(self.flow.to_dict(), indent=1, allow_nan=False)
        (folder / "flow.json").write_text(content + "\n", encoding="utf-8")
        (folder / "flow.csv").write_text(self.flow.to_csv(), encoding="utf-8")
        draw_flow(self.flow, folder / "flow.png")
        history = None
        if self.flow.has_history:
            history = draw_history(self.flow, folder / "flow_history.png").name
        return {
            "json": "flow.json",
            "csv": "flow.csv",
            "figure": "flow.png",
            "history_figure": history,
        }

    def _segmentation(self, folder: Path) -> str | None:
        if self.case is None or self.label_map is None:
            return None
        write_label(folder / SEGMENTATION, self.case.undo(self.label_map), self.case.grid)
        return SEGMENTATION

    def _region(self) -> dict[str, Any] | None:
        if self.case is None or not self.found:
            return None
        own = self.case.undo.box(self.found[0].inside)
        return {
            "first": [int(part.start) for part in reversed(own)],
            "size": [int(part.stop - part.start) for part in reversed(own)],
            "margin_mm": MARGIN_MM if self.label_map is not None and self.label_map.any() else None,
        }

    def _volumes(self, folder: Path) -> list[dict[str, Any]]:
        entries = []
        for number, maps in enumerate(self.found):
            self.reporter.progress("write", number, len(self.found))
            top = display_range(maps)
            for direction in maps.raw:
                raw, shown = maps.raw[direction], maps.normalised(direction)
                entries.append(self._volume(folder, maps, direction, "raw", raw, top * maps.scale))
                entries.append(self._volume(folder, maps, direction, "normalised", shown, top))
            entries.append(self._volume(folder, maps, None, "dominant", maps.dominant(), 3))
        self.reporter.progress("write", len(self.found), len(self.found))
        return entries

    def _volume(
        self,
        folder: Path,
        maps: NodeMaps,
        direction: str | None,
        kind: str,
        array: np.ndarray,
        top: float,
    ) -> dict[str, Any]:
        assert self.case is not None
        name = "_".join([_stem(maps), *([direction] if direction else []), *_ENDINGS[kind]])
        undo = self.case.undo
        grid = self.case.grid.part(undo.box(maps.inside))
        write_image(folder / f"{name}.nrrd", undo(array), grid)
        return {
            **_place(maps),
            "direction": direction,
            "kind": kind,
            "path": f"{name}.nrrd",
            "range": [float(array.min()), float(array.max())],
            "display": [0.0, float(top)],
        }

    def _shares(self) -> list[dict[str, Any]]:
        shares = []
        for maps in self.found:
            assert self.label_map is not None
            label_map = maps.part(self.label_map)
            regions: list[tuple[str, np.ndarray]] = [("region", maps.seen)]
            for label in self.labels:
                inside = label_map == label["value"]
                if inside.any():
                    regions.append((label["name"], inside))
            for where, voxels in regions:
                directions = {d: round(s, 6) for d, s in maps.shares(voxels).items()}
                shares.append({**_place(maps), "where": where, "directions": directions})
        return shares

    def _figures(self, folder: Path) -> list[dict[str, Any]]:
        entries = []
        for number, maps in enumerate(self.found):
            self.reporter.progress("figures", number, len(self.found))
            assert self.case is not None
            assert self.case.first is not None
            name = f"{_stem(maps)}.png"
            draw_importance(
                self.case.first, maps, folder / name, label=self.label_map, labels=self.labels,
                title=figure_title(maps.node, maps.label.name if maps.label else None),
            )  # fmt: skip
            entries.append({**_place(maps), "path": name})
        self.reporter.progress("figures", len(self.found), len(self.found))
        return entries


_ENDINGS: dict[str, list[str]] = {"raw": [], "normalised": ["normalised"], "dominant": ["dominant"]}


def figure_title(node: Any, label: str | None) -> str:
    """What a picture of one node shows."""
    what = f"What {label} rests on, to first order" if label else "Fusion importance"
    return f"{what}: node {node} (stage {node.stage}, level {node.level})"


def _stem(maps: NodeMaps) -> str:
    kind = "importance"
    if maps.label is not None:
        kind = "label_" + (re.sub(r"[^\w-]+", "_", maps.label.name) or str(maps.label.value))
    return f"{kind}_s{maps.node.stage}_l{maps.node.level}"


def _place(maps: NodeMaps) -> dict[str, Any]:
    label = maps.label and {"value": maps.label.value, "name": maps.label.name}
    return {"stage": maps.node.stage, "level": maps.node.level, "label": label}


def _warn_missing(
    wanted: Sequence[Label],
    label_map: np.ndarray,
    case: OpenCase,
    explainer: Explainer,
    reporter: Reporter,
) -> None:
    regional = explainer.labels(case)
    for label in wanted:
        # A label of the model itself stands for those of all regions: "Left X" for "X".
        same = [label] if label in regional else [
            one for one in regional if one.name.endswith(label.name)
        ]  # fmt: skip
        if not any((label_map == one.value).any() for one in same):
            reporter.warning(
                "label-not-found",
                f"The model finds no {label.name} in this image; its maps are empty.",
            )
