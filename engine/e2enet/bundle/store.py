"""The models that can be named, and where they lie. Standard library only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from e2enet.bundle.description import MODEL
from e2enet.events import BadInput
from e2enet.folders import user_folder


def model_folders() -> list[Path]:
    """Where models are looked for by name, in this order.

    $E2ENET_MODELS (several separated as in $PATH), the user's data folder, the models that were
    installed with this package, and `Resources/Models` of the source tree or the extension around
    it.
    """
    folders = [Path(part) for part in os.environ.get("E2ENET_MODELS", "").split(os.pathsep) if part]
    folders.append(user_folder() / "models")
    here = Path(__file__).resolve()
    folders.append(here.parents[1] / "models")
    folders += [parent / "Resources" / "Models" for parent in here.parents[2:6]]
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
