"""A trained model on disk: a folder with `model.json`, weights, fusion history and a README.

    model.json           what the model is: network, plan, labels, channels, provenance, licence
    weights.safetensors  dense layers whole, sparse layers with their live kernels only
    evolution.json       share of live connections by direction and node over training
    README.md            for a person

Everything up to the weights needs only the standard library, so that the Slicer panel can list
models before anything is installed. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from e2enet.archive import extract_checked
from e2enet.events import BadInput

if TYPE_CHECKING:
    from torch import nn

    from e2enet.dsff import Connections

SCHEMA_VERSION = 1
MODEL, WEIGHTS, EVOLUTION, README = (
    "model.json",
    "weights.safetensors",
    "evolution.json",
    "README.md",
)


@dataclass(frozen=True)
class Label:
    """One structure a model segments.

    Attributes:
        value: Number in the label map, from 1 up.
        name: What a person reads.
        color: Red, green, blue from 0 to 255.
        terminology: DICOM codes {"category": {"scheme", "code", "meaning"}, "type": …}, or empty.
        usual_ml: Smallest and largest volume among the training cases, in mL; None if unknown.
    """

    value: int
    name: str
    color: tuple[int, int, int]
    terminology: dict[str, Any]
    usual_ml: tuple[float, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            "value": self.value,
            "name": self.name,
            "color": list(self.color),
            "terminology": self.terminology,
        }


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
        return cls(path, _read_model(path / MODEL))

    @property
    def name(self) -> str:
        return str(self.model["name"])

    @property
    def title(self) -> str:
        return str(self.model.get("title") or self.name)

    @property
    def plan(self) -> dict[str, Any]:
        """The plan as stored; `e2enet.data.plan.Plan.from_dict` reads it."""
        return dict(self.model["plan"])

    @property
    def labels(self) -> list[Label]:
        return [_label(entry) for entry in self.model["labels"]]

    @property
    def channels(self) -> list[str]:
        return [str(channel["name"]) for channel in self.model["channels"]]

    @property
    def locator(self) -> dict[str, Any] | None:
        return self.model.get("locator")

    def history(self) -> dict[str, Any]:
        """The content of evolution.json; {"history": []} for a model without one."""
        path = self.path / EVOLUTION
        if not path.exists():
            return {"history": []}
        return _read_json(path)

    def weights_sha256(self) -> str:
        """Identifies the model in run manifests."""
        return _sha256(self.path / WEIGHTS)

    def load_network(self) -> tuple[nn.Module, Connections]:
        """The network in eval mode on the CPU, and its live connections.

        Raises:
            BadInput: The weights are damaged or do not fit the network; names what differs first.
        """
        import torch

        from e2enet.dsff import Connections
        from e2enet.networks import build_network
        from e2enet.weights import load_weights

        description = self.model["network"]
        try:
            with torch.random.fork_rng(devices=[]):  # its own random weights are thrown away
                network = build_network(description["kind"], description["arguments"])
        except (ValueError, KeyError, TypeError) as error:
            raise damaged_model(
                self.path / MODEL, f"describes no network that can be built: {error}"
            ) from error
        masks = load_weights(self.path / WEIGHTS, network)
        group = self.model.get("connection_group", 1)
        try:
            return network.eval(), Connections(network, masks, group=group)  # type: ignore[arg-type]
        except (ValueError, TypeError) as error:
            raise damaged_model(
                self.path / MODEL, f"has a connection group that its weights do not have: {error}"
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
        model: model.json without "schema_version", "network", "connection_group" and "files",
            which are added.
        history: evolution.json.
        readme: README.md.
        extra: Further files, name inside the bundle -> where they lie now (a locator's template).
        overwrite: Replace a bundle that is already there.

    Raises:
        BadInput: The folder exists and `overwrite` is off.
    """
    from e2enet.weights import save_weights

    target = Path(folder)
    if target.exists() and not overwrite:
        raise BadInput(f"{target} already exists.", help="Choose another name.", code="exists")
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        save_weights(scratch / WEIGHTS, network, connections)
        _write_json(scratch / EVOLUTION, history)
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
        content = {
            **model,
            "schema_version": SCHEMA_VERSION,
            "network": description,
            "connection_group": connections.group,
        }
        _write_json(scratch / MODEL, {**content, "files": files})
        _read_model(scratch / MODEL)  # what we write, we can read
        _readable(scratch)
        _move_into_place(scratch, target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return Bundle.open(target)


def model_folders() -> list[Path]:
    """Where models are looked for by name, in this order.

    $E2ENET_MODELS (several separated as in $PATH), the user's data folder, and `Resources/Models`
    of the source tree or the installed extension around this package.
    """
    folders = [Path(part) for part in os.environ.get("E2ENET_MODELS", "").split(os.pathsep) if part]
    folders.append(user_folder("data") / "models")
    folders += [parent / "Resources" / "Models" for parent in Path(__file__).resolve().parents[1:5]]
    return [folder for folder in folders if folder.is_dir()]


def list_models() -> Iterator[Path]:
    """Every bundle that can be opened by name, one path a name, the first folder first."""
    seen: set[str] = set()
    for folder in model_folders():
        for path in sorted(folder.iterdir()):
            if path.name not in seen and (path / MODEL).is_file():
                seen.add(path.name)
                yield path


def find_model(name_or_path: str | os.PathLike[str]) -> Path:
    """The folder or zip of a model.

    Raises:
        BadInput: There is none; lists the names there are.
    """
    text = os.fspath(name_or_path)
    path = Path(text)
    if path.is_file() or (path / MODEL).is_file():
        return path
    models = {model.name: model for model in list_models()}
    if text in models:
        return models[text]
    if path.is_dir():
        raise BadInput(
            f"{path} is not a model: it has no {MODEL}.",
            help="Name the folder that holds model.json.",
            code="no-model",
        )
    known = ", ".join(models) or "none"
    raise BadInput(
        f"There is no model {text!r}.",
        help=f"Give the path of a bundle or one of the installed models: {known}.",
        code="no-model",
    )


def user_folder(kind: str) -> Path:
    """The user's folder for "data" (models) or "cache" (what can be made again)."""
    home = Path.home()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", home / "AppData" / "Local"))
        return base / "e2enet" / ("cache" if kind == "cache" else "")
    if sys.platform == "darwin":
        library = "Caches" if kind == "cache" else "Application Support"
        return home / "Library" / library / "e2enet"
    variable, fallback = {
        "data": ("XDG_DATA_HOME", ".local/share"),
        "cache": ("XDG_CACHE_HOME", ".cache"),
    }[kind]
    return Path(os.environ.get(variable) or home / fallback) / "e2enet"


def _unpacked(archive: Path) -> Path:
    """A zip is checked and unpacked once, under the hash of its content."""
    target = user_folder("cache") / "bundles" / _sha256(archive)
    if not (target / MODEL).is_file():
        extract_checked(archive, target)
    return target


def _read_model(path: Path) -> dict[str, Any]:
    model = _read_json(path)
    version = model.get("schema_version")
    if version != SCHEMA_VERSION:
        raise BadInput(
            f"{path} has schema version {version!r}; this program reads {SCHEMA_VERSION}.",
            help="Install a newer version of E2ENet." if isinstance(version, int) else "",
            code="model-version",
        )
    for key, kind in (
        ("name", str),
        ("network", dict),
        ("plan", dict),
        ("labels", list),
        ("channels", list),
    ):
        if not isinstance(model.get(key), kind):
            raise damaged_model(path, f'lacks "{key}"')
    for entry in model["labels"]:
        try:
            _label(entry)
        except (KeyError, TypeError, ValueError) as error:
            raise damaged_model(path, f"holds a label that cannot be read: {entry!r}") from error
    if any(not isinstance(channel, dict) or "name" not in channel for channel in model["channels"]):
        raise damaged_model(path, "holds a channel without a name")
    return model


def _label(entry: Mapping[str, Any]) -> Label:
    red, green, blue = (int(value) for value in entry["color"])
    usual = entry.get("usual_ml")
    if usual is not None:
        low, high = (float(value) for value in usual)
        usual = (low, high)
    return Label(
        int(entry["value"]),
        str(entry["name"]),
        (red, green, blue),
        dict(entry.get("terminology") or {}),
        usual,
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise damaged_model(path, "is missing") from None
    except (OSError, ValueError, RecursionError) as error:
        raise damaged_model(path, f"is not readable JSON: {error}") from error
    if not isinstance(content, dict):
        raise damaged_model(path, "holds no JSON object")
    return content


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    # A triple such as a colour or a patch size reads better on one line.
    number = r"\s*(-?[\d.eE+-]+)"
    text = re.sub(rf"\[{number},{number},{number}\s*\]", r"[\1, \2, \3]", text)
    path.write_text(text + "\n", encoding="utf-8")


def _readable(folder: Path) -> None:
    """Temporary folders and safetensors files are private to their owner; a model is not."""
    folder.chmod(0o755)
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _move_into_place(scratch: Path, target: Path) -> None:
    if not target.exists():
        scratch.rename(target)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=target.parent))
    target.rename(old / "bundle")
    try:
        scratch.rename(target)
    except OSError:
        (old / "bundle").rename(target)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    except FileNotFoundError:
        raise damaged_model(path, "is missing") from None
    return digest.hexdigest()


def damaged_model(path: Path, what: str) -> BadInput:
    """What every fault in a bundle is answered with; `what` goes on after the file's path."""
    return BadInput(
        f"{path} {what}.",
        help="The model is damaged; import or download it again.",
        code="damaged-model",
    )
