"""E2ENet: 3D medical image segmentation with dynamic sparse feature fusion.

What is imported from here is loaded when it is first used; the package itself needs only the
standard library.

Example:
    >>> from e2enet import segment  # doctest: +SKIP
    >>> result = segment("head.nii.gz", "hippocampus-mr")  # doctest: +SKIP
    >>> result.volumes_ml  # doctest: +SKIP
    {'Left Anterior': 1.52, ...}
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from e2enet.bundle import Bundle
    from e2enet.data.images.volume import Grid, Volume
    from e2enet.evaluation.evaluate import Evaluation, evaluate
    from e2enet.events import BadInput, Cancelled, Reporter
    from e2enet.inference.case.result import Result
    from e2enet.inference.segmenter import segment
    from e2enet.training.train import train

__version__ = "0.1.0"

_HOMES = {
    "BadInput": "e2enet.events",
    "Bundle": "e2enet.bundle",
    "Cancelled": "e2enet.events",
    "Evaluation": "e2enet.evaluation.evaluate",
    "Grid": "e2enet.data.images.volume",
    "Reporter": "e2enet.events",
    "Result": "e2enet.inference.case.result",
    "Volume": "e2enet.data.images.volume",
    "evaluate": "e2enet.evaluation.evaluate",
    "segment": "e2enet.inference.segmenter",
    "train": "e2enet.training.train",
}

__all__ = [
    "BadInput",
    "Bundle",
    "Cancelled",
    "Evaluation",
    "Grid",
    "Reporter",
    "Result",
    "Volume",
    "__version__",
    "evaluate",
    "segment",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        message = f"e2enet.{name} needs PyTorch: pip install 'e2enet[train]'"
        raise ModuleNotFoundError(message, name="torch") from error


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
