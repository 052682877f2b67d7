"""From an image and a model to a label map.

Example:
    >>> from e2enet.inference import segment  # doctest: +SKIP
    >>> result = segment("head.nii.gz", "hippocampus-mr")  # doctest: +SKIP
    >>> result.volumes_ml  # doctest: +SKIP
    {'Left Anterior': 1.52, ...}
    >>> result.save("hippocampi.nii.gz")  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from e2enet.inference.case.result import Result
    from e2enet.inference.segmenter import Segmenter, segment
    from e2enet.runtime import execution_plan

__all__ = ["Result", "Segmenter", "execution_plan", "segment"]


def __getattr__(name: str) -> Any:
    # Lazily: training uses the predictor and needs none of the rest.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = {"execution_plan": "e2enet.runtime", "Result": "e2enet.inference.case.result"}
    module = import_module(home.get(name, "e2enet.inference.segmenter"))
    return getattr(module, name)
