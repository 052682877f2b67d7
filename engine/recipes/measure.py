"""Measures a model as a person would use it, and writes the figures into its model card.

    python measure.py MODEL DATA [--output FOLDER] [--card]

Segments the held-out cases of the model's dataset (imagesTs of DATA/NAME, with and without
mirroring) and compares them with labelsTs. A hippocampus model also meets whole heads: those of
DATA/oasis with manual labels, and those of DATA/heads, whose volumes hippodeep has measured. --card
records the Dice of imagesTs in model.json and README.md of MODEL, as `evaluate --into` does.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from e2enet.bundle import Bundle
from e2enet.evaluation.evaluate import evaluate
from e2enet.evaluation.metrics.overlap import dice
from e2enet.evaluation.record import record_evaluation
from e2enet.events import BadInput
from e2enet.inference import segment
from e2enet.inference.batch import segment_folder

OASIS_HIPPOCAMPUS = {"Left": 17, "Right": 53}  # FreeSurfer's numbers
# Whole hippocampus, mL (left, right), by hippodeep: another tool, not the truth.
HIPPODEEP_ML = {
    "head_a_t1": (3.00, 3.04),
    "head_b_t1": (1.61, 1.05),
    "clinical_c_study1_t1": (3.53, 3.64),
    "clinical_c_study2_t1": (2.87, 2.97),
}


def held_out(
    bundle: Bundle, dataset: Path, folder: Path, *, tta: bool, card: bool
) -> dict[str, Any]:
    """Dice on imagesTs: mean and standard deviation over the cases of each label, and the worst."""
    segment_folder(dataset / "imagesTs", bundle, output=folder, device="cpu", tta=tta)
    found = evaluate(folder, dataset / "labelsTs", workers=0)
    if card:
        record_evaluation(bundle, found, dataset / "labelsTs")
    labels = {}
    for name in found.names:
        scores = [v for case in found.cases if not math.isnan(v := found.value(case, name, "Dice"))]
        labels[name] = {
            "mean": statistics.fmean(scores),
            "std": statistics.stdev(scores) if len(scores) > 1 else 0.0,
            "least": min(scores),
        }
    return {"cases": len(found.pairs), "mean": found.mean(), "labels": labels}


def oasis(bundle: Bundle, data: Path, folder: Path) -> dict[str, Any]:
    """Whole hippocampus against manual labels: Dice, and how far the located boxes are off, mm."""
    cases = {}
    for image in sorted((data / "imagesTs").glob("*.nii.gz")):
        name = image.name.removesuffix("_0000.nii.gz")
        result = segment(image, bundle, output=folder / f"{name}.nii.gz", device="cpu")
        reference = sitk.ReadImage(str(data / "labelsTs" / f"{name}.nii.gz"))
        truth = sitk.GetArrayFromImage(reference)
        sides = {}
        for region in result.manifest["regions"]:
            side = region["name"]
            mine = [label.value for label in result.labels if label.name.startswith(side)]
            wanted = truth == OASIS_HIPPOCAMPUS[side]
            score = dice(np.isin(result.label, mine).astype(np.uint8), wanted.astype(np.uint8), [1])
            extent = np.argwhere(wanted)
            middle = (extent.min(axis=0) + extent.max(axis=0)) / 2
            centre = reference.TransformContinuousIndexToPhysicalPoint(middle[::-1].tolist())
            off = np.linalg.norm(np.subtract(centre, region["center_mm_lps"]))
            sides[side] = {"dice": score[1], "centre_off_mm": float(off)}
        cases[name] = {**sides, "doubtful": result.manifest["doubtful"]}
    scores = [case[side]["dice"] for case in cases.values() for side in OASIS_HIPPOCAMPUS]
    off = [case[side]["centre_off_mm"] for case in cases.values() for side in OASIS_HIPPOCAMPUS]
    return {
        "mean": statistics.fmean(scores),
        "least": min(scores),
        "centre_off_mm": {"mean": statistics.fmean(off), "most": max(off)},
        "cases": cases,
    }


def heads(bundle: Bundle, data: Path, folder: Path) -> dict[str, Any]:
    """Volumes of whole hippocampi beside hippodeep's, or why a head was refused."""
    cases: dict[str, Any] = {}
    for name, (left, right) in HIPPODEEP_ML.items():
        output = folder / f"{name}.nii.gz"
        try:
            result = segment(data / f"{name}.nii.gz", bundle, output=output, device="cpu")
        except BadInput as error:
            cases[name] = {"refused": error.message}
            continue
        volumes = [
            sum(v for key, v in result.volumes_ml.items() if key.startswith(side))
            for side in ("Left", "Right")
        ]
        cases[name] = {
            "ml": volumes,
            "hippodeep_ml": [left, right],
            "doubtful": result.manifest["doubtful"],
        }
    return cases


def measured(bundle: Bundle, data: Path, folder: Path, *, card: bool) -> dict[str, Any]:
    """All figures of a model."""
    dataset = data / bundle.model["provenance"]["data"]["dataset"]
    figures: dict[str, Any] = {
        "imagesTs": held_out(bundle, dataset, folder / "plain", tta=False, card=card)
    }
    if bundle.plan.get("mirror_axes"):
        bundle = Bundle.open(bundle.path)  # its card has changed
        figures["imagesTs_tta"] = held_out(
            bundle, dataset, folder / "mirrored", tta=True, card=card
        )
    if bundle.locator:
        figures["oasis"] = oasis(bundle, data / "oasis", folder / "oasis")
        figures["heads"] = heads(bundle, data / "heads", folder / "heads")
    return figures


def in_words(figures: dict[str, Any]) -> str:
    """The figures as the card says them."""

    def scores(one: dict[str, Any]) -> str:
        each = ", ".join(
            f"{name} {s['mean']:.3f} ± {s['std']:.3f} (least {s['least']:.3f})"
            for name, s in one["labels"].items()
        )
        return f"{each}; mean {one['mean']:.3f}"

    plain = figures["imagesTs"]
    parts = [
        f"Dice on the {plain['cases']} cases of imagesTs, which took no part in the training, by "
        f"`e2enet segment` and `e2enet evaluate`, ± standard deviation over cases: {scores(plain)}"
    ]
    if mirrored := figures.get("imagesTs_tta"):
        parts.append(f"with `--tta`: {scores(mirrored)}")
    if heads_with_labels := figures.get("oasis"):
        parts.append(
            f"whole hippocampus in {len(heads_with_labels['cases'])} whole heads with manual "
            f"labels (OASIS, 1 mm): mean {heads_with_labels['mean']:.3f}, least "
            f"{heads_with_labels['least']:.3f}"
        )
    if volumes := figures.get("heads"):
        told = []
        for name, one in volumes.items():
            if "refused" in one:
                told.append(f"{name} refused")
                continue
            (left, right), (a, b) = one["ml"], one["hippodeep_ml"]
            doubt = ", marked doubtful" if one["doubtful"] else ""
            told.append(f"{name} {left:.2f} / {right:.2f} ({a:.2f} / {b:.2f}{doubt})")
        parts.append(
            "mL left / right in heads without labels (hippodeep's in brackets): " + ", ".join(told)
        )
    return ". ".join(part[0].upper() + part[1:] for part in parts) + "."


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--output", type=Path, help="keep label maps and figures.json here")
    parser.add_argument("--card", action="store_true", help="record them in the model")
    given = parser.parse_args()
    bundle = Bundle.open(given.model)
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.output or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        figures = measured(bundle, given.data, folder, card=given.card)
        text = json.dumps(figures, indent=1)
        if given.output:
            (folder / "figures.json").write_text(text + "\n", encoding="utf-8")
    print(text)
    print(in_words(figures))


if __name__ == "__main__":
    main()
