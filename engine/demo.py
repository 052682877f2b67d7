"""`make demo`: the sample head, segmented by the shipped model.

Writes demo/segmentation.nii.gz, demo/overview.png, which scales the model fused
(demo/fusion_flow.png) and where (demo/fusion_importance.png), and prints the volumes.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from e2enet.bundle import Bundle
from e2enet.cli.console import ConsoleReporter
from e2enet.data.images.orientation import to_canonical
from e2enet.data.images.volume import Volume, read_image
from e2enet.events import BadInput
from e2enet.inference import Result, segment
from rich.console import Console
from rich.table import Table

REPOSITORY = Path(__file__).resolve().parents[1]
SAMPLE = REPOSITORY / "Resources" / "Samples" / "MNI152_T1_1mm.nii.gz"
MODEL = REPOSITORY / "Resources" / "Models" / "hippocampus-mr"


def volume_table(result: Result, sides: list[str], structures: list[str]) -> Table:
    """Volumes in mL: a row for each side, a column for each structure, and the sum."""
    table = Table(title="Hippocampus, mL", title_justify="left")
    table.add_column("Side")
    for structure in [*structures, "Whole"]:
        table.add_column(structure, justify="right")
    for side in sides:
        volumes = [result.volumes_ml[f"{side} {structure}"] for structure in structures]
        table.add_row(side, *(f"{v:.2f}" for v in [*volumes, sum(volumes)]))
    return table


def draw_fusion(bundle: Bundle, result: Result, folder: Path) -> None:
    """The model's fusion flow, and the importance of its widest node that sees three scales."""
    from e2enet.explain.explanation import figure_title
    from e2enet.explain.figures.flow import draw_flow
    from e2enet.explain.figures.overlay import draw_importance
    from e2enet.explain.flow import fusion_flow
    from e2enet.explain.nodes import output_nodes
    from e2enet.explain.surroundings import surroundings
    from e2enet.explain.volumes import Explainer
    from e2enet.inference.case.inputs import find_case
    from e2enet.inference.case.loading import open_case

    explainer = Explainer(bundle)
    flow = fusion_flow(bundle, explainer.connections)
    draw_flow(flow, folder / "fusion_flow.png")
    # The regions are known: they need not be found a second time.
    boxes = [_box(region) for region in result.manifest["regions"] if region["name"]]
    case = open_case(find_case([SAMPLE]), bundle, roi=boxes or None, keep_image=True)
    node = output_nodes(flow.levels)[:2][-1]
    label = to_canonical(Volume(result.label, result.grid))[0].array
    near = surroundings(label, case.canonical_grid.spacing_zyx)
    (maps,) = explainer.maps(case, [node], near=near)
    draw_importance(
        case.first,
        maps,
        folder / "fusion_importance.png",
        label=label,
        labels=[label.to_dict() for label in result.labels],
        title=f"{figure_title(node, None)} of {bundle.name}",
    )


def _box(region: dict[str, Any]) -> str:
    """A region of the manifest as `--roi` takes it; the sample's axes are those of the patient."""
    center, size = region["center_mm_lps"], region["size_mm"]
    # Half a voxel inside, so that the same voxels are touched.
    low = [c - s / 2 + 0.5 for c, s in zip(center, size, strict=True)]
    high = [c + s / 2 - 0.5 for c, s in zip(center, size, strict=True)]
    return f"{region['name']}:" + ",".join(str(v) for v in [*low, *high])


def main(folder: Path = REPOSITORY / "demo") -> None:
    """Segment the sample with the shipped model into a folder."""
    console = Console()
    reporter = ConsoleReporter()
    bundle = Bundle.open(MODEL)
    console.print(
        f"Segmenting the average T1 MRI of 152 heads ({SAMPLE.name}) with the model {bundle.name}",
        highlight=False,
        soft_wrap=True,
    )
    start = time.perf_counter()
    segmentation, picture = folder / "segmentation.nii.gz", folder / "overview.png"
    try:
        result = segment(SAMPLE, bundle, output=segmentation, reporter=reporter)
    finally:
        reporter.close()
    seconds = time.perf_counter() - start

    from e2enet.explain.figures.overview import overview  # matplotlib is slow to load

    overview(
        read_image(SAMPLE),
        result.label,
        [label.to_dict() for label in result.labels],
        picture,
        title=f"{bundle.title}: MNI152 T1, the average of 152 heads",
        note=f"{bundle.name}, {seconds:.0f} s",
    )
    draw_fusion(bundle, result, folder)
    sides = [box["name"] for box in bundle.locator["boxes"]] if bundle.locator else []
    console.print()
    console.print(volume_table(result, sides, [label.name for label in bundle.labels]))
    console.print(
        f"{seconds:.0f} s. Label map: {_short(segmentation)}, picture: {_short(picture)}; fusion: "
        f"{_short(folder / 'fusion_flow.png')}, {_short(folder / 'fusion_importance.png')}",
        highlight=False,
        soft_wrap=True,
    )


def _short(path: Path) -> str:
    """A path as seen from where the person is, if it lies below."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


if __name__ == "__main__":
    try:
        main()
    except BadInput as error:
        sys.exit(f"{error.message} {error.help}".strip())
