"""What a model reaches, in its own bundle: written from an evaluation, never typed.

The predictions have to be the model's own: the manifest beside each names the weights that made
it. Those of a cross-validation are of its folds, and the entry says so. Standard library only.
"""

from __future__ import annotations

import datetime
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from e2enet import __version__
from e2enet.bundle.bundle import Bundle
from e2enet.bundle.description import MODEL, README, write_json
from e2enet.events import BadInput
from e2enet.files import move_folder, output_errors, scratch_folder, sha256

HEADING = "## Results"
_TABLE = ("Dice", "NSD", "HD95", "ASSD")  # what README shows, where it was measured

Means = Mapping[str, float | None]


def record_results(
    bundle: Bundle,
    *,
    references: str,
    manifests: Mapping[str, Path],
    by_label: Mapping[str, Means],
    mean: Means,
) -> Bundle:
    """Add an evaluation to model.json and to the README of a bundle.

    An earlier one on the same references with the same options is replaced. All or nothing.

    Args:
        bundle: A folder; a zip stays as it is.
        references: What was compared with, such as "Dataset004_Hippocampus/labelsTs".
        manifests: Case -> the manifest of its prediction.
        by_label: Label -> metric -> mean over the cases; None where there is none.
        mean: Metric -> mean over the labels.

    Raises:
        BadInput: A prediction without a manifest, of another model, or with other options than the
            rest; or the bundle cannot be written.
    """
    entry = {
        "references": references,
        "cases": sorted(manifests),
        "tta": _options(bundle, manifests),
    }
    return _added(bundle, entry, by_label, mean)


def record_folds(
    bundle: Bundle,
    folds: Sequence[Bundle],
    *,
    references: str,
    cases: Sequence[str],
    by_label: Mapping[str, Means],
    mean: Means,
) -> Bundle:
    """Add a cross-validation to model.json and to the README of a bundle, as `record_results`.

    Args:
        bundle: A folder; trained on the dataset whose folds these are.
        folds: The models of the folds; how long the first was trained is said beside the figures.
        references: What was compared with, such as "Dataset004_Hippocampus/labelsTr".
        cases: All that were held out.
        by_label, mean: As `record_results`.

    Raises:
        BadInput: A fold is of another dataset or another network; or the bundle cannot be written.
    """
    for fold in folds:
        if fold.model["network"] != bundle.model["network"]:
            raise BadInput(
                f"{fold.path} is another network than {bundle.name}, and says nothing of it.",
                help="Cross-validate with the plan, width and sparsity of the model.",
                code="other-model",
            )
        if (theirs := _trained_on(fold)) != (own := _trained_on(bundle)):
            raise BadInput(
                f"{fold.path} was trained on {theirs}, {bundle.name} on {own}.", code="other-model"
            )
    entry = {
        "references": references,
        "cases": sorted(cases),
        "tta": False,
        "folds": len(folds),
        "fold_iterations": folds[0].model["provenance"]["iterations"],
    }
    return _added(bundle, entry, by_label, mean)


def _trained_on(bundle: Bundle) -> str:
    """The dataset's name."""
    return str(bundle.model.get("provenance", {}).get("data", {}).get("dataset"))


def _added(
    bundle: Bundle, entry: dict[str, Any], by_label: Mapping[str, Means], mean: Means
) -> Bundle:
    """The bundle with an entry in model.json and README; all or nothing."""
    entry = {
        **entry,
        "mean_by_label": {name: _rounded(means) for name, means in by_label.items()},
        "mean": _rounded(mean),
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "version": __version__,
    }
    entries = [one for one in recorded(bundle) if _what(one) != _what(entry)]
    model = {**bundle.model, "results": [*entries, entry]}
    folder = bundle.path
    with output_errors(folder), scratch_folder(folder.parent) as scratch:
        copy = scratch / folder.name
        shutil.copytree(folder, copy)
        text = (copy / README).read_text(encoding="utf-8") if (copy / README).exists() else ""
        (copy / README).write_text(_with_section(text, model["results"]), encoding="utf-8")
        listed = {"sha256": sha256(copy / README), "bytes": (copy / README).stat().st_size}
        files = {**model.get("files", {}), README: listed}
        write_json(copy / MODEL, {**model, "files": dict(sorted(files.items()))})
        move_folder(copy, folder)
    return Bundle.open(folder)


def _what(entry: Mapping[str, Any]) -> tuple[Any, ...]:
    """What an entry is about; a later one on the same takes its place."""
    return entry["references"], entry["tta"], "folds" in entry


def recorded(bundle: Bundle) -> list[dict[str, Any]]:
    """The evaluations in a bundle; a sentence that somebody typed is none."""
    results = bundle.model.get("results")
    return [one for one in results if isinstance(one, dict)] if isinstance(results, list) else []


def results_section(results: Sequence[Mapping[str, Any]]) -> str:
    """README's section: a table for every evaluation."""
    parts = [HEADING]
    for entry in results:
        present = [
            m for m in _TABLE if any(m in means for means in entry["mean_by_label"].values())
        ]
        rows = [*entry["mean_by_label"].items(), ("mean", entry["mean"])]
        cases = len(entry["cases"])
        how, verb = "", "evaluate"
        if "folds" in entry:
            how = (
                f" in {entry['folds']} folds, each segmented by a network like this one that had "
                f"not seen it (trained for {entry['fold_iterations']} iterations)"
            )
            verb = "cross-validate"
        lines = [
            f"{cases} case{'s' if cases > 1 else ''} of {entry['references']}{how}, "
            f"{'with' if entry['tta'] else 'without'} mirroring, by `e2enet {verb}`:",
            "",
            f"| label | {' | '.join(present)} |",
            f"| --- |{' --- |' * len(present)}",
            *(
                f"| {name} | {' | '.join(_number(means.get(metric)) for metric in present)} |"
                for name, means in rows
            ),
        ]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _options(bundle: Bundle, manifests: Mapping[str, Path]) -> bool:
    """Whether the predictions were averaged over mirrored images; checks where they are from."""
    weights, options = bundle.weights_sha256(), {}
    for case, path in manifests.items():
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
            own, tta = manifest["model"]["weights_sha256"], bool(manifest["options"]["tta"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadInput(
                f"{path} is missing or damaged, so that nobody can say what segmented {case}.",
                help="Give predictions as e2enet segment wrote them, with their manifests.",
                code="no-manifest",
            ) from error
        if own != weights:
            raise BadInput(
                f"{case} was not segmented by {bundle.name} as it is in {bundle.path}.",
                help="Segment the cases with this model first.",
                code="other-model",
            )
        options[tta] = case
    if len(options) > 1:
        raise BadInput(
            f"{options[True]} was segmented with --tta, {options[False]} without.",
            help="Segment all cases in the same way.",
            code="mixed-options",
        )
    return next(iter(options), False)


def _with_section(text: str, results: Sequence[Mapping[str, Any]]) -> str:
    """README with the section in the place of an earlier one, or before the licence, or last."""
    section = results_section(results)
    text = re.sub(r"(?ms)^## Results$.*?(?=^## |^Licence: |\Z)", "", text)
    # What was typed in its place before there was a section.
    text = re.sub(r"(?m)^Results: .*\n\n?", "", text)
    head, licence, rest = text.partition("\nLicence: ")
    tail = f"\n\n{licence.strip()} {rest.strip()}" if licence else ""
    return f"{head.rstrip()}\n\n{section}{tail}\n".lstrip()


def _rounded(means: Means) -> dict[str, float | None]:
    return {name: None if value is None else round(value, 6) for name, value in means.items()}


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
