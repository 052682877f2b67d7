"""The record of a run: what was segmented, with what, how and how long it took."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from e2enet import __version__
from e2enet.bundle import Bundle
from e2enet.data.images.volume import Grid, Volume
from e2enet.files import sha256
from e2enet.inference.case.doubt import Doubt
from e2enet.inference.case.inputs import InputCase

if TYPE_CHECKING:
    from e2enet.runtime import ExecutionPlan

SCHEMA_VERSION = 1


class InputHashes:
    """SHA-256 of the inputs, computed beside other work (hashing lets other threads run).

    A folder's hash is that of the names and hashes of its files and those in folders below it, in
    the order of their names.
    """

    def __init__(self, channels: Sequence[Path | Volume]) -> None:
        pool = ThreadPoolExecutor(1, thread_name_prefix="hash")
        self._futures = [pool.submit(describe_input, channel) for channel in channels]
        pool.shutdown(wait=False)

    def __call__(self) -> list[dict[str, Any]]:
        return [future.result() for future in self._futures]


def describe_input(path: Path | Volume) -> dict[str, Any]:
    """Path, size and SHA-256 of a file or folder; name, size and SHA-256 of an image's voxels."""
    if isinstance(path, Volume):
        voxels = path.array.tobytes()
        return {
            "memory": path.name,
            "bytes": len(voxels),
            "sha256": hashlib.sha256(voxels).hexdigest(),
        }
    if not path.is_dir():
        return {"path": os.fspath(path), "bytes": path.stat().st_size, "sha256": sha256(path)}
    files = sorted(file for file in path.rglob("*") if file.is_file())
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(path).as_posix()} {sha256(file)}\n".encode())
    return {
        "path": os.fspath(path),
        "files": len(files),
        "bytes": sum(file.stat().st_size for file in files),
        "sha256": digest.hexdigest(),
    }


def make_manifest(
    *,
    case: InputCase,
    bundle: Bundle,
    weights_sha256: str,
    plan: ExecutionPlan,
    options: dict[str, Any],
    grid: Grid,
    regions: list[dict[str, Any]],
    labels: list[dict[str, Any]],
    warnings: list[dict[str, str]],
    doubts: Sequence[Doubt],
    hashes: InputHashes,
    series_uids: Sequence[str],
) -> dict[str, Any]:
    """The manifest of one case, ready for JSON; times are filled in by the caller."""
    import numpy as np
    import SimpleITK

    from e2enet.inference.device import device_name
    from e2enet.runtime.kernels.workers import default_threads

    return {
        "schema_version": SCHEMA_VERSION,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "case": case.name,
        "inputs": [
            {**described, **({"series_uid": uid} if uid else {})}
            for described, uid in zip(hashes(), series_uids, strict=True)
        ],
        "grid": {
            "size_xyz": list(grid.size_xyz),
            "spacing_xyz_mm": list(grid.spacing_xyz),
            "origin_xyz_mm_lps": list(grid.origin_xyz),
            "direction": list(grid.direction),
        },
        "model": {
            "name": bundle.name,
            "title": bundle.title,
            "weights_sha256": weights_sha256,
            "settings_sha256": bundle.settings_sha256(),
        },
        "options": options,
        "device": {
            "used": plan.device,
            "name": device_name(plan.device),
            "threads": default_threads(),
        },
        "runtime": plan.describe(),
        "versions": {
            "e2enet": __version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "SimpleITK": SimpleITK.Version_VersionString(),
            "system": platform.platform(),
        },
        "regions": regions,
        "labels": labels,
        "doubtful": bool(doubts),
        "doubts": [asdict(doubt) for doubt in doubts],
        "warnings": warnings,
    }
