"""`make demo`: the hippocampi and the brain of the sample head, by two shipped models.

Writes label maps and pictures (demo/segmentation.nii.gz and overview.png, brain.nii.gz and
brain.png), which scales the hippocampus model fused (demo/fusion_flow.png) and where
(demo/fusion_importance.png), and prints the volumes.
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
MODELS = REPOSITORY / "Resources" / "Models"
HIPPOCAMPUS, BRAIN = MODELS / "hippocampus-mr", MODELS / "brain-any"


def hippocampus_table(result: Result, sides: list[str], structures: list[str]) -> Table:
    """Volumes in mL: a row for each side, a column for each structure, and the sum."""
    table = Table(title="Hippocampus, mL", title_justify="left")
    table.add_column("Side")
    for structure in [*structures, "Whole"]:
        table.add_column(structure, justify="right")
    for side in sides:
        volumes = [result.volumes_ml[f"{side} {structure}"] for structure in structures]
        table.add_row(side, *(f"{v:.2f}" for v in [*volumes, sum(volumes)]))
    return table


def brain_table(result: Result) -> Table:
    """Volumes in mL: a row for each part of the brain, and the sum."""
    table = Table(title="Brain, mL", title_justify="left")
    table.add_column("Part")
    table.add_column("Volume", justify="right")
    for part, volume in result.volumes_ml.items():
        table.add_row(part, f"{volume:.0f}")
    table.add_row("Whole", f"{sum(result.volumes_ml.values()):.0f}")
    return table


def segmented(
    bundle: Bundle, output: Path, picture: Path, reporter: ConsoleReporter
) -> tuple[Result, float]:
    """The sample's label map and picture; the result, and the seconds without the picture."""
    start = time.perf_counter()
    result = segment(SAMPLE, bundle, output=output, reporter=reporter)
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
    return result, seconds


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
    """Segment the sample with two shipped models into a folder."""
    console = Console()
    bundle, brain = Bundle.open(HIPPOCAMPUS), Bundle.open(BRAIN)
    console.print(
        f"Segmenting the average T1 MRI of 152 heads ({SAMPLE.name}) with the models {bundle.name} "
        f"and {brain.name}",
        highlight=False,
        soft_wrap=True,
    )
    files = [folder / name for name in ("segmentation.nii.gz", "overview.png")]
    brain_files = [folder / name for name in ("brain.nii.gz", "brain.png")]
    reporter = ConsoleReporter()
    try:
        result, seconds = segmented(bundle, files[0], files[1], reporter)
        parts, brain_seconds = segmented(brain, brain_files[0], brain_files[1], reporter)
    finally:
        reporter.close()
    draw_fusion(bundle, result, folder)
    sides = [box["name"] for box in bundle.locator["boxes"]] if bundle.locator else []
    console.print()
    console.print(hippocampus_table(result, sides, [label.name for label in bundle.labels]))
    _where(console, seconds, files)
    console.print(brain_table(parts))
    _where(console, brain_seconds, brain_files)
    fusion = folder / "fusion_flow.png", folder / "fusion_importance.png"
    console.print(f"Fusion: {', '.join(map(_short, fusion))}", highlight=False, soft_wrap=True)


def _where(console: Console, seconds: float, files: list[Path]) -> None:
    label_map, picture = map(_short, files)
    console.print(
        f"{seconds:.0f} s. Label map: {label_map}, picture: {picture}\n",
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
