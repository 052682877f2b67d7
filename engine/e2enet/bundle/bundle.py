"""A bundle as an object: read and checked up to its weights, written in one step."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from e2enet.bundle.archive import extract_checked
from e2enet.bundle.description import (
    EVOLUTION,
    MODEL,
    README,
    SCHEMA_VERSION,
    WEIGHTS,
    Label,
    damaged_model,
    read_json,
    read_label,
    read_model,
    write_json,
)
from e2enet.bundle.store import find_model
from e2enet.events import BadInput
from e2enet.files import move_folder, output_errors, scratch_folder, sha256
from e2enet.folders import cache_folder

if TYPE_CHECKING:
    from torch import nn

    from e2enet.bundle.weights import StoredNetwork
    from e2enet.dsff import Connections


@dataclass(frozen=True)
class Bundle:
    """A bundle that was read and checked up to its weights.

    Attributes:
        path: Its folder.
        model: The content of model.json.
    """

    path: Path
    model: dict[str, Any]

    @classmethod
    def open(cls, name_or_path: str | os.PathLike[str]) -> Bundle:
        """Open a bundle by path (folder or zip) or by the name of an installed model.

        Raises:
            BadInput: There is no such model, or it is damaged.
        """
        path = find_model(name_or_path)
        if path.is_file():
            path = _unpacked(path)
        return cls(path, read_model(path / MODEL))

    @property
    def name(self) -> str:
        """The name it is called by."""
        return str(self.model["name"])

    @property
    def title(self) -> str:
        """The name for a person."""
        return str(self.model.get("title") or self.name)

    @property
    def plan(self) -> dict[str, Any]:
        """The plan as stored; `e2enet.data.planning.plan.Plan.from_dict` reads it."""
        return dict(self.model["plan"])

    @property
    def labels(self) -> list[Label]:
        """The structures it segments, in the order of model.json."""
        return [read_label(entry) for entry in self.model["labels"]]

    @property
    def regions(self) -> bool:
        """Whether its structures are regions, which may overlap: an output each, no background."""
        return any(label.values for label in self.labels)

    @property
    def outputs(self) -> int:
        """Outputs of its network: the background and the labels, or the regions."""
        return len(self.labels) + (not self.regions)

    @property
    def channels(self) -> list[str]:
        """Names of the channels it takes, in their order."""
        return [str(channel["name"]) for channel in self.model["channels"]]

    @property
    def locator(self) -> dict[str, Any] | None:
        """How it finds its regions in a whole image; None for a model that does not look."""
        return self.model.get("locator")

    def history(self) -> dict[str, Any]:
        """The content of evolution.json; {"history": []} for a model without one."""
        path = self.path / EVOLUTION
        if not path.exists():
            return {"history": []}
        return read_json(path)

    def weights_sha256(self) -> str:
        """Identifies the model in run manifests."""
        return _sha256(self.path / WEIGHTS)

    def settings_sha256(self) -> str:
        """Identifies how model.json has its weights used; what it tells a person is no part."""
        used = ("network", "plan", "labels", "channels", "locator")
        text = json.dumps({key: self.model.get(key) for key in used}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def load_network(self) -> tuple[nn.Module, Connections]:
        """The network in eval mode on the CPU, and its live connections.

        Raises:
            BadInput: The weights are damaged or do not fit the network; names what differs first.
        """
        stored = self.load_weights()
        network: Any = stored.module()
        import torch

        from e2enet.dsff import Connections

        masks = {name: torch.from_numpy(mask) for name, mask in stored.masks.items()}
        return network, Connections(network, masks)

    def load_weights(self) -> StoredNetwork:
        """The network as arrays, without PyTorch.

        Raises:
            BadInput: The weights are damaged or do not fit the network; names what differs first.
        """
        from e2enet.bundle.weights import load_weights

        description = self.model["network"]
        try:
            return load_weights(self.path / WEIGHTS, description["kind"], description["arguments"])
        except (ValueError, KeyError, TypeError) as error:
            raise damaged_model(
                self.path / MODEL, f"describes no network that can be built: {error}"
            ) from error


def write_bundle(
    folder: str | os.PathLike[str],
    *,
    network: nn.Module,
    connections: Connections,
    model: Mapping[str, Any],
    history: Mapping[str, Any],
    readme: str,
    extra: Mapping[str, Path] | None = None,
    overwrite: bool = False,
) -> Bundle:
    """Write a bundle under a temporary name and rename it when it is whole.

    Args:
        folder: The bundle's folder.
        network, connections: What is stored; only live kernels of sparse layers are.
        model: model.json without "schema_version", "network" and "files", which are added.
        history: evolution.json.
        readme: README.md.
        extra: Further files, name inside the bundle -> where they lie now (a locator's template).
        overwrite: Replace a bundle that is already there.

    Raises:
        BadInput: The folder exists and `overwrite` is off, or it cannot be written.
    """
    from safetensors import SafetensorError

    from e2enet.bundle.weights import save_weights

    target = Path(folder)
    if target.exists() and not overwrite:
        raise BadInput(f"{target} already exists.", help="Choose another name.", code="exists")
    with output_errors(target), scratch_folder(target.parent) as scratch:
        try:
            save_weights(scratch / WEIGHTS, network, connections)
        except SafetensorError as error:
            raise OSError(f"{error}") from error
        write_json(scratch / EVOLUTION, history)
        (scratch / README).write_text(readme, encoding="utf-8")
        for name, source in (extra or {}).items():
            (scratch / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, scratch / name)
        description = {"kind": type(network).__name__, "arguments": network.arguments}
        files = {
            path.relative_to(scratch).as_posix(): {
                "sha256": _sha256(path),
                "bytes": path.stat().st_size,
            }
            for path in sorted(scratch.rglob("*"))
            if path.is_file()
        }
        content = {**model, "schema_version": SCHEMA_VERSION, "network": description}
        write_json(scratch / MODEL, {**content, "files": files})
        read_model(scratch / MODEL)  # what we write, we can read
        _readable(scratch)
        move_folder(scratch, target)
    return Bundle.open(target)


def _unpacked(archive: Path) -> Path:
    """A zip is checked and unpacked once, under the hash of its content."""
    target = cache_folder() / "bundles" / _sha256(archive)
    if not (target / MODEL).is_file():
        with output_errors(target):
            extract_checked(archive, target)
    return target


def _readable(folder: Path) -> None:
    """Temporary folders and safetensors files are private to their owner; a model is not."""
    folder.chmod(0o755)
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _sha256(path: Path) -> str:
    try:
        return sha256(path)
    except FileNotFoundError:
        raise damaged_model(path, "is missing") from None
