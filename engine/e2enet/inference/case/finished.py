"""Whether a case was segmented before: by these models and options, from these very voxels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from e2enet.bundle import Bundle
from e2enet.inference.case.inputs import InputCase
from e2enet.inference.case.manifest import SCHEMA_VERSION, describe_input
from e2enet.inference.case.result import Outputs, describe_result
from e2enet.inference.localisation.roi import Roi

# What may be another one in a result that is the same.
_FREE = {"device"}


def find_finished(
    case: InputCase,
    outputs: Outputs,
    *,
    bundle: Bundle,
    weights_sha256: str,
    options: dict[str, Any],
    rois: Sequence[Roi],
) -> dict[str, Any] | None:
    """What an earlier process wrote for a case, as its `result` event said it; None to do it anew.

    Its manifest is written last, so the other files are whole where it is. A result that a person
    has corrected since is left as it is.

    Args:
        case: The files of its channels.
        outputs: Where its result lies.
        bundle: The first model.
        weights_sha256: Of its weights.
        options: As `Segmenter.options` gives them for this run.
        rois: The regions of interest of this run; a file that was changed since counts as another.
    """
    try:
        manifest = json.loads(outputs.manifest.read_text(encoding="utf-8"))
        told = {key: value for key, value in manifest["options"].items() if key not in _FREE}
        same = (
            manifest["schema_version"] == SCHEMA_VERSION
            and manifest["model"]["weights_sha256"] == weights_sha256
            and manifest["model"]["settings_sha256"] == bundle.settings_sha256()
            and told == options
            and not _changed_since(rois, outputs.manifest)
        )
        if not same:
            return None
        described = describe_result(manifest, outputs)
        written = [described["output"], described["volumes"]]
        written += described.get("probabilities", {}).values()
        if not all(Path(path).is_file() for path in written):
            return None
        inputs = [describe_input(path)["sha256"] for path in case.paths]
        return described if inputs == [one["sha256"] for one in manifest["inputs"]] else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # nothing there, of another version, or no manifest: it is written again


def _changed_since(rois: Sequence[Roi], manifest: Path) -> bool:
    files = [roi.file for roi in rois if roi.file is not None]
    return any(file.stat().st_mtime >= manifest.stat().st_mtime for file in files)
