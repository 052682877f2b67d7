"""Measures a whole-brain model on real images, which it has never seen, and fills its card.

    python measure.py MODEL DATA OUTPUT [--card]

DATA/oasis holds T1 heads with manual labels in FreeSurfer's numbers, DATA/heads whole heads without
labels, DATA/Dataset015_Brats15 patients with a tumour in two contrasts. OUTPUT gets the label maps,
the references as the model's labels, and figures.json. The OASIS heads also say how far the
hippocampi are from where the parts found would put them, which is what a locator would do.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from e2enet.bundle import Bundle
from e2enet.evaluation.evaluate import evaluate
from e2enet.evaluation.metrics.overlap import dice
from e2enet.evaluation.record import record_evaluation
from e2enet.inference import segment
from e2enet.inference.batch import segment_folder

RECIPE = Path(__file__).parent
HIPPOCAMPUS = {"Left": 17, "Right": 53}  # FreeSurfer's numbers
CEREBRUM = {"Left": 1, "Right": 2}  # of the model


def structures() -> dict[int, int]:
    """{FreeSurfer's number: the model's label}: the values of the maps that are such numbers."""
    table = json.loads((RECIPE / "labels.json").read_text(encoding="utf-8"))
    return {entry["value"]: entry["label"] for entry in table["values"]}


def renumber(source: Path, target: Path) -> None:
    """A label map in FreeSurfer's numbers as one of the model's."""
    image = sitk.ReadImage(str(source))
    values = sitk.GetArrayFromImage(image)
    table = np.zeros(max(int(values.max()), max(structures())) + 1, np.uint8)
    for value, label in structures().items():
        table[value] = label
    made = sitk.GetImageFromArray(table[values])
    made.CopyInformation(image)
    sitk.WriteImage(made, str(target))


def against_labels(bundle: Bundle, data: Path, folder: Path, *, card: bool) -> dict[str, Any]:
    """Dice of each part, and of all of them together, on the OASIS heads."""
    references = folder / "oasis" / "labelsTs"
    references.mkdir(parents=True, exist_ok=True)
    for path in sorted((data / "labelsTs").glob("*.nii.gz")):
        renumber(path, references / path.name)
    names = {label.name: label.value for label in bundle.labels}
    (references.parent / "dataset.json").write_text(
        json.dumps({"labels": {"background": 0, **names}}), encoding="utf-8"
    )
    predictions = folder / "oasis" / "found"
    segment_folder(data / "imagesTs", bundle, output=predictions, device="cpu")
    found = evaluate(predictions, references, workers=0)
    if card:
        record_evaluation(bundle, found, references)
    whole = []
    for path in sorted(references.glob("*.nii.gz")):
        pair = [sitk.GetArrayFromImage(sitk.ReadImage(str(p / path.name))) > 0 for p in
                (predictions, references)]  # fmt: skip
        whole.append(dice(*(part.astype(np.uint8) for part in pair), [1])[1])
    parts = {
        name: {
            "mean": statistics.fmean(scores),
            "std": statistics.stdev(scores),
            "least": min(scores),
        }
        for name in found.names
        for scores in [[found.value(case, name, "Dice") for case in found.cases]]
    }
    return {
        "heads": len(whole),
        "parts": parts,
        "mean": found.mean("Dice"),
        "whole": {"mean": statistics.fmean(whole), "least": min(whole)},
    }


def volumes(bundle: Bundle, data: Path, folder: Path) -> dict[str, Any]:
    """mL of each part in heads without labels."""
    folder.mkdir(parents=True, exist_ok=True)
    cases = {}
    for path in sorted(data.glob("*.nii.gz")):
        result = segment(path, bundle, output=folder / path.name, device="cpu")
        cases[path.name.removesuffix(".nii.gz")] = {
            "ml": result.volumes_ml,
            "doubtful": result.manifest["doubtful"],
        }
    return cases


def contrasts(bundle: Bundle, data: Path, folder: Path) -> dict[str, Any]:
    """Dice between what is found in FLAIR and in T1 with contrast agent of the same patient."""
    folder.mkdir(parents=True, exist_ok=True)
    cases = {}
    for flair in sorted(data.glob("images*/*_0000.nii.gz")):
        name = flair.name.removesuffix("_0000.nii.gz")
        files = [flair, flair.with_name(f"{name}_0001.nii.gz")]
        maps = [
            segment(path, bundle, output=folder / path.name, device="cpu").label for path in files
        ]
        values = [label.value for label in bundle.labels]
        scores = dice(maps[0], maps[1], values)
        whole = dice(*((label > 0).astype(np.uint8) for label in maps), [1])[1]
        cases[name] = {
            **{label.name: scores[label.value] for label in bundle.labels},
            "whole": whole,
        }
    return cases


def hippocampi(data: Path, folder: Path) -> dict[str, float]:
    """mm between the middle of a hippocampus and its usual place in the box of its hemisphere.

    Usual: on average over the other heads. The hippocampus model's localisation by a template is
    measured by ../measure.py, on the same heads.
    """
    shares: dict[str, list[np.ndarray]] = {side: [] for side in HIPPOCAMPUS}
    found: dict[str, list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = {s: [] for s in HIPPOCAMPUS}
    for path in sorted((data / "labelsTs").glob("*.nii.gz")):
        reference = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
        image = sitk.ReadImage(str(folder / "oasis" / "found" / path.name))
        parts = sitk.GetArrayFromImage(image)
        spacing = np.asarray(image.GetSpacing()[::-1])
        for side, number in HIPPOCAMPUS.items():
            middle = sum(_box(reference == number)) / 2 * spacing
            low, high = (corner * spacing for corner in _box(parts == CEREBRUM[side]))
            found[side].append((low, high, middle))
            shares[side].append((middle - low) / (high - low))
    off = []
    for side, heads in found.items():
        for k, (low, high, middle) in enumerate(heads):
            share = np.mean([s for i, s in enumerate(shares[side]) if i != k], axis=0)
            off.append(float(np.linalg.norm(low + share * (high - low) - middle)))
    return {"mean": statistics.fmean(off), "most": max(off)}


def _box(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and last index of a mask along each axis."""
    where = np.argwhere(mask)
    return where.min(axis=0), where.max(axis=0)


def main() -> None:
    """Measure, print, and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--card", action="store_true", help="record the Dice in the model")
    given = parser.parse_args()
    bundle, output = Bundle.open(given.model), given.output
    figures = {
        "oasis": against_labels(bundle, given.data / "oasis", output, card=given.card),
        "heads": volumes(bundle, given.data / "heads", output / "heads"),
        "contrasts": contrasts(bundle, given.data / "Dataset015_Brats15", output / "contrasts"),
        "hippocampus_off_mm": hippocampi(given.data / "oasis", output),
    }
    text = json.dumps(figures, indent=1)
    (output / "figures.json").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
